//! The tools of the mayor (spec/town.md 2.6, 7).

use super::table::Input;
use super::table::Kind;
use super::table::Tool;
use protocol::town::agent::NudgeMode;
use protocol::town::bead::BeadStatus;
use protocol::town::bead::BeadType;
use protocol::town::bead::Priority;
use protocol::town::convoy::MergeMode;

const RIG: Input = Input::new("rig_id", Kind::Text, "Which rig; gt_list_rigs tells them");
const BEAD: Input = Input::new("bead_id", Kind::Text, "Which bead");
const AGENT: Input = Input::new("agent_id", Kind::Text, "Which agent");
const CONVOY: Input = Input::new("convoy_id", Kind::Text, "Which convoy");

/// All of them.
pub static MAYOR: [Tool; 20] = [
    Tool {
        name: "sling",
        about: "Gives one task to an agent of a rig, which begins at once.",
        inputs: &[
            RIG,
            Input::new("title", Kind::Text, "What is to be done, in one line"),
            Input::optional("body", Kind::Text, "Everything that the agent must know for it"),
            Input::optional("metadata", Kind::Object, "Facts that belong to it"),
            Input::optional("labels", Kind::Texts, "Labels of the bead"),
        ],
        ..Tool::post("mayor/{town}/tools/sling")
    },
    Tool {
        name: "sling_batch",
        about: "Gives tasks that belong together to agents of a rig, as a convoy. Say with depends_on what waits for what, \
                or set parallel if nothing does.",
        inputs: &[
            RIG,
            Input::new("convoy_title", Kind::Text, "What they are for, in one line"),
            Input::new("tasks", Kind::Tasks, "At most 50"),
            Input::optional("merge_mode", Kind::OneOf(MergeMode::WORDS), "How the branches come together"),
            Input::optional("parallel", Kind::Flag, "No task waits for another"),
            Input::optional("staged", Kind::Flag, "Nothing begins before gt_convoy_start"),
        ],
        ..Tool::post("mayor/{town}/tools/sling-batch")
    },
    Tool { name: "list_rigs", about: "Lists the rigs of the town.", ..Tool::get("mayor/{town}/tools/rigs") },
    Tool {
        name: "list_beads",
        about: "Lists beads of a rig, the newest first.",
        inputs: &[
            RIG,
            Input::optional("status", Kind::OneOf(BeadStatus::WORDS), "Only those"),
            Input::optional("type", Kind::OneOf(BeadType::WORDS), "Only those"),
            Input::optional("limit", Kind::Whole, "At most so many; 100 if left out"),
            Input::optional("offset", Kind::Whole, "Leave so many out"),
        ],
        ..Tool::get("mayor/{town}/tools/rigs/{rig_id}/beads")
    },
    Tool {
        name: "list_agents",
        about: "Lists the agents of a rig and what each is doing.",
        inputs: &[RIG],
        ..Tool::get("mayor/{town}/tools/rigs/{rig_id}/agents")
    },
    Tool { name: "list_convoys", about: "Lists the active convoys.", ..Tool::get("mayor/{town}/tools/convoys") },
    Tool {
        name: "convoy_status",
        about: "Reads one convoy and its beads.",
        inputs: &[CONVOY],
        ..Tool::get("mayor/{town}/tools/convoys/{convoy_id}")
    },
    Tool {
        name: "convoy_start",
        about: "Begins a staged convoy.",
        inputs: &[CONVOY],
        ..Tool::post("mayor/{town}/tools/convoys/{convoy_id}/start")
    },
    Tool {
        name: "convoy_close",
        about: "Ends a convoy.",
        inputs: &[CONVOY],
        ..Tool::post("mayor/{town}/tools/convoys/{convoy_id}/close")
    },
    Tool {
        name: "convoy_update",
        about: "Changes how a convoy is merged, or its branch.",
        inputs: &[
            CONVOY,
            Input::optional("merge_mode", Kind::OneOf(MergeMode::WORDS), "How the branches come together"),
            Input::optional("feature_branch", Kind::Text, "The branch that they come together on"),
        ],
        ..Tool::patch("mayor/{town}/tools/convoys/{convoy_id}")
    },
    Tool {
        name: "convoy_add_bead",
        about: "Adds a bead to a convoy.",
        inputs: &[CONVOY, BEAD, Input::optional("depends_on", Kind::Texts, "Beads that must be finished before")],
        ..Tool::post("mayor/{town}/tools/convoys/{convoy_id}/add-bead")
    },
    Tool {
        name: "convoy_remove_bead",
        about: "Takes a bead out of a convoy.",
        inputs: &[CONVOY, BEAD],
        ..Tool::post("mayor/{town}/tools/convoys/{convoy_id}/remove-bead")
    },
    Tool {
        name: "mail_send",
        about: "Sends mail to an agent of a rig. It is delivered when that agent reads its mail or is idle.",
        inputs: &[
            RIG,
            Input::new("to_agent_id", Kind::Text, "Who gets it"),
            Input::new("subject", Kind::Text, "In one line"),
            Input::new("body", Kind::Text, "The text"),
        ],
        signature: Some("from_agent_id"),
        ..Tool::post("mayor/{town}/tools/mail")
    },
    Tool {
        name: "nudge",
        about: "Gives an agent of a rig a message for its next idle moment, or at once.",
        inputs: &[
            RIG,
            Input::new("target_agent_id", Kind::Text, "Who gets it"),
            Input::new("message", Kind::Text, "The text"),
            Input::optional("mode", Kind::OneOf(NudgeMode::WORDS), "When it is delivered; wait-idle if left out"),
        ],
        ..Tool::post("towns/{town}/rigs/{rig_id}/nudge")
    },
    Tool {
        name: "bead_update",
        about: "Changes a bead.",
        inputs: &[
            RIG,
            BEAD,
            Input::optional("title", Kind::Text, "Its title"),
            Input::optional("body", Kind::Text, "Its text"),
            Input::optional("priority", Kind::OneOf(Priority::WORDS), "How urgent it is"),
            Input::optional("labels", Kind::Texts, "All its labels"),
            Input::optional("status", Kind::OneOf(BeadStatus::WORDS), "Where it stands"),
            Input::optional("metadata", Kind::Object, "Facts that belong to it"),
            Input::optional("new_rig_id", Kind::Text, "The rig that it goes to").sent_as("rig_id"),
            Input::optional("parent_bead_id", Kind::Text, "The bead that it is a part of"),
            Input::optional("depends_on", Kind::Texts, "All beads that must be finished before"),
        ],
        ..Tool::patch("mayor/{town}/tools/rigs/{rig_id}/beads/{bead_id}")
    },
    Tool {
        name: "bead_reassign",
        about: "Gives a bead to another agent of its rig.",
        inputs: &[RIG, BEAD, AGENT],
        ..Tool::post("mayor/{town}/tools/rigs/{rig_id}/beads/{bead_id}/reassign")
    },
    Tool {
        name: "bead_delete",
        about: "Deletes beads for good, one or many.",
        inputs: &[RIG, Input::new("bead_ids", Kind::Texts, "Which beads")],
        ..Tool::post("mayor/{town}/tools/rigs/{rig_id}/beads/bulk-delete")
    },
    Tool {
        name: "agent_reset",
        about: "Takes an agent off its work and makes it idle.",
        inputs: &[RIG, AGENT],
        ..Tool::post("mayor/{town}/tools/rigs/{rig_id}/agents/{agent_id}/reset")
    },
    Tool {
        name: "escalation_acknowledge",
        about: "Says that somebody has taken an escalation up, so that it is not repeated.",
        inputs: &[Input::new("escalation_id", Kind::Text, "Which escalation")],
        ..Tool::post("mayor/{town}/tools/escalations/{escalation_id}/acknowledge")
    },
    Tool {
        name: "ui_action",
        about: "Shows the user something in the dashboard.",
        inputs: &[Input::new(
            "action_json",
            Kind::Json,
            "A string of JSON, one of {\"type\":\"open_bead_drawer\",\"beadId\",\"rigId\"}, {\"type\":\"open_convoy_drawer\",\
             \"convoyId\",\"townId\"}, {\"type\":\"open_agent_drawer\",\"agentId\",\"rigId\",\"townId\"}, \
             {\"type\":\"navigate\",\"page\":town-overview|beads|agents|rigs|settings}, \
             {\"type\":\"highlight_bead\",\"beadId\",\"rigId\"}",
        )
        .sent_as("action")],
        ..Tool::post("mayor/{town}/tools/ui-action")
    },
];
