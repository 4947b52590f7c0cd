//! A container's life: the rules of `SandboxDO` and `TownContainerDO`.
//!
//! ```text
//!            want                 started                 idle, or stop
//!  stopped ───────▶ starting ───────────────▶ running ───────────────▶ stopping
//!     ▲                │ failed, or too long      │ ended                 │ ended, or too long: destroy
//!     └────────────────┴──────────────────────────┴──────────────────────┘
//! ```
//!
//! A running execution holds a *lease*, so no heartbeat crosses between objects: while there is one the container is never idle. Every start
//! has its own `instance`, and news of an older one changes nothing. A stopped container has no deadline: nothing wakes the object to look at it.

use crate::entropy::Entropy;
use crate::nearest;
use crate::time::MINUTE;
use crate::time::SECOND;
use database::Database;
use database::DatabaseError;
use database::Migration;
use database::execute;
use database::transaction;
use serde::Deserialize;
use serde::Serialize;

/// The schema of the container objects.
pub const MIGRATIONS: &[Migration] = &[Migration {
    version: 1,
    statements: &[
        "CREATE TABLE container (
            one INTEGER PRIMARY KEY CHECK (one = 1), state TEXT NOT NULL, instance TEXT NOT NULL, token TEXT NOT NULL,
            since INTEGER NOT NULL, used_at INTEGER NOT NULL
        )",
        "CREATE TABLE lease (holder TEXT PRIMARY KEY, expires_at INTEGER NOT NULL) WITHOUT ROWID",
    ],
}];

/// How long each state may last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LifecycleLimits {
    /// From `start` to a healthy answer. Images are large: the platform takes up to a minute (spec/session.md 8.3 has 30 s for the process alone).
    pub start_ms: i64,
    /// Without a lease and without a request, until the container is stopped (spec/session.md 14, container sleep).
    pub idle_ms: i64,
    /// From SIGTERM to the end, before it is destroyed: sessions are put away in 20 s.
    pub stop_ms: i64,
    /// The same for a town's container, whose agents may finish what they do: its drain takes up to 13 min (spec/town.md 5.1, docs/operations.md).
    pub town_stop_ms: i64,
    /// A lease that nobody released: longer than the longest execution.
    pub lease_ms: i64,
}

impl Default for LifecycleLimits {
    fn default() -> Self {
        Self {
            start_ms: 90 * SECOND,
            idle_ms: 15 * MINUTE,
            stop_ms: 30 * SECOND,
            town_stop_ms: 14 * MINUTE,
            lease_ms: 60 * MINUTE,
        }
    }
}

/// A number that must be positive is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("container limits must all be over 0")]
pub struct NotPositive;

impl LifecycleLimits {
    /// Refuses numbers that cannot work.
    pub fn check(&self) -> Result<(), NotPositive> {
        let numbers = [self.start_ms, self.idle_ms, self.stop_ms, self.town_stop_ms, self.lease_ms];
        if numbers.iter().all(|number| *number > 0) { Ok(()) } else { Err(NotPositive) }
    }

    /// As they are for a town's container.
    pub fn of_town(self) -> Self {
        Self { stop_ms: self.town_stop_ms, ..self }
    }
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// Somebody needs the container, and holds it under `lease` until released.
    Want { lease: Option<String> },
    /// The container answered its health check.
    Started { instance: String },
    /// It could not be started, or was started and never answered.
    StartFailed { instance: String },
    /// The platform says that it ended, or that it is not there.
    Ended { instance: String },
    /// A lease is no longer needed.
    Release { lease: String },
    /// The alarm.
    Tick,
    /// The first input after construction: a start that was under way is lost, and begins again.
    Woke,
}

/// What the shell is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Start it on a fresh disk with this token, whatever is there already; ask it for its health, and report `Started` or `StartFailed`.
    Start { instance: String, token: String },
    /// It runs: whoever waits may go ahead.
    Running { instance: String, token: String },
    /// It does not run after all: whoever waits is told.
    Unavailable,
    /// Ask it to end.
    Terminate { instance: String },
    /// End it now.
    Destroy { instance: String },
}

/// What there is to know of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// Where in its life it is.
    pub state: State,
    /// Which start of it.
    pub instance: String,
    /// The bearer that it asks for.
    pub token: String,
    since: i64,
    used_at: i64,
}

