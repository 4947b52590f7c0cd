use super::*;
use crate::limits::Limits;
use protocol::id::ExecutionId;
use protocol::id::KiloSessionId;
use protocol::id::MessageId;

mod table;

fn execution(n: u32) -> ExecutionId {
    ExecutionId::parse(&format!("exc_{n:026}")).unwrap()
}

fn message(n: u32) -> MessageId {
    MessageId::parse(&format!("msg_{n:026}")).unwrap()
}

fn binding(n: u32) -> Binding {
    Binding {
        execution_id: execution(n),
        kilo_session_id: KiloSessionId::parse("ses_e03b2959effeetYLbSKCsEOEU2").unwrap(),
        message_id: message(n),
        auto_commit: true,
        condense_on_complete: true,
    }
}

fn plain(n: u32) -> Binding {
    Binding { auto_commit: false, condense_on_complete: false, ..binding(n) }
}

struct Bench {
    job: Job,
    now: i64,
}

impl Bench {
    fn new() -> Self {
        Self { job: Job::new(&Limits::default(), []), now: 0 }
    }

    fn opening(binding: Binding) -> Self {
        let mut bench = Self::new();
        bench.say(Input::Start(binding));
        bench
    }

    fn sending(binding: Binding) -> Self {
        let mut bench = Self::opening(binding);
        bench.say(Input::IngestReady(JobId(1)));
        bench.say(Input::EventsOpen(JobId(1)));
        bench
    }

    fn running(binding: Binding) -> Self {
        let mut bench = Self::sending(binding);
        assert_eq!(bench.say(Input::PromptSent(JobId(1))), [""; 0]);
        bench
    }

    fn finishing(binding: Binding) -> Self {
        let mut bench = Self::running(binding);
        bench.say(Input::TurnEnded { job: JobId(1), end: TurnEnd::Interrupted });
        bench
    }

    /// What the machine answers, in short.
    fn say(&mut self, input: Input) -> Vec<String> {
        self.job.receive(self.now, input).iter().map(brief).collect()
    }

    fn turn_ended(&mut self, end: TurnEnd) -> Vec<String> {
        self.say(Input::TurnEnded { job: JobId(1), end })
    }

    /// The next deadline of a phase passes.
    fn late(&mut self) -> Vec<String> {
        loop {
            self.now = self.job.next_deadline().unwrap();
            let mut said = self.say(Input::Tick);
            said.retain(|what| what != "RestartEvents 1");
            if !said.is_empty() {
                return said;
            }
        }
    }
}

fn brief(output: &Output) -> String {
    match output {
        Output::AbortAgent(job) => format!("AbortAgent {}", job.0),
        Output::Accepted(job) => format!("Accepted {}", job.0),
        Output::CancelTasks(job) => format!("CancelTasks {}", job.0),
        Output::CloseIngest(job) => format!("CloseIngest {}", job.0),
        Output::Duplicate => "Duplicate".to_owned(),
        Output::Emit { job, event } => format!("Emit {} {} {}", job.0, event.kind(), event.data()),
        Output::Ended { job, end } => format!("Ended {} {end:?}", job.0),
        Output::FinishIngest(job) => format!("FinishIngest {}", job.0),
        Output::Open(job) => format!("Open {}", job.0),
        Output::ReadBranch(job) => format!("ReadBranch {}", job.0),
        Output::Refused { active } => format!("Refused {active}"),
        Output::RestartEvents(job) => format!("RestartEvents {}", job.0),
        Output::RunAutoCommit(job) => format!("RunAutoCommit {}", job.0),
        Output::RunCondense(job) => format!("RunCondense {}", job.0),
        Output::SendPrompt(job) => format!("SendPrompt {}", job.0),
    }
}

fn emit(kind: &str, data: &str) -> String {
    format!("Emit 1 {kind} {data}")
}

