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
        left.extend(living_strays(snapshot, Pid::this(), live));
        left
    })
    .await
}

/// Kills every process of any container of an earlier host on `root`, and says how many there were.
pub async fn kill_leftovers(root: &Path) -> usize {
    let root = root.as_os_str().as_bytes();
    until_none(|snapshot| {
        let marked = snapshot.with_variable(|variable| {
            root_of(variable).and_then(|folder| folder.strip_prefix(root)).is_some_and(|rest| rest.starts_with(b"/"))
        });
        // What they have started need not carry the mark, and would be nobody's once they are dead.
        let children: Vec<Process> = marked.iter().flat_map(|process| snapshot.descendants(process.pid)).collect();
        children.into_iter().chain(marked).collect()
    })
    .await
}

fn root_of(variable: &[u8]) -> Option<&[u8]> {
    variable.strip_prefix(ROOT_VARIABLE.as_bytes())?.strip_prefix(b"=")
}

/// What descends from `host` without descending from a living `init`. The dead among them are collected, since tokio waits only
/// for what it started, and left out.
fn living_strays(snapshot: &Snapshot, host: Pid, live: &LiveInits) -> Vec<Process> {
    let (dead, living): (Vec<Process>, _) =
        strays(snapshot, host, live).into_iter().partition(|process| process.zombie);
    for process in dead.iter().filter(|process| process.parent == host) {
        let _ = waitpid(process.pid, Some(WaitPidFlag::WNOHANG));
    }
    living
}

fn strays(snapshot: &Snapshot, host: Pid, live: &LiveInits) -> Vec<Process> {
    let orphans = snapshot.children(host).into_iter().filter(|child| !live.contains(child.pid));
    orphans.flat_map(|orphan| [orphan].into_iter().chain(snapshot.descendants(orphan.pid))).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: i32, parent: i32) -> Process {
        Process { pid: Pid::from_raw(pid), parent: Pid::from_raw(parent), zombie: false }
    }

    #[test]
    fn a_stray_is_what_descends_from_the_host_but_from_no_living_init() {
        let host = Pid::from_raw(10);
        let live = LiveInits::default();
        live.insert(Pid::from_raw(20));
        let orphans = [process(30, 10), process(31, 30), process(32, 31), process(40, 10)];
        let others = [process(1, 0), process(10, 1), process(20, 10), process(21, 20), process(50, 1)];
        let snapshot = Snapshot::of(others.into_iter().chain(orphans).collect());
        assert_eq!(strays(&snapshot, host, &live), orphans);

        live.insert(Pid::from_raw(40));
        live.remove(Pid::from_raw(20));
        let now: Vec<i32> = strays(&snapshot, host, &live).iter().map(|process| process.pid.as_raw()).collect();
        assert_eq!(now, [20, 21, 30, 31, 32]);
    }

    #[test]
    fn a_variable_names_a_container_only_in_whole() {
        assert_eq!(root_of(b"HOLDFAST_ROOT=/r/c/i"), Some(b"/r/c/i".as_slice()));
        assert_eq!(root_of(b"HOLDFAST_ROOTS=/r"), None);
        assert_eq!(root_of(b"X_HOLDFAST_ROOT=/r"), None);
    }
}
