//! The wrapper's socket: handshake, frames, disconnects (spec/session.md 5, design 3).
//!
//! A frame is taken whole or not at all, and acknowledged after the write. Frames that arrived together are one transaction. The grace decides the
//! state, never the log: within the drain window a wrapper whose execution has ended may still deliver, and lifecycle frames then change nothing. After it
//! nothing is taken any more, neither from who connects nor from who never left.

use crate::Step;
use crate::limits::BRANCH_BYTES_MAX;
use crate::message::IngestFrame;
use crate::message::IngestOpen;
use crate::message::Output;
use crate::message::Proof;
use crate::question::is_question;
use crate::store;
use crate::store::ExecutionRow;
use crate::store::Status;
use database::DatabaseError;
use database::INTEGER_MAX;
use database::execute;
use object_core::entropy::constant_time_eq;
use object_core::entropy::sha256_hex;
use object_core::event_log::NewEvent;
use protocol::event::EventClass;
use protocol::event::KILOCODE;
use protocol::event::event_class;
use protocol::id::ExecutionId;
use protocol::ingest::CLOSE_GAP;
use protocol::ingest::CLOSE_OVER;
use protocol::ingest::Command;
use protocol::ingest::FRAME_BYTES_MAX;
use protocol::ingest::FRAME_EVENTS_MAX;
use protocol::ingest::FrameError;
use protocol::ingest::IngestEvent;
use protocol::ingest::parse_frame;
use protocol::time::parse_iso8601;
use serde::Deserialize;
use serde_json::Value;
use serde_json::json;

