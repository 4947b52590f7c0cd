//! What only a town's container has. Its object keeps what the container starts with and is told with each request, so that a start needs nobody else.
//!
//! | Request | Effect |
//! | --- | --- |
//! | `PUT /town/settings` | [`Settings`]: environment of the next start, configuration of each request from now on |
//! | `GET /town/registry`, `PUT /town/registry` | the agents to be restored at the next start: a JSON array, kept as it came |
//! | `DELETE /town/container` | ends the container and forgets what is kept here: the town is no more. 503 until the container is known to be gone; from the first on, every other request is 410 |
//! | `POST /town/observe` | a JSON array of agents, answered with [`Seen`] of each; 410 if no container runs |
//!
//! The end of a container that ran is owed to its town until the town has heard it: [`notice`].

use super::error;
use super::shell::Running;
use super::shell::Shell;
use crate::config::Config;
use crate::http;
use crate::log;
use crate::object::ask_status;
use crate::object::failed;
use crate::object::now_ms;
use crate::object::within;
use crate::town::ENDED;
use crate::town::container_token;
use database::Database;
use database::DatabaseError;
use database::Migration;
use database::execute;
use database::transaction;
use futures_util::future::join_all;
use object_core::lifecycle::Input;
use object_core::notice;
use object_core::owed::OWED_TABLE;
use object_core::time::SECOND;
use protocol::id::AgentId;
use protocol::id::TownId;
use protocol::town::container::ContainerAgentStatus;
use protocol::town::header::CONFIG_HEADER_BYTES_MAX;
use serde::Deserialize;
use serde::Serialize;
use serde::de::IgnoredAny;
use std::collections::BTreeMap;
use std::rc::Rc;
use worker::Method;
use worker::Request;
use worker::RequestInit;
use worker::Response;

/// Where its own paths begin: a container's own do not.
pub const PATHS: &str = "/town/";
pub const CONTAINER: &str = "/town/container";
pub const OBSERVE: &str = "/town/observe";
pub const REGISTRY: &str = "/town/registry";
pub const SETTINGS: &str = "/town/settings";

/// How long a container may take to say what one agent does (spec/town.md 12).
const STATUS_MS: i64 = 10 * SECOND;
/// How long the town may take to hear of an end.
const NOTICE_MS: i64 = 10 * SECOND;

/// The tables of a town's container, after those of every container.
pub const MIGRATIONS: &[Migration] = &[
    Migration {
        version: 2,
        statements: &[
            OWED_TABLE,
            "CREATE TABLE env (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
            "CREATE TABLE registry (one INTEGER PRIMARY KEY CHECK (one = 1), entries TEXT NOT NULL)",
            "CREATE TABLE settings (one INTEGER PRIMARY KEY CHECK (one = 1), at INTEGER NOT NULL, user TEXT NOT NULL, config TEXT NOT NULL)",
        ],
    },
    Migration { version: 3, statements: &["CREATE TABLE gone (one INTEGER PRIMARY KEY CHECK (one = 1))"] },
];

/// What a town tells the object of its container.
#[derive(Serialize, Deserialize)]
pub struct Settings {
    /// When they were read, in milliseconds: older ones that come late are dropped.
    pub at: i64,
    /// Whom the container's token speaks for.
    pub user: String,
    pub env: BTreeMap<String, String>,
    /// The value of the `X-Town-Config` header.
    pub config: String,
}

/// What a container says of an agent.
#[derive(Debug, Serialize, Deserialize)]
pub struct Seen {
    pub agent: AgentId,
    pub status: ContainerAgentStatus,
    pub exit_reason: Option<String>,
}

/// Of the answer to `GET /agents/{agent}/status`, what counts here.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Told {
    status: ContainerAgentStatus,
    exit_reason: Option<String>,
}

