//! Where a session keeps what, below `HOLDFAST_ROOT`.

use protocol::id::ExecutionId;
use protocol::id::SessionId;
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::path::PathBuf;

/// The folders of one session. A [`SessionId`] is safe as a file name.
#[derive(Clone, Debug)]
pub struct SessionPaths {
    /// The repository.
    pub workspace: PathBuf,
    /// The repository while it is being cloned.
    pub cloning: PathBuf,
    /// `HOME` of the agent and of everything it starts.
    pub home: PathBuf,
    /// What sandboxd itself keeps beside the agent's files.
    pub own: PathBuf,
}

/// Ends the name of a folder that a clone is written to.
pub const CLONING_SUFFIX: &str = ".cloning";

impl SessionPaths {
    /// The folders of `session`.
    pub fn new(root: &Path, session: &SessionId) -> Self {
        let workspaces = workspaces(root);
        let home = homes(root).join(session.as_str());
        Self {
            workspace: workspaces.join(session.as_str()),
            cloning: workspaces.join(format!("{session}{CLONING_SUFFIX}")),
            own: home.join(".holdfast"),
            home,
        }
    }

    /// Makes the folders that must be there before anything else; what others may not read is closed to them.
    pub fn create(&self) -> io::Result<()> {
        let parent = self.workspace.parent().unwrap_or(&self.workspace);
        for folder in [parent, &self.home, &self.own] {
            DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        }
        Ok(())
    }

    /// Where the agent server writes its logs.
    pub fn agent_logs(&self) -> PathBuf {
        self.home.join(".local/share/kilo/log")
    }

    /// Held locked by the one process that owns the session.
    pub fn lock(&self) -> PathBuf {
        self.own.join("lock")
    }

    /// One line for each message that was handed to the agent.
    pub fn prompted(&self) -> PathBuf {
        self.own.join("prompted")
    }

    /// Present once the agent's storage holds the session.
    pub fn imported(&self) -> PathBuf {
        self.own.join("imported")
    }

    /// The agent session's export, while it is being written or read.
    pub fn export(&self) -> PathBuf {
        self.own.join("export.json")
    }

    /// The same, compressed.
    pub fn snapshot(&self) -> PathBuf {
        self.own.join("snapshot.json.gz")
    }

    /// The index that work in progress is gathered in: the agent's own stays as it is.
    pub fn wip_index(&self) -> PathBuf {
        self.own.join("wip-index")
    }

    /// Present while the remote holds this session's work in progress.
    pub fn wip_pushed(&self) -> PathBuf {
        self.own.join("wip-pushed")
    }

    /// What is kept of one execution until its last event is acknowledged.
    pub fn spool(&self, execution: &ExecutionId) -> PathBuf {
        self.own.join(format!("spool-{execution}"))
    }

    /// How to reach the object of one execution, until that is over.
    pub fn address(&self, execution: &ExecutionId) -> PathBuf {
        self.own.join(format!("address-{execution}.json"))
    }

    /// Present once the setup commands of this workspace succeeded: it goes with the workspace, and git never sees it.
    pub fn setup_done(&self) -> PathBuf {
        self.workspace.join(".git/holdfast-setup-done")
    }

    /// Says what `clone` was made from, in its place or beside it: it goes with the clone, and git never sees it.
    pub fn made_from(&self, clone: &Path) -> PathBuf {
        clone.join(".git/holdfast-made-from")
    }
}

/// Holds a folder for each workspace.
pub fn workspaces(root: &Path) -> PathBuf {
    root.join("workspace/sessions")
}

/// Holds a folder for each home.
pub fn homes(root: &Path) -> PathBuf {
    root.join("home")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_stays_below_the_root() {
        let id = SessionId::parse("agent_01234567-89ab-cdef-0123-456789abcdef").unwrap();
        let paths = SessionPaths::new(Path::new("/r"), &id);
        assert_eq!(paths.workspace, Path::new("/r/workspace/sessions/agent_01234567-89ab-cdef-0123-456789abcdef"));
        assert_eq!(paths.home, Path::new("/r/home/agent_01234567-89ab-cdef-0123-456789abcdef"));
        assert!(paths.own.starts_with(&paths.home));
    }
}
