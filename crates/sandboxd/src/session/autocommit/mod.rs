//! Commits and pushes what a turn left in the workspace (spec/session.md 8.7).

#[cfg(test)]
mod tests;

use super::git::Git;
use super::git::GitError;
use super::limits;
use super::paths::SessionPaths;
use super::staging;
use super::workspace;
use protocol::id::BranchName;
use sandbox_core::event::AutoCommitCompleted;

/// Nobody's work is committed here unless they asked for it by name.
const PROTECTED: [&str; 2] = ["main", "master"];

/// One automatic commit.
pub struct AutoCommit {
    /// Runs git.
    pub git: Git,
    /// The session's folders.
    pub paths: SessionPaths,
    /// The branch that the caller asked for by name.
    pub requested: Option<BranchName>,
    /// The first line is the commit's message.
    pub prompt: String,
}

impl AutoCommit {
    /// Runs to the end, within its time.
    pub async fn run(self) -> AutoCommitCompleted {
        match tokio::time::timeout(limits::AUTO_COMMIT_TIMEOUT, self.commit()).await {
            Ok(Ok(completed)) => completed,
            Ok(Err(error)) => failed(format!("Auto-commit failed: {error}")),
            Err(_) => failed(format!("Auto-commit did not end within {} s", limits::AUTO_COMMIT_TIMEOUT.as_secs())),
        }
    }

    async fn commit(&self) -> Result<AutoCommitCompleted, GitError> {
        let Some(branch) = workspace::current_branch(&self.git, &self.paths).await else {
            return Ok(skipped("Skipped: detached HEAD".to_owned()));
        };
        let asked_for = self.requested.as_ref().is_some_and(|requested| requested.as_str() == branch);
        if PROTECTED.contains(&branch.as_str()) && !asked_for {
            return Ok(skipped(format!("Skipped: {branch} is a protected branch")));
        }
        let folder = &self.paths.workspace;
        if self.git.local(folder, &["status", "--porcelain"]).await?.stdout.trim().is_empty() {
            return self.push_own_commits(&branch).await;
        }
        let message = message_of(&self.prompt);
        // The agent is at rest, so a lock is one that a killed git has left.
        staging::unlock(folder);
        let left_out = staging::everything(&self.git, folder, None).await?;
        if !left_out.is_empty() && self.is_nothing_staged().await? {
            let completed = self.push_own_commits(&branch).await?;
            return Ok(AutoCommitCompleted { message: completed.message + &staging::told(&left_out), ..completed });
        }
        if self.git.local(folder, &["commit", "--quiet", "-m", &message]).await.is_err() {
            // A hook that refuses or hangs must not cost the work.
            staging::unlock(folder);
            self.git.local(folder, &["commit", "--quiet", "--no-verify", "-m", &message]).await?;
        }
        let hash = self.git.local(folder, &["rev-parse", "HEAD"]).await?.stdout.trim().to_owned();
        let told = match self.push(&branch).await {
            Ok(()) => "Changes committed and pushed".to_owned(),
            Err(reason) => format!("Changes committed; push failed: {reason}"),
        };
        Ok(AutoCommitCompleted {
            success: true,
            message: told + &staging::told(&left_out),
            skipped: None,
            commit_hash: Some(hash),
            commit_message: Some(message),
        })
    }

    async fn is_nothing_staged(&self) -> Result<bool, GitError> {
        const THERE_IS: i32 = 1;
        match self.git.plumbing(&self.paths.workspace, None, &["diff", "--cached", "--quiet"]).await {
            Ok(_) => Ok(true),
            Err(error) if error.code() == Some(THERE_IS) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// A clean tree may still hold commits that the agent made itself: they go with the container unless they are pushed.
    async fn push_own_commits(&self, branch: &str) -> Result<AutoCommitCompleted, GitError> {
        let folder = &self.paths.workspace;
        if workspace::unpushed(&self.git, folder).await? == 0 {
            return Ok(skipped("Skipped: nothing to commit".to_owned()));
        }
        let hash = self.git.local(folder, &["rev-parse", "HEAD"]).await?.stdout.trim().to_owned();
        let message = match self.push(branch).await {
            Ok(()) => "The agent's own commits pushed".to_owned(),
            Err(reason) => format!("The agent's own commits could not be pushed: {reason}"),
        };
        Ok(AutoCommitCompleted { success: true, message, skipped: None, commit_hash: Some(hash), commit_message: None })
    }

    async fn push(&self, branch: &str) -> Result<(), String> {
        if workspace::is_pull_request(branch) {
            return Err("a pull request's own ref cannot be pushed to".to_owned());
        }
        let refspec = format!("refs/heads/{branch}");
        let arguments = ["push", "--quiet", "-u", "origin", &refspec];
        let pushed = self.git.remote(&self.paths.workspace, &arguments, limits::GIT_REMOTE_TIMEOUT).await;
        pushed.map(|_| ()).map_err(|error| error.to_string())
    }
}

fn skipped(message: String) -> AutoCommitCompleted {
    AutoCommitCompleted { success: true, message, skipped: Some(true), commit_hash: None, commit_message: None }
}

fn failed(message: String) -> AutoCommitCompleted {
    AutoCommitCompleted { success: false, message, skipped: None, commit_hash: None, commit_message: None }
}

/// The prompt's first line, short enough for a commit's subject.
fn message_of(prompt: &str) -> String {
    let line = prompt.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("wip");
    let subject: String = line.chars().filter(|c| !c.is_control()).take(limits::COMMIT_SUBJECT_CHARS).collect();
    let subject = subject.trim_end();
    if subject.is_empty() { "wip".to_owned() } else { subject.to_owned() }
}
