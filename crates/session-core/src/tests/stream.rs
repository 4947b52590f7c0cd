use super::*;
use crate::stream::Filter;

fn filter(query: &[(&str, &str)]) -> Filter {
    Filter::from_query(query.iter().copied()).unwrap()
}

#[test]
fn the_query_is_read_and_what_is_nonsense_is_left_out() {
    let read = filter(&[
        ("fromId", "7"),
        ("executionIds", "a,,b"),
        ("eventTypes", "x"),
        ("startTime", "2024-01-15T00:00:00Z"),
        ("endTime", "1705276800000"),
        ("replay", "false"),
        ("ticket", "t"),
    ]);
    assert_eq!((read.from_id, read.replay), (7, false));
    assert_eq!(read.execution_ids, ["a", "b"]);
    assert_eq!(
        (read.start_time, read.end_time),
        (Some(1_705_276_800_000), Some(1_705_276_800_000)),
        "an ISO time is no year"
    );
    assert_eq!(filter(&[("fromId", "x"), ("startTime", "2024")]).from_id, 0);
    assert_eq!(Filter::from_query([("eventTypes", "x".repeat(9_000).as_str())].into_iter()), None);
}

#[test]
fn all_conditions_hold_together() {
    let both = filter(&[("executionIds", "e"), ("eventTypes", "t"), ("startTime", "10"), ("endTime", "20")]);
    assert!(both.admits("e", "t", 10) && both.admits("e", "t", 20));
    for (execution, kind, at) in [("f", "t", 10), ("e", "u", 10), ("e", "t", 9), ("e", "t", 21), ("", "t", 10)] {
        assert!(!both.admits(execution, kind, at));
    }
}

#[test]
fn replay_follows_the_cursor_and_misses_no_update() {
    let (mut world, execution, _) = World::running();
    let part = |text: &str| {
        json!({"streamEventType": "kilocode", "data": {"event": "message.part.updated",
        "properties": {"part": {"id": "p", "messageID": "m", "text": text}}}})
    };
    world.frame(&execution, part("a"));
    world.frame(&execution, json!({"streamEventType": "kilocode", "data": {"event": "session.idle"}}));
    let first = world.core.replay(&world.db, &filter(&[]), 0).unwrap();
    assert_eq!((first.frames.len(), first.cursor), (2, 2));
    world.frame(&execution, part("b"));
    let missed = world.core.replay(&world.db, &filter(&[]), first.cursor).unwrap();
    assert!(missed.frames[0].contains("\"eventId\":3") && missed.frames[0].contains("\"b\""));
    assert!(world.core.replay(&world.db, &filter(&[]), missed.cursor).unwrap().done);
    let none = world.core.replay(&world.db, &filter(&[("eventTypes", "complete")]), 0).unwrap();
    assert_eq!((none.frames.len(), none.cursor), (0, 3));
}

#[test]
fn what_the_filter_leaves_out_is_no_part_of_what_a_connection_may_replay() {
    let (mut world, execution, _) = World::running();
    world.frame(&execution, json!({"streamEventType": "kilocode", "data": {"event": "session.idle"}}));
    world.complete(&execution);
    let round = |filter| world.core.replay(&world.db, &filter, 0).unwrap();
    let complete = json!({"exitCode": 0}).to_string().len();
    assert_eq!(round(filter(&[("eventTypes", "complete")])).bytes, i64::try_from(complete).unwrap());
    assert_eq!(round(filter(&[("eventTypes", "nothing")])).bytes, 0);
}

#[test]
fn connected_says_what_the_cloud_side_is_doing() {
    fn status(world: &World) -> Value {
        let text = world.core.connected(&world.db, world.now, &SessionId::parse(SESSION).unwrap()).unwrap();
        let frame: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            (&frame["eventId"], &frame["executionId"], &frame["streamEventType"]),
            (&json!(0), &Value::Null, &json!("connected"))
        );
        frame["data"]["cloudStatus"].clone()
    }
    let mut world = World::new();
    assert_eq!(status(&world), Value::Null);
    world.register(json!({"autoInitiate": true}));
    world.done("directory/add");
    let preparation = world.asked_work();
    world.report(&preparation, 1, Step::Cloning, None);
    assert_eq!(
        status(&world),
        json!({"type": "preparing", "step": "cloning", "message": "Cloning"}),
        "late joiners see the step"
    );
    world.finish_work(&preparation, 2);
    assert_eq!(status(&world)["type"], "preparing");
    let (mut world, execution, _) = World::running();
    assert_eq!(status(&world), json!({"type": "ready"}));
    world.frame(&execution, json!({"streamEventType": "complete", "data": {"exitCode": 0}}));
    assert_eq!(status(&world), json!({"type": "ready"}));
}

#[test]
fn a_wrapper_that_comes_back_within_the_grace_is_announced() {
    let (mut world, execution, work) = World::running();
    world.disconnect(&execution);
    world.pass(3_000);
    let outputs = world.connect(&execution, &work);
    assert_eq!(broadcasts(&outputs, "wrapper_reconnected").len(), 1);
}

#[test]
fn a_ticket_is_good_for_one_connection() {
    let (mut world, ..) = World::running();
    let open = |world: &mut World, nonce: &str| {
        let expires_at = world.now + 60_000;
        world.take(Input::StreamOpen { nonce: nonce.into(), expires_at }).remove(0)
    };
    assert_eq!(open(&mut world, "a"), Output::AcceptStream);
    world.evict();
    assert_eq!(open(&mut world, "a"), Output::Refuse { status: 401, message: "Ticket already used".into() });
    assert_eq!(open(&mut world, "b"), Output::AcceptStream);
    world.pass(61_000);
    open(&mut world, "c");
    let kept = database::Database::query(&world.db, "SELECT nonce FROM ticket", &[]).unwrap();
    assert_eq!(kept.len(), 1, "expired ones are forgotten");
}
