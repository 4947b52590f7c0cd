//! Convoys: made, walked, counted, landed.

use super::world::World;
use super::world::rig;
use crate::error::Refusal;
use crate::message::Answer;
use crate::message::Call;
use crate::message::call::TownCall;
use crate::message::call::WorkCall;
use object_core::time::MINUTE;
use object_core::time::SECOND;
use protocol::id::BeadId;
use protocol::town::bead::BeadStatus;
use protocol::town::bead::BeadType;
use protocol::town::convoy::Convoy;
use protocol::town::convoy::ConvoyStatus;
use protocol::town::convoy::MergeMode;
use serde_json::json;

fn convoy(world: &mut World, id: &BeadId) -> Convoy {
    world.convoy_detail(id).convoy
}

#[test]
fn a_convoy_has_a_branch_edges_and_beads_without_agents() {
    let mut world = World::new();
    let call = world.convoy_call("Fix: Bug #123 with special characters!!!", &[&[], &[0], &[1], &[]], None, false);
    let Answer::ConvoySlung { convoy, beads } = world.call(call) else { panic!() };
    let branch = convoy.feature_branch.clone().unwrap();
    let rest = branch.strip_prefix("convoy/fix-bug-123-with-special-characters/").unwrap();
    let id = rest.strip_suffix("/head").unwrap();
    assert!(id.len() == 8 && id.chars().all(|c| c.is_ascii_hexdigit()), "{branch}");
    assert_eq!((convoy.total_beads, convoy.closed_beads, convoy.status), (4, 0, ConvoyStatus::Active));
    assert_eq!(convoy.merge_mode, Some(MergeMode::ReviewThenLand), "the default");
    for bead in &beads {
        assert_eq!(bead.assignee_agent_bead_id, None);
        assert_eq!(
            (&bead.metadata["convoy_id"], &bead.metadata["feature_branch"]),
            (&json!(convoy.id), &json!(branch))
        );
    }
    let detail = world.convoy_detail(&convoy.id);
    let edges: Vec<_> = detail.dependency_edges.iter().map(|edge| (&edge.bead_id, &edge.depends_on_bead_id)).collect();
    assert_eq!(edges.len(), 2);
    assert!(edges.contains(&(&beads[1].bead_id, &beads[0].bead_id)));
    assert!(edges.contains(&(&beads[2].bead_id, &beads[1].bead_id)));
    assert_eq!(detail.beads.len(), 4);
    let unknown = world.issue("x");
    let call = Call::Work(WorkCall::Convoy { convoy: unknown.clone() });
    assert_eq!(world.refused(call), Refusal::ConvoyNotFound { convoy: unknown });
}

#[test]
fn a_cycle_is_refused_before_anything_is_written() {
    let mut world = World::new();
    let call = world.convoy_call("c", &[&[1], &[0]], None, false);
    assert_eq!(world.refused(call), Refusal::DependencyCycle {});
    assert_eq!(world.count("SELECT COUNT(*) FROM beads"), 0);
}

#[test]
fn the_mode_is_the_requests_then_the_towns() {
    let mut world = World::new();
    let serde_json::Value::Object(changes) =
        json!({"convoy_merge_mode": "review-and-merge", "staged_convoys_default": true})
    else {
        panic!()
    };
    world.call(Call::Town(TownCall::UpdateConfig { changes }));
    let (id, _) = world.convoy(&[&[]], None, false);
    assert_eq!(convoy(&mut world, &id).merge_mode, Some(MergeMode::ReviewAndMerge));
    let (id, _) = world.convoy(&[&[]], Some(MergeMode::ReviewThenLand), false);
    assert_eq!(convoy(&mut world, &id).merge_mode, Some(MergeMode::ReviewThenLand));
    let call =
        WorkCall::SlingConvoy { rig: rig("r1"), title: "c".into(), tasks: vec![], merge_mode: None, staged: None };
    let Answer::ConvoySlung { convoy, .. } = world.call(Call::Work(call)) else { panic!() };
    assert!(convoy.staged);
}

