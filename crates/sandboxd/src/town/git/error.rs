//! Why an operation on a rig's repository did not do what it should.

use super::identity::Mismatch;
use super::names::Branch;
use super::names::InvalidName;
use crate::session::git::GitError;
use std::io;
use std::path::PathBuf;

/// One operation failed. Its text holds no secret.
#[derive(Debug, thiserror::Error)]
pub enum GitFailure {
    /// The folder cannot be read or made.
    #[error("{}: {error}", path.display())]
    Disk { path: PathBuf, error: io::Error },
    /// Git said so.
    #[error(transparent)]
    Git(#[from] GitError),
    /// The worktree is not the one that was made here, so nothing is written into it.
    #[error(transparent)]
    Mismatch(#[from] Mismatch),
    /// The remote does not have it.
    #[error("branch {branch} is not on the remote")]
    NoBranch { branch: Branch },
    /// What was asked for cannot be given to git.
    #[error(transparent)]
    Name(#[from] InvalidName),
}
