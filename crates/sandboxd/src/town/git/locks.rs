//! Locks of git commands that were killed. Git's own locks fail instead of waiting, and only who made one removes it: left alone, one file stops a
//! rig for as long as its container lives.
//!
//! Of a worktree in which nothing runs, every lock is a dead command's. The clone is shared with agents that work, so there a lock counts as
//! left only by its age.

use super::GitManager;
use super::error::GitFailure;
use super::identity::Worktree;
use super::names::Branch;
use crate::log;
use crate::session::git::GitError;
use serde_json::json;
use std::fs;
use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;
use std::time::SystemTime;

/// Git has a lock of the clone for milliseconds, and for as long as a hook of an agent takes. Who is robbed of it fails, and breaks nothing.
const AGE_MAX: Duration = Duration::from_secs(30);
/// Tries of an operation that somebody's lock stops, and the time between two: together longer than a living command keeps one.
const TRIES: u32 = 8;
const PAUSE: Duration = Duration::from_millis(250);
/// Files of refs that are looked at.
const REFS_MAX: usize = 100_000;

/// How often one operation was stopped by somebody's lock.
#[derive(Default)]
pub(super) struct Stops(u32);

impl GitManager {
    /// Whether to begin an operation anew that failed with `error`: a lock in `git_dir` stopped it, and may be gone now.
    pub(super) async fn is_past_lock(&self, error: &GitFailure, git_dir: &Path, stops: &mut Stops) -> bool {
        let is_lock = matches!(error, GitFailure::Git(GitError::Failed { tail, .. }) if names_lock(tail));
        stops.0 = stops.0.saturating_add(1);
        if !is_lock || stops.0 >= TRIES {
            return false;
        }
        if !self.remove_left(git_dir) {
            tokio::time::sleep(PAUSE).await;
        }
        true
    }

    /// Removes the locks in `git_dir` that a dead command left, and says whether there was one. Those that are older than this manager are: no process
    /// outlives the one that started it here.
    fn remove_left(&self, git_dir: &Path) -> bool {
        let is_left = |lock: &Path| {
            let modified = fs::symlink_metadata(lock).and_then(|found| found.modified());
            modified
                .is_ok_and(|at| at < self.since || SystemTime::now().duration_since(at).is_ok_and(|age| age > AGE_MAX))
        };
        let left: Vec<PathBuf> = locks_in(git_dir).into_iter().filter(|lock| is_left(lock)).collect();
        let removed = left.iter().filter(|lock| fs::remove_file(lock).is_ok()).count();
        if removed > 0 {
            log::warn("town", "stale_locks_removed", json!({ "git_dir": git_dir, "locks": left }));
        }
        removed > 0
    }
}

/// Removes what a git command that was killed in the middle left of `branch` and in a worktree in which nothing runs, and says whether one was
/// that changes files.
pub(super) fn remove_all(worktree: &Worktree, branch: Option<&Branch>) -> bool {
    let was_cut_short = worktree.git_dir().join("index.lock").exists();
    let own = ["index.lock", "HEAD.lock"].map(|name| worktree.git_dir().join(name));
    let of_branch = branch.map(|branch| worktree.common_dir().join(format!("{}.lock", branch.local_ref())));
    for lock in own.into_iter().chain(of_branch) {
        // A lock that cannot be removed is told by the command that it stops.
        let _ = fs::remove_file(lock);
    }
    was_cut_short
}

fn names_lock(said: &str) -> bool {
    said.contains(".lock': File exists") || said.contains("could not lock config file")
}

/// The locks of the folder itself and of its refs.
fn locks_in(git_dir: &Path) -> Vec<PathBuf> {
    let (mut locks, mut folders, mut seen) = (Vec::new(), vec![git_dir.to_owned()], 0_usize);
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries.map_while(io::Result::ok) {
            seen = seen.saturating_add(1);
            if seen > REFS_MAX {
                return locks;
            }
            let (path, is_folder) = (entry.path(), entry.file_type().is_ok_and(|found| found.is_dir()));
            if is_folder && (folder != git_dir || entry.file_name() == "refs") {
                folders.push(path);
            } else if !is_folder && path.extension().is_some_and(|extension| extension == "lock") {
                locks.push(path);
            }
        }
    }
    locks
}
