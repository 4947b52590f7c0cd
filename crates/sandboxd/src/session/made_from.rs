//! What a workspace was made from. Until the first turn the caller may want another branch or other setup commands (spec/session.md 2.7);
//! then the workspace is made anew, as if it had never been there.
//!
//! The mark is in the clone before that is renamed into its place, and leaves the place together with it: a workspace never has the mark of
//! another. From the first prompt on the agent's work is in it, and nothing that a plan says removes it.

use super::error::WorkError;
use super::kilo::import;
use super::paths::SessionPaths;
use super::prompted;
use super::workspace;
use protocol::sandbox::WorkspacePlan;
use serde_json::json;
use sha2::Digest;
use sha2::Sha256;
use std::fs;

/// Notes in the finished clone what it was made from.
pub fn note(paths: &SessionPaths, plan: &WorkspacePlan) -> Result<(), WorkError> {
    fs::write(paths.made_from(&paths.cloning), mark(plan)).map_err(WorkError::Workspace)
}

/// Whether the workspace that is there is not the one that `plan` asks for, and nobody has worked in it. With `resumes` somebody has, here or elsewhere.
/// Where that cannot be read, it stays.
pub fn is_outdated(paths: &SessionPaths, plan: &WorkspacePlan, resumes: bool) -> bool {
    let made_from = fs::read_to_string(paths.made_from(&paths.workspace)).ok();
    let had_turn = resumes || prompted::any(paths).unwrap_or(true);
    must_go(made_from.as_deref(), &mark(plan), had_turn)
}

/// Takes the workspace out of its place, with what the agent knows of it; the next clone clears it away. Nothing may run in it.
pub async fn take_away(paths: &SessionPaths) -> Result<(), WorkError> {
    // A shallow clone of another branch is another project to the agent.
    import::forget(paths)?;
    // What an unfinished clone left would be in the way.
    workspace::remove(&paths.cloning).await?;
    tokio::fs::rename(&paths.workspace, &paths.cloning).await.map_err(WorkError::Workspace)
}

fn must_go(made_from: Option<&str>, wanted: &str, had_turn: bool) -> bool {
    !had_turn && made_from.is_some_and(|made_from| made_from != wanted)
}

/// A fingerprint: a setup command may hold a secret.
fn mark(plan: &WorkspacePlan) -> String {
    let made_from = json!([plan.upstream_branch, plan.setup_commands]);
    format!("{:x}", Sha256::digest(made_from.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::id::MessageId;
    use protocol::id::SessionId;

    #[test]
    fn only_a_workspace_that_is_known_to_be_another_and_had_no_turn_must_go() {
        assert!(must_go(Some("old"), "new", false));
        assert!(!must_go(Some("old"), "old", false));
        assert!(!must_go(Some("old"), "new", true));
        // Nobody knows what it was made from.
        assert!(!must_go(None, "new", false));
    }

    #[test]
    fn another_branch_or_other_setup_commands_outdate_a_workspace_until_a_prompt_is_handed_out() {
        let (root, id) = (tempfile::tempdir().unwrap(), "agent_01234567-89ab-cdef-0123-456789abcdef");
        let paths = SessionPaths::new(root.path(), &SessionId::parse(id).unwrap());
        paths.create().unwrap();
        let plan = |upstream: Option<&str>, commands: &[&str], git_token: &str| -> WorkspacePlan {
            let fields = json!({
                "sessionId": id, "kiloSessionId": "ses_01234567890123456789abcdef", "gitUrl": "https://git.example/a.git",
                "gitToken": git_token, "upstreamBranch": upstream, "setupCommands": commands,
            });
            serde_json::from_value(fields).unwrap()
        };
        let made = plan(Some("main"), &["make"], "t");
        fs::create_dir_all(paths.cloning.join(".git")).unwrap();
        note(&paths, &made).unwrap();
        fs::rename(&paths.cloning, &paths.workspace).unwrap();

        let others = [plan(Some("topic"), &["make"], "t"), plan(None, &["make"], "t"), plan(Some("main"), &[], "t")];
        assert!(others.iter().all(|other| is_outdated(&paths, other, false)));
        assert!(!is_outdated(&paths, &plan(Some("main"), &["make"], "another"), false));
        assert!(!others.iter().any(|other| is_outdated(&paths, other, true)));
        let message = MessageId::parse(&format!("msg_{:026}", 1)).unwrap();
        prompted::add(&paths, &message, 9).unwrap();
        assert!(!others.iter().any(|other| is_outdated(&paths, other, false)));
        // The agent did not take it after all.
        prompted::remove(&paths, &message, 9);
        assert!(others.iter().all(|other| is_outdated(&paths, other, false)));
    }
}
