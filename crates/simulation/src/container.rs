//! What the traces and the coverage table say of a container object, whichever profile it is of (`object_core::lifecycle`).

use object_core::lifecycle::Input;
use object_core::lifecycle::State;

/// Where a container is in its life. None: there never was one.
pub fn state_name(state: Option<State>) -> &'static str {
    match state {
        None => "container never",
        Some(State::Running) => "container running",
        Some(State::Starting) => "container starting",
        Some(State::Stopped) => "container stopped",
        Some(State::Stopping) => "container stopping",
    }
}

/// What comes to the object.
pub fn input_name(input: &Input) -> &'static str {
    match input {
        Input::Ended { .. } => "ended",
        Input::Release { .. } => "release",
        Input::StartFailed { .. } => "start-failed",
        Input::Started { .. } => "started",
        Input::Tick => "tick",
        Input::Want { .. } => "want",
        Input::Woke => "woke",
    }
}
