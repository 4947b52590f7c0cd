//! The agents of the town: who there is, and what the town and its viewers may ask of them (spec/town.md 6.4).
//!
//! | Module | Subject |
//! | --- | --- |
//! | [`startup`], [`environment`] | from the request to a session |
//! | [`actor`], [`hear`], [`ending`] | one agent, from its start to its end |
//! | [`posts`] | what the town is told of it for viewers |
//! | [`view`] | what is known of it from outside |
//! | [`talk`], [`servers`] | its session, and the agent servers |
//! | [`conversation`], [`instructions`] | what is kept of it at the town, and what the mayor finds in its workspace |
//! | [`saving`] | what is kept of its work when the container ends |
//! | [`registry`], [`hydration`] | which agents are live, as the town knows it; and what a new container makes of that |
//! | [`words`] | what the container says to agents |

mod actor;
mod conversation;
mod ending;
pub mod environment;
mod hear;
mod hydration;
mod instructions;
mod posts;
mod registry;
mod saving;
mod servers;
pub mod shared;
mod startup;
mod talk;
mod view;
mod words;

pub use actor::Reason;
pub use instructions::InstructError;
pub use startup::StartError;
pub use view::View;
pub use words::EVICTION;

use super::home::Beat;
use super::home::Place;
use super::limits::AGENTS_MAX;
use super::limits::COMMANDS_MAX;
use super::limits::GIVE_WAY;
use crate::clock::now_ms;
use crate::log;
use actor::Actor;
use posts::Posts;
use protocol::id::AgentId;
use protocol::town::agent::Role;
use protocol::town::container::StartAgent;
use sandbox_core::drain::Kind;
use sandbox_core::drain::Member;
use sandbox_core::drain::Standing;
use sandbox_core::managed::Managed;
use serde_json::json;
use shared::Shared;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use tokio::sync::mpsc;
use tokio::sync::oneshot;
use tokio::sync::watch;
use tokio::task::JoinSet;
use view::kind;

const ROLE: &str = "town";

/// What an agent is told.
enum Command {
    /// The container drains.
    Drain,
    /// End. The answer says what of it is left.
    End {
        /// Because the container ends.
        freeze: bool,
        reply: oneshot::Sender<Result<(), String>>,
    },
    /// Hand it this.
    Message { text: String, reply: oneshot::Sender<Result<(), String>> },
}

/// One agent, for whoever has business with it.
#[derive(Clone)]
pub struct Agent {
    /// How it was started.
    pub request: Arc<StartAgent>,
    view: watch::Receiver<View>,
    commands: mpsc::Sender<Command>,
}

/// Why an agent did not do what was asked.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum AgentError {
    #[error("Agent {0} not found")]
    Unknown(AgentId),
}

/// All of them.
pub struct Agents {
    /// What they share.
    pub shared: Arc<Shared>,
    slots: Mutex<HashMap<AgentId, Arc<Slot>>>,
    /// False until those of the registry have been started.
    hydrated: watch::Sender<bool>,
    registry: registry::Registry,
}

#[derive(Default)]
struct Slot {
    /// Held by a start: one at a time for each agent.
    starting: tokio::sync::Mutex<()>,
    current: Mutex<Option<Agent>>,
}

impl Slot {
    fn current(&self) -> Option<Agent> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Agent {
    /// What is known of it now.
    pub fn view(&self) -> watch::Ref<'_, View> {
        self.view.borrow()
    }

    /// Hands it a message.
    pub async fn message(&self, text: String) -> Result<(), String> {
        let (reply, answer) = oneshot::channel();
        let gone = || format!("Agent {} is not running", self.request.agent_id);
        self.commands.send(Command::Message { text, reply }).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }

    /// Ends it, and waits for that. An error says what of it is left.
    pub async fn end(&self, freeze: bool) -> Result<(), String> {
        let (reply, answer) = oneshot::channel();
        if self.commands.send(Command::End { freeze, reply }).await.is_err() {
            return Ok(());
        }
        answer.await.unwrap_or(Ok(()))
    }

    /// Whether it is over, and something of it may still run.
    fn is_letting_go(&self) -> bool {
        let view = self.view();
        view.status().is_over() && !view.is_released && !self.commands.is_closed()
    }

    /// What calls about it name.
    pub fn place(&self) -> Place {
        Place { rig: self.request.rig_id.clone(), agent: self.request.agent_id.clone() }
    }
}

impl Agents {
    /// None yet.
    pub fn new(shared: Arc<Shared>) -> Self {
        Self { shared, slots: Mutex::default(), hydrated: watch::channel(false).0, registry: Default::default() }
    }

    /// Starts an agent; one that runs under this id is ended before, and whoever else works on its branch. Comes back when it has its first prompt.
    pub async fn start(&self, request: StartAgent, reason: Reason) -> Result<Agent, StartError> {
        // Before anything is ended for it.
        self.refuse_if_draining()?;
        let id = request.agent_id.clone();
        let slot = self.slots().entry(id).or_default().clone();
        // What was lost is brought back for those that miss it: not if the town has started it meanwhile.
        let is_late = || reason == Reason::Lost && slot.current().is_some();
        if is_late() {
            return Err(StartError::Aborted);
        }
        if let Some(current) = slot.current().filter(|current| !current.view().status().is_over()) {
            // Before the wait, so that a start that hangs gives way.
            let _ = current.end(false).await;
        }
        let _alone = slot.starting.lock().await;
        self.refuse_if_draining()?;
        if is_late() {
            return Err(StartError::Aborted);
        }
        if let Some(last) = slot.current() {
            let _ = last.end(false).await;
            // Also one that ended by itself may still be giving its server back, or its conversation away.
            last.commands.closed().await;
        }
        while let Some(other) = self.occupant(&request) {
            // What was lost does not take a branch from those that the town has started meanwhile.
            if reason == Reason::Lost {
                return Err(StartError::Aborted);
            }
            log::info(ROLE, "agent_gives_way", json!({ "agent": other.request.agent_id, "to": request.agent_id }));
            // Mostly it has just said that it is done, and a reviewer takes its place.
            let at_rest = |view: &View| view.standing() != Standing::Working;
            let _ = tokio::time::timeout(GIVE_WAY, other.view.clone().wait_for(at_rest)).await;
            let _ = other.end(false).await;
            other.commands.closed().await;
        }
        // Nothing is awaited from here until the agent can be found: a drain that begins later finds it.
        self.refuse_if_draining()?;
        let (agent, started) = self.spawn(request, reason);
        *slot.current.lock().unwrap_or_else(PoisonError::into_inner) = Some(agent.clone());
        self.forget_old();
        started.await.unwrap_or(Err(StartError::Aborted))?;
        Ok(agent)
    }

