//! A call that comes again because its answer was lost is the same call: it has one effect, and one answer.

use super::*;

fn error(result: Option<Result<Answer, TrpcError>>) -> Option<String> {
    result.expect("an answer").unwrap_err().error
}

fn send_as(world: &mut World, message: &str) -> ReplyTo {
    let json = json!({"cloudAgentSessionId": SESSION, "prompt": "more", "messageId": message});
    world.call(Call::Send(Box::new(parse_send_message(&json).unwrap())))
}

#[test]
fn a_registration_again_waits_where_the_first_did() {
    let mut world = World::new();
    let first = world.register(json!({}));
    let second = world.register(json!({}));
    assert_eq!(error(world.reply(first)).as_deref(), Some("SUPERSEDED"), "nobody waits for ever");
    world.done("directory/add");
    let preparation = world.asked_work();
    let third = world.register(json!({}));
    assert_eq!(error(world.reply(second)).as_deref(), Some("SUPERSEDED"));
    world.finish_work(&preparation, 1);
    assert!(matches!(world.reply(third), Some(Ok(Answer::Prepared(_)))));
    let late = world.register(json!({}));
    assert_eq!(world.reply(late), world.reply(third), "what is done is answered at once");
}

#[test]
fn a_registration_again_is_answered_at_once_where_the_first_was() {
    let mut world = World::new();
    let first = world.register(json!({"autoInitiate": true}));
    world.done("directory/add");
    world.asked_work();
    let second = world.register(json!({"autoInitiate": true}));
    assert!(matches!(world.reply(second), Some(Ok(Answer::Prepared(_)))));
    assert_eq!(world.reply(second), world.reply(first));
}

#[test]
fn a_message_again_begins_no_second_turn_and_gets_the_answer_of_the_first() {
    let (mut world, execution, _) = World::running();
    world.complete(&execution);
    let message = "msg_0123456789abABCDEFGHIJKLMN";
    let first = send_as(&mut world, message);
    let work = world.asked_work();
    let second = send_as(&mut world, message);
    assert_eq!(error(world.reply(first)).as_deref(), Some("SUPERSEDED"));
    world.finish_work(&work, 1);
    let Some(Ok(Answer::Ack(ack))) = world.reply(second) else { panic!() };
    assert_eq!(ack.execution_id, work.turn.unwrap().execution_id.as_str());
    let third = send_as(&mut world, message);
    assert_eq!(world.reply(third), world.reply(second));
    let other = send_as(&mut world, "msg_otherABCDEFabABCDEFGHIJKLM");
    assert_eq!(error(world.reply(other)).as_deref(), Some("EXECUTION_IN_PROGRESS"));
    let nameless = world.send("more");
    assert_eq!(error(world.reply(nameless)).as_deref(), Some("EXECUTION_IN_PROGRESS"));
}
