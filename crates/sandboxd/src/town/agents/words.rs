//! What the container itself says to its agents.

/// To an agent whose container is about to end (spec/town.md 6.5).
pub const EVICTION: &str = "This container is about to be shut down. Commit what you have, push your branch, and finish now: if the task is done, \
call gt_done; if not, stop where you are. Somebody continues from the branch.";

/// To an agent that was interrupted because its settings changed.
pub const GO_ON: &str = "Go on with the task where you were.";

/// To an agent whose container was lost without having been able to say goodbye.
pub fn after_loss(prompt: &str) -> String {
    format!(
        "The container that you worked in was lost and has been replaced. Your branch is checked out as the remote has it; look at it \
first, then go on with the task.\n\n{prompt}"
    )
}
