//! A1, A2: agents that do not live any more, and hooks to what is over.

use super::action::Action;
use super::snapshot::AgentView;
use super::snapshot::Snapshot;
use super::stale;
use crate::limits::Limits;
use protocol::town::agent::AgentStatus;
use protocol::town::agent::Role;

pub fn rules(town: &Snapshot, limits: &Limits, actions: &mut Vec<Action>) {
    for view in &town.agents {
        // SIGTERM stops the heartbeats before it stops the agents: while the town drains, silence says nothing.
        if !town.draining {
            lost(town, limits, view, actions);
        }
        let agent = &view.row.agent;
        let is_over = view.hooked.is_none_or(|(_, status)| status.is_terminal());
        if agent.status == AgentStatus::Idle && agent.current_hook_bead_id.is_some() && is_over {
            actions.push(Action::UnhookAgent { agent: agent.id.clone() });
        }
    }
}

fn lost(town: &Snapshot, limits: &Limits, view: &AgentView, actions: &mut Vec<Action>) {
    let agent = &view.row.agent;
    if agent.role == Role::Mayor {
        // It says itself when it waits. Where that was lost, its hearts would keep the town and the container awake for ever.
        let is_silent = view.row.last_event_at.is_some_and(|at| town.now.saturating_sub(at) > limits.gupp_warn_ms);
        if agent.status == AgentStatus::Working && is_silent {
            let reason = "the mayor has been silent for long".to_owned();
            actions.push(Action::TransitionAgent { agent: agent.id.clone(), to: AgentStatus::Waiting, reason });
        }
        return;
    }
    let idle = |reason: &str| Action::TransitionAgent {
        agent: agent.id.clone(),
        to: AgentStatus::Idle,
        reason: reason.to_owned(),
    };
    match agent.status {
        AgentStatus::Working if agent.last_activity_at.is_none() => {
            actions.push(idle("no heartbeat received since dispatch"));
        }
        AgentStatus::Working if stale(town.now, agent.last_activity_at, limits.heartbeat_stale_ms) => {
            actions.push(idle("heartbeat lost (3 missed cycles)"));
        }
        AgentStatus::Working if agent.current_hook_bead_id.is_none() => {
            actions.push(idle("working agent has no hook"));
        }
        AgentStatus::Stalled if stale(town.now, view.row.stalled_at, limits.stalled_ms) => {
            if agent.current_hook_bead_id.is_some() {
                actions.push(Action::UnhookAgent { agent: agent.id.clone() });
            } else {
                actions.push(idle("stalled for too long"));
            }
        }
        _ => {}
    }
}
