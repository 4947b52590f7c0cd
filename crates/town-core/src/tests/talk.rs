//! Mail, nudges, prime, escalations.

use super::world::World;
use super::world::effects;
use super::world::rig;
use crate::error::Refusal;
use crate::message::Answer;
use crate::message::Call;
use crate::message::Input;
use crate::message::bead::NewBead;
use crate::message::call::AgentCall;
use crate::message::call::TalkCall;
use crate::message::effect::Effect;
use crate::message::effect::Outcome;
use object_core::time::HOUR;
use object_core::time::MINUTE;
use object_core::time::SECOND;
use protocol::id::AgentId;
use protocol::town::agent::AgentStatus;
use protocol::town::agent::Mail;
use protocol::town::agent::NudgeMode;
use protocol::town::agent::NudgePriority;
use protocol::town::agent::Prime;
use protocol::town::bead::Bead;
use protocol::town::bead::BeadStatus;
use protocol::town::bead::BeadType;
use protocol::town::bead::Priority;
use protocol::town::bead::label;
use serde_json::Map;
use serde_json::json;

fn send(world: &mut World, from: &AgentId, to: &AgentId, subject: &str) {
    world.done(Call::Talk(TalkCall::SendMail {
        from: from.clone(),
        to: to.clone(),
        subject: subject.into(),
        body: "text".into(),
    }));
}

fn check(world: &mut World, agent: &AgentId) -> Vec<Mail> {
    match world.call(Call::Talk(TalkCall::CheckMail { agent: agent.clone() })) {
        Answer::Mail { mail } => mail,
        other => panic!("{other:?}"),
    }
}

fn prime(world: &mut World, agent: &AgentId) -> Prime {
    match world.call(Call::Agent(AgentCall::Prime { agent: agent.clone() })) {
        Answer::Prime { prime } => *prime,
        other => panic!("{other:?}"),
    }
}

fn nudge(world: &mut World, agent: &AgentId, message: &str, mode: NudgeMode, priority: NudgePriority) -> String {
    let call = TalkCall::Nudge {
        agent: agent.clone(),
        message: message.into(),
        mode,
        priority,
        source: "agent".into(),
        ttl_ms: Some(MINUTE),
    };
    match world.call(Call::Talk(call)) {
        Answer::Nudged { nudge_id } => nudge_id,
        other => panic!("{other:?}"),
    }
}

pub fn escalate(world: &mut World, severity: Priority, agent: Option<&AgentId>) -> Bead {
    let call = TalkCall::Escalate {
        title: "help me".into(),
        body: None,
        severity,
        metadata: Map::new(),
        rig: Some(rig("r1")),
        agent: agent.cloned(),
    };
    match world.call(Call::Talk(call)) {
        Answer::Bead { bead } => *bead,
        other => panic!("{other:?}"),
    }
}

/// The questions that were asked of triage.
pub fn requests(world: &mut World) -> Vec<Bead> {
    world.beads_of(BeadType::Issue).into_iter().filter(|bead| bead.has_label(label::TRIAGE_REQUEST)).collect()
}

#[test]
fn mail_is_read_once_in_order_and_the_copy_says_that_it_was_not_delivered() {
    let mut world = World::new();
    let (from, to) = (world.polecat(), world.polecat());
    send(&mut world, &from, &to, "one");
    send(&mut world, &from, &to, "two");
    let mail = check(&mut world, &to);
    let subjects: Vec<_> = mail.iter().map(|mail| (mail.subject.as_str(), mail.delivered, mail.delivered_at)).collect();
    assert_eq!(subjects, [("one", false, None), ("two", false, None)]);
    assert_eq!(mail[0].from_agent_id, from.as_str());
    assert_eq!(check(&mut world, &to), []);
    assert_eq!(world.newest(BeadType::Message).status, BeadStatus::Closed);
}

#[test]
fn prime_tells_hook_mail_and_open_beads_and_delivers_the_mail() {
    let mut world = World::new();
    let (from, agent) = (world.polecat(), world.polecat());
    let bead = world.issue("mine");
    world.add_rig("r2");
    world.create(NewBead { rig: Some(rig("r2")), ..NewBead::new(BeadType::Issue, "of another rig") });
    world.create(NewBead::new(BeadType::Issue, "of no rig"));
    world.hook(&agent, &bead);
    send(&mut world, &from, &agent, "hello");
    let told = prime(&mut world, &agent);
    assert_eq!(told.hooked_bead.unwrap().bead_id, bead);
    assert_eq!(told.undelivered_mail.len(), 1);
    let titles: Vec<_> = told.open_beads.iter().map(|bead| bead.title.as_str()).collect();
    assert_eq!(titles, ["of no rig", "mine"]);
    assert_eq!((told.rework_context, told.pr_fixup_context, told.pr_conflict_context), (None, None, None));
    assert_eq!(prime(&mut world, &agent).undelivered_mail, []);
    for n in 0..30 {
        world.issue(&format!("{n}"));
    }
    assert_eq!(prime(&mut world, &agent).open_beads.len(), 20);
}

#[test]
fn a_working_agent_is_told_of_its_mail_and_only_then_is_it_delivered() {
    let mut world = World::new();
    let from = world.polecat();
    let (agent, _) = world.working();
    send(&mut world, &from, &agent, "one");
    send(&mut world, &from, &agent, "two");
    let told = effects(&world.tick_after(5 * SECOND));
    let [Effect::Tell { text, mail, .. }] = &told[..] else { panic!("{told:?}") };
    assert!(text.starts_with("You have 2 new mail message(s)"), "{text}");
    assert!(text.contains(&format!("[MAIL from {from}] one\ntext\n\n---\n\n[MAIL from")), "{text}");
    assert_eq!(mail.len(), 2);
    assert_eq!(effects(&world.tick_after(5 * SECOND)), [], "it is on its way");
    assert_eq!(world.newest(BeadType::Message).status, BeadStatus::Open);
    world.take(Input::Outcome { key: format!("mail/{agent}"), outcome: Outcome::Done });
    assert_eq!(check(&mut world, &agent), []);
    assert_eq!(effects(&world.tick_after(5 * SECOND)), []);
}

