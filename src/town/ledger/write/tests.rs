use super::*;
use protocol::id::AgentId;
use protocol::id::BeadId;
use protocol::id::RigId;
use protocol::town::config::TownConfig;
use serde_json::Value;

fn said_to(op: Op, answer: Answer) -> (u16, Value) {
    let reply = town(op, Guard::Rig, &TownId::parse("t").unwrap(), answer).unwrap();
    (reply.status, serde_json::from_str(&reply.data).unwrap())
}

fn refusal(op: Op, guard: Guard, refusal: Refusal) -> (u16, String) {
    let error = refused(op, guard, &refusal);
    (error.status(), error.to_string())
}

fn bead() -> BeadId {
    BeadId::parse("b").unwrap()
}

#[test]
fn what_is_done_has_one_word_per_route() {
    let words = [
        (Op::Agent(AgentOp::Checkpoint), 200, "written"),
        (Op::Agent(AgentOp::Completed), 200, "completed"),
        (Op::Agent(AgentOp::Delete), 200, "deleted"),
        (Op::Agent(AgentOp::Done), 200, "done"),
        (Op::Agent(AgentOp::EvictionContext), 200, "written"),
        (Op::Agent(AgentOp::Hook), 200, "hooked"),
        (Op::Agent(AgentOp::MayorCompleted), 200, "acknowledged"),
        (Op::Agent(AgentOp::Reset), 200, "reset"),
        (Op::Agent(AgentOp::Say), 200, "ok"),
        (Op::Agent(AgentOp::Unhook), 200, "unhooked"),
        (Op::Agent(AgentOp::Waiting), 200, "acknowledged"),
        (Op::Talk(TalkOp::Mail), 201, "sent"),
        (Op::Talk(TalkOp::NudgeDelivered), 200, "marked"),
        (Op::Town(TownOp::MayorConfigure), 200, "configured"),
        (Op::Town(TownOp::MayorDestroy), 200, "destroyed"),
        (Op::Town(TownOp::UiAction), 200, "broadcast"),
        (Op::Work(WorkOp::CompleteReview), 200, "completed"),
    ];
    for (op, status, word) in words {
        assert_eq!(said_to(op, Answer::Done {}), (status, json!({word: true})), "{op:?}");
    }
}

#[test]
fn deleting_one_is_told_otherwise_than_deleting_many() {
    assert_eq!(said_to(Op::Bead(BeadOp::Delete), Answer::Deleted { count: 1 }), (200, json!({"deleted": true})));
    assert_eq!(said_to(Op::Bead(BeadOp::DeleteMany), Answer::Deleted { count: 7 }), (200, json!({"deleted": 7})));
}

#[test]
fn no_secret_of_a_configuration_leaves() {
    let config = TownConfig { kilocode_token: Some("secret-0123456789".into()), ..TownConfig::default() };
    let (_, shown) = said_to(Op::Town(TownOp::Config), Answer::Config { config: Box::new(config) });
    assert_eq!(shown["kilocode_token"], "****6789");
}

#[test]
fn the_mayor_is_shown_with_its_town() {
    let seen = said_to(Op::Town(TownOp::MayorStatus), Answer::MayorSeen { session: None });
    assert_eq!(seen, (200, json!({"configured": true, "townId": "t", "session": null})));
}

#[test]
fn the_envelope_is_pinned() {
    let reply = done(Op::Agent(AgentOp::Hook)).unwrap();
    assert_eq!(reply.body(), r#"{"success":true,"data":{"hooked":true}}"#);
    let beats = container(ContainerAnswer::Heartbeat { nonce: None }).unwrap();
    assert_eq!(beats.body(), r#"{"success":true,"data":{"heartbeat":true}}"#);
}

#[test]
fn refusals_have_the_statuses_and_texts_of_their_routes() {
    let get = Op::Bead(BeadOp::Get);
    let agent = AgentId::parse("a").unwrap();
    let no_agent = || Refusal::AgentNotFound { agent: agent.clone() };
    let no_rig = || Refusal::RigNotFound { rig: RigId::parse("r").unwrap() };
    let not_staged = || Refusal::ConvoyNotStaged { convoy: bead() };
    let cases = [
        (get, Guard::Rig, Refusal::BeadNotFound { bead: bead() }, 404, "Bead not found"),
        (get, Guard::Rig, no_agent(), 404, "Agent not found"),
        (Op::Bead(BeadOp::Reassign), Guard::Mayor, no_agent(), 404, "Target agent not found"),
        (get, Guard::Rig, no_rig(), 404, "Rig not found"),
        (get, Guard::Mayor, no_rig(), 403, "Rig not found in this town"),
        (Op::Town(TownOp::UiAction), Guard::Mayor, no_rig(), 400, "Rig not found in this town"),
        (Op::Work(WorkOp::StartConvoy), Guard::Mayor, not_staged(), 404, "Convoy not found or not staged"),
        (Op::Work(WorkOp::Convoy), Guard::Mayor, Refusal::ConvoyNotFound { convoy: bead() }, 404, "Convoy not found"),
        (
            Op::Talk(TalkOp::Acknowledge),
            Guard::User,
            Refusal::EscalationNotFound { escalation: bead() },
            404,
            "Escalation not found",
        ),
        (get, Guard::Rig, Refusal::MoleculeNotFound {}, 404, "No active molecule for this agent"),
        (get, Guard::Rig, Refusal::TownNotFound {}, 404, "Town not found"),
        (get, Guard::Rig, Refusal::NotTriageAgent {}, 403, "Only triage agents can resolve triage requests"),
        (get, Guard::Mayor, Refusal::WrongRig { what: "Bead".into() }, 403, "Bead does not belong to this rig"),
        (get, Guard::Rig, Refusal::DependencyCycle {}, 400, "Dependencies must not form a cycle"),
        (
            Op::Bead(BeadOp::Update),
            Guard::Mayor,
            Refusal::BeadBusy { bead: bead(), why: "it is in_review".into() },
            409,
            "Bead b cannot go to another rig while it is in_review: it must be open or over, and on no agent's hook",
        ),
        (
            get,
            Guard::Rig,
            Refusal::NotReviewing { agent: agent.clone() },
            409,
            "Agent a is not a refinery that is hooked to a merge request",
        ),
    ];
    for (op, guard, found, status, text) in cases {
        assert_eq!(refusal(op, guard, found), (status, text.to_owned()));
    }
}
