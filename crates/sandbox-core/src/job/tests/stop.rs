//! Everything that ends a job before its agent is done.

use super::*;

const ABORTED: &str = r#"Emit 1 interrupted {"reason":"aborted via API"}"#;

#[test]
fn abort_stops_the_agent_says_interrupted_and_never_complete() {
    let mut bench = Bench::running(binding(1));
    assert_eq!(bench.say(Input::Abort), ["AbortAgent 1", ABORTED]);
    assert_eq!(bench.say(Input::Abort), [""; 0]);
    assert_eq!(bench.turn_ended(TurnEnd::Interrupted), [""; 0]);
    assert_eq!(bench.job.next_deadline(), Some(300));
    assert_eq!(bench.late(), ["FinishIngest 1"]);
    assert_eq!(bench.say(Input::IngestDrained(JobId(1))), ["CloseIngest 1", "Ended 1 Reported"]);
}

#[test]
fn an_agent_that_does_not_react_to_abort_is_not_waited_for_long() {
    let mut bench = Bench::running(binding(1));
    bench.say(Input::Abort);
    assert_eq!(bench.job.next_deadline(), Some(5_000));
    bench.say(Input::AgentAborted(JobId(1)));
    assert_eq!(bench.job.next_deadline(), Some(300));
    assert_eq!(bench.late(), ["FinishIngest 1"]);
}

#[test]
fn what_is_said_after_the_last_word_would_stand_behind_it() {
    let mut bench = Bench::running(binding(1));
    assert!(!bench.job.has_said_its_last());
    bench.say(Input::Abort);
    assert!(bench.job.has_said_its_last(), "`interrupted` is said");
    bench.late();
    assert!(bench.job.has_said_its_last());
    assert!(Bench::finishing(binding(1)).job.has_said_its_last());
    assert!(Bench::new().job.has_said_its_last());
}

#[test]
fn kill_and_signals_have_their_own_words() {
    for (input, said) in [
        (Input::Kill, emit("interrupted", r#"{"reason":"Session stopped"}"#)),
        (Input::Shutdown { signal: "SIGTERM" }, emit("interrupted", r#"{"reason":"Container shutdown: SIGTERM"}"#)),
    ] {
        assert_eq!(Bench::running(binding(1)).say(input), ["AbortAgent 1".to_owned(), said]);
    }
}

#[test]
fn stopping_in_each_phase_says_one_last_thing_and_ends() {
    let committing = || {
        let mut bench = Bench::running(binding(1));
        bench.turn_ended(TurnEnd::Completed);
        bench
    };
    let condensing = || {
        let mut bench = committing();
        bench.say(Input::AutoCommitDone(JobId(1)));
        bench
    };
    let naming = || {
        let mut bench = condensing();
        bench.say(Input::CondenseDone(JobId(1)));
        bench
    };
    let finish = "FinishIngest 1";
    for (mut bench, expected) in [
        (Bench::opening(binding(1)), vec![ABORTED, finish]),
        (Bench::sending(binding(1)), vec!["AbortAgent 1", ABORTED]),
        (Bench::running(binding(1)), vec!["AbortAgent 1", ABORTED]),
        (committing(), vec!["CancelTasks 1", ABORTED, finish]),
        (condensing(), vec!["CancelTasks 1", "AbortAgent 1", ABORTED]),
        (naming(), vec!["CancelTasks 1", ABORTED, finish]),
        (Bench::finishing(binding(1)), vec![]),
        (Bench::new(), vec![]),
    ] {
        assert_eq!(bench.say(Input::Abort), expected);
        assert_eq!(bench.say(Input::Kill), [""; 0]);
        for late in [
            Input::AutoCommitDone(JobId(1)),
            Input::CondenseDone(JobId(1)),
            Input::Branch { job: JobId(1), branch: None },
            Input::PromptSent(JobId(1)),
            Input::IngestReady(JobId(1)),
            Input::EventsOpen(JobId(1)),
        ] {
            assert_eq!(bench.say(late), [""; 0]);
        }
        while bench.job.next_deadline().is_some() {
            bench.late();
        }
        bench.say(Input::IngestDrained(JobId(1)));
        assert_eq!(bench.job.active(), None);
        assert_eq!(bench.say(Input::Start(binding(7)))[0].split(' ').next(), Some("Accepted"));
    }
}

#[test]
fn an_abort_does_not_leak_into_the_next_job() {
    let mut bench = Bench::running(plain(1));
    bench.say(Input::Abort);
    bench.late();
    bench.say(Input::IngestDrained(JobId(1)));
    bench.say(Input::Start(plain(2)));
    bench.say(Input::IngestReady(JobId(2)));
    bench.say(Input::EventsOpen(JobId(2)));
    bench.say(Input::PromptSent(JobId(2)));
    assert_eq!(bench.say(Input::TurnEnded { job: JobId(2), end: TurnEnd::Completed }), ["ReadBranch 2"]);
}

#[test]
fn a_lost_connection_to_the_object_stops_the_agent_and_completes_nothing() {
    for why in [GaveUp::Unreachable, GaveUp::Fenced { status: 409 }] {
        let mut bench = Bench::running(binding(1));
        assert_eq!(
            bench.say(Input::IngestGaveUp { job: JobId(1), why }),
            ["AbortAgent 1".to_owned(), "CloseIngest 1".into(), format!("Ended 1 Abandoned({why:?})")]
        );
        assert_eq!(bench.turn_ended(TurnEnd::Completed), [""; 0]);
    }
    let mut bench = Bench::finishing(binding(1));
    let said = bench.say(Input::IngestGaveUp { job: JobId(1), why: GaveUp::FinishTimeout });
    assert_eq!(said, ["CloseIngest 1", "Ended 1 Abandoned(FinishTimeout)"]);
}

#[test]
fn a_fatal_turn_stops_the_agent_and_runs_no_tasks() {
    let mut bench = Bench::running(binding(1));
    assert_eq!(
        bench.turn_ended(TurnEnd::Fatal { error: "Insufficient credits".into() }),
        ["AbortAgent 1".to_owned(), emit("error", r#"{"error":"Insufficient credits","fatal":true}"#)]
    );
}
