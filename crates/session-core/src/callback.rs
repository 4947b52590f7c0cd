//! Callbacks: who is told when an execution ended (spec/session.md 9, design 5).
//!
//! A callback is owed in the transaction that ends its execution, so each finished execution owes exactly one. It is tried five times; after the last
//! try, or an answer that says no, a letter stays that says so, and `getSession` shows it: the newest [`LETTERS_KEPT`] of a session, each for as long as
//! its execution is remembered.

use crate::Step;
use crate::limits::TEXT_BYTES_MAX;
use crate::limits::cut;
use crate::message::CallbackPost;
use crate::message::Effect;
use crate::message::Outcome;
use crate::store;
use crate::store::ExecutionRow;
use crate::store::SessionRow;
use database::Database;
use database::DatabaseError;
use object_core::owed::Debt;
use object_core::owed::Letter;
use object_core::owed::Owed;
use object_core::time::SECOND;
use protocol::id::ExecutionId;
use protocol::id::InvalidId;
use protocol::id::KiloSessionId;
use protocol::trpc::CallbackView;
use serde::Serialize;
use serde_json::Value;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use url::Host;
use url::Url;

const KEY: &str = "callback/";
/// Tries of one callback (spec/session.md 9).
const ATTEMPTS_MAX: i64 = 5;
/// How many callbacks that were given up are shown.
pub const LETTERS_KEPT: i64 = 20;

/// What the receiver gets.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Payload<'a> {
    session_id: &'a str,
    cloud_agent_session_id: &'a str,
    execution_id: &'a str,
    status: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_message: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_seen_branch: Option<&'a str>,
    kilo_session_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    gate_result: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_assistant_message_text: Option<String>,
}

/// Whether a callback may go to `text`: `https` and a public name. Checked at input, and again at delivery.
///
/// `loopback` admits `http://127.0.0.1` for development. The URL is parsed as the platform's `fetch` parses it, so that a host that is written in
/// another way (`0x7f.1`, `[::ffff:127.0.0.1]`, `localhost.`) is seen for what it is.
pub fn check_url(text: &str, loopback: bool) -> Result<(), InvalidId> {
    let url = Url::parse(text).map_err(|_| InvalidId { message: "callbackTarget.url is not a URL" })?;
    if loopback && url.scheme() == "http" && url.host() == Some(Host::Ipv4(Ipv4Addr::LOCALHOST)) {
        return Ok(());
    }
    if url.scheme() != "https" {
        return Err(InvalidId { message: "callbackTarget.url must start with https://" });
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(InvalidId { message: "callbackTarget.url must not hold credentials: use headers" });
    }
    let public = match url.host() {
        Some(Host::Domain(name)) => is_public_name(name),
        Some(Host::Ipv4(address)) => is_public_v4(address),
        Some(Host::Ipv6(address)) => is_public_v6(address),
        None => false,
    };
    if public { Ok(()) } else { Err(InvalidId { message: "callbackTarget.url must name a public host" }) }
}

fn is_public_name(name: &str) -> bool {
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    let last = name.rsplit('.').next().unwrap_or_default();
    name.contains('.') && !matches!(last, "localhost" | "local" | "internal" | "localdomain" | "home" | "lan")
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, ..] = address.octets();
    let shared = a == 100 && (64..128).contains(&b);
    let benchmark = a == 198 && matches!(b, 18 | 19);
    !(address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_unspecified()
        || address.is_documentation()
        || shared
        || benchmark
        || a == 0
        || a >= 224)
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    match address.to_ipv4() {
        Some(mapped) => is_public_v4(mapped),
        None => {
            let [first, ..] = address.segments();
            // Global unicast is 2000::/3; 2002::/16 and 64:ff9b::/96 embed addresses of the old kind.
            (0x2000..0x4000).contains(&first) && first != 0x2002
        }
    }
}

impl Step<'_> {
    /// Owes the callback of an execution that has just ended.
    pub fn owe_callback(&mut self, session: &SessionRow, execution: &ExecutionRow) -> Result<(), DatabaseError> {
        let Some(target) = &session.input.callback_target else { return Ok(()) };
        let completed = execution.status == store::Status::Completed;
        let text = if completed { last_assistant_text(self.db, &session.kilo_session)? } else { None };
        let gate_result = if completed { gate_result(self.db, &execution.id)? } else { None };
        let payload = Payload {
            session_id: session.id.as_str(),
            cloud_agent_session_id: session.id.as_str(),
            execution_id: execution.id.as_str(),
            status: execution.status.as_str(),
            error_message: execution.error.as_deref(),
            last_seen_branch: session.branch.as_deref(),
            kilo_session_id: session.kilo_session.as_str(),
            gate_result,
            last_assistant_message_text: text,
        };
        let body = serde_json::to_string(&payload).map_err(|error| DatabaseError::Sql(error.to_string()))?;
        let post = CallbackPost { target: target.clone(), execution: execution.id.clone(), body };
        self.owe(&format!("{KEY}{}", execution.id), &Effect::Callback(Box::new(post)))
    }

    /// What became of a try.
    pub fn callback_outcome(&mut self, debt: &Debt<Effect>, outcome: Outcome) -> Result<(), DatabaseError> {
        match outcome {
            Outcome::Done | Outcome::Progress(_) => Owed::<Effect>::settle(self.db, &debt.key).map(drop),
            Outcome::Failed { .. } if debt.attempt < ATTEMPTS_MAX => {
                Owed::<Effect>::retry_at(self.db, &debt.key, self.now.saturating_add(pause_ms(debt.attempt)))
            }
            Outcome::Failed { .. } | Outcome::Refused { .. } if store::session_id(self.db)?.is_none() => {
                Owed::<Effect>::settle(self.db, &debt.key).map(drop)
            }
            Outcome::Failed { message, .. } | Outcome::Refused { message, .. } => {
                Owed::<Effect>::give_up(self.db, self.now, &debt.key, &message)?;
                Owed::<Effect>::keep_dead(self.db, LETTERS_KEPT)
            }
        }
    }
}

