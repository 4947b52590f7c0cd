//! Makes the place a session works in: folders, clone, branch, setup commands. What is there already is kept.
//!
//! A repository is cloned and put on its branch beside its place and then renamed into it, so the workspace is either
//! complete or not there, whenever the process is killed.

use super::command;
use super::config::Author;
use super::error::WorkError;
use super::git::Git;
use super::git::GitError;
use super::limits;
use super::paths;
use super::paths::SessionPaths;
use super::redact::Redactor;
use crate::log;
use protocol::id::BranchName;
use protocol::id::SessionId;
use protocol::sandbox::WorkspacePlan;
use serde_json::json;
use std::fs;
use std::io;
use std::path::Path;
use tokio::process::Command;

const MB: u64 = 1024 * 1024;

/// Refuses work on a full disk, after clearing what killed clones left.
pub async fn check_disk(root: &Path) -> Result<(), WorkError> {
    let mut free_mb = free_mb(root).map_err(|error| WorkError::Disk(error.to_string()))?;
    if free_mb < limits::DISK_LOW_MB {
        let cleared = blocking(root, |root| Ok(clear_unfinished_clones(root))).await?;
        free_mb = self::free_mb(root).map_err(|error| WorkError::Disk(error.to_string()))?;
        log::warn("session", "disk_low", json!({ "freeMb": free_mb, "clonesCleared": cleared }));
    }
    if free_mb < limits::DISK_FREE_MIN_MB {
        return Err(WorkError::DiskFull { free_mb });
    }
    Ok(())
}

fn free_mb(root: &Path) -> nix::Result<u64> {
    let disk = nix::sys::statvfs::statvfs(root)?;
    Ok(disk.blocks_available().saturating_mul(disk.fragment_size()).checked_div(MB).unwrap_or(0))
}

/// Removes clones that nobody can be working on any more.
fn clear_unfinished_clones(root: &Path) -> usize {
    let old = |entry: &fs::DirEntry| {
        let modified = entry.metadata().and_then(|found| found.modified()).ok();
        let age = modified.and_then(|modified| modified.elapsed().ok());
        age.is_some_and(|age| age > limits::CLONE_TIMEOUT.saturating_add(limits::GIT_REMOTE_TIMEOUT.saturating_mul(2)))
    };
    let entries = fs::read_dir(paths::workspaces(root)).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_name().to_string_lossy().ends_with(paths::CLONING_SUFFIX) && old(entry))
        .filter(|entry| fs::remove_dir_all(entry.path()).is_ok())
        .count()
}

/// Whether the repository is there, on its branch.
pub fn is_cloned(paths: &SessionPaths) -> bool {
    paths.workspace.join(".git").exists()
}

/// Clones the repository beside its place.
pub async fn clone(git: &Git, paths: &SessionPaths, shallow: bool) -> Result<(), WorkError> {
    remove(&paths.cloning).await?;
    // A workspace without a repository is what something else left; nothing of ours lives there.
    remove(&paths.workspace).await?;
    let target = paths.cloning.to_string_lossy();
    let mut arguments = vec!["clone", "--quiet"];
    if shallow {
        arguments.extend(["--depth", "1"]);
    }
    arguments.extend(["--", git.url().as_str(), &target]);
    git.remote(&paths.home, &arguments, limits::CLONE_TIMEOUT).await?;
    // A shallow clone would follow one branch only: what is pushed to another would count as not pushed.
    let follow = ["config", "--replace-all", "remote.origin.fetch", "+refs/heads/*:refs/remotes/origin/*"];
    git.local(&paths.cloning, &follow).await?;
    Ok(())
}

/// Checks the branch out, beside the workspace's place.
pub async fn set_branch(
    git: &Git,
    paths: &SessionPaths,
    plan: &WorkspacePlan,
    author: &Author,
) -> Result<(), WorkError> {
    let folder = &paths.cloning;
    // For the agent's own commits.
    git.local(folder, &["config", "user.name", &author.name]).await?;
    git.local(folder, &["config", "user.email", &author.email]).await?;
    // Where the session was last, if that is known and still there.
    let last = plan.last_branch.as_ref().map(BranchName::as_str).filter(|branch| !is_pull_request(branch));
    if let Some(last) = last
        && is_on_remote(git, folder, &format!("refs/heads/{last}")).await?
    {
        return check_out_remote(git, folder, last, plan.shallow).await;
    }
    match &plan.upstream_branch {
        Some(branch) => check_out_upstream(git, folder, branch, plan.shallow).await,
        None => check_out_own(git, folder, &plan.session_id, plan.shallow).await,
    }
}