impl Shell {
    /// Serves what is below [`PATHS`].
    pub async fn serve_town(self: &Rc<Self>, mut request: Request, path: &str) -> worker::Result<Response> {
        let Ok(body) = http::body(&mut request).await else {
            return error(413, "BODY_TOO_LARGE", "The body is too large, or broke off");
        };
        match (request.method(), path) {
            (Method::Put, SETTINGS) => match http::parse::<Settings>(&body) {
                Ok(settings) if settings.config.len() > CONFIG_HEADER_BYTES_MAX => {
                    error(413, "BODY_TOO_LARGE", "The town's configuration does not fit into a header of 32 KiB")
                }
                Ok(settings) => {
                    transaction(&self.db, || keep(&self.db, &settings)).map_err(failed)?;
                    Response::empty()
                }
                Err(cause) => error(400, "INVALID_REQUEST", &cause.to_string()),
            },
            (Method::Get, REGISTRY) => {
                let rows = self.db.query("SELECT entries FROM registry", &[]).map_err(failed)?;
                let entries = rows.first().map_or(Ok("[]".to_owned()), |row| row.get::<String>(0)).map_err(failed)?;
                Ok(worker::ResponseBuilder::new()
                    .with_header("content-type", "application/json")?
                    .fixed(entries.into_bytes()))
            }
            (Method::Put, REGISTRY) => {
                let Some(entries) = array(&body) else {
                    return error(400, "INVALID_REQUEST", "The registry is a JSON array");
                };
                let sql = "INSERT INTO registry (one, entries) VALUES (1, ?1)
                    ON CONFLICT (one) DO UPDATE SET entries = ?1 WHERE entries <> ?1";
                execute(&self.db, sql, &[entries.into()]).map_err(failed)?;
                Response::empty()
            }
            (Method::Delete, CONTAINER) => {
                transaction(&self.db, || forget(&self.db)).map_err(failed)?;
                let is_over = self.end_for_good().await?;
                // Its end is no news to a town that is no more.
                notice::forget(&self.db).map_err(failed)?;
                self.set_alarm()?;
                if is_over {
                    Response::empty()
                } else {
                    error(503, "NOT_ENDED", "The container may still run: try again")
                }
            }
            (Method::Post, OBSERVE) => match http::parse::<Vec<AgentId>>(&body) {
                Ok(agents) => self.observe(&agents).await,
                Err(cause) => error(400, "INVALID_REQUEST", &cause.to_string()),
            },
            _ => error(404, "NOT_FOUND", "Not found"),
        }
    }

    /// Asks for all at once. A container in which an agent works is not idle.
    async fn observe(self: &Rc<Self>, agents: &[AgentId]) -> worker::Result<Response> {
        let Some(running) = self.known_running()? else {
            return error(410, "NOT_RUNNING", "The container does not run");
        };
        let seen = join_all(agents.iter().map(|agent| self.look_at(agent, &running))).await;
        if self.known_running()?.is_none_or(|now| now.instance != running.instance) {
            return error(410, "NOT_RUNNING", "The container has ended");
        }
        let is_live =
            |seen: &Seen| matches!(seen.status, ContainerAgentStatus::Running | ContainerAgentStatus::Starting);
        if seen.iter().any(is_live) {
            self.turn(&Input::Want { lease: None })?;
        }
        http::json(200, &seen)
    }

    async fn look_at(self: &Rc<Self>, agent: &AgentId, running: &Running) -> Seen {
        let told = within(STATUS_MS, self.status_of(agent, running)).await;
        let (status, exit_reason) = match told {
            Some(Ok(told)) => (told.status, told.exit_reason),
            _ => (ContainerAgentStatus::Unknown, None),
        };
        Seen { agent: agent.clone(), status, exit_reason }
    }

    async fn status_of(self: &Rc<Self>, agent: &AgentId, running: &Running) -> worker::Result<Told> {
        let request = Request::new("http://container/", Method::Get)?;
        let answer = self.forward(&request, None, &format!("/agents/{agent}/status"), running).await?;
        let Some(mut answer) = answer else {
            return Ok(Told { status: ContainerAgentStatus::NotFound, exit_reason: None });
        };
        let body = answer.bytes().await?;
        match answer.status_code() {
            200 => Ok(http::parse(&body)?),
            404 => Ok(Told { status: ContainerAgentStatus::NotFound, exit_reason: None }),
            status => Err(worker::Error::RustError(format!("the container answered {status}"))),
        }
    }

    /// Tells the town when its container ended, beside everything else. What it has not heard is told again.
    pub fn tell_town(self: &Rc<Self>, at: i64) {
        let shell = Rc::clone(self);
        self.state.wait_until(async move {
            if let Err(cause) = shell.told_town(at).await {
                log::error("container_notice", &[("town", &shell.name()), ("error", &cause.to_string())]);
            }
        });
    }

