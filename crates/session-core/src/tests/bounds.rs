//! What a container or an agent says may be of any length; what is kept of it may not, or the turn could never be committed.

use super::*;
use crate::limits::ATTEMPTS_KEPT;
use crate::limits::BRANCH_BYTES_MAX;
use crate::limits::EXECUTIONS_KEPT;
use crate::limits::STEP_MESSAGE_BYTES_MAX;
use crate::limits::TEXT_BYTES_MAX;
use crate::store;
use database::Database;
use protocol::trpc::parse_update_session;

const MEGABYTE: usize = 1_000_000;

fn running() -> (World, ExecutionId) {
    let (world, execution, _) = World::running_with(json!({"callbackTarget": {"url": "https://hook.example/x"}}));
    (world, execution)
}

fn agent(world: &mut World, execution: &ExecutionId, name: &str, properties: Value) {
    world.frame(execution, json!({"streamEventType": "kilocode", "data": {"event": name, "properties": properties}}));
}

fn message(world: &mut World, execution: &ExecutionId, id: &str, role: &str, session: &str) {
    agent(world, execution, "message.updated", json!({"info": {"id": id, "role": role, "sessionID": session}}));
}

fn text(world: &mut World, execution: &ExecutionId, message: &str, part: &str, text: &str) {
    let part = json!({"id": part, "messageID": message, "type": "text", "text": text});
    agent(world, execution, "message.part.updated", json!({"part": part}));
}

/// The body of the callback that is owed.
fn callback(world: &mut World) -> Value {
    world
        .alarm()
        .into_iter()
        .find_map(|output| match output {
            Output::Perform { effect: Effect::Callback(post), .. } => serde_json::from_str(&post.body).ok(),
            _ => None,
        })
        .expect("a callback is tried")
}

#[test]
fn a_last_message_of_any_length_is_told_cut() {
    let (mut world, execution) = running();
    message(&mut world, &execution, "m1", "assistant", KILO_SESSION);
    for part in ["p1", "p2", "p3"] {
        text(&mut world, &execution, "m1", part, &"\u{1}".repeat(MEGABYTE / 7));
    }
    world.complete(&execution);
    let told = callback(&mut world)["lastAssistantMessageText"].as_str().unwrap().to_owned();
    assert!(told.len() <= TEXT_BYTES_MAX && told.len() > TEXT_BYTES_MAX - 8 && told.ends_with(" … [cut]"));
}

#[test]
fn the_last_message_is_that_of_the_agent_and_not_of_its_sub_agents() {
    let (mut world, execution) = running();
    message(&mut world, &execution, "m1", "assistant", KILO_SESSION);
    text(&mut world, &execution, "m1", "p1", "mine");
    message(&mut world, &execution, "m2", "assistant", "ses_of_a_sub_agent");
    text(&mut world, &execution, "m2", "p1", "another's");
    message(&mut world, &execution, "m3", "user", KILO_SESSION);
    world.complete(&execution);
    assert_eq!(callback(&mut world)["lastAssistantMessageText"], "mine");
}

#[test]
fn an_event_that_is_nested_too_deeply_for_the_database_does_not_keep_a_turn_from_ending() {
    let (mut world, execution) = running();
    let nested = format!("{}{}", "[".repeat(5_000), "]".repeat(5_000));
    let frame = format!(
        r#"{{"streamEventType":"kilocode","data":{{"event":"message.updated","properties":{{"info":{{"id":"m1","role":"assistant","x":{nested}}}}}}}}}"#
    );
    world.frames(&execution, &[frame]);
    world.complete(&execution);
    assert_eq!(world.view()["lastExecution"]["status"], "completed");
}

#[test]
fn an_error_of_any_length_ends_its_turn() {
    let (mut world, execution) = running();
    let long = "ä".repeat(MEGABYTE / 3);
    world.frame(&execution, json!({"streamEventType": "error", "data": {"fatal": true, "error": long}}));
    let told = callback(&mut world)["errorMessage"].as_str().unwrap().to_owned();
    assert!(told.len() <= TEXT_BYTES_MAX && told.ends_with("ä … [cut]"));
    assert_eq!(world.view()["lastExecution"]["error"], json!(told));
}

