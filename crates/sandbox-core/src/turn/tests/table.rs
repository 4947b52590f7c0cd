//! Every input in every state, as one table: what the machine says, and the state that follows.

use super::*;

type Make = fn() -> Bench;

const STATES: [(&str, Make); 7] = [
    ("none", || {
        let mut bench = Bench::prompted();
        bench.receive(Input::ServerGone { message: "before".into() });
        bench
    }),
    ("prompted", Bench::prompted),
    ("open", Bench::opened),
    ("waiting", || {
        let mut bench = Bench::opened();
        bench.own("session.status", r#","status":{"type":"offline"}"#);
        bench.own("session.status", r#","status":{"type":"retry","message":"slow"}"#);
        bench
    }),
    ("closing", || {
        let mut bench = Bench::opened();
        bench.own("session.turn.close", r#","reason":"completed""#);
        bench
    }),
    ("withdrawn", || {
        let mut bench = Bench::prompted();
        bench.receive(Input::Stopping);
        bench
    }),
    ("stopping", || {
        let mut bench = Bench::opened();
        bench.receive(Input::Stopping);
        bench
    }),
];

/// Events of our session: a name for the table, the type, further properties.
const EVENTS: [(&str, &str, &str); 14] = [
    ("turn opens", "session.turn.open", ""),
    ("closes: completed", "session.turn.close", r#","reason":"completed""#),
    ("closes: error", "session.turn.close", r#","reason":"error""#),
    ("closes: interrupted", "session.turn.close", r#","reason":"interrupted""#),
    ("closes: superseded", "session.turn.close", r#","reason":"superseded""#),
    ("idle", "session.idle", ""),
    ("status busy", "session.status", r#","status":{"type":"busy"}"#),
    ("status offline", "session.status", r#","status":{"type":"offline"}"#),
    ("status retry", "session.status", r#","status":{"type":"retry","message":"slow"}"#),
    ("error", "session.error", r#","error":{"name":"APIError","data":{"message":"bad"}}"#),
    ("error: payment", "session.error", r#","error":{"data":{"message":"no credit"}}"#),
    ("output", "message.part.updated", r#","part":{"type":"text"}"#),
    ("permission", "permission.asked", r#","id":"per_1""#),
    ("own question", "question.asked", r#","id":"que_1""#),
];

/// What is no event, with the state of a gap where one is needed.
const OTHERS: [&str; 12] = [
    "prompt",
    "refused",
    "server gone",
    "said to be busy",
    "said to be idle",
    "stopping",
    "stream resumed",
    "caught up: busy",
    "caught up: nothing",
    "caught up: answered",
    "caught up: no answer",
    "deadline",
];

fn other(bench: &mut Bench, name: &str) -> Vec<Output> {
    let found = |busy, answered| TurnFound { busy, answered, error: None };
    if name.starts_with("caught up") {
        bench.receive(Input::StreamResumed);
    }
    match name {
        "prompt" => bench.receive(Input::Prompt),
        "refused" => bench.receive(Input::PromptRefused { message: "400".into() }),
        "server gone" => bench.receive(Input::ServerGone { message: "gone".into() }),
        "said to be busy" => bench.receive(Input::Status { busy: true }),
        "said to be idle" => bench.receive(Input::Status { busy: false }),
        "stopping" => bench.receive(Input::Stopping),
        "stream resumed" => bench.receive(Input::StreamResumed),
        "caught up: busy" => bench.receive(Input::CaughtUp(Some(&found(true, false)))),
        "caught up: nothing" => bench.receive(Input::CaughtUp(Some(&found(false, false)))),
        "caught up: answered" => bench.receive(Input::CaughtUp(Some(&found(false, true)))),
        "caught up: no answer" => bench.receive(Input::CaughtUp(None)),
        _ => {
            bench.now = bench.turn.next_deadline().unwrap_or(i64::MAX / 2);
            bench.receive(Input::Tick)
        }
    }
}

fn brief(outputs: &[Output], state: &str) -> String {
    let mut words: Vec<&str> = outputs
        .iter()
        .map(|output| match output {
            Output::AbortAgain => "abort again",
            Output::AskStatus => "ask",
            Output::CatchUp => "catch up",
            Output::Ended(TurnEnd::Completed) => "completed",
            Output::Ended(TurnEnd::Failed { .. }) => "failed",
            Output::Ended(TurnEnd::Fatal { .. }) => "fatal",
            Output::Ended(TurnEnd::Interrupted) => "interrupted",
            Output::Ended(TurnEnd::Rejected { .. }) => "rejected",
            Output::RejectQuestion { .. } => "reject",
            Output::ReplyPermission { .. } => "allow",
        })
        .collect();
    if words.is_empty() {
        words.push(state);
    }
    words.join(", ")
}

/// An empty cell: nothing was said and the state stayed.
fn cell(make: Make, act: impl FnOnce(&mut Bench) -> Vec<Output>) -> String {
    let mut bench = make();
    let before = bench.turn.state();
    let outputs = act(&mut bench);
    let ends = outputs.iter().filter(|output| matches!(output, Output::Ended(_))).count();
    assert!(ends <= 1, "{outputs:?}");
    assert_eq!(ends == 1 || before == "none" && bench.turn.state() == "none", bench.turn.state() == "none");
    let after = bench.turn.state();
    brief(&outputs, if after == before { "." } else { after })
}

fn table() -> String {
    let line = |name: &str, cells: Vec<String>| {
        let cells: String = cells.iter().map(|cell| format!("{cell:<13}")).collect();
        format!("{:<21}{}", name, cells).trim_end().to_owned()
    };
    let mut lines = vec![line("", STATES.iter().map(|(state, _)| (*state).to_owned()).collect())];
    for (name, kind, more) in EVENTS {
        lines.push(line(name, STATES.iter().map(|(_, make)| cell(*make, |bench| bench.own(kind, more))).collect()));
    }
    for name in OTHERS {
        lines.push(line(name, STATES.iter().map(|(_, make)| cell(*make, |bench| other(bench, name))).collect()));
    }
    lines.join("\n")
}

#[test]
fn every_input_in_every_state_does_what_the_table_says() {
    assert_eq!(table(), include_str!("table.txt").trim_end(), "\n{}\n", table());
}

/// Whatever happened before: once the server is gone, the turn is over, and no deadline is left.
#[test]
fn any_two_inputs_in_any_state_leave_a_turn_that_ends() {
    let act = |bench: &mut Bench, n: usize| match EVENTS.get(n) {
        Some((_, kind, more)) => bench.own(kind, more),
        None => other(bench, OTHERS[n - EVENTS.len()]),
    };
    let count = EVENTS.len() + OTHERS.len();
    for (state, make) in STATES {
        for (first, second) in (0..count).flat_map(|first| (0..count).map(move |second| (first, second))) {
            let mut bench = make();
            act(&mut bench, first);
            act(&mut bench, second);
            let was_on = bench.turn.is_on();
            let outputs = bench.receive(Input::ServerGone { message: "gone".into() });
            assert_eq!(!outputs.is_empty(), was_on, "{state}: {first}, {second}");
            assert_eq!(bench.turn.next_deadline(), None, "{state}: {first}, {second}");
        }
    }
}
