//! The rows of a session, apart from its events and what it owes.

use crate::limits::ATTEMPTS_KEPT;
use crate::limits::EXECUTIONS_KEPT;
use database::Database;
use database::DatabaseError;
use database::Migration;
use database::Row;
use database::Value;
use database::execute;
use object_core::event_log::EVENT_TABLES;
use object_core::owed::OWED_TABLE;
use protocol::id::ExecutionId;
use protocol::id::KiloSessionId;
use protocol::id::MessageId;
use protocol::id::SandboxId;
use protocol::id::SessionId;
use protocol::id::UserId;
use protocol::trpc::PrepareSession;

/// The schema of `CloudAgentSession`.
pub const MIGRATIONS: &[Migration] = &[TABLES, KEPT_OF_A_TURN];

const TABLES: Migration = Migration {
    version: 1,
    statements: &[
        OWED_TABLE,
        EVENT_TABLES[0],
        EVENT_TABLES[1],
        "CREATE TABLE session (
            one INTEGER PRIMARY KEY CHECK (one = 1), id TEXT NOT NULL, active TEXT, user TEXT NOT NULL, kilo_session TEXT NOT NULL,
            sandbox TEXT NOT NULL, created_at INTEGER NOT NULL, changed_at INTEGER NOT NULL, prepared_at INTEGER, initiated_at INTEGER,
            branch TEXT, stopped_after TEXT, pruned_at INTEGER NOT NULL, input TEXT NOT NULL
        )",
        "CREATE TABLE execution (
            number INTEGER PRIMARY KEY, id TEXT NOT NULL, status TEXT NOT NULL, generation INTEGER NOT NULL, ingest_hash TEXT NOT NULL,
            started_at INTEGER NOT NULL, accepted_at INTEGER, completed_at INTEGER, heartbeat_at INTEGER, event_at INTEGER,
            waiting TEXT NOT NULL, disconnected_at INTEGER, close_code INTEGER, close_reason TEXT, interrupted INTEGER NOT NULL, error TEXT, resume TEXT
        )",
        "CREATE TABLE work (
            attempt INTEGER PRIMARY KEY, execution TEXT, source TEXT NOT NULL, since INTEGER NOT NULL, token_hash TEXT NOT NULL, n INTEGER NOT NULL,
            asked INTEGER NOT NULL DEFAULT 0, step TEXT, message TEXT, ended INTEGER NOT NULL
        )",
        "CREATE TABLE ticket (nonce TEXT PRIMARY KEY, expires_at INTEGER NOT NULL) WITHOUT ROWID",
        "CREATE TABLE tombstone (one INTEGER PRIMARY KEY CHECK (one = 1), at INTEGER NOT NULL, message TEXT NOT NULL)",
    ],
};

const KEPT_OF_A_TURN: Migration = Migration {
    version: 2,
    statements: &[
        "ALTER TABLE execution ADD COLUMN message TEXT",
        "ALTER TABLE execution ADD COLUMN last_seq INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE session RENAME COLUMN pruned_at TO oldest_at",
    ],
};

/// The session's own row.
#[derive(Clone, Debug, PartialEq)]
pub struct SessionRow {
    pub user: UserId,
    pub id: SessionId,
    pub kilo_session: KiloSessionId,
    pub sandbox: SandboxId,
    pub input: PrepareSession,
    pub created_at: i64,
    pub changed_at: i64,
    pub prepared_at: Option<i64>,
    pub initiated_at: Option<i64>,
    pub branch: Option<String>,
    pub active: Option<ExecutionId>,
    /// The execution after which the agent server was stopped: it is not stopped twice, nor looked at.
    pub stopped_after: Option<ExecutionId>,
    /// No event that is kept happened before.
    pub oldest_at: i64,
}

impl SessionRow {
    /// The name of the `UserDO` that lists this session.
    pub fn owner(&self) -> String {
        match &self.input.organization_id {
            Some(organization) => format!("org:{organization}"),
            None => format!("user:{}", self.user),
        }
    }
}

