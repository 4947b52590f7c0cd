use super::*;
use crate::limits::Limits;
use protocol::id::ExecutionId;
use protocol::ingest::parse_frame;
use serde_json::value::RawValue;
use std::collections::VecDeque;

mod faults;
mod states;

fn execution() -> ExecutionId {
    ExecutionId::parse("exc_00000000000000000000000001").unwrap()
}

/// A stored event.
fn log(n: u64) -> Event {
    Event::new("kilocode", RawValue::from_string(format!(r#"{{"event":"session.idle","n":{n}}}"#)).unwrap())
}

/// An event that is not stored.
fn volatile(n: u64) -> Event {
    Event::new("status", RawValue::from_string(format!(r#"{{"message":"{n}"}}"#)).unwrap())
}

/// What the shell owes the machine.
enum Answer {
    Read(u64, Vec<u8>),
    Spooled(bool),
    Written(Connection, usize),
}

/// The machine and its file.
struct Bench {
    ingest: Ingest,
    now: i64,
    file: Vec<u8>,
    disk_full: bool,
}

impl Bench {
    fn new() -> Self {
        Self::with(&Limits::default())
    }

    fn with(limits: &Limits) -> Self {
        Self { ingest: Ingest::new(limits, execution(), &[]), now: 0, file: Vec::new(), disk_full: false }
    }

    /// Connected to an object that has nothing.
    fn open() -> Self {
        let mut bench = Self::new();
        assert_eq!(bench.say(Input::Open), ["connect 1"]);
        assert_eq!(bench.connected(1, 0), ["ready 1"]);
        bench
    }

    /// What the machine says, in short; the file is kept and read back, and frames are written, as the shell does.
    fn say(&mut self, input: Input<'_>) -> Vec<String> {
        let mut said = Vec::new();
        let mut answers = VecDeque::new();
        let mut outputs = self.ingest.receive(self.now, input);
        loop {
            for output in outputs {
                match output {
                    Output::Spool(write) => {
                        let done = !self.disk_full && perform(&mut self.file, &write);
                        if matches!(write, SpoolWrite::Append { .. } | SpoolWrite::Rewrite { .. }) {
                            answers.push_back(Answer::Spooled(done));
                        }
                    }
                    Output::ReadSpool { offset, bytes } => {
                        let at = offset as usize;
                        answers.push_back(Answer::Read(offset, self.file[at..at + bytes].to_vec()));
                    }
                    Output::Send { connection, frame } => {
                        assert!(frame.len() < protocol::ingest::FRAME_BYTES_MAX);
                        said.extend(parse_frame(&frame).unwrap().iter().map(brief_event));
                        answers.push_back(Answer::Written(connection, frame.len()));
                    }
                    other => said.push(brief(&other)),
                }
            }
            outputs = match answers.pop_front() {
                Some(Answer::Read(offset, bytes)) => {
                    self.ingest.receive(self.now, Input::SpoolBytes { offset, bytes: &bytes })
                }
                Some(Answer::Spooled(done)) => self.ingest.receive(self.now, Input::Spooled { done }),
                Some(Answer::Written(connection, bytes)) => {
                    self.ingest.receive(self.now, Input::Written { connection, bytes })
                }
                None => return said,
            };
        }
    }

    fn event(&mut self, event: Event) -> Vec<String> {
        self.say(Input::Event(event))
    }

    fn frame(&mut self, connection: u64, text: &str) -> Vec<String> {
        self.say(Input::Frame { connection: Connection(connection), text })
    }

    fn connected(&mut self, connection: u64, last_seq: u64) -> Vec<String> {
        assert_eq!(self.say(Input::Opened { connection: Connection(connection) }), [""; 0]);
        self.frame(connection, &format!(r#"{{"type":"resume","lastSeq":{last_seq}}}"#))
    }

    fn ack(&mut self, connection: u64, seq: u64) -> Vec<String> {
        self.frame(connection, &format!(r#"{{"type":"ack","seq":{seq}}}"#))
    }

    fn closed(&mut self, connection: u64) -> Vec<String> {
        self.say(Input::Closed { connection: Connection(connection), code: 1006 })
    }

    fn failed(&mut self, connection: u64, status: Option<u16>) -> Vec<String> {
        self.say(Input::ConnectFailed { connection: Connection(connection), status })
    }

    fn pass(&mut self, ms: i64) -> Vec<String> {
        let until = self.now + ms;
        let mut said = Vec::new();
        while let Some(at) = self.ingest.next_deadline().filter(|at| *at <= until) {
            self.now = self.now.max(at);
            said.extend(self.say(Input::Tick));
        }
        self.now = until;
        said
    }
}

/// Changes a file as the shell does.
fn perform(file: &mut Vec<u8>, write: &SpoolWrite) -> bool {
    match write {
        SpoolWrite::Append { at, records } => {
            let (at, records) = (*at as usize, records.as_bytes());
            assert!(at <= file.len(), "a hole");
            file.resize(file.len().max(at + records.len()), 0);
            file[at..at + records.len()].copy_from_slice(records);
        }
        SpoolWrite::Remove => file.clear(),
        SpoolWrite::Rewrite { keep } => {
            *file = keep.iter().flat_map(|range| file[range.start as usize..range.end as usize].to_vec()).collect();
        }
        SpoolWrite::Truncate(bytes) => file.truncate(*bytes as usize),
    }
    true
}

/// `7:kilocode` for a stored event, the type for another.
fn brief_event(event: &protocol::ingest::IngestEvent<'_>) -> String {
    match event.seq {
        Some(seq) => format!("{seq}:{}", event.stream_event_type),
        None if event.stream_event_type == "wrapper_resumed" => format!("wrapper_resumed {}", event.data()),
        None => event.stream_event_type.clone().into_owned(),
    }
}

fn brief(output: &Output) -> String {
    match output {
        Output::Connect { connection } => format!("connect {}", connection.0),
        Output::Deliver(command) => format!("deliver {}", serde_json::to_string(command).unwrap()),
        Output::Disconnect { connection, code, reason } => format!("disconnect {} {code} {reason}", connection.0),
        Output::Drained => "drained".to_owned(),
        Output::GaveUp(why) => format!("gave up: {}", why.reason()),
        Output::Ready { connection } => format!("ready {}", connection.0),
        Output::Reconnecting { attempt, at_ms } => format!("reconnecting({attempt}) at {at_ms}"),
        Output::ReadSpool { .. } | Output::Send { .. } | Output::Spool(_) => panic!("performed elsewhere"),
    }
}

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
fn of_waiting_volatile_events_the_newest_thousand_are_kept_and_lifecycle_events_always() {
    let mut bench = Bench::open();
    bench.closed(1);
    bench.event(Event::fatal("Boom", None));
    for n in 0..1_500 {
        bench.event(volatile(n));
    }
    bench.pass(1_000);
    let said = bench.connected(2, 0);
    assert_eq!(said[1], r#"wrapper_resumed {"bufferedEvents":1001,"eventsLost":true}"#);
    assert_eq!(said[2], "1:error");
    assert_eq!(said.iter().filter(|what| *what == "status").count(), 1_000);
    bench.closed(2);
    bench.pass(2_000);
    assert_eq!(bench.connected(3, 1), ["ready 3"], "the loss is announced once");
}

#[test]
fn a_full_spool_keeps_no_volatile_events_and_announces_what_it_gave_up() {
    let mut bench = Bench::with(&Limits { spool_bytes_max: 3_000, ..Limits::default() });
    bench.say(Input::Open);
    bench.connected(1, 0);
    bench.closed(1);
    for n in 0..40 {
        bench.event(log(n));
        bench.event(volatile(n));
    }
    bench.pass(1_000);
    let said = bench.connected(2, 0);
    assert!(said[1].ends_with("\"eventsLost\":true}"), "{said:?}");
    assert!(said[2].ends_with(":events_lost") && !said.contains(&"status".to_owned()), "{said:?}");
    assert_eq!(said.last().unwrap(), "40:kilocode");
}

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

#[test]
fn what_a_full_disk_does_not_take_is_sent_from_memory() {
    let mut bench = Bench::open();
    bench.disk_full = true;
    assert_eq!(bench.event(log(1)), [""; 0]);
    assert_eq!((bench.pass(50), bench.file.len()), (vec!["1:kilocode".to_owned()], 0));
    bench.disk_full = false;
    bench.event(log(2));
    assert_eq!(bench.pass(50), ["2:kilocode"]);
    // The process dies: what it had said is known to the object, and what the disk holds is sent again or not, as the object says.
    let mut next = Bench { ingest: Ingest::new(&Limits::default(), execution(), &bench.file), ..Bench::new() };
    next.file = bench.file;
    next.say(Input::Open);
    assert_eq!(
        next.connected(1, 1),
        ["ready 1", r#"wrapper_resumed {"bufferedEvents":1,"eventsLost":false}"#, "2:kilocode"]
    );
}

#[test]
fn what_neither_disk_nor_memory_can_hold_is_announced_as_lost_and_the_end_is_kept() {
    let limits = Limits { spool_resident_bytes_max: 1_000, ..Limits::default() };
    let mut bench = Bench::with(&limits);
    bench.say(Input::Open);
    bench.connected(1, 0);
    bench.closed(1);
    bench.disk_full = true;
    for n in 1..=20 {
        bench.event(log(n));
        bench.pass(50);
    }
    bench.event(Event::fatal("Boom", None));
    let connected = bench.connected(2, 0);
    assert_eq!(connected[1], r#"wrapper_resumed {"bufferedEvents":8,"eventsLost":true}"#, "{connected:?}");
    assert_eq!(connected[2], "14:events_lost");
    assert_eq!(connected.last().unwrap(), "21:error");
    assert_eq!(bench.ack(2, 21), [""; 0]);
    assert_eq!(bench.say(Input::Finish), ["disconnect 2 1000 done", "drained"]);
}

#[test]
fn a_new_process_sends_what_the_old_one_left() {
    let mut old = Bench::open();
    old.event(log(1));
    old.event(log(2));
    old.pass(50);
    old.closed(1);
    old.event(log(3));
    old.pass(50);
    let mut file = old.file.clone();
    file.extend(b"4 99 event\n{torn");
    let mut new =
        Bench { ingest: Ingest::new(&Limits::default(), execution(), &file), now: old.now, file, disk_full: false };
    new.event(Event::fatal("Wrapper restarted", None));
    assert_eq!(new.say(Input::Open), ["connect 1"]);
    assert_eq!(
        new.connected(1, 1),
        [
            "ready 1",
            r#"wrapper_resumed {"bufferedEvents":3,"eventsLost":false}"#,
            "2:kilocode",
            "3:kilocode",
            "4:error"
        ]
    );
}
