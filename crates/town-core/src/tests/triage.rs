//! Triage: questions in batches, decisions that are carried out (spec/town.md 4.8).

use super::talk::escalate;
use super::talk::requests;
use super::world::World;
use super::world::effects;
use crate::error::Refusal;
use crate::message::Answer;
use crate::message::Call;
use crate::message::call::TalkCall;
use crate::message::effect::Effect;
use crate::message::effect::Outcome;
use database::Database;
use object_core::time::HOUR;
use object_core::time::MINUTE;
use object_core::time::SECOND;
use protocol::id::AgentId;
use protocol::id::BeadId;
use protocol::town::agent::AgentStatus;
use protocol::town::agent::Role;
use protocol::town::bead::Bead;
use protocol::town::bead::BeadStatus;
use protocol::town::bead::BeadType;
use protocol::town::bead::Priority;
use protocol::town::bead::label;
use serde_json::json;

/// A triage agent with its batch, and the question about an agent that works on a bead.
fn triage(world: &mut World) -> (AgentId, Bead, AgentId, BeadId) {
    let (agent, bead) = world.working();
    escalate(world, Priority::High, Some(&agent));
    world.tick_after(5 * SECOND);
    let asked = requests(world)[0].clone();
    let batch = world.beads_of(BeadType::Issue).into_iter().find(|bead| bead.has_label(label::TRIAGE)).unwrap();
    (batch.assignee_agent_bead_id.unwrap(), asked, agent, bead)
}

fn resolve(by: &AgentId, asked: &Bead, action: &str) -> Call {
    Call::Talk(TalkCall::ResolveTriage {
        agent: by.clone(),
        request: asked.bead_id.clone(),
        action: action.into(),
        notes: "because".into(),
    })
}

#[test]
fn a_batch_is_started_for_questions_that_wait_and_one_at_a_time() {
    let mut world = World::new();
    let (triager, asked, agent, _) = triage(&mut world);
    assert_ne!(triager, agent);
    let batch = world.beads_of(BeadType::Issue).into_iter().find(|bead| bead.has_label(label::TRIAGE)).unwrap();
    assert_eq!(batch.title, "Triage batch: 1 request(s)");
    assert_eq!((batch.priority, batch.created_by.as_deref()), (Priority::High, Some("patrol")));
    assert_eq!(batch.status, BeadStatus::InProgress);
    assert!(batch.body.unwrap().contains(asked.bead_id.as_str()));
    let start = world.started.last().unwrap();
    assert!(start.agent_id == triager && start.lightweight && start.role.as_str() == "triage");
    escalate(&mut world, Priority::Low, None);
    world.tick_after(5 * SECOND);
    let batches = world.beads_of(BeadType::Issue).into_iter().filter(|bead| bead.has_label(label::TRIAGE)).count();
    assert_eq!(batches, 1);
    world.gt_done(&triager, None);
    assert_eq!(world.status(&batch.bead_id), BeadStatus::Closed, "without a review");
    assert_eq!(world.beads_of(BeadType::MergeRequest), []);
}

#[test]
fn only_a_triage_agent_resolves_and_only_with_a_known_action() {
    let mut world = World::new();
    let (triager, asked, agent, _) = triage(&mut world);
    assert_eq!(world.refused(resolve(&agent, &asked, "RESTART")), Refusal::NotTriageAgent {});
    assert!(matches!(world.refused(resolve(&triager, &asked, "EXPLODE")), Refusal::Invalid { .. }));
    let Answer::Bead { bead } = world.call(resolve(&triager, &asked, "discard")) else { panic!() };
    assert_eq!(bead.status, BeadStatus::Closed);
    assert_eq!(bead.metadata["resolution_action"], json!("DISCARD"));
    assert_eq!(
        (&bead.metadata["resolved_by"], &bead.metadata["resolution_notes"]),
        (&json!(triager), &json!("because"))
    );
    let escalation = world.newest(BeadType::Escalation);
    assert_eq!(escalation.status, BeadStatus::Closed, "the escalation behind it is over too");
}

#[test]
fn restart_stops_the_agent_and_opens_its_bead_unless_it_was_tried_too_often() {
    for (attempts, status) in [(1, BeadStatus::Open), (5, BeadStatus::Failed)] {
        let mut world = World::new();
        let (triager, asked, agent, bead) = triage(&mut world);
        world.set_attempts(&bead, attempts, 0);
        world.call(resolve(&triager, &asked, "RESTART"));
        assert!(effects(&world.outputs).iter().any(|effect| matches!(effect, Effect::Stop { .. })));
        assert_eq!(world.status(&bead), status);
        assert_eq!(world.agent(&agent).status, AgentStatus::Idle);
    }
    let mut world = World::new();
    let (triager, asked, agent, bead) = triage(&mut world);
    world.now += MINUTE;
    world.call(resolve(&triager, &asked, "RESTART_WITH_BACKOFF"));
    assert_eq!(world.bead(&bead).last_dispatch_attempt_at, Some(world.now));
    assert_eq!(world.agent(&agent).last_activity_at, Some(world.now));
}