/// Where an execution stands (spec/session.md 3.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Completed,
    Failed,
    Interrupted,
    Pending,
    Running,
}

impl Status {
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Completed => "completed",
            Status::Failed => "failed",
            Status::Interrupted => "interrupted",
            Status::Pending => "pending",
            Status::Running => "running",
        }
    }

    pub fn is_terminal(self) -> bool {
        !matches!(self, Status::Pending | Status::Running)
    }

    /// The five transitions that exist.
    pub fn may_become(self, next: Status) -> bool {
        match self {
            Status::Pending => matches!(next, Status::Running | Status::Failed),
            Status::Running => next.is_terminal(),
            Status::Completed | Status::Failed | Status::Interrupted => false,
        }
    }

    fn parse(text: &str) -> Option<Status> {
        [Status::Completed, Status::Failed, Status::Interrupted, Status::Pending, Status::Running]
            .into_iter()
            .find(|status| status.as_str() == text)
    }
}

/// One execution.
#[derive(Clone, Debug, PartialEq)]
pub struct ExecutionRow {
    pub id: ExecutionId,
    pub status: Status,
    /// The highest that has connected: a smaller one is refused.
    pub generation: i64,
    pub ingest_hash: String,
    pub started_at: i64,
    pub accepted_at: Option<i64>,
    pub completed_at: Option<i64>,
    pub heartbeat_at: Option<i64>,
    pub event_at: Option<i64>,
    /// The questions and permissions that wait for a person, by id.
    pub waiting: Vec<String>,
    pub disconnected_at: Option<i64>,
    pub close_code: Option<i64>,
    pub close_reason: Option<String>,
    pub interrupted: bool,
    pub error: Option<String>,
    /// How the conversation was found at its start.
    pub resume: Option<String>,
    /// The id of the message that the turn answers.
    pub message: Option<MessageId>,
    /// The last number of its events when another execution's began to be stored: those may have overwritten what carried it.
    pub last_seq: i64,
}

/// One attempt at preparing or starting.
#[derive(Clone, Debug, PartialEq)]
pub struct WorkRow {
    pub attempt: i64,
    pub execution: Option<ExecutionId>,
    /// The execution id that its steps carry on the stream.
    pub source: String,
    pub since: i64,
    pub token_hash: String,
    pub n: i64,
    pub step: Option<String>,
    pub message: Option<String>,
    pub ended: bool,
}

/// Whether the tables are there.
pub fn exists(db: &dyn Database) -> Result<bool, DatabaseError> {
    Ok(!db.query("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'session'", &[])?.is_empty())
}

pub fn session(db: &dyn Database) -> Result<Option<SessionRow>, DatabaseError> {
    let rows = db.query(
        "SELECT user, id, kilo_session, sandbox, input, created_at, changed_at, prepared_at, initiated_at, branch, active,
            stopped_after, oldest_at FROM session",
        &[],
    )?;
    let Some(row) = rows.first() else { return Ok(None) };
    Ok(Some(SessionRow {
        user: id(row, 0)?,
        id: id(row, 1)?,
        kilo_session: id(row, 2)?,
        sandbox: id(row, 3)?,
        input: serde_json::from_str(&row.get::<String>(4)?).map_err(|error| DatabaseError::Sql(error.to_string()))?,
        created_at: row.get(5)?,
        changed_at: row.get(6)?,
        prepared_at: row.get(7)?,
        initiated_at: row.get(8)?,
        branch: row.get(9)?,
        active: optional_id(row, 10)?,
        stopped_after: optional_id(row, 11)?,
        oldest_at: row.get(12)?,
    }))
}

/// The session's id alone: asked for with every event.
pub fn session_id(db: &dyn Database) -> Result<Option<SessionId>, DatabaseError> {
    db.query("SELECT id FROM session", &[])?.first().map(|row| id(row, 0)).transpose()
}

/// The id that the agent server knows the session by.
pub fn kilo_session(db: &dyn Database) -> Result<Option<String>, DatabaseError> {
    db.query("SELECT kilo_session FROM session", &[])?.first().map(|row| row.get(0)).transpose()
}

