use super::*;
use crate::agent::AgentEvent;
use crate::gap::FoundError;
use crate::limits::Limits;
use protocol::id::KiloSessionId;
use protocol::sandbox::Permissions;

mod recorded;
mod table;

const SESSION: &str = "ses_e03b2959effeetYLbSKCsEOEU2";

struct Bench {
    turn: Turn,
    now: i64,
}

impl Bench {
    /// A turn whose prompt is on its way at 0.
    fn prompted() -> Self {
        Self::prompted_where(Permissions::Allow)
    }

    fn prompted_where(permissions: Permissions) -> Self {
        let session = KiloSessionId::parse(SESSION).unwrap();
        let mut bench = Self { turn: Turn::new(&Limits::default(), session, permissions), now: 0 };
        assert_eq!(bench.receive(Input::Prompt), []);
        bench
    }

    fn opened() -> Self {
        let mut bench = Self::prompted();
        assert_eq!(bench.own("session.turn.open", ""), []);
        bench
    }

    fn receive(&mut self, input: Input<'_>) -> Vec<Output> {
        self.turn.receive(self.now, input)
    }

    /// An event of our session with these further properties.
    fn own(&mut self, kind: &str, more: &str) -> Vec<Output> {
        self.event(&format!(r#"{{"type":"{kind}","properties":{{"sessionID":"{SESSION}"{more}}}}}"#))
    }

    fn event(&mut self, payload: &str) -> Vec<Output> {
        self.receive(Input::Agent(&AgentEvent::parse(payload).unwrap()))
    }

    /// Nothing happens until the next deadline, and then it is reported.
    fn wait(&mut self) -> Vec<Output> {
        self.now = self.turn.next_deadline().unwrap();
        self.receive(Input::Tick)
    }
}

fn ended(end: TurnEnd) -> Vec<Output> {
    vec![Output::Ended(end)]
}

fn failed(message: &str) -> TurnEnd {
    TurnEnd::Failed { message: message.to_owned() }
}

#[test]
fn a_turn_ends_after_its_close_when_the_status_is_idle() {
    let mut bench = Bench::opened();
    assert_eq!(bench.own("session.turn.close", r#","reason":"completed""#), [Output::AskStatus]);
    assert_eq!(bench.receive(Input::Status { busy: false }), ended(TurnEnd::Completed));
    assert_eq!((bench.turn.next_deadline(), bench.receive(Input::Tick)), (None, vec![]));
}

#[test]
fn a_turn_ends_after_its_close_when_it_is_quiet() {
    let mut bench = Bench::opened();
    bench.own("session.turn.close", r#","reason":"completed""#);
    bench.now = 200;
    bench.own("session.diff", r#","diff":[]"#);
    assert_eq!(bench.receive(Input::Status { busy: true }), []);
    assert_eq!(bench.turn.next_deadline(), Some(500));
    assert_eq!(bench.wait(), ended(TurnEnd::Completed));
}

#[test]
fn idle_alone_ends_nothing() {
    for event in ["session.idle", "session.turn.opened", "", "session.deleted"] {
        let mut bench = Bench::opened();
        assert_eq!(bench.own(event, ""), []);
        assert_eq!(bench.turn.next_deadline(), None);
    }
}

#[test]
fn events_of_other_sessions_or_of_none_end_nothing() {
    for session in [r#""sessionID":"ses_child""#, r#""sessionID":null"#, r#""sessionID":7"#, ""] {
        let mut bench = Bench::opened();
        for kind in ["session.turn.close", "session.error", "session.idle", "session.network.asked"] {
            assert_eq!(bench.event(&format!(r#"{{"type":"{kind}","properties":{{{session}}}}}"#)), []);
        }
        assert_eq!(bench.event(r#"{"type":"session.turn.close"}"#), []);
        assert_eq!(bench.turn.next_deadline(), None);
    }
}

#[test]
fn the_close_of_the_turn_before_ends_nothing() {
    let mut bench = Bench::prompted();
    assert_eq!(bench.own("session.turn.close", r#","reason":"completed""#), []);
    assert_eq!(bench.receive(Input::Status { busy: false }), []);
}

#[test]
fn a_prompt_that_starts_nothing_is_rejected_within_a_minute() {
    let mut bench = Bench::prompted();
    assert_eq!(bench.turn.next_deadline(), Some(60_000));
    bench.now = 59_999;
    assert_eq!(bench.receive(Input::Tick), []);
    let message = "The agent server accepted the prompt and did nothing".to_owned();
    assert_eq!(bench.wait(), ended(TurnEnd::Rejected { message }));
}

#[test]
fn an_error_before_the_turn_opens_is_a_rejection() {
    let mut bench = Bench::prompted();
    let end =
        bench.own("session.error", r#","error":{"name":"UnknownError","data":{"message":"Agent not found: \"x\""}}"#);
    assert_eq!(end, ended(TurnEnd::Rejected { message: "Agent not found: \"x\"".into() }));
    let mut bench = Bench::prompted();
    assert_eq!(
        bench.receive(Input::PromptRefused { message: "404".into() }),
        ended(TurnEnd::Rejected { message: "404".into() })
    );
}

#[test]
fn an_error_of_payment_is_fatal_at_once() {
    let error = r#","error":{"name":"APIError","data":{"message":"Insufficient credits","statusCode":402}}"#;
    for mut bench in [Bench::prompted(), Bench::opened()] {
        assert_eq!(bench.own("session.error", error), ended(TurnEnd::Fatal { error: "Insufficient credits".into() }));
        assert_eq!(bench.own("session.turn.close", r#","reason":"error""#), []);
    }
    let mut bench = Bench::opened();
    let end = bench.event(r#"{"type":"payment_required","properties":{}}"#);
    assert_eq!(end, ended(TurnEnd::Fatal { error: "payment_required".into() }));
}

#[test]
fn waiting_for_the_network_has_an_end() {
    for event in [("session.network.asked", ""), ("session.status", r#","status":{"type":"offline"}"#)] {
        let mut bench = Bench::opened();
        bench.own(event.0, event.1);
        bench.now = 10_000;
        bench.own("session.status", r#","status":{"type":"offline"}"#);
        assert_eq!(bench.turn.next_deadline(), Some(60_000));
        let error = "The model cannot be reached over the network".to_owned();
        assert_eq!(bench.wait(), ended(TurnEnd::Fatal { error }));
    }
}

#[test]
fn a_network_that_comes_back_is_no_failure() {
    let mut bench = Bench::opened();
    bench.own("session.network.asked", "");
    bench.own("session.status", r#","status":{"type":"busy"}"#);
    assert_eq!(bench.turn.next_deadline(), None);
}

#[test]
fn a_model_that_keeps_refusing_is_given_up_and_one_that_answers_is_not() {
    let retry = r#","status":{"type":"retry","attempt":1,"message":"slow down","next":1}"#;
    let mut bench = Bench::opened();
    bench.own("session.status", retry);
    bench.own("session.status", r#","status":{"type":"busy"}"#);
    bench.own("session.status", retry);
    assert_eq!(bench.turn.next_deadline(), Some(600_000));
    let error = "The model keeps refusing: slow down".to_owned();
    assert_eq!(bench.wait(), ended(TurnEnd::Fatal { error }));

    let mut bench = Bench::opened();
    bench.own("session.status", retry);
    // 7.0.33 names the session only inside of the part.
    bench.event(&format!(r#"{{"type":"message.part.updated","properties":{{"part":{{"sessionID":"{SESSION}"}}}}}}"#));
    assert_eq!(bench.turn.next_deadline(), None);
}

#[test]
fn permissions_are_granted_also_to_sub_agents_but_not_while_stopping() {
    let asked =
        r#"{"type":"permission.asked","properties":{"id":"per_1","sessionID":"ses_child","permission":"bash"}}"#;
    let mut bench = Bench::opened();
    assert_eq!(bench.event(asked), [Output::ReplyPermission { id: "per_1".into() }]);
    bench.receive(Input::Stopping);
    assert_eq!(bench.event(asked), []);
}

#[test]
fn where_a_person_is_asked_nobody_else_grants_a_permission() {
    let mut bench = Bench::prompted_where(Permissions::Ask);
    bench.own("session.turn.open", "");
    assert_eq!(bench.own("permission.asked", r#","id":"per_1","permission":"bash""#), []);
    // The turn waits for as long as the session object lets it.
    assert_eq!(bench.turn.next_deadline(), None);
}

#[test]
fn a_question_is_the_users_unless_no_tool_asked_it() {
    let mut bench = Bench::opened();
    assert_eq!(bench.own("question.asked", r#","id":"que_1","questions":[],"tool":{"callID":"c"}"#), []);
    let snapshot = bench.own("question.asked", r#","id":"que_2","questions":[{"question":"Snapshot is slow"}]"#);
    assert_eq!(snapshot, [Output::RejectQuestion { id: "que_2".into() }]);
}

#[test]
fn stopping_ends_with_the_close_or_with_idle_or_after_a_while() {
    let mut bench = Bench::opened();
    bench.receive(Input::Stopping);
    bench.own("session.error", r#","error":{"name":"MessageAbortedError"}"#);
    bench.own("session.idle", "");
    assert_eq!(bench.own("session.turn.close", r#","reason":"interrupted""#), ended(TurnEnd::Interrupted));

    let mut bench = Bench::opened();
    bench.receive(Input::Stopping);
    assert_eq!(bench.receive(Input::Status { busy: false }), ended(TurnEnd::Interrupted));

    let mut bench = Bench::opened();
    bench.receive(Input::Stopping);
    assert_eq!(bench.turn.next_deadline(), Some(5_000));
    assert_eq!(bench.wait(), ended(TurnEnd::Interrupted));

    let mut idle = Bench::opened();
    idle.receive(Input::ServerGone { message: "x".into() });
    assert_eq!((idle.receive(Input::Stopping), idle.turn.next_deadline()), (vec![], None));
}

#[test]
fn a_turn_that_begins_after_it_was_asked_to_stop_is_aborted_again_and_only_then_ends() {
    let busy = r#","status":{"type":"busy"}"#;
    for (kind, more) in [("session.turn.open", ""), ("session.status", busy)] {
        let mut bench = Bench::prompted();
        bench.receive(Input::Stopping);
        assert!(bench.turn.may_yet_begin());
        // What is said before it begins is about the turn before, or of an agent that is idle.
        assert_eq!(bench.own("session.turn.close", r#","reason":"completed""#), []);
        assert_eq!(bench.receive(Input::Status { busy: false }), []);
        assert_eq!(bench.turn.next_deadline(), None);
        bench.now = 1_000;
        assert_eq!(bench.own(kind, more), [Output::AbortAgain]);
        assert!(!bench.turn.may_yet_begin());
        assert_eq!(bench.turn.next_deadline(), Some(6_000));
        assert_eq!(bench.own("session.turn.close", r#","reason":"interrupted""#), ended(TurnEnd::Interrupted));
    }
}

#[test]
fn a_turn_that_was_asked_to_stop_and_began_in_a_gap_is_aborted_again() {
    let withdrawn_in_gap = |found: TurnFound| {
        let mut bench = Bench::prompted();
        bench.receive(Input::Stopping);
        bench.receive(Input::StreamResumed);
        let said = bench.receive(Input::CaughtUp(Some(&found)));
        (said, bench.turn.may_yet_begin())
    };
    assert_eq!(withdrawn_in_gap(found(true, false, None)), (vec![Output::AbortAgain], false));
    assert_eq!(withdrawn_in_gap(found(false, false, None)), (vec![], true));
    assert_eq!(withdrawn_in_gap(found(false, true, None)), (ended(TurnEnd::Interrupted), false));
}

#[test]
fn a_superseded_turn_goes_on_with_the_next() {
    let mut bench = Bench::opened();
    assert_eq!(bench.own("session.turn.close", r#","reason":"superseded""#), []);
    bench.own("session.turn.open", "");
    bench.own("session.turn.close", r#","reason":"completed""#);
    assert_eq!(bench.wait(), ended(TurnEnd::Completed));
}

#[test]
fn a_turn_that_reopens_goes_on() {
    let mut bench = Bench::opened();
    bench.own("session.turn.close", r#","reason":"completed""#);
    bench.own("session.turn.open", "");
    assert_eq!(bench.turn.next_deadline(), None);
}

fn found(busy: bool, answered: bool, error: Option<FoundError>) -> TurnFound {
    TurnFound { busy, answered, error }
}

#[test]
fn a_turn_that_ended_in_a_gap_ends_as_its_last_message_says() {
    let failure = |terminal| Some(FoundError::Failed { message: "m".into(), terminal });
    for (error, end) in [
        (None, TurnEnd::Completed),
        (Some(FoundError::Aborted), TurnEnd::Interrupted),
        (failure(false), failed("m")),
        (failure(true), TurnEnd::Fatal { error: "m".into() }),
    ] {
        for mut bench in [Bench::prompted(), Bench::opened()] {
            assert_eq!(bench.receive(Input::StreamResumed), [Output::CatchUp]);
            let found = found(false, true, error.clone());
            assert_eq!(bench.receive(Input::CaughtUp(Some(&found))), ended(end.clone()));
            assert_eq!(bench.receive(Input::StreamResumed), []);
        }
    }
}

#[test]
fn a_turn_that_goes_on_after_a_gap_ends_by_its_own_close() {
    let mut bench = Bench::prompted();
    bench.receive(Input::StreamResumed);
    assert_eq!(bench.receive(Input::CaughtUp(Some(&found(true, false, None)))), []);
    bench.own("session.turn.close", r#","reason":"completed""#);
    assert_eq!(bench.wait(), ended(TurnEnd::Completed));
}

#[test]
fn a_prompt_that_was_not_taken_up_in_a_gap_still_has_its_time() {
    let mut bench = Bench::prompted();
    bench.receive(Input::StreamResumed);
    assert_eq!(bench.receive(Input::CaughtUp(Some(&found(false, false, None)))), []);
    assert!(matches!(bench.wait()[..], [Output::Ended(TurnEnd::Rejected { .. })]));
}

#[test]
fn a_server_that_does_not_say_what_the_gap_held_is_asked_again() {
    let mut bench = Bench::opened();
    bench.receive(Input::StreamResumed);
    assert_eq!(bench.receive(Input::CaughtUp(None)), []);
    assert_eq!((bench.wait(), bench.now), (vec![Output::CatchUp], 2_000));
    assert_eq!(bench.receive(Input::CaughtUp(Some(&found(false, true, None)))), ended(TurnEnd::Completed));
    assert_eq!(bench.turn.next_deadline(), None);
}

#[test]
fn a_status_that_nobody_needs_changes_nothing() {
    let mut bench = Bench::opened();
    assert_eq!(bench.receive(Input::Status { busy: false }), []);
    assert_eq!(bench.own("session.turn.close", r#","reason":"completed""#), [Output::AskStatus]);
}
