//! Which worktree a path is, as it was recorded, and whether it still is: `git add -A` in the wrong place would commit and
//! push what was never meant to leave the disk.
//!
//! Git finds its repository by walking upwards and by reading files that an agent can change. So before each write the
//! record is compared: the folder is the same one and no link leads to it, its `.git` names the same git folder, that
//! folder names this worktree and the rig's clone. Then the write is told both places by name, so that git
//! looks for neither.

use super::error::GitFailure;
use crate::session::command::Finished;
use crate::session::git::Git;
use crate::session::git::GitError;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

/// A path and a word before it.
const LINE_BYTES_MAX: u64 = 8 * 1024;

/// A worktree is not the one that was recorded. Nothing was written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{} is not the worktree that was made here: {what}", path.display())]
pub struct Mismatch {
    /// Where it should be.
    pub path: PathBuf,
    /// What differs.
    pub what: String,
}

/// A folder of the disk, whatever its path leads to later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Inode {
    device: u64,
    number: u64,
}

/// A worktree as it was when it was made or taken over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Worktree {
    path: PathBuf,
    git_dir: PathBuf,
    /// The git folder of the clone; for a workspace without a clone the same as `git_dir`.
    common_dir: PathBuf,
    root: Inode,
    git: Inode,
}

impl Worktree {
    /// Records the linked worktree at `path` of the clone whose git folder is `common_dir`, or says why there is none.
    pub fn record_linked(path: &Path, common_dir: &Path) -> Result<Self, Mismatch> {
        let differs = |what: &str| Mismatch { path: path.to_owned(), what: what.to_owned() };
        let path = in_place(path)?;
        let common_dir = canonical(common_dir)?;
        let git_dir = canonical(&named_git_dir(&path)?)?;
        if git_dir.parent() != Some(&common_dir.join("worktrees")) {
            return Err(differs("its .git file leads out of the rig's clone"));
        }
        Self::record(path, git_dir, common_dir)
    }

    /// Records the repository of its own at `path`.
    pub fn record_own(path: &Path) -> Result<Self, Mismatch> {
        let path = in_place(path)?;
        let git_dir = path.join(".git");
        Self::record(path, git_dir.clone(), git_dir)
    }

    fn record(path: PathBuf, git_dir: PathBuf, common_dir: PathBuf) -> Result<Self, Mismatch> {
        let recorded = Self { root: folder(&path, &path)?, git: folder(&path, &git_dir)?, path, git_dir, common_dir };
        recorded.verify()?;
        Ok(recorded)
    }

    /// The folder of the files.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The folder of its `HEAD` and its index.
    pub fn git_dir(&self) -> &Path {
        &self.git_dir
    }

    /// The folder of its branches.
    pub fn common_dir(&self) -> &Path {
        &self.common_dir
    }

    /// Whether git has written all of a linked worktree's files. Until then it is locked; and without an index each file would count as deleted.
    pub fn is_finished(&self) -> bool {
        let locked = read(&self.path, &self.git_dir.join("locked"));
        self.git_dir.join("index").exists() && !locked.is_ok_and(|reason| reason == "initializing")
    }

    /// Compares the disk with the record.
    pub fn verify(&self) -> Result<(), Mismatch> {
        let differs = |what: &str| Err(Mismatch { path: self.path.clone(), what: what.to_owned() });
        if canonical(&self.path)? != self.path {
            return differs("a symbolic link leads elsewhere");
        }
        if folder(&self.path, &self.path)? != self.root {
            return differs("another folder is in its place");
        }
        if self.git_dir != self.common_dir {
            if named_git_dir(&self.path)? != self.git_dir {
                return differs("its .git file names another git folder");
            }
            if read(&self.path, &self.git_dir.join("gitdir"))? != self.path.join(".git").to_string_lossy() {
                return differs("its git folder is of another worktree");
            }
            let common = self.git_dir.join(read(&self.path, &self.git_dir.join("commondir"))?);
            if canonical(&common)? != self.common_dir {
                return differs("its git folder belongs to another clone");
            }
        }
        if canonical(&self.git_dir)? != self.git_dir || folder(&self.path, &self.git_dir)? != self.git {
            return differs("another git folder is in its place");
        }
        Ok(())
    }

