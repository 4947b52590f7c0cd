//! An open connection: frames, numbers, acknowledgements, commands, signs of life.

use super::*;

#[test]
fn events_of_50_ms_are_one_frame_in_order() {
    let mut bench = Bench::open();
    assert_eq!(bench.event(log(1)), [""; 0]);
    bench.now = 20;
    bench.event(volatile(1));
    bench.event(log(2));
    assert_eq!(bench.ingest.next_deadline(), Some(50));
    bench.now = 50;
    let written = bench.ingest.receive(50, Input::Tick);
    let outputs = bench.ingest.receive(50, Input::Spooled { done: true });
    let frames: Vec<&str> = outputs
        .iter()
        .filter_map(|output| match output {
            Output::Send { frame, .. } => Some(frame.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!(
        frames,
        [concat!(
            r#"[{"streamEventType":"kilocode","timestamp":"1970-01-01T00:00:00.050Z","seq":1,"data":{"event":"session.idle","n":1}},"#,
            r#"{"streamEventType":"status","timestamp":"1970-01-01T00:00:00.050Z","data":{"message":"1"}},"#,
            r#"{"streamEventType":"kilocode","timestamp":"1970-01-01T00:00:00.050Z","seq":2,"data":{"event":"session.idle","n":2}}]"#
        )]
    );
    assert_eq!(written.len(), 1, "offered to the file before it is sent");
    assert!(matches!(written[0], Output::Spool(SpoolWrite::Append { at: 0, .. })));
}

#[test]
fn a_window_of_64_kb_does_not_wait() {
    let mut bench = Bench::open();
    let big = RawValue::from_string(format!(r#"{{"event":"session.idle","x":"{}"}}"#, "x".repeat(40_000))).unwrap();
    assert_eq!(bench.event(Event::new("kilocode", big.clone())), [""; 0]);
    assert_eq!(bench.event(Event::new("kilocode", big)), ["1:kilocode", "2:kilocode"]);
}

#[test]
fn the_agents_events_are_normalised_on_the_way() {
    let mut bench = Bench::open();
    for payload in [
        r#"{"type":"sync","syncEvent":{}}"#,
        r#"{"type":"message.part.updated","properties":{"part":{"id":"p","messageID":"m","v":1}}}"#,
        r#"{"type":"message.part.updated","properties":{"part":{"id":"p","messageID":"m","v":2}}}"#,
    ] {
        bench.say(Input::Agent(&AgentEvent::parse(payload).unwrap()));
    }
    assert_eq!(bench.pass(50), ["1:kilocode"]);
    assert!(String::from_utf8_lossy(&bench.file).contains(r#""v":2"#));
}

#[test]
fn nothing_is_numbered_or_sent_before_the_object_says_where_its_log_stands() {
    let mut bench = Bench::new();
    bench.event(log(1));
    bench.say(Input::Open);
    bench.pass(1_000);
    assert_eq!(bench.say(Input::Opened { connection: Connection(1) }), [""; 0]);
    assert_eq!(bench.pass(1_000), [""; 0]);
    assert!(!bench.ingest.is_connected() && bench.file.is_empty());
    assert_eq!(bench.frame(1, r#"{"type":"resume","lastSeq":41}"#), ["ready 1", "42:kilocode"]);
}

#[test]
fn commands_are_delivered_on_every_socket() {
    let mut bench = Bench::open();
    assert_eq!(
        bench.frame(1, r#"{"type":"kill","signal":"SIGKILL"}"#),
        [r#"deliver {"type":"kill","signal":"SIGKILL"}"#]
    );
    bench.closed(1);
    bench.pass(1_000);
    bench.connected(2, 0);
    assert_eq!(bench.frame(2, r#"{"type":"request_snapshot"}"#), [r#"deliver {"type":"request_snapshot"}"#]);
    assert_eq!(bench.frame(2, r#"{"type":"ping"}"#), ["pong"]);
    for unknown in [
        "",
        "{",
        r#"{"type":"dance"}"#,
        r#"{"type":"error","code":"X","message":"m"}"#,
        r#"{"type":"resume","lastSeq":9}"#,
    ] {
        assert_eq!(bench.frame(2, unknown), [""; 0]);
    }
}

#[test]
fn the_heart_beats_every_20_seconds_while_connected_whatever_happens() {
    let mut bench = Bench::open();
    assert_eq!(bench.pass(60_000), ["heartbeat", "heartbeat", "heartbeat"]);
    bench.closed(1);
    let said = bench.pass(500);
    assert_eq!(said, [""; 0]);
    bench.pass(500);
    bench.connected(2, 0);
    assert_eq!(bench.pass(20_000), ["heartbeat"]);
}

#[test]
fn a_writer_that_stalls_stops_the_sending_but_not_the_taking() {
    let limits = Limits { send_bytes_max: 1_000, ..Limits::default() };
    let mut ingest = Ingest::new(&limits, execution(), &[]);
    let connection = Connection(1);
    ingest.receive(0, Input::Open);
    ingest.receive(0, Input::Opened { connection });
    ingest.receive(0, Input::Frame { connection, text: r#"{"type":"resume","lastSeq":0}"# });
    let mut outputs = Vec::new();
    let mut say = |now_ms, input: Input<'_>| {
        let said = ingest.receive(now_ms, input);
        let writes = said.iter().any(|output| matches!(output, Output::Spool(_)));
        outputs.extend(said);
        if writes {
            outputs.extend(ingest.receive(now_ms, Input::Spooled { done: true }));
        }
    };
    for n in 0..10_000 {
        say(0, Input::Event(if n % 2 == 0 { log(n) } else { volatile(n) }));
    }
    say(50, Input::Tick);
    let sent = |outputs: &[Output]| {
        outputs
            .iter()
            .map(|output| match output {
                Output::Send { frame, .. } => frame.len(),
                _ => 0,
            })
            .sum::<usize>()
    };
    let sent = sent(&outputs);
    assert!((1_000..70_000).contains(&sent), "{sent}");
    assert_eq!(ingest.unacked(), 5_000);
    let more = ingest.receive(60, Input::Written { connection, bytes: sent });
    assert!(more.iter().any(|output| matches!(output, Output::Send { .. })));
    assert!(ingest.next_deadline().unwrap() <= 30_060);
}

#[test]
fn an_acknowledgement_of_what_was_not_sent_acknowledges_only_what_was() {
    let mut bench = Bench::open();
    bench.event(log(1));
    bench.pass(50);
    bench.closed(1);
    bench.event(log(2));
    bench.pass(1_000);
    bench.say(Input::Opened { connection: Connection(2) });
    assert_eq!(bench.ack(2, 99), [""; 0]);
    assert_eq!(bench.ingest.unacked(), 2);
    bench.frame(2, r#"{"type":"resume","lastSeq":0}"#);
    bench.ack(2, u64::MAX);
    bench.event(log(3));
    assert_eq!(bench.pass(50), ["3:kilocode"]);
}
