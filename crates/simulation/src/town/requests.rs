//! Requests of the town to its container, through the object that owns it (`src/container/forward.rs`, `town.rs`).
//!
//! | Rule | Where it is so |
//! | --- | --- |
//! | A start starts the container and waits 20 s for it; one that turns out to have ended is started anew, once | `wake_and_forward` |
//! | Everything else is answered 410 if the container does not run: nothing is started to be looked at | `fetch` |
//! | The container has 60 s to answer; one that says nothing has not said that it ended | `forward` |
//! | A container in which an agent works is not idle | `observe` |

use super::faults;
use super::world::Event;
use super::world::World;
use object_core::lifecycle::Input;
use object_core::lifecycle::State;
use object_core::time::SECOND;
use protocol::id::AgentId;
use protocol::id::BeadId;
use protocol::id::InstanceId;
use protocol::town::container::ContainerAgentStatus;
use protocol::town::container::StartAgent;

/// How long a request waits for the container to start, and how long the container may take to answer.
const START_WAIT_MS: i64 = 20 * SECOND;
const FORWARD_MS: i64 = 60 * SECOND;

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

/// A request that waits for the container.
pub struct Waiter {
    pub id: u64,
    pub ask: u64,
    pub tries: u32,
}

/// What is asked of the platform.
#[derive(Clone, Copy, Debug)]
pub enum Verb {
    Destroy,
    Start,
    Terminate,
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
        if self.keeper_wake().is_err() {
            return self.answer_ask(ask, Reply::Lost("the container object was lost".to_owned()));
        }
        match self.asks.get(&ask).map(|ask| &ask.what) {
            None => {}
            Some(What::Settings) => self.answer_ask(ask, Reply::Ok),
            Some(What::Start(..)) => self.want(ask, 2),
            Some(_) => match self.keeper.running() {
                Some(instance) => self.forward(ask, instance, 0),
                None => self.answer_ask(ask, Reply::NotRunning),
            },
        }
    }

    fn want(&mut self, ask: u64, tries: u32) {
        if tries == 0 {
            return self.answer_ask(ask, Reply::Unreached);
        }
        let id = self.new_id();
        if let Some(memory) = &mut self.keeper.memory {
            memory.waiting.push(Waiter { id, ask, tries });
        }
        self.queue.push(self.now + START_WAIT_MS, Event::WaitOver { waiter: id });
        if self.keeper_turn(&Input::Want { lease: None }).is_err() {
            self.wait_over(id);
        }
    }

    pub fn wait_over(&mut self, waiter: u64) {
        let Some(memory) = &mut self.keeper.memory else { return };
        if let Some(index) = memory.waiting.iter().position(|known| known.id == waiter) {
            let waiter = memory.waiting.remove(index);
            self.answer_ask(waiter.ask, Reply::Unreached);
        }
    }

    pub fn tell_waiting(&mut self, running: Option<&str>) {
        let Some(memory) = &mut self.keeper.memory else { return };
        for Waiter { ask, tries, .. } in std::mem::take(&mut memory.waiting) {
            match running {
                Some(instance) => self.forward(ask, instance.to_owned(), tries),
                None => self.answer_ask(ask, Reply::Unreached),
            }
        }
    }

    fn forward(&mut self, ask: u64, instance: String, tries: u32) {
        let Some(memory) = &mut self.keeper.memory else { return };
        memory.forwarded.insert(ask);
        let incarnation = self.keeper.incarnation;
        let at = self.now + self.delay();
        self.queue.push(at, Event::Forwarded { incarnation, ask, instance, tries });
        self.queue.push(self.now + FORWARD_MS, Event::ForwardTimesOut { incarnation, ask });
    }

    /// A request reaches the container, or finds it gone.
    pub fn forwarded(&mut self, incarnation: u64, ask: u64, instance: String, tries: u32) {
        if self.keeper.incarnation != incarnation {
            return;
        }
        let observes = matches!(self.asks.get(&ask).map(|ask| &ask.what), Some(What::Observe(_)));
        match self.platform.process_of(&instance) {
            Some(pid) => self.process_asked(pid, ask),
            None if self.platform.runs() => self.container_answers(ask, Reply::Unreached),
            None => {
                if let Some(memory) = &mut self.keeper.memory {
                    memory.forwarded.remove(&ask);
                }
                match (self.keeper_turn(&Input::Ended { instance }), tries) {
                    (Err(_), _) => self.answer_ask(ask, Reply::Lost("the container object failed".to_owned())),
                    (Ok(()), 0) => self.answer_ask(ask, Reply::NotRunning),
                    (Ok(()), _) if observes => self.answer_ask(ask, Reply::NotRunning),
                    (Ok(()), tries) => self.want(ask, tries - 1),
                }
            }
        }
    }

    pub fn forward_times_out(&mut self, incarnation: u64, ask: u64) {
        if self.keeper.incarnation == incarnation {
            self.container_answers(ask, Reply::Unreached);
        }
    }

    /// The container's answer passes through the object, if it is still the same.
    pub fn container_answers(&mut self, ask: u64, reply: Reply) {
        let Some(memory) = &mut self.keeper.memory else { return };
        if !memory.forwarded.remove(&ask) {
            return;
        }
        let works =
            |(_, status, _): &Seen| matches!(status, ContainerAgentStatus::Running | ContainerAgentStatus::Starting);
        if matches!(&reply, Reply::Seen(seen) if seen.iter().any(works)) {
            drop(self.keeper_turn(&Input::Want { lease: None }));
        }
        self.answer_ask(ask, reply);
    }

    pub fn ask_platform(&mut self, verb: Verb, instance: String) {
        let pause = self.run.random.between("verb", 1, 60);
        let Some(memory) = &mut self.keeper.memory else { return };
        memory.verbs_free_at = memory.verbs_free_at.max(self.now) + pause;
        let at = memory.verbs_free_at;
        self.queue.push(at, Event::Verb { incarnation: self.keeper.incarnation, verb, instance });
    }

    pub fn platform_asked(&mut self, incarnation: u64, verb: Verb, instance: String) {
        let is_current = self.keeper.known().is_some_and(|known| known.instance == instance);
        if self.keeper.incarnation != incarnation || !is_current {
            return;
        }
        match verb {
            // Whatever ended meanwhile is not started.
            Verb::Start if self.keeper.known().is_some_and(|known| known.state != State::Starting) => {}
            Verb::Start => self.platform_start(instance),
            Verb::Terminate => {
                self.platform_signal();
                self.report_if_gone(instance);
            }
            Verb::Destroy => {
                self.platform_destroy();
                self.report_if_gone(instance);
            }
        }
    }

    fn report_if_gone(&mut self, instance: String) {
        if !self.platform.runs() {
            drop(self.keeper_turn(&Input::Ended { instance }));
        }
    }

    /// The container answers its health check.
    pub fn keeper_healthy(&mut self, instance: &str) {
        if let Some(memory) = &mut self.keeper.memory
            && memory.starting.take_if(|starting| starting == instance).is_some()
        {
            drop(self.keeper_turn(&Input::Started { instance: instance.to_owned() }));
        }
    }

    /// A start has taken too long, or failed.
    pub fn start_over(&mut self, incarnation: u64, instance: String) {
        if self.keeper.incarnation == incarnation
            && let Some(memory) = &mut self.keeper.memory
            && memory.starting.take_if(|starting| *starting == instance).is_some()
        {
            drop(self.keeper_turn(&Input::StartFailed { instance }));
        }
    }

    /// The platform's notice.
    pub fn exit_notice(&mut self, instance: String) {
        if self.keeper_wake().is_ok() {
            drop(self.keeper_turn(&Input::Ended { instance }));
        }
    }
}
