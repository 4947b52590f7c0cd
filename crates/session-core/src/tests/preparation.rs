use super::*;
use crate::message::PREPARATION_FAILED;
use crate::store;
use protocol::trpc::Change;

#[test]
fn the_answer_waits_for_the_directory_and_for_nothing_else() {
    let mut world = World::new();
    let reply = world.register(json!({"autoInitiate": true}));
    assert!(world.reply(reply).is_none());
    world.done("directory/add");
    let Some(Ok(Answer::Prepared(prepared))) = world.reply(reply) else { panic!() };
    assert_eq!(prepared.cloud_agent_session_id, SESSION);
    assert_eq!(world.alarm, Some(world.now), "the preparation is owed to the alarm");
}

#[test]
fn a_session_is_registered_once() {
    let mut world = World::new();
    world.register(json!({}));
    let other = world.register_as("ses_0123456789abABCDEFGHIJKLMX", json!({}));
    assert_eq!(world.reply(other).unwrap().unwrap_err().message, "Session already registered");
}

#[test]
fn a_directory_that_refuses_undoes_the_registration() {
    let mut world = World::new();
    let reply = world.register(json!({"autoInitiate": true}));
    let refused = Outcome::Refused { code: "X".into(), message: "no".into() };
    world.outcome("directory/add", refused);
    assert!(world.reply(reply).unwrap().is_err());
    assert_eq!(world.view(), Value::Null);
    let owed: Vec<_> = world.alarm();
    assert!(owed.iter().any(|o| matches!(o, Output::Perform { effect: Effect::DirectoryRemove { .. }, .. })));
}

#[test]
fn ready_comes_after_the_start_succeeded_and_not_before() {
    let mut world = World::new();
    world.register(json!({"autoInitiate": true}));
    world.done("directory/add");
    let preparation = world.asked_work();
    assert_eq!((preparation.attempt, preparation.turn.is_none()), (1, true));
    let steps = world.report(&preparation, 1, Step::Cloning, None);
    assert_eq!(broadcasts(&steps, "preparing")[0]["step"], "cloning");
    assert_eq!(broadcasts(&steps, "cloud.status")[0]["cloudStatus"]["type"], "preparing");
    let prepared = world.finish_work(&preparation, 2);
    assert!(broadcasts(&prepared, "preparing").is_empty());
    let start = world.asked_work();
    assert_eq!(start.attempt, 2);
    let ready = world.finish_work(&start, 1);
    assert_eq!(
        broadcasts(&ready, "preparing"),
        [json!({"step": "ready", "message": "Session ready", "branch": "session/x", "resume": "fresh"})]
    );
    let view = world.view();
    assert!(view["preparedAt"].is_i64() && view["initiatedAt"].is_i64());
    assert_eq!(view["execution"]["status"], "pending");
}

#[test]
fn the_synchronous_path_answers_when_the_workspace_is_ready() {
    let mut world = World::new();
    let reply = world.register(json!({}));
    world.done("directory/add");
    let work = world.asked_work();
    assert!(world.reply(reply).is_none());
    world.finish_work(&work, 1);
    assert!(matches!(world.reply(reply), Some(Ok(Answer::Prepared(_)))));
    assert_eq!(world.view()["initiatedAt"], Value::Null);
}

