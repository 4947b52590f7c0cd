//! A session that is gone: deleted in any state, or given up. Spec/session.md 2.11, 3.6, 7.3, 11.2, 11.8.

use super::*;
use object_core::time::HOUR;

type Reach = fn() -> World;

/// A session in each of its states.
const STATES: [(&str, Reach); 8] = [
    ("registered", || {
        let mut world = World::new();
        world.register(json!({}));
        world
    }),
    ("listed", || {
        let mut world = World::new();
        world.register(json!({}));
        world.done("directory/add");
        world
    }),
    ("preparing", || {
        let mut world = World::new();
        world.register(json!({}));
        world.done("directory/add");
        let work = world.asked_work();
        world.report(&work, 1, Step::Cloning, None);
        world
    }),
    ("prepared", || World::prepared(json!({}))),
    ("starting", || {
        let mut world = World::prepared(json!({}));
        world.call(Call::Initiate);
        world.asked_work();
        world
    }),
    ("running", || World::running().0),
    ("disconnected", || {
        let (mut world, execution, _) = World::running();
        world.call(Call::Interrupt);
        world.disconnect(&execution);
        world
    }),
    ("at rest", || {
        let (mut world, execution, _) = World::running();
        world.frame(&execution, json!({"streamEventType": "kilocode", "data": {"event": "session.idle"}}));
        world.complete(&execution);
        world
    }),
];

fn rows(world: &World) -> Vec<String> {
    let tables = ["session", "execution", "work", "log", "entity", "owed", "ticket", "tombstone"];
    let rows = |table: &&str| {
        !database::Database::query(&world.db, &format!("SELECT 1 FROM {table}"), &[]).unwrap().is_empty()
    };
    tables.into_iter().filter(rows).map(str::to_owned).collect()
}

/// Everything that is owed is done.
fn settle(world: &mut World) -> Vec<Effect> {
    let mut effects = vec![];
    while world.alarm.is_some() {
        for output in world.alarm() {
            if let Output::Perform { key, effect } = output {
                effects.push(effect);
                world.done(&key);
            }
        }
    }
    effects
}

#[test]
fn a_delete_in_any_state_leaves_no_row_no_alarm_no_entry_and_no_agent() {
    for (state, reach) in STATES {
        let mut world = reach();
        let reply = world.call(Call::Delete);
        assert!(matches!(world.reply(reply), Some(Ok(Answer::Success(_)))), "{state}");
        world.evict();
        let effects = settle(&mut world);
        assert!(effects.iter().any(|effect| matches!(effect, Effect::DirectoryRemove { .. })), "{state}");
        assert!(effects.iter().any(|effect| matches!(effect, Effect::Stop { forget: true, .. })), "{state}");
        assert!(!effects.iter().any(|effect| matches!(effect, Effect::Work { .. })), "{state}");
        assert_eq!((rows(&world), world.alarm), (vec![], None), "{state}");
    }
}

#[test]
fn a_cleanup_that_is_always_refused_rings_every_hour_and_no_more_often_until_it_is_done() {
    let (mut world, execution, _) = World::running();
    world.complete(&execution);
    world.call(Call::Delete);
    for _ in 0..60 {
        for output in world.alarm() {
            if let Output::Perform { key, .. } = output {
                world.outcome(&key, Outcome::Failed { code: "X".into(), message: "not now".into() });
            }
        }
        assert!(world.alarm.unwrap() - world.now <= HOUR, "it is tried again");
    }
    assert!(world.now - START > 10 * HOUR, "60 alarms in {} s", (world.now - START) / 1_000);
    settle(&mut world);
    assert_eq!((rows(&world), world.alarm), (vec![], None));
}

