//! Applies file diffs to a workspace, and to nothing else: neither by `..`, nor through a link, nor to what git itself keeps there.

use super::export::Diff;
use serde::Serialize;
use std::fs;
use std::io;
use std::path::Component;
use std::path::Path;
use std::path::PathBuf;

/// What became of the diffs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Applied {
    /// Written or deleted.
    pub applied: usize,
    /// Outside of the workspace, or without content.
    pub skipped: usize,
    /// Both.
    pub total: usize,
}

/// Applies each diff that can be.
pub fn apply(workspace: &Path, diffs: &[Diff]) -> Applied {
    let applied = diffs.iter().filter(|diff| apply_one(workspace, diff).is_ok()).count();
    Applied { applied, skipped: diffs.len().saturating_sub(applied), total: diffs.len() }
}

fn apply_one(workspace: &Path, diff: &Diff) -> io::Result<()> {
    let outside = || io::Error::other("not a file of the workspace");
    let target = inside(workspace, &diff.file).ok_or_else(outside)?;
    let (Some(folder), deleted) = (target.parent(), diff.status == "deleted") else { return Err(outside()) };
    if !deleted {
        make_folders(workspace, folder)?;
    } else if !folder.exists() {
        return Ok(());
    }
    // What is a link on the way would lead out.
    if !folder.canonicalize()?.starts_with(workspace.canonicalize()?) {
        return Err(outside());
    }
    match (deleted, &diff.after) {
        (true, _) => match fs::remove_file(&target) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        },
        (false, Some(_)) if target.is_symlink() => Err(outside()),
        (false, Some(after)) => fs::write(&target, after),
        (false, None) => Err(io::Error::other("only a patch is kept of this file")),
    }
}

/// Where `file` is, if it is spelled as a file below the workspace, and not one of git's own.
fn inside(workspace: &Path, file: &str) -> Option<PathBuf> {
    // As git and the workspace itself would read it.
    let file = Path::new(file);
    let relative = file.strip_prefix(workspace).unwrap_or(file);
    let mut parts = relative.components().filter(|part| *part != Component::CurDir).peekable();
    parts.peek()?;
    let mut target = workspace.to_path_buf();
    for part in parts {
        match part {
            Component::Normal(name) if !name.eq_ignore_ascii_case(".git") => target.push(name),
            _ => return None,
        }
    }
    Some(target)
}

/// Makes the folders between the workspace and `folder`, one by one: none may be made behind a link.
fn make_folders(workspace: &Path, folder: &Path) -> io::Result<()> {
    let mut at = workspace.to_path_buf();
    for part in folder.strip_prefix(workspace).map_err(io::Error::other)?.components() {
        at.push(part);
        if at.is_symlink() {
            return Err(io::Error::other("a link is in the way"));
        }
        match fs::create_dir(&at) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn diff(file: &str, status: &str, after: Option<&str>) -> Diff {
        Diff { file: file.into(), status: status.into(), after: after.map(str::to_owned) }
    }

    #[test]
    fn files_are_written_emptied_and_deleted() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("old"), "old").unwrap();
        let absolute = folder.path().join("absolute").to_string_lossy().into_owned();
        let done = apply(
            folder.path(),
            &[
                diff("new/deep/file", "added", Some("text")),
                diff("./empty", "modified", Some("")),
                diff("old", "deleted", None),
                diff("never/was", "deleted", None),
                diff(&absolute, "added", Some("a")),
                diff("patched", "modified", None),
            ],
        );
        assert_eq!(done, Applied { applied: 5, skipped: 1, total: 6 });
        let read = |name: &str| fs::read_to_string(folder.path().join(name)).ok();
        assert_eq!(read("new/deep/file").as_deref(), Some("text"));
        assert_eq!((read("empty").as_deref(), read("absolute").as_deref()), (Some(""), Some("a")));
        assert!(!folder.path().join("old").exists() && !folder.path().join("never").exists());
    }

    #[test]
    fn nothing_outside_is_touched() {
        let folder = tempfile::tempdir().unwrap();
        let (workspace, outside) = (folder.path().join("workspace"), folder.path().join("outside"));
        fs::create_dir_all(workspace.join(".git/hooks")).unwrap();
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("kept"), "kept").unwrap();
        symlink(&outside, workspace.join("link")).unwrap();
        symlink(outside.join("kept"), workspace.join("file-link")).unwrap();
        let absolute = outside.join("kept").to_string_lossy().into_owned();
        let diffs = [
            diff("../outside/kept", "modified", Some("x")),
            diff("a/../../outside/kept", "deleted", None),
            diff(&absolute, "deleted", None),
            diff("link/kept", "deleted", None),
            diff("link/new", "added", Some("x")),
            diff("link/deep/new", "added", Some("x")),
            diff("file-link", "modified", Some("x")),
            diff(".git/hooks/pre-commit", "added", Some("x")),
            diff("sub/.GIT/config", "added", Some("x")),
            diff("", "added", Some("x")),
        ];
        assert_eq!(apply(&workspace, &diffs), Applied { applied: 0, skipped: 10, total: 10 });
        assert_eq!(fs::read_to_string(outside.join("kept")).unwrap(), "kept");
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
        assert_eq!(fs::read_dir(workspace.join(".git/hooks")).unwrap().count(), 0);
    }
}