    async fn told_town(&self, at: i64) -> worker::Result<()> {
        let mut init = RequestInit::new();
        init.with_method(Method::Post);
        let request = Request::new_with_init(&format!("http://town{ENDED}?at={at}"), &init)?;
        let status = ask_status(&self.env, "TOWN", &self.name(), request, NOTICE_MS).await?;
        if status != 200 {
            return Err(worker::Error::RustError(format!("the town answered {status}")));
        }
        notice::heard(&self.db, at).map_err(failed)?;
        self.set_alarm()
    }
}

/// What the container starts with: the town's settings, who it is, and a token that is as old as the container.
pub fn environment(db: &dyn Database, config: &Config, town: &str) -> worker::Result<Vec<(String, String)>> {
    let rows = db.query("SELECT name, value FROM env", &[]).map_err(failed)?;
    let mut variables =
        rows.iter().map(|row| Ok((row.get(0)?, row.get(1)?))).collect::<Result<Vec<_>, _>>().map_err(failed)?;
    let users = db.query("SELECT user FROM settings", &[]).map_err(failed)?;
    let user = users.first().map_or(Ok(String::new()), |row| row.get(0)).map_err(failed)?;
    variables.push(("GASTOWN_TOWN_ID".into(), town.to_owned()));
    variables.push(("GASTOWN_API_URL".into(), config.worker_url.clone().unwrap_or_default()));
    let token = TownId::parse(town).ok().zip(config.gastown_jwt_secret.as_deref());
    let token = token.and_then(|(town, secret)| container_token(&town, &user, secret, now_ms()));
    variables.extend(token.map(|token| ("GASTOWN_CONTAINER_TOKEN".into(), token)));
    Ok(variables)
}

/// The value of the configuration's header, once the town has told it.
pub fn config(db: &dyn Database) -> Result<Option<String>, DatabaseError> {
    db.query("SELECT config FROM settings", &[])?.first().map(|row| row.get(0)).transpose()
}

/// Writes what changed.
fn keep(db: &dyn Database, new: &Settings) -> Result<(), DatabaseError> {
    let rows = db.query("SELECT at, user, config FROM settings", &[])?;
    let known =
        rows.first().map(|row| Ok::<_, DatabaseError>((row.get::<i64>(0)?, row.get(1)?, row.get(2)?))).transpose()?;
    if known.as_ref().is_some_and(|(at, ..)| *at > new.at) {
        return Ok(());
    }
    if known
        .is_none_or(|(_, user, config): (_, String, String)| (user, config) != (new.user.clone(), new.config.clone()))
    {
        execute(
            db,
            "INSERT OR REPLACE INTO settings (one, at, user, config) VALUES (1, ?, ?, ?)",
            &[new.at.into(), new.user.as_str().into(), new.config.as_str().into()],
        )?;
    }
    let rows = db.query("SELECT name, value FROM env", &[])?;
    let old = rows
        .iter()
        .map(|row| Ok((row.get(0)?, row.get(1)?)))
        .collect::<Result<BTreeMap<String, String>, DatabaseError>>()?;
    for name in old.keys().filter(|name| !new.env.contains_key(*name)) {
        execute(db, "DELETE FROM env WHERE name = ?", &[name.as_str().into()])?;
    }
    for (name, value) in new.env.iter().filter(|(name, value)| old.get(*name) != Some(value)) {
        execute(
            db,
            "INSERT OR REPLACE INTO env (name, value) VALUES (?, ?)",
            &[name.as_str().into(), value.as_str().into()],
        )?;
    }
    Ok(())
}

/// The town is no more.
fn forget(db: &dyn Database) -> Result<(), DatabaseError> {
    let statements = [
        "DELETE FROM env",
        "DELETE FROM registry",
        "DELETE FROM settings",
        "INSERT OR IGNORE INTO gone (one) VALUES (1)",
    ];
    statements.iter().try_for_each(|sql| execute(db, sql, &[]))
}

/// Whether the town was deleted: nothing is started or kept for it any more.
pub fn is_gone(db: &dyn Database) -> Result<bool, DatabaseError> {
    Ok(!db.query("SELECT 1 FROM gone", &[])?.is_empty())
}

/// A JSON array, as it came.
fn array(body: &[u8]) -> Option<&str> {
    http::parse::<Vec<IgnoredAny>>(body).ok()?;
    std::str::from_utf8(body).ok()
}