#[test]
fn calls_after_a_delete_find_no_session_and_no_broken_table() {
    for evicted in [false, true] {
        let (mut world, execution, work) = World::running();
        world.call(Call::Delete);
        if evicted {
            world.evict();
        }
        for (call, expected) in [
            (Call::View, Some("Session not found")),
            (Call::Initiate, Some("Session not found")),
            (Call::Update(vec![]), Some("Session not found")),
            (Call::Interrupt, None),
            (Call::Delete, None),
        ] {
            let reply = world.call(call);
            let error = world.reply(reply).expect("an answer").err().map(|error| error.message);
            assert_eq!(error.as_deref(), expected);
        }
        let follow_up = world.send("more");
        assert_eq!(world.reply(follow_up).unwrap().unwrap_err().message, "Session not found");
        let refused = Output::Refuse { status: 404, message: "Execution not found".into() };
        assert_eq!(world.connect(&execution, &work), [refused]);
        world.facts.ingest.clear();
        world.complete(&execution);
        let late = world.finish_work(&work, 9);
        assert!(matches!(&late[..], [Output::Reply { result: Err(_), .. }]), "a late report is refused");
        settle(&mut world);
        assert_eq!(rows(&world), Vec::<String>::new());
        let anew = world.register(json!({"autoInitiate": true}));
        world.done("directory/add");
        assert!(matches!(world.reply(anew), Some(Ok(Answer::Prepared(_)))), "the tables are whole");
    }
}

#[test]
fn a_container_that_cannot_be_reached_does_not_keep_a_session_from_being_deleted() {
    let (mut world, ..) = World::running();
    let reply = world.call(Call::Delete);
    assert!(matches!(world.reply(reply), Some(Ok(Answer::Success(_)))), "answered at once");
    for _ in 0..5 {
        for output in world.alarm() {
            if let Output::Perform { key, .. } = output {
                world.outcome(&key, Outcome::Failed { code: "SANDBOX_CONNECT_FAILED".into(), message: "down".into() });
            }
        }
    }
    assert!(world.alarm.is_some(), "and still owed");
    settle(&mut world);
    assert_eq!((rows(&world), world.alarm), (vec![], None));
}

#[test]
fn late_news_of_an_idle_stop_does_not_settle_the_stop_of_a_delete() {
    let (mut world, execution, _) = World::running();
    world.complete(&execution);
    while !world.performed.contains_key("stop") {
        world.alarm();
    }
    world.call(Call::Delete);
    world.done("stop");
    let effects = settle(&mut world);
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Stop { forget: true, .. })));
    assert!(!effects.iter().any(|effect| matches!(effect, Effect::Stop { forget: false, .. })), "one stop is enough");
}

#[test]
fn work_that_may_have_been_taken_up_after_its_session_was_deleted_is_ended() {
    let mut world = World::new();
    world.register(json!({}));
    world.done("directory/add");
    world.asked_work();
    world.call(Call::Delete);
    settle(&mut world);
    world.outcome("work/1", Outcome::Failed { code: "SANDBOX_CONNECT_FAILED".into(), message: "no answer".into() });
    let effects = settle(&mut world);
    assert!(matches!(&effects[..], [Effect::Stop { forget: true, .. }]), "{effects:?}");
}

#[test]
fn the_end_of_a_session_closes_every_socket_and_a_failed_preparation_none() {
    let closes = |outputs: &[Output]| outputs.iter().filter(|o| matches!(o, Output::CloseAll { .. })).count();
    let (mut world, ..) = World::running();
    world.call(Call::Delete);
    assert_eq!(closes(&world.outputs), 1);

    let (mut world, execution, _) = World::running();
    world.complete(&execution);
    settle(&mut world);
    assert_eq!(closes(&world.outputs), 1, "at the end of its life too");

    let mut world = World::new();
    world.register(json!({"autoInitiate": true}));
    world.done("directory/add");
    let work = world.asked_work();
    world.fail_work(&work, 1);
    assert_eq!(closes(&world.outputs), 0, "its viewers are to read why");
}

