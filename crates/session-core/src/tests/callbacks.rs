use super::*;
use crate::callback::LETTERS_KEPT;
use crate::callback::check_url;
use crate::callback::pause_ms;
use crate::message::CallbackPost;

/// A session with a callback target, its first turn running.
fn running() -> (World, ExecutionId, Work) {
    let mut world = World::prepared(
        json!({"autoInitiate": true, "callbackTarget": {"url": "https://hook.example/x", "headers": {"x-key": "s3cret"}}}),
    );
    let start = world.asked_work();
    let execution = start.turn.clone().unwrap().execution_id;
    world.connect(&execution, &start);
    world.finish_work(&start, 1);
    (world, execution, start)
}

fn posts(outputs: &[Output]) -> Vec<CallbackPost> {
    outputs
        .iter()
        .filter_map(|output| match output {
            Output::Perform { effect: Effect::Callback(post), .. } => Some((**post).clone()),
            _ => None,
        })
        .collect()
}

fn complete(world: &mut World, execution: &ExecutionId) {
    world.frame(execution, json!({"streamEventType": "complete", "data": {"exitCode": 0, "currentBranch": "topic"}}));
}

#[test]
fn a_finished_execution_owes_exactly_one_callback() {
    let (mut world, execution, _) = running();
    let event = |name: &str, properties: Value| json!({"streamEventType": "kilocode", "data": {"event": name, "properties": properties}});
    world.frame(
        &execution,
        event("message.updated", json!({"info": {"id": "m1", "role": "user", "sessionID": KILO_SESSION}})),
    );
    world.frame(
        &execution,
        event("message.updated", json!({"info": {"id": "m2", "role": "assistant", "sessionID": KILO_SESSION}})),
    );
    for (part, kind, text) in [("p1", "text", "All "), ("p2", "tool", "no"), ("p3", "text", "done.")] {
        world.frame(
            &execution,
            event("message.part.updated", json!({"part": {"id": part, "messageID": "m2", "type": kind, "text": text}})),
        );
    }
    // What it writes when it condenses the conversation is not its answer.
    let summary = json!({"id": "m3", "role": "assistant", "sessionID": KILO_SESSION, "summary": true});
    world.frame(&execution, event("message.updated", json!({ "info": summary })));
    complete(&mut world, &execution);
    complete(&mut world, &execution);
    let sent = posts(&world.alarm());
    assert_eq!(sent.len(), 1);
    let body: Value = serde_json::from_str(&sent[0].body).unwrap();
    assert_eq!(
        body,
        json!({"sessionId": SESSION, "cloudAgentSessionId": SESSION, "executionId": execution.as_str(), "status": "completed",
               "lastSeenBranch": "topic", "kiloSessionId": "ses_0123456789abABCDEFGHIJKLMN", "lastAssistantMessageText": "All done."})
    );
    world.done(&format!("callback/{execution}"));
    world.done(&format!("release/{execution}"));
    assert_eq!(world.view()["callbacks"], Value::Null);
}

#[test]
fn the_result_of_the_gate_comes_with_the_callback_of_the_execution_that_it_judged() {
    let (mut world, execution, _) = running();
    let judged = |result: Value| json!({"streamEventType": "complete", "data": {"exitCode": 0, "gateResult": result}});
    world.frame(&execution, judged(json!({"passed": false, "critical": 1})));
    let body: Value = serde_json::from_str(&posts(&world.alarm())[0].body).unwrap();
    assert_eq!(body["gateResult"], json!({"passed": false, "critical": 1}));
    world.done(&format!("release/{execution}"));
    let (second, _) = world.follow_up();
    complete(&mut world, &second);
    let posts: Vec<_> = posts(&world.alarm()).into_iter().filter(|post| post.execution == second).collect();
    assert!(!posts[0].body.contains("gateResult"), "{}", posts[0].body);
}

