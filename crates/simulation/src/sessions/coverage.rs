//! The pairs of states and inputs of a session object, and why some of them cannot be.

/// Where a session can be.
const STATES: [&str; 12] = [
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
];

/// What can come.
const INPUTS: [&str; 18] = [
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
];

/// All pairs, each with the reason if it cannot be.
pub fn pairs() -> Vec<(&'static str, &'static str, Option<&'static str>)> {
    let of_state = |state| INPUTS.iter().map(move |input| (state, *input, reason(state, input)));
    STATES.iter().flat_map(|state| of_state(*state)).collect()
}

fn reason(state: &str, input: &str) -> Option<&'static str> {
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
        ("gone", "register") => Some("the Worker draws a new id for each session"),
        ("gone" | "tombstone", "ingest-frames" | "ingest-closed") => {
            Some("its sockets have lost their attachments, and count no more")
        }
        ("disconnected", "ingest-frames" | "ingest-closed") => Some("disconnected is to have no socket"),
        _ => None,
    }
}
