//! The agent server, as far as `sandboxd` sees it (spec/kilo.md): it takes a prompt, works through it, says so on its event stream, can be asked what
//! it has, and can be stopped. Its storage is on the container's disk.

use super::driver::RESUBSCRIBE_MS;
use super::script;
use super::script::Beat;
use super::worker::Worker;
use super::world::World;
use crate::sessions::faults;
use protocol::sandbox::TurnPlan;
use protocol::verdict::Verdict;
use sandbox_core::gap::Answers;
use serde_json::Value;
use serde_json::json;
use std::collections::VecDeque;

/// Between two heartbeats of the event stream.
const HEARTBEAT_MS: i64 = 10_000;

/// A running agent server.
pub struct Agent {
    pub id: u64,
    pub busy: bool,
    /// What it will do, each after a pause in milliseconds.
    beats: VecDeque<(i64, Beat)>,
    next_at: Option<i64>,
    /// When the subscription opens, and when it is heard next.
    opens_at: Option<i64>,
    heartbeat_at: Option<i64>,
    /// What it asks a person: the id, and whether it is a permission.
    pub waiting: Vec<(String, bool)>,
    /// The message that it writes.
    message: String,
    asked: u64,
}

/// The agent server's storage.
#[derive(Clone, Default)]
pub struct Store {
    /// Messages with their parts.
    messages: Vec<(Value, Vec<Value>)>,
}

impl Agent {
    pub fn new(id: u64) -> Self {
        Self {
            id,
            busy: false,
            beats: VecDeque::new(),
            next_at: None,
            opens_at: None,
            heartbeat_at: None,
            waiting: Vec::new(),
            message: String::new(),
            asked: 0,
        }
    }

    /// A new subscription, which is heard from `at` on.
    pub fn subscribed(&mut self, at: i64) {
        (self.opens_at, self.heartbeat_at) = (Some(at), None);
    }

    pub fn wakes_at(&self) -> Option<i64> {
        [self.next_at, self.opens_at, self.heartbeat_at].into_iter().flatten().min()
    }
}

