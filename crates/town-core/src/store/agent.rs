//! `agent_metadata`, beside the agent's own bead.

use super::instant;
use super::instant_option;
use super::json;
use super::read_at;
use super::read_at_option;
use super::read_id;
use super::read_id_option;
use super::read_json;
use database::Database;
use database::DatabaseError;
use database::Row;
use database::Value;
use database::execute;
use protocol::id::AgentId;
use protocol::id::BeadId;
use protocol::town::Heartbeat;
use protocol::town::agent::Agent;
use protocol::town::agent::AgentStatus;

const SELECT: &str = "SELECT a.bead_id, b.rig_id, a.role, b.title, a.identity, a.status, a.current_hook_bead_id, a.dispatch_attempts,
    a.last_activity_at, a.checkpoint, b.created_at, a.agent_status_message, a.agent_status_updated_at, a.last_event_at, a.active_tools,
    a.stalled_at, a.asked_at FROM agent_metadata a JOIN beads b ON b.bead_id = a.bead_id";

/// An agent, and what only the patrol looks at.
#[derive(Clone, Debug, PartialEq)]
pub struct AgentRow {
    pub agent: Agent,
    /// When its newest event was, or, if that is later, when it was last asked something.
    pub last_event_at: Option<i64>,
    pub active_tools: Vec<String>,
    pub stalled_at: Option<i64>,
    /// When it was last given something new to do. Only the mayor is asked.
    pub asked_at: Option<i64>,
}

impl AgentRow {
    /// Whether the container is thought to run it.
    pub fn is_running(&self) -> bool {
        matches!(self.agent.status, AgentStatus::Working | AgentStatus::Stalled)
    }
}

pub fn find(db: &dyn Database, agent: &AgentId) -> Result<Option<AgentRow>, DatabaseError> {
    select(db, "WHERE a.bead_id = ?", &[agent.as_str().into()]).map(|agents| agents.into_iter().next())
}

/// The one that holds this hook.
pub fn hooked_to(db: &dyn Database, bead: &BeadId) -> Result<Option<AgentRow>, DatabaseError> {
    select(db, "WHERE a.current_hook_bead_id = ?", &[bead.as_str().into()]).map(|agents| agents.into_iter().next())
}

/// All of them, oldest first.
pub fn all(db: &dyn Database) -> Result<Vec<AgentRow>, DatabaseError> {
    select(db, "ORDER BY a.rowid", &[])
}

/// Agents by a clause of our own, which names the tables `a` and `b`.
pub fn select(db: &dyn Database, clause: &str, parameters: &[Value]) -> Result<Vec<AgentRow>, DatabaseError> {
    db.query(&format!("{SELECT} {clause}"), parameters)?.iter().map(read).collect()
}

/// Adds the state of an agent whose bead is there.
pub fn insert(db: &dyn Database, agent: &Agent) -> Result<(), DatabaseError> {
    execute(
        db,
        "INSERT INTO agent_metadata (bead_id, role, identity, status) VALUES (?, ?, ?, ?)",
        &[
            agent.id.as_str().into(),
            agent.role.as_str().into(),
            agent.identity.as_str().into(),
            agent.status.as_str().into(),
        ],
    )
}

pub fn set_status(db: &dyn Database, now: i64, agent: &AgentId, status: &AgentStatus) -> Result<(), DatabaseError> {
    let stalled_at = (*status == AgentStatus::Stalled).then_some(now);
    execute(
        db,
        "UPDATE agent_metadata SET status = ?, stalled_at = ? WHERE bead_id = ?",
        &[status.as_str().into(), instant_option(stalled_at), agent.as_str().into()],
    )
}

/// Takes a bead on the hook. The agent is idle until it is dispatched.
pub fn hook(db: &dyn Database, now: i64, agent: &AgentId, bead: &BeadId) -> Result<(), DatabaseError> {
    execute(
        db,
        "UPDATE agent_metadata SET current_hook_bead_id = ?, status = 'idle', stalled_at = NULL, last_activity_at = ?,
            last_event_type = NULL, last_event_at = NULL, active_tools = '[]', agent_status_message = NULL,
            agent_status_updated_at = NULL WHERE bead_id = ?",
        &[bead.as_str().into(), instant(now), agent.as_str().into()],
    )
}

/// Lets go of the hook, and of what was saved for it.
pub fn unhook(db: &dyn Database, agent: &AgentId) -> Result<(), DatabaseError> {
    execute(
        db,
        "UPDATE agent_metadata SET current_hook_bead_id = NULL, status = 'idle', stalled_at = NULL, checkpoint = NULL WHERE bead_id = ?",
        &[agent.as_str().into()],
    )
}

