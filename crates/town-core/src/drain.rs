//! Draining: from the eviction of a container until its replacement is known to be up (spec/town.md 5).
//!
//! The whole state is one row, there while the town drains: no crash can leave a flag without its nonce. What is due by time is
//! settled before every input, so an answer is right even when the alarm is late.
//!
//! A drain ends in four ways: the runtime reports that the evicted container ended, a replacement sends the nonce back, a replacement shows itself,
//! or time runs out. A *replacement* is a
//! container that does not drain and was never evicted. An instance id belongs to one process, so an evicted one stays evicted:
//! neither a heartbeat that was in flight nor an acknowledgement of it ends any drain, and it is handed no nonce. Where the eviction came
//! without an instance id, who replaces whom cannot be told, and only the nonce or time ends the drain.

use crate::event;
use crate::limits::Limits;
use crate::message::container::ContainerAnswer;
use crate::message::container::ContainerCall;
use crate::message::container::ContainerInput;
use crate::message::container::ContainerOutput;
use crate::message::container::DrainChange;
use crate::message::container::DrainEnd;
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

/// Takes one input of the container, after [`settle`].
pub(crate) fn take(
    db: &dyn Database,
    limits: &Limits,
    now: i64,
    entropy: &mut Entropy,
    input: &ContainerInput,
) -> Result<Vec<ContainerOutput>, DatabaseError> {
    match input {
        ContainerInput::Call(ContainerCall::DrainStatus) => status(db),
        ContainerInput::Call(ContainerCall::Eviction { instance }) => {
            evicted(db, limits, now, entropy, instance.as_ref())
        }
        ContainerInput::Call(ContainerCall::Heartbeat { body, .. }) => heartbeat(db, body),
        ContainerInput::Call(ContainerCall::Ready { instance, nonce }) => ready(db, instance.as_ref(), nonce),
        ContainerInput::Ended { at } => ended(db, *at),
        ContainerInput::Health { instance, draining } => health(db, instance, *draining),
    }
}

/// Begins a drain, or begins it anew: the nonce of an earlier eviction is dead from here on.
fn evicted(
    db: &dyn Database,
    limits: &Limits,
    now: i64,
    entropy: &mut Entropy,
    instance: Option<&InstanceId>,
) -> Result<Vec<ContainerOutput>, DatabaseError> {
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
    Ok(vec![ContainerOutput::Answer(ContainerAnswer::Eviction { nonce }), ContainerOutput::Drain(began)])
}

/// A container claims to be the replacement. Where nothing drains there is nothing to clear, and that is no error.
fn ready(db: &dyn Database, instance: Option<&InstanceId>, nonce: &str) -> Result<Vec<ContainerOutput>, DatabaseError> {
    let Some(drain) = load(db)? else {
        return Ok(vec![ContainerOutput::Answer(ContainerAnswer::Ready { cleared: true })]);
    };
    let by_evicted = match instance {
        Some(instance) => was_evicted(db, instance)?,
        None => false,
    };
    let cleared = !by_evicted && constant_time_eq(nonce, &drain.nonce);
    let change = if cleared {
        end(db, DrainEnd::Acknowledged)?
    } else {
        ContainerOutput::Drain(DrainChange::Refused { instance: instance.cloned() })
    };
    Ok(vec![ContainerOutput::Answer(ContainerAnswer::Ready { cleared }), change])
}

/// An agent's heartbeat: ends the drain if a replacement sent it, else hands out the nonce, read in this same turn.
fn heartbeat(db: &dyn Database, body: &Heartbeat) -> Result<Vec<ContainerOutput>, DatabaseError> {
    let answer = |nonce| ContainerOutput::Answer(ContainerAnswer::Heartbeat { nonce });
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
fn health(db: &dyn Database, instance: &InstanceId, draining: bool) -> Result<Vec<ContainerOutput>, DatabaseError> {
    let known = load(db)?.is_some_and(|drain| drain.evicted_instance.is_some());
    if !known || draining || was_evicted(db, instance)? {
        return Ok(vec![]);
    }
    Ok(vec![end(db, DrainEnd::Replaced)?])
}

/// The container ended: if that was after the eviction, it was the evicted one, for a town has one container.
fn ended(db: &dyn Database, at: i64) -> Result<Vec<ContainerOutput>, DatabaseError> {
    match load(db)? {
        Some(drain) if drain.started_at <= at => Ok(vec![end(db, DrainEnd::Ended)?]),
        _ => Ok(vec![]),
    }
}

fn status(db: &dyn Database) -> Result<Vec<ContainerOutput>, DatabaseError> {
    let nonce = load(db)?.map(|drain| drain.nonce);
    Ok(vec![ContainerOutput::Answer(ContainerAnswer::DrainStatus { nonce })])
}

/// Since when the town drains, if it does. The drain is settled before every input, so this needs no look at the clock.
pub(crate) fn started_at(db: &dyn Database) -> Result<Option<i64>, DatabaseError> {
    Ok(load(db)?.map(|drain| drain.started_at))
}

/// Settles what is due by time: a drain that lasted too long ends, and a nonce that nobody asked for is offered.
pub(crate) fn settle(db: &dyn Database, limits: &Limits, now: i64) -> Result<Vec<ContainerOutput>, DatabaseError> {
    let Some(drain) = load(db)? else { return Ok(vec![]) };
    if drain.expires_at(limits) <= now {
        return Ok(vec![end(db, DrainEnd::Expired)?]);
    }
    if drain.handoff_at <= now {
        let next = now.saturating_add(limits.drain_handoff_retry_ms);
        execute(db, "UPDATE drain SET handoff_at = ?", &[next.into()])?;
        return Ok(vec![ContainerOutput::Handoff { nonce: drain.nonce }]);
    }
    Ok(vec![])
}

/// When [`settle`] has something to do.
pub(crate) fn deadline(db: &dyn Database, limits: &Limits) -> Result<Option<i64>, DatabaseError> {
    Ok(load(db)?.map(|drain| drain.handoff_at.min(drain.expires_at(limits))))
}

fn end(db: &dyn Database, how: DrainEnd) -> Result<ContainerOutput, DatabaseError> {
    execute(db, "DELETE FROM drain", &[])?;
    Ok(ContainerOutput::Drain(DrainChange::Ended(how)))
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
