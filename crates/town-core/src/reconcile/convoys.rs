//! Convoys: counted again, landed when complete. Never held back by a drain: the container has no part in it.

use super::action::Action;
use super::snapshot::ConvoyView;
use super::snapshot::Snapshot;
use crate::limits::Limits;
use protocol::time::parse_iso8601;
use protocol::town::bead::BeadStatus;
use protocol::town::convoy::MergeMode;

pub fn rules(town: &Snapshot, limits: &Limits, actions: &mut Vec<Action>) {
    for view in &town.convoys {
        let convoy = &view.convoy;
        if view.counted != (convoy.closed_beads, convoy.total_beads) {
            actions.push(Action::UpdateConvoyProgress { convoy: convoy.id.clone() });
        }
        let (closed, total) = view.counted;
        if total == 0 || closed < total {
            continue;
        }
        match (&convoy.feature_branch, convoy.merge_mode) {
            (Some(branch), Some(MergeMode::ReviewThenLand)) => land(town, limits, view, branch, actions),
            _ => actions.push(Action::CloseConvoy { convoy: convoy.id.clone() }),
        }
    }
}

fn land(town: &Snapshot, limits: &Limits, view: &ConvoyView, branch: &str, actions: &mut Vec<Action>) {
    let convoy = view.convoy.id.clone();
    if view.bead.metadata.get("ready_to_land").is_none() {
        actions.push(Action::SetConvoyReadyToLand { convoy });
        return;
    }
    if view.landings.iter().any(|landing| landing.status == BeadStatus::Closed) {
        actions.push(Action::CloseConvoy { convoy });
        return;
    }
    if view.landings.iter().any(|landing| !landing.status.is_terminal()) {
        return;
    }
    let tries = view.bead.metadata.get("landing_mr_attempts").and_then(|n| n.as_i64()).unwrap_or_default();
    if tries >= limits.landing_attempts_max {
        let reason = format!("the landing failed {tries} times");
        actions.push(Action::FailConvoy { convoy, reason });
        return;
    }
    let factor = 2_i64.saturating_pow(u32::try_from(tries).unwrap_or(u32::MAX));
    let pause = limits.landing_pause_ms.saturating_mul(factor).min(limits.landing_pause_ms_max);
    let last = view.bead.text("last_landing_mr_attempt_at").and_then(parse_iso8601);
    if last.is_some_and(|at| at.saturating_add(pause) > town.now) {
        return;
    }
    let default = view.rig.as_ref().and_then(|rig| town.default_branches.get(rig));
    actions.push(Action::CreateLandingMr {
        convoy,
        rig: view.rig.clone(),
        branch: branch.to_owned(),
        target: default.cloned().unwrap_or_else(|| "main".into()),
    });
}
