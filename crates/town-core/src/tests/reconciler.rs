//! The rules A1, A2, B1 to B4, the circuit breaker, the loop breaker, the invariants.

use super::world::World;
use super::world::notices;
use super::world::starts;
use crate::limits::Limits;
use crate::message::Answer;
use crate::message::Call;
use crate::message::Notice;
use crate::message::Output;
use crate::message::bead::NewBead;
use crate::message::call::TownCall;
use crate::reconcile::action::Action;
use crate::reconcile::reconcile;
use crate::reconcile::snapshot::Snapshot;
use object_core::time::MINUTE;
use object_core::time::SECOND;
use protocol::id::BeadId;
use protocol::town::agent::AgentStatus;
use protocol::town::bead::BeadStatus;
use protocol::town::bead::BeadType;
use protocol::town::bead::label;

fn violations(world: &mut World) -> Vec<i64> {
    match world.call(Call::Town(TownCall::Invariants {})) {
        Answer::Invariants { violations } => violations.into_iter().map(|violation| violation.invariant).collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a1_an_agent_is_idle_after_90_seconds_without_heartbeat_and_not_before() {
    let mut world = World::new();
    let (agent, _) = world.working();
    world.silence(&agent, 90 * SECOND);
    world.tick();
    assert_eq!(world.agent(&agent).status, AgentStatus::Working);
    world.silence(&agent, 90 * SECOND + 1);
    world.tick();
    assert_eq!(world.agent(&agent).status, AgentStatus::Idle);
}

#[test]
fn a1_an_agent_that_works_on_nothing_or_was_never_heard_is_idle_but_not_the_mayor() {
    let mut world = World::new();
    let (unheard, unhooked, mayor) = (world.polecat(), world.polecat(), world.mayor());
    world.silence(&unhooked, 0);
    for agent in [&unheard, &unhooked, &mayor] {
        world.set_agent_status(agent, &AgentStatus::Working);
    }
    world.tick();
    assert_eq!(world.agent(&unheard).status, AgentStatus::Idle);
    assert_eq!(world.agent(&unhooked).status, AgentStatus::Idle);
    assert_eq!(world.agent(&mayor).status, AgentStatus::Working);
}

#[test]
fn a2_an_idle_agent_lets_go_of_what_is_over_or_gone() {
    let mut world = World::new();
    let (first, second, bead, gone) = (world.polecat(), world.polecat(), world.issue("a"), world.issue("b"));
    world.hook(&first, &bead);
    world.hook(&second, &gone);
    world.sql("UPDATE beads SET status = 'closed' WHERE bead_id = ?", &[bead.as_str().into()]);
    world.sql("DELETE FROM beads WHERE bead_id = ?", &[gone.as_str().into()]);
    world.tick();
    assert_eq!(world.agent(&first).current_hook_bead_id, None);
    assert_eq!(world.agent(&second).current_hook_bead_id, None);
}

#[test]
fn b1_gives_an_open_bead_to_a_polecat_lazily() {
    let mut world = World::new();
    let bead = world.issue("a");
    assert_eq!(world.agents(), []);
    assert_eq!(starts(&world.tick()).len(), 1);
    let found = world.bead(&bead);
    assert_eq!((found.status, found.dispatch_attempts), (BeadStatus::InProgress, 1));
    assert_eq!(starts(&world.tick_after(5 * SECOND)), []);
}

#[test]
fn b1_leaves_what_is_held_asked_or_without_a_rig() {
    let mut world = World::new();
    let labelled = |label: &str| NewBead {
        rig: Some(super::world::rig("r1")),
        labels: vec![label.to_owned()],
        ..NewBead::new(BeadType::Issue, "x")
    };
    let held = world.create(labelled(label::HELD));
    let nowhere = world.create(NewBead::new(BeadType::Issue, "x"));
    world.tick();
    for bead in [&held, &nowhere] {
        assert_eq!(world.bead(bead).assignee_agent_bead_id, None);
    }
    assert_eq!(world.agents(), []);
}

#[test]
fn b1_waits_for_blockers() {
    let mut world = World::new();
    let (_, beads) = world.convoy(&[&[], &[0]], None, false);
    world.tick();
    assert_eq!(world.bead(&beads[1]).assignee_agent_bead_id, None);
    world.close(&beads[0]);
    world.tick();
    assert!(world.bead(&beads[1]).assignee_agent_bead_id.is_some());
}

#[test]
fn b1_rests_between_tries_and_gives_up_after_the_fifth() {
    let mut world = World::new();
    for (attempts, minutes) in [(1, 2), (2, 2), (3, 5), (4, 10)] {
        let bead = world.issue("a");
        world.set_attempts(&bead, attempts, minutes * MINUTE - 1);
        assert_eq!(starts(&world.tick()), [], "{attempts} tries");
        world.set_attempts(&bead, attempts, minutes * MINUTE);
        assert_eq!(starts(&world.tick()).len(), 1, "{attempts} tries");
    }
    let bead = world.issue("a");
    world.set_attempts(&bead, 5, 60 * MINUTE);
    world.tick();
    assert_eq!(world.status(&bead), BeadStatus::Failed);
    let failure = world.history(&bead).pop().unwrap().metadata;
    assert_eq!(failure["failure_reason"]["message"], "max dispatch attempts exceeded (5)");
}

#[test]
fn b1b_forgets_an_assignee_that_does_not_hold_the_bead() {
    let mut world = World::new();
    let agent = world.polecat();
    let bead = world.create(NewBead { assignee: Some(agent), ..NewBead::new(BeadType::Issue, "x") });
    let system = protocol::id::AgentId::parse("system").unwrap();
    let own = world.create(NewBead { assignee: Some(system.clone()), ..NewBead::new(BeadType::Issue, "x") });
    world.tick();
    assert_eq!(world.bead(&bead).assignee_agent_bead_id, None);
    assert_eq!(world.bead(&own).assignee_agent_bead_id, Some(system));
}

#[test]
fn b2_dispatches_the_agent_that_holds_the_bead_and_fails_it_past_the_cap() {
    let mut world = World::new();
    let (agent, bead) = (world.polecat(), world.issue("a"));
    world.hook(&agent, &bead);
    world.set_attempts(&bead, 1, MINUTE);
    assert_eq!(starts(&world.tick()), []);
    world.set_attempts(&bead, 1, 2 * MINUTE);
    assert_eq!(starts(&world.tick())[0].agent_id, agent);
    let (agent, bead) = (world.polecat(), world.issue("b"));
    world.hook(&agent, &bead);
    world.set_attempts(&bead, 5, 0);
    world.tick();
    assert_eq!(world.status(&bead), BeadStatus::Failed);
    assert_eq!(world.agent(&agent).current_hook_bead_id, None);
}

#[test]
fn b3_opens_what_nobody_works_on_after_five_minutes_and_leaves_what_is_fresh() {
    let mut world = World::new();
    let (agent, bead) = world.working();
    world.set_agent_status(&agent, &AgentStatus::Idle);
    world.silence(&agent, 2 * MINUTE);
    world.age_bead(&bead, 5 * MINUTE);
    world.tick();
    assert_eq!(world.status(&bead), BeadStatus::InProgress, "fresh");
    world.age_bead(&bead, 5 * MINUTE + 1);
    world.tick();
    let found = world.bead(&bead);
    assert_eq!((found.status, found.assignee_agent_bead_id), (BeadStatus::Open, None));
    assert_eq!(world.agent(&agent).current_hook_bead_id, None);
}

#[test]
fn b3_leaves_a_living_agent_alone_and_fails_what_was_tried_too_often() {
    let mut world = World::new();
    let (_, bead) = world.working();
    world.age_bead(&bead, 60 * MINUTE);
    world.tick();
    assert_eq!(world.status(&bead), BeadStatus::InProgress);
    let lost = world.issue("lost");
    world.set_status(&lost, BeadStatus::InProgress);
    world.set_attempts(&lost, 5, 0);
    world.age_bead(&lost, 6 * MINUTE);
    world.tick();
    assert_eq!(world.status(&lost), BeadStatus::Failed);
}

#[test]
fn b4_ends_what_has_only_finished_reviews() {
    for (merged, expected) in [(true, BeadStatus::Closed), (false, BeadStatus::Open)] {
        let mut world = World::new();
        let (issue, review, _) = world.in_review();
        let status = if merged { "closed" } else { "failed" };
        world.sql("UPDATE beads SET status = ? WHERE bead_id = ?", &[status.into(), review.as_str().into()]);
        world.tick();
        assert_eq!(world.status(&issue), BeadStatus::InReview, "for five minutes");
        assert_eq!(violations(&mut world), [4]);
        world.age_bead(&issue, 5 * MINUTE + 1);
        world.tick();
        assert_eq!(world.status(&issue), expected);
    }
}

/// Beads that were tried not long ago and are not done.
fn tried(world: &mut World, count: usize) -> Vec<BeadId> {
    (0..count)
        .map(|_| {
            let bead = world.create(NewBead::new(BeadType::Issue, "tried"));
            world.set_attempts(&bead, 1, 29 * MINUTE);
            bead
        })
        .collect()
}

#[test]
fn the_breaker_opens_at_20_tries_tells_the_mayor_once_and_closes_after_30_minutes() {
    let mut world = World::new();
    let tries = tried(&mut world, 20);
    let bead = world.issue("a");
    let outputs = world.tick();
    assert_eq!(starts(&outputs), []);
    assert_eq!(notices(&outputs), [Notice::BreakerOpen]);
    assert_eq!(notices(&world.tick_after(5 * SECOND)), []);
    world.close(&tries[0]);
    assert_eq!(starts(&world.tick_after(5 * SECOND)).len(), 1, "19 are not too many");
    let other = world.issue("b");
    tried(&mut world, 1);
    world.tick_after(5 * SECOND);
    assert_eq!(world.bead(&other).assignee_agent_bead_id, None);
    world.tick_after(31 * MINUTE);
    assert!(world.bead(&other).assignee_agent_bead_id.is_some());
    assert_ne!(world.status(&bead), BeadStatus::Closed);
}

#[test]
fn while_the_breaker_is_open_a_sling_only_hooks() {
    let mut world = World::new();
    tried(&mut world, 20);
    let (bead, agent) = world.sling("a");
    assert_eq!((bead.status, bead.dispatch_attempts, agent.status), (BeadStatus::Open, 0, AgentStatus::Idle));
}

#[test]
fn an_action_that_repeats_without_end_is_held_back_and_said() {
    let mut world = World::new();
    let agent = world.polecat();
    let bead = world.create(NewBead::new(BeadType::Issue, "x"));
    let mut held = 0;
    for _ in 0..40 {
        let sql = "UPDATE beads SET assignee_agent_bead_id = ? WHERE bead_id = ?";
        world.sql(sql, &[agent.as_str().into(), bead.as_str().into()]);
        let outputs = world.tick_after(5 * SECOND);
        held += notices(&outputs).iter().filter(|notice| matches!(notice, Notice::LoopHeld { .. })).count();
    }
    assert_eq!(held, 1, "said once");
    assert_eq!(world.bead(&bead).assignee_agent_bead_id, Some(agent), "and not done any more");
    assert!(world.newest(BeadType::Escalation).title.contains("clear_bead_assignee"));
    let Answer::Why { why } = world.call(Call::Bead(crate::message::call::BeadCall::Why { bead: bead.clone() })) else {
        panic!()
    };
    assert!(why.reasons.contains(&protocol::town::status::WaitReason::LoopBreaker));
    world.tick_after(31 * MINUTE);
    assert_eq!(world.bead(&bead).assignee_agent_bead_id, None, "after half an hour it may again");
}

#[test]
fn one_action_that_fails_stops_no_other() {
    let mut world = World::new();
    let (stuck, free) = (world.issue("stuck"), world.issue("free"));
    // A polecat of that name cannot be made: the first dispatch fails, with all that it wrote.
    world.sql(
        "INSERT INTO agent_metadata (bead_id, role, identity) VALUES ('ghost', 'polecat', 'Toast-polecat-r1@town0001')",
        &[],
    );
    let outputs = world.tick();
    assert!(
        matches!(&notices(&outputs)[..], [Notice::ActionFailed { .. }, Notice::ActionFailed { .. }]),
        "{outputs:?}"
    );
    assert_eq!(world.count("SELECT COUNT(*) FROM beads WHERE type = 'agent'"), 0);
    let mut told = Vec::new();
    for _ in 0..30 {
        told.extend(notices(&world.tick_after(5 * SECOND)));
    }
    let failed = |notice: &&Notice| matches!(notice, Notice::ActionFailed { action, .. } if action.starts_with("dispatch_agent/"));
    assert_eq!(told.iter().filter(failed).count(), 2 * 12, "twelve more failures each");
    assert_eq!(
        told.iter().filter(|notice| matches!(notice, Notice::LoopHeld { .. })).count(),
        2,
        "then both are held back"
    );
    let triage = |notice: &Notice| matches!(notice, Notice::ActionFailed { action, .. } if action == "dispatch_triage");
    assert!(told.iter().any(triage), "not even housekeeping that fails stops the tick");
    world.sql("DELETE FROM agent_metadata", &[]);
    world.sql("DELETE FROM action_loop", &[]);
    world.tick();
    for bead in [&stuck, &free] {
        assert_eq!(world.status(bead), BeadStatus::InProgress);
    }
}

#[test]
fn a_tick_hands_out_no_more_than_the_breaker_lets_through_however_much_waits() {
    let mut world = World::new();
    let beads: Vec<_> = (0..30).map(|n| world.issue(&format!("work {n}"))).collect();
    assert_eq!(starts(&world.tick()).len(), 20);
    assert_eq!(starts(&world.tick_after(SECOND)).len(), 0, "the breaker is open");
    let waits = |bead: &&BeadId| world.status(bead) == BeadStatus::Open;
    assert!(beads.iter().filter(waits).eq(&beads[20..]), "the oldest go first");
}

#[test]
fn reconcile_is_a_pure_function_of_the_snapshot() {
    let mut world = World::new();
    let bead = world.issue("a");
    let Answer::Decisions { actions } = world.call(Call::Town(TownCall::DryRun {})) else { panic!() };
    assert_eq!(actions, [format!("dispatch_agent/{bead}")]);
    assert_eq!(world.bead(&bead).assignee_agent_bead_id, None, "asked, not done");
    let limits = Limits::default();
    let snapshot = Snapshot::read(&world.db, &limits, world.now, false, None).unwrap();
    let dispatch = Action::DispatchAgent { agent: None, bead, rig: Some(super::world::rig("r1")) };
    for _ in 0..2 {
        assert_eq!(reconcile(&snapshot, &limits), std::slice::from_ref(&dispatch));
    }
    let draining = Snapshot { draining: true, ..snapshot };
    assert_eq!(reconcile(&draining, &limits), []);
}

#[test]
fn the_invariants_name_what_does_not_hold() {
    let mut world = World::new();
    assert_eq!(violations(&mut world), Vec::<i64>::new());
    let (agent, mayor) = (world.polecat(), world.mayor());
    world.set_agent_status(&agent, &AgentStatus::Working);
    world.set_agent_status(&mayor, &AgentStatus::Working);
    let (convoy, _) = world.convoy(&[&[]], None, false);
    world.sql("UPDATE beads SET status = 'in_progress' WHERE bead_id = ?", &[convoy.as_str().into()]);
    assert_eq!(violations(&mut world), [5, 7]);
    let outputs = world.tick();
    let told = outputs.iter().find_map(|output| match output {
        Output::Ticked(metrics) => Some(metrics.clone()),
        _ => None,
    });
    let told = told.unwrap();
    assert_eq!(told.invariant_violations, 2);
    assert_eq!(told.actions_by_type.get("dispatch_agent"), Some(&1));
    let performed = outputs.iter().filter(|output| matches!(output, Output::Perform { .. })).count();
    assert!(performed > 0 && told.side_effects_attempted == i64::try_from(performed).unwrap());
}

#[test]
fn two_agents_can_never_hold_one_bead() {
    let mut world = World::new();
    let (first, second, bead) = (world.polecat(), world.polecat(), world.issue("a"));
    world.hook(&first, &bead);
    let sql = "UPDATE agent_metadata SET current_hook_bead_id = ? WHERE bead_id = ?";
    let error = database::Database::query(&world.db, sql, &[bead.as_str().into(), second.as_str().into()]);
    assert!(error.is_err(), "the table itself refuses");
}
