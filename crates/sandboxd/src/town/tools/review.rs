//! A review's end: that the branch is merged is not a matter of words (spec/town.md 8.1).
//!
//! A reviewer may be wrong about what it did: a push that was refused, or a command that was cut short with its container. The town would count the
//! work as done, and nobody would look for it again.

use super::rig::DONE;
use super::table::Tool;
use crate::town::git::Branch;
use crate::town::git::GitManager;
use crate::town::git::RigRepo;
use crate::town::git::Tokens;
use crate::town::live::Live;
use serde_json::Map;
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Duration;

/// Where the pull request is, if the town is to watch one instead.
const PULL_REQUEST: &str = "pr_url";
/// Two calls of the remote, and a merge that is only tried.
pub const CHECK_TIMEOUT: Duration = Duration::from_secs(40);

/// What a reviewer is to see merged.
#[derive(Clone, Debug)]
pub struct Review {
    /// Where.
    pub repo: RigRepo,
    /// The variables of its start.
    pub variables: BTreeMap<String, String>,
    /// What.
    pub branch: Branch,
    /// Into what.
    pub target: Branch,
}

impl Tool {
    /// Whether a call says that the caller has merged what it reviewed.
    pub fn ends_review(&self, arguments: &Map<String, Value>) -> bool {
        self.name == DONE && arguments.get(PULL_REQUEST).and_then(Value::as_str).is_none_or(str::is_empty)
    }
}

impl Review {
    /// Looks on the remote whether it is merged; if not, says what is to be done.
    pub async fn check(&self, git: &GitManager, live: &Live) -> Result<(), String> {
        let Self { repo, variables, branch, target } = self;
        // A review is longer than the life of many a token.
        let tokens = Tokens::read(|name| live.variable(variables, name));
        let repo = RigRepo { credential: tokens.for_url(&repo.url), ..repo.clone() };
        match tokio::time::timeout(CHECK_TIMEOUT, git.is_merged(&repo, branch, target)).await {
            Ok(Ok(true)) => Ok(()),
            Ok(Ok(false)) => Err(format!(
                "{target} on the remote does not have the changes of {branch}. Merge {branch} into {target}, push {target}, and call gt_done \
                 again; or, if a pull request is open for it, give its address as {PULL_REQUEST}."
            )),
            Ok(Err(error)) => {
                Err(format!("It could not be seen whether {branch} is merged into {target}: {error}. Try again."))
            }
            Err(_) => {
                Err(format!("The remote did not say in time whether {branch} is merged into {target}. Try again."))
            }
        }
    }
}