#[test]
fn the_other_decisions_reach_the_bead_that_was_on_the_hook_when_it_was_asked() {
    let mut world = World::new();
    let (triager, asked, agent, bead) = triage(&mut world);
    world.call(resolve(&triager, &asked, "CLOSE_BEAD"));
    assert_eq!(world.status(&bead), BeadStatus::Failed);
    assert_eq!(world.agent(&agent).current_hook_bead_id, None);

    let mut world = World::new();
    let (triager, asked, agent, bead) = triage(&mut world);
    world.call(resolve(&triager, &asked, "REASSIGN_BEAD"));
    let found = world.bead(&bead);
    assert_eq!((found.status, found.assignee_agent_bead_id), (BeadStatus::Open, None));
    assert_eq!(world.agent(&agent).current_hook_bead_id, None);

    let mut world = World::new();
    let (triager, asked, agent, _) = triage(&mut world);
    world.call(resolve(&triager, &asked, "NUDGE"));
    assert_eq!(world.nudges(&agent)[0].message, "because");

    let mut world = World::new();
    let (triager, asked, agent, bead) = triage(&mut world);
    world.gt_done(&agent, None);
    world.call(resolve(&triager, &asked, "CLOSE_BEAD"));
    assert_eq!(world.status(&bead), BeadStatus::Failed, "though the agent has moved on");
    assert_eq!(world.agent(&agent).current_hook_bead_id, None);
}

#[test]
fn a_batch_that_failed_rests_for_two_minutes() {
    let mut world = World::new();
    let (triager, ..) = triage(&mut world);
    world.completed(Some(&triager), false, None);
    let batches = |world: &mut World| {
        world.beads_of(BeadType::Issue).into_iter().filter(|bead| bead.has_label(label::TRIAGE)).count()
    };
    assert_eq!(batches(&mut world), 1);
    world.tick_after(MINUTE);
    assert_eq!(batches(&mut world), 1);
    world.tick_after(MINUTE + SECOND);
    assert_eq!(batches(&mut world), 2);
}

fn batches(world: &World) -> i64 {
    world.count("SELECT COUNT(*) FROM beads WHERE labels LIKE '%\"gt:triage\"%'")
}

/// Story: a triage agent said that it was done and had answered nothing. The next one was started in the same tick, and so on for ever.
#[test]
fn a_question_that_a_batch_left_open_is_asked_again_after_a_pause_and_a_new_one_at_once() {
    let mut world = World::new();
    let (triager, asked, ..) = triage(&mut world);
    world.gt_done(&triager, None);
    world.run(2 * MINUTE - SECOND);
    assert_eq!(batches(&world), 1);
    world.run(10 * SECOND);
    assert_eq!(batches(&world), 2);
    let second = world.newest(BeadType::Issue).assignee_agent_bead_id.unwrap();
    world.call(resolve(&second, &asked, "DISCARD"));
    escalate(&mut world, Priority::Low, None);
    world.gt_done(&second, None);
    assert_eq!(batches(&world), 3, "all that was asked was answered");
}

/// However the runs end, what no batch answers is left to people after three of them, and no triage agent runs any more.
#[test]
fn a_question_that_no_batch_answers_becomes_an_escalation() {
    let ends: [fn(&mut World, &AgentId); 3] = [
        |world, triager| world.gt_done(triager, None),
        |world, triager| world.completed(Some(triager), true, None),
        |world, triager| world.completed(Some(triager), false, Some("no credit")),
    ];
    for (ends, from_escalation) in ends.into_iter().flat_map(|ends| [(ends, false), (ends, true)]) {
        let mut world = World::new();
        let (_, asked, ..) = triage(&mut world);
        if !from_escalation {
            world.sql(
                "UPDATE beads SET metadata = json_remove(metadata, '$.escalation_bead_id') WHERE bead_id = ?",
                &[asked.bead_id.as_str().into()],
            );
        }
        let mut runs = 0;
        for _ in 0..24 * 60 {
            let holder = "SELECT a.bead_id FROM agent_metadata a JOIN beads b ON b.bead_id = a.current_hook_bead_id
                WHERE b.labels LIKE '%\"gt:triage\"%' AND a.status = 'working'";
            let holder = world.db.query(holder, &[]).unwrap().first().map(|row| row.get::<String>(0).unwrap());
            if let Some(triager) = holder.map(|id| AgentId::parse(&id).unwrap()) {
                world.started_as(&triager, Outcome::Done);
                ends(&mut world, &triager);
                runs += 1;
            }
            world.run(MINUTE);
        }
        assert_eq!(batches(&world), 3);
        assert!(runs <= 15, "{runs}");
        assert_eq!(world.status(&asked.bead_id), BeadStatus::Closed);
        let escalations = world.beads_of(BeadType::Escalation);
        assert_eq!(escalations.len(), if from_escalation { 1 } else { 2 }, "{escalations:?}");
        assert_eq!(escalations[0].status, BeadStatus::Open);
        assert_eq!(escalations[0].title.contains("[TRIAGE]"), !from_escalation);
    }
}