/// What the frames of a run say about their wrapper.
#[derive(Clone, Copy, Default)]
struct Signs {
    /// There was a frame that could be read.
    alive: bool,
    /// There was more than heartbeats.
    active: bool,
}

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
        let last_seq = self.log.last_seq(self.db, open.execution.as_str(), execution.last_seq)?.unsigned_abs();
        let mut commands = vec![Command::Resume { last_seq }];
        if execution.status.is_terminal() || execution.interrupted {
            commands.push(Command::Kill { signal: None });
        }
        if let Some(generation) = open.generation.filter(|generation| *generation > execution.generation) {
            execute(
                self.db,
                "UPDATE execution SET generation = ? WHERE id = ?",
                &[generation.into(), open.execution.as_str().into()],
            )?;
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
            self.broadcast_volatile(open.execution.as_str(), "wrapper_reconnected", &json!({}))?;
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
        if execution.status.is_terminal() && !self.may_drain(execution, open.generation) {
            return Err((409, CLOSE_OVER.1));
        }
        Ok(())
    }

    /// Whether a wrapper may still deliver what it has of an execution that is over: only the one that ran it, which has connected before, or of which
    /// its container has said so. Any other has begun too late, and must not hand the agent its prompt: who asked for the turn was told that it
    /// failed, and may ask again.
    fn may_drain(&self, execution: &ExecutionRow, generation: Option<i64>) -> bool {
        let has_run = execution.heartbeat_at.is_some() || execution.accepted_at.is_some();
        let ran_it = has_run && generation == Some(execution.generation);
        ran_it && !self.is_drained(execution)
    }

    /// Whether the execution has been over for so long that nothing of it is taken any more.
    fn is_drained(&self, execution: &ExecutionRow) -> bool {
        let until = execution.completed_at.map(|at| at.saturating_add(self.config.limits.ingest_drain_ms));
        until.is_some_and(|until| until <= self.now)
    }

    /// Frames of one execution share its row, which they write at the end, if at all.
    pub fn ingest_frames(&mut self, frames: &[IngestFrame]) -> Result<(), DatabaseError> {
        for run in frames.chunk_by(|frame, next| frame.execution == next.execution) {
            let Some(id) = run.first().map(|frame| &frame.execution) else { continue };
            let Some(execution) = store::execution(self.db, id)? else {
                for frame in run {
                    self.answer_error(frame.socket, "WS_INTERNAL_ERROR", "Unknown execution");
                }
                continue;
            };
            if self.is_drained(&execution) {
                self.close_all_of(run);
                continue;
            }
            let mut signs = Signs::default();
            for frame in run {
                self.ingest_frame(frame, execution.last_seq, &mut signs)?;
            }
            self.note_activity(&execution, signs)?;
        }
        Ok(())
    }

    /// Closes the sockets of these frames. A wrapper that connects again is refused, and gives up.
    fn close_all_of(&mut self, run: &[IngestFrame]) {
        let (code, reason) = CLOSE_OVER;
        for frames in run.chunk_by(|frame, next| frame.socket == next.socket) {
            let socket = frames.first().map(|frame| frame.socket);
            self.outputs.extend(socket.map(|socket| Output::Close { socket, code, reason: reason.to_owned() }));
        }
    }

    fn ingest_frame(&mut self, frame: &IngestFrame, kept_seq: i64, signs: &mut Signs) -> Result<(), DatabaseError> {
        let IngestFrame { socket, execution: id, text } = frame;
        let events = match parse_frame(text) {
            Ok(events) => events,
            Err(error) => {
                self.answer_frame_error(*socket, error);
                return Ok(());
            }
        };
        let last_seq = self.log.last_seq(self.db, id.as_str(), kept_seq)?;
        let Ok(followed) = follow(last_seq, &events) else {
            let reason = format!("Gap after seq {last_seq}");
            self.outputs.push(Output::Close { socket: *socket, code: CLOSE_GAP, reason });
            return Ok(());
        };
        for event in &followed.new {
            self.take_event(id, event)?;
        }
        signs.alive = true;
        signs.active |= events.iter().any(|event| event.stream_event_type != "heartbeat");
        if let Some(seq) = followed.acknowledge {
            self.outputs.push(Output::Answer { socket: *socket, command: Command::Ack { seq: seq.unsigned_abs() } });
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
        let event_id = self.store_event(&class, new)?;
        self.broadcast(new, event_id)?;
        match (kind, class) {
            // Parts and messages are the bulk, and never questions.
            (KILOCODE, EventClass::Entity(_)) => Ok(()),
            (KILOCODE, _) if is_question(data.get()) => match store::execution(self.db, id)? {
                Some(execution) if !execution.status.is_terminal() => self.note_question(&execution, data.get()),
                _ => Ok(()),
            },
            (KILOCODE, _) => Ok(()),
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
                if valid && let Some(branch) = text("currentBranch").filter(|branch| branch.len() <= BRANCH_BYTES_MAX) {
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
                if self.end_execution(id, Status::Interrupted, Some(reason))? {
                    self.broadcast_cloud_status(id.as_str(), "ready", None, None)?;
                }
            }
            "autocommit_started" if self.is_live(id)? => {
                self.broadcast_cloud_status(
                    id.as_str(),
                    "finalizing",
                    Some("committing"),
                    Some("Committing changes..."),
                )?;
            }
            "autocommit_completed" if self.is_live(id)? => {
                self.broadcast_cloud_status(id.as_str(), "ready", None, None)?
            }
            _ => {}
        }
        Ok(())
    }

    fn is_live(&self, id: &ExecutionId) -> Result<bool, DatabaseError> {
        Ok(store::execution(self.db, id)?.is_some_and(|execution| !execution.status.is_terminal()))
    }

    /// Every frame is a sign of life; every event but a heartbeat is activity. Written at most once in 30 s.
    fn note_activity(&mut self, execution: &ExecutionRow, signs: Signs) -> Result<(), DatabaseError> {
        let due = |last: Option<i64>| {
            last.is_none_or(|at| at.saturating_add(self.config.limits.activity_interval_ms) <= self.now)
        };
        let event_at = if signs.active && due(execution.event_at) { Some(self.now) } else { None };
        if event_at.is_none() && !(signs.alive && due(execution.heartbeat_at)) {
            return Ok(());
        }
        execute(
            self.db,
            "UPDATE execution SET heartbeat_at = ?, event_at = COALESCE(?, event_at) WHERE id = ? AND completed_at IS NULL",
            &[self.now.into(), event_at.into(), execution.id.as_str().into()],
        )
    }

    fn answer_error(&mut self, socket: usize, code: &str, message: &str) {
        let command = Command::Error { code: code.to_owned(), message: message.to_owned() };
        self.outputs.push(Output::Answer { socket, command });
    }

    fn answer_frame_error(&mut self, socket: usize, error: FrameError) {
        let (code, message) = match error {
            FrameError::MissingType => ("WS_PROTOCOL_ERROR", "Missing streamEventType field".to_owned()),
            FrameError::Malformed(words) => ("WS_INTERNAL_ERROR", words),
            FrameError::EventCount(count) => {
                ("WS_PROTOCOL_ERROR", format!("A frame holds 1 to {FRAME_EVENTS_MAX} events, not {count}"))
            }
            FrameError::TooLarge(bytes) => {
                ("WS_PROTOCOL_ERROR", format!("A frame is at most {FRAME_BYTES_MAX} bytes, not {bytes}"))
            }
        };
        self.answer_error(socket, code, &message);
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
        // Beyond it no database keeps a number.
        let seq = i64::try_from(seq).ok().filter(|seq| *seq <= INTEGER_MAX).ok_or(())?;
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
