//! Every input in every state: what may come late, twice or never must harm in none.

use super::*;

type Make = fn() -> Bench;

/// The states, each with the connection that is current in it.
const STATES: [(&str, u64, Make); 9] = [
    ("unopened", 0, Bench::new),
    ("connecting", 1, || {
        let mut bench = Bench::new();
        bench.say(Input::Open);
        bench
    }),
    ("greeting", 1, || {
        let mut bench = Bench::new();
        bench.say(Input::Open);
        bench.say(Input::Opened { connection: Connection(1) });
        bench
    }),
    ("open", 1, Bench::open),
    ("open, unacknowledged", 1, || {
        let mut bench = Bench::open();
        bench.event(log(1));
        bench.pass(50);
        bench
    }),
    ("waiting", 0, || {
        let mut bench = Bench::open();
        bench.event(log(1));
        bench.closed(1);
        bench
    }),
    ("reconnecting", 2, || {
        let mut bench = Bench::open();
        bench.event(log(1));
        bench.closed(1);
        bench.pass(1_000);
        bench
    }),
    ("finishing", 1, || {
        let mut bench = Bench::open();
        bench.event(log(1));
        bench.say(Input::Finish);
        bench
    }),
    ("ended", 0, || {
        let mut bench = Bench::open();
        bench.say(Input::Close);
        bench
    }),
];

const FRAMES: [&str; 8] = [
    r#"{"type":"ack","seq":1}"#,
    r#"{"type":"ack","seq":18446744073709551615}"#,
    r#"{"type":"error","code":"X","message":"m"}"#,
    r#"{"type":"kill"}"#,
    r#"{"type":"ping"}"#,
    r#"{"type":"request_snapshot"}"#,
    r#"{"type":"resume","lastSeq":0}"#,
    "not json",
];

/// Every kind of input; those about a socket about the older one (0), and about the current.
fn inputs(current: u64) -> Vec<Input<'static>> {
    let mut inputs = vec![
        Input::Close,
        Input::Event(log(7)),
        Input::Event(volatile(7)),
        Input::Finish,
        Input::Open,
        Input::SpoolBytes { offset: 0, bytes: b"1 2 event\n{}\n" },
        Input::Spooled { done: true },
        Input::Spooled { done: false },
        Input::Tick,
    ];
    for connection in [Connection(0), Connection(current), Connection(99)] {
        inputs.extend([
            Input::Closed { connection, code: 1006 },
            Input::Closed { connection, code: protocol::ingest::CLOSE_GAP },
            Input::ConnectFailed { connection, status: None },
            Input::ConnectFailed { connection, status: Some(503) },
            Input::ConnectFailed { connection, status: Some(409) },
            Input::Opened { connection },
            Input::Written { connection, bytes: 1_000_000 },
        ]);
        inputs.extend(FRAMES.map(|text| Input::Frame { connection, text }));
    }
    inputs
}

/// After any two inputs in any state the machine still does its work: it ends, or, given a reachable object, delivers a further
/// event exactly once and drains.
#[test]
fn any_two_inputs_in_any_state_leave_a_machine_that_works() {
    for (state, current, make) in STATES {
        let count = inputs(current).len();
        for first in 0..count {
            for second in 0..count {
                let mut bench = make();
                let label = format!("{state}: {:?}, {:?}", inputs(current)[first], inputs(current)[second]);
                let mut said = bench.say(inputs(current).swap_remove(first));
                said.extend(bench.say(inputs(current).swap_remove(second)));
                check_alone(&said, &label);
                deliver_and_drain(&mut bench, &label);
            }
        }
    }
}

/// What no answer may ever contain.
fn check_alone(said: &[String], label: &str) {
    let connects = said.iter().filter(|what| what.starts_with("connect ")).count();
    assert!(connects <= 1, "{label}: {said:?}");
    if let Some(end) = said.iter().position(|what| what.starts_with("gave up") || what == "drained") {
        assert!(said[end + 1..].iter().all(|what| what.starts_with("disconnect ")), "{label}: {said:?}");
    }
}

fn deliver_and_drain(bench: &mut Bench, label: &str) {
    let mut said = bench.say(Input::Open);
    said.extend(bench.event(Event::fatal("last")));
    said.extend(bench.say(Input::Finish));
    let (mut object, mut connection) = (0, None);
    for _ in 0..40 {
        if bench.ingest.next_deadline().is_none() {
            break;
        }
        // The shell's own knowledge of its socket, should the machine be waiting for it.
        let asked: Vec<u64> = said.iter().filter_map(|what| what.strip_prefix("connect ")?.parse().ok()).collect();
        if let Some(asked) = asked.last().copied().or(connection)
            && !bench.ingest.is_connected()
        {
            connection = Some(asked);
            let mut more = bench.say(Input::Opened { connection: Connection(asked) });
            more.extend(bench.frame(asked, &format!(r#"{{"type":"resume","lastSeq":{object}}}"#)));
            said.extend(more);
        }
        let highest = said.iter().filter_map(|what| what.split_once(':')?.0.parse::<u64>().ok()).max();
        if let Some(connection) = bench.ingest.current() {
            object = object.max(highest.unwrap_or(0));
            said.extend(bench.ack(connection, object));
        }
        said.extend(bench.pass(3_000));
    }
    assert_eq!(bench.ingest.next_deadline(), None, "{label}: {said:?}");
    if said.last().is_some_and(|what| what == "drained") {
        assert!(said.iter().any(|what| what.ends_with(":error")), "{label}: {said:?}");
    }
}
