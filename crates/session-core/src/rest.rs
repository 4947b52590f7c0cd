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
use object_core::time::DAY;

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
            prune: session.oldest_at.saturating_add(limits.event_life_ms),
            end: session.changed_at.saturating_add(limits.session_life_ms),
        }
    }

    /// The nearest deadline of a session without an active execution.
    pub fn rest_deadline(&self) -> Result<Option<i64>, DatabaseError> {
        let Some(session) = store::session(self.db)? else { return self.tombstone_end() };
        let rest = self.rest(&session, store::last_execution(self.db)?.as_ref());
        Ok(nearest([rest.idle_stop, Some(rest.prune), Some(rest.end)]))
    }

    /// The session at rest, and what is over for it when.
    fn at_rest(&self) -> Result<Option<(SessionRow, Option<ExecutionRow>, Rest)>, DatabaseError> {
        let Some(session) = store::session(self.db)?.filter(|session| session.active.is_none()) else {
            return Ok(None);
        };
        let last = store::last_execution(self.db)?;
        let rest = self.rest(&session, last.as_ref());
        Ok(Some((session, last, rest)))
    }

    /// When nobody is told any more why the preparation failed.
    fn tombstone_end(&self) -> Result<Option<i64>, DatabaseError> {
        Ok(store::tombstone_at(self.db)?.map(|at| at.saturating_add(self.config.limits.session_life_ms)))
    }

    /// The end of a session's life, or of what a failed preparation left.
    pub fn expire_session(&mut self) -> Result<(), DatabaseError> {
        match self.at_rest()? {
            Some((session, _, rest)) if rest.end <= self.now => {
                self.forget_session(&session)?;
                self.wipe()
            }
            None if self.tombstone_end()?.is_some_and(|at| at <= self.now) => self.wipe(),
            _ => Ok(()),
        }
    }

    /// The end of an idle agent server.
    pub fn expire_idle(&mut self) -> Result<(), DatabaseError> {
        match self.at_rest()? {
            Some((mut session, last, rest)) if rest.idle_stop.is_some_and(|at| at <= self.now) => {
                session.stopped_after = last.map(|last| last.id);
                store::save_session(self.db, &session)?;
                let (sandbox, session) = (session.sandbox, session.id);
                let attempt = store::work(self.db)?.and_then(|work| u64::try_from(work.attempt).ok());
                self.owe(STOP, &Effect::Stop { sandbox, session, forget: false, attempt })
            }
            _ => Ok(()),
        }
    }

    /// The end of old events. The next comes with the age of the oldest that is left, a day later at the earliest.
    pub fn expire_events(&mut self) -> Result<(), DatabaseError> {
        match self.at_rest()? {
            Some((mut session, _, rest)) if rest.prune <= self.now => {
                let life = self.config.limits.event_life_ms;
                event_log::delete_until(self.db, self.now.saturating_sub(life))?;
                let tomorrow = self.now.saturating_add(DAY).saturating_sub(life);
                session.oldest_at = event_log::oldest(self.db)?.unwrap_or(self.now).max(tomorrow);
                store::save_session(self.db, &session)
            }
            _ => Ok(()),
        }
    }
}
