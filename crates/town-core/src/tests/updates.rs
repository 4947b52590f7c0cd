//! What may be changed in a bead, and what may not.

use super::world::World;
use super::world::rig;
use crate::error::Refusal;
use crate::message::Call;
use crate::message::bead::BeadChanges;
use crate::message::bead::NewBead;
use crate::message::call::BeadCall;
use protocol::id::BeadId;
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
