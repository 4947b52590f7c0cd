//! `agent_nudges`.

use super::instant;
use super::instant_option;
use super::read_word;
use database::Database;
use database::DatabaseError;
use database::Row;
use database::execute;
use protocol::id::AgentId;
use protocol::town::agent::Nudge;
use protocol::town::agent::NudgeMode;
use protocol::town::agent::NudgePriority;

pub fn insert(
    db: &dyn Database,
    now: i64,
    agent: &AgentId,
    nudge: &Nudge,
    expires_at: Option<i64>,
) -> Result<(), DatabaseError> {
    execute(
        db,
        "INSERT INTO agent_nudges (nudge_id, agent_bead_id, message, mode, priority, source, created_at, expires_at)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        &[
            nudge.nudge_id.as_str().into(),
            agent.as_str().into(),
            nudge.message.as_str().into(),
            nudge.mode.as_str().into(),
            nudge.priority.as_str().into(),
            nudge.source.as_str().into(),
            instant(now),
            instant_option(expires_at),
        ],
    )
}

/// Those that wait, urgent ones first, then in the order they came.
pub fn pending(db: &dyn Database, now: i64, agent: &AgentId) -> Result<Vec<Nudge>, DatabaseError> {
    let rows = db.query(
        "SELECT nudge_id, message, mode, priority, source FROM agent_nudges
         WHERE agent_bead_id = ? AND delivered_at IS NULL AND (expires_at IS NULL OR expires_at > ?)
         ORDER BY priority = 'urgent' DESC, rowid",
        &[agent.as_str().into(), instant(now)],
    )?;
    rows.iter().map(read).collect()
}

pub fn delivered(db: &dyn Database, now: i64, nudge: &str) -> Result<(), DatabaseError> {
    execute(
        db,
        "UPDATE agent_nudges SET delivered_at = ? WHERE nudge_id = ? AND delivered_at IS NULL",
        &[instant(now), nudge.into()],
    )
}

/// The sources of what this agent was told since then.
pub fn sources_since(db: &dyn Database, agent: &AgentId, since: i64) -> Result<Vec<String>, DatabaseError> {
    let sql = "SELECT DISTINCT source FROM agent_nudges WHERE agent_bead_id = ? AND created_at > ?";
    db.query(sql, &[agent.as_str().into(), instant(since)])?.iter().map(|row| row.get(0)).collect()
}

/// Forgets what nobody reads any more: old ones, and those of an agent beyond the newest `keep`.
pub fn prune(db: &dyn Database, before: i64, agent: &AgentId, keep: i64) -> Result<(), DatabaseError> {
    execute(
        db,
        "DELETE FROM agent_nudges WHERE agent_bead_id = ?1 AND (created_at < ?2 OR nudge_id IN
            (SELECT nudge_id FROM agent_nudges WHERE agent_bead_id = ?1 ORDER BY rowid DESC LIMIT -1 OFFSET ?3))",
        &[agent.as_str().into(), instant(before), keep.into()],
    )
}

fn read(row: &Row) -> Result<Nudge, DatabaseError> {
    Ok(Nudge {
        nudge_id: row.get(0)?,
        message: row.get(1)?,
        mode: read_word(row, 2, NudgeMode::parse)?,
        priority: read_word(row, 3, NudgePriority::parse)?,
        source: row.get(4)?,
    })
}
