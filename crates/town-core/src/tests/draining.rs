//! What a drain holds back and what goes on (spec/town.md 5.7).

use super::world::World;
use super::world::effects;
use super::world::starts;
use crate::message::Call;
use crate::message::Input;
use crate::message::call::AgentCall;
use crate::message::call::EvictionReceipt;
use crate::message::call::TalkCall;
use crate::message::call::TownCall;
use crate::message::container::ContainerAnswer;
use crate::message::container::ContainerCall;
use crate::message::effect::Effect;
use crate::message::effect::Outcome;
use object_core::time::HOUR;
use object_core::time::MINUTE;
use object_core::time::SECOND;
use protocol::town::agent::AgentStatus;
use protocol::town::bead::BeadStatus;
use protocol::town::bead::BeadType;
use protocol::town::bead::Priority;
use protocol::town::container::ContainerAgentStatus;
use serde_json::Map;

#[test]
fn draining_holds_b1_back_and_the_ack_lets_it_go_on() {
    let mut world = World::new();
    let nonce = world.drain();
    let bead = world.issue("a");
    assert_eq!(starts(&world.run(MINUTE)), []);
    let found = world.bead(&bead);
    assert_eq!((found.status, found.assignee_agent_bead_id), (BeadStatus::Open, None));
    assert!(world.ready(&nonce));
    assert_eq!(starts(&world.run(5 * SECOND)).len(), 1);
}

#[test]
fn draining_fails_nothing_in_b1_and_still_fails_in_b2() {
    let mut world = World::new();
    let (agent, held, free) = (world.polecat(), world.issue("a"), world.issue("b"));
    world.hook(&agent, &held);
    world.set_attempts(&held, 5, 0);
    world.set_attempts(&free, 5, 0);
    world.drain();
    world.tick();
    assert_eq!((world.status(&free), world.status(&held)), (BeadStatus::Open, BeadStatus::Failed));
}

#[test]
fn draining_holds_b2_back() {
    let mut world = World::new();
    let (agent, bead) = (world.polecat(), world.issue("a"));
    world.hook(&agent, &bead);
    let nonce = world.drain();
    assert_eq!(starts(&world.tick()), []);
    assert_eq!(world.status(&bead), BeadStatus::Open);
    world.ready(&nonce);
    assert_eq!(starts(&world.tick())[0].agent_id, agent);
}

#[test]
fn draining_holds_r5_and_r6_back() {
    let mut world = World::new();
    let (polecat, _) = world.working();
    let nonce = world.drain();
    world.gt_done(&polecat, None);
    let review = world.newest(BeadType::MergeRequest);
    assert_eq!((review.status, review.assignee_agent_bead_id), (BeadStatus::Open, None), "R5");
    world.ready(&nonce);
    world.tick();
    let refinery = world.bead(&review.bead_id).assignee_agent_bead_id.unwrap();
    let nonce = world.drain();
    world.set_agent_status(&refinery, &AgentStatus::Idle);
    world.set_attempts(&review.bead_id, 5, 0);
    assert_eq!(starts(&world.tick()), [], "R6");
    assert_eq!(world.status(&review.bead_id), BeadStatus::InProgress, "and nothing is failed");
    world.ready(&nonce);
    world.tick();
    assert_eq!(world.status(&review.bead_id), BeadStatus::Failed);
}

#[test]
fn silence_says_nothing_while_the_town_drains() {
    let mut world = World::new();
    let (agent, bead) = world.working();
    let nonce = world.drain();
    world.silence(&agent, 10 * MINUTE);
    world.age_bead(&bead, 10 * MINUTE);
    world.tick();
    assert_eq!(world.agent(&agent).status, AgentStatus::Working, "A1");
    assert_eq!(world.status(&bead), BeadStatus::InProgress, "B3 leaves what a working agent holds");
    world.ready(&nonce);
    world.tick();
    assert_eq!(world.agent(&agent).status, AgentStatus::Idle);
}

#[test]
fn gupp_is_skipped_while_the_town_drains() {
    let mut world = World::new();
    let (agent, _) = world.working();
    world.drain();
    world.idle_events(&agent, 65 * MINUTE);
    world.tick();
    assert_eq!(world.agent(&agent).status, AgentStatus::Working);
    assert_eq!(world.nudges(&agent), []);
    world.idle_events(&agent, 3 * HOUR);
    world.set_agent_status(&agent, &AgentStatus::Stalled);
    world.tick();
    assert_eq!(world.agent(&agent).status, AgentStatus::Stalled, "and no stalled agent loses its hook");
}

