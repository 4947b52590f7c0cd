//! What agents and people say to each other.

use super::Asked;
use super::priority;
use crate::town::error::TownError;
use crate::town::guard::Guard;
use crate::town::op::TalkOp;
use protocol::id::AgentId;
use protocol::id::BeadId;
use protocol::town::agent::NudgeMode;
use protocol::town::agent::NudgePriority;
use town_core::message::call::TalkCall;

const OTHER_SENDER: &str = "from_agent_id does not match authenticated agent";

impl Asked<'_> {
    pub(super) fn talk_call(&self, op: TalkOp) -> Result<TalkCall, TownError> {
        Ok(match op {
            TalkOp::Acknowledge => TalkCall::Acknowledge { escalation: self.bead()? },
            TalkOp::CheckMail => TalkCall::CheckMail { agent: self.agent()? },
            TalkOp::Escalate => {
                let body = self.body()?;
                TalkCall::Escalate {
                    title: body.text("title")?,
                    body: body.text_or_none("body")?,
                    severity: priority(&body)?,
                    metadata: body.object("metadata")?,
                    rig: Some(self.rig()?),
                    agent: self.caller.agent().cloned(),
                }
            }
            TalkOp::Escalations => {
                let flag = |word: &str| word.parse::<bool>().ok();
                let acknowledged = self.query.word("acknowledged", flag, "acknowledged must be true or false")?;
                TalkCall::Escalations { acknowledged }
            }
            TalkOp::Mail => {
                let body = self.body()?;
                let from = body.id("from_agent_id", AgentId::parse)?;
                // The mayor's own route has no rule of that kind: whoever holds its token speaks for the town.
                if self.guard != Guard::Mayor {
                    self.caller.must_be(&from, OTHER_SENDER)?;
                }
                TalkCall::SendMail {
                    from,
                    to: body.id("to_agent_id", AgentId::parse)?,
                    subject: body.text("subject")?,
                    body: body.text("body")?,
                }
            }
            TalkOp::Nudge => {
                let body = self.body()?;
                let mode = body.word_or_none("mode", NudgeMode::parse, NudgeMode::WORDS)?;
                TalkCall::Nudge {
                    agent: body.id("target_agent_id", AgentId::parse)?,
                    message: body.text("message")?,
                    mode: mode.unwrap_or(NudgeMode::WaitIdle),
                    priority: NudgePriority::Normal,
                    source: "agent".into(),
                    ttl_ms: None,
                }
            }
            TalkOp::NudgeDelivered => TalkCall::NudgeDelivered { nudge: self.body()?.text("nudge_id")? },
            TalkOp::PendingNudges => TalkCall::PendingNudges { agent: self.agent()? },
            TalkOp::ResolveTriage => {
                let agent = self.caller.agent().cloned();
                let agent = agent.ok_or_else(|| TownError::Unauthorized("Agent authentication required".into()))?;
                let body = self.body()?;
                TalkCall::ResolveTriage {
                    agent,
                    request: body.id("triage_request_bead_id", BeadId::parse)?,
                    action: body.text("action")?,
                    notes: body.text_or_none("resolution_notes")?.unwrap_or_default(),
                }
            }
        })
    }
}
