//! The folder that belongs to the host. It is emptied at each start, so it has to be clear that nothing else is in it.

use std::fs;
use std::fs::File;
use std::fs::TryLockError;
use std::io;
use std::path::Path;
use std::path::PathBuf;

/// Says that the folder is a host's; the running host holds a lock on it.
const MARKER: &str = ".holdfast-host";

/// Why a folder cannot be the host's.
#[derive(Debug, thiserror::Error)]
pub enum RootError {
    #[error("--root {0} is in use by another host")]
    InUse(PathBuf),
    #[error("--root {0} holds files that no host made, and a host empties its folder: name another")]
    NotAHosts(PathBuf),
    #[error("--root {path}: {error}")]
    System { path: PathBuf, error: io::Error },
}

/// The folder, for as long as this lives.
#[derive(Debug)]
pub struct Root {
    path: PathBuf,
    _lock: File,
}

impl Root {
    /// Takes the folder `path`, which is empty, absent or was a host's before.
    pub fn take(path: &Path) -> Result<Self, RootError> {
        Self::try_take(path).map_err(|error| RootError::System { path: path.to_owned(), error })?
    }

    fn try_take(path: &Path) -> io::Result<Result<Self, RootError>> {
        fs::create_dir_all(path)?;
        // Without symbolic links, so that it is spelt as in the environment of an earlier host's containers.
        let path = path.canonicalize()?;
        let marker = path.join(MARKER);
        if !marker.exists() && fs::read_dir(&path)?.next().is_some() {
            return Ok(Err(RootError::NotAHosts(path)));
        }
        let lock = File::create(&marker)?;
        match lock.try_lock() {
            Ok(()) => Ok(Ok(Self { path, _lock: lock })),
            Err(TryLockError::WouldBlock) => Ok(Err(RootError::InUse(path))),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// The folder, absolute and without symbolic links.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Removes everything in it.
    pub fn clear(&self) -> Result<(), RootError> {
        self.try_clear().map_err(|error| RootError::System { path: self.path.clone(), error })
    }

    fn try_clear(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                fs::remove_dir_all(entry.path())?;
            } else if entry.file_name() != MARKER {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::iter;
    use std::thread;
    use std::time::Duration;

    const TRIES_MAX: usize = 1_000;
    const PAUSE: Duration = Duration::from_millis(10);

    #[test]
    fn a_folder_of_ones_own_is_emptied_and_taken_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/root");
        let root = Root::take(&path).unwrap();
        fs::create_dir_all(root.path().join("c/i")).unwrap();
        fs::write(root.path().join("c/i.log"), "x").unwrap();
        assert!(matches!(Root::take(&path), Err(RootError::InUse(_))));
        drop(root);

        // A child that a test beside this one starts has the lock until it runs its own program.
        let again = || Root::take(&path).inspect_err(|_| thread::sleep(PAUSE)).ok();
        let root = iter::repeat_with(again).take(TRIES_MAX).flatten().next().unwrap();
        assert!(path.join("c/i.log").exists());
        root.clear().unwrap();
        assert_eq!(fs::read_dir(&path).unwrap().count(), 1, "only the marker is left");
    }

    #[test]
    fn a_folder_with_files_of_others_is_refused_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("thesis.txt"), "x").unwrap();
        assert!(matches!(Root::take(folder.path()), Err(RootError::NotAHosts(_))));
        assert!(folder.path().join("thesis.txt").exists());
    }
}