#[test]
fn a_callback_is_tried_five_times_and_then_shown_as_dead() {
    let (mut world, execution, _) = running();
    complete(&mut world, &execution);
    let key = format!("callback/{execution}");
    let (mut last, mut pauses) = (world.now, vec![]);
    for attempt in 1..=5 {
        while posts(&world.alarm()).is_empty() {}
        pauses.push((world.now - last) / 1000);
        last = world.now;
        let failed = Outcome::Failed { code: "CALLBACK".into(), message: format!("503 at {attempt}") };
        world.outcome(&key, failed);
        world.done(&format!("release/{execution}"));
    }
    assert_eq!(pauses, [0, 60, 120, 240, 480]);
    assert!(posts(&world.alarm()).is_empty(), "a dead letter is not tried again");
    let shown = world.view();
    assert_eq!(shown["callbacks"], json!([{"executionId": execution.as_str(), "attempts": 5, "givenUp": "503 at 5"}]));
    assert!(!shown.to_string().contains("s3cret") && !shown.to_string().contains("hook.example"));
    assert_eq!(pause_ms(4), 480_000);
}

#[test]
fn an_answer_that_says_no_is_final() {
    let (mut world, execution, _) = running();
    complete(&mut world, &execution);
    world.alarm();
    let refused = Outcome::Refused { code: "CALLBACK".into(), message: "404".into() };
    world.outcome(&format!("callback/{execution}"), refused);
    assert_eq!(world.view()["callbacks"][0]["givenUp"], "404");
}

#[test]
fn a_callback_outlives_its_session_and_its_dead_letter_does_not() {
    let owed = |world: &World| {
        let rows = database::Database::query(&world.db, "SELECT 1 FROM owed WHERE key LIKE 'callback/%'", &[]).unwrap();
        rows.len()
    };
    let (mut world, execution, _) = running();
    complete(&mut world, &execution);
    world.call(Call::Delete);
    assert_eq!(posts(&world.alarm()).len(), 1, "it is owed all the same");
    let refused = Outcome::Refused { code: "CALLBACK".into(), message: "404".into() };
    world.outcome(&format!("callback/{execution}"), refused.clone());
    assert_eq!(owed(&world), 0, "nobody could be shown it");
    let (mut world, execution, _) = running();
    complete(&mut world, &execution);
    world.alarm();
    world.outcome(&format!("callback/{execution}"), refused);
    assert_eq!(owed(&world), 1);
    world.call(Call::Delete);
    assert_eq!(owed(&world), 0);
}

#[test]
fn of_callbacks_that_were_given_up_the_newest_are_shown_without_what_they_held() {
    let (mut world, first, _) = running();
    complete(&mut world, &first);
    world.alarm();
    let refused = || Outcome::Refused { code: "CALLBACK".into(), message: "404".into() };
    world.outcome(&format!("callback/{first}"), refused());
    let mut newest = vec![];
    for _ in 0..LETTERS_KEPT {
        world.pass(1_000);
        let (execution, _) = world.follow_up();
        complete(&mut world, &execution);
        while posts(&world.alarm()).is_empty() {}
        world.outcome(&format!("callback/{execution}"), refused());
        newest.push(json!({"executionId": execution.as_str(), "attempts": 1, "givenUp": "404"}));
    }
    assert_eq!(world.view()["callbacks"], json!(newest));
    let sql = "SELECT MAX(length(effect)) FROM owed WHERE dead IS NOT NULL";
    let left: i64 = database::Database::query(&world.db, sql, &[]).unwrap()[0].get(0).unwrap();
    assert_eq!(left, 0);
}

