//! Performs what the drain machine says (spec/town.md 6.5): the container was told to end.
//!
//! Nothing here decides anything. Each effect reports back as an input; one that hangs is overtaken by the machine's deadlines, and what
//! still runs at the end goes with the process.

use super::agents::Agents;
use super::agents::EVICTION;
use super::home::Home;
use crate::clock::now_ms;
use crate::log;
use protocol::id::AgentId;
use sandbox_core::drain::Drain;
use sandbox_core::drain::Input;
use sandbox_core::drain::Member;
use sandbox_core::drain::Output;
use sandbox_core::drain::Phase;
use sandbox_core::drain::Receipt;
use serde_json::json;
use std::collections::HashMap;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::Signal;
use tokio::sync::oneshot;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::task::JoinHandle;
use tokio::task::JoinSet;

const ROLE: &str = "town";

struct Draining {
    agents: Arc<Agents>,
    home: Arc<Home>,
    /// Beats until the drain begins.
    heart: AbortHandle,
    machine: Drain,
    /// Effects on their way.
    effects: JoinSet<Input>,
    /// The town is being told of the eviction.
    report: Option<JoinHandle<()>>,
    saves: HashMap<AgentId, AbortHandle>,
    /// The same of worktrees that belong to nobody.
    folders: HashMap<String, AbortHandle>,
    started_ms: i64,
    saved: usize,
    lost: usize,
}

/// Drains. Never fails: what cannot be saved is logged and told, and the container ends all the same. Another SIGTERM meanwhile is heard and changes nothing.
pub async fn run(agents: Arc<Agents>, heart: AbortHandle, again: &mut Signal) {
    let machine = Drain::new(agents.shared.config.limits.drain());
    let mut draining = Draining {
        home: agents.shared.home.clone(),
        heart,
        machine,
        effects: JoinSet::new(),
        report: None,
        saves: HashMap::new(),
        folders: HashMap::new(),
        started_ms: now_ms(),
        saved: 0,
        lost: 0,
        agents,
    };
    let mut changed = draining.agents.shared.changed.subscribe();
    let mut over = draining.receive(Input::Terminate(draining.agents.members()));
    while !over {
        let input = draining.next(&mut changed, again).await;
        for input in with_news(input, || draining.agents.members()) {
            over = over || draining.receive(input);
        }
    }
    draining.finish().await;
}

impl Draining {
    async fn next(&mut self, changed: &mut watch::Receiver<()>, again: &mut Signal) -> Input {
        loop {
            let deadline = self.machine.next_deadline();
            let pause = deadline.map_or(0, |at| at.saturating_sub(now_ms()));
            tokio::select! {
                Some(done) = self.effects.join_next(), if !self.effects.is_empty() => {
                    // One that was abandoned has nothing to say.
                    if let Ok(input) = done {
                        return input;
                    }
                }
                Ok(()) = changed.changed() => return Input::Members(self.agents.members()),
                () = tokio::time::sleep(Duration::from_millis(u64::try_from(pause).unwrap_or_default())),
                    if deadline.is_some() => return Input::Tick,
                Some(()) = again.recv() => log::info(ROLE, "signal_repeated", json!({ "phase": self.machine.phase().as_str() })),
            }
        }
    }

    /// Whether the drain is over.
    fn receive(&mut self, input: Input) -> bool {
        let mut outputs = VecDeque::from(self.machine.receive(now_ms(), input));
        while let Some(output) = outputs.pop_front() {
            if output == Output::Over {
                return true;
            }
            if let Some(answer) = self.perform(output) {
                outputs.extend(self.machine.receive(now_ms(), answer));
            }
        }
        false
    }

