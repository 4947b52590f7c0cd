//! The pairs of states and inputs of a town object, and why some of them cannot be, or hardly ever are.

use crate::profile::Pair;
use crate::profile::Why;
use crate::profile::Why::Never;
use crate::profile::Why::Seldom;
use town_core::message::Call;
use town_core::message::Input;
use town_core::message::call::AgentCall;
use town_core::message::call::BeadCall;
use town_core::message::call::TalkCall;
use town_core::message::call::WorkCall;
use town_core::message::container::ContainerCall;
use town_core::message::container::ContainerInput;
use town_core::message::effect::Outcome;

/// Where a town can be: what there is to do, and whether it drains.
const STATES: [&str; 6] = ["at rest", "at rest, draining", "open", "open, draining", "working", "working, draining"];

/// What can come.
const INPUTS: [&str; 28] = [
    "agent-completed",
    "agent-done",
    "agent-edit",
    "agent-waiting",
    "bead-edit",
    "complete-review",
    "convoy",
    "ended",
    "eviction",
    "eviction-context",
    "health",
    "heartbeat",
    "observed",
    "outcome-done",
    "outcome-draining",
    "outcome-failed",
    "outcome-full",
    "outcome-not-running",
    "outcome-pull-request",
    "outcome-unknown",
    "ready",
    "request-changes",
    "resolve-triage",
    "sling",
    "talk",
    "tick",
    "town",
    "woke",
];

/// All pairs, each with the reason if it cannot be.
pub fn pairs() -> Vec<Pair> {
    let of_state = |state| INPUTS.iter().map(move |input| (state, *input, reason(state, input)));
    STATES.iter().flat_map(|state| of_state(*state)).collect()
}

fn reason(state: &str, input: &str) -> Option<Why> {
    let is_at_rest = matches!(state, "at rest" | "at rest, draining");
    let is_draining = state.ends_with("draining");
    match input {
        "outcome-pull-request" if is_at_rest => Some(Never("a pull request that is polled is open work")),
        "outcome-full" => Some(Never("the model's container has room for all")),
        "complete-review" | "request-changes" | "resolve-triage" if is_at_rest => {
            Some(Seldom("what is reviewed or asked is open work: only a word that comes late, or again"))
        }
        "complete-review" if is_draining => {
            Some(Seldom("a reviewer is at work: only one that the town has taken its review from"))
        }
        "health" | "ready" if !is_draining => {
            Some(Seldom("it is asked while the town drains, and answered after that"))
        }
        "agent-done" | "observed" | "outcome-draining" | "outcome-failed" | "ready" if state != "working" => {
            Some(Seldom("it is said of somebody at work, who has lost that meanwhile"))
        }
        _ => None,
    }
}

/// The name of an input.
pub fn name(input: &Input) -> &'static str {
    match input {
        Input::Call(call) => of_call(call),
        Input::Container(ContainerInput::Call(ContainerCall::DrainStatus)) => "drain-status",
        Input::Container(ContainerInput::Call(ContainerCall::Eviction { .. })) => "eviction",
        Input::Container(ContainerInput::Call(ContainerCall::Heartbeat { .. })) => "heartbeat",
        Input::Container(ContainerInput::Call(ContainerCall::Ready { .. })) => "ready",
        Input::Container(ContainerInput::Ended { .. }) => "ended",
        Input::Container(ContainerInput::Health { .. }) => "health",
        Input::Observed { .. } => "observed",
        Input::Outcome { outcome, .. } => match outcome {
            Outcome::Done => "outcome-done",
            Outcome::Draining => "outcome-draining",
            Outcome::Failed { .. } => "outcome-failed",
            Outcome::Full => "outcome-full",
            Outcome::NotRunning => "outcome-not-running",
            Outcome::PullRequest(_) => "outcome-pull-request",
            Outcome::Unknown { .. } => "outcome-unknown",
        },
        Input::Tick => "tick",
        Input::Woke => "woke",
    }
}

fn of_call(call: &Call) -> &'static str {
    match call {
        Call::Agent(AgentCall::Completed { .. }) => "agent-completed",
        Call::Agent(AgentCall::Done { .. }) => "agent-done",
        Call::Agent(AgentCall::EvictionContext { .. }) => "eviction-context",
        Call::Agent(AgentCall::RequestChanges { .. }) => "request-changes",
        Call::Agent(AgentCall::Waiting { .. }) => "agent-waiting",
        Call::Agent(_) => "agent-edit",
        Call::Bead(BeadCall::Create(_)) | Call::Work(WorkCall::Sling { .. }) => "sling",
        Call::Bead(_) => "bead-edit",
        Call::Talk(TalkCall::ResolveTriage { .. }) => "resolve-triage",
        Call::Talk(_) => "talk",
        Call::Town(_) => "town",
        Call::Work(WorkCall::CompleteReview { .. }) => "complete-review",
        Call::Work(_) => "convoy",
    }
}

/// A line of the trace.
pub fn describe(input: &Input) -> String {
    match input {
        Input::Call(call) => format!("{call:?}"),
        Input::Container(ContainerInput::Call(ContainerCall::Heartbeat { agent, body, .. })) => {
            let from = body.container_instance_id.as_ref().map(ToString::to_string).unwrap_or_default();
            let (drains, at) = (if body.draining { ", draining" } else { "" }, body.last_event_at.as_deref());
            format!("heartbeat of {agent} in {from}{drains}, last event {}", at.unwrap_or("never"))
        }
        Input::Container(input) => format!("{input:?}"),
        Input::Observed { agent, status, .. } => format!("observed {agent} {}", status.as_str()),
        Input::Outcome { key, outcome } => format!("outcome {key} {outcome:?}"),
        Input::Tick | Input::Woke => name(input).to_owned(),
    }
}
