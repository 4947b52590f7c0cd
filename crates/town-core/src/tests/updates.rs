//! What may be changed in a bead, and what may not.

use super::world::World;
use super::world::rig;
use crate::error::Refusal;
use crate::message::Call;
use crate::message::bead::BeadChanges;
use crate::message::bead::NewBead;
use crate::message::call::AgentCall;
use crate::message::call::BeadCall;
use object_core::time::MINUTE;
use protocol::id::AgentId;
use protocol::id::BeadId;
use protocol::town::bead::BeadStatus;
use protocol::town::bead::BeadType;
use serde_json::Value;
use serde_json::json;

fn update(bead: &BeadId, changes: BeadChanges) -> Call {
    Call::Bead(BeadCall::Update { bead: bead.clone(), rig: rig("r1"), changes, actor: "mayor".into() })
}

fn metadata(bead: &BeadId, metadata: Value) -> Call {
    let Value::Object(metadata) = metadata else { panic!() };
    update(bead, BeadChanges { metadata: Some(metadata), ..BeadChanges::default() })
}

#[test]
fn metadata_changes_key_by_key_and_null_removes() {
    let mut world = World::new();
    let bead = world.issue("a");
    world.call(metadata(&bead, json!({"kept": 1, "changed": 1, "removed": 1})));
    world.call(metadata(&bead, json!({"changed": {"by": "key"}, "removed": null})));
    assert_eq!(Value::from(world.bead(&bead).metadata), json!({"kept": 1, "changed": {"by": "key"}}));
}

#[test]
fn what_the_town_keeps_in_metadata_is_changed_by_no_update() {
    let mut world = World::new();
    let (convoy, beads) = world.convoy(&[&[]], None, false);
    world.tick();
    let before = world.bead(&beads[0]).metadata;
    assert_eq!(before["convoy_id"], json!(convoy));
    assert!(before.contains_key("feature_branch") && before.contains_key("work_branch"), "{before:?}");
    world.call(metadata(
        &beads[0],
        json!({"note": "n", "work_branch": "main", "convoy_id": null, "pr_url": "https://evil"}),
    ));
    let mut expected = before;
    expected.insert("note".into(), json!("n"));
    assert_eq!(world.bead(&beads[0]).metadata, expected);
}

#[test]
fn a_bead_moves_only_to_a_rig_of_the_town() {
    let mut world = World::new();
    let bead = world.issue("a");
    let to = |name: &str| BeadChanges { rig: Some(rig(name)), ..BeadChanges::default() };
    assert_eq!(world.refused(update(&bead, to("r2"))), Refusal::RigNotFound { rig: rig("r2") });
    assert_eq!(world.bead(&bead).rig_id, Some(rig("r1")));
    world.add_rig("r2");
    world.call(update(&bead, to("r2")));
    assert_eq!(world.bead(&bead).rig_id, Some(rig("r2")));
    let elsewhere = NewBead { rig: Some(rig("r3")), ..NewBead::new(BeadType::Issue, "b") };
    assert_eq!(world.refused(Call::Bead(BeadCall::Create(elsewhere))), Refusal::RigNotFound { rig: rig("r3") });
}

fn to_r2(bead: &BeadId) -> Call {
    update(bead, BeadChanges { rig: Some(rig("r2")), title: Some("moved".into()), ..BeadChanges::default() })
}

/// The reason why a bead stays in its rig. Nothing of the call happened.
fn stays(world: &mut World, bead: &BeadId) -> String {
    let before = world.bead(bead);
    let Refusal::BeadBusy { bead: of, why } = world.refused(to_r2(bead)) else { panic!("{before:?}") };
    assert_eq!((&of, world.bead(bead)), (bead, before));
    why
}

/// Its agent worked on in the first rig's repository, and its review was one of the second's: that has no such branch.
#[test]
fn a_bead_stays_in_its_rig_while_it_is_on_a_hook_at_work_or_in_review() {
    let mut world = World::new();
    world.add_rig("r2");
    let hooked = world.issue("hooked");
    let agent = world.polecat();
    world.done(Call::Agent(AgentCall::Hook { agent: agent.clone(), bead: hooked.clone() }));
    assert_eq!(world.status(&hooked), BeadStatus::Open);
    assert_eq!(stays(&mut world, &hooked), format!("agent {agent} has it"));
    world.done(Call::Agent(AgentCall::Unhook { agent }));
    world.call(to_r2(&hooked));
    assert_eq!(world.bead(&hooked).rig_id, Some(rig("r2")));

    let mut world = World::new();
    world.add_rig("r2");
    let (worker, source) = world.working();
    assert_eq!(stays(&mut world, &source), format!("agent {worker} has it"));
    world.gt_done(&worker, None);
    let review = world.newest(BeadType::MergeRequest);
    assert_eq!(stays(&mut world, &source), "it is in_review");
    let refinery = review.assignee_agent_bead_id.unwrap();
    assert_eq!(stays(&mut world, &review.bead_id), format!("agent {refinery} has it"));
    world.done(Call::Agent(AgentCall::Reset { agent: refinery.clone() }));
    assert_eq!(stays(&mut world, &review.bead_id), "its branch is to be reviewed");
}

#[test]
fn a_bead_whose_agent_was_lost_stays_in_its_rig_until_it_is_open_again() {
    let mut world = World::new();
    world.add_rig("r2");
    let (agent, bead) = world.working();
    world.done(Call::Agent(AgentCall::Unhook { agent: agent.clone() }));
    assert_eq!(stays(&mut world, &bead), "it is in_progress");
    world.set_status(&bead, BeadStatus::Open);
    world.call(to_r2(&bead));
    world.run(3 * MINUTE);
    let moved = world.bead(&bead);
    assert_eq!((moved.rig_id, moved.status), (Some(rig("r2")), BeadStatus::InProgress));
    let of = |world: &mut World, agent: &AgentId| world.agent(agent).rig_id;
    assert_eq!(of(&mut world, &moved.assignee_agent_bead_id.unwrap()), Some(rig("r2")));
}

#[test]
fn the_rig_that_a_bead_has_may_be_named_at_any_time_and_what_is_over_may_go() {
    let mut world = World::new();
    world.add_rig("r2");
    let (_, bead) = world.working();
    let same = BeadChanges { rig: Some(rig("r1")), title: Some("t".into()), ..BeadChanges::default() };
    world.call(update(&bead, same));
    assert_eq!(world.bead(&bead).title, "t");
    world.close(&bead);
    world.tick();
    world.call(to_r2(&bead));
    assert_eq!(world.bead(&bead).rig_id, Some(rig("r2")));
}

#[test]
fn a_parent_is_there_and_not_below_its_child() {
    let mut world = World::new();
    let (top, middle, bottom) = (world.issue("top"), world.issue("middle"), world.issue("bottom"));
    let below = |parent: &BeadId| BeadChanges { parent: Some(parent.clone()), ..BeadChanges::default() };
    let unknown = BeadId::parse("00000000-0000-4000-8000-000000000000").unwrap();
    let gone = Refusal::BeadNotFound { bead: unknown.clone() };
    assert_eq!(world.refused(update(&top, below(&unknown))), gone);
    world.call(update(&middle, below(&top)));
    world.call(update(&bottom, below(&middle)));
    for child in [&top, &middle, &bottom] {
        assert_eq!(world.refused(update(child, below(&bottom))), Refusal::DependencyCycle {});
    }
    assert_eq!(world.bead(&bottom).parent_bead_id, Some(middle));
}
