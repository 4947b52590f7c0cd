//! `getSession`: spec/session.md 2.9, 3.8; test lines of 11.1 and 11.2.

use super::*;
use object_core::time::MINUTE;

fn health(world: &mut World) -> Value {
    world.view()["execution"]["health"].clone()
}

#[test]
fn a_heartbeat_is_healthy_for_a_minute_then_unknown_and_stale_at_the_threshold() {
    let (mut world, execution, _) = World::running();
    let frame = json!({"streamEventType": "output"});
    world.pass(MINUTE);
    world.frame(&execution, frame);
    for (after, expected) in
        [(0, "healthy"), (59_999, "healthy"), (1, "unknown"), (9 * MINUTE - 1, "unknown"), (1, "stale")]
    {
        world.pass(after);
        assert_eq!(health(&mut world), expected, "at {}", world.now - START);
    }
}

#[test]
fn without_any_heartbeat_a_run_is_healthy_for_two_minutes() {
    let (mut world, ..) = World::running();
    database::execute(&world.db, "UPDATE execution SET heartbeat_at = NULL", &[]).unwrap();
    for (after, expected) in [(2 * MINUTE - 1, "healthy"), (1, "unknown"), (8 * MINUTE - 1, "unknown"), (1, "stale")] {
        world.pass(after);
        assert_eq!(health(&mut world), expected);
    }
}

#[test]
fn health_is_unknown_unless_it_runs() {
    let mut world = World::prepared(json!({"autoInitiate": true}));
    assert_eq!(world.view()["execution"]["status"], "pending");
    assert_eq!(health(&mut world), "unknown");
    let (mut world, execution, _) = World::running();
    world.complete(&execution);
    let view = world.view();
    assert_eq!((&view["execution"], &view["lastExecution"]["health"]), (&Value::Null, &json!("unknown")));
}

#[test]
fn the_view_shows_counts_and_never_values_nor_where_callbacks_go() {
    let (mut world, ..) = World::running_with(json!({
        "gitToken": "s3cret-1", "envVars": {"NAME": "s3cret-2", "OTHER": "s3cret-3"}, "setupCommands": ["echo s3cret-4"],
        "mcpServers": {"s": {"type": "remote", "url": "https://mcp.example", "headers": {"a": "s3cret-5"}}},
        "callbackTarget": {"url": "https://hook.example/s3cret-6", "headers": {"x-key": "s3cret-7"}},
        "platform": "gitlab",
        "kilocodeOrganizationId": "01234567-89ab-cdef-0123-456789abcdef", "initialMessageId": "msg_0123456789abABCDEFGHIJKLMN",
    }));
    let view = world.view();
    assert_eq!(
        (&view["envVarCount"], &view["setupCommandCount"], &view["mcpServerCount"]),
        (&json!(2), &json!(1), &json!(1))
    );
    assert!(!view.to_string().contains("s3cret"), "{view}");
    assert!(!view.to_string().contains("hook.example"), "{view}");
    assert_eq!(view["platform"], "gitlab");
    assert_eq!(view["orgId"], "01234567-89ab-cdef-0123-456789abcdef");
    assert_eq!(view["initialMessageId"], "msg_0123456789abABCDEFGHIJKLMN");
    let active = &view["execution"];
    assert_eq!(
        (&active["status"], &active["processId"], &active["error"]),
        (&json!("running"), &Value::Null, &Value::Null)
    );
    for at in ["timestamp", "version", "preparedAt", "initiatedAt"] {
        assert!(view[at].is_i64(), "{at}");
    }
}

#[test]
fn a_session_tells_by_its_timestamps_how_far_it_is() {
    let stamps = |world: &mut World| {
        let view = world.view();
        (view["preparedAt"].is_i64(), view["initiatedAt"].is_i64())
    };
    let mut world = World::new();
    assert_eq!(world.view(), Value::Null);
    world.register(json!({}));
    assert_eq!(stamps(&mut world), (false, false));
    world.done("directory/add");
    let work = world.asked_work();
    world.finish_work(&work, 1);
    assert_eq!(stamps(&mut world), (true, false));
    world.call(Call::Initiate);
    assert_eq!(stamps(&mut world), (true, true));
}

#[test]
fn the_sandbox_is_shared_by_the_sessions_of_one_user_in_one_organisation() {
    let id = |organization: Option<&str>, user: &str, bot: Option<&str>| {
        crate::sandbox_id(organization, &UserId::parse(user).unwrap(), bot).unwrap().to_string()
    };
    let all = [
        id(None, "u", None),
        id(None, "v", None),
        id(Some("o"), "u", None),
        id(Some("p"), "u", None),
        id(None, "u", Some("b")),
        id(None, "u", Some("c")),
        id(Some("o"), "u", Some("b")),
        id(None, "oauth/google:ü", None),
    ];
    let prefixes: Vec<_> = all.iter().map(|id| &id[..4]).collect();
    assert_eq!(prefixes, ["usr-", "usr-", "org-", "org-", "ubt-", "ubt-", "bot-", "usr-"]);
    for (n, one) in all.iter().enumerate() {
        assert_eq!(one.len(), 52);
        assert!(all.iter().skip(n + 1).all(|other| other != one));
    }
    assert_eq!(all[2], id(Some("o"), "u", None), "the same at every call");
    assert_eq!(id(None, "u", Some("")), all[0], "an empty bot is none");
    // Pinned: a session must find its container again after every deployment.
    assert_eq!(all[0], "usr-0e28c42d8d799822ffe4400888fbb6f58609812191711642");
}
