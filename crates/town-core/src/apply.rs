//! Carrying out what the reconciler decided, each action as an atomic unit: one that fails stops no other (spec/town.md 4.4).

use crate::Step;
use crate::bead::FailureReason;
use crate::convoy::LANDING_TRIES;
use crate::convoy::LAST_LANDING;
use crate::error::Fault;
use crate::escalation::Trouble;
use crate::message::Notice;
use crate::message::Output;
use crate::message::effect::Effect;
use crate::reconcile::action::Action;
use crate::review::Submission;
use crate::store;
use crate::triage::PATROL_OPTIONS;
use crate::triage::Question;
use protocol::id::AgentId;
use protocol::id::BeadId;
use protocol::id::RigId;
use protocol::time::iso8601;
use protocol::town::agent::NudgeMode;
use protocol::town::agent::NudgePriority;
use protocol::town::agent::Role;
use protocol::town::bead::BeadStatus;
use protocol::town::bead::BeadType;
use serde_json::json;

impl Step<'_> {
    /// Applies actions in order, apart from those that the loop breaker holds.
    pub fn apply_actions(&mut self, actions: &[Action]) -> Result<(), Fault> {
        for action in actions {
            if !self.may_act(action)? {
                continue;
            }
            let name = format!("{}/{}", action.kind(), action.target());
            if !self.contained(&name, |step| step.apply_action(action)) {
                self.action_failed(action)?;
            }
        }
        Ok(())
    }

    /// Does something as an atomic unit whose failure is only told: it stops nothing else of the turn. True if it went well.
    pub fn contained(&mut self, name: &str, work: impl FnOnce(&mut Self) -> Result<(), Fault>) -> bool {
        let db = self.db;
        let outputs = self.outputs.len();
        let result = database::transaction(db, || work(self));
        if let Err(fault) = &result {
            self.outputs.truncate(outputs);
            let notice = Notice::ActionFailed { action: name.to_owned(), reason: fault.to_string() };
            self.outputs.push(Output::Notice(notice));
        }
        result.is_ok()
    }

    fn apply_action(&mut self, action: &Action) -> Result<(), Fault> {
        match action {
            Action::ClearBeadAssignee { bead } => {
                self.take_away(bead, "its bead was taken away")?;
                Ok(store::bead::set_assignee(self.db, self.now, bead, None)?)
            }
            Action::CloseConvoy { convoy } => self.land_convoy(convoy),
            Action::CreateLandingMr { convoy, rig, branch, target } => {
                self.create_landing(convoy, rig.as_ref(), branch, target)
            }
            Action::CreateTriageRequest { agent, reason } => {
                let name = self.agent(agent)?.agent.name;
                self.ask_triage(Question {
                    kind: "stuck_agent",
                    agent: Some(agent),
                    title: format!("Agent {name} is stuck"),
                    context: reason.clone(),
                    options: PATROL_OPTIONS,
                    escalation: None,
                })
            }
            Action::DeleteAgent { agent } => self.delete_agent(agent),
            Action::DispatchAgent { agent, bead, rig } => self.assign_and_dispatch(agent.as_ref(), bead, rig.as_ref()),
            Action::FailConvoy { convoy, reason } => {
                self.set_status(convoy, BeadStatus::Failed, "system", Some(by_reconciler(reason)))?;
                self.escalate(Trouble::of_town(format!("A convoy was given up: {reason}"))).map(drop)
            }
            Action::HookAgent { agent, bead } => self.hook(agent, bead),
            Action::NotifyMayor { message } => self.breaker_opened(message),
            Action::PollPr { bead, url } => {
                store::bead::touch(self.db, self.now, bead)?;
                self.owe_once(&Effect::Poll { bead: bead.clone(), url: url.clone() })
            }
            Action::SendNudge { agent, message, tier } => {
                let (mode, priority) = (NudgeMode::Immediate, NudgePriority::Urgent);
                self.nudge(agent, message.clone(), mode, priority, tier.source().into(), None).map(drop)
            }
            Action::SetConvoyReadyToLand { convoy } => self.ready_to_land(convoy),
            Action::StopAgent { agent, reason } => self.stop_agent(agent, reason),
            Action::TransitionAgent { agent, to, .. } => {
                self.agent(agent)?;
                Ok(store::agent::set_status(self.db, self.now, agent, to)?)
            }
            Action::TransitionBead { bead, to, reason } => {
                let reason = (*to == BeadStatus::Failed).then(|| by_reconciler(reason));
                let bead = self.set_status(bead, *to, "system", reason)?;
                if bead.kind == BeadType::MergeRequest && *to == BeadStatus::Failed {
                    self.source_lost(&bead.bead_id)
                } else {
                    Ok(())
                }
            }
            Action::UnhookAgent { agent } => self.unhook(agent),
            Action::UpdateConvoyProgress { convoy } => self.count_convoy(convoy),
        }
    }

    fn assign_and_dispatch(
        &mut self,
        agent: Option<&AgentId>,
        bead: &BeadId,
        rig: Option<&RigId>,
    ) -> Result<(), Fault> {
        let agent = match agent {
            Some(agent) => agent.clone(),
            None => {
                let is_review = self.bead(bead)?.kind == BeadType::MergeRequest;
                let role = if is_review { Role::Refinery } else { Role::Polecat };
                self.get_or_create_agent(role, rig)?.id
            }
        };
        self.hook(&agent, bead)?;
        self.dispatch(&agent, bead)
    }

    fn create_landing(
        &mut self,
        convoy: &BeadId,
        rig: Option<&RigId>,
        branch: &str,
        target: &str,
    ) -> Result<(), Fault> {
        let tries = self.bead(convoy)?.metadata.get(LANDING_TRIES).and_then(|n| n.as_i64()).unwrap_or_default();
        let counted = json!({LANDING_TRIES: tries.saturating_add(1), LAST_LANDING: iso8601(self.now)});
        store::bead::merge_metadata(self.db, convoy, &counted)?;
        self.submit_review(Submission {
            by: "system".into(),
            source: convoy.clone(),
            branch: branch.to_owned(),
            target: Some(target.to_owned()),
            pr_url: None,
            summary: Some("Lands the whole convoy".into()),
            rig: rig.cloned(),
        })
        .map(drop)
    }

    /// A merge request failed by a rule: its source goes back as it does when a reviewer fails it.
    fn source_lost(&mut self, review: &BeadId) -> Result<(), Fault> {
        for source in store::dependency::tracked(self.db, review)? {
            if source.kind == BeadType::Issue && source.status == BeadStatus::InReview {
                self.reopen(&source.bead_id, "system")?;
            }
        }
        Ok(())
    }

    fn breaker_opened(&mut self, message: &str) -> Result<(), Fault> {
        if self.once_per("breaker", self.limits.breaker_window_ms)? {
            self.outputs.push(Output::Notice(Notice::BreakerOpen));
            self.tell_mayor(message)?;
        }
        Ok(())
    }
}

fn by_reconciler(reason: &str) -> FailureReason {
    FailureReason { code: "reconciler", message: reason.to_owned(), source: "scheduler" }
}
