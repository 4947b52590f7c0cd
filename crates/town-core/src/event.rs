//! `town_events`: facts that are applied once, by a tick (spec/town.md 3.2, 4.1, 4.2).
//!
//! A fact is written down when it is reported and changes nothing until then. One that cannot be applied is tried again by later ticks, in its turn
//! but without keeping others from theirs; after so many tries it is quarantined with the reason. `container_eviction` is an audit row: it is
//! written as processed.

use crate::limits::Limits;
use crate::message::answer::PoisonedEvent;
use crate::store::instant;
use crate::store::json;
use crate::store::read_at;
use crate::store::read_id_option;
use database::Database;
use database::DatabaseError;
use database::Row;
use database::execute;
use object_core::entropy::Entropy;
use protocol::id::AgentId;
use protocol::id::BeadId;
use protocol::id::InstanceId;
use protocol::town::Eviction;
use protocol::town::bead::BeadStatus;
use protocol::town::container::ContainerAgentStatus;
use serde::Deserialize;
use serde::Serialize;

pub(crate) const TABLE: &str = "CREATE TABLE town_events (
    event_id TEXT PRIMARY KEY, event_type TEXT NOT NULL, agent_id TEXT, bead_id TEXT, payload TEXT NOT NULL DEFAULT '{}',
    created_at TEXT NOT NULL, processed_at TEXT
)";

/// What was reported. Its name and its payload are two columns.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Fact {
    AgentCompleted {
        status: String,
        #[serde(default)]
        reason: Option<String>,
    },
    AgentDone {
        branch: String,
        #[serde(default)]
        pr_url: Option<String>,
        #[serde(default)]
        summary: Option<String>,
    },
    BeadCancelled {
        #[serde(default = "failed")]
        cancel_status: BeadStatus,
    },
    BeadCreated {
        bead_type: String,
    },
    ContainerEviction(Eviction),
    ContainerStatus {
        status: ContainerAgentStatus,
        #[serde(default)]
        exit_reason: Option<String>,
    },
    ConvoyStarted {
        convoy_id: BeadId,
    },
    NudgeTimeout {},
    PrStatusChanged {
        pr_url: String,
        pr_state: String,
    },
}

fn failed() -> BeadStatus {
    BeadStatus::Failed
}

/// A fact that waits to be applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pending {
    pub id: String,
    pub agent: Option<AgentId>,
    pub bead: Option<BeadId>,
    pub created_at: i64,
    pub attempts: i64,
    /// Or why it cannot be read.
    pub fact: Result<Fact, String>,
}

/// Writes a fact down.
pub(crate) fn insert(
    db: &dyn Database,
    limits: &Limits,
    now: i64,
    entropy: &mut Entropy,
    agent: Option<&AgentId>,
    bead: Option<&BeadId>,
    fact: &Fact,
) -> Result<(), DatabaseError> {
    let (kind, payload) = split(fact)?;
    execute(
        db,
        "INSERT INTO town_events (event_id, event_type, agent_id, bead_id, payload, created_at) VALUES (?, ?, ?, ?, ?, ?)",
        &[
            entropy.uuid().into(),
            kind.into(),
            agent.map(AgentId::as_str).into(),
            bead.map(BeadId::as_str).into(),
            payload.into(),
            instant(now),
        ],
    )?;
    prune(db, limits, now)
}

/// Notes that a container was evicted, and forgets what is older than the limits allow. Not by way of [`Fact`], which knows all of the ledger's.
pub(crate) fn container_eviction(
    db: &dyn Database,
    limits: &Limits,
    now: i64,
    entropy: &mut Entropy,
    instance: Option<&InstanceId>,
) -> Result<(), DatabaseError> {
    let payload = json(&Eviction { container_instance_id: instance.cloned() })?;
    execute(
        db,
        "INSERT INTO town_events (event_id, event_type, payload, created_at, processed_at) VALUES (?1, 'container_eviction', ?2, ?3, ?3)",
        &[entropy.uuid().into(), payload, instant(now)],
    )?;
    prune(db, limits, now)
}

/// What the container says of an agent. The same again only moves the fact that waits.
pub(crate) fn container_status(
    db: &dyn Database,
    limits: &Limits,
    now: i64,
    entropy: &mut Entropy,
    agent: &AgentId,
    fact: &Fact,
) -> Result<(), DatabaseError> {
    let (kind, payload) = split(fact)?;
    let same = db.query(
        "UPDATE town_events SET created_at = ? WHERE processed_at IS NULL AND event_type = ? AND agent_id = ? AND payload = ?
         RETURNING 1",
        &[instant(now), kind.into(), agent.as_str().into(), payload.into()],
    )?;
    if same.is_empty() { insert(db, limits, now, entropy, Some(agent), None, fact) } else { Ok(()) }
}

