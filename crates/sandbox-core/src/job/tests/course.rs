//! From the prompt to the last word.

use super::*;

#[test]
fn a_job_from_start_to_end() {
    let mut bench = Bench::new();
    assert_eq!(bench.say(Input::Start(binding(1))), ["Accepted 1", "Open 1"]);
    assert_eq!(bench.job.active(), Some(&execution(1)));
    assert_eq!(bench.say(Input::IngestReady(JobId(1))), [""; 0]);
    assert_eq!(bench.say(Input::EventsOpen(JobId(1))), ["SendPrompt 1"]);
    assert_eq!(bench.say(Input::PromptSent(JobId(1))), [""; 0]);
    assert_eq!(bench.turn_ended(TurnEnd::Completed), ["RunAutoCommit 1"]);
    assert_eq!(bench.say(Input::AutoCommitDone(JobId(1))), ["RunCondense 1"]);
    assert_eq!(bench.say(Input::CondenseDone(JobId(1))), [""; 0]);
    assert_eq!(bench.late(), ["ReadBranch 1"]);
    let complete = r#"{"exitCode":0,"executionId":"exc_00000000000000000000000001","kiloSessionId":"ses_e03b2959effeetYLbSKCsEOEU2","currentBranch":"main"}"#;
    assert_eq!(
        bench.say(Input::Branch { job: JobId(1), branch: Some("main".into()) }),
        [emit("complete", complete), "FinishIngest 1".into()]
    );
    assert_eq!(bench.job.active(), None);
    assert_eq!(bench.say(Input::IngestDrained(JobId(1))), ["CloseIngest 1", "Ended 1 Reported"]);
    assert_eq!(bench.job.next_deadline(), None);
}

/// Story: the agent's answer to "condense" came before its events about that; `complete` was said, and `session.compacted` was not in the log.
#[test]
fn what_the_agent_says_of_its_summary_comes_before_the_last_word() {
    let mut bench = Bench::running(binding(1));
    bench.turn_ended(TurnEnd::Completed);
    bench.say(Input::AutoCommitDone(JobId(1)));
    bench.say(Input::CondenseDone(JobId(1)));
    for _ in 0..3 {
        bench.now += 299;
        assert_eq!(bench.say(Input::Tick), [""; 0], "it still speaks");
        assert_eq!(bench.say(Input::AgentHeard), [""; 0]);
    }
    bench.now += 300;
    assert_eq!(bench.say(Input::Tick), ["ReadBranch 1"], "it is quiet");

    let mut bench = Bench::running(binding(1));
    bench.turn_ended(TurnEnd::Completed);
    bench.say(Input::AutoCommitDone(JobId(1)));
    bench.say(Input::CondenseDone(JobId(1)));
    while bench.job.next_deadline().is_some() && bench.now < 200_000 {
        bench.now += 200;
        bench.say(Input::AgentHeard);
        if bench.say(Input::Tick) == ["ReadBranch 1"] {
            break;
        }
    }
    assert!(
        bench.now <= 180_200,
        "one that is never quiet is waited for no longer than for the summary: {}",
        bench.now
    );
}

#[test]
fn the_turn_ends_once() {
    let mut bench = Bench::running(binding(1));
    assert_eq!(bench.turn_ended(TurnEnd::Completed), ["RunAutoCommit 1"]);
    assert_eq!(bench.turn_ended(TurnEnd::Completed), [""; 0]);
    assert_eq!(bench.say(Input::CondenseDone(JobId(1))), [""; 0]);
    bench.say(Input::AutoCommitDone(JobId(1)));
    assert_eq!(bench.say(Input::AutoCommitDone(JobId(1))), [""; 0]);
}

#[test]
fn tasks_that_are_not_asked_for_are_not_run() {
    let mut bench = Bench::running(plain(1));
    assert_eq!(bench.turn_ended(TurnEnd::Completed), ["ReadBranch 1"]);
    let said = bench.say(Input::Branch { job: JobId(1), branch: None });
    assert!(said[0].starts_with("Emit 1 complete") && !said[0].contains("currentBranch"));
}