#[test]
fn recovery_goes_on_while_the_town_drains() {
    let mut world = World::new();
    let (holder, over, lost) = (world.polecat(), world.issue("over"), world.issue("lost"));
    world.hook(&holder, &over);
    world.sql("UPDATE beads SET status = 'closed' WHERE bead_id = ?", &[over.as_str().into()]);
    world.set_status(&lost, BeadStatus::InProgress);
    world.age_bead(&lost, 6 * MINUTE);
    let old = world.polecat();
    world.sql("UPDATE beads SET created_at = '2020-01-01T00:00:00.000Z' WHERE bead_id = ?", &[old.as_str().into()]);
    world.drain();
    world.tick();
    assert_eq!(world.agent(&holder).current_hook_bead_id, None, "A2");
    assert_eq!(world.status(&lost), BeadStatus::Open, "B3");
    assert!(!world.agents().iter().any(|agent| agent.id == old), "GC");
}

#[test]
fn a_convoy_lands_and_a_pull_request_is_polled_while_the_town_drains() {
    let mut world = World::new();
    let (_, review, refinery) = world.in_review();
    world.gt_done(&refinery, Some("https://github.com/o/r/pull/1"));
    let (convoy, beads) = world.convoy(&[&[]], None, true);
    world.drain();
    world.close(&beads[0]);
    let outputs = world.tick_after(MINUTE);
    assert!(effects(&outputs).iter().any(|effect| matches!(effect, Effect::Poll { bead, .. } if *bead == review)));
    world.tick();
    let landing = world.newest(BeadType::MergeRequest);
    assert_eq!(landing.metadata["source_bead_id"], serde_json::json!(convoy));
}

#[test]
fn the_fast_paths_only_hook_while_the_town_drains_and_burn_no_try() {
    let mut world = World::new();
    let nonce = world.drain();
    let (bead, agent) = world.sling("a");
    assert_eq!((bead.status, bead.dispatch_attempts, agent.status), (BeadStatus::Open, 0, AgentStatus::Idle));
    let (_, beads) = world.convoy(&[&[], &[0]], None, false);
    let waiting = world.polecat();
    world.hook(&waiting, &beads[1]);
    world.close(&beads[0]);
    assert_eq!(world.bead(&beads[1]).dispatch_attempts, 0);
    world.call(Call::Talk(TalkCall::Escalate {
        title: "x".into(),
        body: None,
        severity: Priority::Low,
        metadata: Map::new(),
        rig: None,
        agent: None,
    }));
    world.run(10 * MINUTE);
    assert_eq!(world.started, [], "no triage agent either");
    world.ready(&nonce);
    world.tick();
    let started: Vec<_> = world.started.iter().map(|start| start.agent_id.clone()).collect();
    assert!(started.contains(&agent.id) && started.contains(&waiting) && started.len() == 3, "{started:?}");
}

#[test]
fn a_start_that_was_owed_when_the_drain_began_is_not_asked_again_and_burns_no_try() {
    let mut world = World::new();
    let (bead, agent) = world.sling("a");
    let nonce = world.drain();
    world.run(3 * MINUTE);
    assert_eq!(world.started.len(), 1, "only before the drain");
    assert_eq!(world.bead(&bead.bead_id).dispatch_attempts, 0, "a container that ends burns no try");
    let holder = world.agent(&agent.id);
    assert_eq!((holder.status, holder.current_hook_bead_id), (AgentStatus::Idle, Some(bead.bead_id.clone())));
    world.ready(&nonce);
    world.run(5 * SECOND);
    assert_eq!(world.started.len(), 2);
    assert_eq!(world.bead(&bead.bead_id).dispatch_attempts, 1);
}

#[test]
fn what_the_user_says_to_the_mayor_waits_for_the_next_container() {
    let mut world = World::new();
    let nonce = world.drain();
    for words in ["one", "two"] {
        world.call(Call::Town(TownCall::MessageMayor { message: words.into(), model: None }));
    }
    world.run(4 * MINUTE);
    assert_eq!(world.started, []);
    world.ready(&nonce);
    world.run(2 * MINUTE);
    assert_eq!(world.started.len(), 1);
    assert_eq!(world.started[0].prompt, "one\n\ntwo");
    let mayor = world.mayor();
    world.take(Input::Outcome { key: format!("start/{mayor}"), outcome: Outcome::Draining });
    world.run(2 * MINUTE);
    assert_eq!(world.started.len(), 2, "a container that drains without the town's knowledge took nothing");
}

