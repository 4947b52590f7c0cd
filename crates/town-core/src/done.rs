//! The two ways an agent's work ends: it says `gt_done`, or its run in the container ends (spec/town.md 8.1, 8.2).
//!
//! Both come as facts and in any order, so each looks at what is there: the second of two finds no hook and changes nothing. Both may name the bead
//! that the run was for: then nothing that is late ends the work on another one.

use crate::Step;
use crate::bead::FailureReason;
use crate::dispatch::WORK_BRANCH;
use crate::dispatch::bead_of;
use crate::error::Fault;
use crate::message::call::ReviewResult;
use crate::review::Submission;
use crate::store;
use protocol::id::AgentId;
use protocol::id::BeadId;
use protocol::town::agent::Agent;
use protocol::town::agent::AgentStatus;
use protocol::town::agent::Role;
use protocol::town::bead::Bead;
use protocol::town::bead::BeadEventType;
use protocol::town::bead::BeadStatus;
use protocol::town::bead::label;
use serde_json::Map;

/// Why a run ended that was ended from outside.
pub const EVICTED: &str = "container eviction";

/// Labels of work that is part of a review, so that nothing is to be reviewed when it is done.
const WITHOUT_REVIEW: [&str; 4] = [label::REWORK, label::PR_FIXUP, label::PR_FEEDBACK, label::PR_CONFLICT];

