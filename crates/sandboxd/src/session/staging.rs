//! Stages a workspace as it is, for auto-commit and for work in progress.
//!
//! A repository inside belongs to whoever made it there. Of one without a commit git takes nothing; of any other the name of a
//! commit that only this disk has, which is an empty folder for everybody else. So it is left out, and said: it keeps nothing else out.
//! A submodule, which `.gitmodules` says where to get, is staged as git does it.

use super::git::Git;
use super::git::GitError;
use crate::log;
use serde_json::json;
use std::collections::HashSet;
use std::fs;
use std::path::Path;

/// How many paths one message names.
const NAMED_MAX: usize = 10;
/// How many paths one command gets: far below what a command line holds.
const PATHS_MAX: usize = 100;

/// Removes a lock that a killed git has left, which would stop every later one. Only where nothing works in `folder`.
pub fn unlock(folder: &Path) {
    // A lock that cannot be removed is told by the command that it stops.
    let _ = fs::remove_file(folder.join(".git/index.lock"));
}

/// Stages all that is in `folder` and not ignored, into `index` if one is given, and says what not: a repository inside, a submodule with
/// changes of its own, a file that git cannot read.
pub async fn everything(git: &Git, folder: &Path, index: Option<&Path>) -> Result<Vec<String>, GitError> {
    const NOT_ALL: i32 = 1;
    let add = ["-c", "advice.addEmbeddedRepo=false", "add", "--all", "--ignore-errors"];
    let refused = match git.plumbing(folder, index, &add).await {
        Ok(_) => None,
        Err(error) if error.code() == Some(NOT_ALL) => Some(error),
        Err(error) => return Err(error),
    };
    let unstaged = ["diff-files", "-z", "--name-only", "--ignore-submodules=none"];
    let mut left_out = names(&git.plumbing(folder, index, &unstaged).await?.stdout);
    let untracked = ["ls-files", "-z", "--others", "--exclude-standard"];
    left_out.extend(names(&git.plumbing(folder, index, &untracked).await?.stdout));
    if let Some(error) = refused {
        // It failed, and not at a path.
        if left_out.is_empty() {
            return Err(error);
        }
        log::warn("session", "not_all_staged", json!({ "workspace": folder, "error": error.to_string() }));
    }
    let inside = repositories(git, folder, index).await?;
    for paths in inside.chunks(PATHS_MAX) {
        let mut reset = vec!["--literal-pathspecs", "reset", "--quiet", "--"];
        reset.extend(paths.iter().map(String::as_str));
        git.plumbing(folder, index, &reset).await?;
    }
    left_out.extend(inside);
    if !left_out.is_empty() {
        let paths = left_out.get(..NAMED_MAX).unwrap_or(&left_out);
        log::warn("session", "left_out", json!({ "workspace": folder, "paths": paths, "count": left_out.len() }));
    }
    Ok(left_out)
}

/// What was left out, after the message about the rest.
pub fn told(left_out: &[String]) -> String {
    if left_out.is_empty() {
        return String::new();
    }
    let named = left_out.get(..NAMED_MAX).unwrap_or(left_out).join(", ");
    let more = left_out.len().saturating_sub(NAMED_MAX);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("; left out, as repositories of their own or unreadable: {named}{more}")
}

/// The repositories inside that are staged, were not part of the commit below, and of which nobody could know where to get them.
async fn repositories(git: &Git, folder: &Path, index: Option<&Path>) -> Result<Vec<String>, GitError> {
    // Short lines: those of some ten thousand new files fit into what is read of an output.
    let added = ["diff", "--cached", "--raw", "-z", "--abbrev=4", "--no-renames", "--diff-filter=AT"];
    let added = git.plumbing(folder, index, &added).await?.stdout;
    let mut inside = nested(&added);
    if inside.is_empty() {
        return Ok(inside);
    }
    let known = ["config", "--file", ".gitmodules", "-z", "--get-regexp", r"^submodule\..*\.path$"];
    // A file that is not there, or says nothing.
    let known = git.plumbing(folder, index, &known).await.map(|said| said.stdout).unwrap_or_default();
    let known: HashSet<&str> = known.split('\0').filter_map(|entry| Some(entry.split_once('\n')?.1)).collect();
    inside.retain(|path| !known.contains(path.as_str()));
    Ok(inside)
}

/// The paths of entries such as `:000000 160000 0000 1a2b A`: each is followed by its path.
fn nested(raw: &str) -> Vec<String> {
    const REPOSITORY: &str = "160000";
    let mut fields = raw.split('\0');
    let mut found = Vec::new();
    while let (Some(entry), Some(path)) = (fields.next(), fields.next()) {
        if entry.split(' ').nth(1) == Some(REPOSITORY) {
            found.push(path.to_owned());
        }
    }
    found
}

fn names(listed: &str) -> Vec<String> {
    let names = listed.split('\0').map(|name| name.trim_end_matches('/'));
    names.filter(|name| !name.is_empty()).map(str::to_owned).collect()
}
