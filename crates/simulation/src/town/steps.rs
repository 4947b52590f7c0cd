//! What an agent's steps do: to its worktree, to the remote, to the town.

use super::home;
use super::home::Then;
use super::home::Turn;
use super::script::DECISIONS;
use super::script::Step;
use super::world::World;
use crate::town::faults;
use database::Database;
use protocol::id::BeadId;
use protocol::town::bead::Priority;
use sandbox_core::managed::Input;
use serde_json::Map;
use town_core::message::Call;
use town_core::message::call::AgentCall;
use town_core::message::call::ReviewResult;
use town_core::message::call::TalkCall;
use town_core::message::call::WorkCall;

impl World<'_> {
    pub fn agent_does(&mut self, pid: u64, turn: &Turn, step: Step) {
        self.run.note(|| format!("agent {} run {} {step:?}", turn.agent, turn.run));
        self.feel(pid, &turn.agent, Input::Busy);
        match step {
            Step::Die => {
                if let Some(agent) = self.agent(pid, &turn.agent) {
                    agent.dies();
                }
                return self.feel(pid, &turn.agent, Input::StreamEnded);
            }
            Step::Hang => return,
            Step::Say => {}
            Step::Commit | Step::Push | Step::Write => self.git_step(pid, turn, &step),
            Step::Merge => self.merge_reviewed(pid, turn),
            Step::Done { .. }
            | Step::Escalate
            | Step::RequestChanges
            | Step::Resolve(_)
            | Step::Review(_)
            | Step::Sling => return self.use_tool(pid, turn, step),
        }
        self.goes_on(pid, turn);
    }

    fn git_step(&mut self, pid: u64, turn: &Turn, step: &Step) {
        let file = self.new_id();
        let fails = *step == Step::Push && self.run.fault(faults::PUSH_FAILS);
        let Some(process) = self.processes.get(&pid) else { return };
        let Some(agent) = process.agents.get(&turn.agent) else { return };
        let (Some(place), Some(disk)) = (&agent.worktree, self.disks.get_mut(&process.disk)) else { return };
        let Some(worktree) = disk.worktrees.get_mut(place) else { return };
        match step {
            Step::Commit => worktree.commit(),
            Step::Push if !fails && !agent.given.request.lightweight => {
                let (branch, files) = (agent.given.request.branch.clone(), worktree.committed.clone());
                let bead = agent.given.bead.clone();
                self.remote.take(&branch, &files);
                self.is_safe(bead.as_ref(), &files);
            }
            Step::Write => {
                worktree.dirty.insert(file);
            }
            _ => {}
        }
    }

    /// The merge request that a refinery was given.
    fn reviewed(&self, pid: u64, turn: &Turn) -> Option<(BeadId, String, String)> {
        let agent = self.processes.get(&pid)?.agents.get(&turn.agent)?;
        let given = agent.given.bead.as_ref()?.as_str();
        let sql = "SELECT bead_id, branch, target_branch FROM review_metadata WHERE bead_id = ?";
        let rows = self.town.storage.db.query(sql, &[given.into()]).expect("the ledger is there");
        let row = rows.first()?;
        let bead = BeadId::parse(&row.get::<String>(0).ok()?).ok()?;
        Some((bead, row.get(1).ok()?, row.get(2).ok()?))
    }

    fn merge_reviewed(&mut self, pid: u64, turn: &Turn) {
        if let Some((review, branch, target)) = self.reviewed(pid, turn) {
            self.merge(&review, &branch, &target);
        }
    }

    /// A reviewed branch goes into its target.
    pub fn merge(&mut self, review: &BeadId, branch: &str, target: &str) {
        self.check_merge(review, branch);
        self.remote.merge(branch, target);
    }

    fn use_tool(&mut self, pid: u64, turn: &Turn, step: Step) {
        let reviewed = self.reviewed(pid, turn);
        let Some(agent) = self.agent(pid, &turn.agent) else { return };
        let (id, branch) = (turn.agent.clone(), agent.given.request.branch.clone());
        let (rig, given) = (agent.given.request.rig_id.clone(), agent.given.bead.clone());
        agent.said_done |= matches!(step, Step::Done { .. } | Step::Review(_));
        // An older container names neither itself nor its beads.
        let is_named = self.processes.get(&pid).is_some_and(|process| process.called.is_some());
        let call = match step {
            Step::Done { pull_request } => {
                let url = match (&reviewed, pull_request) {
                    (Some((review, branch, target)), true) => Some(self.open_pull_request(review, branch, target)),
                    _ => None,
                };
                let bead = given.filter(|_| is_named);
                Call::Agent(AgentCall::Done { agent: id, bead, branch, pr_url: url, summary: None })
            }
            Step::RequestChanges => {
                Call::Agent(AgentCall::RequestChanges { agent: id, feedback: "again".to_owned(), files: vec![] })
            }
            Step::Resolve(request) => {
                let n = self.run.random.below("decision", DECISIONS.len() as u64);
                let action = DECISIONS[usize::try_from(n).unwrap_or(0)].to_owned();
                Call::Talk(TalkCall::ResolveTriage { agent: id, request, action, notes: "so".to_owned() })
            }
            Step::Review(status) => match reviewed {
                Some((entry, ..)) => Call::Work(WorkCall::CompleteReview {
                    entry,
                    status,
                    message: if status == ReviewResult::Conflict { "conflict" } else { "no" }.to_owned(),
                    commit: None,
                }),
                None => return self.goes_on(pid, turn),
            },
            Step::Escalate => Call::Talk(TalkCall::Escalate {
                title: "I cannot go on".to_owned(),
                body: None,
                severity: Priority::Medium,
                metadata: Map::new(),
                rig: Some(rig),
                agent: Some(id),
            }),
            _ => self.user_slings(),
        };
        self.home(pid, home::Call::Town(call), Then::Tool(turn.clone(), 1));
    }
}