    /// Begins the effect. An agent that is not known any more has nothing to wait for.
    fn perform(&mut self, output: Output) -> Option<Input> {
        let (agents, home) = (self.agents.clone(), self.home.clone());
        match output {
            Output::Notify => {
                self.heart.abort();
                home.drain();
                let (tell, tried) = oneshot::channel();
                // A town that does not take it is told again, until the end; the drain goes on meanwhile.
                self.report = Some(tokio::spawn(async move { home.report_eviction(tell).await }));
                self.effects.spawn(async move {
                    let ((), _) = tokio::join!(agents.drain(), tried);
                    Input::Notified
                });
            }
            Output::Nudge(id) => {
                let Ok(agent) = agents.get(&id) else { return Some(Input::Nudged(id)) };
                self.effects.spawn(async move {
                    if let Err(error) = agent.message(EVICTION.to_owned()).await {
                        log::warn(ROLE, "agent_not_nudged", json!({ "agent": id, "error": error }));
                    }
                    Input::Nudged(id)
                });
            }
            Output::Freeze(id) => {
                let Ok(agent) = agents.get(&id) else { return Some(Input::Frozen { agent: id, outcome: Ok(()) }) };
                self.effects.spawn(async move {
                    let outcome = agent.end(true).await;
                    if let Err(error) = &outcome {
                        log::error(ROLE, "agent_not_frozen", json!({ "agent": id, "error": error }));
                    }
                    Input::Frozen { agent: id, outcome }
                });
            }
            Output::Save(id) => {
                let Ok(agent) = agents.get(&id) else { return Some(saved(id, Receipt::without("it is not known"))) };
                let of = id.clone();
                let save = self.effects.spawn(async move {
                    let receipt = agents.save(&agent).await;
                    saved(id, receipt)
                });
                self.saves.insert(of, save);
            }
            Output::Find => return Some(Input::Found(agents.folders())),
            Output::SaveFolder(folder) => {
                let of = folder.clone();
                let save = self.effects.spawn(async move {
                    let receipt = agents.save_folder(&folder).await;
                    Input::FolderSaved { folder, receipt }
                });
                self.folders.insert(of, save);
            }
            Output::AbandonFolder(folder) => {
                if let Some(save) = self.folders.remove(&folder) {
                    save.abort();
                }
            }
            Output::Abandon(id) => {
                if let Some(save) = self.saves.remove(&id) {
                    save.abort();
                }
            }
            Output::Log { agent, receipt } => self.log_receipt("agent", agent.as_str(), &receipt),
            Output::LogFolder { folder, receipt } => self.log_receipt("folder", &folder, &receipt),
            Output::Tell { agent: id, receipt } => {
                let Ok(agent) = agents.get(&id) else { return Some(Input::Told(id)) };
                self.effects.spawn(async move {
                    told(&id, "receipt", agents.tell_receipt(&agent, receipt).await);
                    Input::Told(id)
                });
            }
            Output::Report(id) => {
                let Ok(agent) = agents.get(&id) else { return Some(Input::Reported(id)) };
                self.effects.spawn(async move {
                    told(&id, "completed", agents.report_evicted(&agent).await);
                    Input::Reported(id)
                });
            }
            Output::ClearRegistry => {
                self.effects.spawn(async move {
                    agents.clear_registry().await;
                    Input::Cleared
                });
            }
            Output::Entered(phase) => self.log_phase(phase),
            Output::Over => {}
        }
        None
    }

    fn log_phase(&self, phase: Phase) {
        let live = self.agents.live();
        let ms = now_ms().saturating_sub(self.started_ms);
        log::info(ROLE, "drain", json!({ "phase": phase.as_str(), "agents": live, "ms": ms }));
    }

    fn log_receipt(&mut self, kind: &str, of: &str, receipt: &Receipt) {
        let Receipt { branch, commit, pushed, reason } = receipt;
        let fields = json!({ kind: of, "branch": branch, "commit": commit, "pushed": pushed, "reason": reason });
        if receipt.is_nothing() {
            log::info(ROLE, "nothing_to_save", fields);
        } else if *pushed {
            self.saved = self.saved.saturating_add(1);
            log::info(ROLE, "work_saved", fields);
        } else {
            self.lost = self.lost.saturating_add(1);
            log::warn(ROLE, "work_not_pushed", fields);
        }
    }

    /// What goes on in the background is awaited for a while: the exit would lose it.
    async fn finish(self) {
        let grace = Duration::from_millis(self.agents.shared.config.limits.drain_close_ms);
        let told = async {
            match self.report {
                Some(report) => tokio::time::timeout(grace, report).await.is_ok(),
                None => true,
            }
        };
        let (is_told, is_done) = tokio::join!(told, self.agents.shared.background.finish(grace));
        let complete = is_told && is_done;
        let ms = now_ms().saturating_sub(self.started_ms);
        let fields = json!({ "pushed": self.saved, "not_pushed": self.lost, "complete": complete, "ms": ms });
        log::info(ROLE, "drained", fields);
    }
}

/// What was seen of an agent before it was nudged, such as that it rests, is not so any more: it is looked at again before the answer counts.
fn with_news(input: Input, members: impl FnOnce() -> Vec<Member>) -> Vec<Input> {
    match input {
        Input::Nudged(_) => vec![Input::Members(members()), input],
        input => vec![input],
    }
}

fn saved(agent: AgentId, receipt: Receipt) -> Input {
    Input::Saved { agent, receipt }
}

fn told(agent: &AgentId, what: &str, outcome: Result<(), String>) {
    if let Err(error) = outcome {
        log::warn(ROLE, "town_not_told", json!({ "agent": agent, "what": what, "error": error }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sandbox_core::drain::Kind;
    use sandbox_core::drain::Standing;

    #[test]
    fn an_agent_is_looked_at_again_before_its_nudge_counts_as_answered() {
        let id = AgentId::parse("a").unwrap();
        let at = |standing| Member { id: id.clone(), kind: Kind::Worker, standing, worktree: None };
        let mut machine = Drain::new(crate::town::limits::Limits::default().drain());
        machine.receive(0, Input::Terminate(vec![at(Standing::AtRest)]));
        machine.receive(0, Input::Notified);
        // It was seen before the nudge reached it.
        machine.receive(1, Input::Members(vec![at(Standing::AtRest)]));
        for input in with_news(Input::Nudged(id.clone()), || vec![at(Standing::Working)]) {
            machine.receive(2, input);
        }
        assert_eq!(machine.phase(), Phase::Waiting, "it has something to do now");
    }
}