const ABORTED: &str = r#"Emit 1 interrupted {"reason":"aborted via API"}"#;

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
    assert_eq!(bench.say(Input::CondenseDone(JobId(1))), ["ReadBranch 1"]);
    let complete = r#"{"exitCode":0,"executionId":"exc_00000000000000000000000001","kiloSessionId":"ses_e03b2959effeetYLbSKCsEOEU2","currentBranch":"main"}"#;
    assert_eq!(
        bench.say(Input::Branch { job: JobId(1), branch: Some("main".into()) }),
        [emit("complete", complete), "FinishIngest 1".into()]
    );
    assert_eq!(bench.job.active(), None);
    assert_eq!(bench.say(Input::IngestDrained(JobId(1))), ["CloseIngest 1", "Ended 1 Reported"]);
    assert_eq!(bench.job.next_deadline(), None);
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
fn the_same_execution_is_a_no_op_another_conflicts_and_after_the_end_is_adopted() {
    let mut bench = Bench::running(plain(1));
    assert_eq!(bench.say(Input::Start(plain(1))), ["Duplicate"]);
    assert_eq!(bench.say(Input::Start(Binding { message_id: message(9), ..plain(1) })), ["Duplicate"]);
    assert_eq!(bench.say(Input::Start(plain(2))), [format!("Refused {}", execution(1))]);
    bench.turn_ended(TurnEnd::Interrupted);
    assert_eq!(bench.say(Input::Start(plain(2))), ["CloseIngest 1", "Ended 1 Replaced", "Accepted 2", "Open 2"]);
    assert_eq!(bench.job.active(), Some(&execution(2)));
}

#[test]
fn the_same_message_runs_once_also_after_a_restart() {
    let mut bench = Bench::finishing(plain(1));
    bench.say(Input::IngestDrained(JobId(1)));
    assert_eq!(bench.say(Input::Start(Binding { message_id: message(1), ..plain(2) })), ["Duplicate"]);
    let mut restarted = Bench { job: Job::new(&Limits::default(), [message(1)]), now: 0 };
    assert_eq!(restarted.say(Input::Start(plain(1))), ["Duplicate"]);
}

#[test]
fn only_so_many_messages_are_remembered() {
    let mut bench = Bench { job: Job::new(&Limits::default(), (0..300).map(message)), now: 0 };
    assert_eq!(bench.say(Input::Start(plain(299))), ["Duplicate"]);
    assert_eq!(bench.say(Input::Start(plain(1)))[0], "Accepted 1");
}

#[test]
fn a_prompt_that_could_not_be_sent_may_be_sent_again() {
    let mut bench = Bench::sending(plain(1));
    assert_eq!(
        bench.say(Input::PromptFailed { job: JobId(1), message: "refused".into() }),
        ["CloseIngest 1", r#"Ended 1 NotStarted { code: "SEND_ERROR", message: "refused" }"#]
    );
    assert_eq!(bench.say(Input::Start(plain(1))), ["Accepted 2", "Open 2"]);
}

#[test]
fn connections_that_do_not_open_are_an_error_in_time() {
    let mut bench = Bench::opening(plain(1));
    assert_eq!(bench.job.next_deadline(), Some(30_000));
    let said = bench.late();
    assert!(said[1].contains("CONNECTION_ERROR") && said[1].contains("the session object"), "{said:?}");

    let mut bench = Bench::opening(plain(1));
    bench.say(Input::IngestReady(JobId(1)));
    assert!(bench.late()[1].contains("the agent's events"));

    let mut bench = Bench::opening(plain(1));
    let said = bench.say(Input::IngestGaveUp { job: JobId(1), why: GaveUp::Fenced { status: 409 } });
    assert!(said[1].contains("CONNECTION_ERROR"));
}

#[test]
fn a_prompt_without_an_answer_is_an_error_in_time() {
    let said = Bench::sending(plain(1)).late();
    assert_eq!(said[..2], ["AbortAgent 1", "CloseIngest 1"]);
    assert!(said[2].contains("SEND_ERROR"));
}

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
fn kill_and_signals_and_fatal_errors_have_their_own_words() {
    for (input, said) in [
        (Input::Kill, emit("interrupted", r#"{"reason":"Session stopped"}"#)),
        (Input::Shutdown { signal: "SIGTERM" }, emit("interrupted", r#"{"reason":"Container shutdown: SIGTERM"}"#)),
        (
            Input::Fatal { error: "Wrapper restarted".into(), message: Some("m".into()) },
            emit("error", r#"{"error":"Wrapper restarted","message":"m","fatal":true}"#),
        ),
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
fn a_fatal_turn_stops_the_agent_and_runs_no_tasks() {
    let mut bench = Bench::running(binding(1));
    assert_eq!(
        bench.turn_ended(TurnEnd::Fatal { error: "Insufficient credits".into() }),
        ["AbortAgent 1".to_owned(), emit("error", r#"{"error":"Insufficient credits","fatal":true}"#)]
    );
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
