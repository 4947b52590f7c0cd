//! Reviews: submitted by polecats, decided by refineries, pull requests or the container (spec/town.md 8.1, 8.3).

use crate::Step;
use crate::bead::FailureReason;
use crate::error::Fault;
use crate::error::Refusal;
use crate::escalation::labels_of;
use crate::message::bead::NewBead;
use crate::message::call::ReviewResult;
use crate::store;
use crate::store::review::Review;
use protocol::id::AgentId;
use protocol::id::BeadId;
use protocol::town::agent::Role;
use protocol::town::bead::Bead;
use protocol::town::bead::BeadEventType;
use protocol::town::bead::BeadStatus;
use protocol::town::bead::BeadType;
use protocol::town::bead::DependencyType;
use protocol::town::bead::Priority;
use protocol::town::bead::label;
use protocol::town::convoy::MergeMode;
use serde_json::Map;
use serde_json::json;

/// What is submitted.
#[derive(Clone, Debug)]
pub struct Submission {
    /// Who did the work; `system` for a landing.
    pub by: String,
    pub source: BeadId,
    pub branch: String,
    /// Where it goes; None: the convoy's branch, or the default branch of the rig.
    pub target: Option<String>,
    pub pr_url: Option<String>,
    pub summary: Option<String>,
    pub rig: Option<protocol::id::RigId>,
}

