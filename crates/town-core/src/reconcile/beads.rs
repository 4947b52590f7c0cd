//! B1 to B4: issues that nobody works on.

use super::action::Action;
use super::cooling_until;
use super::snapshot::IssueView;
use super::snapshot::Snapshot;
use super::stale;
use crate::limits::Limits;
use protocol::town::agent::AgentStatus;
use protocol::town::agent::Role;
use protocol::town::bead::Bead;
use protocol::town::bead::BeadStatus;
use protocol::town::bead::BeadType;
use protocol::town::bead::label;

pub fn rules(town: &Snapshot, limits: &Limits, actions: &mut Vec<Action>) {
    for bead in town.ready.iter().filter(|_| !town.draining) {
        unassigned(town, limits, bead, actions);
    }
    for issue in &town.issues {
        match issue.bead.status {
            BeadStatus::Open => orphaned(town, &issue.bead, actions),
            BeadStatus::InProgress => abandoned(town, limits, &issue.bead, actions),
            BeadStatus::InReview => reviewed(town, limits, issue, actions),
            BeadStatus::Closed | BeadStatus::Failed => {}
        }
    }
    waiting_agents(town, limits, actions);
    if town.breaker_open {
        let message = "Too many beads were dispatched in a short time: no more are until some are done".to_owned();
        actions.push(Action::NotifyMayor { message });
    }
}

/// B1. While the town drains nothing is failed either.
fn unassigned(town: &Snapshot, limits: &Limits, bead: &Bead, actions: &mut Vec<Action>) {
    if bead.dispatch_attempts >= limits.dispatch_attempts_max {
        actions.push(too_often(bead));
    } else if may_dispatch(town, limits, bead) {
        actions.push(Action::DispatchAgent { agent: None, bead: bead.bead_id.clone(), rig: bead.rig_id.clone() });
    }
}

/// B1b.
fn orphaned(town: &Snapshot, bead: &Bead, actions: &mut Vec<Action>) {
    let Some(assignee) = &bead.assignee_agent_bead_id else { return };
    let holds = town.holder(&bead.bead_id).is_some_and(|view| view.row.agent.id == *assignee);
    if !holds && assignee.as_str() != "system" && !bead.has_label(label::TRIAGE_REQUEST) {
        actions.push(Action::ClearBeadAssignee { bead: bead.bead_id.clone() });
    }
}

/// B2. The cap fails a bead while the town drains too; only the dispatch is held back.
fn waiting_agents(town: &Snapshot, limits: &Limits, actions: &mut Vec<Action>) {
    for view in &town.agents {
        let agent = &view.row.agent;
        let Some(hook) = &agent.current_hook_bead_id else { continue };
        let waits = agent.status == AgentStatus::Idle
            && agent.role != Role::Refinery
            && view.hooked == Some((BeadType::Issue, BeadStatus::Open));
        let Some(issue) = town.issues.iter().find(|issue| waits && issue.bead.bead_id == *hook) else { continue };
        let bead = &issue.bead;
        if bead.dispatch_attempts >= limits.dispatch_attempts_max {
            actions.push(too_often(bead));
            actions.push(Action::UnhookAgent { agent: agent.id.clone() });
        } else if !issue.blocked && !town.draining && !bead.has_label(label::HELD) && may_dispatch(town, limits, bead) {
            actions.push(Action::DispatchAgent {
                agent: Some(agent.id.clone()),
                bead: bead.bead_id.clone(),
                rig: bead.rig_id.clone(),
            });
        }
    }
}

/// B3.
fn abandoned(town: &Snapshot, limits: &Limits, bead: &Bead, actions: &mut Vec<Action>) {
    let lives = town.holder(&bead.bead_id).is_some_and(|view| {
        view.row.is_running() || !stale(town.now, view.row.agent.last_activity_at, limits.heartbeat_stale_ms)
    });
    if lives || !stale(town.now, Some(bead.updated_at), limits.orphan_bead_ms) {
        return;
    }
    if bead.dispatch_attempts >= limits.dispatch_attempts_max {
        actions.push(too_often(bead));
    } else {
        actions.push(Action::TransitionBead {
            bead: bead.bead_id.clone(),
            to: BeadStatus::Open,
            reason: "in progress without a living agent".into(),
        });
    }
    actions.push(Action::ClearBeadAssignee { bead: bead.bead_id.clone() });
}

/// B4. Where no merge request is left at all, whoever deleted it, nothing else would look at the bead again.
fn reviewed(town: &Snapshot, limits: &Limits, issue: &IssueView, actions: &mut Vec<Action>) {
    let tally = issue.reviews;
    if tally.unfinished > 0 || !stale(town.now, Some(issue.bead.updated_at), limits.orphan_bead_ms) {
        return;
    }
    let bead = issue.bead.bead_id.clone();
    if tally.merged > 0 {
        let reason = "MR merged (reconciler safety net)".into();
        actions.push(Action::TransitionBead { bead, to: BeadStatus::Closed, reason });
    } else {
        let reason = "no merge request is left".into();
        actions.push(Action::TransitionBead { bead: bead.clone(), to: BeadStatus::Open, reason });
        actions.push(Action::ClearBeadAssignee { bead });
    }
}

fn too_often(bead: &Bead) -> Action {
    Action::TransitionBead {
        bead: bead.bead_id.clone(),
        to: BeadStatus::Failed,
        reason: format!("max dispatch attempts exceeded ({})", bead.dispatch_attempts),
    }
}

fn may_dispatch(town: &Snapshot, limits: &Limits, bead: &Bead) -> bool {
    !town.breaker_open
        && cooling_until(limits, town.now, bead.dispatch_attempts, bead.last_dispatch_attempt_at).is_none()
}
