//! Work in progress outside of this container: what is neither committed nor pushed, as one commit under
//! `refs/heads/holdfast/wip/<session>` of the remote (design 4).
//!
//! * The commit's tree is the working tree, ignored files and repositories inside left out; its parent is `HEAD`, so commits that were
//!   never pushed go with it. Where there is no commit yet it has no parent. It is made with an index of its own and without hooks: the agent's branch and index stay as they are.
//! * A fresh checkout gets it back as it was: unpushed commits on their branch, changed files changed and not committed. If the branch has
//!   moved on the remote meanwhile, the changes are merged into the newer state where that goes without conflict; else the session goes on from the
//!   commit that it was on. Nobody finds conflict markers, nothing is lost, and which of these happened is said.
//! * The ref stays on the remote until everything in it is on a branch there: a container that is lost before that has not lost it.

#[cfg(test)]
mod tests;

use super::git::Git;
use super::git::GitError;
use super::limits;
use super::paths::SessionPaths;
use super::staging;
use super::workspace;
use protocol::id::BranchName;
use protocol::id::SessionId;
use std::fs;
use std::path::Path;

/// Where a fetched commit is kept until it is applied.
const FETCHED: &str = "refs/holdfast/wip";
/// Says in the commit's message which branch was checked out.
const BRANCH_TRAILER: &str = "Holdfast-Branch: ";

/// What became of work in progress at its saving.
#[derive(Debug, PartialEq, Eq)]
pub enum Saved {
    /// There was none: everything is on a branch of the remote.
    Nothing,
    /// It is on the remote.
    Pushed {
        /// The commit.
        commit: String,
    },
}

/// Work in progress of a container that is gone.
#[derive(Debug, PartialEq, Eq)]
pub struct Found {
    commit: String,
    /// The commit that was checked out; None on a branch without commits.
    base: Option<String>,
    /// The ref of the remote that it came from.
    name: String,
    /// Its branch; None on a detached HEAD.
    pub branch: Option<BranchName>,
}

/// How work in progress came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// Everything is as it was.
    AsItWas,
    /// The branch had moved on the remote, and the changes fit.
    Merged,
    /// The branch has moved on the remote, and not everything fits: the session goes on where it was, behind the remote.
    Behind,
}

impl Applied {
    /// For a person.
    pub fn message(self) -> &'static str {
        match self {
            Applied::AsItWas => "Work in progress restored",
            Applied::Merged => "Work in progress restored onto the branch, which has moved on the remote",
            Applied::Behind => {
                "Work in progress restored where it was left; the branch has moved on the remote and conflicts with it"
            }
        }
    }
}

/// Saves what is neither committed nor pushed, if there is any.
pub async fn save(git: &Git, paths: &SessionPaths, session: &SessionId) -> Result<Saved, GitError> {
    let folder = &paths.workspace;
    let head = workspace::commit_at(git, folder, "HEAD").await?;
    let tree = working_tree(git, paths, head.as_deref()).await?;
    let head_tree: &[&str] = match head {
        Some(_) => &["rev-parse", "HEAD^{tree}"],
        // The tree without files.
        None => &["hash-object", "-t", "tree", "/dev/null"],
    };
    let head_tree = git.plumbing(folder, None, head_tree).await?.first_line();
    if tree == head_tree && workspace::unpushed(git, folder).await? == 0 {
        forget(git, paths, session).await?;
        return Ok(Saved::Nothing);
    }
    let branch = workspace::current_branch(git, paths).await.unwrap_or_default();
    let message = format!("Work in progress of {session}\n\n{BRANCH_TRAILER}{branch}\n");
    let mut commit = vec!["commit-tree", &tree, "-m", &message];
    commit.extend(head.iter().flat_map(|head| ["-p", head]));
    let commit = git.plumbing(folder, None, &commit).await?.first_line();
    let refspec = format!("{commit}:{}", remote_ref(session));
    git.remote(folder, &["push", "--quiet", "--force", "origin", &refspec], limits::GIT_REMOTE_TIMEOUT).await?;
    mark_pushed(paths);
    Ok(Saved::Pushed { commit })
}

