//! Answers to what the agent asks: at most once, and never owed.

use super::World;
use crate::message::Call;
use crate::message::Effect;
use crate::message::Outcome;
use crate::message::Output;
use object_core::ReplyTo;
use object_core::owed::Owed;
use protocol::id::AskId;
use protocol::trpc::Code;
use protocol::verdict::QuestionRejection;
use protocol::verdict::Verdict;
use serde_json::Value;
use serde_json::json;

fn verdict() -> Verdict {
    Verdict::RejectQuestion(QuestionRejection { question_id: AskId::parse("que_1").unwrap() })
}

fn answer(world: &World, to: ReplyTo) -> Value {
    serde_json::to_value(world.reply(to).expect("it is answered").unwrap()).unwrap()
}

/// Asks, and lets the container say this.
fn judged(outcome: Outcome) -> (World, ReplyTo) {
    let (mut world, _, _) = World::running();
    let to = world.call(Call::Judge(verdict()));
    assert_eq!(world.reply(to), None, "the container has not spoken");
    let key = format!("judge/{}", to.0);
    world.outcome(&key, outcome);
    (world, to)
}

#[test]
fn the_caller_gets_the_containers_word() {
    let (world, to) = judged(Outcome::Done);
    assert_eq!(answer(&world, to), json!({"success": true}));
    let (world, to) = judged(Outcome::Refused { code: "NOT_WANTED".into(), message: "too late".into() });
    assert_eq!(answer(&world, to), json!({"success": false, "message": "too late"}));
}

#[test]
fn an_unknown_outcome_may_be_tried_again() {
    let (world, to) = judged(Outcome::Failed { code: "TIMEOUT".into(), message: "no answer in time".into() });
    let error = world.reply(to).unwrap().unwrap_err();
    assert_eq!(
        (error.code, error.retryable, error.error.as_deref()),
        (Code::ServiceUnavailable, Some(true), Some("TIMEOUT"))
    );
}

#[test]
fn it_is_performed_once_and_never_owed() {
    let (mut world, _, _) = World::running();
    let to = world.call(Call::Judge(verdict()));
    let debts = Owed::<Effect>::list(&world.db, "judge/").unwrap();
    assert!(debts.is_empty(), "{debts:?}");
    world.evict();
    world.pass(60_000);
    world.tick();
    let performed = world
        .outputs
        .iter()
        .filter(|output| matches!(output, Output::Perform { effect: Effect::Judge { .. }, .. }))
        .count();
    assert_eq!((performed, world.reply(to)), (1, None));
}

#[test]
fn without_a_running_execution_nothing_is_asked_of_the_container() {
    let mut world = World::prepared(json!({}));
    let to = world.call(Call::Judge(verdict()));
    assert_eq!(answer(&world, to), json!({"success": false, "message": "No active execution"}));
    let mut unknown = World::new();
    let to = unknown.call(Call::Judge(verdict()));
    assert_eq!(unknown.reply(to).unwrap().unwrap_err().code, Code::NotFound);
}