#[test]
fn a_callback_of_which_it_is_heard_late_that_it_was_delivered_is_shown_no_more() {
    let (mut world, execution, _) = running();
    complete(&mut world, &execution);
    world.alarm();
    let key = format!("callback/{execution}");
    world.outcome(&key, Outcome::Refused { code: "CALLBACK".into(), message: "404".into() });
    world.outcome(&key, Outcome::Failed { code: "CALLBACK".into(), message: "late".into() });
    assert_eq!(world.view()["callbacks"][0]["givenUp"], "404");
    world.done(&key);
    assert_eq!(world.view()["callbacks"], Value::Null);
}

#[test]
fn a_first_turn_that_fails_to_start_is_told_a_follow_up_is_not() {
    let (mut world, execution, _) = running();
    complete(&mut world, &execution);
    world.alarm();
    world.done(&format!("callback/{execution}"));
    world.send("more");
    let work = world.asked_work();
    world.fail_work(&work, 1);
    assert!(posts(&world.alarm()).is_empty());

    let mut world = World::prepared(json!({"autoInitiate": true, "callbackTarget": {"url": "https://hook.example/x"}}));
    let start = world.asked_work();
    world.fail_work(&start, 1);
    let body: Value = serde_json::from_str(&posts(&world.alarm())[0].body).unwrap();
    assert_eq!((&body["status"], &body["errorMessage"]), (&json!("failed"), &json!("boom")));
}

#[test]
fn a_turn_whose_prompt_the_agent_has_began_even_if_its_container_did_not_come_to_say_so() {
    let begun = |world: &mut World, start: &Work| {
        let turn = start.turn.clone().unwrap();
        world.connect(&turn.execution_id, start);
        let info = json!({"info": {"id": turn.message_id, "role": "user", "sessionID": KILO_SESSION}});
        let data = json!({"event": "message.updated", "properties": info});
        world.frame(&turn.execution_id, json!({"streamEventType": "kilocode", "data": data}));
        world.frame(
            &turn.execution_id,
            json!({"streamEventType": "interrupted", "data": {"reason": "Session stopped"}}),
        );
        turn.execution_id
    };
    let target = json!({"autoInitiate": true, "callbackTarget": {"url": "https://hook.example/x"}});
    let mut world = World::prepared(target);
    let start = world.asked_work();
    let first = begun(&mut world, &start);
    assert_eq!(posts(&world.alarm()).len(), 1);
    world.done(&format!("callback/{first}"));
    assert!(!world.view()["initiatedAt"].is_null(), "the same prompt is not to be given again");

    world.send("more");
    let work = world.asked_work();
    let second = begun(&mut world, &work);
    assert_eq!(posts(&world.alarm()).len(), 1);
    world.done(&format!("callback/{second}"));
    assert!(posts(&world.alarm()).is_empty());
}

#[test]
fn callbacks_go_to_public_hosts_only() {
    for good in ["https://example.com/x", "https://8.8.8.8/", "https://a.b.example:8443/x?y", "https://[2606:4700::1]/"]
    {
        assert!(check_url(good, false).is_ok(), "{good}");
    }
    for bad in [
        "",
        "example.com",
        "http://example.com",
        "ftp://example.com",
        "https://user:pw@example.com",
        "https://localhost",
        "https://localhost./",
        "https://intranet",
        "https://a.local",
        "https://a.INTERNAL.",
        "https://127.0.0.1",
        "https://127.1",
        "https://0x7f.1",
        "https://2130706433",
        "https://10.0.0.1",
        "https://172.16.0.1",
        "https://192.168.1.1",
        "https://169.254.169.254",
        "https://100.64.0.1",
        "https://0.0.0.0",
        "https://224.0.0.1",
        "https://[::1]",
        "https://[::ffff:127.0.0.1]",
        "https://[fe80::1]",
        "https://[fd00::1]",
        "https://[2002:7f00:1::]",
        "http://127.0.0.1:80/",
    ] {
        assert!(check_url(bad, false).is_err(), "{bad}");
    }
    assert!(check_url("http://127.0.0.1:8080/x", true).is_ok());
    assert!(check_url("http://127.0.0.2:8080/x", true).is_err());
}