#[test]
fn the_turn_may_end_before_the_answer_to_the_prompts_request() {
    let mut bench = Bench::sending(plain(1));
    assert_eq!(bench.turn_ended(TurnEnd::Completed), ["ReadBranch 1"]);
    assert_eq!(bench.say(Input::PromptSent(JobId(1))), [""; 0]);
    assert_eq!(bench.say(Input::PromptFailed { job: JobId(1), message: "x".into() }), [""; 0]);
}

#[test]
fn a_failed_turn_is_committed_but_is_no_success() {
    let mut bench = Bench::running(binding(1));
    assert_eq!(bench.turn_ended(TurnEnd::Failed { message: "bad key".into() }), ["RunAutoCommit 1"]);
    assert_eq!(
        bench.say(Input::AutoCommitDone(JobId(1))),
        [emit("error", r#"{"error":"bad key","fatal":true}"#), "FinishIngest 1".into()]
    );
}

#[test]
fn a_rejected_prompt_and_an_interrupted_turn_are_reported_at_once() {
    assert_eq!(
        Bench::running(binding(1)).turn_ended(TurnEnd::Rejected { message: "no such agent".into() }),
        [emit("error", r#"{"error":"no such agent","fatal":true}"#), "FinishIngest 1".into()]
    );
    assert_eq!(
        Bench::running(binding(1)).turn_ended(TurnEnd::Interrupted),
        [emit("interrupted", r#"{"reason":"The agent was interrupted"}"#), "FinishIngest 1".into()]
    );
}

#[test]
fn tasks_that_hang_are_cancelled_and_the_job_goes_on() {
    let mut bench = Bench::running(binding(1));
    bench.turn_ended(TurnEnd::Completed);
    assert_eq!(bench.late(), ["CancelTasks 1", "RunCondense 1"]);
    assert_eq!(bench.now, 120_000);
    assert_eq!(bench.late(), ["CancelTasks 1", "AbortAgent 1", "ReadBranch 1"]);
    assert_eq!(bench.now, 300_000);
    assert!(bench.late()[0].starts_with("Emit 1 complete"));
}

#[test]
fn what_an_old_job_reports_does_not_touch_the_new_one() {
    let mut bench = Bench::finishing(plain(1));
    bench.say(Input::Start(plain(2)));
    let old = JobId(1);
    for late in [
        Input::IngestDrained(old),
        Input::IngestGaveUp { job: old, why: GaveUp::FinishTimeout },
        Input::IngestReady(old),
        Input::EventsOpen(old),
        Input::PromptFailed { job: old, message: "x".into() },
        Input::TurnEnded { job: old, end: TurnEnd::Completed },
        Input::AutoCommitDone(old),
        Input::CondenseDone(old),
        Input::Branch { job: old, branch: None },
        Input::AgentAborted(old),
    ] {
        assert_eq!(bench.say(late), [""; 0]);
    }
    bench.say(Input::IngestReady(JobId(2)));
    assert_eq!(bench.say(Input::EventsOpen(JobId(2))), ["SendPrompt 2"]);
}

#[test]
fn silence_of_the_agent_for_15_seconds_renews_the_subscription_but_only_with_a_job() {
    let mut bench = Bench::running(plain(1));
    assert_eq!(bench.job.next_deadline(), Some(15_000));
    bench.now = 10_000;
    bench.say(Input::AgentHeard);
    assert_eq!(bench.job.next_deadline(), Some(25_000));
    bench.now = 25_000;
    assert_eq!(bench.say(Input::Tick), ["RestartEvents 1"]);
    assert_eq!(bench.job.next_deadline(), Some(40_000));
    bench.turn_ended(TurnEnd::Interrupted);
    bench.say(Input::EventsOpen(JobId(1)));
    bench.say(Input::AgentHeard);
    assert_eq!(bench.job.next_deadline(), None);
    let mut idle = Bench::new();
    idle.say(Input::AgentHeard);
    assert_eq!((idle.job.next_deadline(), idle.say(Input::Tick)), (None, vec![]));
}