/// Takes the work in progress off the remote once nothing is in it any more that is not on a branch there.
pub async fn tidy(git: &Git, paths: &SessionPaths, session: &SessionId) -> Result<(), GitError> {
    if !paths.wip_pushed().exists() {
        return Ok(());
    }
    let folder = &paths.workspace;
    let status = git.plumbing(folder, None, &["--no-optional-locks", "status", "--porcelain"]).await?;
    if status.stdout.trim().is_empty() && workspace::unpushed(git, folder).await? == 0 {
        forget(git, paths, session).await?;
    }
    Ok(())
}

/// Fetches what a lost container saved, into the fresh clone `folder`.
pub async fn fetch(git: &Git, folder: &Path, session: &SessionId) -> Result<Option<Found>, GitError> {
    let name = remote_ref(session);
    if !workspace::is_on_remote(git, folder, &name).await? {
        return Ok(None);
    }
    let refspec = format!("+{name}:{FETCHED}");
    git.remote(folder, &["fetch", "--quiet", "origin", &refspec], limits::GIT_REMOTE_TIMEOUT).await?;
    let commit = git.plumbing(folder, None, &["rev-parse", FETCHED]).await?.first_line();
    let base = workspace::commit_at(git, folder, &format!("{FETCHED}^")).await?;
    let message = git.plumbing(folder, None, &["log", "-1", "--format=%B", FETCHED]).await?.stdout;
    let branch = message.lines().find_map(|line| line.strip_prefix(BRANCH_TRAILER));
    Ok(Some(Found { commit, base, name, branch: branch.and_then(|name| BranchName::parse(name).ok()) }))
}

/// Applies it to the fresh checkout `folder`, which is on its branch if the remote has that.
pub async fn apply(git: &Git, paths: &SessionPaths, folder: &Path, found: &Found) -> Result<Applied, GitError> {
    let head = workspace::commit_at(git, folder, "HEAD").await?;
    let is_on = is_on(git, folder, found).await;
    let (applied, tree) = match &head {
        Some(at) if is_on && head != found.base => onto_another(git, folder, at, found).await?,
        _ => (Applied::AsItWas, None),
    };
    if applied != Applied::Merged && !(is_on && head == found.base) {
        check_out_base(git, folder, found).await?;
    }
    // The files change; then the index goes back, so that they are changed and not committed.
    let tree = tree.unwrap_or_else(|| format!("{}^{{tree}}", found.commit));
    let mut read = vec!["read-tree", "-m", "-u"];
    if workspace::commit_at(git, folder, "HEAD").await?.is_some() {
        read.push("HEAD");
    }
    read.push(&tree);
    git.plumbing(folder, None, &read).await?;
    git.plumbing(folder, None, &["reset", "--quiet", "--mixed"]).await?;
    git.plumbing(folder, None, &["update-ref", "-d", FETCHED]).await?;
    mark_pushed(paths);
    Ok(applied)
}

/// The branch of the remote is at another commit than the lost container's: ahead of it, behind it, or neither.
async fn onto_another(
    git: &Git,
    folder: &Path,
    head: &str,
    found: &Found,
) -> Result<(Applied, Option<String>), GitError> {
    complete_history(git, folder, &found.name).await?;
    let is_before = match &found.base {
        Some(base) => is_ancestor(git, folder, head, base).await?,
        // A host may take the first branch that is pushed for its default one, and that was this.
        None => head == found.commit,
    };
    if is_before {
        return Ok((Applied::AsItWas, None));
    }
    let tree = merged(git, folder, head, found).await?;
    Ok((if tree.is_some() { Applied::Merged } else { Applied::Behind }, tree))
}

/// Whether the checkout is on the branch that the work in progress was on.
async fn is_on(git: &Git, folder: &Path, found: &Found) -> bool {
    let current = workspace::branch_of(git, folder).await;
    current.as_deref() == found.branch.as_ref().map(BranchName::as_str)
}