impl Step<'_> {
    /// Puts a branch into the queue of its rig.
    pub fn submit_review(&mut self, submission: Submission) -> Result<Bead, Fault> {
        let source = self.bead(&submission.source)?;
        let target = match submission.target {
            Some(target) => target,
            None => self.review_target(&source)?,
        };
        let mut metadata = Map::new();
        metadata.insert("source_bead_id".into(), json!(source.bead_id));
        metadata.insert("source_agent_id".into(), json!(submission.by));
        if let Some(url) = &submission.pr_url {
            metadata.insert("pr_url".into(), json!(url));
        }
        if let Some(convoy) = source.text("convoy_id") {
            metadata.insert("convoy_id".into(), json!(convoy));
        }
        if let Some(branch) = source.text("feature_branch") {
            metadata.insert("convoy_feature_branch".into(), json!(branch));
        }
        let review = self.create_bead(NewBead {
            body: submission.summary,
            rig: submission.rig.or(source.rig_id),
            labels: vec![label::MERGE_REQUEST.into()],
            metadata,
            created_by: Some(submission.by.clone()),
            ..NewBead::new(BeadType::MergeRequest, format!("Review: {}", submission.branch))
        })?;
        store::dependency::insert(self.db, &review.bead_id, &source.bead_id, DependencyType::Tracks)?;
        let details = Review { branch: submission.branch.clone(), target_branch: target, pr_url: submission.pr_url };
        store::review::insert(self.db, &review.bead_id, &details)?;
        let branch = Some(submission.branch.as_str());
        let kind = BeadEventType::ReviewSubmitted;
        self.note_change(&source.bead_id, kind, Some(submission.by), None, branch, Map::new())?;
        Ok(review)
    }

    /// The branch that a bead's work is for.
    fn review_target(&self, source: &Bead) -> Result<String, Fault> {
        for convoy in store::dependency::tracked(self.db, &source.bead_id)? {
            let Some(convoy) = store::convoy::find(self.db, &convoy.bead_id)? else { continue };
            if let (Some(MergeMode::ReviewThenLand), Some(branch)) = (convoy.merge_mode, convoy.feature_branch) {
                return Ok(branch);
            }
        }
        let rig = match &source.rig_id {
            Some(rig) => store::town::rig(self.db, rig)?,
            None => None,
        };
        Ok(rig.map_or_else(|| "main".to_owned(), |rig| rig.default_branch))
    }

    /// Decides a review. The second decision of one changes nothing. Whoever still has it on its hook is not who decides.
    pub fn complete_review(
        &mut self,
        entry: &BeadId,
        result: ReviewResult,
        message: &str,
        commit: Option<&str>,
    ) -> Result<(), Fault> {
        self.decide_review(entry, result, message, commit, None)
    }

    /// Decides a review, and says why where it is no reviewer who decides.
    pub fn decide_review(
        &mut self,
        entry: &BeadId,
        result: ReviewResult,
        message: &str,
        commit: Option<&str>,
        reason: Option<FailureReason>,
    ) -> Result<(), Fault> {
        let review = self.bead(entry)?;
        if review.kind != BeadType::MergeRequest {
            return Err(Refusal::NotWorkable { bead: entry.clone(), why: "not a merge request".into() }.into());
        }
        if review.status.is_terminal() {
            return Ok(());
        }
        let status = if result == ReviewResult::Merged { BeadStatus::Closed } else { BeadStatus::Failed };
        self.set_status(entry, status, "system", reason)?;
        self.take_away(entry, "its review was decided elsewhere")?;
        if let Some(commit) = commit {
            store::review::set_merge_commit(self.db, entry, commit)?;
        }
        for source in store::dependency::tracked(self.db, entry)? {
            let mut metadata = Map::new();
            metadata.insert("message".into(), json!(message));
            let kind = BeadEventType::ReviewCompleted;
            self.note_change(&source.bead_id, kind, None, None, Some(result.as_str()), metadata)?;
            match result {
                ReviewResult::Merged => self.merged(&review, &source)?,
                ReviewResult::Conflict => {
                    self.conflict(&review, &source, message)?;
                    self.review_lost(&source)?;
                }
                ReviewResult::Failed => self.review_lost(&source)?,
            }
        }
        Ok(())
    }

    fn merged(&mut self, review: &Bead, source: &Bead) -> Result<(), Fault> {
        for sibling in store::review::of_source(self.db, &source.bead_id)? {
            if sibling.bead_id != review.bead_id && sibling.status != BeadStatus::Closed {
                // The one exception from "terminal stays": a failed sibling is settled by the merge.
                self.take_away(&sibling.bead_id, "another review of the same work was merged")?;
                store::bead::set_status(self.db, self.now, &sibling.bead_id, BeadStatus::Closed)?;
            }
        }
        if source.kind == BeadType::Convoy {
            return self.landing_merged(source, review);
        }
        self.take_away(&source.bead_id, "its work was merged")?;
        if self.set_status(&source.bead_id, BeadStatus::Closed, "system", None)?.status != source.status {
            return Ok(());
        }
        // It was over before its reviews were: only now does it count.
        for convoy in store::dependency::convoys_of(self.db, &source.bead_id)? {
            self.count_convoy(&convoy)?;
        }
        self.dispatch_unblocked(&source.bead_id)
    }

    fn conflict(&mut self, review: &Bead, source: &Bead, message: &str) -> Result<(), Fault> {
        let branch = store::review::find(self.db, &review.bead_id)?.map_or_else(String::new, |review| review.branch);
        let about = if message.is_empty() { &branch } else { message };
        let mut metadata = Map::new();
        metadata.insert("source_bead_id".into(), json!(source.bead_id));
        metadata.insert("source_agent_id".into(), json!(review.text("source_agent_id")));
        metadata.insert("branch".into(), json!(branch));
        metadata.insert("conflict".into(), json!(true));
        let bead = self.create_bead(NewBead {
            rig: review.rig_id.clone(),
            priority: Priority::High,
            labels: labels_of(Priority::High),
            metadata,
            created_by: Some("system".into()),
            ..NewBead::new(BeadType::Escalation, format!("Merge conflict: {about}"))
        })?;
        Ok(store::escalation::insert(self.db, &bead.bead_id, Priority::High)?)
    }

    /// Before a review is deleted: if it was the last that its source waits for, the source goes back.
    pub fn review_withdrawn(&mut self, review: &BeadId) -> Result<(), Fault> {
        let Some(found) = store::bead::find(self.db, review)? else { return Ok(()) };
        if found.kind != BeadType::MergeRequest || found.status.is_terminal() {
            return Ok(());
        }
        for source in store::dependency::tracked(self.db, review)? {
            let reviews = store::review::of_source(self.db, &source.bead_id)?;
            let others = reviews.iter().any(|other| other.bead_id != *review && !other.status.is_terminal());
            if source.kind == BeadType::Issue && source.status == BeadStatus::InReview && !others {
                self.reopen(&source.bead_id, "system")?;
            }
        }
        Ok(())
    }

    /// The work goes back to be done again. A convoy only loses its landing.
    fn review_lost(&mut self, source: &Bead) -> Result<(), Fault> {
        if source.kind == BeadType::Convoy || source.status.is_terminal() {
            return Ok(());
        }
        self.take_away(&source.bead_id, "the review of its work failed")?;
        self.reopen(&source.bead_id, "system")
    }

    /// A refinery sends its merge request back: rework that the merge request waits for.
    pub fn request_changes(&mut self, agent: &AgentId, feedback: &str, files: &[String]) -> Result<Bead, Fault> {
        let refused = || Fault::from(Refusal::NotReviewing { agent: agent.clone() });
        let row = self.agent(agent)?;
        let review = self.hooked_bead(&row.agent)?.ok_or_else(refused)?;
        if row.agent.role != Role::Refinery || review.kind != BeadType::MergeRequest {
            return Err(refused());
        }
        let details = store::review::find(self.db, &review.bead_id)?.ok_or_else(refused)?;
        let source = store::dependency::tracked(self.db, &review.bead_id)?.into_iter().next();
        let mut metadata = Map::new();
        metadata.insert("rework_for".into(), json!(source.as_ref().map(|source| &source.bead_id)));
        metadata.insert("mr_bead_id".into(), json!(review.bead_id));
        metadata.insert("branch".into(), json!(details.branch));
        metadata.insert("target_branch".into(), json!(details.target_branch));
        metadata.insert("files".into(), json!(files));
        let title = source.as_ref().map_or(review.title.as_str(), |source| source.title.as_str());
        let rework = self.create_bead(NewBead {
            body: Some(feedback.to_owned()),
            rig: review.rig_id.clone(),
            parent: Some(review.bead_id.clone()),
            priority: source.as_ref().map_or(review.priority, |source| source.priority),
            labels: vec![label::REWORK.into()],
            metadata,
            created_by: Some(agent.to_string()),
            ..NewBead::new(BeadType::Issue, format!("Rework: {title}"))
        })?;
        // Both are for one branch, which is one agent's at a time.
        for earlier in store::dependency::blockers(self.db, &review.bead_id)? {
            self.block(&rework.bead_id, &earlier)?;
        }
        self.block(&review.bead_id, &rework.bead_id)?;
        self.report_created(&rework)?;
        self.note(&review.bead_id, BeadEventType::ReworkRequested, Some(agent.to_string()))?;
        Ok(rework)
    }
}