#[test]
fn mail_and_escalations_go_on_while_the_town_drains() {
    let mut world = World::new();
    let from = world.polecat();
    let (agent, _) = world.working();
    world.drain();
    let (subject, body) = ("s".to_owned(), "b".to_owned());
    world.done(Call::Talk(TalkCall::SendMail { from, to: agent, subject, body }));
    assert!(matches!(&effects(&world.tick())[..], [Effect::Tell { .. }]));
}

#[test]
fn the_work_of_an_evicted_agent_is_done_by_another_after_the_drain() {
    let mut world = World::new();
    let (agent, bead) = world.working();
    let nonce = world.drain();
    world.done(Call::Agent(AgentCall::EvictionContext {
        agent: agent.clone(),
        bead: None,
        receipt: EvictionReceipt {
            branch: "gt/toast/1".into(),
            agent_name: "Toast".into(),
            saved_at: "now".into(),
            ..EvictionReceipt::default()
        },
    }));
    world.completed(Some(&agent), true, Some("container eviction"));
    let found = world.bead(&bead);
    assert_eq!(
        (found.status, found.assignee_agent_bead_id),
        (BeadStatus::Open, None),
        "at once, not after B3's minutes"
    );
    world.ready(&nonce);
    world.now += 2 * MINUTE;
    let again = starts(&world.tick());
    assert!(again[0].prompt.contains("gt/toast/1"), "{}", again[0].prompt);
}

#[test]
fn whoever_takes_over_a_bead_goes_on_with_its_branch_also_if_nothing_was_reported() {
    let mut world = World::new();
    let (agent, bead) = world.working();
    let branch = world.started.last().unwrap().branch.clone();
    let nonce = world.drain();
    world.completed(Some(&agent), true, Some("container eviction"));
    world.sling("takes the agent");
    world.ready(&nonce);
    let again = starts(&world.tick()).into_iter().find(|start| start.prompt == "work").unwrap();
    assert_ne!((again.agent_id, again.name.as_str()), (agent, "Toast"));
    assert_eq!((again.branch, world.bead(&bead).dispatch_attempts), (branch, 1));
}

#[test]
fn an_agent_that_is_being_saved_keeps_its_bead_until_it_is_reported() {
    let mut world = World::new();
    let (agent, bead) = world.working();
    world.drain();
    world.now += HOUR / 12;
    world.take(Input::Observed {
        agent: agent.clone(),
        status: ContainerAgentStatus::Exited,
        exit_reason: Some("container eviction".into()),
    });
    world.tick();
    assert_eq!(world.agent(&agent).current_hook_bead_id, Some(bead.clone()));
    let receipt = EvictionReceipt { branch: "gt/toast/1".into(), ..EvictionReceipt::default() };
    world.done(Call::Agent(AgentCall::EvictionContext { agent: agent.clone(), bead: None, receipt }));
    world.completed(Some(&agent), true, Some("container eviction"));
    assert!(world.bead(&bead).body.unwrap().contains("gt/toast/1"), "the receipt found its bead");
    assert_eq!(world.status(&bead), BeadStatus::Open);
}

#[test]
fn evictions_without_end_fail_no_bead_and_no_review() {
    let mut world = World::new();
    let (agent, bead) = world.working();
    let (_, review, refinery) = world.in_review();
    for (agent, bead) in [(agent, bead), (refinery, review)] {
        for _ in 0..10 {
            world.now += SECOND;
            let before = world.started.len();
            world.completed(Some(&agent), true, Some("container eviction"));
            let found = world.bead(&bead);
            assert_eq!((found.status, found.dispatch_attempts), (BeadStatus::InProgress, 1));
            assert_eq!(world.started.len(), before + 1, "at once: it does not cool down");
        }
    }
}

#[test]
fn a_drain_that_expires_lets_the_town_go_on() {
    let mut world = World::new();
    world.drain();
    world.issue("a");
    world.run(15 * MINUTE - 1);
    assert_eq!(world.started, []);
    world.run(6 * SECOND);
    assert_eq!(world.started.len(), 1);
    assert_eq!(world.container(ContainerCall::DrainStatus), ContainerAnswer::DrainStatus { nonce: None });
}
