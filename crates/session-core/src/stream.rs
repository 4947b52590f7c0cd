//! Viewers: filters, replay, what is broadcast, and what `connected` says (spec/session.md 6, design 3).

use crate::Session;
use crate::Step;
use crate::message::Broadcast;
use crate::message::Output;
use crate::store;
use crate::store::Status;
use database::Database;
use database::DatabaseError;
use database::execute;
use object_core::event_log::NewEvent;
use object_core::event_log::replay_round;
use protocol::event::event_class;
use protocol::id::SessionId;
use protocol::sandbox;
use protocol::stream::CloudStatus;
use protocol::stream::StreamEvent;
use protocol::time::iso8601;
use protocol::time::parse_iso8601;
use serde::Deserialize;
use serde::Serialize;
use serde_json::Value;
use serde_json::json;
use serde_json::value::RawValue;
use serde_json::value::to_raw_value;

/// The most bytes of filter lists that a viewer may send: they are kept in the socket's attachment, which the platform bounds.
const FILTER_BYTES_MAX: usize = 8 * 1024;

/// Which events a viewer wants. All conditions hold together; absent ones do not matter.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filter {
    /// Replay only what comes after this event.
    pub from_id: i64,
    pub execution_ids: Vec<String>,
    pub event_types: Vec<String>,
    /// Inclusive.
    pub start_time: Option<i64>,
    /// Inclusive.
    pub end_time: Option<i64>,
    /// Whether stored events are sent at all.
    pub replay: bool,
    /// Whether several events may come in one frame, as an array.
    pub batch: bool,
}

impl Filter {
    /// Reads the query of `/stream`. What cannot be read is left out; None if the lists are too long.
    pub fn from_query<'a>(query: impl Iterator<Item = (&'a str, &'a str)>) -> Option<Self> {
        let mut filter = Self { replay: true, ..Self::default() };
        let mut bytes = 0_usize;
        for (name, value) in query {
            match name {
                "fromId" => filter.from_id = whole_number(value).unwrap_or(0),
                "executionIds" => filter.execution_ids = list(value),
                "eventTypes" => filter.event_types = list(value),
                "startTime" => filter.start_time = instant(value),
                "endTime" => filter.end_time = instant(value),
                "replay" => filter.replay = value != "false",
                "batch" => filter.batch = value == "1",
                _ => continue,
            }
            bytes = bytes.saturating_add(value.len());
        }
        (bytes <= FILTER_BYTES_MAX).then_some(filter)
    }

    /// Whether a viewer with this filter gets the event, live or replayed.
    pub fn admits(&self, execution: Option<&str>, kind: &str, at: i64) -> bool {
        let listed = |list: &[String], value: &str| list.is_empty() || list.iter().any(|item| item == value);
        listed(&self.execution_ids, execution.unwrap_or_default())
            && listed(&self.event_types, kind)
            && self.start_time.is_none_or(|start| at >= start)
            && self.end_time.is_none_or(|end| at <= end)
    }
}

fn list(value: &str) -> Vec<String> {
    value.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect()
}

fn whole_number(value: &str) -> Option<i64> {
    let digits = !value.is_empty() && value.chars().all(|c| c.is_ascii_digit());
    value.parse().ok().filter(|number| digits && *number <= database::INTEGER_MAX)
}

fn instant(value: &str) -> Option<i64> {
    whole_number(value).or_else(|| parse_iso8601(value))
}

/// One round of a replay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Round {
    /// To be sent, in order.
    pub frames: Vec<String>,
    /// From where the next round goes on.
    pub cursor: i64,
    /// How many bytes of data were read.
    pub bytes: i64,
    /// Whether the viewer has everything now.
    pub done: bool,
}

impl Session {
    /// The stored events after `cursor` that the filter admits, up to a round's budget.
    pub fn replay(&self, db: &dyn Database, filter: &Filter, cursor: i64) -> Result<Round, DatabaseError> {
        let events = replay_round(db, cursor, self.config.limits.replay_round_bytes)?;
        let session = store::session_id(db)?.map(String::from).unwrap_or_default();
        let mut round = Round { frames: vec![], cursor, bytes: 0, done: events.is_empty() };
        for event in events {
            round.cursor = event.id;
            round.bytes = round.bytes.saturating_add(i64::try_from(event.data.len()).unwrap_or(i64::MAX));
            if !filter.admits(Some(&event.execution), &event.kind, event.at) {
                continue;
            }
            let Ok(data) = serde_json::from_str::<&RawValue>(&event.data) else { continue };
            let frame = StreamEvent {
                event_id: event.id,
                execution_id: Some(event.execution.as_str().into()),
                session_id: session.as_str().into(),
                stream_event_type: event.kind.as_str().into(),
                timestamp: iso8601(event.at).into(),
                data,
            };
            round.frames.extend(serde_json::to_string(&frame));
        }
        Ok(round)
    }

    /// How much one connection may replay.
    pub fn replay_connection_bytes(&self) -> i64 {
        self.config.limits.replay_connection_bytes
    }

    /// The frame that ends a viewer's catch-up: what the cloud side is doing now.
    pub fn connected(&self, db: &dyn Database, now: i64, session: &SessionId) -> Result<String, DatabaseError> {
        let status = if self.exists(db)? { cloud_status(db)? } else { None };
        let data = match status {
            Some(status) => json!({ "cloudStatus": status }),
            None => json!({}),
        };
        let data = to_raw_value(&data).map_err(|error| DatabaseError::Sql(error.to_string()))?;
        frame(None, session.as_str(), "connected", now, 0, &data)
    }
}

