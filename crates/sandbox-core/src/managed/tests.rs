use super::*;

const WAITS: Waits = Waits { idle_ms: 100, draining_idle_ms: 10 };

fn new() -> Managed {
    Managed::new(false, WAITS, false)
}

/// One that has taken `inputs` at time 0.
fn after(inputs: &[Input]) -> Managed {
    let mut machine = new();
    for input in inputs {
        machine.receive(0, input.clone());
    }
    machine
}

fn nudge() -> Waiting {
    Waiting { id: "n1".into(), message: "look".into() }
}

/// One in each status.
fn one_of(status: Status) -> Managed {
    let machine = match status {
        Status::Starting => new(),
        Status::Running => after(&[Input::Ready]),
        Status::Stopping => after(&[Input::Ready, Input::Stop]),
        Status::Exited => after(&[Input::Ready, Input::Stop, Input::Ended]),
        Status::Failed => after(&[Input::StartFailed { reason: "why".into() }]),
    };
    assert_eq!(machine.status(), status);
    machine
}

const STATUSES: [Status; 5] = [Status::Starting, Status::Running, Status::Stopping, Status::Exited, Status::Failed];

#[test]
fn the_table_of_status_and_event() {
    use Status::Exited;
    use Status::Failed;
    use Status::Running;
    use Status::Starting;
    use Status::Stopping;
    let failed = || Input::StartFailed { reason: "why".into() };
    let table: [(Input, [Status; 5]); 13] = [
        (Input::Busy, [Starting, Running, Stopping, Exited, Failed]),
        (Input::Drain, [Starting, Running, Stopping, Exited, Failed]),
        (Input::Ended, [Starting, Running, Exited, Exited, Failed]),
        (Input::Freeze, [Stopping, Stopping, Stopping, Exited, Failed]),
        (Input::HandedOver { taken: false }, [Starting, Running, Stopping, Exited, Failed]),
        (Input::Idle, [Starting, Running, Stopping, Exited, Failed]),
        (Input::Nudge(Some(nudge())), [Starting, Running, Stopping, Exited, Failed]),
        (Input::Prompted, [Starting, Running, Stopping, Exited, Failed]),
        (Input::Ready, [Running, Running, Stopping, Exited, Failed]),
        (failed(), [Failed, Failed, Stopping, Exited, Failed]),
        (Input::Stop, [Stopping, Stopping, Stopping, Exited, Failed]),
        (Input::StreamEnded, [Starting, Failed, Stopping, Exited, Failed]),
        (Input::Tick, [Starting, Running, Stopping, Exited, Failed]),
    ];
    for (input, expected) in table {
        for (status, expected) in STATUSES.into_iter().zip(expected) {
            let mut machine = one_of(status);
            let outputs = machine.receive(0, input.clone());
            assert_eq!(machine.status(), expected, "{input:?} while {status:?}");
            if status.is_over() {
                assert!(outputs.is_empty(), "{input:?} while {status:?}: {outputs:?}");
            }
        }
    }
}

#[test]
fn who_is_idle_is_asked_for_after_nudges_and_ends_when_there_are_none() {
    let mut machine = one_of(Status::Running);
    assert_eq!(machine.receive(0, Input::Idle), [Output::FetchNudges]);
    assert_eq!(machine.receive(0, Input::Idle), [], "the agent server says it more than once");
    assert_eq!(machine.receive(5, Input::Nudge(None)), []);
    assert_eq!(machine.next_deadline(), Some(105));
    assert_eq!(machine.receive(104, Input::Tick), []);
    let completed = [
        Output::SayExited { reason: "completed" },
        Output::Report(Report::Completed),
        Output::SyncRegistry,
        Output::Release,
    ];
    assert_eq!(machine.receive(105, Input::Tick), completed);
    assert_eq!((machine.status(), machine.exit_reason()), (Status::Exited, Some("completed")));
}