/// What is to be applied, in order. At most one batch; the next tick takes the rest.
pub(crate) fn pending(db: &dyn Database, limits: &Limits) -> Result<Vec<Pending>, DatabaseError> {
    let rows = db.query(
        "SELECT event_id, event_type, agent_id, bead_id, payload, created_at, attempts FROM town_events
         WHERE processed_at IS NULL ORDER BY created_at, rowid LIMIT ?",
        &[limits.events_per_tick.into()],
    )?;
    rows.iter().map(read).collect()
}

pub(crate) fn pending_count(db: &dyn Database) -> Result<i64, DatabaseError> {
    let rows = db.query("SELECT COUNT(*) FROM town_events WHERE processed_at IS NULL", &[])?;
    rows.first().map_or(Ok(0), |row| row.get(0))
}

pub(crate) fn processed(db: &dyn Database, now: i64, event: &str) -> Result<(), DatabaseError> {
    execute(db, "UPDATE town_events SET processed_at = ? WHERE event_id = ?", &[instant(now), event.into()])
}

/// One try that failed. True if it was the last.
pub(crate) fn failed_once(
    db: &dyn Database,
    limits: &Limits,
    now: i64,
    event: &Pending,
    reason: &str,
) -> Result<bool, DatabaseError> {
    let attempts = event.attempts.saturating_add(1);
    let last = attempts >= limits.event_tries_max;
    let quarantined_at = last.then_some(now);
    execute(
        db,
        "UPDATE town_events SET attempts = ?, processed_at = ?, poisoned = ? WHERE event_id = ?",
        &[
            attempts.into(),
            crate::store::instant_option(quarantined_at),
            last.then_some(reason).into(),
            event.id.as_str().into(),
        ],
    )?;
    Ok(last)
}

/// What was quarantined, newest first.
pub(crate) fn poisoned(db: &dyn Database) -> Result<Vec<PoisonedEvent>, DatabaseError> {
    let rows = db.query(
        "SELECT event_id, event_type, attempts, poisoned FROM town_events WHERE poisoned IS NOT NULL ORDER BY rowid DESC LIMIT 100",
        &[],
    )?;
    rows.iter()
        .map(|row| {
            Ok(PoisonedEvent {
                event_id: row.get(0)?,
                event_type: row.get(1)?,
                attempts: row.get(2)?,
                reason: row.get(3)?,
            })
        })
        .collect()
}

/// Forgets the facts that mention a bead that is deleted.
pub(crate) fn forget_bead(db: &dyn Database, bead: &BeadId) -> Result<(), DatabaseError> {
    execute(
        db,
        "DELETE FROM town_events WHERE processed_at IS NULL AND (bead_id = ?1 OR agent_id = ?1)",
        &[bead.as_str().into()],
    )
}

/// The rows that wait are never forgotten: they are bounded by what is there to report. One row is read where nothing is to be forgotten.
fn prune(db: &dyn Database, limits: &Limits, now: i64) -> Result<(), DatabaseError> {
    let cutoff = now.saturating_sub(limits.event_kept_ms);
    let first = db.query(
        "SELECT created_at, rowid > (SELECT MAX(rowid) FROM town_events) - ? FROM town_events ORDER BY rowid LIMIT 1",
        &[limits.rows_kept.into()],
    )?;
    let Some(first) = first.first() else { return Ok(()) };
    if read_at(first, 0)? >= cutoff && first.get::<bool>(1)? {
        return Ok(());
    }
    execute(
        db,
        "DELETE FROM town_events WHERE processed_at < ? OR (processed_at IS NOT NULL AND rowid <= (SELECT MAX(rowid) FROM town_events) - ?)",
        &[instant(cutoff), limits.rows_kept.into()],
    )
}

/// Of `{"name":payload}`, as serde writes a fact, the two columns.
fn split(fact: &Fact) -> Result<(String, String), DatabaseError> {
    let text = serde_json::to_string(fact).map_err(|error| DatabaseError::Sql(error.to_string()))?;
    let inner = text.strip_prefix("{\"").and_then(|text| text.strip_suffix('}'));
    let (kind, payload) = inner
        .and_then(|inner| inner.split_once("\":"))
        .ok_or_else(|| DatabaseError::Sql(format!("a town event without a payload: {text}")))?;
    Ok((kind.to_owned(), payload.to_owned()))
}

fn read(row: &Row) -> Result<Pending, DatabaseError> {
    let (kind, payload): (String, String) = (row.get(1)?, row.get(4)?);
    let name = serde_json::Value::from(kind);
    let fact = serde_json::from_str(&format!("{{{name}:{payload}}}")).map_err(|error| error.to_string());
    Ok(Pending {
        id: row.get(0)?,
        agent: read_id_option(row, 2)?,
        bead: read_id_option(row, 3)?,
        created_at: read_at(row, 5)?,
        attempts: row.get(6)?,
        fact,
    })
}
