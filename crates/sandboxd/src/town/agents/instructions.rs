//! What the mayor is for: a file in its workspace, which its program reads anew (spec/town.md 6.2, 6.9).

use super::Agent;
use super::view::kind;
use crate::town::git::Worktree;
use sandbox_core::drain::Kind;
use std::io;
use std::path::Path;
use tokio::fs;
use uuid::Uuid;

const FILE: &str = "AGENTS.md";

/// Why the instructions are as before.
#[derive(Debug, thiserror::Error)]
pub enum InstructError {
    #[error("{0}")]
    Disk(#[from] io::Error),
    #[error("only the mayor is instructed by a file; another agent's instructions come with its start")]
    NotMayor,
    #[error("the mayor has no workspace yet")]
    NoWorkspace,
}

impl Agent {
    /// Replaces the instructions that the mayor finds in its workspace.
    pub async fn instruct(&self, text: &str) -> Result<(), InstructError> {
        if kind(&self.request.role) != Kind::Mayor {
            return Err(InstructError::NotMayor);
        }
        let worktree = self.view().worktree.clone().ok_or(InstructError::NoWorkspace)?;
        Ok(write(&worktree, text).await?)
    }
}

/// Writes them. What an agent has put in their place, such as a link to somewhere else, is replaced and not followed.
pub async fn write(worktree: &Worktree, text: &str) -> io::Result<()> {
    worktree.verify().map_err(io::Error::other)?;
    let beside = worktree.path().join(format!(".{FILE}.{}", Uuid::new_v4()));
    let written = replace(&beside, &worktree.path().join(FILE), text).await;
    if written.is_err() {
        let _ = fs::remove_file(&beside).await;
    }
    written
}

async fn replace(beside: &Path, file: &Path, text: &str) -> io::Result<()> {
    use tokio::io::AsyncWriteExt;
    let mut new = fs::OpenOptions::new().write(true).create_new(true).open(beside).await?;
    new.write_all(text.as_bytes()).await?;
    new.flush().await?;
    fs::rename(beside, file).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[tokio::test]
    async fn a_link_in_their_place_is_replaced_and_what_it_leads_to_stays() {
        let folder = tempfile::tempdir().unwrap();
        let (workspace, other) = (folder.path().join("w"), folder.path().join("other"));
        std::fs::create_dir_all(workspace.join(".git")).unwrap();
        std::fs::write(&other, "mine").unwrap();
        symlink(&other, workspace.join(FILE)).unwrap();
        let worktree = Worktree::record_own(&workspace).unwrap();
        write(&worktree, "You are the mayor.").await.unwrap();
        assert_eq!(std::fs::read_to_string(&other).unwrap(), "mine");
        assert_eq!(std::fs::read_to_string(workspace.join(FILE)).unwrap(), "You are the mayor.");

        std::fs::rename(&workspace, folder.path().join("moved")).unwrap();
        std::fs::create_dir_all(workspace.join(".git")).unwrap();
        assert!(write(&worktree, "x").await.is_err(), "another folder is in its place");
        assert!(!workspace.join(FILE).exists());
    }
}
