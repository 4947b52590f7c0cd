//! What is asked of the town itself, and its mayor.

use super::Asked;
use crate::town::error::TownError;
use crate::town::ledger::body::Body;
use crate::town::op::TownOp;
use protocol::id::InvalidId;
use protocol::id::RigId;
use serde_json::Value;
use town_core::message::Call;
use town_core::message::call::TownCall;

/// What a screen can be asked to show (spec/town.md 2.6), and the texts that each needs.
const ACTIONS: &[(&str, &[&str])] = &[
    ("highlight_bead", &["beadId", "rigId"]),
    ("navigate", &["page"]),
    ("open_agent_drawer", &["agentId", "rigId", "townId"]),
    ("open_bead_drawer", &["beadId", "rigId"]),
    ("open_convoy_drawer", &["convoyId", "townId"]),
];
const PAGES: &[&str] = &["town-overview", "beads", "agents", "rigs", "settings"];

impl Asked<'_> {
    pub(super) fn town_calls(&self, op: TownOp) -> Result<Vec<Call>, TownError> {
        let call = self.town_call(op)?;
        // A screen can show only what is the town's.
        let rig = match &call {
            TownCall::UiAction { action } => action.get("rigId").and_then(Value::as_str),
            _ => None,
        };
        let wrong = |error: InvalidId| TownError::invalid("action", error.message);
        let rig = rig.map(RigId::parse).transpose().map_err(wrong)?;
        let condition = rig.map(|rig| TownCall::Rig { rig });
        Ok(condition.into_iter().chain([call]).map(Call::Town).collect())
    }

    fn town_call(&self, op: TownOp) -> Result<TownCall, TownError> {
        Ok(match op {
            TownOp::Config => TownCall::Config {},
            TownOp::DryRun => TownCall::DryRun {},
            TownOp::EnsureMayor => TownCall::EnsureMayor {},
            TownOp::Invariants => TownCall::Invariants {},
            TownOp::MayorConfigure | TownOp::MayorDestroy | TownOp::MayorId | TownOp::MayorStatus => {
                TownCall::MayorStatus {}
            }
            TownOp::MessageMayor => {
                let body = self.body()?;
                TownCall::MessageMayor { message: body.text("message")?, model: body.text_or_none("model")? }
            }
            TownOp::Poisoned => TownCall::Poisoned {},
            TownOp::Rigs => TownCall::Rigs {},
            TownOp::Status => TownCall::Status {},
            TownOp::UiAction => TownCall::UiAction { action: action(&self.body()?)? },
            TownOp::UpdateConfig => TownCall::UpdateConfig { changes: self.body()?.fields() },
        })
    }
}

fn action(body: &Body) -> Result<Value, TownError> {
    let wrong = || TownError::invalid("action", "Expected an action of a known type with its ids");
    let action = body.value("action").ok_or_else(wrong)?;
    let text = |field: &str| action.get(field).and_then(Value::as_str).filter(|text| !text.is_empty());
    let needs = ACTIONS.iter().find(|(kind, _)| text("type") == Some(kind)).map(|(_, needs)| *needs);
    let whole = needs.ok_or_else(wrong)?.iter().all(|field| match (*field, text(field)) {
        ("page", Some(page)) => PAGES.contains(&page),
        (_, found) => found.is_some(),
    });
    if whole { Ok(action.clone()) } else { Err(wrong()) }
}
