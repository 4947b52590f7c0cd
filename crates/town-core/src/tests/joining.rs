//! Issues that join a convoy that is under way: they begin where it stands, and land with it.

use super::world::World;
use super::world::rig;
use crate::error::Refusal;
use crate::message::Answer;
use crate::message::Call;
use crate::message::bead::BeadChanges;
use crate::message::bead::NewBead;
use crate::message::call::BeadCall;
use crate::message::call::WorkCall;
use object_core::time::MINUTE;
use object_core::time::SECOND;
use protocol::id::BeadId;
use protocol::town::bead::BeadStatus;
use protocol::town::bead::BeadType;
use protocol::town::convoy::ConvoyStatus;
use protocol::town::convoy::MergeMode;
use serde_json::json;

fn add(convoy: &BeadId, bead: &BeadId) -> Call {
    Call::Work(WorkCall::AddToConvoy { convoy: convoy.clone(), bead: bead.clone(), depends_on: vec![] })
}

fn landed(world: &mut World, convoy: &BeadId) -> bool {
    world.convoy_detail(convoy).convoy.status == ConvoyStatus::Landed
}

/// A convoy whose only issue is over, and the review that is to land it, on a reviewer's hook.
fn landing(world: &mut World) -> (BeadId, BeadId) {
    let (convoy, beads) = world.convoy(&[&[]], Some(MergeMode::ReviewThenLand), false);
    world.run(5 * SECOND);
    world.close(&beads[0]);
    world.tick();
    world.tick();
    (convoy, world.newest(BeadType::MergeRequest).bead_id)
}

fn merge(world: &mut World, review: &BeadId) {
    let refinery = world.bead(review).assignee_agent_bead_id.expect("somebody reviews it");
    world.gt_done(&refinery, None);
    assert_eq!(world.status(review), BeadStatus::Closed);
}

/// Story: an issue joined while the convoy's branch was being merged. The merge landed the convoy; the issue was merged into a branch that nobody looked at again.
#[test]
fn what_joins_during_the_landing_lands_by_another_one() {
    let mut world = World::new();
    let (convoy, first) = landing(&mut world);
    let late = world.issue("late");
    world.call(add(&convoy, &late));
    merge(&mut world, &first);
    assert!(!landed(&mut world, &convoy));
    world.close(&late);
    world.run(MINUTE);
    let second = world.newest(BeadType::MergeRequest).bead_id;
    assert_ne!(second, first);
    assert!(!landed(&mut world, &convoy));
    merge(&mut world, &second);
    world.tick();
    assert!(landed(&mut world, &convoy));
}

#[test]
fn what_joins_begins_on_the_branch_of_the_convoy_and_leaves_without_it() {
    let mut world = World::new();
    let (convoy, _) = world.convoy(&[&[]], Some(MergeMode::ReviewThenLand), false);
    let branch = world.convoy_detail(&convoy).convoy.feature_branch.unwrap();
    let late = world.issue("late");
    world.call(add(&convoy, &late));
    world.run(5 * SECOND);
    let start = world.started.iter().find(|start| start.bead_id.as_ref() == Some(&late)).expect("it is handed out");
    assert_eq!(start.start_point.as_deref(), Some(format!("origin/{branch}").as_str()));
    let made = world.create(NewBead { convoy: Some(convoy.clone()), ..NewBead::new(BeadType::Issue, "made for it") });
    let bead = world.bead(&made);
    assert_eq!((&bead.metadata["convoy_id"], &bead.metadata["feature_branch"]), (&json!(convoy), &json!(branch)));
    world.call(Call::Work(WorkCall::RemoveFromConvoy { convoy, bead: made.clone() }));
    let bead = world.bead(&made);
    assert!(!bead.metadata.contains_key("convoy_id") && !bead.metadata.contains_key("feature_branch"));
}

#[test]
fn nothing_joins_a_convoy_that_is_over_and_only_issues_of_no_other_join() {
    let mut world = World::new();
    let (convoy, beads) = world.convoy(&[&[]], Some(MergeMode::ReviewAndMerge), false);
    let other = world.issue("other");
    let list =
        |bead: &BeadId| WorkCall::CreateConvoy { title: "c".into(), beads: vec![bead.clone()], created_by: None };
    assert!(world.refused(Call::Work(list(&beads[0]))).to_string().contains("another convoy"));
    assert!(world.refused(Call::Work(list(&convoy))).to_string().contains("Only an issue"));
    for end in [BeadStatus::Failed, BeadStatus::Closed] {
        let (over, _) = world.convoy(&[&[]], None, true);
        world.set_status(&over, end);
        assert!(matches!(world.refused(add(&over, &other)), Refusal::Invalid { .. }), "{end:?}");
    }
    let Answer::Convoy { convoy: joined } = world.call(add(&convoy, &other)) else { panic!() };
    assert_eq!(joined.total_beads, 2);
}

/// Story: an issue of a second rig joined. Its work was merged into a branch of that name in its own repository, the convoy landed in the first one, and
/// nobody merged that branch.
#[test]
fn a_convoy_with_a_branch_stays_in_one_rig() {
    let mut world = World::new();
    world.add_rig("r2");
    let (convoy, beads) = world.convoy(&[&[]], Some(MergeMode::ReviewThenLand), false);
    let elsewhere = NewBead { rig: Some(rig("r2")), ..NewBead::new(BeadType::Issue, "elsewhere") };
    let other = world.create(elsewhere.clone());
    let made = Call::Bead(BeadCall::Create(NewBead { convoy: Some(convoy.clone()), ..elsewhere }));
    let changes = BeadChanges { rig: Some(rig("r2")), ..BeadChanges::default() };
    let moved = BeadCall::Update { bead: beads[0].clone(), rig: rig("r1"), changes, actor: "user".into() };
    let same = world.issue("of the same rig");
    world.call(add(&convoy, &same));
    for call in [add(&convoy, &other), made, Call::Bead(moved.clone())] {
        let refusal = world.refused(call);
        assert!(matches!(refusal, Refusal::Invalid { .. }) && refusal.to_string().contains("one rig"), "{refusal}");
    }
    assert_eq!(world.convoy_detail(&convoy).convoy.total_beads, 2);
    assert_eq!(world.bead(&other).metadata.get("convoy_id"), None);
    world.call(Call::Work(WorkCall::RemoveFromConvoy { convoy, bead: beads[0].clone() }));
    assert!(matches!(world.call(Call::Bead(moved)), Answer::Bead { .. }), "alone it may go");
}

#[test]
fn a_convoy_without_a_branch_has_issues_of_many_rigs_and_gets_no_branch_then() {
    let mut world = World::new();
    world.add_rig("r2");
    let there = world.create(NewBead { rig: Some(rig("r2")), ..NewBead::new(BeadType::Issue, "there") });
    let beads = vec![world.issue("here"), there];
    let list = WorkCall::CreateConvoy { title: "c".into(), beads, created_by: None };
    let Answer::Convoy { convoy } = world.call(Call::Work(list)) else { panic!() };
    assert_eq!(convoy.total_beads, 2);
    let branch = Some("convoy/c/head".to_owned());
    let update = WorkCall::UpdateConvoy { convoy: convoy.id.clone(), merge_mode: None, feature_branch: branch };
    assert!(matches!(world.refused(Call::Work(update)), Refusal::Invalid { .. }));
    assert_eq!(world.convoy_detail(&convoy.id).convoy.feature_branch, None);
}