/// The active execution's row: asked for with every input.
pub fn active_execution(db: &dyn Database) -> Result<Option<ExecutionRow>, DatabaseError> {
    one_execution(db, &format!("{EXECUTION} WHERE id = (SELECT active FROM session) ORDER BY number DESC LIMIT 1"), &[])
}

pub fn save_session(db: &dyn Database, row: &SessionRow) -> Result<(), DatabaseError> {
    let input = serde_json::to_string(&row.input).map_err(|error| DatabaseError::Sql(error.to_string()))?;
    execute(
        db,
        "INSERT OR REPLACE INTO session
            (one, user, id, kilo_session, sandbox, input, created_at, changed_at, prepared_at, initiated_at, branch, active,
             stopped_after, oldest_at)
         VALUES (1, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        &[
            row.user.as_str().into(),
            row.id.as_str().into(),
            row.kilo_session.as_str().into(),
            row.sandbox.as_str().into(),
            input.into(),
            row.created_at.into(),
            row.changed_at.into(),
            row.prepared_at.into(),
            row.initiated_at.into(),
            row.branch.clone().into(),
            row.active.as_ref().map(ExecutionId::as_str).into(),
            row.stopped_after.as_ref().map(ExecutionId::as_str).into(),
            row.oldest_at.into(),
        ],
    )
}

const EXECUTION: &str = "SELECT id, status, generation, ingest_hash, started_at, accepted_at, completed_at, heartbeat_at, event_at, waiting,
    disconnected_at, close_code, close_reason, interrupted, error, resume, message, last_seq FROM execution";

pub fn execution(db: &dyn Database, id: &ExecutionId) -> Result<Option<ExecutionRow>, DatabaseError> {
    one_execution(db, &format!("{EXECUTION} WHERE id = ? ORDER BY number DESC LIMIT 1"), &[id.as_str().into()])
}

pub fn last_execution(db: &dyn Database) -> Result<Option<ExecutionRow>, DatabaseError> {
    one_execution(db, &format!("{EXECUTION} ORDER BY number DESC LIMIT 1"), &[])
}

fn one_execution(db: &dyn Database, sql: &str, parameters: &[Value]) -> Result<Option<ExecutionRow>, DatabaseError> {
    let rows = db.query(sql, parameters)?;
    let Some(row) = rows.first() else { return Ok(None) };
    let status: String = row.get(1)?;
    Ok(Some(ExecutionRow {
        id: id(row, 0)?,
        status: Status::parse(&status).ok_or(DatabaseError::Column { column: 1, expected: "a status" })?,
        generation: row.get(2)?,
        ingest_hash: row.get(3)?,
        started_at: row.get(4)?,
        accepted_at: row.get(5)?,
        completed_at: row.get(6)?,
        heartbeat_at: row.get(7)?,
        event_at: row.get(8)?,
        waiting: serde_json::from_str(&row.get::<String>(9)?).unwrap_or_default(),
        disconnected_at: row.get(10)?,
        close_code: row.get(11)?,
        close_reason: row.get(12)?,
        interrupted: row.get(13)?,
        error: row.get(14)?,
        resume: row.get(15)?,
        message: optional_id(row, 16)?,
        last_seq: row.get(17)?,
    }))
}

/// Forgets all executions but the newest, and says which.
pub fn prune_executions(db: &dyn Database) -> Result<Vec<String>, DatabaseError> {
    let sql = "DELETE FROM execution WHERE number <= (SELECT MAX(number) FROM execution) - ? RETURNING id";
    db.query(sql, &[EXECUTIONS_KEPT.into()])?.iter().map(|row| row.get(0)).collect()
}

/// Forgets all attempts before `newest` but those of [`current_tokens`] and the last few.
pub fn prune_attempts(db: &dyn Database, newest: i64) -> Result<(), DatabaseError> {
    let heard = "SELECT MAX(attempt) FROM work WHERE n > 0";
    let until = newest.saturating_sub(ATTEMPTS_KEPT);
    execute(db, &format!("DELETE FROM work WHERE attempt <= ? AND attempt < ({heard})"), &[until.into()])
}

/// How many executions are remembered.
pub fn executions(db: &dyn Database) -> Result<i64, DatabaseError> {
    db.query("SELECT COUNT(*) FROM execution", &[])?.first().map_or(Ok(0), |row| row.get(0))
}

/// Whether an execution was begun with this message.
pub fn has_message(db: &dyn Database, message: &MessageId) -> Result<bool, DatabaseError> {
    Ok(!db.query("SELECT 1 FROM execution WHERE message = ?", &[message.as_str().into()])?.is_empty())
}

/// The newest attempt.
pub fn work(db: &dyn Database) -> Result<Option<WorkRow>, DatabaseError> {
    let rows = db.query(
        "SELECT attempt, execution, source, since, token_hash, n, step, message, ended FROM work ORDER BY attempt DESC LIMIT 1",
        &[],
    )?;
    let Some(row) = rows.first() else { return Ok(None) };
    Ok(Some(WorkRow {
        attempt: row.get(0)?,
        execution: optional_id(row, 1)?,
        source: row.get(2)?,
        since: row.get(3)?,
        token_hash: row.get(4)?,
        n: row.get(5)?,
        step: row.get(6)?,
        message: row.get(7)?,
        ended: row.get(8)?,
    }))
}

/// How many attempts the preparation has had that came to be owed at `since`.
pub fn attempts_since(db: &dyn Database, since: i64) -> Result<i64, DatabaseError> {
    db.query("SELECT COUNT(*) FROM work WHERE execution IS NULL AND since = ?", &[since.into()])?
        .first()
        .map_or(Ok(0), |row| row.get(0))
}

/// Counts one more asking for an attempt, and says which it is.
pub fn ask(db: &dyn Database, attempt: i64) -> Result<i64, DatabaseError> {
    db.query("UPDATE work SET asked = asked + 1 WHERE attempt = ? RETURNING asked", &[attempt.into()])?
        .first()
        .map_or(Ok(0), |row| row.get(0))
}

/// The token hashes of the newest attempt that was heard of, and of those that are owed after it.
pub fn current_tokens(db: &dyn Database) -> Result<Vec<String>, DatabaseError> {
    let heard = "SELECT COALESCE(MAX(attempt), 0) FROM work WHERE n > 0";
    let rows = db.query(&format!("SELECT token_hash FROM work WHERE attempt >= ({heard})"), &[])?;
    rows.iter().map(|row| row.get(0)).collect()
}

/// Why the preparation failed, if it did.
pub fn tombstone(db: &dyn Database) -> Result<Option<String>, DatabaseError> {
    db.query("SELECT message FROM tombstone", &[])?.first().map(|row| row.get(0)).transpose()
}

/// When the preparation failed, if it did.
pub fn tombstone_at(db: &dyn Database) -> Result<Option<i64>, DatabaseError> {
    db.query("SELECT at FROM tombstone", &[])?.first().map(|row| row.get(0)).transpose()
}

/// Deletes everything but what is still owed.
pub fn wipe(db: &dyn Database) -> Result<(), DatabaseError> {
    ["session", "execution", "work", "log", "entity", "ticket", "tombstone"]
        .iter()
        .try_for_each(|table| execute(db, &format!("DELETE FROM {table}"), &[]))
}

/// Ids were parsed before they were stored: one that no longer parses is a damaged row.
fn id<T: TryFrom<String>>(row: &Row, column: usize) -> Result<T, DatabaseError> {
    T::try_from(row.get(column)?).map_err(|_| DatabaseError::Column { column, expected: "an id" })
}

fn optional_id<T: TryFrom<String>>(row: &Row, column: usize) -> Result<Option<T>, DatabaseError> {
    row.get::<Option<String>>(column)?
        .map(|text| T::try_from(text).map_err(|_| DatabaseError::Column { column, expected: "an id" }))
        .transpose()
}
