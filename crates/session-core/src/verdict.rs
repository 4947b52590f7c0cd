//! A person's word to the agent: answers to its questions and requests for permission (spec/session.md 2.5).
//!
//! It is the one effect that is not owed. The agent takes one answer to each ask, so the caller alone decides whether to try again, and a row that
//! outlived the caller would only answer what nobody asks any more. The effect carries who waits.

use crate::Step;
use crate::message::Answer;
use crate::message::Effect;
use crate::message::Outcome;
use crate::message::Output;
use crate::message::Success;
use crate::store;
use database::DatabaseError;
use object_core::ReplyTo;
use protocol::trpc::Code;
use protocol::trpc::TrpcError;
use protocol::verdict::Verdict;

impl Step<'_> {
    pub fn judge(&mut self, reply: ReplyTo, verdict: Verdict) -> Result<(), DatabaseError> {
        match store::session(self.db)? {
            None => self.reply(reply, Err(TrpcError::new(Code::NotFound, "Session not found"))),
            Some(session) if session.active.is_none() => {
                self.reply(reply, Ok(not_taken("No active execution".to_owned())));
            }
            Some(session) => {
                let effect = Effect::Judge { reply, sandbox: session.sandbox, session: session.id, verdict };
                self.outputs.push(Output::Perform { key: format!("judge/{}", reply.0), effect });
            }
        }
        Ok(())
    }

    /// What the container made of it.
    pub fn judged(&mut self, reply: ReplyTo, outcome: &Outcome) {
        let result = match outcome {
            Outcome::Done | Outcome::Progress(_) => Ok(Answer::Success(Success { success: true, message: None })),
            Outcome::Refused { message, .. } => Ok(not_taken(message.clone())),
            Outcome::Failed { code, message } => Err(TrpcError::retryable(
                code,
                format!("Whether the agent has the answer is not known ({message}): try again, it takes one at most"),
            )),
        };
        self.reply(reply, result);
    }
}

fn not_taken(message: String) -> Answer {
    Answer::Success(Success { success: false, message: Some(message) })
}
