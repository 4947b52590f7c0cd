//! The end: at once, or after the last acknowledgement.

use super::*;

#[test]
fn close_during_the_pause_cancels_the_reconnect() {
    let mut bench = Bench::open();
    bench.closed(1);
    assert_eq!(bench.say(Input::Close), [""; 0]);
    assert_eq!((bench.ingest.next_deadline(), bench.pass(10_000)), (None, vec![]));
}

#[test]
fn close_during_an_attempt_discards_the_late_socket_and_sends_nothing() {
    let mut bench = Bench::open();
    bench.closed(1);
    bench.event(log(1));
    bench.pass(1_000);
    assert_eq!(bench.say(Input::Close), ["disconnect 2 1000 done"]);
    assert_eq!(bench.say(Input::Opened { connection: Connection(2) }), ["disconnect 2 1000 done"]);
    assert_eq!(bench.frame(2, r#"{"type":"resume","lastSeq":0}"#), [""; 0]);
}

#[test]
fn our_own_close_is_no_outage() {
    let mut bench = Bench::open();
    assert_eq!(bench.say(Input::Close), ["disconnect 1 1000 done"]);
    assert_eq!(bench.closed(1), [""; 0]);
}

#[test]
fn finish_waits_for_the_last_acknowledgement() {
    let mut bench = Bench::open();
    bench.event(log(1));
    bench.event(Event::complete("exc", "ses", None));
    assert_eq!(bench.say(Input::Finish), ["1:kilocode", "2:complete"]);
    assert_eq!(bench.ack(1, 1), [""; 0]);
    assert_eq!(bench.ack(1, 2), ["disconnect 1 1000 done", "drained"]);
    assert_eq!((bench.file.len(), bench.ingest.next_deadline()), (0, None));
}

#[test]
fn finish_outlives_an_outage() {
    let mut bench = Bench::open();
    bench.event(Event::complete("exc", "ses", None));
    bench.say(Input::Finish);
    bench.closed(1);
    bench.pass(1_000);
    bench.connected(2, 0);
    assert_eq!(bench.ack(2, 1), ["disconnect 2 1000 done", "drained"]);
    let mut bench = Bench::open();
    bench.event(Event::complete("exc", "ses", None));
    bench.say(Input::Finish);
    bench.closed(1);
    bench.pass(1_000);
    bench.say(Input::Opened { connection: Connection(2) });
    assert_eq!(
        bench.frame(2, r#"{"type":"resume","lastSeq":1}"#),
        ["ready 2", "disconnect 2 1000 done", "drained"],
        "the object had it: only the acknowledgement was lost"
    );
}

#[test]
fn finish_with_nothing_to_say_ends_at_once_and_with_no_answer_in_time() {
    assert_eq!(Bench::open().say(Input::Finish), ["disconnect 1 1000 done", "drained"]);
    let mut bench = Bench::new();
    bench.say(Input::Open);
    bench.event(log(1));
    bench.say(Input::Finish);
    let mut said = Vec::new();
    while bench.ingest.next_deadline().is_some() {
        said = bench.pass(1_000);
    }
    assert_eq!(said.last().unwrap(), "gave up: ingest websocket closed (reconnection failed)");

    // An object that takes everything and acknowledges nothing.
    let mut bench = Bench::open();
    bench.event(log(1));
    bench.say(Input::Finish);
    let mut connection = 1;
    let mut said = Vec::new();
    while bench.ingest.next_deadline().is_some() {
        said = bench.pass(1_000);
        if said.last() == Some(&format!("connect {}", connection + 1)) {
            connection += 1;
            bench.connected(connection, 0);
        }
    }
    assert!(said.last().unwrap().starts_with("gave up"), "{said:?}");
    assert!(bench.now <= 331_000);
}
