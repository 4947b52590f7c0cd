//! Keeps what a role was started with, its tokens above all, from the programs that it starts.
//!
//! An agent runs as the same user, and a process may read the environment and the memory of its user's other processes. It may not
//! of one that says that it is not to be dumped, unless it has a capability for that ([`SIGHT`]), as root may have. So `init` gives
//! those up, for itself and for all that descends from it, before it starts anything. Container runtimes grant none of them by default.
//!
//! The price: a role does not see any more whose a process is that runs as another user, or that is not to be dumped itself
//! (`ssh-agent` is one), unless it descends from one of its own. Such a one that has left its parents outlives its session, and ends
//! with the container.
//!
//! On a machine that is no container, where `HOLDFAST_ROOT` says which folder stands for the disk, it stays as it is: the host finds what
//! a dead one has left by its environment.

use crate::log;
use nix::sys::prctl;
use rustix::io;
use rustix::thread::CapabilitySet;
use rustix::thread::capabilities;
use rustix::thread::capability_is_in_bounding_set;
use rustix::thread::remove_capability_from_bounding_set;
use rustix::thread::set_capabilities;
use serde_json::json;

/// The disk, if it is not the machine's own.
const ROOT: &str = "HOLDFAST_ROOT";

/// What lets a process look into others that do not want it: by tracing them, by reading what the kernel shows of them (to PERFMON and SYS_ADMIN too,
/// since Linux 6.16), by reading the machine's memory, or as a part of the kernel.
const SIGHT: CapabilitySet = CapabilitySet::SYS_PTRACE
    .union(CapabilitySet::PERFMON)
    .union(CapabilitySet::SYS_ADMIN)
    .union(CapabilitySet::SYS_RAWIO)
    .union(CapabilitySet::SYS_MODULE);

/// From now on nobody without one of [`SIGHT`] reads this process. What it starts can be read as ever.
pub fn guard() {
    if is_no_container() {
        return;
    }
    if let Err(error) = prctl::set_dumpable(false) {
        log::warn("sandboxd", "readable_by_agents", json!({ "error": error.to_string() }));
    }
}

/// From now on neither this process nor any that descends from it has, or can get, [`SIGHT`]. For a process of one thread: capabilities are a thread's.
pub fn give_up_sight() {
    if is_no_container() {
        return;
    }
    if let Err(error) = drop_capabilities(SIGHT) {
        // Who may not do this is not root, and neither is what it starts: they have no sight. Or it is root without CAP_SETPCAP, and they keep what they have.
        log::warn("sandboxd", "sight_not_given_up", json!({ "error": error.to_string() }));
    }
}

fn is_no_container() -> bool {
    std::env::var_os(ROOT).is_some()
}

fn drop_capabilities(unwanted: CapabilitySet) -> io::Result<()> {
    for capability in unwanted.iter() {
        // An error: this kernel does not know it.
        if capability_is_in_bounding_set(capability).unwrap_or(false) {
            remove_capability_from_bounding_set(capability)?;
        }
    }
    let mut own = capabilities(None)?;
    for set in [&mut own.effective, &mut own.permitted, &mut own.inheritable] {
        set.remove(unwanted);
    }
    set_capabilities(None, own)
}
