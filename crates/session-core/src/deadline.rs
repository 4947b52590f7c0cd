//! The deadlines of an active execution, as one table (spec/session.md 4). The alarm is the nearest of them; nothing else sets it.

use crate::Step;
use crate::limits::Limits;
use crate::message::Output;
use crate::store;
use crate::store::ExecutionRow;
use crate::store::Status;
use database::DatabaseError;
use database::transaction;
use serde_json::Map;
use serde_json::json;

/// Why an execution may not go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiry {
    Disconnected,
    Hung,
    MaxRuntime,
    PendingStart,
    Stale,
}

impl Expiry {
    /// The error text, and the type of the event that announces it.
    fn words(self) -> (&'static str, &'static str) {
        match self {
            Expiry::Disconnected => ("Wrapper disconnected", "wrapper_disconnected"),
            Expiry::Hung => ("Execution hung — no events received for 5 minutes", "error"),
            Expiry::MaxRuntime => ("Execution exceeded maximum runtime", "error"),
            Expiry::PendingStart => ("Execution timeout - wrapper never connected", "error"),
            Expiry::Stale => ("Execution timeout - no heartbeat received", "error"),
        }
    }
}

/// The nearest deadline of an execution that has not ended.
///
/// A pending one waits for its wrapper from the moment the agent took the prompt; before that the owed work has its own bound. A disconnected one
/// has its grace. A pending question suspends the hung deadline, never the maximum runtime.
pub fn deadline(execution: &ExecutionRow, limits: &Limits) -> Option<(i64, Expiry)> {
    let after = |since: i64, ms: i64, expiry| Some((since.saturating_add(ms), expiry));
    let grace = execution.disconnected_at.and_then(|at| after(at, limits.disconnect_grace_ms, Expiry::Disconnected));
    let rest = match execution.status {
        Status::Pending => {
            [execution.accepted_at.and_then(|at| after(at, limits.pending_start_ms, Expiry::PendingStart)), None, None]
        }
        Status::Running => [
            after(execution.heartbeat_at.unwrap_or(execution.started_at), limits.stale_ms, Expiry::Stale),
            execution
                .event_at
                .filter(|_| execution.waiting.is_empty())
                .and_then(|at| after(at, limits.hung_ms, Expiry::Hung)),
            after(execution.started_at, limits.max_runtime_ms, Expiry::MaxRuntime),
        ],
        Status::Completed | Status::Failed | Status::Interrupted => return None,
    };
    rest.into_iter().chain([grace]).flatten().min_by_key(|(at, _)| *at)
}

impl Step<'_> {
    /// The nearest deadline of the active execution, or of a session that has none.
    pub fn state_deadline(&self) -> Result<Option<i64>, DatabaseError> {
        match store::active_execution(self.db)? {
            Some(row) => Ok(deadline(&row, &self.config.limits).map(|(at, _)| at)),
            None => self.rest_deadline(),
        }
    }

    /// Ends what is over its time. Work first: its failure ends the execution that it starts.
    pub fn expire(&mut self) {
        self.job("work", Self::expire_work);
        self.job("execution", Self::expire_execution);
        self.job("end", Self::expire_session);
        self.job("idle_stop", Self::expire_idle);
        self.job("prune", Self::expire_events);
    }

    /// Does one job as a transaction of its own: one that fails is undone, and stops no other.
    fn job(&mut self, job: &'static str, work: impl FnOnce(&mut Self) -> Result<(), DatabaseError>) {
        let before = self.outputs.len();
        if let Err(error) = transaction(self.db, || work(self)) {
            self.log.forget();
            self.outputs.truncate(before);
            self.outputs.push(Output::Failed { job, error: error.to_string() });
        }
    }

    fn expire_execution(&mut self) -> Result<(), DatabaseError> {
        let Some(row) = store::active_execution(self.db)? else { return Ok(()) };
        let Some((_, expiry)) = deadline(&row, &self.config.limits).filter(|(at, _)| *at <= self.now) else {
            return Ok(());
        };
        let (error, kind) = expiry.words();
        let extra = (expiry == Expiry::Disconnected).then(|| {
            Map::from_iter([
                ("reason".to_owned(), json!(error)),
                ("wsCloseCode".to_owned(), json!(row.close_code.unwrap_or(1006))),
                ("wsCloseReason".to_owned(), json!(row.close_reason.clone().unwrap_or_default())),
            ])
        });
        self.fail_execution(&row.id, Status::Failed, error, kind, extra).map(drop)
    }
}
