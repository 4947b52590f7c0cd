//! A session without work: its agent server is stopped, its old events go, and in the end it goes itself (spec/session.md 4.1, 10.1).
//!
//! Each has a deadline of its own; between them a session at rest wakes for nothing.

use crate::Step;
use crate::message::Effect;
use crate::register::STOP;
use crate::store;
use crate::store::ExecutionRow;
use crate::store::SessionRow;
use database::DatabaseError;
use object_core::event_log;
use object_core::nearest;

/// What is over for a session at rest, and when.
struct Rest {
    idle_stop: Option<i64>,
    prune: i64,
    end: i64,
}

impl Step<'_> {
    fn rest(&self, session: &SessionRow, last: Option<&ExecutionRow>) -> Rest {
        let limits = &self.config.limits;
        // From the last heartbeat, which is within 30 s of the end (spec/session.md 10.1, 3).
        let idle_since = last
            .filter(|last| last.status.is_terminal() && session.stopped_after.as_ref() != Some(&last.id))
            .map(|last| last.heartbeat_at.or(last.completed_at).unwrap_or(last.started_at));
        Rest {
            idle_stop: idle_since.map(|at| at.saturating_add(limits.idle_stop_ms)),
            prune: session.pruned_at.saturating_add(limits.event_life_ms),
            end: session.changed_at.saturating_add(limits.session_life_ms),
        }
    }

    /// The nearest deadline of a session without an active execution.
    pub fn rest_deadline(&self) -> Result<Option<i64>, DatabaseError> {
        let Some(session) = store::session(self.db)? else { return Ok(None) };
        let rest = self.rest(&session, store::last_execution(self.db)?.as_ref());
        Ok(nearest([rest.idle_stop, Some(rest.prune), Some(rest.end)]))
    }

    /// Does what is due for a session at rest.
    pub fn expire_rest(&mut self) -> Result<(), DatabaseError> {
        let Some(mut session) = store::session(self.db)?.filter(|session| session.active.is_none()) else {
            return Ok(());
        };
        let last = store::last_execution(self.db)?;
        let rest = self.rest(&session, last.as_ref());
        if rest.end <= self.now {
            self.forget_session(&session)?;
            store::wipe(self.db)?;
            self.log.forget();
            return Ok(());
        }
        if rest.idle_stop.is_some_and(|at| at <= self.now) {
            session.stopped_after = last.map(|last| last.id);
            store::save_session(self.db, &session)?;
            self.owe(STOP, &Effect::Stop { sandbox: session.sandbox.clone(), session: session.id.clone() })?;
        }
        if rest.prune <= self.now {
            event_log::delete_before(self.db, self.now.saturating_sub(self.config.limits.event_life_ms))?;
            session.pruned_at = self.now;
            store::save_session(self.db, &session)?;
        }
        Ok(())
    }
}