/// Where in its life a container is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    Running,
    Starting,
    Stopped,
    Stopping,
}

impl State {
    fn as_str(self) -> &'static str {
        match self {
            State::Running => "running",
            State::Starting => "starting",
            State::Stopped => "stopped",
            State::Stopping => "stopping",
        }
    }

    fn parse(text: &str) -> State {
        match text {
            "running" => State::Running,
            "starting" => State::Starting,
            "stopping" => State::Stopping,
            _ => State::Stopped,
        }
    }
}

/// Takes one input, as one transaction.
pub fn receive(
    db: &dyn Database,
    limits: &LifecycleLimits,
    now: i64,
    entropy: &mut Entropy,
    input: &Input,
) -> Result<Vec<Output>, DatabaseError> {
    transaction(db, || {
        let container = load(db)?;
        match input {
            Input::Want { lease } => {
                if let Some(lease) = lease {
                    take_lease(db, lease, now.saturating_add(limits.lease_ms))?;
                }
                want(db, now, entropy, container)
            }
            Input::Started { instance } => started(db, now, container, instance),
            Input::StartFailed { instance } => start_failed(db, now, container, instance),
            Input::Ended { instance } => ended(db, now, container, instance, vec![]),
            Input::Release { lease } => {
                execute(db, "DELETE FROM lease WHERE holder = ?", &[lease.as_str().into()])?;
                touch(db, now)?;
                Ok(vec![])
            }
            Input::Tick => tick(db, limits, now, container),
            Input::Woke => woke(db, now, entropy, container),
        }
    })
}

/// When the next [`Input::Tick`] is due.
pub fn next_deadline(db: &dyn Database, limits: &LifecycleLimits) -> Result<Option<i64>, DatabaseError> {
    let Some(container) = load(db)? else { return Ok(None) };
    let after = |ms: i64| Some(container.since.saturating_add(ms));
    Ok(match container.state {
        State::Stopped => None,
        State::Starting => after(limits.start_ms),
        State::Stopping => after(limits.stop_ms),
        State::Running => nearest([earliest_lease(db)?]).or(Some(container.used_at.saturating_add(limits.idle_ms))),
    })
}

/// The container as it was last known; None if it never ran.
pub fn load(db: &dyn Database) -> Result<Option<Container>, DatabaseError> {
    let rows = db.query("SELECT state, instance, token, since, used_at FROM container", &[])?;
    let Some(row) = rows.first() else { return Ok(None) };
    Ok(Some(Container {
        state: State::parse(&row.get::<String>(0)?),
        instance: row.get(1)?,
        token: row.get(2)?,
        since: row.get(3)?,
        used_at: row.get(4)?,
    }))
}

fn want(
    db: &dyn Database,
    now: i64,
    entropy: &mut Entropy,
    container: Option<Container>,
) -> Result<Vec<Output>, DatabaseError> {
    match container {
        Some(Container { state: State::Running, instance, token, .. }) => {
            touch(db, now)?;
            Ok(vec![Output::Running { instance, token }])
        }
        Some(Container { state: State::Starting, .. }) => Ok(vec![]),
        // A container that is asked to end takes no new work, and two never run at once.
        Some(Container { state: State::Stopping, .. }) => Ok(vec![Output::Unavailable]),
        Some(Container { state: State::Stopped, .. }) | None => start(db, now, entropy),
    }
}

fn start(db: &dyn Database, now: i64, entropy: &mut Entropy) -> Result<Vec<Output>, DatabaseError> {
    let (instance, token) = (entropy.uuid(), entropy.secret());
    execute(
        db,
        "INSERT OR REPLACE INTO container (one, state, instance, token, since, used_at) VALUES (1, 'starting', ?1, ?2, ?3, ?3)",
        &[instance.as_str().into(), token.as_str().into(), now.into()],
    )?;
    Ok(vec![Output::Start { instance, token }])
}

/// A start that a crash interrupted is given up for another, with its whole time: it may have come far enough to end, and the news of that come late.
fn woke(
    db: &dyn Database,
    now: i64,
    entropy: &mut Entropy,
    container: Option<Container>,
) -> Result<Vec<Output>, DatabaseError> {
    match container {
        Some(Container { state: State::Starting, .. }) => start(db, now, entropy),
        _ => Ok(vec![]),
    }
}

