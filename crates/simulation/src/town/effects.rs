//! What the town object performs, as `src/town/effects` does.
//!
//! | Rule | Where it is so |
//! | --- | --- |
//! | A try takes nine tenths of the pause before the next at most; then nobody knows what came of it | `timeout_ms` |
//! | Of two tries of one debt, only the newer one's outcome is told | `InFlight` |
//! | From the second start on, the container is asked first whether an earlier one went well | `has_started` |
//! | A container that was not asked, or not reached, is no outcome: the row brings the try back | `not_asked`, `started` |
//! | Only a start starts the container | `container::send` |

use super::faults;
use super::requests::From;
use super::requests::Reply;
use super::requests::What;
use super::world::Event;
use super::world::World;
use object_core::time::SECOND;
use protocol::id::AgentId;
use protocol::town::container::ContainerAgentStatus;
use protocol::town::container::StartAgent;
use town_core::message::Input;
use town_core::message::container::ContainerInput;
use town_core::message::effect::Effect;
use town_core::message::effect::Outcome;

/// How far the clock of a container may be behind the town's.
const CLOCKS_MS: i64 = 5 * SECOND;
/// How long a container may take to answer a health check.
const HEALTH_MS: i64 = 5 * SECOND;

/// One try at a debt.
pub struct Flight {
    incarnation: u64,
    key: String,
    number: u64,
    /// When it came to be owed.
    since: i64,
    pub effect: Effect,
    start: Option<Box<StartAgent>>,
    over: bool,
}

