//! An agent's work when the container ends: committed, pushed, and told to the town.

use super::Agent;
use super::Agents;
use super::environment::author;
use super::environment::town_author;
use super::startup::repo;
use crate::clock::now_ms;
use crate::processes::Snapshot;
use crate::session::config::Author;
use crate::town::git::Branch;
use crate::town::git::Found;
use crate::town::git::Frozen;
use crate::town::git::GitFailure;
use crate::town::git::Outcome;
use crate::town::git::RigRepo;
use crate::town::git::Save;
use crate::town::git::Saved;
use crate::town::git::Tokens;
use crate::town::home::Completion;
use protocol::id::RigId;
use protocol::time::iso8601;
use protocol::town::container::EvictionContext;
use protocol::town::container::StartAgent;
use sandbox_core::drain::Receipt;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use tokio::time::Instant;

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
                Some((repo, own)) if self.shared.git.is_unsaved(&worktree, repo, own).await => {}
                _ => return Receipt::nothing(&request.branch),
            }
        }
        let save = Save { worktree: &worktree, author: &author, remote, until: self.due() };
        receipt(self.shared.git.save(save, Frozen).await)
    }

    /// The folders of all worktrees on the disk, as [`Agents::members`] names them.
    pub fn folders(&self) -> Vec<String> {
        self.shared.git.folders().into_iter().map(|folder| folder.to_string_lossy().into_owned()).collect()
    }

    /// Saves a worktree that belongs to no agent that is known, if there is anything in it that only this disk has.
    pub async fn save_folder(&self, folder: &str) -> Receipt {
        let found = match self.shared.git.found(Path::new(folder)) {
            Ok(found) => found,
            Err(problem) => return Receipt::without(problem),
        };
        let place = folder.to_owned();
        // Nobody has frozen whoever worked here.
        let working = tokio::task::spawn_blocking(move || Snapshot::take().working_in(Path::new(&place)).len()).await;
        if working.is_ok_and(|working| working > 0) {
            return Receipt::without("something is still running in it");
        }
        let Found { rig, branch, worktree } = found;
        let author = town_author(&self.shared, &BTreeMap::new());
        let repo = match self.repo_of(&rig, author.clone()).await {
            Ok(repo) => repo,
            Err(problem) => return Receipt::without(format!("where its rig's repository is, is not known: {problem}")),
        };
        if !self.shared.git.is_unsaved(&worktree, &repo, &branch).await {
            return Receipt::nothing(branch.as_str());
        }
        let save = Save { worktree: &worktree, author: &author, remote: Some((&repo, &branch)), until: self.due() };
        receipt(self.shared.git.save(save, Frozen).await)
    }

    /// When the receipt of a save that begins now has to be there.
    fn due(&self) -> Instant {
        let now = Instant::now();
        now.checked_add(self.shared.config.limits.save_time()).unwrap_or(now)
    }

    /// The repository of a rig: as an agent that is known, or that is still to come back, was told; else as its clone has it.
    async fn repo_of(&self, rig: &RigId, author: Author) -> Result<RigRepo, GitFailure> {
        let known = self.all().into_iter().map(|agent| agent.request.clone());
        let unsettled = self.registry.unsettled().into_iter().flatten().map(|entry| Arc::new(entry.request));
        let is_of = |request: &Arc<StartAgent>| request.rig_id == *rig && !request.lightweight;
        if let Some(request) = known.chain(unsettled).find(is_of) {
            return Ok(RigRepo { author, ..repo(&self.shared, &request)? });
        }
        let tokens = Tokens::read(|name| self.shared.live.variable(&BTreeMap::new(), name));
        self.shared.git.repo_of_clone(rig, &tokens, author).await
    }

    /// Tells the town where an agent's work is.
    pub async fn tell_receipt(&self, agent: &Agent, receipt: Receipt) -> Result<(), String> {
        let Receipt { branch, commit, pushed, reason } = receipt;
        let context = EvictionContext {
            // Of an agent without a worktree yet: where it would have worked.
            branch: if branch.is_empty() { agent.request.branch.clone() } else { branch },
            agent_name: agent.request.name.clone(),
            bead_id: agent.request.bead_id.clone(),
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
        let told = self.shared.home.report_completed(&place, agent.request.bead_id.as_ref(), evicted).await;
        told.map_err(|error| error.to_string())
    }
}

fn receipt(saved: Saved) -> Receipt {
    let (pushed, reason) = match saved.outcome {
        Outcome::Pushed => (true, what_else(&saved.beside, &saved.left_out)),
        Outcome::NoOrigin => (false, Some("there is no remote to push to".to_owned())),
        Outcome::NotPushed { reason } | Outcome::NotCommitted { reason } => (false, Some(reason)),
    };
    Receipt { branch: saved.branch.unwrap_or_default(), commit: saved.commit, pushed, reason }
}

/// What a person has to know of work that is not all in one commit.
fn what_else(beside: &[String], left_out: &[String]) -> Option<String> {
    let beside = (!beside.is_empty()).then(|| format!("more of it is on {}", beside.join(", ")));
    let left_out = (!left_out.is_empty()).then(|| format!("not saved: {}", left_out.join("; ")));
    let parts: Vec<String> = beside.into_iter().chain(left_out).collect();
    (!parts.is_empty()).then(|| parts.join(". "))
}