/// It is on its way to the container. What its last run did says nothing of this one.
pub fn dispatched(db: &dyn Database, now: i64, agent: &AgentId) -> Result<(), DatabaseError> {
    execute(
        db,
        "UPDATE agent_metadata SET status = 'working', stalled_at = NULL, dispatch_attempts = dispatch_attempts + 1, last_activity_at = ?,
            last_event_type = NULL, last_event_at = NULL, active_tools = '[]' WHERE bead_id = ?",
        &[instant(now), agent.as_str().into()],
    )
}

/// It runs, or is on its way, and has something new to do. From here its silence counts: what it said before says nothing of that.
pub fn asked(db: &dyn Database, now: i64, agent: &AgentId) -> Result<(), DatabaseError> {
    execute(
        db,
        "UPDATE agent_metadata SET status = 'working', stalled_at = NULL, last_activity_at = ?1, last_event_type = NULL, last_event_at = ?1,
            asked_at = ?1 WHERE bead_id = ?2",
        &[instant(now), agent.as_str().into()],
    )
}

pub fn reset_dispatch(db: &dyn Database, agent: &AgentId) -> Result<(), DatabaseError> {
    execute(
        db,
        "UPDATE agent_metadata SET dispatch_attempts = 0 WHERE bead_id = ? AND dispatch_attempts <> 0",
        &[agent.as_str().into()],
    )
}

pub fn set_activity(db: &dyn Database, at: Option<i64>, agent: &AgentId) -> Result<(), DatabaseError> {
    execute(
        db,
        "UPDATE agent_metadata SET last_activity_at = ? WHERE bead_id = ?",
        &[instant_option(at), agent.as_str().into()],
    )
}

/// It lives. An idle one that holds a hook was thought lost, and works. What the heartbeat does not tell stays, and so does what is newer.
pub fn heartbeat(db: &dyn Database, now: i64, agent: &AgentId, body: &Heartbeat) -> Result<(), DatabaseError> {
    execute(
        db,
        "UPDATE agent_metadata SET last_activity_at = ?1, dispatch_attempts = 0, last_event_type = COALESCE(?2, last_event_type),
            last_event_at = COALESCE(MAX(?3, COALESCE(last_event_at, ?3)), last_event_at), active_tools = ?4 WHERE bead_id = ?5",
        &[
            instant(now),
            body.last_event_type.clone().into(),
            body.last_event_at.as_deref().and_then(protocol::time::parse_iso8601).map(protocol::time::iso8601).into(),
            json(&body.active_tools)?,
            agent.as_str().into(),
        ],
    )?;
    execute(
        db,
        "UPDATE agent_metadata SET status = 'working' WHERE bead_id = ? AND status = 'idle' AND current_hook_bead_id IS NOT NULL",
        &[agent.as_str().into()],
    )
}

pub fn set_message(db: &dyn Database, now: i64, agent: &AgentId, message: &str) -> Result<(), DatabaseError> {
    execute(
        db,
        "UPDATE agent_metadata SET agent_status_message = ?, agent_status_updated_at = ? WHERE bead_id = ?",
        &[message.into(), instant(now), agent.as_str().into()],
    )
}

pub fn set_checkpoint(
    db: &dyn Database,
    agent: &AgentId,
    data: Option<&serde_json::Value>,
) -> Result<(), DatabaseError> {
    let data = data.map(json).transpose()?.unwrap_or(Value::Null);
    execute(db, "UPDATE agent_metadata SET checkpoint = ? WHERE bead_id = ?", &[data, agent.as_str().into()])
}

fn read(row: &Row) -> Result<AgentRow, DatabaseError> {
    let agent = Agent {
        id: read_id(row, 0)?,
        rig_id: read_id_option(row, 1)?,
        role: row.get::<String>(2)?.into(),
        name: row.get(3)?,
        identity: row.get(4)?,
        status: row.get::<String>(5)?.into(),
        current_hook_bead_id: read_id_option(row, 6)?,
        dispatch_attempts: row.get(7)?,
        last_activity_at: read_at_option(row, 8)?,
        checkpoint: row.get::<Option<String>>(9)?.and_then(|text| serde_json::from_str(&text).ok()),
        created_at: read_at(row, 10)?,
        agent_status_message: row.get(11)?,
        agent_status_updated_at: read_at_option(row, 12)?,
    };
    Ok(AgentRow {
        agent,
        last_event_at: read_at_option(row, 13)?,
        active_tools: read_json(row, 14)?,
        stalled_at: read_at_option(row, 15)?,
        asked_at: read_at_option(row, 16)?,
    })
}
