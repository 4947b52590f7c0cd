//! Killing what a dead container left behind.
//!
//! Two nets, because either has a hole. Its processes carry `HOLDFAST_ROOT=<folder>` in their environment, which finds those
//! of a host that was killed itself, but not one that was started with a clean environment. And this process is a child
//! subreaper: orphans of a dead `init` become its children, and whatever descends from it but from no living `init` is one.

use super::container::ROOT_VARIABLE;
use crate::log;
use crate::processes::Process;
use crate::processes::Snapshot;
use crate::processes::kill_each;
use nix::sys::wait::WaitPidFlag;
use nix::sys::wait::waitpid;
use nix::unistd::Pid;
use serde_json::json;
use std::collections::HashSet;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;
use tokio::time::Instant;
use tokio::time::sleep;

/// How long it is tried. SIGKILL works at once but on a process that waits for a disk; such a one is left.
const LIMIT: Duration = Duration::from_secs(5);
/// Between two looks.
const STEP: Duration = Duration::from_millis(5);

/// The first processes of the containers that run: children of this process that are not orphans.
#[derive(Clone, Debug, Default)]
pub struct LiveInits(Arc<Mutex<HashSet<Pid>>>);

impl LiveInits {
    /// A container began. Called in the same turn in which its process was started.
    pub fn insert(&self, pid: Pid) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(pid);
    }

    /// It ended.
    pub fn remove(&self, pid: Pid) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&pid);
    }

    fn contains(&self, pid: Pid) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(&pid)
    }
}

/// Kills every process of the container whose disk is `folder` and whose `init` is dead, and says how many there were.
pub async fn kill(folder: &Path, live: &LiveInits) -> usize {
    until_none(|snapshot| {
        let mut left = snapshot.with_variable(|variable| root_of(variable) == Some(folder.as_os_str().as_bytes()));
        left.extend(strays(snapshot, Pid::this(), live));
        left
    })
    .await
}

/// Kills every process of any container of an earlier host on `root`, and says how many there were.
pub async fn kill_leftovers(root: &Path) -> usize {
    let root = root.as_os_str().as_bytes();
    until_none(|snapshot| {
        snapshot.with_variable(|variable| {
            root_of(variable).and_then(|folder| folder.strip_prefix(root)).is_some_and(|rest| rest.starts_with(b"/"))
        })
    })
    .await
}

fn root_of(variable: &[u8]) -> Option<&[u8]> {
    variable.strip_prefix(ROOT_VARIABLE.as_bytes())?.strip_prefix(b"=")
}

/// What descends from `host` without descending from a living `init`. Dead ones are collected here: tokio waits only for
/// what it started.
fn strays(snapshot: &Snapshot, host: Pid, live: &LiveInits) -> Vec<Process> {
    let mut strays = Vec::new();
    for orphan in snapshot.children(host).into_iter().filter(|child| !live.contains(child.pid)) {
        if orphan.zombie {
            let _ = waitpid(orphan.pid, Some(WaitPidFlag::WNOHANG));
        } else {
            strays.push(orphan);
        }
        strays.extend(snapshot.descendants(orphan.pid).into_iter().filter(|process| !process.zombie));
    }
    strays
}

/// Kills what `select` finds until it finds nothing.
async fn until_none(select: impl Fn(&Snapshot) -> Vec<Process>) -> usize {
    let deadline = Instant::now().checked_add(LIMIT);
    let mut killed = HashSet::new();
    loop {
        let found = select(&Snapshot::take());
        if found.is_empty() {
            return killed.len();
        }
        if deadline.is_none_or(|deadline| Instant::now() > deadline) {
            let pids: Vec<i32> = found.iter().map(|process| process.pid.as_raw()).collect();
            log::error("host", "processes_remain", json!({ "pids": pids }));
            return killed.len();
        }
        kill_each(&found);
        killed.extend(found.iter().map(|process| process.pid));
        sleep(STEP).await;
    }
}