fn started(
    db: &dyn Database,
    now: i64,
    container: Option<Container>,
    instance: &str,
) -> Result<Vec<Output>, DatabaseError> {
    match container {
        Some(known) if known.instance == instance && known.state == State::Starting => {
            set_state(db, now, State::Running)?;
            Ok(vec![Output::Running { instance: known.instance, token: known.token }])
        }
        // It came up after it was given up, and no newer one took its place.
        Some(known) if known.instance == instance && known.state == State::Stopped => {
            Ok(vec![Output::Destroy { instance: known.instance }])
        }
        _ => Ok(vec![]),
    }
}

fn start_failed(
    db: &dyn Database,
    now: i64,
    container: Option<Container>,
    instance: &str,
) -> Result<Vec<Output>, DatabaseError> {
    match container {
        Some(known) if known.instance == instance && known.state == State::Starting => {
            let destroy = vec![Output::Destroy { instance: known.instance.clone() }];
            ended(db, now, Some(known), instance, destroy)
        }
        _ => Ok(vec![]),
    }
}

fn ended(
    db: &dyn Database,
    now: i64,
    container: Option<Container>,
    instance: &str,
    mut outputs: Vec<Output>,
) -> Result<Vec<Output>, DatabaseError> {
    if container.is_some_and(|known| known.instance == instance && known.state != State::Stopped) {
        set_state(db, now, State::Stopped)?;
        execute(db, "DELETE FROM lease", &[])?;
        outputs.push(Output::Unavailable);
    }
    Ok(outputs)
}

fn stop(db: &dyn Database, now: i64, container: Option<Container>) -> Result<Vec<Output>, DatabaseError> {
    match container {
        Some(known) if matches!(known.state, State::Running | State::Starting) => {
            set_state(db, now, State::Stopping)?;
            Ok(vec![Output::Terminate { instance: known.instance }])
        }
        _ => Ok(vec![]),
    }
}

fn tick(
    db: &dyn Database,
    limits: &LifecycleLimits,
    now: i64,
    container: Option<Container>,
) -> Result<Vec<Output>, DatabaseError> {
    execute(db, "DELETE FROM lease WHERE expires_at <= ?", &[now.into()])?;
    let Some(known) = container else { return Ok(vec![]) };
    let late = |ms: i64| known.since.saturating_add(ms) <= now;
    match known.state {
        State::Starting if late(limits.start_ms) => {
            let instance = known.instance.clone();
            ended(db, now, Some(known), &instance, vec![Output::Destroy { instance: instance.clone() }])
        }
        State::Stopping if late(limits.stop_ms) => {
            let instance = known.instance.clone();
            ended(db, now, Some(known), &instance, vec![Output::Destroy { instance: instance.clone() }])
        }
        State::Running if earliest_lease(db)?.is_none() && known.used_at.saturating_add(limits.idle_ms) <= now => {
            stop(db, now, Some(known))
        }
        _ => Ok(vec![]),
    }
}

fn take_lease(db: &dyn Database, holder: &str, expires_at: i64) -> Result<(), DatabaseError> {
    execute(db, "INSERT OR REPLACE INTO lease (holder, expires_at) VALUES (?, ?)", &[holder.into(), expires_at.into()])
}

fn earliest_lease(db: &dyn Database) -> Result<Option<i64>, DatabaseError> {
    db.query("SELECT MIN(expires_at) FROM lease", &[])?.first().map_or(Ok(None), |row| row.get(0))
}

fn set_state(db: &dyn Database, now: i64, state: State) -> Result<(), DatabaseError> {
    execute(db, "UPDATE container SET state = ?, since = ?2, used_at = ?2", &[state.as_str().into(), now.into()])
}

/// Use is noted once a minute at the most: the idle limit is many minutes, and rows are money.
fn touch(db: &dyn Database, now: i64) -> Result<(), DatabaseError> {
    execute(db, "UPDATE container SET used_at = ?1 WHERE used_at <= ?1 - ?2", &[now.into(), MINUTE.into()])
}

#[cfg(test)]
mod tests;