/// Puts the finished workspace into its place.
pub async fn put_in_place(paths: &SessionPaths) -> Result<(), WorkError> {
    tokio::fs::rename(&paths.cloning, &paths.workspace).await.map_err(WorkError::Workspace)
}

async fn check_out_upstream(git: &Git, folder: &Path, branch: &BranchName, shallow: bool) -> Result<(), WorkError> {
    if is_pull_request(branch.as_str()) {
        fetch(git, folder, branch.as_str(), shallow).await?;
        // By its full name: as a short one git would look for the remote's ref first.
        let own = format!("refs/heads/{branch}");
        git.local(folder, &["update-ref", &own, "FETCH_HEAD"]).await?;
        // Its commits are the remote's, though no branch there has them.
        git.local(folder, &["update-ref", &format!("refs/remotes/origin/{branch}"), "FETCH_HEAD"]).await?;
        git.local(folder, &["symbolic-ref", "HEAD", &own]).await?;
        git.local(folder, &["reset", "--quiet", "--hard"]).await?;
        return Ok(());
    }
    if !is_on_remote(git, folder, &format!("refs/heads/{branch}")).await? {
        return Err(WorkError::NoSuchBranch(branch.to_string()));
    }
    check_out_remote(git, folder, branch.as_str(), shallow).await
}

async fn check_out_own(git: &Git, folder: &Path, session: &SessionId, shallow: bool) -> Result<(), WorkError> {
    let branch = format!("session/{session}");
    if is_on_remote(git, folder, &format!("refs/heads/{branch}")).await? {
        return check_out_remote(git, folder, &branch, shallow).await;
    }
    git.local(folder, &["checkout", "--quiet", "-b", &branch]).await?;
    Ok(())
}

async fn check_out_remote(git: &Git, folder: &Path, branch: &str, shallow: bool) -> Result<(), WorkError> {
    fetch(git, folder, &format!("+refs/heads/{branch}:refs/remotes/origin/{branch}"), shallow).await?;
    let tracked = format!("refs/remotes/origin/{branch}");
    git.local(folder, &["checkout", "--quiet", "-B", branch, "--track", &tracked]).await?;
    Ok(())
}

async fn fetch(git: &Git, folder: &Path, refspec: &str, shallow: bool) -> Result<(), WorkError> {
    let mut arguments = vec!["fetch", "--quiet"];
    if shallow {
        arguments.extend(["--depth", "1"]);
    }
    arguments.extend(["origin", refspec]);
    git.remote(folder, &arguments, limits::GIT_REMOTE_TIMEOUT).await?;
    Ok(())
}

/// Whether the remote has this ref, named in full.
pub async fn is_on_remote(git: &Git, folder: &Path, name: &str) -> Result<bool, GitError> {
    const NONE_MATCHED: i32 = 2;
    let arguments = ["ls-remote", "--exit-code", "origin", name];
    match git.remote(folder, &arguments, limits::GIT_REMOTE_TIMEOUT).await {
        Ok(_) => Ok(true),
        Err(error) if error.code() == Some(NONE_MATCHED) => Ok(false),
        Err(error) => Err(error),
    }
}

/// How many commits of the current branch the remote does not have on a branch of its own. Work in progress that was saved there is not on one.
pub async fn unpushed(git: &Git, folder: &Path) -> Result<u64, GitError> {
    if commit_at(git, folder, "HEAD").await?.is_none() {
        return Ok(0);
    }
    let arguments = ["rev-list", "--count", "HEAD", "--not", "--exclude=origin/holdfast/wip/*", "--remotes=origin"];
    let counted = git.plumbing(folder, None, &arguments).await?;
    Ok(counted.stdout.trim().parse().unwrap_or(0))
}

/// The commit that `name` leads to. None if there is none, as at the `HEAD` of a repository without commits.
pub async fn commit_at(git: &Git, folder: &Path, name: &str) -> Result<Option<String>, GitError> {
    const NONE: i32 = 1;
    match git.plumbing(folder, None, &["rev-parse", "--verify", "--quiet", name]).await {
        Ok(finished) => Ok(Some(finished.first_line())),
        Err(error) if error.code() == Some(NONE) => Ok(None),
        Err(error) => Err(error),
    }
}

