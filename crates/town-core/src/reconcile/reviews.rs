//! R1 to R7: merge requests, one refinery per rig.

use super::action::Action;
use super::cooling_until;
use super::snapshot::ReviewView;
use super::snapshot::Snapshot;
use super::stale;
use crate::limits::Limits;
use protocol::id::BeadId;
use protocol::id::RigId;
use protocol::town::agent::Agent;
use protocol::town::agent::AgentStatus;
use protocol::town::agent::Role;
use protocol::town::bead::BeadStatus;
use protocol::town::bead::BeadType;
use std::collections::BTreeSet;

pub fn rules(town: &Snapshot, limits: &Limits, actions: &mut Vec<Action>) {
    for view in town.reviews.iter().filter(|view| view.bead.status == BeadStatus::InProgress) {
        match &view.review.pr_url {
            Some(url) => pull_request(town, limits, view, url, actions),
            None => unattended(town, limits, view, actions),
        }
    }
    let rigs: BTreeSet<_> = town.reviews.iter().filter_map(|view| view.bead.rig_id.as_ref()).collect();
    for rig in rigs {
        next_of(town, rig, actions);
    }
    refineries(town, limits, actions);
}

/// R1, R4.
fn pull_request(town: &Snapshot, limits: &Limits, view: &ReviewView, url: &str, actions: &mut Vec<Action>) {
    let bead = view.bead.bead_id.clone();
    let works = town.holder(&bead).is_some_and(|holder| holder.row.agent.status == AgentStatus::Working);
    if stale(town.now, Some(view.bead.updated_at), limits.stuck_review_ms) && !works {
        let reason = "PR review orphaned".into();
        actions.push(Action::TransitionBead { bead, to: BeadStatus::Failed, reason });
    } else if stale(town.now, Some(view.bead.updated_at), limits.poll_ms.saturating_sub(1)) {
        actions.push(Action::PollPr { bead, url: url.to_owned() });
    }
}

/// R2, R3. What waits for rework is left alone.
fn unattended(town: &Snapshot, limits: &Limits, view: &ReviewView, actions: &mut Vec<Action>) {
    if view.blocked {
        return;
    }
    let bead = view.bead.bead_id.clone();
    let holder = town.holder(&bead);
    let patience = match holder {
        None => limits.abandoned_review_ms,
        Some(holder) if holder.row.is_running() => return,
        Some(_) => limits.stuck_review_ms,
    };
    if !stale(town.now, Some(view.bead.updated_at), patience) {
        return;
    }
    let reason = "review without a reviewer".into();
    actions.push(Action::TransitionBead { bead, to: BeadStatus::Open, reason });
    if let Some(holder) = holder {
        actions.push(Action::UnhookAgent { agent: holder.row.agent.id.clone() });
    }
}

/// R5: the oldest merge request of a rig goes to its refinery, one at a time.
fn next_of(town: &Snapshot, rig: &RigId, actions: &mut Vec<Action>) {
    let in_progress = |view: &ReviewView| Action::TransitionBead {
        bead: view.bead.bead_id.clone(),
        to: BeadStatus::InProgress,
        reason: "popped for review".into(),
    };
    if !town.code_review {
        actions.extend(open(town, rig).filter(|view| view.review.pr_url.is_some()).map(in_progress));
    }
    if is_reviewing(town, rig) {
        return;
    }
    let Some(next) = next_open(town, rig) else { return };
    if town.draining || town.breaker_open {
        return;
    }
    let bead = next.bead.bead_id.clone();
    let dispatch = |agent| Action::DispatchAgent { agent, bead: bead.clone(), rig: Some(rig.clone()) };
    match refinery(town, rig) {
        None => actions.extend([in_progress(next), dispatch(None)]),
        Some(agent) if is_free(agent) => {
            let hook = Action::HookAgent { agent: agent.id.clone(), bead: bead.clone() };
            actions.extend([in_progress(next), hook, dispatch(Some(agent.id.clone()))]);
        }
        Some(_) => {}
    }
}

