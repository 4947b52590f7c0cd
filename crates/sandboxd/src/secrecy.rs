//! Keeps what a role was started with, its tokens above all, from the programs that it starts.
//!
//! An agent runs as the same user, and a process may read the environment and the memory of its user's other processes. It may not
//! of one that says that it is not to be dumped, unless it has the capability CAP_SYS_PTRACE: a container that grants that to what runs
//! in it has no secret from it.
//!
//! On a machine that is no container, where `HOLDFAST_ROOT` says which folder stands for the disk, it stays as it is: the host finds what
//! a dead one has left by its environment.

use crate::log;
use nix::sys::prctl;
use serde_json::json;

/// The disk, if it is not the machine's own.
const ROOT: &str = "HOLDFAST_ROOT";

/// From now on nobody without that capability reads this process. What it starts can be read as ever.
pub fn guard() {
    if std::env::var_os(ROOT).is_some() {
        return;
    }
    if let Err(error) = prctl::set_dumpable(false) {
        log::warn("sandboxd", "readable_by_agents", json!({ "error": error.to_string() }));
    }
}
