//! GUPP: agents that hold work and do nothing; and GC: agents that nobody needs.

use super::action::Action;
use super::action::Tier;
use super::snapshot::AgentView;
use super::snapshot::Snapshot;
use super::stale;
use crate::limits::Limits;
use protocol::town::agent::AgentStatus;
use protocol::town::agent::Role;

pub fn rules(town: &Snapshot, limits: &Limits, actions: &mut Vec<Action>) {
    // As with heartbeats: a container that ends stops reporting before its agents stop working.
    if !town.draining {
        for view in town.agents.iter().filter(|view| view.row.is_running() && view.row.agent.role != Role::Mayor) {
            silent(town, limits, view, actions);
        }
    }
    for view in &town.agents {
        let agent = &view.row.agent;
        let is_spare = matches!(agent.role, Role::Polecat | Role::Refinery)
            && matches!(agent.status, AgentStatus::Idle | AgentStatus::Dead)
            && agent.current_hook_bead_id.is_none();
        if is_spare && stale(town.now, agent.last_activity_at.or(Some(agent.created_at)), limits.agent_kept_ms) {
            actions.push(Action::DeleteAgent { agent: agent.id.clone() });
        }
    }
}

fn silent(town: &Snapshot, limits: &Limits, view: &AgentView, actions: &mut Vec<Action>) {
    let agent = &view.row.agent;
    let Some(seen) = view.row.last_event_at.or(agent.last_activity_at) else { return };
    let silence = town.now.saturating_sub(seen);
    let minutes = silence.div_euclid(object_core::time::MINUTE);
    let id = || agent.id.clone();
    let told = |tier: Tier| view.nudged_by.iter().any(|source| source == tier.source());
    if silence > limits.gupp_stop_ms {
        if agent.status != AgentStatus::Stalled {
            let reason = format!("no activity for {minutes} minutes");
            actions.push(Action::TransitionAgent { agent: id(), to: AgentStatus::Stalled, reason: reason.clone() });
            actions.push(Action::StopAgent { agent: id(), reason: reason.clone() });
            actions.push(Action::CreateTriageRequest { agent: id(), reason });
        }
    } else if silence > limits.gupp_escalate_ms {
        if !told(Tier::Escalate) {
            let message = format!(
                "You have shown no activity for {minutes} minutes. Continue with your bead now, or call gt_escalate and say what stops you."
            );
            actions.push(Action::SendNudge { agent: id(), message, tier: Tier::Escalate });
            let reason = format!("no activity for {minutes} minutes");
            actions.push(Action::CreateTriageRequest { agent: id(), reason });
        }
    } else if silence > limits.gupp_warn_ms && view.row.active_tools.is_empty() && !told(Tier::Warn) {
        let message = format!("You have work on your hook and no activity for {minutes} minutes. Continue with it.");
        actions.push(Action::SendNudge { agent: id(), message, tier: Tier::Warn });
    }
}
