//! Connections that break or never come up: when the next attempt is, what is sent again, and when it is given up.

use super::*;

#[test]
fn a_closed_socket_is_opened_again_after_a_second_and_the_outage_ends() {
    let mut bench = Bench::open();
    assert_eq!(bench.closed(1), ["reconnecting(1) at 1000"]);
    assert!(!bench.ingest.is_connected());
    assert_eq!(bench.pass(1_000), ["connect 2"]);
    assert_eq!(bench.connected(2, 0), ["ready 2"]);
    assert!(bench.ingest.is_connected());
}

#[test]
fn attempts_pause_1_2_4_8_8_seconds_and_the_count_begins_anew_after_a_lasting_connection() {
    let mut bench = Bench::open();
    let mut at = Vec::new();
    bench.closed(1);
    for connection in 2..8 {
        at.push(bench.ingest.next_deadline().unwrap() - bench.now);
        bench.now = bench.ingest.next_deadline().unwrap();
        assert_eq!(bench.say(Input::Tick), [format!("connect {connection}")]);
        bench.failed(connection, Some(503));
    }
    assert_eq!(at, [1_000, 2_000, 4_000, 8_000, 8_000, 8_000]);
    bench.now = bench.ingest.next_deadline().unwrap();
    bench.say(Input::Tick);
    bench.connected(8, 0);
    bench.pass(10_000);
    assert!(bench.closed(8)[0].starts_with("reconnecting(1)"));
}

#[test]
fn a_connection_that_does_not_last_continues_the_outage_but_one_that_acknowledges_ends_it() {
    let mut bench = Bench::open();
    bench.closed(1);
    bench.pass(1_000);
    bench.connected(2, 0);
    assert!(bench.closed(2)[0].starts_with("reconnecting(2)"));
    bench.pass(2_000);
    bench.event(log(1));
    bench.connected(3, 0);
    bench.ack(3, 1);
    assert!(bench.closed(3)[0].starts_with("reconnecting(1)"));
}

#[test]
fn an_outage_ends_after_five_minutes_with_the_known_reason() {
    let mut bench = Bench::open();
    bench.event(log(1));
    bench.pass(50);
    bench.closed(1);
    let mut said = Vec::new();
    while let Some(at) = bench.ingest.next_deadline() {
        bench.now = at;
        said = bench.say(Input::Tick);
        if let Some(connection) = said.first().and_then(|what| what.strip_prefix("connect ")) {
            let connection = connection.parse().unwrap();
            bench.now += 100;
            said = bench.failed(connection, None);
        }
    }
    assert_eq!(said, ["gave up: ingest websocket closed (reconnection failed)"]);
    assert!((290_000..=300_100).contains(&bench.now), "{}", bench.now);
    assert!(!bench.file.is_empty(), "what was not delivered stays on disk");
}

#[test]
fn a_refused_execution_is_given_up_at_once_and_its_spool_removed() {
    for status in [404, 409] {
        let mut bench = Bench::open();
        bench.event(log(1));
        bench.pass(50);
        bench.closed(1);
        bench.pass(1_000);
        assert_eq!(bench.failed(2, Some(status)), ["gave up: the session object refuses this execution"]);
        assert_eq!((bench.file.len(), bench.ingest.next_deadline()), (0, None));
        assert_eq!(bench.event(log(2)), [""; 0]);
    }
}

#[test]
fn buffered_events_are_announced_and_sent_in_order_after_a_reconnect() {
    let mut bench = Bench::open();
    bench.event(log(1));
    assert_eq!(bench.pass(50), ["1:kilocode"]);
    bench.closed(1);
    bench.event(volatile(1));
    bench.event(log(2));
    bench.pass(1_000);
    assert_eq!(
        bench.connected(2, 0),
        ["ready 2", r#"wrapper_resumed {"bufferedEvents":3,"eventsLost":false}"#, "1:kilocode", "status", "2:kilocode"]
    );
    bench.closed(2);
    bench.pass(2_000);
    assert_eq!(
        bench.connected(3, 1),
        ["ready 3", r#"wrapper_resumed {"bufferedEvents":1,"eventsLost":false}"#, "2:kilocode"]
    );
}

#[test]
fn nothing_is_announced_when_nothing_was_buffered() {
    let mut bench = Bench::open();
    bench.event(log(1));
    bench.pass(50);
    bench.ack(1, 1);
    bench.closed(1);
    bench.pass(1_000);
    assert_eq!(bench.connected(2, 1), ["ready 2"]);
}

#[test]
fn what_an_older_socket_says_is_ignored() {
    let mut bench = Bench::open();
    bench.event(log(1));
    bench.pass(50);
    bench.closed(1);
    bench.pass(1_000);
    bench.connected(2, 0);
    for late in [bench.closed(1), bench.failed(1, Some(409)), bench.ack(1, 1), bench.frame(1, r#"{"type":"kill"}"#)] {
        assert_eq!(late, [""; 0]);
    }
    assert_eq!((bench.ingest.unacked(), bench.ingest.is_connected()), (1, true));
    assert_eq!(bench.say(Input::Opened { connection: Connection(1) }), ["disconnect 1 1000 done"]);
}

#[test]
fn a_socket_that_does_not_open_or_greet_is_given_up() {
    let mut bench = Bench::new();
    bench.say(Input::Open);
    assert_eq!(bench.pass(12_000), ["disconnect 1 4000 timeout", "reconnecting(1) at 13000"]);
    bench.pass(1_000);
    bench.say(Input::Opened { connection: Connection(2) });
    assert_eq!(bench.pass(12_000), ["disconnect 2 4000 timeout", "reconnecting(2) at 27000"]);
}

#[test]
fn a_socket_that_acknowledges_nothing_is_dead() {
    let mut bench = Bench::open();
    bench.event(log(1));
    bench.pass(50);
    bench.pass(20_000);
    assert_eq!(bench.pass(10_000), ["disconnect 1 4000 timeout", "reconnecting(1) at 31050"]);
}