impl Step<'_> {
    /// The agent's run on `of` says that it is done. None: a container that does not tell its beads, which is believed as far as the branch
    /// allows.
    pub fn agent_done(
        &mut self,
        agent: &AgentId,
        of: Option<&BeadId>,
        branch: &str,
        pr_url: Option<&str>,
        summary: Option<&str>,
    ) -> Result<(), Fault> {
        let row = self.agent(agent)?;
        let Some(bead) = self.hooked_bead(&row.agent)? else {
            return self.done_without_hook(&row.agent, of, branch, pr_url);
        };
        let is_of_other = match of {
            Some(of) => *of != bead.bead_id,
            None => self.is_of_other_work(&bead, branch)?,
        };
        if is_of_other {
            return Ok(());
        }
        let is_batch = bead.has_label(label::TRIAGE) && bead.created_by.as_deref() == Some("patrol");
        if is_batch || WITHOUT_REVIEW.iter().any(|label| bead.has_label(label)) {
            self.unhook(agent)?;
            self.set_status(&bead.bead_id, BeadStatus::Closed, agent.as_str(), None)?;
            return Ok(());
        }
        if row.agent.role == Role::Refinery {
            self.unhook(agent)?;
            return self.review_done(agent, &bead, pr_url, summary);
        }
        if bead.status.is_terminal() {
            return self.unhook(agent);
        }
        self.submit_review(Submission {
            by: agent.to_string(),
            source: bead.bead_id.clone(),
            branch: branch.to_owned(),
            target: None,
            pr_url: pr_url.map(str::to_owned),
            summary: summary.map(str::to_owned),
            rig: None,
        })?;
        self.unhook(agent)?;
        self.set_status(&bead.bead_id, BeadStatus::InReview, agent.as_str(), None)?;
        Ok(())
    }

    /// Whether a branch is known to be that of other work. An agent that got no answer says it again, perhaps when it has its next bead already.
    fn is_of_other_work(&self, bead: &Bead, branch: &str) -> Result<bool, Fault> {
        let reviewed = store::review::find(self.db, &bead.bead_id)?.map(|review| review.branch);
        let own = [reviewed.as_deref(), bead.text(WORK_BRANCH), bead.text("branch")];
        if own.contains(&Some(branch)) {
            return Ok(false);
        }
        let reviewed = "SELECT 1 FROM review_metadata WHERE branch = ? LIMIT 1";
        if !self.db.query(reviewed, &[branch.into()])?.is_empty() {
            return Ok(true);
        }
        let Some(begin) = bead_of(branch) else { return Ok(false) };
        let named = "WHERE b.bead_id >= ?1 AND b.bead_id < ?1 || '~'";
        let others = store::bead::select(self.db, named, &[begin.into()])?;
        Ok(others.iter().any(|other| other.text(WORK_BRANCH) == Some(branch)))
    }

    /// A refinery may have lost its hook while it worked: it is believed of the review that it had, or else of the branch that it names, unless a pull
    /// request is watched for it already. Anybody else has said it before.
    fn done_without_hook(
        &mut self,
        agent: &Agent,
        of: Option<&BeadId>,
        branch: &str,
        pr_url: Option<&str>,
    ) -> Result<(), Fault> {
        if agent.role != Role::Refinery {
            return Ok(());
        }
        let open = store::bead::select(
            self.db,
            "JOIN review_metadata r ON r.bead_id = b.bead_id
             WHERE b.assignee_agent_bead_id = ? AND b.type = 'merge_request' AND b.status IN ('open', 'in_progress')
             AND r.branch = ? AND r.pr_url IS NULL AND b.bead_id = COALESCE(?, b.bead_id) ORDER BY b.rowid DESC LIMIT 1",
            &[agent.id.as_str().into(), branch.into(), of.map(BeadId::as_str).into()],
        )?;
        match open.first() {
            Some(review) => self.review_done(&agent.id, review, pr_url, None),
            None => Ok(()),
        }
    }

    /// The refinery merged, or opened a pull request that is to be watched. It has let go of the review: whoever holds it still is stopped.
    fn review_done(
        &mut self,
        agent: &AgentId,
        review: &Bead,
        pr_url: Option<&str>,
        summary: Option<&str>,
    ) -> Result<(), Fault> {
        let Some(url) = pr_url else {
            let message = summary.unwrap_or("Merged by the refinery");
            return self.complete_review(&review.bead_id, ReviewResult::Merged, message, None);
        };
        let by = Some(agent.to_string());
        if !url.starts_with("https://") {
            let kind = BeadEventType::PrCreationFailed;
            self.note_change(&review.bead_id, kind, by, None, Some(url), Map::new())?;
            let message = "The pull request's URL does not begin with https://";
            return self.complete_review(&review.bead_id, ReviewResult::Failed, message, None);
        }
        self.set_review_pr(&review.bead_id, url)?;
        self.note_change(&review.bead_id, BeadEventType::PrCreated, by, None, Some(url), Map::new())?;
        self.set_status(&review.bead_id, BeadStatus::InProgress, agent.as_str(), None)?;
        Ok(store::bead::touch(self.db, self.now, &review.bead_id)?)
    }

    pub fn set_review_pr(&mut self, review: &BeadId, url: &str) -> Result<(), Fault> {
        store::review::set_pr_url(self.db, review, url)?;
        Ok(store::bead::merge_metadata(self.db, review, &serde_json::json!({"pr_url": url}))?)
    }

    /// The agent's run on `of` ended, as was reported at `reported_at`. No agent: the mayor's.
    pub fn agent_completed(
        &mut self,
        agent: Option<&AgentId>,
        of: Option<&BeadId>,
        success: bool,
        reason: Option<&str>,
        reported_at: i64,
    ) -> Result<(), Fault> {
        let found = match agent {
            Some(agent) => store::agent::find(self.db, agent)?,
            None => store::agent::select(self.db, "WHERE a.role = 'mayor'", &[])?.into_iter().next(),
        };
        let Some(row) = found else { return Ok(()) };
        if self.is_asked_since(&row, reported_at)? {
            return Ok(());
        }
        let agent = row.agent;
        if let Some(bead) = self.hooked_bead(&agent)? {
            // A run on another bead, or one that began after the report, is another one.
            let began_since = bead.last_dispatch_attempt_at.is_some_and(|at| at > reported_at);
            if began_since || of.is_some_and(|of| *of != bead.bead_id) {
                return Ok(());
            }
            let evicted = success && reason == Some(EVICTED);
            if evicted {
                // However often containers are taken away, a bead does not fail by that.
                store::bead::uncount_dispatch(self.db, &bead.bead_id)?;
            }
            // A refinery's `gt_done` may still be on its way, so it keeps its hook. One that was evicted is idle, and sent again.
            if agent.role == Role::Refinery && agent.status == AgentStatus::Working && !evicted {
                return Ok(());
            }
            if agent.role != Role::Refinery {
                self.run_ended(&agent.id, &bead, success, reason)?;
            }
        }
        store::agent::set_status(self.db, self.now, &agent.id, &AgentStatus::Idle)?;
        if agent.role == Role::Refinery { Ok(()) } else { Ok(store::agent::reset_dispatch(self.db, &agent.id)?) }
    }

    fn run_ended(&mut self, agent: &AgentId, bead: &Bead, success: bool, reason: Option<&str>) -> Result<(), Fault> {
        self.unhook(agent)?;
        if !success {
            let message = reason.unwrap_or("The agent's run failed").to_owned();
            let reason = FailureReason { code: "agent_failed", message, source: "container" };
            self.set_status(&bead.bead_id, BeadStatus::Failed, agent.as_str(), Some(reason))?;
        } else if bead.status == BeadStatus::InProgress && reason == Some(EVICTED) {
            self.reopen(&bead.bead_id, agent.as_str())?;
        }
        Ok(())
    }
}