#[test]
fn a_diamond_is_walked_in_its_order() {
    let mut world = World::new();
    let (_, beads) = world.convoy(&[&[], &[0], &[0], &[1, 2]], Some(MergeMode::ReviewAndMerge), false);
    let assigned = |world: &mut World| -> Vec<bool> {
        beads.iter().map(|bead| world.bead(bead).assignee_agent_bead_id.is_some()).collect()
    };
    world.run(5 * SECOND);
    assert_eq!(assigned(&mut world), [true, false, false, false]);
    world.close(&beads[0]);
    world.run(5 * SECOND);
    assert_eq!(assigned(&mut world), [true, true, true, false]);
    world.close(&beads[1]);
    world.run(5 * SECOND);
    assert!(!assigned(&mut world)[3]);
    world.close(&beads[2]);
    world.run(5 * SECOND);
    assert!(assigned(&mut world)[3]);
}

#[test]
fn a_staged_convoy_waits_for_its_start() {
    let mut world = World::new();
    let (id, beads) = world.convoy(&[&[]], None, true);
    world.run(11 * MINUTE);
    assert_eq!(world.bead(&beads[0]).assignee_agent_bead_id, None);
    let start = Call::Work(WorkCall::StartConvoy { convoy: id.clone() });
    let Answer::ConvoySlung { convoy, .. } = world.call(start.clone()) else { panic!() };
    assert!(!convoy.staged);
    world.run(5 * SECOND);
    assert!(world.bead(&beads[0]).assignee_agent_bead_id.is_some());
    let refusal = world.refused(start);
    assert!(refusal.to_string().contains("not staged"));
    let unknown = Call::Work(WorkCall::StartConvoy { convoy: beads[0].clone() });
    assert!(world.refused(unknown).to_string().contains("not found"));
}

#[test]
fn review_and_merge_closes_by_itself_and_counts_what_failed_too() {
    let mut world = World::new();
    let (id, beads) = world.convoy(&[&[], &[]], Some(MergeMode::ReviewAndMerge), false);
    world.set_status(&beads[0], BeadStatus::Failed);
    assert_eq!(convoy(&mut world, &id).closed_beads, 1);
    assert_eq!(convoy(&mut world, &id).status, ConvoyStatus::Active);
    world.close(&beads[1]);
    let landed = convoy(&mut world, &id);
    assert_eq!((landed.closed_beads, landed.status, landed.landed_at), (2, ConvoyStatus::Landed, Some(world.now)));
}

#[test]
fn a_bead_counts_when_its_review_is_over_and_mixed_outcomes_do_not_stall() {
    let mut world = World::new();
    let (id, beads) = world.convoy(&[&[], &[]], Some(MergeMode::ReviewAndMerge), false);
    world.run(5 * SECOND);
    let agent = world.bead(&beads[0]).assignee_agent_bead_id.unwrap();
    world.gt_done(&agent, None);
    world.set_status(&beads[1], BeadStatus::Failed);
    assert_eq!(convoy(&mut world, &id).closed_beads, 1, "1 of 2");
    let review = world.newest(BeadType::MergeRequest);
    world.close(&beads[0]);
    assert_eq!(convoy(&mut world, &id).closed_beads, 1, "its review is not over");
    world.gt_done(&review.assignee_agent_bead_id.unwrap(), None);
    assert_eq!(convoy(&mut world, &id).status, ConvoyStatus::Landed);
}

/// A convoy whose beads are all done, and its landing.
fn landing(world: &mut World) -> (BeadId, BeadId) {
    let (id, beads) = world.convoy(&[&[]], Some(MergeMode::ReviewThenLand), false);
    world.run(5 * SECOND);
    world.close(&beads[0]);
    assert_eq!(convoy(world, &id).status, ConvoyStatus::Active, "it is ready to land, and has not landed");
    assert_eq!(world.bead(&id).metadata["ready_to_land"], json!(1));
    world.tick();
    world.tick();
    let landing = world.newest(BeadType::MergeRequest);
    assert_eq!(landing.metadata["source_bead_id"], json!(id));
    (id, landing.bead_id)
}

#[test]
fn review_then_land_lands_by_a_review_of_its_branch() {
    let mut world = World::new();
    let (id, review) = landing(&mut world);
    let branch = convoy(&mut world, &id).feature_branch.unwrap();
    assert_eq!(world.bead(&review).title, format!("Review: {branch}"));
    assert_eq!(world.count("SELECT COUNT(*) FROM review_metadata WHERE target_branch = 'main'"), 1);
    world.tick();
    assert_eq!(world.beads_of(BeadType::MergeRequest).len(), 1, "one landing at a time");
    let refinery = world.bead(&review).assignee_agent_bead_id.unwrap();
    let start = world.started.last().unwrap();
    assert_eq!((&start.branch, start.target_branch.as_deref()), (&branch, Some("main")));
    world.gt_done(&refinery, None);
    let landed = convoy(&mut world, &id);
    assert_eq!((landed.status, landed.landed_at), (ConvoyStatus::Landed, Some(world.now)));
}

