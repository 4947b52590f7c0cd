//! The wrapper's socket: handshake, frames, disconnects (spec/session.md 5, design 3).
//!
//! A frame is one transaction: all of its events are stored and then acknowledged, or none is. The grace decides the state, never the log: within
//! the drain window a wrapper whose execution has ended may still deliver, and lifecycle frames then change nothing.

use crate::Step;
use crate::message::IngestOpen;
use crate::message::Output;
use crate::message::Proof;
use crate::store;
use crate::store::ExecutionRow;
use crate::store::Status;
use database::DatabaseError;
use database::execute;
use object_core::entropy::constant_time_eq;
use object_core::entropy::sha256_hex;
use object_core::event_log::NewEvent;
use protocol::event::EventClass;
use protocol::event::KILOCODE;
use protocol::event::event_class;
use protocol::id::ExecutionId;
use protocol::ingest::CLOSE_GAP;
use protocol::ingest::Command;
use protocol::ingest::FrameError;
use protocol::ingest::IngestEvent;
use protocol::ingest::parse_frame;
use protocol::time::parse_iso8601;
use serde::Deserialize;
use serde_json::Value;
use serde_json::json;
use std::borrow::Cow;

impl Step<'_> {
    pub fn ingest_open(&mut self, open: &IngestOpen) -> Result<(), DatabaseError> {
        let Some(execution) = store::execution(self.db, &open.execution)? else {
            self.refuse(404, "Execution not found");
            return Ok(());
        };
        if let Err((status, message)) = self.admit(&execution, open) {
            self.refuse(status, message);
            return Ok(());
        }
        let last_seq = self.log.last_seq(self.db, open.execution.as_str())?.unsigned_abs();
        let mut commands = vec![Command::Resume { last_seq }];
        if execution.status.is_terminal() || execution.interrupted {
            commands.push(Command::Kill { signal: None });
        }
        if !execution.status.is_terminal() {
            let status = if execution.status == Status::Pending { Status::Running } else { execution.status };
            execute(
                self.db,
                "UPDATE execution SET status = ?, heartbeat_at = ?, disconnected_at = NULL WHERE id = ?",
                &[status.as_str().into(), self.now.into(), open.execution.as_str().into()],
            )?;
        }
        self.outputs.push(Output::AcceptIngest { execution: open.execution.clone(), commands });
        if execution.disconnected_at.is_some() {
            self.broadcast(Some(open.execution.as_str()), "wrapper_reconnected", self.now, 0, "{}")?;
        }
        Ok(())
    }

    fn refuse(&mut self, status: u16, message: &str) {
        self.outputs.push(Output::Refuse { status, message: message.to_owned() });
    }

    fn admit(&self, execution: &ExecutionRow, open: &IngestOpen) -> Result<(), (u16, &'static str)> {
        if let Proof::Secret(secret) = &open.proof
            && !constant_time_eq(&sha256_hex(secret), &execution.ingest_hash)
        {
            return Err((401, "Invalid executionId"));
        }
        let current = execution.generation;
        if open.generation.is_some_and(|generation| generation < current) {
            return Err((409, "Stale wrapper generation"));
        }
        let drained =
            execution.completed_at.is_some_and(|at| at.saturating_add(self.config.limits.ingest_drain_ms) <= self.now);
        if execution.status.is_terminal() && (drained || open.generation != Some(current)) {
            return Err((409, "Execution not active"));
        }
        Ok(())
    }

    pub fn ingest_frame(&mut self, id: &ExecutionId, text: &str) -> Result<(), DatabaseError> {
        let Some(execution) = store::execution(self.db, id)? else {
            self.answer_error("WS_INTERNAL_ERROR", "Unknown execution");
            return Ok(());
        };
        let events = match parse_frame(text) {
            Ok(events) => events,
            Err(error) => {
                self.answer_frame_error(error);
                return Ok(());
            }
        };
        let last_seq = self.log.last_seq(self.db, id.as_str())?;
        let Ok(frame) = follow(last_seq, &events) else {
            self.outputs.push(Output::Close { code: CLOSE_GAP, reason: format!("Gap after seq {last_seq}") });
            return Ok(());
        };
        for event in &frame.new {
            self.take_event(id, event)?;
        }
        self.note_activity(&execution, &events)?;
        if let Some(seq) = frame.acknowledge {
            self.outputs.push(Output::Answer(Command::Ack { seq: seq.unsigned_abs() }));
        }
        Ok(())
    }

    fn take_event(&mut self, id: &ExecutionId, event: &IngestEvent) -> Result<(), DatabaseError> {
        let kind = event.stream_event_type.as_ref();
        let data = event.data();
        let class = match event_class(kind, data) {
            // Its producer, of another version, means to keep it; without a row its number would be a gap.
            EventClass::Volatile if event.seq.is_some() => EventClass::Log,
            class => class,
        };
        let at = event.timestamp.as_deref().and_then(parse_iso8601).unwrap_or(self.now);
        let seq = event.seq.and_then(|seq| i64::try_from(seq).ok());
        let new = NewEvent { execution: id.as_str(), seq, kind, at, data: data.get() };
        let event_id = self.log.append(self.db, &class, new)?.unwrap_or(0);
        self.broadcast(Some(id.as_str()), kind, at, event_id, data.get())?;
        match (kind, class) {
            // Parts and messages are the bulk, and never questions.
            (KILOCODE, EventClass::Entity(_)) => Ok(()),
            (KILOCODE, _) if is_question(data.get()) => match store::execution(self.db, id)? {
                Some(execution) => self.note_question(&execution, data.get()),
                None => Ok(()),
            },
            (_, EventClass::Log) => self.lifecycle(id, kind, data.get()),
            _ => Ok(()),
        }
    }

    /// Lifecycle frames, spec/session.md 5.2. For an execution that has ended they change nothing.
    fn lifecycle(&mut self, id: &ExecutionId, kind: &str, data: &str) -> Result<(), DatabaseError> {
        let data: Value = serde_json::from_str(data).unwrap_or_default();
        let text = |name: &str| data.get(name).and_then(Value::as_str);
        match kind {
            "complete" => {
                let valid = data.get("exitCode").is_some_and(Value::is_number);
                if valid && let Some(branch) = text("currentBranch") {
                    execute(
                        self.db,
                        "UPDATE session SET branch = ? WHERE active = ?",
                        &[branch.into(), id.as_str().into()],
                    )?;
                }
                if valid && self.end_execution(id, Status::Completed, None)? {
                    self.broadcast_cloud_status(id.as_str(), "ready", None, None)?;
                }
            }
            "error" => {
                let fatal = data.get("fatal") == Some(&json!(true));
                let error = text("error").or(text("message")).unwrap_or("Fatal error");
                if fatal && self.end_execution(id, Status::Failed, Some(error))? {
                    self.broadcast_cloud_status(id.as_str(), "error", None, Some(error))?;
                }
            }
            "interrupted" => {
                let reason = text("reason").unwrap_or("User interrupted");
                self.end_execution(id, Status::Interrupted, Some(reason))?;
            }
            "autocommit_started" => {
                self.broadcast_cloud_status(
                    id.as_str(),
                    "finalizing",
                    Some("committing"),
                    Some("Committing changes..."),
                )?;
            }
            "autocommit_completed" => self.broadcast_cloud_status(id.as_str(), "ready", None, None)?,
            _ => {}
        }
        Ok(())
    }

    /// A pending question or permission suspends the hung deadline: the agent waits for a person (design 6). The end of a turn ends them all.
    fn note_question(&mut self, execution: &ExecutionRow, data: &str) -> Result<(), DatabaseError> {
        let Ok(event) = serde_json::from_str::<Asked>(data) else { return Ok(()) };
        let properties = event.properties.unwrap_or_default();
        let mut waiting = execution.waiting.clone();
        match event.event.unwrap_or_default().as_ref() {
            "question.asked" | "permission.asked" => {
                waiting.extend(properties.id.map(Cow::into_owned).filter(|id| !execution.waiting.contains(id)));
            }
            "question.replied" | "question.rejected" | "permission.replied" => {
                waiting.retain(|id| Some(id.as_str()) != properties.request_id.as_deref());
            }
            "session.turn.close" => waiting.clear(),
            _ => return Ok(()),
        }
        waiting.truncate(QUESTIONS_MAX);
        if waiting == execution.waiting {
            return Ok(());
        }
        let list = serde_json::to_string(&waiting).unwrap_or_default();
        execute(
            self.db,
            "UPDATE execution SET waiting = ?, event_at = ? WHERE id = ?",
            &[list.into(), self.now.into(), execution.id.as_str().into()],
        )
    }

    /// Every frame is a sign of life; every event but a heartbeat is activity. Written at most once in 30 s.
    fn note_activity(&mut self, execution: &ExecutionRow, events: &[IngestEvent]) -> Result<(), DatabaseError> {
        let due = |last: Option<i64>| {
            last.is_none_or(|at| at.saturating_add(self.config.limits.activity_interval_ms) <= self.now)
        };
        let active = events.iter().any(|event| event.stream_event_type != "heartbeat");
        let event_at = if active && due(execution.event_at) { Some(self.now) } else { None };
        if event_at.is_none() && !due(execution.heartbeat_at) {
            return Ok(());
        }
        execute(
            self.db,
            "UPDATE execution SET heartbeat_at = ?, event_at = COALESCE(?, event_at) WHERE id = ? AND completed_at IS NULL",
            &[self.now.into(), event_at.into(), execution.id.as_str().into()],
        )
    }

    fn answer_error(&mut self, code: &str, message: &str) {
        let command = Command::Error { code: code.to_owned(), message: message.to_owned() };
        self.outputs.push(Output::Answer(command));
    }

    fn answer_frame_error(&mut self, error: FrameError) {
        match error {
            FrameError::MissingType => self.answer_error("WS_PROTOCOL_ERROR", "Missing streamEventType field"),
            FrameError::Malformed(words) => self.answer_error("WS_INTERNAL_ERROR", &words),
            FrameError::EventCount(count) => {
                self.answer_error("WS_PROTOCOL_ERROR", &format!("A frame holds 1 to 500 events, not {count}"));
            }
            FrameError::TooLarge(bytes) => {
                self.answer_error("WS_PROTOCOL_ERROR", &format!("A frame is at most 1048576 bytes, not {bytes}"));
            }
        }
    }

    pub fn ingest_closed(&mut self, id: &ExecutionId, code: u16, reason: &str) -> Result<(), DatabaseError> {
        if self.facts.ingest.iter().any(|open| open == id.as_str()) {
            return Ok(());
        }
        self.begin_grace(id, Some(code), reason)
    }

    /// A kill or a deploy sends no close event: a running execution without a socket enters its grace.
    pub fn woke(&mut self) -> Result<(), DatabaseError> {
        match store::active_execution(self.db)? {
            Some(row)
                if row.status == Status::Running && !self.facts.ingest.iter().any(|open| open == row.id.as_str()) =>
            {
                self.begin_grace(&row.id, None, "Connection lost while the object was away")
            }
            _ => Ok(()),
        }
    }

    fn begin_grace(&mut self, id: &ExecutionId, code: Option<u16>, reason: &str) -> Result<(), DatabaseError> {
        execute(
            self.db,
            "UPDATE execution SET disconnected_at = ?, close_code = ?, close_reason = ?
             WHERE id = ? AND completed_at IS NULL AND disconnected_at IS NULL AND id = (SELECT active FROM session)",
            &[self.now.into(), code.map(i64::from).into(), reason.into(), id.as_str().into()],
        )
    }
}

