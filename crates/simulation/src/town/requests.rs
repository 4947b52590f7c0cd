//! Requests of the town to its container, through the object that owns it (`src/container/forward.rs`, `town.rs`).
//!
//! | Rule | Where it is so |
//! | --- | --- |
//! | Settings are for the object itself | `serve_town` |
//! | A start of an agent starts the container; nothing else does | `wake_and_forward`, `fetch` |
//! | A container in which an agent works is not idle | `observe` |

use super::faults;
use super::world::Event;
use super::world::World;
use crate::container::object;
use crate::container::passage;
use object_core::lifecycle::Input;
use protocol::id::AgentId;
use protocol::id::BeadId;
use protocol::id::InstanceId;
use protocol::town::container::ContainerAgentStatus;
use protocol::town::container::StartAgent;

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub enum From {
    Flight(u64),
    Handoff { incarnation: u64, by: i64 },
    Observer { incarnation: u64 },
}

/// What is asked.
#[derive(Clone, Debug)]
pub enum What {
    /// `GET /health` with a nonce.
    Health { nonce: String },
    /// `POST /town/observe`.
    Observe(Vec<AgentId>),
    /// Something that leaves no trace here.
    Plain,
    /// `PUT /town/settings`.
    Settings,
    /// `POST /agents/start?wake=1`.
    Start(Box<StartAgent>, Option<BeadId>),
    /// `GET /agents/{id}/status`.
    Status(AgentId),
    /// `POST /agents/{id}/stop`.
    Stop(AgentId),
    /// `POST /agents/{id}/message`.
    Tell(AgentId),
}

/// What a container says of an agent, and why it ended.
pub type Seen = (AgentId, ContainerAgentStatus, Option<String>);

/// The answer.
#[derive(Clone, Debug)]
pub enum Reply {
    /// 503: the container takes no agents.
    Draining,
    /// 500.
    Error(String),
    Health {
        instance: InstanceId,
        draining: bool,
    },
    /// None came.
    Lost(String),
    /// 404.
    NotFound,
    /// 410.
    NotRunning,
    Ok,
    Seen(Vec<Seen>),
    Status {
        status: ContainerAgentStatus,
        started_at: i64,
    },
    /// 503: the container was not reached.
    Unreached,
}

/// A request under way.
pub struct Ask {
    from: From,
    pub what: What,
    over: bool,
}

impl World<'_> {
    /// Sends a request to the container's object.
    pub fn ask(&mut self, from: From, what: What) {
        let id = self.new_id();
        self.asks.insert(id, Ask { from, what, over: false });
        let at = self.now + self.delay();
        if !self.run.fault(faults::REQUEST_LOST) {
            self.queue.push(at, Event::AskArrives(id));
        } else if self.run.random.percent("lost-is-told", 50) {
            self.queue.push(at, Event::AskAnswered { ask: id, reply: Reply::Lost("it did not arrive".to_owned()) });
        }
    }

    /// Sends an answer back.
    pub fn answer_ask(&mut self, ask: u64, reply: Reply) {
        if self.run.fault(faults::ANSWER_LOST) {
            return;
        }
        let at = self.now + self.delay();
        self.queue.push(at, Event::AskAnswered { ask, reply });
    }

    /// The answer is there.
    pub fn ask_answered(&mut self, id: u64, reply: Reply) {
        let Some(ask) = self.asks.get_mut(&id) else { return };
        if std::mem::replace(&mut ask.over, true) {
            return;
        }
        let (from, what) = (ask.from, ask.what.clone());
        self.asks.remove(&id);
        self.answered(from, &what, reply);
    }

    /// A request is at the container's object.
    pub fn ask_arrives(&mut self, ask: u64) {
        if !passage::arrives(self, ask) {
            return;
        }
        match self.asks.get(&ask).map(|ask| &ask.what) {
            None => {}
            Some(What::Settings) => self.answer_ask(ask, Reply::Ok),
            Some(What::Start(..)) => passage::wake_and_forward(self, ask),
            Some(_) => passage::forward_if_running(self, ask),
        }
    }

    /// The container's answer.
    pub fn container_answers(&mut self, ask: u64, reply: Reply) {
        if !self.container.passes(ask) {
            return;
        }
        let works =
            |(_, status, _): &Seen| matches!(status, ContainerAgentStatus::Running | ContainerAgentStatus::Starting);
        if matches!(&reply, Reply::Seen(seen) if seen.iter().any(works)) {
            object::report(self, &Input::Want { lease: None });
        }
        self.answer_ask(ask, reply);
    }
}