#[test]
fn a_landing_that_fails_is_tried_five_times_with_pauses_and_then_the_convoy_fails() {
    let mut world = World::new();
    let (id, _) = landing(&mut world);
    let mut landings = vec![world.now];
    for _ in 0..2_000 {
        let newest = world.newest(BeadType::MergeRequest);
        if !newest.status.is_terminal() {
            world.set_status(&newest.bead_id, BeadStatus::Failed);
        }
        let before = world.beads_of(BeadType::MergeRequest).len();
        world.tick_after(5 * SECOND);
        if world.beads_of(BeadType::MergeRequest).len() > before {
            landings.push(world.now);
        }
        if world.status(&id) == BeadStatus::Failed {
            break;
        }
    }
    assert_eq!(world.status(&id), BeadStatus::Failed);
    let pauses: Vec<_> = landings.windows(2).map(|pair| (pair[1] - pair[0]) / SECOND).collect();
    assert_eq!(pauses, [60, 120, 240, 480]);
    assert!(world.newest(BeadType::Escalation).title.contains("given up"));
}

#[test]
fn the_work_of_a_landing_convoy_is_reviewed_for_its_branch() {
    let mut world = World::new();
    let (id, beads) = world.convoy(&[&[]], Some(MergeMode::ReviewThenLand), false);
    world.run(5 * SECOND);
    let agent = world.bead(&beads[0]).assignee_agent_bead_id.unwrap();
    world.gt_done(&agent, None);
    let branch = convoy(&mut world, &id).feature_branch.unwrap();
    let sql = format!("SELECT COUNT(*) FROM review_metadata WHERE target_branch = '{branch}'");
    assert_eq!(world.count(&sql), 1);
}

#[test]
fn a_forced_close_ends_all_of_it() {
    let mut world = World::new();
    let (id, beads) = world.convoy(&[&[], &[0]], None, false);
    world.run(5 * SECOND);
    let agent = world.bead(&beads[0]).assignee_agent_bead_id.unwrap();
    let Answer::Convoy { convoy } = world.call(Call::Work(WorkCall::CloseConvoy { convoy: id.clone() })) else {
        panic!()
    };
    assert_eq!((convoy.status, convoy.closed_beads), (ConvoyStatus::Landed, 2));
    for bead in &beads {
        assert_eq!(world.status(bead), BeadStatus::Closed);
    }
    assert_eq!(world.agent(&agent).current_hook_bead_id, None);
    let (active, _) = world.convoy(&[&[]], None, true);
    let Answer::Convoys { convoys } = world.call(Call::Work(WorkCall::Convoys {})) else { panic!() };
    assert_eq!(convoys.into_iter().map(|convoy| convoy.id).collect::<Vec<_>>(), [active]);
    let Answer::ConvoyDetails { details } = world.call(Call::Work(WorkCall::ConvoyDetails {})) else { panic!() };
    assert_eq!((details.len(), details[0].beads.len()), (1, 1));
}

#[test]
fn a_convoy_of_beads_that_are_there_counts_what_is_over_already() {
    let mut world = World::new();
    let (a, b) = (world.issue("a"), world.issue("b"));
    world.close(&a);
    let call = WorkCall::CreateConvoy { title: "c".into(), beads: vec![a, b.clone()], created_by: Some("u".into()) };
    let Answer::Convoy { convoy: made } = world.call(Call::Work(call)) else { panic!() };
    assert_eq!((made.total_beads, made.closed_beads, made.feature_branch), (2, 1, None));
    world.close(&b);
    assert_eq!(convoy(&mut world, &made.id).status, ConvoyStatus::Landed);
}

#[test]
fn a_counter_that_is_wrong_is_put_right_by_the_tick() {
    let mut world = World::new();
    let (id, beads) = world.convoy(&[&[], &[]], None, false);
    world.close(&beads[0]);
    world.sql("UPDATE convoy_metadata SET closed_beads = 0, total_beads = 9", &[]);
    world.tick();
    let counted = convoy(&mut world, &id);
    assert_eq!((counted.closed_beads, counted.total_beads), (1, 2));
}