    /// Who else still has the worktree of `request`. The town gives a branch to another only after it took it from the first, but a container may
    /// hear of the one without the other.
    fn occupant(&self, request: &StartAgent) -> Option<Agent> {
        let is_there = |agent: &Agent| {
            let other = &agent.request;
            let is_same_branch = other.rig_id == request.rig_id && other.branch == request.branch;
            let has_branches = !other.lightweight && !request.lightweight;
            other.agent_id != request.agent_id && has_branches && is_same_branch && !agent.commands.is_closed()
        };
        self.all().into_iter().find(is_there)
    }

    fn refuse_if_draining(&self) -> Result<(), StartError> {
        if self.shared.home.is_draining() { Err(StartError::Draining) } else { Ok(()) }
    }

    fn spawn(&self, request: StartAgent, reason: Reason) -> (Agent, oneshot::Receiver<Result<(), StartError>>) {
        let is_mayor = kind(&request.role) == Kind::Mayor;
        let waits = self.shared.config.limits.waits(request.role == Role::Refinery);
        let machine = Managed::new(is_mayor, waits, self.shared.home.is_draining());
        let mut known = View::new(machine, now_ms());
        // Work of an earlier start, which a drain finds from the beginning.
        known.worktree = startup::existing(&self.shared, &request).map(Arc::new);
        let (view, seen) = watch::channel(known);
        let (commands, orders) = mpsc::channel(COMMANDS_MAX);
        let (tell, started) = oneshot::channel();
        let agent = Agent { request: Arc::new(request), view: seen, commands };
        let actor = Actor {
            shared: self.shared.clone(),
            request: agent.request.clone(),
            place: agent.place(),
            view,
            commands: orders,
            posts: Posts::new(&self.shared, &agent.place()),
            asked: JoinSet::new(),
            enders: Vec::new(),
            left: Ok(()),
            taken: None,
            session: None,
            deaf: false,
        };
        self.shared.background.spawn(actor.run(reason, tell));
        (agent, started)
    }

    /// The agent with this id, as it was started last.
    pub fn get(&self, id: &AgentId) -> Result<Agent, AgentError> {
        let slot = self.slots().get(id).cloned();
        slot.and_then(|slot| slot.current()).ok_or_else(|| AgentError::Unknown(id.clone()))
    }

    /// All that are known, over or not.
    pub fn all(&self) -> Vec<Agent> {
        self.slots().values().filter_map(|slot| slot.current()).collect()
    }

    /// How many start or run.
    pub fn live(&self) -> usize {
        self.all().iter().filter(|agent| agent.view().status().is_live()).count()
    }

    /// Their hearts.
    pub fn beats(&self) -> Vec<Beat> {
        let live = self.all().into_iter().filter(|agent| agent.view().status().is_live());
        live.map(|agent| {
            let Place { rig, agent: id } = agent.place();
            let view = agent.view();
            let last_event = view.last_event.clone().map(|name| (name, view.last_activity_ms));
            Beat { rig, agent: id, last_event, active_tools: view.active_tools() }
        })
        .collect()
    }

    /// All that are known, as a drain sees them.
    pub fn members(&self) -> Vec<Member> {
        let of = |agent: Agent| {
            let view = agent.view();
            Member {
                id: agent.request.agent_id.clone(),
                kind: kind(&agent.request.role),
                standing: if agent.is_letting_go() { Standing::AtRest } else { view.standing() },
                worktree: view.worktree.as_ref().map(|worktree| worktree.path().to_string_lossy().into_owned()),
            }
        };
        self.all().into_iter().map(of).collect()
    }

    /// Every agent ends soon after its turn from now on, and is saved.
    pub async fn drain(&self) {
        for agent in self.all() {
            let _ = agent.commands.send(Command::Drain).await;
        }
    }

    /// Ends all of them at the same time.
    pub async fn stop_all(&self) {
        let mut ends = JoinSet::new();
        for agent in self.all() {
            ends.spawn(async move { agent.end(false).await });
        }
        while ends.join_next().await.is_some() {}
    }

    /// Of agents that are over, only so many are remembered.
    fn forget_old(&self) {
        let mut slots = self.slots();
        if slots.len() <= AGENTS_MAX {
            return;
        }
        let over = slots.iter().filter_map(|(id, slot)| {
            let current = slot.current()?;
            let view = current.view();
            view.status().is_over().then(|| (view.last_activity_ms, id.clone()))
        });
        if let Some((_, oldest)) = over.min() {
            slots.remove(&oldest);
            self.shared.feed.forget(&oldest);
        }
    }

    fn slots(&self) -> MutexGuard<'_, HashMap<AgentId, Arc<Slot>>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
