//! What is taken, what is refused, and a start that does not succeed.

use super::*;

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