/// The pause after try number `attempt`: 60, 120, 240, 480 s.
pub fn pause_ms(attempt: i64) -> i64 {
    let doublings = u32::try_from(attempt.saturating_sub(1)).unwrap_or(0).min(8);
    (60 * SECOND).saturating_mul(1_i64.checked_shl(doublings).unwrap_or(1))
}

/// The callbacks that are not delivered.
pub fn undelivered(db: &dyn Database) -> Result<Vec<CallbackView>, DatabaseError> {
    let view = |letter: Letter| CallbackView {
        execution_id: letter
            .key
            .strip_prefix(KEY)
            .and_then(|id| ExecutionId::parse(id).ok())
            .map(String::from)
            .unwrap_or_default(),
        attempts: letter.attempt,
        given_up: letter.dead,
    };
    Ok(Owed::<Effect>::letters(db, KEY)?.into_iter().map(view).collect())
}

/// An execution is forgotten: nobody is told any more that its callback was given up.
pub fn forget_letter(db: &dyn Database, execution: &str) -> Result<(), DatabaseError> {
    Owed::<Effect>::forget_dead(db, &format!("{KEY}{execution}"))
}

/// What the execution's last word said of its gate. It was stored in this very transaction: the newest of the log. One that is too long to be kept is
/// left out: half of it would say something else.
fn gate_result(db: &dyn Database, execution: &ExecutionId) -> Result<Option<Value>, DatabaseError> {
    let rows = db.query("SELECT execution, type, data FROM log ORDER BY id DESC LIMIT 1", &[])?;
    let Some(row) = rows.first() else { return Ok(None) };
    let (of, kind): (String, String) = (row.get(0)?, row.get(1)?);
    if of != execution.as_str() || kind != "complete" {
        return Ok(None);
    }
    let mut data: Value = serde_json::from_str(&row.get::<String>(2)?).unwrap_or_default();
    let result = data.get_mut("gateResult").map(Value::take).filter(|result| !result.is_null());
    Ok(result.filter(|result| result.to_string().len() <= TEXT_BYTES_MAX))
}

/// The text of the agent's last message, from the log. The messages of its sub-agents are those of other sessions, and what it wrote when it condensed
/// the conversation is no answer.
fn last_assistant_text(db: &dyn Database, kilo_session: &KiloSessionId) -> Result<Option<String>, DatabaseError> {
    // JSON that is nested too deeply for SQLite is an error to `json_extract`.
    let rows = db.query(
        "SELECT substr(key, 9) FROM entity WHERE key >= 'message/' AND key < 'message0' AND CASE WHEN json_valid(data)
            THEN json_extract(data, '$.properties.info.role') = 'assistant' AND json_extract(data, '$.properties.info.sessionID') = ?
            AND json_extract(data, '$.properties.info.summary') IS NOT TRUE END
         ORDER BY id DESC LIMIT 1",
        &[kilo_session.as_str().into()],
    )?;
    rows.first().map(|row| text_of(db, &row.get::<String>(0)?)).transpose()
}

/// The text of a message, cut to what may be kept.
fn text_of(db: &dyn Database, message: &str) -> Result<String, DatabaseError> {
    let (from, to) = (format!("part/{message}/"), format!("part/{message}0"));
    let rows = db.query(
        "SELECT substr(json_extract(data, '$.properties.part.text'), 1, ?) FROM entity WHERE key >= ? AND key < ?
            AND CASE WHEN json_valid(data) THEN json_extract(data, '$.properties.part.type') = 'text' END
         ORDER BY key",
        // One character more than may be kept shows that there was more.
        &[TEXT_BYTES_MAX.saturating_add(1).try_into().unwrap_or(i64::MAX).into(), from.into(), to.into()],
    )?;
    let mut text = String::new();
    for row in &rows {
        text.push_str(&row.get::<Option<String>>(0)?.unwrap_or_default());
        if text.len() > TEXT_BYTES_MAX {
            break;
        }
    }
    Ok(cut(&text, TEXT_BYTES_MAX).into_owned())
}
