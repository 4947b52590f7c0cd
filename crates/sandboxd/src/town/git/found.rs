//! Worktrees that are on the disk already: of an earlier start of an agent, of one that nobody remembers, or of an earlier process on this disk.

use super::GitManager;
use super::Lightweight;
use super::clone::in_clone;
use super::error::GitFailure;
use super::identity::Worktree;
use super::layout::RigPaths;
use super::names::Branch;
use super::remote::RigRepo;
use super::remote::Tokens;
use crate::session::config::Author;
use crate::session::git::GitUrl;
use protocol::id::RigId;
use std::fs;
use std::path::Path;
use std::path::PathBuf;

/// Where most repositories' work comes together, if a clone does not say.
const DEFAULT_BRANCH: &str = "main";

/// A worktree that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Of which rig.
    pub rig: RigId,
    /// The branch that its folder is named after.
    pub branch: Branch,
    /// Itself.
    pub worktree: Worktree,
}

impl GitManager {
    /// The worktree of `branch`, if it is there.
    pub fn existing(&self, rig: &RigId, branch: &Branch) -> Option<Worktree> {
        let paths = self.paths(rig);
        Worktree::record_linked(&paths.worktree(branch), &paths.common_dir()).ok()
    }

    /// The workspace without a clone, if it is there.
    pub fn existing_workspace(&self, rig: &RigId, kind: Lightweight) -> Option<Worktree> {
        Worktree::record_own(&self.paths(rig).workspace(kind)).ok()
    }

    /// Every folder in which a worktree of a rig may be. Links are not followed.
    pub fn folders(&self) -> Vec<PathBuf> {
        // As a recorded worktree names itself.
        let Ok(rigs) = self.settings.root.join("workspace/rigs").canonicalize() else { return Vec::new() };
        let worktrees = folders_in(&rigs).into_iter().map(|rig| rig.join("worktrees"));
        let real = worktrees.filter(|folder| fs::symlink_metadata(folder).is_ok_and(|found| found.is_dir()));
        real.flat_map(|folder| folders_in(&folder)).collect()
    }

    /// The worktree in one of [`GitManager::folders`], or why there is none.
    pub fn found(&self, folder: &Path) -> Result<Found, String> {
        let name = |path: Option<&Path>| Some(path?.file_name()?.to_str()?.to_owned());
        let rig = name(folder.parent().and_then(Path::parent)).and_then(|rig| RigId::parse(&rig).ok());
        let branch = name(Some(folder)).and_then(|branch| Branch::parse(&branch.replace("__", "/")).ok());
        let (Some(rig), Some(branch)) = (rig, branch) else { return Err("its folder is named after no branch".into()) };
        let common_dir = RigPaths::new(&self.settings.root, &rig).common_dir();
        let worktree = Worktree::record_linked(folder, &common_dir).map_err(|mismatch| mismatch.to_string())?;
        if !worktree.is_finished() {
            return Err("git was killed while it made it".into());
        }
        Ok(Found { rig, branch, worktree })
    }

    /// The repository of a rig that nobody named to this process, as its clone has it.
    ///
    /// An agent could have changed that. It would gain nothing: the host that it named is shown what an agent has itself.
    pub async fn repo_of_clone(&self, rig: &RigId, tokens: &Tokens, author: Author) -> Result<RigRepo, GitFailure> {
        let paths = self.paths(rig);
        let git = in_clone(&self.git_for(&GitUrl::nowhere(), None, &author)?, &paths);
        let ask = async |arguments: &[&str]| git.plumbing(&paths.rig, None, arguments).await;
        let url = ask(&["config", "--get", "remote.origin.url"]).await?.first_line();
        let head =
            ask(&["symbolic-ref", "--quiet", "refs/remotes/origin/HEAD"]).await.ok().map(|head| head.first_line());
        let default = head.as_deref().and_then(|head| head.strip_prefix("refs/remotes/origin/"));
        let default = default.unwrap_or(DEFAULT_BRANCH);
        Ok(RigRepo::parse(rig.clone(), &url, default, tokens, author, self.settings.allow_loopback)?)
    }
}

/// What cannot be read has none.
fn folders_in(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let real = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    real.map(|entry| entry.path()).collect()
}