#[test]
fn a_viewer_of_a_session_that_is_gone_is_refused_and_uses_up_no_ticket() {
    let (mut world, ..) = World::running();
    let open = |nonce: &str| Input::StreamOpen { nonce: nonce.into(), expires_at: START + 60_000 };
    assert_eq!(world.take(open("n1")), [Output::AcceptStream]);
    world.call(Call::Delete);
    assert_eq!(world.take(open("n2")), [Output::Refuse { status: 404, message: "Session not found".into() }]);
    settle(&mut world);
    assert_eq!(rows(&world), Vec::<String>::new());
    let mut world = World::new();
    world.register(json!({"autoInitiate": true}));
    world.done("directory/add");
    let work = world.asked_work();
    world.fail_work(&work, 1);
    assert_eq!(world.take(open("n3")), [Output::AcceptStream], "who asks why it failed is told");
}

#[test]
fn nothing_of_a_preparation_is_stored_as_an_event() {
    let mut world = World::new();
    world.register(json!({"autoInitiate": true}));
    world.done("directory/add");
    let work = world.asked_work();
    for (n, step) in [Step::DiskCheck, Step::Cloning, Step::Branch, Step::KiloServer].into_iter().enumerate() {
        let outputs = world.report(&work, u64::try_from(n).unwrap() + 1, step, None);
        let ids: Vec<_> = outputs
            .iter()
            .filter_map(|output| match output {
                Output::Broadcast(event) => Some(event.text.starts_with(r#"{"eventId":0,"#)),
                _ => None,
            })
            .collect();
        assert_eq!(ids, [true, true], "the step and its cloud status, both volatile");
    }
    world.fail_work(&work, 9);
    let replay = world.core.replay(&world.db, &Default::default(), 0).unwrap();
    assert!(replay.frames.is_empty() && replay.done);
}

#[test]
fn each_way_a_preparation_can_fail_is_told_after_the_session_is_gone() {
    let message = |text: &str| sandbox::Outcome::Failed {
        code: "WORKSPACE_SETUP_FAILED".into(),
        message: text.into(),
        retryable: false,
    };
    for text in
        ["Session import failed (exit 3)", "Cloning failed: repository not found", "Setup command 1 failed (exit 2)"]
    {
        let mut world = World::new();
        world.register(json!({"autoInitiate": true}));
        world.done("directory/add");
        let work = world.asked_work();
        let outputs = world.report(&work, 1, Step::Failed, Some(message(text)));
        assert_eq!(broadcasts(&outputs, "preparing"), [json!({"step": "failed", "message": text})]);
        assert_eq!(broadcasts(&outputs, "cloud.status"), [json!({"cloudStatus": {"type": "error", "message": text}})]);
        assert_eq!(world.view(), Value::Null, "whoever reacts at once finds the final state");
    }
}

#[test]
fn an_order_that_can_no_longer_be_read_fails_the_preparation_within_its_bound() {
    let mut world = World::new();
    world.register(json!({"autoInitiate": true}));
    world.done("directory/add");
    database::execute(&world.db, "UPDATE owed SET effect = '{' WHERE key = 'work/1'", &[]).unwrap();
    world.evict();
    let begun = world.now;
    while world.view() != Value::Null {
        assert!(world.alarm().into_iter().find_map(work_of).is_none());
    }
    assert_eq!(world.now - begun, Limits::default().work_ms);
    assert_eq!(broadcasts(&world.outputs, "preparing")[0]["step"], "failed");
}

#[test]
fn a_session_that_was_given_up_is_gone_for_every_caller_but_says_why_to_viewers() {
    let mut world = World::new();
    world.register(json!({"autoInitiate": true}));
    world.done("directory/add");
    let work = world.asked_work();
    world.fail_work(&work, 1);
    let initiate = world.call(Call::Initiate);
    assert_eq!(world.reply(initiate).unwrap().unwrap_err().message, "Session not found");
    let again = world.register(json!({}));
    assert_eq!(
        world.reply(again).unwrap().unwrap_err().message,
        "Session already registered",
        "its id is not used again"
    );
    world.call(Call::Delete);
    settle(&mut world);
    assert_eq!(rows(&world), Vec::<String>::new(), "a delete forgets why, too");
}
