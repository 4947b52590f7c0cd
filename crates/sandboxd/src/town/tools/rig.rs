//! The tools of the agents of a rig (spec/town.md 7).

use super::table::Input;
use super::table::Kind;
use super::table::Tool;
use protocol::town::agent::NudgeMode;
use protocol::town::bead::Priority;

/// What can be done about a stuck agent (spec/town.md 4.8).
const TRIAGE_ACTIONS: &[&str] = &[
    "CLOSE_BEAD",
    "DISCARD",
    "ESCALATE",
    "ESCALATE_TO_MAYOR",
    "NUDGE",
    "PROVIDE_GUIDANCE",
    "REASSIGN_BEAD",
    "RESTART",
    "RESTART_WITH_BACKOFF",
];

/// Ends an agent's work.
pub const DONE: &str = "done";

/// Of every agent of a rig.
pub static COMMON: [Tool; 12] = [
    Tool {
        name: "prime",
        about: "Reads your own record, the bead on your hook, your new mail and the open beads of the rig. Begin with it.",
        ..Tool::get("towns/{town}/rigs/{rig}/agents/{agent}/prime")
    },
    Tool {
        name: "bead_status",
        about: "Reads one bead of this rig.",
        inputs: &[Input::new("bead_id", Kind::Text, "Which bead")],
        ..Tool::get("towns/{town}/rigs/{rig}/beads/{bead_id}")
    },
    Tool {
        name: "bead_close",
        about: "Closes a bead that is finished without a change to review. For your own work with a branch use gt_done.",
        inputs: &[Input::new("bead_id", Kind::Text, "Which bead")],
        signature: Some("agent_id"),
        ..Tool::post("towns/{town}/rigs/{rig}/beads/{bead_id}/close")
    },
    Tool {
        name: DONE,
        about: "Ends your work on the bead on your hook: its branch, which you have pushed, goes to review.",
        inputs: &[
            Input::optional(
                "branch",
                Kind::Branch,
                "The branch that you have pushed, if it is not the one that you were given",
            ),
            Input::optional("pr_url", Kind::Text, "The pull request, if you have opened one"),
            Input::optional("summary", Kind::Text, "What you have done, for the reviewer"),
        ],
        of_bead: Some("bead_id"),
        ..Tool::post("towns/{town}/rigs/{rig}/agents/{agent}/done")
    },
    Tool {
        name: "mail_send",
        about: "Sends mail to another agent of the town. It is delivered when that agent reads its mail or is idle.",
        inputs: &[
            Input::new("to_agent_id", Kind::Text, "Who gets it"),
            Input::new("subject", Kind::Text, "In one line"),
            Input::new("body", Kind::Text, "The text"),
        ],
        signature: Some("from_agent_id"),
        ..Tool::post("towns/{town}/rigs/{rig}/mail")
    },
    Tool {
        name: "mail_check",
        about: "Reads your new mail. What was read is not shown again.",
        ..Tool::get("towns/{town}/rigs/{rig}/agents/{agent}/mail")
    },
    Tool {
        name: "escalate",
        about: "Asks a person for a decision that you cannot take, or tells of a problem that you cannot solve.",
        inputs: &[
            Input::new("title", Kind::Text, "The question, in one line"),
            Input::optional("body", Kind::Text, "What you have tried, and what is needed"),
            Input::optional("priority", Kind::OneOf(Priority::WORDS), "How urgent; medium if left out"),
            Input::optional("metadata", Kind::Object, "Facts that belong to it"),
        ],
        ..Tool::post("towns/{town}/rigs/{rig}/escalations")
    },
    Tool {
        name: "checkpoint",
        about: "Leaves a note for yourself: you are shown it if this container ends and you are started again.",
        inputs: &[Input::new("data", Kind::Json, "The note, as a string of JSON")],
        ..Tool::post("towns/{town}/rigs/{rig}/agents/{agent}/checkpoint")
    },
    Tool {
        name: "mol_current",
        about: "Reads the current step of the molecule, the list of steps, that your bead follows.",
        absent: Some("Your bead follows no molecule."),
        ..Tool::get("towns/{town}/rigs/{rig}/agents/{agent}/molecule/current")
    },
    Tool {
        name: "mol_advance",
        about: "Ends the current step of your molecule and goes on to the next one.",
        inputs: &[Input::new("summary", Kind::Text, "What was done in this step")],
        absent: Some("Your bead follows no molecule."),
        ..Tool::post("towns/{town}/rigs/{rig}/agents/{agent}/molecule/advance")
    },
    Tool {
        name: "nudge",
        about: "Gives another agent of the town a message for its next idle moment, or at once.",
        inputs: &[
            Input::new("target_agent_id", Kind::Text, "Who gets it"),
            Input::new("message", Kind::Text, "The text"),
            Input::optional("mode", Kind::OneOf(NudgeMode::WORDS), "When it is delivered; wait-idle if left out"),
        ],
        ..Tool::post("towns/{town}/rigs/{rig}/nudge")
    },
    Tool {
        name: "status",
        about: "Says in one line what you are doing, for the people who watch.",
        inputs: &[Input::new("message", Kind::Text, "At most 280 characters")],
        ..Tool::post("towns/{town}/rigs/{rig}/agents/{agent}/status")
    },
];

/// Of the refinery besides.
pub static REFINERY: [Tool; 1] = [Tool {
    name: "request_changes",
    about: "Sends the branch that you review back to be changed.",
    inputs: &[
        Input::new("feedback", Kind::Text, "What must change, and why, so that it can be done without asking"),
        Input::optional("files", Kind::Texts, "The files that it is about"),
    ],
    ..Tool::post("towns/{town}/rigs/{rig}/agents/{agent}/request-changes")
}];

/// Of a triage agent besides.
pub static TRIAGE: [Tool; 1] = [Tool {
    name: "triage_resolve",
    about: "Decides one triage request.",
    inputs: &[
        Input::new("triage_request_bead_id", Kind::Text, "Which request"),
        Input::new("action", Kind::OneOf(TRIAGE_ACTIONS), "One of those that the request offers"),
        Input::new("resolution_notes", Kind::Text, "Why, in a sentence"),
    ],
    ..Tool::post("towns/{town}/rigs/{rig}/triage/resolve")
}];
