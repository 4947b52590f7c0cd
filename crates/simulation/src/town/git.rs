//! The git remote, and the worktrees of a disk. A file is a number, and never written twice.
//!
//! | Rule | Here |
//! | --- | --- |
//! | A branch of the remote only grows: a push that is not a fast-forward is preceded by a pull | [`Remote::take`] |
//! | A worktree belongs to a branch; one that is there is brought up to date, another begins where the remote has the branch, or at its start point | [`Disk::check_out`] |
//! | A disk ends with its container | [`super::platform`] |

use protocol::town::container::StartAgent;
use std::collections::BTreeMap;
use std::collections::BTreeSet;

/// Files by number.
pub type Files = BTreeSet<u64>;

/// The remote of the one repository.
#[derive(Default)]
pub struct Remote {
    branches: BTreeMap<String, Files>,
}

impl Remote {
    /// What a branch has.
    pub fn files(&self, branch: &str) -> Files {
        self.branches.get(branch).cloned().unwrap_or_default()
    }

    /// A push to a branch.
    pub fn take(&mut self, branch: &str, files: &Files) {
        self.branches.entry(branch.to_owned()).or_default().extend(files);
    }

    /// A merge of one branch into another.
    pub fn merge(&mut self, branch: &str, target: &str) {
        let files = self.files(branch);
        self.take(target, &files);
    }
}

/// A folder with a branch checked out.
#[derive(Clone, Debug, Default)]
pub struct Worktree {
    /// In commits.
    pub committed: Files,
    /// In none.
    pub dirty: Files,
}

impl Worktree {
    /// Everything in it becomes a commit.
    pub fn commit(&mut self) {
        self.committed.append(&mut self.dirty);
    }

    /// All that is in it.
    pub fn all(&self) -> Files {
        self.committed.union(&self.dirty).copied().collect()
    }
}

/// The disk of a container.
#[derive(Default)]
pub struct Disk {
    /// By branch; by role where there is no clone.
    pub worktrees: BTreeMap<String, Worktree>,
}

impl Disk {
    /// Makes the worktree of an agent, and says which it is.
    pub fn check_out(&mut self, remote: &Remote, request: &StartAgent) -> String {
        let place = place(request);
        if request.lightweight {
            self.worktrees.entry(place.clone()).or_default();
            return place;
        }
        let mut files = remote.files(&request.branch);
        if let Some(worktree) = self.worktrees.get_mut(&place) {
            worktree.committed.append(&mut files);
            return place;
        }
        let start = request.start_point.as_deref().and_then(|start| start.strip_prefix("origin/"));
        files.extend(remote.files(start.unwrap_or(&request.default_branch)));
        self.worktrees.insert(place.clone(), Worktree { committed: files, dirty: Files::new() });
        place
    }
}

fn place(request: &StartAgent) -> String {
    if request.lightweight { format!("/{}", request.role.as_str()) } else { request.branch.clone() }
}