impl World<'_> {
    /// Does one thing that is due. False: nothing is.
    pub fn agent_lives(&mut self, w: &mut Worker) -> bool {
        let now = self.now;
        let Some(agent) = &mut w.agent else { return false };
        let due = |at: Option<i64>| at.is_some_and(|at| at <= now);
        if due(agent.opens_at) {
            (agent.opens_at, agent.heartbeat_at) = (None, Some(now + HEARTBEAT_MS));
            self.emit(w, &json!({"type": "server.connected", "properties": {}}));
            return true;
        }
        if due(agent.heartbeat_at) {
            agent.heartbeat_at = Some(now + HEARTBEAT_MS);
            self.emit(w, &json!({"type": "server.heartbeat", "properties": {}}));
            return true;
        }
        if !due(agent.next_at) {
            return false;
        }
        let beat = agent.beats.pop_front();
        agent.next_at = agent.beats.front().map(|(pause, _)| now + pause);
        if let Some((_, beat)) = beat {
            self.beat(w, beat);
        }
        true
    }

    /// Says something on the event stream, if anybody listens.
    fn emit(&mut self, w: &mut Worker, event: &Value) {
        let listens = w.agent.as_ref().is_some_and(|agent| agent.heartbeat_at.is_some());
        if !listens || w.run.as_ref().is_none_or(|run| run.decoder.is_none()) {
            return;
        }
        if self.run.fault(faults::STREAM_BREAKS) {
            return self.stream_breaks(w);
        }
        let bytes = format!("data: {event}\n\n").into_bytes();
        let cut = usize::try_from(self.run.random.below("chunk", 1 + bytes.len() as u64)).unwrap_or(0);
        let (head, tail) = bytes.split_at(cut);
        self.chunk(w, head);
        self.chunk(w, tail);
    }

    /// The event stream ends; what is said meanwhile is not said again.
    pub fn stream_breaks(&mut self, w: &mut Worker) {
        let again_at = self.now + RESUBSCRIBE_MS;
        let Some(run) = &mut w.run else { return };
        if run.decoder.take().is_none() {
            return;
        }
        run.resubscribe_at = run.gone_unseen.then_some(again_at);
        if let Some(agent) = &mut w.agent {
            (agent.opens_at, agent.heartbeat_at) = (None, None);
        }
        self.run.note(|| format!("process {}: the agent's event stream breaks", w.pid));
    }

    /// A prompt. Returns how long the answer takes, and what it is.
    pub fn agent_prompted(&mut self, w: &mut Worker, plan: &TurnPlan) -> (i64, Result<(), String>) {
        let ms = self.run.random.between("prompt", 30, 2_500);
        let (now, clock) = (self.now, w.now(self.now));
        if w.agent.is_none() || self.run.fault(faults::PROMPT_REFUSED) {
            return (ms, Err("the agent server refused the prompt".to_owned()));
        }
        self.prompted(w.s, plan);
        let beats = script::turn(self.run);
        let kilo = w.kilo.to_string();
        let store = &mut self.home(w.disk, w.s).agent;
        let info = json!({"id": plan.message_id, "role": "user", "sessionID": kilo, "time": {"created": clock}});
        store.messages.push((info, Vec::new()));
        let deaf = self.run.fault(faults::AGENT_DEAF);
        let Some(agent) = &mut w.agent else { return (ms, Ok(())) };
        agent.beats = beats;
        agent.next_at = agent.beats.front().map(|(pause, _)| now + pause);
        agent.message = format!(
            "msg_{:012x}assistant00001",
            plan.message_id.as_str().len() + usize::try_from(now & 0xffff_ffff).unwrap_or(0)
        );
        if deaf { (30_000, Err("no answer in time".to_owned())) } else { (ms, Ok(())) }
    }

    /// `POST …/abort`, and the withdrawal of what it asks. Returns how long that takes.
    pub fn agent_aborts(&mut self, w: &mut Worker) -> i64 {
        if self.run.fault(faults::AGENT_DEAF) {
            return 30_000;
        }
        let now = self.now;
        let ms = self.run.random.between("abort", 20, 400);
        let late = self.run.fault(faults::AGENT_OPENS_LATE);
        let Some(agent) = &mut w.agent else { return ms };
        agent.waiting.clear();
        if late && matches!(agent.beats.front(), Some((_, Beat::Opened))) {
            return ms;
        }
        if agent.busy {
            agent.beats = script::aborted();
            agent.next_at = Some(now + ms / 2);
        } else {
            agent.beats.clear();
            agent.next_at = None;
        }
        ms
    }

    /// Somebody answers a question or a request for permission. Returns whether it was wanted.
    pub fn agent_answered(&mut self, w: &mut Worker, id: &str) -> bool {
        let now = self.now;
        let kilo = w.kilo.to_string();
        let Some(agent) = &mut w.agent else { return false };
        let Some(index) = agent.waiting.iter().position(|(known, _)| known == id) else { return false };
        let (_, permission) = agent.waiting.remove(index);
        agent.next_at = agent.beats.front().map(|(pause, _)| now + pause);
        let kind = if permission { "permission.replied" } else { "question.replied" };
        self.emit(w, &json!({"type": kind, "properties": {"sessionID": kilo, "requestID": id}}));
        true
    }

    /// A person's word. None: no turn runs.
    pub fn judged(&mut self, w: &mut Worker, verdict: &Verdict) -> Option<bool> {
        w.run.as_ref()?;
        let id = match verdict {
            Verdict::AnswerQuestion(answer) => answer.question_id.to_string(),
            Verdict::RejectQuestion(rejection) => rejection.question_id.to_string(),
            Verdict::AnswerPermission(answer) => answer.permission_id.to_string(),
        };
        Some(self.agent_answered(w, &id))
    }

    /// What the agent server says when it is asked what it has.
    pub fn agent_answers(&mut self, w: &Worker) -> Option<Answers> {
        let agent = w.agent.as_ref()?;
        let messages: Vec<Value> = self
            .home(w.disk, w.s)
            .agent
            .messages
            .iter()
            .map(|(info, parts)| json!({"info": info, "parts": parts}))
            .collect();
        let asks = |permission: bool| {
            let of_kind = agent.waiting.iter().filter(|(_, known)| *known == permission);
            let list: Vec<Value> = of_kind.map(|(id, _)| json!({"id": id, "sessionID": w.kilo})).collect();
            Value::from(list).to_string()
        };
        Some(Answers {
            messages: vec![(w.kilo.clone(), Value::from(messages).to_string())],
            status: agent.busy.then(|| r#"{"type":"busy"}"#.to_owned()),
            permissions: asks(true),
            questions: asks(false),
        })
    }

    /// Status, questions and permissions, as events for viewers.
    pub fn agent_snapshot(&mut self, w: &Worker) -> Vec<String> {
        let Some(agent) = &w.agent else { return Vec::new() };
        let kind = |permission: bool| if permission { "permission.asked" } else { "question.asked" };
        let ask = |(id, permission): &(String, bool)| {
            json!({"type": kind(*permission), "properties": {"id": id, "sessionID": w.kilo}}).to_string()
        };
        agent.waiting.iter().map(ask).collect()
    }

    fn beat(&mut self, w: &mut Worker, beat: Beat) {
        let kilo = w.kilo.to_string();
        let now = w.now(self.now);
        let session = |kind: &str, more: Value| {
            let mut properties = json!({"sessionID": kilo});
            properties.as_object_mut().expect("an object").extend(more.as_object().cloned().unwrap_or_default());
            json!({"type": kind, "properties": properties})
        };
        let message = w.agent.as_ref().map(|agent| agent.message.clone()).unwrap_or_default();
        let event = match beat {
            Beat::Opened => {
                if w.run.is_none() {
                    self.run.broken("an agent that nobody listens to does not begin a turn", || {
                        format!("process {}", w.pid)
                    });
                }
                self.busy(w, true);
                session("session.turn.open", json!({}))
            }
            Beat::Prompt => {
                let info = self.home(w.disk, w.s).agent.messages.last().map(|(info, _)| info.clone());
                session("message.updated", json!({"info": info}))
            }
            Beat::Status(kind) => session("session.status", json!({"status": {"type": kind}})),
            Beat::Message { done, error } => {
                let mut info = json!({"id": message, "role": "assistant", "sessionID": kilo, "time": {"created": now}});
                if done {
                    info["time"]["completed"] = json!(now);
                }
                if let Some(error) = error {
                    info["error"] = json!({"name": error, "data": {"message": error}});
                }
                self.home(w.disk, w.s).agent.put_message(info.clone());
                session("message.updated", json!({"info": info}))
            }
            Beat::Part { number, bytes, done, tool } => {
                let id = format!("prt_{number:04}{}", message.get(4..).unwrap_or_default());
                let text = "text ".repeat(bytes / 5 + 1);
                let mut part = json!({"id": id, "messageID": message, "sessionID": kilo});
                if tool {
                    part["type"] = json!("tool");
                    part["state"] = json!({"status": "completed", "output": text, "input": {"n": number}});
                } else {
                    part["type"] = json!("text");
                    part["text"] = json!(text);
                    part["time"] = if done { json!({"start": now, "end": now}) } else { json!({"start": now}) };
                }
                self.home(w.disk, w.s).agent.put_part(&message, part.clone());
                session("message.part.updated", json!({"part": part}))
            }
            Beat::Delta { number } => {
                let id = format!("prt_{number:04}{}", message.get(4..).unwrap_or_default());
                session(
                    "message.part.delta",
                    json!({"messageID": message, "partID": id, "field": "text", "delta": "more "}),
                )
            }
            Beat::Updated => session("session.updated", json!({"info": {"id": kilo, "title": format!("at {now}")}})),
            Beat::Failed => {
                session("session.error", json!({"error": {"name": "UnknownError", "data": {"message": "boom"}}}))
            }
            Beat::Asks { permission } => {
                let Some(agent) = &mut w.agent else { return };
                agent.asked += 1;
                let id = format!("{}_{:08}{:06}", if permission { "per" } else { "que" }, agent.id, agent.asked);
                agent.waiting.push((id.clone(), permission));
                // It goes on when it is answered.
                agent.next_at = None;
                session(if permission { "permission.asked" } else { "question.asked" }, json!({"id": id}))
            }
            Beat::Closed(reason) => {
                self.busy(w, false);
                session("session.turn.close", json!({"reason": reason}))
            }
            Beat::Idle => session("session.idle", json!({})),
            Beat::Child => json!({
                "type": "message.updated",
                "properties": {"sessionID": "ses_child", "info": {"id": format!("{message}child"), "role": "assistant", "sessionID": "ses_child", "time": {"created": now}}}
            }),
        };
        self.emit(w, &event);
    }

    fn busy(&mut self, w: &mut Worker, busy: bool) {
        if let Some(agent) = &mut w.agent {
            agent.busy = busy;
        }
    }
}

impl Store {
    fn put_message(&mut self, info: Value) {
        match self.messages.iter_mut().find(|(known, _)| known["id"] == info["id"]) {
            Some((known, _)) => *known = info,
            None => self.messages.push((info, Vec::new())),
        }
    }

    fn put_part(&mut self, message: &str, part: Value) {
        let Some((_, parts)) = self.messages.iter_mut().find(|(known, _)| known["id"] == message) else { return };
        match parts.iter_mut().find(|known| known["id"] == part["id"]) {
            Some(known) => *known = part,
            None => parts.push(part),
        }
    }
}