#[test]
fn a_result_of_the_gate_that_is_too_long_is_left_out() {
    let (mut world, execution) = running();
    let result = json!({"log": "x".repeat(TEXT_BYTES_MAX)});
    world.frame(&execution, json!({"streamEventType": "complete", "data": {"exitCode": 0, "gateResult": result}}));
    let told = callback(&mut world);
    assert_eq!((&told["status"], &told["gateResult"]), (&json!("completed"), &Value::Null));
}

#[test]
fn a_branch_whose_name_cannot_be_one_is_not_kept() {
    let (mut world, execution) = running();
    let complete =
        |branch: String| json!({"streamEventType": "complete", "data": {"exitCode": 0, "currentBranch": branch}});
    world.frame(&execution, complete("b".repeat(BRANCH_BYTES_MAX + 1)));
    assert_eq!(callback(&mut world)["lastSeenBranch"], "session/x");
    let (second, _) = world.follow_up();
    world.frame(&second, complete("b".repeat(BRANCH_BYTES_MAX)));
    assert_eq!(store_branch(&world).unwrap().len(), BRANCH_BYTES_MAX);
}

fn store_branch(world: &World) -> Option<String> {
    crate::store::session(&world.db).unwrap().unwrap().branch
}

#[test]
fn the_message_of_a_step_is_cut() {
    let mut world = World::new();
    world.register(json!({"autoInitiate": true}));
    world.done("directory/add");
    let work = world.asked_work();
    let progress =
        Progress { attempt: work.attempt, n: 1, step: Step::Cloning, message: "x".repeat(MEGABYTE), outcome: None };
    let token = work.report.token.expose().to_owned();
    let outputs = world.take(Input::Progress { reply: ReplyTo(1), token, progress });
    let told = broadcasts(&outputs, "preparing")[0]["message"].as_str().unwrap().to_owned();
    assert_eq!(told.len(), STEP_MESSAGE_BYTES_MAX);
    assert_eq!(crate::store::work(&world.db).unwrap().unwrap().message, Some(told));
}

#[test]
fn of_many_turns_the_newest_executions_and_attempts_are_remembered() {
    let count = |world: &World, table: &str| -> i64 {
        world.db.query(&format!("SELECT COUNT(*) FROM {table}"), &[]).unwrap()[0].get(0).unwrap()
    };
    let (mut world, first) = running();
    world.complete(&first);
    world.alarm();
    world.outcome(&format!("callback/{first}"), Outcome::Refused { code: "X".into(), message: "no".into() });
    let without = json!({"cloudAgentSessionId": SESSION, "callbackTarget": null});
    let admits = Admits { loopback: false, callback_url: crate::callback::check_url };
    world.call(Call::Update(parse_update_session(&without, admits).unwrap().changes));
    assert_eq!(world.view()["callbacks"][0]["givenUp"], "no");
    for _ in 0..EXECUTIONS_KEPT + 5 {
        let (execution, _) = world.follow_up();
        world.complete(&execution);
        world.pass(1_000);
    }
    assert_eq!((count(&world, "execution"), count(&world, "work")), (EXECUTIONS_KEPT, ATTEMPTS_KEPT));
    assert_eq!(store::execution(&world.db, &first).unwrap(), None);
    world.outputs.clear();
    assert_eq!(world.view()["callbacks"], Value::Null, "its letter goes with it");
    // However many attempts nobody heard of, the container that holds the conversation may still put it away.
    let heard = store::current_tokens(&world.db).unwrap();
    for _ in 0..ATTEMPTS_KEPT + 5 {
        world.pass(1_000);
        world.send("more");
        let work = world.asked_work();
        world.outcome(&format!("work/{}", work.attempt), Outcome::Refused { code: "X".into(), message: "no".into() });
    }
    assert!(store::current_tokens(&world.db).unwrap().contains(&heard[0]));
}