    /// `git` for this worktree and no other.
    pub fn pinned(&self, git: &Git) -> Pinned {
        let mut git = git.clone();
        git.environment.push(("GIT_DIR", self.git_dir.to_string_lossy().into_owned()));
        git.environment.push(("GIT_COMMON_DIR", self.common_dir.to_string_lossy().into_owned()));
        git.environment.push(("GIT_WORK_TREE", self.path.to_string_lossy().into_owned()));
        Pinned { git, worktree: self.clone() }
    }
}

/// Git in one recorded worktree: compared with its record before each command, and never looked for.
pub struct Pinned {
    git: Git,
    worktree: Worktree,
}

impl Pinned {
    /// Where the remote is.
    pub fn url(&self) -> &str {
        self.git.url.as_str()
    }

    /// Runs a command that works on the disk alone, without hooks.
    pub async fn run(&self, arguments: &[&str]) -> Result<Finished, GitFailure> {
        self.worktree.verify()?;
        Ok(self.git.plumbing(self.worktree.path(), None, arguments).await?)
    }

    /// The same, where failing is an answer too: None if the command ended with an error.
    pub async fn ask(&self, arguments: &[&str]) -> Result<Option<Finished>, GitFailure> {
        match self.run(arguments).await {
            Ok(finished) => Ok(Some(finished)),
            Err(GitFailure::Git(GitError::Failed { .. })) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Runs a command that talks to the remote, with the credential and without hooks.
    pub async fn remote(&self, arguments: &[&str], timeout: Duration) -> Result<Finished, GitFailure> {
        self.worktree.verify()?;
        Ok(self.git.remote(self.worktree.path(), arguments, timeout).await?)
    }
}

/// The git folder that the `.git` file of `path` names.
fn named_git_dir(path: &Path) -> Result<PathBuf, Mismatch> {
    let file = path.join(".git");
    let differs = |what: &str| Mismatch { path: path.to_owned(), what: what.to_owned() };
    if !fs::symlink_metadata(&file).is_ok_and(|found| found.is_file()) {
        return Err(differs("it has no .git file"));
    }
    let text = read(path, &file)?;
    text.strip_prefix("gitdir: ").map(PathBuf::from).ok_or_else(|| differs("its .git file names no git folder"))
}

/// `path` with the links above it resolved, which are the machine's; a link in its own place is not followed.
pub(super) fn in_place(path: &Path) -> Result<PathBuf, Mismatch> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(Mismatch { path: path.to_owned(), what: "it is no folder of a rig".to_owned() });
    };
    Ok(canonical(parent)?.join(name))
}

fn canonical(path: &Path) -> Result<PathBuf, Mismatch> {
    path.canonicalize().map_err(|error| unreadable(path, path, &error))
}

/// The folder itself, not what a link at its place leads to.
fn folder(worktree: &Path, path: &Path) -> Result<Inode, Mismatch> {
    let found = fs::symlink_metadata(path).map_err(|error| unreadable(worktree, path, &error))?;
    if !found.is_dir() {
        return Err(Mismatch { path: worktree.to_owned(), what: format!("{} is not a folder", path.display()) });
    }
    Ok(Inode { device: found.dev(), number: found.ino() })
}

/// A file of one line. Whoever put something else there, such as a pipe, does not stop us.
pub(super) fn read(worktree: &Path, path: &Path) -> Result<String, Mismatch> {
    let read = || {
        let found = fs::symlink_metadata(path)?;
        if !found.is_file() || found.len() > LINE_BYTES_MAX {
            return Err(io::Error::from(io::ErrorKind::InvalidData));
        }
        fs::read_to_string(path)
    };
    Ok(read().map_err(|error| unreadable(worktree, path, &error))?.trim_end().to_owned())
}

fn unreadable(worktree: &Path, path: &Path, error: &io::Error) -> Mismatch {
    Mismatch { path: worktree.to_owned(), what: format!("{}: {error}", path.display()) }
}
