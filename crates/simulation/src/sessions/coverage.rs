//! The pairs of states and inputs of a session object, of its container's object and of a wrapper's job, and why some of them cannot be.
//!
//! This is data: a pair that comes although it has a reason here is reported with the summary, and fails a run with `--coverage`.

use crate::profile::Pair;
use crate::profile::Why;

/// Where a machine can be, and what can come to it.
struct Table {
    states: &'static [&'static str],
    inputs: &'static [&'static str],
}

const SESSION: Table = Table {
    states: &[
        "at rest",
        "disconnected",
        "gone",
        "none",
        "pending",
        "pending, accepted",
        "prepared",
        "preparing",
        "registered",
        "running",
        "running, not accepted",
        "tombstone",
    ],
    inputs: &[
        "delete",
        "expire",
        "ingest-closed",
        "ingest-frames",
        "ingest-open",
        "initiate",
        "interrupt",
        "judge",
        "outcome",
        "pay-debts",
        "progress",
        "register",
        "send",
        "snapshot-access",
        "stream-open",
        "update",
        "view",
        "woke",
    ],
};

const CONTAINER: Table = Table {
    states: &["container never", "container running", "container starting", "container stopped", "container stopping"],
    inputs: &["ended", "release", "start-failed", "started", "tick", "want", "woke"],
};

const JOB: Table = Table {
    states: &["job none", "job active", "job finishing"],
    inputs: &[
        "job abort",
        "job agent-aborted",
        "job agent-heard",
        "job auto-commit-done",
        "job branch",
        "job condense-done",
        "job events-open",
        "job ingest-drained",
        "job ingest-gave-up",
        "job ingest-ready",
        "job kill",
        "job prompt-failed",
        "job prompt-sent",
        "job shutdown",
        "job start",
        "job tick",
        "job turn-ended",
    ],
};

/// All pairs, each with the reason if it cannot be.
pub fn pairs() -> Vec<Pair> {
    let mut pairs = Vec::new();
    for table in [SESSION, CONTAINER, JOB] {
        for state in table.states {
            pairs.extend(table.inputs.iter().map(|input| (*state, *input, reason(state, input))));
        }
    }
    pairs
}

fn reason(state: &str, input: &str) -> Option<Why> {
    never(state, input).map(Why::Never).or_else(|| seldom(state, input).map(Why::Seldom))
}

fn never(state: &str, input: &str) -> Option<&'static str> {
    match (state, input) {
        ("none", "expire" | "pay-debts") => Some("an object without tables has set no alarm"),
        ("none", "outcome" | "progress" | "snapshot-access" | "ingest-closed" | "ingest-frames" | "ingest-open") => {
            Some("nothing was asked of anybody yet")
        }
        ("registered", "progress" | "snapshot-access") => Some("no work was asked for yet"),
        ("registered" | "preparing", "ingest-closed" | "ingest-frames" | "ingest-open") => {
            Some("there was no execution yet")
        }
        ("preparing", "snapshot-access") => Some("a preparation restores nothing, and has nothing to keep yet"),
        ("gone" | "tombstone", "ingest-frames" | "ingest-closed") => {
            Some("its sockets have lost their attachments, and count no more")
        }
        ("tombstone", "ingest-open" | "snapshot-access") => Some("a preparation that failed has had no execution"),
        ("pending, accepted", _) => Some("our own wrapper connects before it hands the agent the prompt"),
        ("container never", "ended" | "start-failed" | "started" | "tick") => Some("nothing was started yet"),
        ("container running" | "container stopping", "start-failed" | "started") => {
            Some("who waits for a start hears of it once")
        }
        ("job none" | "job finishing", "job auto-commit-done" | "job condense-done") => {
            Some("what runs after a turn is called off before its job goes on")
        }
        (
            "job none",
            "job agent-heard" | "job events-open" | "job ingest-drained" | "job ingest-gave-up" | "job ingest-ready"
            | "job kill" | "job turn-ended",
        ) => Some("the connections of an execution end with its job"),
        ("job active", "job ingest-drained") => Some("a link is drained only after the last word was said"),
        ("job active", "job start") => Some("a new turn waits for the one before, or gives up"),
        _ => None,
    }
}

fn seldom(state: &str, input: &str) -> Option<&'static str> {
    match (state, input) {
        ("registered", _) => Some("nobody has its id before its registration is answered"),
        ("disconnected" | "running, not accepted", "delete" | "register") => {
            Some("it lasts for seconds, and who registers or deletes comes before or after")
        }
        ("container never", "release") => {
            Some("who has a lease has had a container, unless the start was lost with its object")
        }
        ("container stopped", "started") => Some("a container that comes up after its start was given up"),
        ("container stopping", "release" | "want") => {
            Some("an idle container has no lease, and its end takes a moment")
        }
        _ => None,
    }
}