/// Whether a rig's one reviewer has others first: one that it reviews, or one that has waited for longer.
pub fn is_busy(town: &Snapshot, rig: &RigId, review: &BeadId) -> bool {
    is_reviewing(town, rig)
        || next_open(town, rig).is_some_and(|next| next.bead.bead_id != *review)
        || refinery(town, rig).is_some_and(|agent| !is_free(agent))
}

fn is_reviewing(town: &Snapshot, rig: &RigId) -> bool {
    let reviewed = |view: &ReviewView| view.bead.status == BeadStatus::InProgress && view.review.pr_url.is_none();
    of_rig(town, rig).any(reviewed)
}

fn next_open<'a>(town: &'a Snapshot, rig: &'a RigId) -> Option<&'a ReviewView> {
    open(town, rig).find(|view| town.code_review || view.review.pr_url.is_none())
}

fn open<'a>(town: &'a Snapshot, rig: &'a RigId) -> impl Iterator<Item = &'a ReviewView> {
    of_rig(town, rig).filter(|view| view.bead.status == BeadStatus::Open && !view.blocked)
}

fn of_rig<'a>(town: &'a Snapshot, rig: &'a RigId) -> impl Iterator<Item = &'a ReviewView> {
    town.reviews.iter().filter(move |view| view.bead.rig_id.as_ref() == Some(rig))
}

fn refinery<'a>(town: &'a Snapshot, rig: &RigId) -> Option<&'a Agent> {
    let own = |agent: &&Agent| agent.role == Role::Refinery && agent.rig_id.as_ref() == Some(rig);
    town.agents.iter().map(|view| &view.row.agent).find(own)
}

fn is_free(refinery: &Agent) -> bool {
    refinery.status == AgentStatus::Idle && refinery.current_hook_bead_id.is_none()
}

/// R6, R7. A refinery holds nothing but what it reviews: it would keep the rig's other merge requests from their turn.
fn refineries(town: &Snapshot, limits: &Limits, actions: &mut Vec<Action>) {
    for view in town.agents.iter().filter(|view| view.row.agent.role == Role::Refinery) {
        let agent = &view.row.agent;
        let (Some(hook), Some((kind, status))) = (&agent.current_hook_bead_id, view.hooked) else { continue };
        let is_reviewed = (kind, status) == (BeadType::MergeRequest, BeadStatus::InProgress);
        if agent.status == AgentStatus::Idle && !status.is_terminal() && !is_reviewed {
            actions.push(Action::UnhookAgent { agent: agent.id.clone() });
        }
        if status.is_terminal() && view.row.is_running() {
            let reason = "its merge request is over".into();
            actions.push(Action::StopAgent { agent: agent.id.clone(), reason });
            actions.push(Action::UnhookAgent { agent: agent.id.clone() });
        }
        let waits = agent.status == AgentStatus::Idle && is_reviewed;
        let Some(review) = town.reviews.iter().find(|review| waits && review.bead.bead_id == *hook) else { continue };
        let bead = &review.bead;
        let skips = !town.code_review && review.review.pr_url.is_some();
        if town.draining || skips {
            continue;
        }
        if bead.dispatch_attempts >= limits.dispatch_attempts_max {
            let reason = format!("max dispatch attempts exceeded ({})", bead.dispatch_attempts);
            actions.push(Action::TransitionBead { bead: hook.clone(), to: BeadStatus::Failed, reason });
            actions.push(Action::UnhookAgent { agent: agent.id.clone() });
        } else if !review.blocked
            && !town.breaker_open
            && cooling_until(limits, town.now, bead.dispatch_attempts, bead.last_dispatch_attempt_at).is_none()
        {
            let agent = Some(agent.id.clone());
            actions.push(Action::DispatchAgent { agent, bead: hook.clone(), rig: bead.rig_id.clone() });
        }
    }
}