/// Story: a batch whose agent could not be started stood in progress until the agent was taken for dead, and was then tried again, with its old questions.
#[test]
fn a_batch_that_cannot_be_started_fails_and_the_next_one_asks_all_that_waits() {
    let mut world = World::new();
    let (triager, ..) = triage(&mut world);
    escalate(&mut world, Priority::Low, None);
    world.started_as(&triager, Outcome::Failed { reason: "no disk".into() });
    let batches = |world: &mut World| {
        let issues = world.beads_of(BeadType::Issue).into_iter();
        issues.filter(|bead| bead.has_label(label::TRIAGE)).map(|bead| (bead.title, bead.status)).collect::<Vec<_>>()
    };
    assert_eq!(batches(&mut world), [("Triage batch: 1 request(s)".into(), BeadStatus::Failed)]);
    assert_eq!(world.agent(&triager).current_hook_bead_id, None);
    world.tick_after(MINUTE);
    assert_eq!(batches(&mut world).len(), 1, "it rests");
    world.tick_after(MINUTE + SECOND);
    assert!(batches(&mut world).contains(&("Triage batch: 2 request(s)".into(), BeadStatus::InProgress)));
}

/// Story: triage gave a question to the mayor of a town that has none. The question and its escalation were closed, and nobody had been told.
#[test]
fn what_goes_to_a_mayor_that_is_not_there_stays_open() {
    let mut world = World::new();
    let (triager, asked, ..) = triage(&mut world);
    world.call(resolve(&triager, &asked, "ESCALATE_TO_MAYOR"));
    assert_eq!(world.status(&asked.bead_id), BeadStatus::Closed);
    let escalation = world.newest(BeadType::Escalation);
    assert_eq!(escalation.status, BeadStatus::Open);
    let raises = |world: &World| world.count("SELECT re_escalation_count FROM escalation_metadata");
    world.run(5 * HOUR);
    assert_eq!(raises(&world), 1, "and it is raised with its age");

    let mut world = World::new();
    let (triager, asked, ..) = triage(&mut world);
    let mayor = world.mayor();
    world.set_agent_status(&mayor, &AgentStatus::Waiting);
    world.call(resolve(&triager, &asked, "ESCALATE_TO_MAYOR"));
    assert!(
        effects(&world.outputs).iter().any(|effect| matches!(effect, Effect::Tell { agent, .. } if *agent == mayor))
    );
    assert_eq!(world.newest(BeadType::Escalation).status, BeadStatus::Closed, "the mayor heard it");
}

#[test]
fn a_question_of_the_patrol_that_no_mayor_hears_becomes_an_escalation() {
    let mut world = World::new();
    let (triager, asked, ..) = triage(&mut world);
    world.sql(
        "UPDATE beads SET metadata = json_remove(metadata, '$.escalation_bead_id') WHERE bead_id = ?",
        &[asked.bead_id.as_str().into()],
    );
    world.call(resolve(&triager, &asked, "ESCALATE"));
    let made = world.newest(BeadType::Escalation);
    assert!(made.title.contains("[TRIAGE]") && made.status == BeadStatus::Open, "{}", made.title);
    assert_eq!(requests(&mut world).len(), 1, "it asks triage nothing again");
}

/// Story: by the time of the decision the bead was another agent's, and was opened again under its hands.
#[test]
fn a_bead_that_another_agent_has_by_now_stays_with_it() {
    let mut world = World::new();
    let (triager, asked, agent, bead) = triage(&mut world);
    let successor = world.register(Role::Polecat, "r1");
    world.hook(&successor, &bead);
    let before = world.bead(&bead);
    world.call(resolve(&triager, &asked, "REASSIGN_BEAD"));
    assert_eq!(world.agent(&agent).current_hook_bead_id, None);
    assert_eq!(world.agent(&successor).current_hook_bead_id, Some(bead.clone()));
    let after = world.bead(&bead);
    assert_eq!((after.status, after.assignee_agent_bead_id), (before.status, Some(successor)));
}
