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
use protocol::event::EventClass;
use protocol::event::event_class;
use protocol::id::ExecutionId;
use protocol::id::SessionId;
use protocol::ingest::FRAME_BYTES_MAX;
use protocol::ingest::FRAME_EVENTS_MAX;
use protocol::sandbox;
use protocol::stream::CloudStatus;
use protocol::stream::StreamHead;
use protocol::time::iso8601;
use protocol::time::parse_iso8601;
use serde::Deserialize;
use serde::Serialize;
use serde_json::Value;
use serde_json::json;
use serde_json::value::to_raw_value;

/// The most bytes of filter lists that a viewer may send: they are kept in the socket's attachment, which the platform bounds to 16 KiB, in a form
/// that may take two bytes for one.
const FILTER_BYTES_MAX: usize = 4 * 1024;

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
    pub fn admits(&self, execution: &str, kind: &str, at: i64) -> bool {
        let listed = |list: &[String], value: &str| list.is_empty() || list.iter().any(|item| item == value);
        listed(&self.execution_ids, execution)
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
    /// How many bytes of data are in the frames. What the filter leaves out counts for no connection: the viewer that came again would read it again.
    pub bytes: i64,
    /// Whether the viewer has everything now.
    pub done: bool,
}

/// The frames as JSON arrays, for a viewer that asked for that: each of at most 500 events and about 1 MiB.
pub fn arrays<'a>(frames: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut arrays: Vec<String> = vec![];
    let mut events = 0_usize;
    for frame in frames {
        match arrays.last_mut() {
            Some(array) if events < FRAME_EVENTS_MAX && array.len().saturating_add(frame.len()) < FRAME_BYTES_MAX => {
                array.push(',');
                array.push_str(frame);
            }
            _ => {
                arrays.push(format!("[{frame}"));
                events = 0;
            }
        }
        events = events.saturating_add(1);
    }
    arrays.iter_mut().for_each(|array| array.push(']'));
    arrays
}

impl Session {
    /// The stored events after `cursor` that the filter admits, up to a round's budget.
    pub fn replay(&self, db: &dyn Database, filter: &Filter, cursor: i64) -> Result<Round, DatabaseError> {
        let events = replay_round(db, cursor, self.config.limits.replay_round_bytes)?;
        let session = store::session_id(db)?.map(String::from).unwrap_or_default();
        let mut round = Round { frames: vec![], cursor, bytes: 0, done: events.is_empty() };
        for event in events {
            round.cursor = event.id;
            if !filter.admits(&event.execution, &event.kind, event.at) {
                continue;
            }
            round.bytes = round.bytes.saturating_add(i64::try_from(event.data.len()).unwrap_or(i64::MAX));
            round.frames.push(frame(Some(&event.execution), &session, &event.kind, event.at, event.id, &event.data)?);
        }
        Ok(round)
    }

    /// How much one connection may replay.
    pub fn replay_connection_bytes(&self) -> i64 {
        self.config.limits.replay_connection_bytes
    }

    /// The active execution.
    pub fn active(&self, db: &dyn Database) -> Result<Option<ExecutionId>, DatabaseError> {
        if !self.exists(db)? {
            return Ok(None);
        }
        Ok(store::active_execution(db)?.map(|execution| execution.id))
    }

