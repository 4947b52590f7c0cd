//! Draining: from the eviction of a container until its replacement is known to be up (spec/town.md 5).
//!
//! The whole state is one row, there while the town drains: no crash can leave a flag without its nonce. What is due by time is
//! settled before every input, so an answer is right even when the alarm is late.
//!
//! A drain ends in three ways: a replacement sends the nonce back, a replacement shows itself, or time runs out. A *replacement* is a
//! container that does not drain and was never evicted. An instance id belongs to one process, so an evicted one stays evicted:
//! neither a heartbeat that was in flight nor an acknowledgement of it ends any drain, and it is handed no nonce. Where the eviction came
//! without an instance id, who replaces whom cannot be told, and only the nonce or time ends the drain.

use crate::event;
use crate::limits::Limits;
use crate::message::Answer;
use crate::message::DrainChange;
use crate::message::DrainEnd;
use crate::message::Output;
use database::Database;
use database::DatabaseError;
use database::execute;
use object_core::entropy::Entropy;
use object_core::entropy::constant_time_eq;
use protocol::id::InstanceId;
use protocol::town::Heartbeat;

pub(crate) const TABLE: &str = "CREATE TABLE drain (
    one INTEGER PRIMARY KEY CHECK (one = 1), nonce TEXT NOT NULL, started_at INTEGER NOT NULL, handoff_at INTEGER NOT NULL,
    evicted_instance TEXT
)";

pub(crate) const EVICTED_TABLE: &str =
    "CREATE TABLE evicted (instance TEXT PRIMARY KEY, evicted_at INTEGER NOT NULL) WITHOUT ROWID";

/// A drain under way.
struct Drain {
    nonce: String,
    started_at: i64,
    handoff_at: i64,
    evicted_instance: Option<String>,
}

impl Drain {
    fn expires_at(&self, limits: &Limits) -> i64 {
        self.started_at.saturating_add(limits.drain_expiry_ms)
    }
}

fn load(db: &dyn Database) -> Result<Option<Drain>, DatabaseError> {
    let rows = db.query("SELECT nonce, started_at, handoff_at, evicted_instance FROM drain", &[])?;
    let Some(row) = rows.first() else { return Ok(None) };
    Ok(Some(Drain {
        nonce: row.get(0)?,
        started_at: row.get(1)?,
        handoff_at: row.get(2)?,
        evicted_instance: row.get(3)?,
    }))
}

/// Begins a drain, or begins it anew: the nonce of an earlier eviction is dead from here on.
pub(crate) fn evicted(
    db: &dyn Database,
    limits: &Limits,
    now: i64,
    entropy: &mut Entropy,
    instance: Option<&InstanceId>,
) -> Result<Vec<Output>, DatabaseError> {
    event::container_eviction(db, limits, now, entropy, instance)?;
    if let Some(instance) = instance {
        remember(db, limits, now, instance)?;
    }
    let nonce = entropy.uuid();
    execute(
        db,
        "INSERT OR REPLACE INTO drain (one, nonce, started_at, handoff_at, evicted_instance) VALUES (1, ?, ?, ?, ?)",
        &[
            nonce.as_str().into(),
            now.into(),
            now.saturating_add(limits.drain_handoff_ms).into(),
            instance.map(InstanceId::as_str).into(),
        ],
    )?;
    let began = DrainChange::Began { instance: instance.cloned() };
    Ok(vec![Output::Answer(Answer::Eviction { nonce }), Output::Drain(began)])
}

/// A container claims to be the replacement. Where nothing drains there is nothing to clear, and that is no error.
pub(crate) fn ready(
    db: &dyn Database,
    instance: Option<&InstanceId>,
    nonce: &str,
) -> Result<Vec<Output>, DatabaseError> {
    let Some(drain) = load(db)? else { return Ok(vec![Output::Answer(Answer::Ready { cleared: true })]) };
    let by_evicted = match instance {
        Some(instance) => was_evicted(db, instance)?,
        None => false,
    };
    let cleared = !by_evicted && constant_time_eq(nonce, &drain.nonce);
    let change = if cleared {
        end(db, DrainEnd::Acknowledged)?
    } else {
        Output::Drain(DrainChange::Refused { instance: instance.cloned() })
    };
    Ok(vec![Output::Answer(Answer::Ready { cleared }), change])
}