impl World<'_> {
    /// Performs an effect beside everything else.
    pub fn perform(
        &mut self,
        key: String,
        (attempt, since): (i64, i64),
        effect: Effect,
        start: Option<Box<StartAgent>>,
    ) {
        self.run.note(|| format!("  perform {key} try {attempt}"));
        let incarnation = self.town.incarnation;
        let Some(memory) = &mut self.town.memory else { return };
        let number = memory.enter(&key);
        let pause = match effect {
            Effect::Start { .. } => self.town.limits.start_retry_ms,
            _ => self.town.limits.effect_retry_ms,
        };
        let id = self.new_id();
        self.queue.push(self.now + pause - pause / 10, Event::FlightTimesOut(id));
        let what = match &effect {
            Effect::EndContainer {} | Effect::Forget { .. } | Effect::RemoveSnapshots {} => None,
            Effect::Poll { .. } => None,
            Effect::RefreshToken {} | Effect::SetupRig { .. } | Effect::SyncConfig {} => Some(What::Plain),
            Effect::Start { agent, .. } if attempt > 1 => Some(What::Status(agent.clone())),
            Effect::Start { .. } => Some(What::Settings),
            Effect::Stop { agent, .. } => Some(What::Stop(agent.clone())),
            Effect::Tell { agent, .. } => Some(What::Tell(agent.clone())),
        };
        let asks = effect.clone();
        self.flights.insert(id, Flight { incarnation, key, number, since, effect, start, over: false });
        match (what, asks) {
            (Some(what), _) => self.ask(From::Flight(id), what),
            (None, Effect::Poll { url, .. }) => self.look_at_pull_request(id, &url),
            (None, _) => self.land(id, Some(Outcome::Done)),
        }
    }

    /// An outcome comes back after a while, or not at all.
    fn land(&mut self, flight: u64, outcome: Option<Outcome>) {
        if !self.run.fault(faults::ANSWER_LOST) {
            let at = self.now + self.delay();
            self.queue.push(at, Event::FlightEnds { flight, outcome });
        }
    }

    fn look_at_pull_request(&mut self, flight: u64, url: &str) {
        let outcome = if self.run.fault(faults::FORGE_FAILS) {
            let reason = "the host answered 502".to_owned();
            if self.run.random.percent("forge-knows", 50) {
                Outcome::Failed { reason }
            } else {
                Outcome::Unknown { reason }
            }
        } else {
            Outcome::PullRequest(self.forge_state(url))
        };
        self.land(flight, Some(outcome));
    }

    /// The try is over for the object that made it.
    pub fn flight_ends(&mut self, id: u64, outcome: Option<Outcome>) {
        let Some(flight) = self.flights.get_mut(&id) else { return };
        if std::mem::replace(&mut flight.over, true) || flight.incarnation != self.town.incarnation {
            return;
        }
        let Some(memory) = &mut self.town.memory else { return };
        let (key, is_newest) = (flight.key.clone(), memory.leave(&flight.key, flight.number));
        if let (true, Some(outcome)) = (is_newest, outcome) {
            // What is lost here the core asks for again.
            drop(self.town_turn(Input::Outcome { key, outcome }));
        }
    }

    pub fn flight_times_out(&mut self, id: u64) {
        self.flight_ends(id, Some(Outcome::Unknown { reason: "no answer in time".to_owned() }));
    }

    /// The container's object answered.
    pub fn answered(&mut self, from: From, what: &What, reply: Reply) {
        match from {
            From::Flight(id) => self.flight_answered(id, what, reply),
            From::Handoff { incarnation, by } => {
                if let Reply::Health { instance, draining } = reply
                    && incarnation == self.town.incarnation
                    && self.now <= by
                {
                    drop(self.town_turn(Input::Container(ContainerInput::Health { instance, draining })));
                }
            }
            From::Observer { incarnation } if incarnation == self.town.incarnation => self.observed(what, reply),
            From::Observer { .. } => {}
        }
    }

    fn flight_answered(&mut self, id: u64, what: &What, reply: Reply) {
        let Some(flight) = self.flights.get(&id).filter(|flight| !flight.over) else { return };
        let Effect::Start { bead, .. } = &flight.effect else {
            let outcome = plain(what, reply);
            return self.flight_ends(id, Some(outcome));
        };
        let since = flight.since - CLOCKS_MS;
        match (what, reply) {
            (What::Status(_), Reply::Status { status, started_at, .. }) if started_at >= since && runs(&status) => {
                self.flight_ends(id, Some(Outcome::Done));
            }
            (What::Status(_), Reply::Lost(_)) => self.flight_ends(id, None),
            (What::Status(_), _) => self.ask(From::Flight(id), What::Settings),
            (What::Settings, Reply::Ok) => {
                let (start, bead) = (flight.start.clone(), bead.clone());
                match start {
                    Some(start) => self.ask(From::Flight(id), What::Start(start, bead)),
                    None => self.run.broken("a start has a plan", || "none".to_owned()),
                }
            }
            (What::Settings, reply) => {
                let told = Some(plain(what, reply)).filter(|outcome| !matches!(outcome, Outcome::Unknown { .. }));
                self.flight_ends(id, told);
            }
            (_, Reply::Draining) => self.flight_ends(id, Some(Outcome::Draining)),
            (_, Reply::Unreached) => self.flight_ends(id, None),
            (_, reply) => self.flight_ends(id, Some(plain(what, reply))),
        }
    }

    /// If the container runs, it is asked what these agents do.
    pub fn observe_agents(&mut self, agents: Vec<AgentId>) {
        self.ask(From::Observer { incarnation: self.town.incarnation }, What::Observe(agents));
    }

    /// Only what does not run is told. No container has no agent.
    fn observed(&mut self, what: &What, reply: Reply) {
        let What::Observe(agents) = what else { return };
        let seen = match reply {
            Reply::Seen(seen) => seen,
            Reply::NotRunning => {
                agents.iter().map(|agent| (agent.clone(), ContainerAgentStatus::NotFound, None)).collect()
            }
            _ => return,
        };
        for (agent, status, exit_reason) in seen {
            let tells = matches!(
                status,
                ContainerAgentStatus::Exited | ContainerAgentStatus::Failed | ContainerAgentStatus::NotFound
            );
            if tells {
                drop(self.town_turn(Input::Observed { agent, status, exit_reason }));
            }
        }
    }

    /// Offers the nonce to a container that runs.
    pub fn hand_off(&mut self, nonce: String) {
        let from = From::Handoff { incarnation: self.town.incarnation, by: self.now + HEALTH_MS };
        self.ask(from, What::Health { nonce });
    }
}

fn runs(status: &ContainerAgentStatus) -> bool {
    matches!(status, ContainerAgentStatus::Running | ContainerAgentStatus::Starting)
}

/// What an answer means where nothing else was agreed.
fn plain(what: &What, reply: Reply) -> Outcome {
    match (what, reply) {
        (What::Stop(_), Reply::NotFound) => Outcome::Done,
        (What::Tell(_), Reply::NotFound) => Outcome::NotRunning,
        (What::Tell(_), Reply::Error(text)) if text.contains("not running") => Outcome::NotRunning,
        (_, Reply::NotRunning) => Outcome::NotRunning,
        (_, Reply::Error(reason)) => Outcome::Failed { reason },
        (_, Reply::NotFound) => Outcome::Failed { reason: "not found".to_owned() },
        (_, Reply::Lost(reason)) => Outcome::Unknown { reason },
        (_, Reply::Draining | Reply::Unreached) => Outcome::Unknown { reason: "503".to_owned() },
        (_, Reply::Health { .. } | Reply::Ok | Reply::Seen(_) | Reply::Status { .. }) => Outcome::Done,
    }
}
