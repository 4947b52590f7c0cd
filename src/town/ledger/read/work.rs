//! What is asked about work that is handed out, reviewed and landed.

use super::Asked;
use super::priority;
use crate::town::error::TownError;
use crate::town::ledger::body::Body;
use crate::town::op::WorkOp;
use protocol::id::AgentId;
use protocol::id::BeadId;
use protocol::town::convoy::ConvoyTask;
use protocol::town::convoy::FormulaStep;
use protocol::town::convoy::MergeMode;
use serde_json::Value;
use town_core::message::call::ReviewResult;
use town_core::message::call::WorkCall;

/// How many tasks one batch may have.
const TASKS_MAX: usize = 50;
/// The longest summary of a step, in characters.
const SUMMARY_MAX: usize = 5_000;

const OTHER_AGENT: &str = "agent_id does not match authenticated agent";

impl Asked<'_> {
    pub(super) fn work_call(&self, op: WorkOp) -> Result<WorkCall, TownError> {
        Ok(match op {
            WorkOp::AddToConvoy => {
                let body = self.body()?;
                WorkCall::AddToConvoy {
                    convoy: self.bead()?,
                    bead: body.id("bead_id", BeadId::parse)?,
                    depends_on: body.ids("depends_on", BeadId::parse)?,
                }
            }
            WorkOp::AdvanceMolecule => WorkCall::AdvanceMolecule {
                agent: self.agent()?,
                summary: self.body()?.short_text("summary", SUMMARY_MAX)?,
            },
            WorkOp::CloseConvoy => WorkCall::CloseConvoy { convoy: self.bead()? },
            WorkOp::CompleteReview => {
                let body = self.body()?;
                WorkCall::CompleteReview {
                    entry: self.bead()?,
                    status: body.word("status", ReviewResult::parse, ReviewResult::WORDS)?,
                    message: body.text_or_none("message")?.unwrap_or_default(),
                    commit: body.text_or_none("commit_sha")?,
                }
            }
            WorkOp::Convoy => WorkCall::Convoy { convoy: self.bead()? },
            WorkOp::ConvoyBeadClosed => {
                WorkCall::ConvoyBeadClosed { convoy: self.body()?.id("convoyId", BeadId::parse)? }
            }
            WorkOp::Convoys => WorkCall::Convoys {},
            WorkOp::CreateConvoy => self.create_convoy()?,
            WorkOp::CreateMolecule => {
                let body = self.body()?;
                WorkCall::CreateMolecule { bead: body.id("bead_id", BeadId::parse)?, steps: steps(&body)? }
            }
            WorkOp::CurrentStep => WorkCall::CurrentStep { agent: self.agent()? },
            WorkOp::RemoveFromConvoy => {
                WorkCall::RemoveFromConvoy { convoy: self.bead()?, bead: self.body()?.id("bead_id", BeadId::parse)? }
            }
            WorkOp::Sling => {
                let body = self.body()?;
                WorkCall::Sling {
                    rig: self.rig()?,
                    title: body.text("title")?,
                    body: body.text_or_none("body")?,
                    priority: priority(&body)?,
                    labels: body.texts("labels")?,
                    metadata: body.object("metadata")?,
                }
            }
            WorkOp::SlingConvoy => self.sling_convoy()?,
            WorkOp::StartConvoy => WorkCall::StartConvoy { convoy: self.bead()? },
            WorkOp::SubmitReview => {
                let body = self.body()?;
                let agent = body.id("agent_id", AgentId::parse)?;
                self.caller.must_be(&agent, OTHER_AGENT)?;
                WorkCall::SubmitReview {
                    agent,
                    bead: body.id("bead_id", BeadId::parse)?,
                    branch: body.text("branch")?,
                    pr_url: body.text_or_none("pr_url")?,
                    summary: body.text_or_none("summary")?,
                }
            }
            WorkOp::UpdateConvoy => {
                let body = self.body()?;
                let merge_mode = body.word_or_none("merge_mode", MergeMode::parse, MergeMode::WORDS)?;
                let feature_branch = body.text_or_none("feature_branch")?.filter(|branch| !branch.is_empty());
                if merge_mode.is_none() && feature_branch.is_none() {
                    return Err(TownError::invalid("", "Expected merge_mode or feature_branch"));
                }
                WorkCall::UpdateConvoy { convoy: self.bead()?, merge_mode, feature_branch }
            }
        })
    }

    fn create_convoy(&self) -> Result<WorkCall, TownError> {
        let body = self.body()?;
        let beads = body.objects("beads")?;
        let beads = beads.iter().map(|bead| bead.id("bead_id", BeadId::parse)).collect::<Result<Vec<_>, _>>()?;
        if beads.is_empty() {
            return Err(TownError::invalid("beads", "Expected at least 1 bead"));
        }
        let created_by = match (body.text_or_none("created_by")?, self.caller.user_id()) {
            (None, user) => user.map(ToString::to_string),
            (named, _) => named,
        };
        Ok(WorkCall::CreateConvoy { title: body.text("title")?, beads, created_by })
    }

    fn sling_convoy(&self) -> Result<WorkCall, TownError> {
        let body = self.body()?;
        let tasks = body.objects("tasks")?.iter().map(task).collect::<Result<Vec<_>, _>>()?;
        if !(1..=TASKS_MAX).contains(&tasks.len()) {
            return Err(TownError::invalid("tasks", format!("Expected 1 to {TASKS_MAX} tasks")));
        }
        let unordered = tasks.len() > 1 && tasks.iter().all(|task| task.depends_on.is_empty());
        if unordered && body.flag("parallel")? != Some(true) {
            let message = "Expected depends_on in some task, or parallel: true if no task waits for another";
            return Err(TownError::invalid("tasks", message));
        }
        Ok(WorkCall::SlingConvoy {
            rig: self.rig()?,
            title: body.text("convoy_title")?,
            tasks,
            merge_mode: body.word_or_none("merge_mode", MergeMode::parse, MergeMode::WORDS)?,
            staged: body.flag("staged")?,
        })
    }
}

fn task(task: &Body) -> Result<ConvoyTask, TownError> {
    let wrong = || TownError::invalid("depends_on", "Expected a list of task numbers from 0");
    let number = |value: &Value| value.as_u64().and_then(|n| usize::try_from(n).ok()).ok_or_else(wrong);
    Ok(ConvoyTask {
        title: task.text("title")?,
        body: task.text_or_none("body")?,
        depends_on: task.list("depends_on")?.iter().map(number).collect::<Result<_, _>>()?,
    })
}

/// `{formula: {steps: […]}}`, or the bare list.
fn steps(body: &Body) -> Result<Vec<FormulaStep>, TownError> {
    let wrong = || TownError::invalid("formula", "Expected steps, at least 1, each with title and instructions");
    let formula = body.value("formula").ok_or_else(wrong)?;
    let steps = formula.get("steps").unwrap_or(formula).as_array().filter(|steps| !steps.is_empty());
    let text = |step: &Value, field| step.get(field).and_then(Value::as_str).map(str::to_owned).ok_or_else(wrong);
    let step =
        |step: &Value| Ok(FormulaStep { title: text(step, "title")?, instructions: text(step, "instructions")? });
    steps.ok_or_else(wrong)?.iter().map(step).collect()
}
