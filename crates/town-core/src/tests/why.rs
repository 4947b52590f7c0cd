//! A bead says why it is not over: each of its tests by name, and `next_tick` only where none holds it.

use super::world::World;
use super::world::rig;
use crate::message::Answer;
use crate::message::Call;
use crate::message::bead::NewBead;
use crate::message::call::AgentCall;
use crate::message::call::BeadCall;
use crate::message::call::TalkCall;
use crate::message::call::WorkCall;
use object_core::time::HOUR;
use object_core::time::MINUTE;
use object_core::time::SECOND;
use protocol::id::BeadId;
use protocol::town::agent::AgentStatus;
use protocol::town::bead::BeadStatus;
use protocol::town::bead::BeadType;
use protocol::town::bead::Priority;
use protocol::town::convoy::MergeMode;
use protocol::town::status::WaitReason;
use protocol::town::status::Why;
use serde_json::Map;

fn why(world: &mut World, bead: &BeadId) -> Why {
    match world.call(Call::Bead(BeadCall::Why { bead: bead.clone() })) {
        Answer::Why { why } => why,
        other => panic!("{other:?}"),
    }
}

fn reasons(world: &mut World, bead: &BeadId) -> Vec<WaitReason> {
    why(world, bead).reasons
}

fn submit(world: &mut World, bead: &BeadId) -> BeadId {
    let agent = world.polecat();
    let call = WorkCall::SubmitReview { agent, bead: bead.clone(), branch: "b".into(), pr_url: None, summary: None };
    match world.call(Call::Work(call)) {
        Answer::Bead { bead } => bead.bead_id,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_review_waits_for_its_turn_and_then_for_the_host() {
    let mut world = World::new();
    let (_, first, refinery) = world.in_review();
    let issue = world.issue("b");
    let second = submit(&mut world, &issue);
    let third = submit(&mut world, &issue);
    world.close(&issue);
    assert_eq!(reasons(&mut world, &first), [WaitReason::Working]);
    assert_eq!(reasons(&mut world, &second), [WaitReason::ReviewerBusy]);
    world.done(Call::Agent(AgentCall::Done {
        agent: refinery,
        bead: None,
        branch: "gt/a/b".into(),
        pr_url: Some("https://github.com/o/r/pull/1".into()),
        summary: None,
    }));
    world.tick();
    assert_eq!(reasons(&mut world, &first), [WaitReason::PullRequest]);
    assert_eq!(reasons(&mut world, &second), [WaitReason::Working]);
    assert_eq!(reasons(&mut world, &third), [WaitReason::ReviewerBusy]);
    let mut world = World::new();
    let issue = world.issue("a");
    let (first, second) = (submit(&mut world, &issue), submit(&mut world, &issue));
    assert_eq!(reasons(&mut world, &first), [WaitReason::NextTick]);
    assert_eq!(reasons(&mut world, &second), [WaitReason::ReviewerBusy], "the older one comes first");
    world.drain();
    assert_eq!(reasons(&mut world, &first), [WaitReason::Draining]);
}

#[test]
fn a_review_that_lost_its_reviewer_says_until_when() {
    let mut world = World::new();
    let (_, review, refinery) = world.in_review();
    world.set_agent_status(&refinery, &AgentStatus::Idle);
    let told = why(&mut world, &review);
    assert_eq!((told.reasons, told.cooling_down_until), (vec![WaitReason::CoolingDown], Some(world.now + 2 * MINUTE)));
    world.set_attempts(&review, 5, HOUR);
    assert_eq!(reasons(&mut world, &review), [WaitReason::Attempts]);
    world.done(Call::Agent(AgentCall::Unhook { agent: refinery }));
    world.age_bead(&review, MINUTE);
    let told = why(&mut world, &review);
    assert_eq!((told.reasons, told.agent_lost_until), (vec![WaitReason::AgentLost], Some(world.now + MINUTE)));
    world.age_bead(&review, 2 * MINUTE + 1);
    assert_eq!(reasons(&mut world, &review), [WaitReason::NextTick]);
}

#[test]
fn an_issue_that_lost_its_agent_says_until_when_and_not_that_it_cools_down() {
    let mut world = World::new();
    let (agent, bead) = world.working();
    world.set_agent_status(&agent, &AgentStatus::Idle);
    world.age_bead(&bead, MINUTE);
    let told = why(&mut world, &bead);
    assert_eq!((told.reasons, told.cooling_down_until), (vec![WaitReason::AgentLost], None));
    assert_eq!(told.agent_lost_until, Some(world.now + 4 * MINUTE));
    world.age_bead(&bead, 5 * MINUTE);
    world.silence(&agent, 80 * SECOND);
    assert_eq!(why(&mut world, &bead).agent_lost_until, Some(world.now + 10 * SECOND), "it was heard of lately");
    world.age_bead(&bead, 5 * MINUTE + 1);
    world.silence(&agent, 91 * SECOND);
    assert_eq!(reasons(&mut world, &bead), [WaitReason::NextTick]);
    world.tick();
    assert_eq!(world.status(&bead), BeadStatus::Open);
}

#[test]
fn what_was_tried_as_often_as_it_may_be_says_so_while_it_cools_and_after() {
    let mut world = World::new();
    let bead = world.issue("a");
    for ago in [0, HOUR] {
        world.set_attempts(&bead, 5, ago);
        let told = why(&mut world, &bead);
        assert_eq!((told.reasons, told.cooling_down_until), (vec![WaitReason::Attempts], None));
    }
    world.tick();
    assert_eq!(reasons(&mut world, &bead), [WaitReason::Terminal]);
}

#[test]
fn a_convoy_waits_for_its_beads_then_for_its_landing_and_after_a_failed_one_for_a_while() {
    let mut world = World::new();
    let (convoy, beads) = world.convoy(&[&[]], Some(MergeMode::ReviewThenLand), true);
    assert_eq!(reasons(&mut world, &convoy), [WaitReason::Staged, WaitReason::Members]);
    world.call(Call::Work(WorkCall::StartConvoy { convoy: convoy.clone() }));
    assert_eq!(reasons(&mut world, &convoy), [WaitReason::Members]);
    world.close(&beads[0]);
    assert_eq!(reasons(&mut world, &convoy), [WaitReason::NextTick]);
    world.tick();
    world.tick();
    assert_eq!(reasons(&mut world, &convoy), [WaitReason::Review]);
    let landing = world.newest(BeadType::MergeRequest).bead_id;
    world.set_status(&landing, BeadStatus::Failed);
    let told = why(&mut world, &convoy);
    assert_eq!(told.reasons, [WaitReason::CoolingDown]);
    assert!(told.cooling_down_until.is_some_and(|until| until > world.now));
}

#[test]
fn words_wait_for_who_reads_them_and_an_agent_waits_for_nothing() {
    let mut world = World::new();
    let (from, to) = (world.polecat(), world.polecat());
    let call = TalkCall::SendMail { from: from.clone(), to, subject: "s".into(), body: "b".into() };
    world.done(Call::Talk(call));
    let mail = world.newest(BeadType::Message).bead_id;
    assert_eq!(reasons(&mut world, &mail), [WaitReason::Unread]);
    let call = TalkCall::Escalate {
        title: "t".into(),
        body: None,
        severity: Priority::Low,
        metadata: Map::new(),
        rig: Some(rig("r1")),
        agent: None,
    };
    world.call(Call::Talk(call));
    let escalation = world.newest(BeadType::Escalation).bead_id;
    assert_eq!(reasons(&mut world, &escalation), [WaitReason::Unread]);
    let agent = BeadId::parse(from.as_str()).unwrap();
    assert_eq!(reasons(&mut world, &agent), []);
    let molecule = world.create(NewBead::new(BeadType::Molecule, "m"));
    assert_eq!(reasons(&mut world, &molecule), [WaitReason::Members]);
}
