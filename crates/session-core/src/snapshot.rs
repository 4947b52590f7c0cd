//! Who may read and replace what is kept of a session outside its tables: its conversation (design 4, "A lost container loses no session") and the
//! logs of its executions.
//!
//! The report token of an attempt is the right: only the container that was asked to do it has that. An attempt loses the right when a newer
//! one is heard of, and not when it is only owed: until then the newer one has nothing, and what an ending container puts away last is what the
//! next one finds. Nothing is kept of a session that is not there or has had no turn, or of an execution that it never had: nobody would delete it.

use crate::Step;
use crate::message::Answer;
use crate::store;
use database::DatabaseError;
use object_core::ReplyTo;
use object_core::entropy::constant_time_eq;
use object_core::entropy::sha256_hex;
use protocol::id::ExecutionId;
use protocol::sandbox::Secret;
use protocol::trpc::Code;
use protocol::trpc::TrpcError;

impl Step<'_> {
    /// Answers whether whoever holds `token` may read and replace the snapshot.
    pub fn snapshot_access(&mut self, reply: ReplyTo, token: &str) -> Result<(), DatabaseError> {
        let result = match self.holds_right(Some(token))? {
            Ok(()) if store::executions(self.db)? == 0 => {
                Err(TrpcError::new(Code::NotFound, "The session has no conversation yet"))
            }
            right => right.map(|()| Answer::Noted {}),
        };
        self.reply(reply, result);
        Ok(())
    }

    /// Answers whether whoever holds `token`, or the user without one, may put away logs of `execution`.
    pub fn keep_logs(
        &mut self,
        reply: ReplyTo,
        execution: &ExecutionId,
        token: Option<&Secret>,
    ) -> Result<(), DatabaseError> {
        let result = match self.holds_right(token.map(Secret::expose))? {
            Ok(()) if store::execution(self.db, execution)?.is_none() => {
                Err(TrpcError::new(Code::NotFound, "Execution not found"))
            }
            right => right.map(|()| Answer::Noted {}),
        };
        self.reply(reply, result);
        Ok(())
    }

    /// Whether there is a session, and `token`, if one is shown, is the report token of an attempt that is not over.
    fn holds_right(&self, token: Option<&str>) -> Result<Result<(), TrpcError>, DatabaseError> {
        if store::session_id(self.db)?.is_none() {
            return Ok(Err(TrpcError::new(Code::NotFound, "Session not found")));
        }
        let Some(hash) = token.map(sha256_hex) else { return Ok(Ok(())) };
        // Every hash is compared, whichever fits.
        Ok(match store::current_tokens(self.db)?.iter().filter(|known| constant_time_eq(known, &hash)).count() {
            0 => Err(TrpcError::new(Code::Unauthorized, "Invalid report token, or one of an attempt that is over")),
            _ => Ok(()),
        })
    }
}