/// `refs/pull/<number>/head`: can be fetched, never pushed.
pub fn is_pull_request(branch: &str) -> bool {
    branch
        .strip_prefix("refs/pull/")
        .and_then(|rest| rest.strip_suffix("/head"))
        .is_some_and(|number| !number.is_empty() && number.chars().all(|c| c.is_ascii_digit()))
}

/// The branch that is checked out. None on a detached HEAD.
pub async fn current_branch(git: &Git, paths: &SessionPaths) -> Option<String> {
    branch_of(git, &paths.workspace).await
}

/// The same for a checkout that is not in its place yet.
pub async fn branch_of(git: &Git, folder: &Path) -> Option<String> {
    let head = git.local(folder, &["symbolic-ref", "--quiet", "HEAD"]).await.ok()?;
    head.stdout.trim().strip_prefix("refs/heads/").map(str::to_owned)
}

/// Whether setup commands remain to be run.
pub fn needs_setup(paths: &SessionPaths, plan: &WorkspacePlan) -> bool {
    !plan.setup_commands.is_empty() && !paths.setup_done().exists()
}

/// Runs the setup commands in order; the first that fails ends it, unless it is lenient: then the others run, and what failed is returned. When this
/// has succeeded, they never run again in this workspace.
pub async fn set_up(
    environment: &[(String, String)],
    paths: &SessionPaths,
    plan: &WorkspacePlan,
    redactor: &Redactor,
    lenient: bool,
) -> Result<Vec<WorkError>, WorkError> {
    let mut failures = Vec::new();
    for (index, line) in plan.setup_commands.iter().enumerate() {
        let mut command = Command::new("bash");
        command.args(["-lc", line]).env_clear().envs(environment.iter().map(|(name, value)| (name, value)));
        command.current_dir(&paths.workspace);
        let failed = |reason: String| WorkError::SetupCommand {
            number: index.saturating_add(1),
            command: redactor.clean(line),
            reason: redactor.clean(&reason),
        };
        let failure = match command::run(command, limits::SETUP_COMMAND_TIMEOUT).await {
            Ok(finished) if finished.succeeded() => continue,
            Ok(finished) => {
                let code = finished.code.unwrap_or(-1);
                failed(format!("failed with exit code {code}{}", command::quote(&finished.tail)))
            }
            Err(error) => failed(error.to_string()),
        };
        if !lenient {
            return Err(failure);
        }
        failures.push(failure);
    }
    fs::write(paths.setup_done(), "").map_err(WorkError::Workspace)?;
    Ok(failures)
}

/// Removes a folder, if it is there.
pub async fn remove(folder: &Path) -> Result<(), WorkError> {
    blocking(folder, |folder| match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    })
    .await
}

/// Does what can take long beside the event loop, which other sessions' events pass through.
async fn blocking<T: Send + 'static>(
    folder: &Path,
    work: impl FnOnce(&Path) -> io::Result<T> + Send + 'static,
) -> Result<T, WorkError> {
    let folder = folder.to_owned();
    let done = tokio::task::spawn_blocking(move || work(&folder)).await;
    done.unwrap_or_else(|error| Err(error.into())).map_err(WorkError::Workspace)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pull_requests_are_told_from_branches() {
        assert!(is_pull_request("refs/pull/12/head"));
        for branch in ["main", "refs/pull//head", "refs/pull/x/head", "refs/pull/1/merge", "pull/1/head"] {
            assert!(!is_pull_request(branch), "{branch}");
        }
    }

    #[test]
    fn only_old_unfinished_clones_are_cleared() {
        let root = tempfile::tempdir().unwrap();
        let workspaces = paths::workspaces(root.path());
        for name in ["a.cloning", "b.cloning", "c"] {
            fs::create_dir_all(workspaces.join(name)).unwrap();
        }
        let long_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(3600);
        for name in ["a.cloning", "c"] {
            fs::File::open(workspaces.join(name)).unwrap().set_modified(long_ago).unwrap();
        }
        assert_eq!(clear_unfinished_clones(root.path()), 1);
        assert!(!workspaces.join("a.cloning").exists() && workspaces.join("b.cloning").exists());
    }
}