/// What a viewer that comes now should see (spec/session.md 6.4).
fn cloud_status(db: &dyn Database) -> Result<Option<CloudStatus>, DatabaseError> {
    let status = |kind: &str, step: Option<String>, message: Option<String>| {
        Some(CloudStatus { kind: kind.to_owned(), step, message })
    };
    let Some(session) = store::session(db)? else {
        return Ok(store::tombstone(db)?.and_then(|message| status("error", None, Some(message))));
    };
    if let Some(work) = store::work(db)?.filter(|work| !work.ended) {
        return Ok(status("preparing", work.step, work.message));
    }
    Ok(match session.active {
        None => session.prepared_at.and_then(|_| status("ready", None, None)),
        Some(active) => match store::execution(db, &active)?.map(|execution| execution.status) {
            Some(Status::Pending) => status("preparing", None, None),
            Some(Status::Running) => status("ready", None, None),
            _ => None,
        },
    })
}

fn frame(
    execution: Option<&str>,
    session: &str,
    kind: &str,
    at: i64,
    event_id: i64,
    data: &RawValue,
) -> Result<String, DatabaseError> {
    let event = StreamEvent {
        event_id,
        execution_id: execution.map(Into::into),
        session_id: session.into(),
        stream_event_type: kind.into(),
        timestamp: iso8601(at).into(),
        data,
    };
    serde_json::to_string(&event).map_err(|error| DatabaseError::Sql(error.to_string()))
}

impl Step<'_> {
    /// A ticket is good for one connection. It is remembered for as long as it would be valid.
    pub fn stream_open(&mut self, nonce: &str, expires_at: i64) -> Result<(), DatabaseError> {
        execute(self.db, "DELETE FROM ticket WHERE expires_at <= ?", &[self.now.into()])?;
        let sql = "INSERT INTO ticket (nonce, expires_at) VALUES (?, ?) ON CONFLICT DO NOTHING RETURNING 1";
        let first = !self.db.query(sql, &[nonce.into(), expires_at.into()])?.is_empty();
        self.outputs.push(if first {
            Output::AcceptStream
        } else {
            Output::Refuse { status: 401, message: "Ticket already used".into() }
        });
        Ok(())
    }

    /// Sends one event to the viewers. `data` is JSON text and is not rebuilt.
    pub fn broadcast(
        &mut self,
        execution: Option<&str>,
        kind: &str,
        at: i64,
        event_id: i64,
        data: &str,
    ) -> Result<(), DatabaseError> {
        let Some(session) = store::session_id(self.db)? else { return Ok(()) };
        self.broadcast_of(&session, execution, kind, at, event_id, data)
    }

    fn broadcast_of(
        &mut self,
        session: &SessionId,
        execution: Option<&str>,
        kind: &str,
        at: i64,
        event_id: i64,
        data: &str,
    ) -> Result<(), DatabaseError> {
        let data: &RawValue = serde_json::from_str(data).map_err(|error| DatabaseError::Sql(error.to_string()))?;
        let text = frame(execution, session.as_str(), kind, at, event_id, data)?;
        let broadcast = Broadcast { execution: execution.map(str::to_owned), kind: kind.to_owned(), at, text };
        self.outputs.push(Output::Broadcast(broadcast));
        Ok(())
    }

    /// Stores an event of our own making, and sends it.
    pub fn store_and_broadcast(&mut self, execution: &str, kind: &str, data: &Value) -> Result<(), DatabaseError> {
        let raw = to_raw_value(data).map_err(|error| DatabaseError::Sql(error.to_string()))?;
        let event = NewEvent { execution, seq: None, kind, at: self.now, data: raw.get() };
        let id = self.log.append(self.db, &event_class(kind, &raw), event)?.unwrap_or(0);
        self.broadcast(Some(execution), kind, self.now, id, raw.get())
    }

    pub fn broadcast_cloud_status(
        &mut self,
        execution: &str,
        kind: &str,
        step: Option<&str>,
        message: Option<&str>,
    ) -> Result<(), DatabaseError> {
        let Some(session) = store::session_id(self.db)? else { return Ok(()) };
        self.cloud_status_of(&session, execution, kind, step, message)
    }

    fn cloud_status_of(
        &mut self,
        session: &SessionId,
        execution: &str,
        kind: &str,
        step: Option<&str>,
        message: Option<&str>,
    ) -> Result<(), DatabaseError> {
        let status =
            CloudStatus { kind: kind.to_owned(), step: step.map(str::to_owned), message: message.map(str::to_owned) };
        let data = json!({ "cloudStatus": status }).to_string();
        self.broadcast_of(session, Some(execution), "cloud.status", self.now, 0, &data)
    }

    pub fn broadcast_preparing(
        &mut self,
        source: &str,
        step: sandbox::Step,
        message: &str,
        branch: Option<&str>,
    ) -> Result<(), DatabaseError> {
        let Some(session) = store::session_id(self.db)? else { return Ok(()) };
        self.broadcast_preparing_of(&session, source, step, message, branch)
    }

    /// `preparing`, and the `cloud.status` that always comes with it. Volatile: stale progress is never replayed.
    pub fn broadcast_preparing_of(
        &mut self,
        session: &SessionId,
        source: &str,
        step: sandbox::Step,
        message: &str,
        branch: Option<&str>,
    ) -> Result<(), DatabaseError> {
        let mut data = json!({ "step": step, "message": message });
        if let (Some(branch), Some(fields)) = (branch, data.as_object_mut()) {
            fields.insert("branch".to_owned(), json!(branch));
        }
        self.broadcast_of(session, Some(source), "preparing", self.now, 0, &data.to_string())?;
        match step {
            sandbox::Step::Ready => self.cloud_status_of(session, source, "ready", None, None),
            sandbox::Step::Failed => self.cloud_status_of(session, source, "error", None, Some(message)),
            step => self.cloud_status_of(session, source, "preparing", Some(step.as_str()), Some(message)),
        }
    }
}