    /// The frame that ends a viewer's catch-up: what the cloud side is doing now.
    pub fn connected(&self, db: &dyn Database, now: i64, session: &SessionId) -> Result<String, DatabaseError> {
        let status = if self.exists(db)? { cloud_status(db)? } else { None };
        let data = match status {
            Some(status) => json!({ "cloudStatus": status }),
            None => json!({}),
        };
        frame(None, session.as_str(), "connected", now, 0, &data.to_string())
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

/// A viewer's frame. `data` is JSON text and is taken as it is: it was parsed on its way in.
fn frame(
    execution: Option<&str>,
    session: &str,
    kind: &str,
    at: i64,
    event_id: i64,
    data: &str,
) -> Result<String, DatabaseError> {
    let head = StreamHead {
        event_id,
        execution_id: execution,
        session_id: session,
        stream_event_type: kind,
        timestamp: &iso8601(at),
    };
    head.with_data(data).map_err(|error| DatabaseError::Sql(error.to_string()))
}

impl Step<'_> {
    /// A ticket is good for one connection. It is remembered for as long as it would be valid.
    pub fn stream_open(&mut self, nonce: &str, expires_at: i64) -> Result<(), DatabaseError> {
        if store::session_id(self.db)?.is_none() && store::tombstone(self.db)?.is_none() {
            self.outputs.push(Output::Refuse { status: 404, message: "Session not found".into() });
            return Ok(());
        }
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

    /// Sends an event to the viewers: one frame, whatever their number. `event_id` is 0 for one that is not stored.
    pub fn broadcast(&mut self, event: NewEvent, event_id: i64) -> Result<(), DatabaseError> {
        if self.facts.viewers == 0 {
            return Ok(());
        }
        if self.session.is_none() {
            self.session = store::session_id(self.db)?;
        }
        let Some(session) = &self.session else { return Ok(()) };
        let NewEvent { execution, kind, at, data, .. } = event;
        let text = frame(Some(execution), session.as_str(), kind, at, event_id, data)?;
        let broadcast = Broadcast { execution: execution.to_owned(), kind: kind.to_owned(), at, text };
        self.outputs.push(Output::Broadcast(broadcast));
        Ok(())
    }

    /// Sends an event of our own making that is not stored.
    pub fn broadcast_volatile(&mut self, execution: &str, kind: &str, data: &Value) -> Result<(), DatabaseError> {
        let data = data.to_string();
        self.broadcast(NewEvent { execution, seq: None, kind, at: self.now, data: &data }, 0)
    }

    /// Stores an event by its class, and returns its id: 0 for a volatile one. An event may overwrite what carries the last number of the execution
    /// before: a wrapper that still delivers has to be told the number that it was acknowledged.
    pub fn store_event(&mut self, class: &EventClass, event: NewEvent) -> Result<i64, DatabaseError> {
        if class.is_stored()
            && let Some((ended, last_seq)) = self.log.ended_by(self.db, event.execution)?
        {
            execute(
                self.db,
                "UPDATE execution SET last_seq = MAX(last_seq, ?) WHERE id = ?",
                &[last_seq.into(), ended.into()],
            )?;
        }
        Ok(self.log.append(self.db, class, event)?.unwrap_or(0))
    }

    /// Stores an event of our own making, and sends it.
    pub fn store_and_broadcast(&mut self, execution: &str, kind: &str, data: &Value) -> Result<(), DatabaseError> {
        let raw = to_raw_value(data).map_err(|error| DatabaseError::Sql(error.to_string()))?;
        let event = NewEvent { execution, seq: None, kind, at: self.now, data: raw.get() };
        let id = self.store_event(&event_class(kind, &raw), event)?;
        self.broadcast(event, id)
    }

    pub fn broadcast_cloud_status(
        &mut self,
        execution: &str,
        kind: &str,
        step: Option<&str>,
        message: Option<&str>,
    ) -> Result<(), DatabaseError> {
        let status =
            CloudStatus { kind: kind.to_owned(), step: step.map(str::to_owned), message: message.map(str::to_owned) };
        self.broadcast_volatile(execution, "cloud.status", &json!({ "cloudStatus": status }))
    }

    /// `preparing`, and the `cloud.status` that always comes with it. Volatile: stale progress is never replayed.
    pub fn broadcast_preparing(
        &mut self,
        source: &str,
        step: sandbox::Step,
        message: &str,
    ) -> Result<(), DatabaseError> {
        self.broadcast_volatile(source, "preparing", &json!({ "step": step, "message": message }))?;
        match step {
            sandbox::Step::Failed => self.broadcast_cloud_status(source, "error", None, Some(message)),
            step => self.broadcast_cloud_status(source, "preparing", Some(step.as_str()), Some(message)),
        }
    }

    /// The last step of a preparation that went well: on which branch, and how the conversation was found.
    pub fn broadcast_ready(
        &mut self,
        source: &str,
        branch: Option<&str>,
        resume: Option<sandbox::Resume>,
    ) -> Result<(), DatabaseError> {
        let mut data = json!({ "step": sandbox::Step::Ready, "message": READY });
        if let Some(fields) = data.as_object_mut() {
            fields.extend(branch.map(|branch| ("branch".to_owned(), json!(branch))));
            fields.extend(resume.map(|resume| ("resume".to_owned(), json!(resume))));
        }
        self.broadcast_volatile(source, "preparing", &data)?;
        self.broadcast_cloud_status(source, "ready", None, None)
    }
}

/// The message of the step `ready` (spec/session.md 7.3).
pub const READY: &str = "Session ready";