/// An agent's heartbeat: ends the drain if a replacement sent it, else hands out the nonce, read in this same turn.
pub(crate) fn heartbeat(db: &dyn Database, body: &Heartbeat) -> Result<Vec<Output>, DatabaseError> {
    let answer = |nonce| Output::Answer(Answer::Heartbeat { nonce });
    let Some(drain) = load(db)? else { return Ok(vec![answer(None)]) };
    if body.draining {
        return Ok(vec![answer(None)]);
    }
    let Some(instance) = &body.container_instance_id else { return Ok(vec![answer(Some(drain.nonce))]) };
    if was_evicted(db, instance)? {
        return Ok(vec![answer(None)]);
    }
    if drain.evicted_instance.is_some() {
        return Ok(vec![answer(None), end(db, DrainEnd::Replaced)?]);
    }
    Ok(vec![answer(Some(drain.nonce))])
}

/// A container's answer to a health check: ends the drain if a replacement gave it.
pub(crate) fn health(db: &dyn Database, instance: &InstanceId, draining: bool) -> Result<Vec<Output>, DatabaseError> {
    let known = load(db)?.is_some_and(|drain| drain.evicted_instance.is_some());
    if !known || draining || was_evicted(db, instance)? {
        return Ok(vec![]);
    }
    Ok(vec![end(db, DrainEnd::Replaced)?])
}

pub(crate) fn status(db: &dyn Database) -> Result<Vec<Output>, DatabaseError> {
    let nonce = load(db)?.map(|drain| drain.nonce);
    Ok(vec![Output::Answer(Answer::DrainStatus { nonce })])
}

/// Settles what is due by time: a drain that lasted too long ends, and a nonce that nobody asked for is offered.
pub(crate) fn settle(db: &dyn Database, limits: &Limits, now: i64) -> Result<Vec<Output>, DatabaseError> {
    let Some(drain) = load(db)? else { return Ok(vec![]) };
    if drain.expires_at(limits) <= now {
        return Ok(vec![end(db, DrainEnd::Expired)?]);
    }
    if drain.handoff_at <= now {
        let next = now.saturating_add(limits.drain_handoff_retry_ms);
        execute(db, "UPDATE drain SET handoff_at = ?", &[next.into()])?;
        return Ok(vec![Output::Handoff { nonce: drain.nonce }]);
    }
    Ok(vec![])
}

/// When [`settle`] has something to do.
pub(crate) fn deadline(db: &dyn Database, limits: &Limits) -> Result<Option<i64>, DatabaseError> {
    Ok(load(db)?.map(|drain| drain.handoff_at.min(drain.expires_at(limits))))
}

fn end(db: &dyn Database, how: DrainEnd) -> Result<Output, DatabaseError> {
    execute(db, "DELETE FROM drain", &[])?;
    Ok(Output::Drain(DrainChange::Ended(how)))
}

fn remember(db: &dyn Database, limits: &Limits, now: i64, instance: &InstanceId) -> Result<(), DatabaseError> {
    execute(
        db,
        "INSERT OR REPLACE INTO evicted (instance, evicted_at) VALUES (?, ?)",
        &[instance.as_str().into(), now.into()],
    )?;
    execute(
        db,
        "DELETE FROM evicted WHERE evicted_at < ? OR instance IN
            (SELECT instance FROM evicted ORDER BY evicted_at DESC, instance = ? DESC LIMIT -1 OFFSET ?)",
        &[now.saturating_sub(limits.evicted_kept_ms).into(), instance.as_str().into(), limits.rows_kept.into()],
    )
}

fn was_evicted(db: &dyn Database, instance: &InstanceId) -> Result<bool, DatabaseError> {
    Ok(!db.query("SELECT 1 FROM evicted WHERE instance = ?", &[instance.as_str().into()])?.is_empty())
}
