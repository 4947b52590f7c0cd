//! A call that comes again because its answer was lost is the same call: it has one effect, and one answer.

use super::*;
use protocol::trpc::parse_update_session;

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

/// Found by the simulation: the answer to a message was lost, its turn ran and ended, and the caller sent it again. The agent does not take a message
/// twice, so that execution never began; but the message that the earlier one had left in the log was taken for its beginning, and its caller was
/// called back besides being told.
#[test]
fn a_message_again_after_its_turn_never_begins_and_is_told_to_its_caller_alone() {
    let target = json!({"callbackTarget": {"url": "https://hook.example/x"}});
    let (mut world, execution, _) = World::running_with(target);
    world.complete(&execution);
    let message = "msg_0123456789abABCDEFGHIJKLMN";
    send_as(&mut world, message);
    let work = world.asked_work();
    let first = work.turn.clone().unwrap().execution_id;
    world.connect(&first, &work);
    let data = json!({"event": "message.updated", "properties": {"info": {"id": message, "role": "user"}}});
    world.frame(&first, json!({"streamEventType": "kilocode", "seq": 1, "data": data}));
    world.finish_work(&work, 1);
    world.complete(&first);
    let again = send_as(&mut world, message);
    let second = world.asked_work();
    world.fail_work(&second, 1);
    assert_eq!(error(world.reply(again)).as_deref(), Some("WORKSPACE_SETUP_FAILED"));
    let owed = world.view()["callbacks"].to_string();
    assert!(owed.contains(first.as_str()), "{owed}");
    assert!(!owed.contains(second.turn.unwrap().execution_id.as_str()), "{owed}");
}

/// Found by the simulation: the directory did not answer, the registration was undone, and the removal of an entry that might be there was owed. The same
/// registration came once more, was listed at once, and then lost its entry to that removal: a session that nobody could find.
#[test]
fn a_registration_again_after_it_was_undone_waits_until_its_entry_is_removed() {
    let mut world = World::new();
    let first = world.register(json!({}));
    for _ in 0..Limits::default().directory_attempts {
        world.outcome("directory/add", Outcome::Failed { code: "X".into(), message: "away".into() });
        world.alarm();
    }
    assert!(world.reply(first).expect("an answer").is_err());
    let second = world.register(json!({}));
    assert!(world.reply(second).expect("an answer").is_err());
    world.done("directory/remove");
    let third = world.register(json!({}));
    world.done("directory/add");
    let preparation = world.asked_work();
    world.finish_work(&preparation, 1);
    assert!(matches!(world.reply(third), Some(Ok(Answer::Prepared(_)))));
}

#[test]
fn only_a_call_that_is_answered_the_second_time_as_the_first_may_be_repeated() {
    let admits = Admits { loopback: false, callback_url: crate::callback::check_url };
    let update = json!({"cloudAgentSessionId": SESSION, "callbackTarget": null});
    let update = Call::Update(parse_update_session(&update, admits).unwrap().changes);
    for call in [Call::Delete, Call::Interrupt, update, Call::View] {
        let (mut world, execution, _) = World::running();
        world.call(call.clone());
        let again = world.call(call.clone());
        let abort = format!("abort/{execution}");
        if world.performed.contains_key(&abort) {
            world.done(&abort);
        }
        assert!(world.reply(again).expect("an answer").is_ok() && call.may_repeat(), "{call:?}");
    }
    let mut world = World::prepared(json!({}));
    world.call(Call::Initiate);
    let again = world.call(Call::Initiate);
    assert_eq!(error(world.reply(again)).as_deref(), Some("EXECUTION_IN_PROGRESS"));
    assert!(!Call::Initiate.may_repeat());
    let send = |fields: Value| Call::Send(Box::new(parse_send_message(&fields).unwrap()));
    let mut message = json!({"cloudAgentSessionId": SESSION, "prompt": "more"});
    assert!(!send(message.clone()).may_repeat());
    message["messageId"] = json!("msg_0123456789abABCDEFGHIJKLMN");
    assert!(send(message).may_repeat());
}
