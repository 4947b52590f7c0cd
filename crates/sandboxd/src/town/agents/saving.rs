//! An agent's work when the container ends: committed, pushed, and told to the town.

use super::Agent;
use super::Agents;
use super::environment::author;
use super::startup::repo;
use crate::clock::now_ms;
use crate::town::git::Branch;
use crate::town::git::Frozen;
use crate::town::git::Outcome;
use crate::town::git::Save;
use crate::town::home::Completion;
use protocol::time::iso8601;
use protocol::town::container::EvictionContext;
use sandbox_core::drain::Receipt;

/// Why the agent ended, for the town: its bead is free at once (spec/town.md 8.2).
const EVICTED: &str = "container eviction";

impl Agents {
    /// Saves the worktree of an agent in which nothing writes any more. On top of what an agent left whole when it ended by itself, nothing is committed.
    pub async fn save(&self, agent: &Agent) -> Receipt {
        let request = &agent.request;
        let Some(worktree) = agent.view().worktree.clone() else { return Receipt::without("there was no worktree") };
        let author = author(&self.shared, request);
        let named = (repo(&self.shared, request), Branch::parse(&request.branch));
        let remote = match (&named, request.lightweight) {
            ((Ok(repo), Ok(branch)), false) => Some((repo, branch)),
            _ => None,
        };
        if !agent.view().machine.is_evicted() {
            match remote {
                Some((repo, _)) if self.shared.git.is_unsaved(&worktree, repo).await => {}
                _ => return Receipt::nothing(&request.branch),
            }
        }
        let saved = self.shared.git.save(Save { worktree: &worktree, author: &author, remote }, Frozen).await;
        let (pushed, reason) = match saved.outcome {
            Outcome::Pushed => (true, saved.left_out.map(|left| format!("without some files: {left}"))),
            Outcome::NoOrigin => (false, Some("there is no remote to push to".to_owned())),
            Outcome::NotPushed { reason } | Outcome::NotCommitted { reason } => (false, Some(reason)),
        };
        Receipt { branch: saved.branch.unwrap_or_default(), commit: saved.commit, pushed, reason }
    }

    /// Tells the town where an agent's work is.
    pub async fn tell_receipt(&self, agent: &Agent, receipt: Receipt) -> Result<(), String> {
        let Receipt { branch, commit, pushed, reason } = receipt;
        let context = EvictionContext {
            // Of an agent without a worktree yet: where it would have worked.
            branch: if branch.is_empty() { agent.request.branch.clone() } else { branch },
            agent_name: agent.request.name.clone(),
            saved_at: iso8601(now_ms()),
            commit,
            pushed,
            reason,
        };
        self.shared.home.tell_receipt(&agent.place(), &context).await.map_err(|error| error.to_string())
    }

    /// Tells the town that an agent ended because of the eviction.
    pub async fn report_evicted(&self, agent: &Agent) -> Result<(), String> {
        let (place, evicted) = (agent.place(), Completion::Completed(EVICTED));
        self.shared.home.report_completed(&place, evicted).await.map_err(|error| error.to_string())
    }
}
