//! The repositories of a town container (spec/town.md 6.9): one clone per rig, a worktree per branch, merges, and the
//! emergency save of what an evicted agent leaves.
//!
//! | Module | Subject |
//! | --- | --- |
//! | [`names`], [`remote`], [`layout`] | branches, repositories, credentials, folders: parsed once |
//! | [`identity`], [`found`] | a worktree as it was recorded; every write compares it first; and those that are on the disk already |
//! | [`clone`], [`origin`], [`worktree`], [`refresh`], [`merge`], [`merged`] | the operations on a rig |
//! | [`save`], [`push`], [`stranded`], [`nested`], [`unsaved`] | what is saved of an agent's work, and whether there is any |
//! | [`locks`], [`aside`] | what killed commands and somebody's hands left, and is in the way |
//!
//! Git runs with an environment of its own, without hooks of the repository, without questions and within a time; what it
//! says is cleaned of secrets (`session::git`). An agent's own git commands run its hooks as ever.
//!
//! Operations that write to one rig's clone wait for each other, because git's own locks fail instead of waiting. A save does not:
//! it touches one worktree, whose agent is frozen, and must not wait for a clone.

mod aside;
mod clone;
mod error;
mod found;
mod identity;
mod layout;
mod locks;
mod merge;
mod merged;
mod names;
mod nested;
mod origin;
mod push;
mod refresh;
mod remote;
mod save;
mod stranded;
#[cfg(test)]
mod tests;
mod unsaved;
mod worktree;

pub use error::GitFailure;
pub use found::Found;
pub use identity::Worktree;
pub use merge::Merge;
pub use names::Branch;
pub use names::InvalidName;
pub use remote::Credential;
pub use remote::RigRepo;
pub use remote::Tokens;
pub use save::Frozen;
pub use save::Outcome;
pub use save::Receipt as Saved;
pub use save::Save;
pub use worktree::Checkout;

use crate::session::config::Author;
use crate::session::git::Git;
use crate::session::git::GitUrl;
use crate::session::git::TOKEN_USER;
use crate::session::redact::Redactor;
use layout::RigPaths;
use protocol::id::RigId;
use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::SystemTime;

/// Settings that a repository must not have of itself: no key is asked for a signature, nothing runs on in the background,
/// and a submodule's own remote is not pushed to.
const SETTINGS: [(&str, &str, &str, &str); 5] = [
    ("GIT_CONFIG_KEY_0", "commit.gpgSign", "GIT_CONFIG_VALUE_0", "false"),
    ("GIT_CONFIG_KEY_1", "push.gpgSign", "GIT_CONFIG_VALUE_1", "false"),
    ("GIT_CONFIG_KEY_2", "gc.auto", "GIT_CONFIG_VALUE_2", "0"),
    ("GIT_CONFIG_KEY_3", "maintenance.auto", "GIT_CONFIG_VALUE_3", "false"),
    ("GIT_CONFIG_KEY_4", "push.recurseSubmodules", "GIT_CONFIG_VALUE_4", "no"),
];

/// What is fixed when the process starts.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `HOLDFAST_ROOT`: every path of the container is below it.
    pub root: PathBuf,
    /// The search path handed to git.
    pub path: String,
    /// Admits `file://` and `http://127.0.0.1` as repositories.
    pub allow_loopback: bool,
    /// One git command; a clone has [`CLONE_TIMEOUT`].
    pub command_timeout: Duration,
}

/// One git command (spec/town.md 6.5).
pub const COMMAND_TIMEOUT: Duration = Duration::from_secs(60);
/// A clone brings the whole history.
pub const CLONE_TIMEOUT: Duration = Duration::from_secs(300);

/// Where an agent works that needs no clone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lightweight {
    Mayor,
    Triage,
}

/// All git of one town container.
#[derive(Debug)]
pub struct GitManager {
    settings: Settings,
    rigs: Mutex<HashMap<RigId, Arc<tokio::sync::Mutex<()>>>>,
    /// Who writes a branch's upstream into a clone's configuration during saves: git's lock of that file fails instead of waiting.
    upstreams: tokio::sync::Mutex<()>,
    /// When it was made. No git command of before runs any more: a supervisor ends what a process leaves (`sandboxd init`).
    since: SystemTime,
}

impl GitManager {
    /// Nothing is touched before the first operation.
    pub fn new(settings: Settings) -> Self {
        Self { settings, rigs: Mutex::default(), upstreams: tokio::sync::Mutex::default(), since: SystemTime::now() }
    }

    /// The folders of `rig`.
    fn paths(&self, rig: &RigId) -> RigPaths {
        RigPaths::new(&self.settings.root, rig)
    }

    /// Waits until nothing else works on the clone of `rig`.
    async fn lock(&self, rig: &RigId) -> tokio::sync::OwnedMutexGuard<()> {
        let lock = self.rigs.lock().unwrap_or_else(PoisonError::into_inner).entry(rig.clone()).or_default().clone();
        lock.lock_owned().await
    }

    /// Git for `repo`.
    fn git(&self, repo: &RigRepo) -> Result<Git, GitFailure> {
        self.git_for(&repo.url, repo.credential.as_ref(), &repo.author)
    }

    fn git_for(&self, url: &GitUrl, credential: Option<&Credential>, author: &Author) -> Result<Git, GitFailure> {
        let settings = &self.settings;
        // No agent's home: what an agent configures for itself is not for us.
        let home = settings.root.join("home/town-git");
        make_folder(&home)?;
        let protocols = if settings.allow_loopback { "https:http:file" } else { "https" };
        let mut environment = vec![
            ("PATH", settings.path.clone()),
            ("HOME", home.to_string_lossy().into_owned()),
            ("LANG", "C.UTF-8".to_owned()),
            ("GIT_ALLOW_PROTOCOL", protocols.to_owned()),
            ("GIT_ASKPASS", String::new()),
            ("GIT_CONFIG_COUNT", SETTINGS.len().to_string()),
            ("GIT_EDITOR", "true".to_owned()),
            ("GIT_LFS_SKIP_SMUDGE", "1".to_owned()),
            ("GIT_TERMINAL_PROMPT", "0".to_owned()),
            ("GIT_AUTHOR_NAME", author.name.clone()),
            ("GIT_AUTHOR_EMAIL", author.email.clone()),
            ("GIT_COMMITTER_NAME", author.name.clone()),
            ("GIT_COMMITTER_EMAIL", author.email.clone()),
        ];
        for (key, name, value, content) in SETTINGS {
            environment.extend([(key, name.to_owned()), (value, content.to_owned())]);
        }
        Ok(Git {
            url: url.clone(),
            token: credential.map(|credential| credential.token.clone()),
            user: credential.map_or(TOKEN_USER, |credential| credential.user),
            redactor: Redactor::new(credential.map(|credential| &credential.token)),
            environment,
            local_timeout: settings.command_timeout,
        })
    }
}

fn make_folder(folder: &Path) -> Result<(), GitFailure> {
    fs::create_dir_all(folder).map_err(|error| GitFailure::Disk { path: folder.to_owned(), error })
}

/// Removes a folder with everything in it, beside the event loop; a link is removed, not what it leads to.
async fn remove(folder: &Path) -> Result<(), GitFailure> {
    let path = folder.to_owned();
    let done = tokio::task::spawn_blocking(move || match fs::symlink_metadata(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Ok(found) if !found.is_dir() => fs::remove_file(&path),
        _ => fs::remove_dir_all(&path),
    });
    let done = done.await.unwrap_or_else(|error| Err(error.into()));
    done.map_err(|error| GitFailure::Disk { path: folder.to_owned(), error })
}
