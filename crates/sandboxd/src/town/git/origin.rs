//! What the clone calls `origin`. Agents share its configuration and may change it, remove it, or break it.

use super::error::GitFailure;
use super::layout::RigPaths;
use crate::clock::now_ms;
use crate::log;
use crate::session::git::Git;
use crate::session::git::GitError;
use serde_json::json;
use std::fs;

/// All branches of the remote, each below its name.
const FETCH: &str = "+refs/heads/*:refs/remotes/origin/*";
/// What a repository says of itself if it says nothing else.
const PLAIN: &str = "[core]\n\trepositoryformatversion = 0\n\tbare = false\n";

/// Writes where `origin` is and what is fetched from it, if anything else is written there.
pub(super) async fn set_origin(pinned: &Git, paths: &RigPaths) -> Result<(), GitFailure> {
    let config = async |arguments: &[&str]| {
        let arguments = [&["config", "--local"], arguments].concat();
        pinned.plumbing(&paths.rig, None, &arguments).await
    };
    let known = match config(&["--get-regexp", r"^remote\.origin\."]).await {
        Ok(known) => known.stdout,
        Err(GitError::Failed { code: 1, .. }) => String::new(),
        Err(GitError::Failed { tail, .. }) if tail.contains("bad config") => {
            replace_configuration(paths)?;
            String::new()
        }
        Err(error) => return Err(error.into()),
    };
    let url = pinned.url.as_str();
    let mut lines: Vec<&str> = known.lines().collect();
    lines.sort_unstable();
    if lines == [format!("remote.origin.fetch {FETCH}"), format!("remote.origin.url {url}")] {
        return Ok(());
    }
    if !lines.is_empty() {
        config(&["--remove-section", "remote.origin"]).await?;
    }
    config(&["remote.origin.url", url]).await?;
    config(&["remote.origin.fetch", FETCH]).await?;
    Ok(())
}

/// No git command works in a clone whose configuration cannot be read, an agent's neither.
fn replace_configuration(paths: &RigPaths) -> Result<(), GitFailure> {
    let path = paths.common_dir().join("config");
    let kept = path.with_extension(format!("unreadable.{}", now_ms()));
    log::warn("town", "clone_configuration_replaced", json!({ "path": path, "kept": kept }));
    let done = fs::rename(&path, kept).and_then(|()| fs::write(&path, PLAIN));
    done.map_err(|error| GitFailure::Disk { path, error })
}
