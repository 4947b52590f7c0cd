//! What is kept of the conversation: who may touch it, what a new container is told of it, and that it goes with the session.

use super::*;
use protocol::sandbox::Secret;
use protocol::trpc::Code;

const DAY_MS: i64 = 86_400_000;

impl World {
    /// The status of an answer to somebody who wants to read or replace the snapshot.
    fn snapshot_access(&mut self, token: &str) -> Result<(), Code> {
        let reply = ReplyTo(i64::from(self.seed) + 5_000);
        self.take(Input::SnapshotAccess { reply, token: token.to_owned() });
        self.reply(reply).unwrap().map(drop).map_err(|error| error.code)
    }

    /// The same, of somebody who wants to put away logs: a container, or the user.
    fn keep_logs(&mut self, execution: &str, token: Option<&str>) -> Result<(), (Code, String)> {
        let (execution, token) = (ExecutionId::parse(execution).unwrap(), token.map(|token| Secret(token.to_owned())));
        let reply = self.call(Call::KeepLogs { execution, token });
        self.reply(reply).unwrap().map(drop).map_err(|error| (error.code, error.message))
    }

    /// A turn that ran to its end.
    fn ended() -> (Self, Work) {
        let (mut world, execution, start) = World::running();
        world.frame(&execution, json!({"streamEventType": "complete", "seq": 1, "data": {"exitCode": 0}}));
        world.disconnect(&execution);
        (world, start)
    }

    fn removals(&self) -> usize {
        let removes = |effect: &&Effect| matches!(effect, Effect::SnapshotRemove { .. });
        self.performed.values().filter(removes).count()
    }
}

fn token(work: &Work) -> String {
    work.report.token.expose().to_owned()
}

#[test]
fn the_container_of_the_newest_attempt_may_and_keeps_the_right_until_a_newer_one_is_heard_of() {
    let (mut world, first) = World::ended();
    assert_eq!(world.snapshot_access(&token(&first)), Ok(()));
    assert_eq!(world.snapshot_access("another"), Err(Code::Unauthorized));

    world.send("more");
    let second = world.asked_work();
    assert_eq!(world.snapshot_access(&token(&first)), Ok(()));
    assert_eq!(world.snapshot_access(&token(&second)), Ok(()));
    world.report(&second, 1, Step::DiskCheck, None);
    assert_eq!(world.snapshot_access(&token(&first)), Err(Code::Unauthorized));
    assert_eq!(world.snapshot_access(&token(&second)), Ok(()));

    world.call(Call::Delete);
    assert_eq!(world.snapshot_access(&token(&second)), Err(Code::NotFound));
}

#[test]
fn only_work_after_an_earlier_turn_is_told_to_bring_the_conversation_back() {
    let mut world = World::new();
    world.register(json!({"autoInitiate": true}));
    world.done("directory/add");
    let preparation = world.asked_work();
    world.finish_work(&preparation, 1);
    let start = world.asked_work();
    let restores = |work: &Work| work.snapshot.as_ref().unwrap().restore;
    assert_eq!((restores(&preparation), restores(&start)), (false, false));
    assert_eq!(start.snapshot.unwrap().url, format!("http://w/sessions/oauth%2Fgoogle%3A1/{SESSION}/snapshot"));

    let (mut world, _) = World::ended();
    world.send("more");
    let second = world.asked_work();
    assert!(restores(&second));
    assert_eq!(second.workspace.last_branch.unwrap().as_str(), "session/x");
}

#[test]
fn viewers_and_get_session_learn_how_the_conversation_was_found() {
    let (mut world, _) = World::ended();
    world.send("more");
    let second = world.asked_work();
    let outcome = sandbox::Outcome::Done { branch: "session/x".into(), resume: Resume::Replayed };
    let outputs = world.report(&second, 1, Step::Ready, Some(outcome));
    let ready = json!({"step": "ready", "message": "Session ready", "branch": "session/x", "resume": "replayed"});
    assert_eq!(broadcasts(&outputs, "preparing"), [ready]);
    assert_eq!(world.view()["execution"]["resume"], "replayed");
}

#[test]
fn the_snapshot_goes_with_a_session_that_had_a_turn() {
    let (mut world, _) = World::ended();
    world.call(Call::Delete);
    world.tick();
    assert_eq!(world.removals(), 1);

    let (mut world, _) = World::ended();
    world.pass(91 * DAY_MS);
    world.tick();
    world.tick();
    assert_eq!((world.removals(), world.view()), (1, Value::Null));

    let mut world = World::new();
    world.register(json!({"autoInitiate": true}));
    world.done("directory/add");
    world.call(Call::Delete);
    world.tick();
    assert_eq!(world.removals(), 0);
}

#[test]
fn logs_are_kept_of_executions_that_the_session_had_until_it_is_deleted() {
    let no = |code, message: &str| Err((code, message.to_owned()));
    let another = "exc_0000000000000000000000000Z";
    let (mut world, execution, work) = World::running();
    let (execution, right) = (execution.to_string(), token(&work));
    for token in [Some(right.as_str()), None] {
        assert_eq!(world.keep_logs(&execution, token), Ok(()));
        assert_eq!(world.keep_logs(another, token), no(Code::NotFound, "Execution not found"));
    }
    let refused = world.keep_logs(&execution, Some("another")).unwrap_err();
    assert_eq!(refused.0, Code::Unauthorized);

    world.call(Call::Delete);
    for token in [Some(right.as_str()), None] {
        assert_eq!(world.keep_logs(&execution, token), no(Code::NotFound, "Session not found"));
        assert_eq!(World::new().keep_logs(&execution, token), no(Code::NotFound, "Session not found"));
    }
}

/// Found by the simulation: a wrapper was killed while its session was still being prepared, and the next process, which cannot know whether anything had
/// been said, put the empty conversation away when its container ended. The preparation failed, and the end of a session without a turn
/// removes no conversation: it was kept for ever.
#[test]
fn a_session_without_a_turn_keeps_no_conversation_that_nobody_would_delete() {
    let mut world = World::new();
    world.register(json!({}));
    world.done("directory/add");
    let preparation = world.asked_work();
    world.report(&preparation, 1, Step::KiloServer, None);
    assert_eq!(world.snapshot_access(&token(&preparation)), Err(Code::NotFound));
    assert_eq!(world.snapshot_access("another"), Err(Code::Unauthorized));
    world.finish_work(&preparation, 2);
    assert_eq!(world.snapshot_access(&token(&preparation)), Err(Code::NotFound));
    world.call(Call::Initiate);
    let start = world.asked_work();
    assert_eq!(world.snapshot_access(&token(&start)), Ok(()));
    world.call(Call::Delete);
    world.alarm();
    assert_eq!(world.removals(), 1);
}