#[test]
fn nudges_wait_urgent_ones_first_until_they_are_delivered_or_too_old() {
    let mut world = World::new();
    let agent = world.polecat();
    nudge(&mut world, &agent, "a", NudgeMode::WaitIdle, NudgePriority::Normal);
    let queued = nudge(&mut world, &agent, "b", NudgeMode::Queue, NudgePriority::Normal);
    nudge(&mut world, &agent, "c", NudgeMode::WaitIdle, NudgePriority::Urgent);
    let messages =
        |world: &mut World| -> Vec<String> { world.nudges(&agent).into_iter().map(|nudge| nudge.message).collect() };
    assert_eq!(messages(&mut world), ["c", "a", "b"]);
    world.now += MINUTE;
    assert_eq!(messages(&mut world), ["c", "a"], "only mode queue expires");
    world.done(Call::Talk(TalkCall::NudgeDelivered { nudge: queued }));
    let urgent = world.nudges(&agent)[0].nudge_id.clone();
    world.done(Call::Talk(TalkCall::NudgeDelivered { nudge: urgent }));
    assert_eq!(messages(&mut world), ["a"]);
}

#[test]
fn an_immediate_nudge_is_sent_at_once_and_delivered_when_the_container_took_it() {
    let mut world = World::new();
    let (agent, _) = world.working();
    let id = nudge(&mut world, &agent, "now", NudgeMode::Immediate, NudgePriority::Urgent);
    assert!(matches!(&effects(&world.outputs)[..], [Effect::Tell { text, .. }] if text == "now"));
    assert_eq!(world.nudges(&agent).len(), 1);
    world.take(Input::Outcome { key: format!("tell/{id}"), outcome: Outcome::Done });
    assert_eq!(world.nudges(&agent), []);
    let id = nudge(&mut world, &agent, "later", NudgeMode::Immediate, NudgePriority::Urgent);
    world.take(Input::Outcome { key: format!("tell/{id}"), outcome: Outcome::NotRunning });
    assert_eq!(world.nudges(&agent).len(), 1, "it waits for the next idle moment");
}

#[test]
fn an_escalation_asks_triage_and_tells_the_mayor_when_it_is_more_than_small() {
    let mut world = World::new();
    let mayor = world.mayor();
    world.set_agent_status(&mayor, &AgentStatus::Waiting);
    let low = escalate(&mut world, Priority::Low, None);
    assert_eq!(effects(&world.outputs), []);
    assert_eq!((low.title.as_str(), low.priority), ("Escalation: help me", Priority::Medium));
    assert!(low.has_label("gt:escalation") && low.has_label("severity:low"));
    let high = escalate(&mut world, Priority::High, None);
    assert!(matches!(&effects(&world.outputs)[..], [Effect::Tell { agent, .. }] if *agent == mayor));
    assert_eq!(world.agent(&mayor).status, AgentStatus::Working);
    let asked = requests(&mut world);
    assert_eq!(asked.len(), 2);
    assert_eq!(asked[1].metadata["options"], json!(["NUDGE", "CLOSE_BEAD", "PROVIDE_GUIDANCE"]));
    assert_eq!(asked[0].metadata["options"][0], json!("ESCALATE_TO_MAYOR"));
    let seen = |acknowledged| Call::Talk(TalkCall::Escalations { acknowledged });
    world.call(Call::Talk(TalkCall::Acknowledge { escalation: high.bead_id.clone() }));
    assert_eq!(world.status(&high.bead_id), BeadStatus::Closed);
    let Answer::Beads { beads } = world.call(seen(Some(false))) else { panic!() };
    assert_eq!(beads.into_iter().map(|bead| bead.bead_id).collect::<Vec<_>>(), [low.bead_id]);
    let issue = world.issue("x");
    let refusal = world.refused(Call::Talk(TalkCall::Acknowledge { escalation: issue.clone() }));
    assert_eq!(refusal, Refusal::EscalationNotFound { escalation: issue });
}

#[test]
fn an_escalation_that_nobody_sees_is_raised_three_times() {
    let mut world = World::new();
    let bead = escalate(&mut world, Priority::Low, None);
    let asked = requests(&mut world)[0].bead_id.clone();
    world.close(&asked);
    world.run(MINUTE);
    let severity = |world: &World| {
        let sql = "SELECT severity, re_escalation_count FROM escalation_metadata";
        let row = &database::Database::query(&world.db, sql, &[]).unwrap()[0];
        (row.get::<String>(0).unwrap(), row.get::<i64>(1).unwrap())
    };
    assert_eq!(world.alarm, Some(bead.created_at + 4 * HOUR), "nothing else is to be looked at");
    for (hours, expected) in [(4, ("medium", 1)), (8, ("high", 2)), (12, ("critical", 3)), (48, ("critical", 3))] {
        let until = bead.created_at + hours * HOUR;
        world.run(until - world.now);
        assert_eq!(severity(&world), (expected.0.to_owned(), expected.1), "after {hours} hours");
    }
    assert_eq!(world.alarm, None, "then the town rests");
    let raised = world.bead(&bead.bead_id);
    assert_eq!(
        (raised.priority, raised.labels),
        (Priority::Critical, vec!["gt:escalation".into(), "severity:critical".into()])
    );
}
