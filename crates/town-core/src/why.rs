//! Why a bead is where it is: by the same tests that the rules make, each by its name (spec/town.md 4.3).
//!
//! `next_tick` is said only of what no test holds back. A person who reads it can wait for the next tick, and need do nothing.

use crate::Step;
use crate::error::Fault;
use crate::reconcile::convoys;
use crate::reconcile::cooling_until;
use crate::reconcile::reviews;
use crate::reconcile::snapshot;
use crate::store;
use crate::store::agent::AgentRow;
use protocol::id::BeadId;
use protocol::town::bead::Bead;
use protocol::town::bead::BeadStatus;
use protocol::town::bead::BeadType;
use protocol::town::bead::label;
use protocol::town::status::WaitReason;
use protocol::town::status::Why;

impl Step<'_> {
    /// All that holds a bead back.
    pub fn why(&self, bead: &BeadId) -> Result<Why, Fault> {
        let bead = self.bead(bead)?;
        let holder = store::agent::hooked_to(self.db, &bead.bead_id)?;
        let works = holder.as_ref().is_some_and(AgentRow::is_running);
        let mut why = Why {
            bead_id: bead.bead_id.clone(),
            status: bead.status,
            reasons: Vec::new(),
            blocked_by: store::dependency::blockers(self.db, &bead.bead_id)?,
            cooling_down_until: None,
            agent_lost_until: None,
            dispatch_attempts: bead.dispatch_attempts,
            max_dispatch_attempts: self.limits.dispatch_attempts_max,
            agent_id: holder.as_ref().map(|row| row.agent.id.clone()),
        };
        match (bead.kind, bead.status) {
            (_, BeadStatus::Closed | BeadStatus::Failed) => why.reasons.push(WaitReason::Terminal),
            // It is no work: nobody waits for its end.
            (BeadType::Agent, _) => return Ok(why),
            (BeadType::Escalation | BeadType::Message, _) => why.reasons.push(WaitReason::Unread),
            (BeadType::Molecule, _) => why.reasons.push(WaitReason::Members),
            (BeadType::Convoy, _) => self.why_convoy(&bead, &mut why)?,
            (_, BeadStatus::InReview) => why.reasons.push(WaitReason::Review),
            _ if works => why.reasons.push(WaitReason::Working),
            (BeadType::Issue, BeadStatus::Open) => self.why_open(&bead, &mut why)?,
            (BeadType::Issue, BeadStatus::InProgress) => self.why_lost(&bead, holder.as_ref(), &mut why),
            (BeadType::MergeRequest, _) => self.why_review(&bead, holder.is_some(), &mut why)?,
        }
        add(&mut why, self.is_held_back(&bead.bead_id)?, WaitReason::LoopBreaker);
        if why.reasons.is_empty() {
            why.reasons.push(WaitReason::NextTick);
        }
        Ok(why)
    }

    /// An issue that nobody works on yet.
    fn why_open(&self, bead: &Bead, why: &mut Why) -> Result<(), Fault> {
        let mut staged = false;
        for convoy in store::dependency::tracked(self.db, &bead.bead_id)? {
            staged |= store::convoy::find(self.db, &convoy.bead_id)?.is_some_and(|convoy| convoy.staged);
        }
        let is_blocked = !why.blocked_by.is_empty();
        add(why, is_blocked, WaitReason::Blocked);
        add(why, staged, WaitReason::Staged);
        add(why, bead.has_label(label::HELD), WaitReason::Held);
        add(why, bead.has_label(label::TRIAGE_REQUEST), WaitReason::Triage);
        add(why, bead.rig_id.is_none(), WaitReason::NoRig);
        self.why_not_dispatched(bead, why)
    }

    /// An issue whose agent is gone: after a while it is given to another.
    fn why_lost(&self, bead: &Bead, holder: Option<&AgentRow>, why: &mut Why) {
        let left_alone = bead.updated_at.saturating_add(self.limits.orphan_bead_ms);
        let heard = holder.and_then(|row| row.agent.last_activity_at);
        let silent = heard.map_or(left_alone, |at| at.saturating_add(self.limits.heartbeat_stale_ms));
        self.lost_until(left_alone.max(silent), why);
        add(why, bead.dispatch_attempts >= self.limits.dispatch_attempts_max, WaitReason::Attempts);
    }

    /// A merge request that nobody reviews.
    fn why_review(&self, bead: &Bead, is_held: bool, why: &mut Why) -> Result<(), Fault> {
        let Some(rig) = &bead.rig_id else {
            why.reasons.push(WaitReason::NoRig);
            return Ok(());
        };
        let has_pull_request =
            store::review::find(self.db, &bead.bead_id)?.is_some_and(|review| review.pr_url.is_some());
        let is_blocked = !why.blocked_by.is_empty();
        add(why, is_blocked, WaitReason::Blocked);
        if bead.status == BeadStatus::InProgress {
            add(why, has_pull_request, WaitReason::PullRequest);
            if is_held && !has_pull_request {
                self.why_not_dispatched(bead, why)?;
            } else if !has_pull_request && !is_blocked {
                self.lost_until(bead.updated_at.saturating_add(self.limits.abandoned_review_ms), why);
            }
            return Ok(());
        }
        let town = self.snapshot()?;
        if has_pull_request && !town.code_review {
            return Ok(());
        }
        add(why, reviews::is_busy(&town, rig, &bead.bead_id), WaitReason::ReviewerBusy);
        add(why, town.draining, WaitReason::Draining);
        add(why, town.breaker_open, WaitReason::Breaker);
        Ok(())
    }

    fn why_convoy(&self, bead: &Bead, why: &mut Why) -> Result<(), Fault> {
        let staged = store::convoy::find(self.db, &bead.bead_id)?.is_some_and(|convoy| convoy.staged);
        add(why, staged, WaitReason::Staged);
        let (over, total) = store::dependency::progress(self.db, &bead.bead_id)?;
        if over < total || total == 0 {
            why.reasons.push(WaitReason::Members);
            return Ok(());
        }
        let landings = store::review::of_source(self.db, &bead.bead_id)?;
        if landings.iter().any(|landing| !landing.status.is_terminal()) {
            why.reasons.push(WaitReason::Review);
            return Ok(());
        }
        why.cooling_down_until = convoys::cooling_until(self.limits, self.now, bead);
        let cools = why.cooling_down_until.is_some();
        add(why, cools, WaitReason::CoolingDown);
        Ok(())
    }

    /// What holds every dispatch back. One that was tried as often as it may be does not cool down: it is given up.
    fn why_not_dispatched(&self, bead: &Bead, why: &mut Why) -> Result<(), Fault> {
        add(why, self.is_draining()?, WaitReason::Draining);
        if bead.dispatch_attempts >= self.limits.dispatch_attempts_max {
            why.reasons.push(WaitReason::Attempts);
            return Ok(());
        }
        let (attempts, last) = (bead.dispatch_attempts, bead.last_dispatch_attempt_at);
        why.cooling_down_until = cooling_until(self.limits, self.now, attempts, last);
        let cools = why.cooling_down_until.is_some();
        add(why, cools, WaitReason::CoolingDown);
        add(why, snapshot::breaker_open(self.db, self.limits, self.now)?, WaitReason::Breaker);
        Ok(())
    }

    fn lost_until(&self, until: i64, why: &mut Why) {
        if until >= self.now {
            why.agent_lost_until = Some(until);
            why.reasons.push(WaitReason::AgentLost);
        }
    }
}

fn add(why: &mut Why, holds: bool, reason: WaitReason) {
    if holds {
        why.reasons.push(reason);
    }
}
