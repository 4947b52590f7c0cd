//! What the alarm ends, and what it leaves alone: spec/session.md 11.5, each line as a test of its own.

use super::*;
use crate::store;
use object_core::time::MINUTE;

fn heartbeat(world: &mut World, execution: &ExecutionId) {
    world.frame(execution, json!({"streamEventType": "heartbeat"}));
}

/// What is left of an execution that was ended: its error, with the marker and the grace gone and one event stored.
fn ended(world: &mut World, kind: &str) -> Value {
    let view = world.view();
    assert_eq!((&view["execution"], &view["lastExecution"]["status"]), (&Value::Null, &json!("failed")));
    let row = store::last_execution(&world.db).unwrap().unwrap();
    assert_eq!((row.disconnected_at, row.completed_at), (None, Some(world.now)));
    let events = world.stored(kind);
    assert_eq!((events.len(), &events[0]["fatal"]), (1, &json!(true)));
    events[0]["error"].clone()
}

#[test]
fn a_heartbeat_of_11_minutes_ago_fails_the_run_with_one_event() {
    let (mut world, execution, _) = World::running();
    heartbeat(&mut world, &execution);
    world.pass(11 * MINUTE);
    world.tick();
    assert_eq!(ended(&mut world, "error"), "Execution timeout - no heartbeat received");
    world.tick();
    assert_eq!(world.stored("error").len(), 1);
}

#[test]
fn a_pending_turn_of_6_minutes_fails_with_one_event() {
    let mut world = World::prepared(json!({"autoInitiate": true}));
    let start = world.asked_work();
    world.finish_work(&start, 1);
    world.pass(6 * MINUTE);
    world.tick();
    assert_eq!(ended(&mut world, "error"), "Execution timeout - wrapper never connected");
}

#[test]
fn a_heartbeat_of_10_seconds_ago_leaves_it_alone() {
    let (mut world, execution, _) = World::running();
    world.pass(40_000);
    heartbeat(&mut world, &execution);
    world.pass(10_000);
    world.tick();
    assert_eq!(world.view()["execution"]["status"], "running");
    assert!(world.stored("error").is_empty());
}

#[test]
fn a_grace_of_15_seconds_fails_the_run_and_one_of_3_does_not() {
    let (mut world, execution, _) = World::running();
    world.disconnect(&execution);
    world.pass(3_000);
    world.tick();
    assert_eq!(world.view()["execution"]["status"], "running");
    assert_eq!(world.alarm, Some(world.now + 7_000));
    world.pass(12_000);
    world.tick();
    assert_eq!(ended(&mut world, "wrapper_disconnected"), "Wrapper disconnected");
    let event = &world.stored("wrapper_disconnected")[0];
    assert_eq!((&event["reason"], &event["wsCloseCode"]), (&json!("Wrapper disconnected"), &json!(1006)));
}

#[test]
fn the_wrapper_and_the_viewers_are_told_of_a_run_that_was_ended() {
    let (mut world, execution, _) = World::running();
    world.pass(11 * MINUTE);
    let outputs = world.tick();
    let kill = protocol::ingest::Command::Kill { signal: None };
    assert!(outputs.contains(&Output::ToIngest { execution, command: kill }));
    let error = "Execution timeout - no heartbeat received";
    assert_eq!(broadcasts(&outputs, "error"), [json!({"error": error, "fatal": true})]);
    assert_eq!(broadcasts(&outputs, "cloud.status"), [json!({"cloudStatus": {"type": "error", "message": error}})]);
}

#[test]
fn the_alarm_is_the_nearest_of_all_deadlines() {
    let (mut world, execution, _) = World::running();
    let begun = world.now;
    assert_eq!(world.alarm, Some(begun + 10 * MINUTE), "no heartbeat");
    world.frame(&execution, json!({"streamEventType": "output"}));
    assert_eq!(world.alarm, Some(begun + 5 * MINUTE), "no event");
    world.disconnect(&execution);
    assert_eq!(world.alarm, Some(begun + 10_000), "the grace");
    let (mut world, execution, _) = World::running();
    for _ in 0..28 {
        world.pass(MINUTE);
        world.frame(&execution, json!({"streamEventType": "output"}));
    }
    assert_eq!(world.alarm, Some(world.now + 2 * MINUTE), "the longest run");
}

#[test]
fn an_alarm_that_comes_early_or_late_or_for_nothing_ends_nothing_that_is_not_due() {
    let (mut world, execution, _) = World::running();
    for _ in 0..20 {
        world.pass(30_000);
        world.frame(&execution, json!({"streamEventType": "output"}));
        world.tick();
        world.tick();
    }
    assert_eq!(world.view()["execution"]["status"], "running");
}

#[test]
fn without_any_event_there_is_no_hung_deadline() {
    let (mut world, execution, _) = World::running();
    for _ in 0..8 {
        world.pass(MINUTE);
        heartbeat(&mut world, &execution);
        world.tick();
    }
    assert_eq!(world.view()["execution"]["status"], "running", "heartbeats are no events, and none is known");
}

