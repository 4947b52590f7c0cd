//! What waits for a person suspends the hung deadline (design 6), and only as long as it really waits. The events are the recorded ones.

use super::*;
use object_core::time::MINUTE;

/// The agent's events of a recorded scenario, as their wrapper forwards them, up to and with the first of type `last`; as if the session was ours.
fn recorded(version: &str, scenario: &str, last: &str) -> Vec<Value> {
    let path = format!("{}/../../fixtures/kilo/kilo-sse-transcript{version}.jsonl", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let mut events = vec![];
    for line in lines.skip_while(|line| line["text"] != scenario).skip(1).take_while(|line| line["dir"] != "note") {
        let data = &line["data"];
        if line["dir"] != "sse" || data["type"] == "sync" {
            continue;
        }
        let session = data["properties"]["sessionID"].as_str().unwrap_or("none");
        let data: Value = serde_json::from_str(&data.to_string().replace(session, KILO_SESSION)).unwrap();
        let forwarded = json!({"event": data["type"], "type": data["type"], "properties": data["properties"]});
        events.push(json!({"streamEventType": "kilocode", "data": forwarded}));
        if data["type"] == last {
            return events;
        }
    }
    panic!("{scenario} holds no {last}");
}

const VERSIONS: [&str; 2] = ["", "-7.0.33"];

fn feed(world: &mut World, execution: &ExecutionId, events: &[Value]) {
    for event in events {
        world.frame(execution, event.clone());
    }
}

/// Whether the agent is taken to wait for a person.
fn waits(world: &World) -> bool {
    world.alarm.unwrap() > world.now + 5 * MINUTE
}

#[test]
fn a_permission_and_a_question_suspend_the_hung_deadline_until_they_are_answered() {
    for version in VERSIONS {
        for (scenario, asked, answered) in [
            ("D permission asked: once", "permission.asked", "permission.replied"),
            ("D2 permission asked: reject", "permission.asked", "permission.replied"),
            ("E question: reply", "question.asked", "question.replied"),
            ("E2 question: reject", "question.asked", "question.rejected"),
        ] {
            let (mut world, execution, _) = World::running();
            feed(&mut world, &execution, &recorded(version, scenario, asked));
            assert!(waits(&world), "{version} {scenario}");
            let (mut world, execution, _) = World::running();
            feed(&mut world, &execution, &recorded(version, scenario, answered));
            assert!(!waits(&world), "{version} {scenario}");
        }
    }
}

#[test]
fn an_aborted_turn_waits_for_nobody() {
    for version in VERSIONS {
        let (mut world, execution, _) = World::running();
        feed(&mut world, &execution, &recorded(version, "F3 abort while permission is asked", "permission.asked"));
        assert!(waits(&world), "{version}");
        let (mut world, execution, _) = World::running();
        feed(&mut world, &execution, &recorded(version, "F3 abort while permission is asked", "session.turn.close"));
        assert!(!waits(&world), "{version}");
    }
}

/// The agent server keeps the permission of an aborted turn, and each snapshot for a new viewer lists it.
#[test]
fn the_permission_of_an_aborted_turn_does_not_suspend_the_deadline_of_the_next() {
    for version in VERSIONS {
        let (mut world, first, _) = World::running();
        let events = recorded(version, "F3 abort while permission is asked", "session.turn.close");
        feed(&mut world, &first, &events);
        let stale = events.iter().find(|event| event["data"]["event"] == "permission.asked").unwrap().clone();
        world.frame(&first, json!({"streamEventType": "interrupted", "data": {"reason": "Session stopped"}}));
        let (second, _) = world.follow_up();
        world.frame(&second, json!({"streamEventType": "output"}));
        assert!(!waits(&world));
        world.frame(&second, stale.clone());
        assert!(!waits(&world), "{version}: a stale permission of the first turn");
        let (mut same, execution, _) = World::running();
        feed(&mut same, &execution, &events);
        same.frame(
            &execution,
            events.iter().find(|event| event["data"]["event"] == "permission.asked").unwrap().clone(),
        );
        assert!(!waits(&same), "{version}: in the same execution too");
    }
}

fn question(event: &str, properties: Value) -> Value {
    json!({"streamEventType": "kilocode", "data": {"event": event, "type": event, "properties": properties}})
}

#[test]
fn the_clock_of_an_agent_that_was_answered_begins_with_the_answer() {
    let (mut world, execution, _) = World::running();
    world.frame(&execution, question("question.asked", json!({"id": "que_1"})));
    // Too soon for activity to be written again.
    world.pass(20_000);
    world.frame(&execution, question("question.replied", json!({"requestID": "que_1"})));
    assert_eq!(world.alarm, Some(world.now + 5 * MINUTE));
}

#[test]
fn only_so_many_questions_are_remembered() {
    let (mut world, execution, _) = World::running();
    for n in 0..25 {
        world.frame(&execution, question("question.asked", json!({"id": format!("que_{n}")})));
    }
    for n in 0..20 {
        assert!(waits(&world), "{n}");
        world.frame(&execution, question("question.replied", json!({"requestID": format!("que_{n}")})));
    }
    assert!(!waits(&world));
}
