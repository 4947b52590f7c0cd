//! Where a rig's repositories lie: `/workspace/rigs/<rigId>/…` below the container's root (spec/town.md 6.9).
//!
//! Names are parsed before they come here, so a path cannot climb out of its rig.

use super::Lightweight;
use super::names::Branch;
use protocol::id::RigId;
use std::path::Path;
use std::path::PathBuf;

/// The folders of one rig.
#[derive(Clone, Debug)]
pub struct RigPaths {
    /// All of it.
    pub rig: PathBuf,
    /// The clone that all worktrees share. Nothing is checked out in it.
    pub repo: PathBuf,
    /// A clone that is not whole yet.
    pub cloning: PathBuf,
    /// The default branch, for whoever only reads.
    pub browse: PathBuf,
    /// Merges in progress.
    pub merges: PathBuf,
    /// What was where a worktree belongs and is none of ours. It is kept, because it may be somebody's work.
    pub aside: PathBuf,
}

impl RigPaths {
    /// Those of `rig`, below `root`.
    pub fn new(root: &Path, rig: &RigId) -> Self {
        let rig = root.join("workspace/rigs").join(rig.as_str());
        Self {
            repo: rig.join("repo"),
            cloning: rig.join("repo.cloning"),
            browse: rig.join("browse"),
            merges: rig.join("merge-tmp"),
            aside: rig.join("aside"),
            rig,
        }
    }

    /// The git folder of the clone.
    pub fn common_dir(&self) -> PathBuf {
        self.repo.join(".git")
    }

    /// Where the worktree of `branch` is.
    pub fn worktree(&self, branch: &Branch) -> PathBuf {
        self.rig.join("worktrees").join(branch.folder())
    }

    /// Where an agent without a clone works.
    pub fn workspace(&self, kind: Lightweight) -> PathBuf {
        self.rig.join(match kind {
            Lightweight::Mayor => "mayor-workspace",
            Lightweight::Triage => "triage-workspace",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_of_a_rig_is_below_its_folder() {
        let paths = RigPaths::new(Path::new("/r"), &RigId::parse("rig-1").unwrap());
        assert_eq!(paths.repo, Path::new("/r/workspace/rigs/rig-1/repo"));
        let branch = Branch::parse("gt/toast/1").unwrap();
        assert_eq!(paths.worktree(&branch), Path::new("/r/workspace/rigs/rig-1/worktrees/gt__toast__1"));
        assert_eq!(paths.workspace(Lightweight::Mayor), Path::new("/r/workspace/rigs/rig-1/mayor-workspace"));
    }
}
