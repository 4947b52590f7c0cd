//! `town_events`: facts that containers report (spec/town.md 3.2, 4.1).
//!
//! So far there is one kind, `container_eviction`. It is an audit row: applying it changes nothing, so it is written as processed.

use crate::limits::Limits;
use database::Database;
use database::DatabaseError;
use database::execute;
use object_core::entropy::Entropy;
use protocol::id::InstanceId;
use protocol::time::iso8601;
use protocol::town::Eviction;

pub(crate) const TABLE: &str = "CREATE TABLE town_events (
    event_id TEXT PRIMARY KEY, event_type TEXT NOT NULL, agent_id TEXT, bead_id TEXT, payload TEXT NOT NULL DEFAULT '{}',
    created_at TEXT NOT NULL, processed_at TEXT
)";

/// Notes that a container was evicted, and forgets what is older than the limits allow.
pub(crate) fn container_eviction(
    db: &dyn Database,
    limits: &Limits,
    now: i64,
    entropy: &mut Entropy,
    instance: Option<&InstanceId>,
) -> Result<(), DatabaseError> {
    let payload = serde_json::to_string(&Eviction { container_instance_id: instance.cloned() })
        .map_err(|error| DatabaseError::Sql(format!("town event: {error}")))?;
    execute(
        db,
        "INSERT INTO town_events (event_id, event_type, payload, created_at, processed_at)
         VALUES (?1, 'container_eviction', ?2, ?3, ?3)",
        &[entropy.uuid().into(), payload.into(), iso8601(now).into()],
    )?;
    execute(
        db,
        "DELETE FROM town_events WHERE processed_at < ? OR rowid <= (SELECT MAX(rowid) FROM town_events) - ?",
        &[iso8601(now.saturating_sub(limits.event_kept_ms)).into(), limits.rows_kept.into()],
    )
}
