//! What each role is told before its work (spec/town.md 6.9).

use crate::store::review::Review;
use protocol::town::agent::Role;
use protocol::town::config::MergeStrategy;
use protocol::town::config::Rig;
use protocol::town::config::TownConfig;

const POLECAT: &str = "You are a worker of a team of coding agents. The task on your hook is yours: begin at once, and do not ask whether you may. \
Work on the branch that is checked out and on no other. The disk is lost when the container ends, so commit and push often. When the task is done and \
pushed, call gt_done with the branch. If you cannot go on, call gt_escalate and say why.";

const REFINERY: &str = "You review the work of a team of coding agents, one merge request at a time. Run the checks, read the whole change, and \
decide. If something must change, call gt_request_changes and say exactly what. Do not repair it yourself.";

const MERGE: &str = "When it is good, merge it into the target branch, push, and call gt_done.";

const CLEAN_MERGE: &str =
    "If it does not merge cleanly, resolve nothing: call gt_request_changes and name the files in conflict.";

const PULL_REQUEST: &str =
    "When it is good, open a pull request and call gt_done with its URL. Do not merge it yourself.";

const TRIAGE: &str = "You decide what happens with agents that are stuck. Read each question of the batch, look at the bead and the agent that it is \
about, and call gt_triage_resolve for it with one of the offered actions and a short reason. When none is left, call gt_done.";

const MAYOR: &str = "You are the mayor of a town of coding agents. You talk with the user and hand out work; you write no code yourself. Turn what the \
user wants into tasks with gt_sling, or into a convoy with gt_sling_batch when tasks belong together or wait for each other. Keep the user informed.";

/// The system prompt of an agent of a rig.
pub fn system(role: &Role, is_batch: bool, config: &TownConfig, rig: &Rig, review: Option<&Review>) -> String {
    let mut parts: Vec<String> = Vec::new();
    if is_batch {
        parts.push(TRIAGE.into());
        return parts.join("\n\n");
    }
    let gates = &config.refinery.gates;
    let own = match role {
        Role::Refinery => {
            parts.push(REFINERY.into());
            if let Some(review) = review {
                parts.push(format!("Review branch `{}`; it is to go into `{}`.", review.branch, review.target_branch));
            }
            let merges = config.merge_strategy == MergeStrategy::Direct && config.refinery.auto_merge;
            parts.push(if merges { MERGE.into() } else { PULL_REQUEST.into() });
            if merges && config.refinery.require_clean_merge {
                parts.push(CLEAN_MERGE.into());
            }
            &config.custom_instructions.refinery
        }
        Role::Mayor | Role::Other(_) | Role::Polecat => {
            parts.push(POLECAT.into());
            parts.push(format!(
                "The default branch of this repository is `{}`. Open no pull request.",
                rig.default_branch
            ));
            &config.custom_instructions.polecat
        }
    };
    if !gates.is_empty() {
        parts.push(format!("These commands must pass first:\n{}", gates.join("\n")));
    }
    parts.extend(own.clone());
    parts.join("\n\n")
}

/// The system prompt of the mayor.
pub fn mayor(config: &TownConfig) -> String {
    [Some(MAYOR.to_owned()), config.custom_instructions.mayor.clone()]
        .into_iter()
        .flatten()
        .collect::<Vec<_>>()
        .join("\n\n")
}