async fn check_out_base(git: &Git, folder: &Path, found: &Found) -> Result<(), GitError> {
    let name = found.branch.as_ref().map(BranchName::as_str).unwrap_or_default();
    let Some(base) = &found.base else {
        let own = format!("refs/heads/{name}");
        git.plumbing(folder, None, &["symbolic-ref", "HEAD", &own]).await?;
        return git.plumbing(folder, None, &["update-ref", "-d", &own]).await.map(drop);
    };
    let mut arguments = vec!["checkout", "--quiet", "--force"];
    arguments.extend(if name.is_empty() { vec!["--detach", base] } else { vec!["-B", name, "--no-track", base] });
    git.plumbing(folder, None, &arguments).await.map(drop)
}

/// The tree of both, if they go together; None if they do not, or if the branch has unpushed commits that the remote's new ones are not based on.
async fn merged(git: &Git, folder: &Path, head: &str, found: &Found) -> Result<Option<String>, GitError> {
    if let Some(base) = &found.base
        && !is_ancestor(git, folder, base, head).await?
    {
        return Ok(None);
    }
    const CONFLICT: i32 = 1;
    // Without a base there are no commits to put together, but files only.
    let merge = ["merge-tree", "--write-tree", "--allow-unrelated-histories", head, &found.commit];
    match git.plumbing(folder, None, &merge).await {
        Ok(finished) => Ok(Some(finished.first_line())),
        Err(error) if error.code() == Some(CONFLICT) => Ok(None),
        Err(error) => Err(error),
    }
}

async fn is_ancestor(git: &Git, folder: &Path, old: &str, new: &str) -> Result<bool, GitError> {
    const NO: i32 = 1;
    match git.plumbing(folder, None, &["merge-base", "--is-ancestor", old, new]).await {
        Ok(_) => Ok(true),
        Err(error) if error.code() == Some(NO) => Ok(false),
        Err(error) => Err(error),
    }
}

/// A shallow clone does not know which commit came before which. This completes what it has, and fetches `name` alone.
async fn complete_history(git: &Git, folder: &Path, name: &str) -> Result<(), GitError> {
    let shallow = git.plumbing(folder, None, &["rev-parse", "--is-shallow-repository"]).await?;
    if shallow.first_line() == "true" {
        git.remote(folder, &["fetch", "--quiet", "--unshallow", "origin", name], limits::CLONE_TIMEOUT).await?;
    }
    Ok(())
}

/// The tree of all files, as they are, but those that are ignored.
async fn working_tree(git: &Git, paths: &SessionPaths, head: Option<&str>) -> Result<String, GitError> {
    let (folder, index) = (&paths.workspace, paths.wip_index());
    // With what the agent's index knows of its files they need not be read again.
    let _ = fs::remove_file(&index);
    if fs::copy(folder.join(".git/index"), &index).is_err()
        && let Some(head) = head
    {
        git.plumbing(folder, Some(&index), &["read-tree", head]).await?;
    }
    staging::everything(git, folder, Some(&index)).await?;
    let tree = git.plumbing(folder, Some(&index), &["write-tree"]).await?.first_line();
    let _ = fs::remove_file(&index);
    Ok(tree)
}

/// Takes the work in progress off the remote, if this session has put any there.
pub async fn forget(git: &Git, paths: &SessionPaths, session: &SessionId) -> Result<(), GitError> {
    if !paths.wip_pushed().exists() {
        return Ok(());
    }
    let folder = &paths.workspace;
    let name = remote_ref(session);
    if workspace::is_on_remote(git, folder, &name).await? {
        let refspec = format!(":{name}");
        git.remote(folder, &["push", "--quiet", "origin", &refspec], limits::GIT_REMOTE_TIMEOUT).await?;
    }
    let _ = fs::remove_file(paths.wip_pushed());
    Ok(())
}

/// A marker that is missing costs a ref that stays too long.
fn mark_pushed(paths: &SessionPaths) {
    let _ = fs::write(paths.wip_pushed(), "");
}

fn remote_ref(session: &SessionId) -> String {
    format!("refs/heads/holdfast/wip/{session}")
}