#[test]
fn the_last_event_is_noted_after_30_seconds_not_before_and_not_for_a_heartbeat() {
    let (mut world, execution, _) = World::running();
    let event_at = |world: &World| store::last_execution(&world.db).unwrap().unwrap().event_at;
    heartbeat(&mut world, &execution);
    assert_eq!(event_at(&world), None);
    world.frame(&execution, json!({"streamEventType": "output"}));
    let first = world.now;
    world.pass(29_999);
    world.frame(&execution, json!({"streamEventType": "output"}));
    assert_eq!(event_at(&world), Some(first));
    world.pass(1);
    heartbeat(&mut world, &execution);
    assert_eq!(event_at(&world), Some(first));
    world.frame(&execution, json!({"streamEventType": "output"}));
    assert_eq!(event_at(&world), Some(first + 30_000));
}

#[test]
fn a_run_of_25_minutes_with_heartbeats_is_never_stopped_and_one_of_30_is() {
    let (mut world, execution, _) = World::running();
    let begun = world.now;
    while world.now - begun < 25 * MINUTE {
        world.pass(MINUTE);
        world.frame(&execution, json!({"streamEventType": "output"}));
        let stopped = world.tick().iter().any(|o| matches!(o, Output::Perform { effect: Effect::Stop { .. }, .. }));
        assert!(!stopped);
    }
    assert_eq!(world.view()["execution"]["status"], "running");
    world.pass(5 * MINUTE - 1);
    world.frame(&execution, json!({"streamEventType": "output"}));
    world.tick();
    assert_eq!(world.view()["execution"]["status"], "running");
    world.alarm();
    assert_eq!(ended(&mut world, "error"), "Execution exceeded maximum runtime");
}

#[test]
fn sixteen_minutes_after_the_last_heartbeat_the_agent_server_is_stopped_once() {
    let (mut world, execution, _) = World::running();
    world.complete(&execution);
    world.pass(14 * MINUTE);
    let stops = |outputs: &[Output]| {
        outputs.iter().filter(|o| matches!(o, Output::Perform { effect: Effect::Stop { .. }, .. })).count()
    };
    assert_eq!(stops(&world.tick()), 0);
    world.pass(2 * MINUTE);
    assert_eq!(stops(&world.tick()), 1);
    world.done("stop");
    world.evict();
    world.pass(60 * MINUTE);
    assert_eq!(stops(&world.tick()), 0, "it is stopped, and not looked at again");
    let (next, _) = world.follow_up();
    world.complete(&next);
    world.pass(16 * MINUTE);
    assert_eq!(stops(&world.tick()), 1, "a new turn has a stop of its own");
}

#[test]
fn a_stop_says_up_to_which_work_so_that_one_that_is_overtaken_ends_nothing_newer() {
    let (mut world, execution, _) = World::running();
    world.complete(&execution);
    world.pass(16 * MINUTE);
    let stop = |outputs: Vec<Output>| {
        outputs.into_iter().find_map(|output| match output {
            Output::Perform { effect: Effect::Stop { attempt, .. }, .. } => attempt,
            _ => None,
        })
    };
    let newest = |world: &World| {
        let work = store::work(&world.db).unwrap().unwrap();
        u64::try_from(work.attempt).unwrap()
    };
    assert_eq!(stop(world.tick()), Some(newest(&world)));
    let before = newest(&world);
    world.follow_up();
    assert!(newest(&world) > before, "what comes next is newer than the stop that is under way");
}

#[test]
fn after_a_long_preparation_the_clocks_of_its_turn_begin_then() {
    let mut world = World::new();
    world.register(json!({"autoInitiate": true}));
    world.done("directory/add");
    let preparation = world.asked_work();
    world.pass(11 * MINUTE);
    world.finish_work(&preparation, 1);
    let start = world.asked_work();
    world.pass(11 * MINUTE);
    world.tick();
    assert_eq!(world.view()["execution"]["status"], "pending");
    let execution = start.turn.clone().unwrap().execution_id;
    world.connect(&execution, &start);
    world.finish_work(&start, 1);
    world.tick();
    assert_eq!(world.view()["execution"]["status"], "running");
}

#[test]
fn a_job_that_fails_stops_no_other() {
    let (mut world, execution, _) = World::running();
    world.complete(&execution);
    database::execute(&world.db, "DROP TABLE entity", &[]).unwrap();
    database::execute(&world.db, "UPDATE session SET oldest_at = 0", &[]).unwrap();
    world.pass(20 * MINUTE);
    let expired = world.take(Input::Expire);
    assert!(matches!(&expired[..], [Output::Failed { job: "prune", .. }]), "{expired:?}");
    let paid = world.take(Input::PayDebts);
    assert!(paid.iter().any(|o| matches!(o, Output::Perform { effect: Effect::Release { .. }, .. })));
    assert!(
        paid.iter().any(|o| matches!(o, Output::Perform { effect: Effect::Stop { .. }, .. })),
        "what was due is done"
    );
}

#[test]
fn a_job_that_fails_is_undone_alone() {
    let mut world = World::new();
    world.register(json!({}));
    world.done("directory/add");
    world.asked_work();
    database::execute(&world.db, "DROP TABLE tombstone", &[]).unwrap();
    world.pass(12 * MINUTE);
    let expired = world.take(Input::Expire);
    assert!(matches!(&expired[..], [Output::Failed { job: "work", .. }]), "{expired:?}");
    assert!(store::session(&world.db).unwrap().is_some(), "half a failed preparation is none");
    assert!(world.alarm.unwrap() <= world.now, "it is still due");
}