#[test]
fn work_ends_an_idle_phase() {
    for work in [Input::Busy, Input::Prompted] {
        let mut machine = after(&[Input::Ready, Input::Idle, Input::Nudge(None)]);
        machine.receive(50, work);
        assert_eq!((machine.next_deadline(), machine.is_idle()), (None, false));
        assert_eq!(machine.receive(200, Input::Tick), []);
    }
}

#[test]
fn a_nudge_is_handed_over_and_then_marked() {
    let mut machine = after(&[Input::Ready, Input::Idle]);
    assert_eq!(machine.receive(0, Input::Nudge(Some(nudge()))), [Output::HandOver(nudge())]);
    let marked = machine.receive(0, Input::HandedOver { taken: true });
    assert_eq!(marked, [Output::MarkDelivered { id: "n1".into() }]);
    assert!(!machine.is_idle());

    let mut refused = after(&[Input::Ready, Input::Idle, Input::Nudge(Some(nudge()))]);
    refused.receive(0, Input::HandedOver { taken: false });
    assert_eq!(refused.status(), Status::Exited);
}

#[test]
fn a_nudge_that_comes_when_there_is_work_again_stays_with_the_town() {
    let mut machine = after(&[Input::Ready, Input::Idle, Input::Busy]);
    assert_eq!(machine.receive(0, Input::Nudge(Some(nudge()))), []);
    assert_eq!(machine.receive(0, Input::Idle), [Output::FetchNudges]);
}

#[test]
fn the_mayor_waits_and_never_ends_by_itself() {
    let mut mayor = Managed::new(true, WAITS, false);
    mayor.receive(0, Input::Ready);
    assert_eq!(mayor.receive(0, Input::Idle), [Output::Report(Report::Waiting), Output::KeepConversation]);
    assert_eq!(mayor.receive(0, Input::Idle), []);
    assert_eq!(mayor.next_deadline(), None);
    assert!(mayor.is_at_rest());
}

#[test]
fn a_lost_event_stream_is_a_failure() {
    let mut machine = one_of(Status::Running);
    let outputs = machine.receive(0, Input::StreamEnded);
    assert!(outputs.contains(&Output::Report(Report::StreamError)) && outputs.contains(&Output::Release));
    assert_eq!(machine.exit_reason(), Some("stream error"));
}

#[test]
fn while_it_drains_nobody_ends_by_itself_or_fails() {
    let mut machine = after(&[Input::Ready, Input::Idle, Input::Nudge(None), Input::Drain]);
    assert_eq!(machine.next_deadline(), Some(10), "the timer that ran is replaced by a short one");
    assert_eq!(machine.receive(10, Input::Tick), []);
    assert!(machine.is_at_rest());

    let mut busy = after(&[Input::Ready, Input::Drain]);
    assert_eq!(busy.receive(3, Input::Idle), [], "no nudges are fetched");
    assert_eq!(busy.next_deadline(), Some(13));

    let mut asking = after(&[Input::Ready, Input::Idle, Input::Drain]);
    assert_eq!(asking.receive(0, Input::Nudge(Some(nudge()))), []);
    assert_eq!(asking.next_deadline(), Some(10));

    let mut lost = after(&[Input::Ready, Input::Drain]);
    assert_eq!(lost.receive(0, Input::StreamEnded), []);
    assert!(lost.is_at_rest());
    assert_eq!(lost.receive(0, Input::Freeze), [Output::End]);
}

#[test]
fn a_freeze_and_a_stop_end_with_their_reasons() {
    for (input, reason) in [(Input::Freeze, "container eviction"), (Input::Stop, "stopped")] {
        let mut machine = one_of(Status::Running);
        assert_eq!(machine.receive(0, input), [Output::End]);
        assert_eq!(machine.receive(0, Input::Ended), [Output::SayExited { reason }, Output::SyncRegistry]);
        assert_eq!(machine.exit_reason(), Some(reason));
    }
}
