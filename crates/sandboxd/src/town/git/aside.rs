//! What is in the way and may be somebody's work is moved aside. Nothing of it is deleted.

use super::error::GitFailure;
use super::identity::in_place;
use super::identity::read;
use super::layout::RigPaths;
use super::make_folder;
use crate::clock::now_ms;
use std::fs;
use std::io;
use std::path::Path;

/// Moves whatever is at `path` out of the way; a link itself, not what it leads to.
pub(super) fn put_aside(paths: &RigPaths, path: &Path) -> Result<(), GitFailure> {
    move_as(paths, path, path, "")
}

/// Moves the worktree at `path` out of the way, if anything of it is there: its folder, and what the clone knows of it. That is not left to
/// git, which prunes no worktree that it was about to make when it was killed.
pub(super) fn put_worktree_aside(paths: &RigPaths, path: &Path) -> Result<(), GitFailure> {
    put_aside(paths, path)?;
    let Ok(known) = fs::read_dir(paths.common_dir().join("worktrees")) else { return Ok(()) };
    // Git writes paths without links.
    let Ok(file) = in_place(path).map(|path| path.join(".git")) else { return Ok(()) };
    for entry in known.map_while(io::Result::ok) {
        let gitdir = read(path, &entry.path().join("gitdir"));
        if gitdir.is_ok_and(|names| Path::new(&names) == file) {
            move_as(paths, &entry.path(), path, ".git")?;
        }
    }
    Ok(())
}

fn move_as(paths: &RigPaths, from: &Path, like: &Path, extension: &str) -> Result<(), GitFailure> {
    if fs::symlink_metadata(from).is_err() {
        return Ok(());
    }
    make_folder(&paths.aside)?;
    let name = like.file_name().unwrap_or_default().to_string_lossy();
    let moved = fs::rename(from, paths.aside.join(format!("{name}.{}{extension}", now_ms())));
    moved.map_err(|error| GitFailure::Disk { path: from.to_owned(), error })
}
