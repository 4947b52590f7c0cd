//! What agents do in a turn: written before it begins.

use super::agent::Agent;
use super::faults;
use super::world::World;
use database::Database;
use protocol::id::BeadId;
use protocol::town::agent::Role;
use std::collections::VecDeque;
use town_core::message::call::ReviewResult;

/// What an agent is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prompt {
    /// That its container ends.
    Eviction,
    /// Its task.
    Task,
    /// Anything else.
    Words,
}

/// One thing that it does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    Commit,
    /// Its server is gone.
    Die,
    /// `gt_done`, perhaps with a pull request.
    Done {
        pull_request: bool,
    },
    Escalate,
    /// It says nothing any more.
    Hang,
    Merge,
    Push,
    RequestChanges,
    /// A triage request is resolved.
    Resolve(BeadId),
    Review(ReviewResult),
    Say,
    Sling,
    Write,
}

/// What a triage agent may decide.
pub const DECISIONS: [&str; 8] = [
    "RESTART",
    "RESTART_WITH_BACKOFF",
    "CLOSE_BEAD",
    "ESCALATE_TO_MAYOR",
    "NUDGE",
    "REASSIGN_BEAD",
    "DISCARD",
    "PROVIDE_GUIDANCE",
];

impl World<'_> {
    /// The steps of a turn.
    pub fn script(&mut self, agent: &Agent, prompt: Prompt) -> VecDeque<Step> {
        let mut steps = match (&agent.given.request.role, prompt) {
            (Role::Mayor, _) => self.of_mayor(),
            (Role::Other(_), Prompt::Task) => self.of_triage(),
            (Role::Other(_), _) => vec![],
            (Role::Refinery, Prompt::Task) => self.of_refinery(),
            (Role::Refinery, _) => vec![Step::Say],
            (Role::Polecat, Prompt::Task) => self.of_polecat(),
            (Role::Polecat, _) if agent.said_done => vec![Step::Say],
            (Role::Polecat, Prompt::Words) => {
                vec![Step::Write, Step::Commit, Step::Push, Step::Done { pull_request: false }]
            }
            (Role::Polecat, Prompt::Eviction) => {
                let mut steps = vec![Step::Commit];
                if self.run.random.percent("evicted-pushes", 60) {
                    steps.push(Step::Push);
                    if agent.steps_left() < 2 {
                        steps.push(Step::Done { pull_request: false });
                    }
                }
                steps
            }
        };
        if prompt == Prompt::Task {
            let at = usize::try_from(self.run.random.below("misfortune", 8)).unwrap_or(0).min(steps.len());
            if self.run.fault(faults::AGENT_HANGS) {
                steps.insert(at, Step::Hang);
            }
            if self.run.fault(faults::AGENT_DIES) {
                steps.insert(at, Step::Die);
            }
        }
        steps.into()
    }

    fn of_polecat(&mut self) -> Vec<Step> {
        let mut steps = vec![Step::Say];
        for _ in 0..=self.run.random.below("writes", 4) {
            steps.push(Step::Write);
            if self.run.random.percent("commits", 50) {
                steps.push(Step::Commit);
            }
            if self.run.random.percent("pushes", 30) {
                steps.push(Step::Push);
            }
        }
        if self.run.fault(faults::AGENT_ESCALATES) {
            steps.push(Step::Escalate);
        } else if !self.run.fault(faults::AGENT_FORGETS) {
            steps.extend([Step::Commit, Step::Push, Step::Done { pull_request: false }]);
        }
        steps
    }

    fn of_refinery(&mut self) -> Vec<Step> {
        let mut steps = vec![Step::Say];
        if self.run.fault(faults::CHANGES_REQUESTED) {
            steps.push(Step::RequestChanges);
        } else if self.run.fault(faults::MERGE_CONFLICTS) {
            steps.push(Step::Review(ReviewResult::Conflict));
        } else if self.run.fault(faults::REVIEW_FAILS) {
            steps.push(Step::Review(ReviewResult::Failed));
        } else if self.by_pull_request {
            steps.push(Step::Done { pull_request: true });
        } else {
            steps.extend([Step::Merge, Step::Done { pull_request: false }]);
        }
        steps
    }

    fn of_triage(&mut self) -> Vec<Step> {
        let sql = "SELECT bead_id FROM beads WHERE type = 'issue' AND status = 'open'
            AND labels LIKE '%\"gt:triage-request\"%' ORDER BY rowid";
        let rows = self.town.storage.db.query(sql, &[]).expect("the ledger is there");
        let ids = rows.iter().filter_map(|row| BeadId::parse(&row.get::<String>(0).ok()?).ok());
        let mut steps: Vec<Step> = ids.map(Step::Resolve).collect();
        steps.push(Step::Done { pull_request: false });
        steps
    }

    fn of_mayor(&mut self) -> Vec<Step> {
        if self.user.rests || self.run.random.percent("mayor-chats", 60) {
            return vec![Step::Say];
        }
        vec![Step::Say, Step::Sling]
    }
}
