//! Convoys: counted again, landed when complete. Never held back by a drain: the container has no part in it.

use super::action::Action;
use super::snapshot::ConvoyView;
use super::snapshot::Snapshot;
use crate::convoy::LANDING_TRIES;
use crate::convoy::LAST_LANDING;
use crate::convoy::READY_TO_LAND;
use crate::convoy::is_landing;
use crate::limits::Limits;
use protocol::time::parse_iso8601;
use protocol::town::bead::Bead;
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
    if !view.bead.metadata.contains_key(READY_TO_LAND) {
        actions.push(Action::SetConvoyReadyToLand { convoy });
        return;
    }
    if view.landings.iter().any(|landing| landing.status == BeadStatus::Closed && is_landing(&view.bead, landing)) {
        actions.push(Action::CloseConvoy { convoy });
        return;
    }
    if view.landings.iter().any(|landing| !landing.status.is_terminal()) {
        return;
    }
    let tries = tries(&view.bead);
    if tries >= limits.landing_attempts_max {
        let reason = format!("the landing failed {tries} times");
        actions.push(Action::FailConvoy { convoy, reason });
        return;
    }
    if cooling_until(limits, town.now, &view.bead).is_some() {
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

/// When a convoy may be landed again, if that is not yet.
pub fn cooling_until(limits: &Limits, now: i64, convoy: &Bead) -> Option<i64> {
    let factor = 2_i64.saturating_pow(u32::try_from(tries(convoy)).unwrap_or(u32::MAX));
    let pause = limits.landing_pause_ms.saturating_mul(factor).min(limits.landing_pause_ms_max);
    let last = convoy.text(LAST_LANDING).and_then(parse_iso8601)?;
    Some(last.saturating_add(pause)).filter(|until| *until > now)
}

fn tries(convoy: &Bead) -> i64 {
    convoy.metadata.get(LANDING_TRIES).and_then(|n| n.as_i64()).unwrap_or_default()
}