#[test]
fn a_failed_preparation_leaves_a_tombstone_and_nothing_else() {
    let mut world = World::new();
    let reply = world.register(json!({}));
    world.done("directory/add");
    let work = world.asked_work();
    let failed = world.fail_work(&work, 1);
    assert_eq!(broadcasts(&failed, "preparing"), [json!({"step": "failed", "message": "boom"})]);
    assert_eq!(world.reply(reply).unwrap().unwrap_err().error.as_deref(), Some("WORKSPACE_SETUP_FAILED"));
    let view = world.call(Call::View);
    assert_eq!(world.reply(view).unwrap().unwrap_err().error.as_deref(), Some(PREPARATION_FAILED));
    let connected = world.core.connected(&world.db, world.now, &SessionId::parse(SESSION).unwrap()).unwrap();
    assert!(connected.contains(r#"{"cloudStatus":{"message":"boom","type":"error"}}"#), "{connected}");
    let owed = world.alarm();
    assert!(owed.iter().any(|o| matches!(o, Output::Perform { effect: Effect::DirectoryRemove { .. }, .. })));
    assert!(owed.iter().any(|o| matches!(o, Output::Perform { effect: Effect::Stop { .. }, .. })));
    world.done("directory/remove");
    world.done("stop/forget");
    assert_eq!(world.alarm, Some(world.now + Limits::default().session_life_ms));
    world.alarm();
    assert_eq!((store::tombstone(&world.db).unwrap(), store::work(&world.db).unwrap()), (None, None));
    assert_eq!(world.alarm, None);
}

#[test]
fn an_eviction_at_any_point_continues_the_preparation() {
    let mut world = World::new();
    world.register(json!({"autoInitiate": true}));
    world.evict();
    world.done("directory/add");
    world.evict();
    let first = world.asked_work();
    world.evict();
    let again = world.asked_work();
    assert_eq!(first, again, "the same attempt is asked for until its outcome is known");
    world.report(&again, 1, Step::Cloning, None);
    world.evict();
    world.finish_work(&again, 2);
    world.evict();
    assert!(world.asked_work().turn.is_some());
}

#[test]
fn a_report_is_taken_once_and_only_with_its_token() {
    let mut world = World::new();
    world.register(json!({"autoInitiate": true}));
    world.done("directory/add");
    let work = world.asked_work();
    world.report(&work, 2, Step::Branch, None);
    for n in [1, 2] {
        let late = world.report(&work, n, Step::Cloning, None);
        assert!(broadcasts(&late, "preparing").is_empty());
    }
    let mut forged = work.clone();
    forged.report.token = sandbox::Secret("x".into());
    let refused = world.finish_work(&forged, 3);
    assert!(matches!(&refused[..], [Output::Reply { result: Err(error), .. }] if error.message.contains("token")));
    let mut stale = work;
    stale.attempt = 9;
    let refused = world.finish_work(&stale, 3);
    assert!(matches!(&refused[..], [Output::Reply { result: Err(_), .. }]));
}

#[test]
fn the_answer_to_the_asking_counts_as_a_report() {
    let mut world = World::new();
    world.register(json!({"autoInitiate": true}));
    world.done("directory/add");
    let work = world.asked_work();
    let outcome = Some(sandbox::Outcome::Done { branch: "b".into(), resume: Resume::Fresh });
    let progress = Progress { attempt: work.attempt, n: 7, step: Step::KiloServer, message: "m".into(), outcome };
    world.outcome("work/1", Outcome::Progress(progress));
    assert!(world.view()["preparedAt"].is_i64());
}

#[test]
fn a_failed_start_leaves_the_session_prepared_and_free_to_be_initiated() {
    let mut world = World::prepared(json!({"autoInitiate": true}));
    let start = world.asked_work();
    let failed = world.fail_work(&start, 1);
    assert_eq!(broadcasts(&failed, "preparing")[0]["message"], "Auto-initiate failed: boom");
    let view = world.view();
    assert_eq!((&view["initiatedAt"], view["preparedAt"].is_i64()), (&Value::Null, true));
    assert_eq!((&view["execution"], &view["lastExecution"]["status"]), (&Value::Null, &json!("failed")));
    let retry = world.call(Call::Initiate);
    let start = world.asked_work();
    world.finish_work(&start, 1);
    assert!(matches!(world.reply(retry), Some(Ok(Answer::Ack(_)))));
}

#[test]
fn a_container_that_cannot_be_reached_is_asked_again_until_the_bound() {
    let mut world = World::new();
    world.register(json!({"autoInitiate": true}));
    world.done("directory/add");
    let begun = world.now;
    let mut asked = 0;
    while world.view() != Value::Null {
        if world.alarm().into_iter().find_map(work_of).is_some() {
            asked += 1;
            let failed = Outcome::Failed { code: "SANDBOX_CONNECT_FAILED".into(), message: "down".into() };
            world.outcome("work/1", failed);
        }
    }
    assert_eq!(world.now - begun, Limits::default().work_ms);
    assert!(asked > 10, "{asked}");
    assert_eq!(broadcasts(&world.outputs, "preparing")[0]["message"], "The container did not begin in time");
}

#[test]
fn what_did_not_begin_in_time_is_told_from_what_did_not_end() {
    for (steps, code) in [(0, "SANDBOX_CONNECT_FAILED"), (1, "WORKSPACE_SETUP_FAILED")] {
        let mut world = World::new();
        let reply = world.register(json!({}));
        world.done("directory/add");
        let work = world.asked_work();
        for n in 1..=steps {
            world.report(&work, n, Step::Cloning, None);
        }
        world.pass(Limits::default().work_ms);
        world.tick();
        assert_eq!(world.reply(reply).unwrap().unwrap_err().error.as_deref(), Some(code));
    }
}

#[test]
fn no_secret_is_shown() {
    let mut world = World::new();
    world.register(json!({"gitToken": "s3cret-token", "envVars": {"A": "s3cret-env"}}));
    assert!(!world.view().to_string().contains("s3cret"));
}

#[test]
fn deleting_leaves_no_row_and_no_alarm() {
    let (mut world, ..) = World::running();
    let reply = world.call(Call::Delete);
    assert!(matches!(world.reply(reply), Some(Ok(Answer::Success(_)))));
    for output in world.alarm() {
        if let Output::Perform { key, .. } = output {
            world.done(&key);
        }
    }
    assert_eq!(world.alarm, None);
    for table in ["session", "execution", "work", "log", "entity", "owed", "ticket", "tombstone"] {
        let rows = database::Database::query(&world.db, &format!("SELECT 1 FROM {table}"), &[]).unwrap();
        assert!(rows.is_empty(), "{table}");
    }
    let again = world.call(Call::Delete);
    let Some(Ok(Answer::Success(deleted))) = world.reply(again) else { panic!() };
    assert_eq!(deleted.message.as_deref(), Some("Session not found or already deleted"));
}

#[test]
fn a_late_answer_about_one_attempt_is_not_taken_for_another() {
    let mut world = World::new();
    world.register(json!({"autoInitiate": true}));
    world.done("directory/add");
    let preparation = world.asked_work();
    world.finish_work(&preparation, 3);
    let outcome = Some(sandbox::Outcome::Done { branch: "b".into(), resume: Resume::Fresh });
    let late = Progress { attempt: 1, n: 3, step: Step::KiloServer, message: "m".into(), outcome };
    world.outcome("work/1", Outcome::Progress(late));
    world.outcome("work/1", Outcome::Refused { code: "JOB_CONFLICT".into(), message: "m".into() });
    let start = world.asked_work();
    assert!(start.turn.is_some(), "the prompt is still owed");
    assert_eq!(world.view()["execution"]["status"], "pending");
}

#[test]
fn a_container_that_began_anew_may_count_from_one_again() {
    let mut world = World::new();
    world.register(json!({"autoInitiate": true}));
    world.done("directory/add");
    let work = world.asked_work();
    world.report(&work, 6, Step::SetupCommands, None);
    world.finish_work(&work, 2);
    assert!(world.view()["preparedAt"].is_i64());
}

#[test]
fn whoever_waits_for_a_deleted_session_is_told() {
    let mut world = World::new();
    let waiting = world.register(json!({}));
    world.call(Call::Delete);
    assert_eq!(world.reply(waiting).unwrap().unwrap_err().message, "Session was deleted");
    let mut world = World::new();
    let waiting = world.register(json!({}));
    world.done("directory/add");
    world.asked_work();
    world.call(Call::Delete);
    assert_eq!(world.reply(waiting).unwrap().unwrap_err().message, "Session was deleted");
    let added = world.take(Input::Outcome {
        key: "directory/add".into(),
        effect: Box::new(world.performed["directory/add"].clone()),
        outcome: Outcome::Done,
    });
    assert!(added.is_empty());
    let progress = Progress { attempt: 1, n: 0, step: Step::Cloning, message: "m".into(), outcome: None };
    world.outcome("work/1", Outcome::Progress(progress));
    let owed: Vec<_> = world.alarm().into_iter().filter(|o| matches!(o, Output::Perform { .. })).collect();
    assert_eq!(owed.len(), 2, "the entry's removal, and the end of work that was taken up too late: {owed:?}");
}

#[test]
fn asking_for_a_session_that_never_was_writes_nothing() {
    let mut world = World::new();
    for call in [Call::View, Call::Update(vec![]), Call::Initiate, Call::Interrupt, Call::Delete] {
        let reply = world.call(call);
        assert!(world.reply(reply).is_some());
    }
    let execution = ExecutionId::parse("exc_01ARZ3NDEKTSV4RRFFQ69G5FAV").unwrap();
    let open = IngestOpen { execution, generation: None, proof: Proof::Secret("x".into()) };
    assert!(matches!(&world.take(Input::IngestOpen(open))[..], [Output::Refuse { status: 404, .. }]));
    world.tick();
    world.evict();
    assert!(database::Database::query(&world.db, "SELECT name FROM sqlite_master", &[]).unwrap().is_empty());
}

#[test]
fn failures_are_counted_from_one_again_after_a_good_answer() {
    let mut world = World::new();
    world.register(json!({"autoInitiate": true}));
    world.done("directory/add");
    world.asked_work();
    for _ in 0..6 {
        let progress = Progress { attempt: 1, n: 0, step: Step::Cloning, message: "m".into(), outcome: None };
        world.outcome("work/1", Outcome::Progress(progress));
        world.asked_work();
    }
    world.outcome("work/1", Outcome::Failed { code: "X".into(), message: "lost".into() });
    assert_eq!(world.alarm, Some(world.now + 2_000));
}

#[test]
fn a_session_is_updated_between_preparation_and_initiation_only() {
    let mut world = World::new();
    let update = |world: &mut World, changes: Vec<Change>| {
        let reply = world.call(Call::Update(changes));
        world.reply(reply).unwrap().map_err(|error| error.message)
    };
    let model = || vec![Change::Model("other".into())];
    world.register(json!({"variant": "high"}));
    assert_eq!(update(&mut world, model()).unwrap_err(), "Session has not been prepared");
    world.done("directory/add");
    let work = world.asked_work();
    world.finish_work(&work, 1);
    update(&mut world, vec![Change::Model("other".into()), Change::Variant(None)]).unwrap();
    let view = world.view();
    assert_eq!((&view["model"], &view["variant"]), (&json!("other"), &Value::Null));
    world.call(Call::Initiate);
    assert_eq!(update(&mut world, model()).unwrap_err(), "Session has already been initiated");
    assert!(update(&mut world, vec![Change::CallbackTarget(None)]).is_ok());
    assert_eq!(world.asked_work().turn.unwrap().model, "other");
}

#[test]
fn a_preparation_that_fails_for_a_passing_reason_is_tried_three_times() {
    let mut world = World::new();
    let reply = world.register(json!({}));
    world.done("directory/add");
    let begun = world.now;
    for attempt in 1..=3 {
        let work = world.asked_work();
        assert_eq!((work.attempt, world.view() == Value::Null), (attempt, false));
        let outcome =
            sandbox::Outcome::Failed { code: "SANDBOX_CONNECT_FAILED".into(), message: "full".into(), retryable: true };
        world.report(&work, 1, Step::Failed, Some(outcome));
    }
    assert_eq!(world.now - begun, 2_000 + 4_000);
    assert_eq!(world.reply(reply).unwrap().unwrap_err().retryable, Some(true));
    assert_eq!(world.view(), Value::Null);
}