/// The most questions that are remembered as pending.
const QUESTIONS_MAX: usize = 20;

/// What an agent event says of a question.
#[derive(Deserialize)]
struct Asked<'a> {
    #[serde(borrow)]
    event: Option<Cow<'a, str>>,
    #[serde(borrow)]
    properties: Option<AskedProperties<'a>>,
}

#[derive(Default, Deserialize)]
struct AskedProperties<'a> {
    #[serde(borrow)]
    id: Option<Cow<'a, str>>,
    #[serde(borrow, rename = "requestID")]
    request_id: Option<Cow<'a, str>>,
}

/// A cheap look before the row is read: text deltas are the bulk of the volatile events.
fn is_question(data: &str) -> bool {
    ["question.", "permission.", "session.turn.close"].iter().any(|name| data.contains(name))
}

/// A frame that continues the log.
struct Followed<'a, 'b> {
    /// The events that are not in the log yet.
    new: Vec<&'a IngestEvent<'b>>,
    /// The last number that is stored then, if the frame held any.
    acknowledge: Option<i64>,
}

/// Checks that the numbered events of a frame continue the log; `Err` is a gap.
fn follow<'a, 'b>(last_seq: i64, events: &'a [IngestEvent<'b>]) -> Result<Followed<'a, 'b>, ()> {
    let mut last = last_seq;
    let mut followed = Followed { new: Vec::with_capacity(events.len()), acknowledge: None };
    for event in events {
        let Some(seq) = event.seq else {
            followed.new.push(event);
            continue;
        };
        let seq = i64::try_from(seq).map_err(|_| ())?;
        let next = last.saturating_add(1);
        if seq == next || lost_range(event) == Some((next, seq)) {
            last = seq;
            followed.new.push(event);
        } else if seq > next {
            return Err(());
        }
        followed.acknowledge = Some(last);
    }
    Ok(followed)
}

/// The range that a spool gave up: one event stands for all of it, and carries its last number.
fn lost_range(event: &IngestEvent) -> Option<(i64, i64)> {
    #[derive(Deserialize)]
    struct Lost {
        from: i64,
        to: i64,
    }
    if event.stream_event_type != "events_lost" {
        return None;
    }
    serde_json::from_str::<Lost>(event.data().get()).ok().map(|lost| (lost.from, lost.to))
}
