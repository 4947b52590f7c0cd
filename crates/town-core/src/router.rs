//! From a call to the rule that answers it.

use crate::Step;
use crate::drain;
use crate::error::Fault;
use crate::error::Refusal;
use crate::escalation::Trouble;
use crate::event;
use crate::event::Fact;
use crate::message::answer::Answer;
use crate::message::call::AgentCall;
use crate::message::call::BeadCall;
use crate::message::call::TalkCall;
use crate::message::call::TownCall;
use crate::message::call::WorkCall;
use crate::review::Submission;
use crate::store;
use crate::store::bead::Filter;

/// The most rows of one listing.
const LIST_MAX: i64 = 1_000;

const DONE: Answer = Answer::Done {};

impl Step<'_> {
    pub fn bead_call(&mut self, call: &BeadCall) -> Result<Answer, Fault> {
        self.town()?;
        Ok(match call {
            BeadCall::Create(new) => {
                if let Some(rig) = &new.rig {
                    self.rig(rig)?;
                }
                Answer::Bead { bead: Box::new(self.create_bead(new.clone())?) }
            }
            BeadCall::Delete { beads } => Answer::Deleted { count: self.delete_beads(beads)? },
            BeadCall::DeleteByStatus { rig, status, kind } => {
                let filter = Filter { rig: Some(rig.clone()), status: Some(*status), kind: *kind, ..Filter::default() };
                let beads = store::bead::list(self.db, &filter, i64::from(u32::MAX), 0)?;
                let beads: Vec<_> = beads.into_iter().map(|bead| bead.bead_id).collect();
                Answer::Deleted { count: self.delete_beads(&beads)? }
            }
            BeadCall::Events { bead, since, limit } => self.bead_history(bead.as_ref(), *since, *limit)?,
            BeadCall::Get { bead } => Answer::Bead { bead: Box::new(self.bead(bead)?) },
            BeadCall::List { rig, status, kind, assignee, limit, offset } => {
                let filter =
                    Filter { status: *status, kind: *kind, rig: rig.clone(), assignee: assignee.clone(), parent: None };
                let beads = store::bead::list(self.db, &filter, (*limit).clamp(0, LIST_MAX), (*offset).max(0))?;
                Answer::Beads { beads }
            }
            BeadCall::Reassign { bead, rig, agent } => {
                Answer::Bead { bead: Box::new(self.reassign(bead, rig, agent)?) }
            }
            BeadCall::SetStatus { bead, status, agent } => {
                Answer::Bead { bead: Box::new(self.request_status(bead, *status, agent)?) }
            }
            BeadCall::Update { bead, rig, changes, actor } => {
                Answer::Bead { bead: Box::new(self.update_bead(bead, rig, changes.clone(), actor)?) }
            }
            BeadCall::Why { bead } => Answer::Why { why: self.why(bead)? },
        })
    }

    pub fn agent_call(&mut self, call: &AgentCall) -> Result<Answer, Fault> {
        self.town()?;
        let agent_answer = |agent| Answer::Agent { agent: Box::new(agent) };
        match call {
            AgentCall::Completed { agent, bead, success, reason } => {
                let status = if *success { "completed" } else { "failed" }.to_owned();
                self.report(agent.as_ref(), bead.as_ref(), &Fact::AgentCompleted { status, reason: reason.clone() })?;
            }
            AgentCall::Delete { agent } => self.delete_agent(agent)?,
            AgentCall::Done { agent, bead, branch, pr_url, summary } => {
                let (branch, pr_url, summary) = (branch.clone(), pr_url.clone(), summary.clone());
                self.report(Some(agent), bead.as_ref(), &Fact::AgentDone { branch, pr_url, summary })?;
            }
            AgentCall::EvictionContext { agent, bead, receipt } => {
                self.eviction_context(agent, bead.as_ref(), receipt)?
            }
            AgentCall::Get { agent, rig } => {
                let found = self.agent(agent)?.agent;
                if rig.is_some() && found.rig_id != *rig {
                    return Err(Refusal::AgentNotFound { agent: agent.clone() }.into());
                }
                return Ok(agent_answer(found));
            }
            AgentCall::GetOrCreate { role, rig } => {
                return Ok(agent_answer(self.get_or_create_agent(role.clone(), rig.as_ref())?));
            }
            AgentCall::Hook { agent, bead } => self.hook(agent, bead)?,
            AgentCall::List { rig, role, status } => {
                return Ok(Answer::Agents { agents: self.list_agents(rig.as_ref(), role.as_ref(), status.as_ref())? });
            }
            AgentCall::Prime { agent } => return Ok(Answer::Prime { prime: Box::new(self.prime(agent)?) }),
            AgentCall::ReadCheckpoint { agent } => {
                let data = store::agent::find(self.db, agent)?.and_then(|row| row.agent.checkpoint);
                return Ok(Answer::Checkpoint { data });
            }
            AgentCall::Register { role, name, identity, rig } => {
                return Ok(agent_answer(self.register(role.clone(), name.clone(), identity.clone(), rig.clone())?));
            }
            AgentCall::RequestChanges { agent, feedback, files } => {
                let bead = Box::new(self.request_changes(agent, feedback, files)?);
                return Ok(Answer::Bead { bead });
            }
            AgentCall::Reset { agent } => self.reset_agent(agent)?,
            AgentCall::Say { agent, message } => self.say(agent, message)?,
            AgentCall::Unhook { agent } => self.unhook(agent)?,
            AgentCall::Waiting { agent, fired_at } => self.mayor_waits(agent, *fired_at)?,
            AgentCall::WriteCheckpoint { agent, data } => {
                self.agent(agent)?;
                store::agent::set_checkpoint(self.db, agent, Some(data))?;
            }
        }
        Ok(DONE)
    }

    pub fn talk_call(&mut self, call: &TalkCall) -> Result<Answer, Fault> {
        self.town()?;
        Ok(match call {
            TalkCall::Acknowledge { escalation } => Answer::Bead { bead: Box::new(self.acknowledge(escalation)?) },
            TalkCall::CheckMail { agent } => Answer::Mail { mail: self.check_mail(agent)? },
            TalkCall::Escalate { title, body, severity, metadata, rig, agent } => {
                let trouble = Trouble {
                    words: title.clone(),
                    body: body.clone(),
                    severity: *severity,
                    metadata: metadata.clone(),
                    rig: rig.clone(),
                    agent: agent.clone(),
                };
                Answer::Bead { bead: Box::new(self.escalate(trouble)?) }
            }
            TalkCall::Escalations { acknowledged } => Answer::Beads { beads: self.list_escalations(*acknowledged)? },
            TalkCall::Nudge { agent, message, mode, priority, source, ttl_ms } => {
                let (message, source) = (message.clone(), source.clone());
                let nudge_id = self.nudge(agent, message, *mode, *priority, source, *ttl_ms)?;
                Answer::Nudged { nudge_id }
            }
            TalkCall::NudgeDelivered { nudge } => {
                store::nudge::delivered(self.db, self.now, nudge)?;
                DONE
            }
            TalkCall::PendingNudges { agent } => {
                Answer::Nudges { nudges: store::nudge::pending(self.db, self.now, agent)? }
            }
            TalkCall::ResolveTriage { agent, request, action, notes } => {
                Answer::Bead { bead: Box::new(self.resolve_triage(agent, request, action, notes)?) }
            }
            TalkCall::SendMail { from, to, subject, body } => {
                self.send_mail(from, to, subject.clone(), body.clone())?;
                DONE
            }
        })
    }

    pub fn work_call(&mut self, call: &WorkCall) -> Result<Answer, Fault> {
        self.town()?;
        let slung = |(convoy, beads)| Answer::ConvoySlung { convoy: Box::new(convoy), beads };
        Ok(match call {
            WorkCall::AddToConvoy { convoy, bead, depends_on } => {
                Answer::Convoy { convoy: Box::new(self.add_to_convoy(convoy, bead, depends_on)?) }
            }
            WorkCall::AdvanceMolecule { agent, summary } => {
                Answer::Molecule { molecule: self.advance(agent, summary)? }
            }
            WorkCall::CloseConvoy { convoy } => Answer::Convoy { convoy: Box::new(self.close_convoy(convoy)?) },
            WorkCall::CompleteReview { entry, status, message, commit } => {
                self.complete_review(entry, *status, message, commit.as_deref())?;
                DONE
            }
            WorkCall::Convoy { convoy } => Answer::ConvoyDetail { detail: Box::new(self.convoy_detail(convoy)?) },
            WorkCall::ConvoyBeadClosed { convoy } => {
                self.count_convoy(convoy)?;
                DONE
            }
            WorkCall::ConvoyDetails {} => {
                let convoys = store::convoy::active(self.db)?;
                let details = convoys.iter().map(|convoy| self.convoy_detail(&convoy.id)).collect::<Result<_, _>>()?;
                Answer::ConvoyDetails { details }
            }
            WorkCall::Convoys {} => Answer::Convoys { convoys: store::convoy::active(self.db)? },
            WorkCall::CreateConvoy { title, beads, created_by } => {
                Answer::Convoy { convoy: Box::new(self.create_convoy(title.clone(), beads, created_by.clone())?) }
            }
            WorkCall::CreateMolecule { bead, steps } => {
                Answer::Molecule { molecule: self.create_molecule(bead, steps)? }
            }
            WorkCall::CurrentStep { agent } => Answer::Step { step: Box::new(self.current_step(agent)?) },
            WorkCall::RemoveFromConvoy { convoy, bead } => {
                Answer::Convoy { convoy: Box::new(self.remove_from_convoy(convoy, bead)?) }
            }
            WorkCall::Sling { rig, title, body, priority, labels, metadata } => {
                let (title, body, labels) = (title.clone(), body.clone(), labels.clone());
                let (bead, agent) = self.sling(rig, title, body, *priority, labels, metadata.clone())?;
                Answer::Slung { bead: Box::new(bead), agent: Box::new(agent) }
            }
            WorkCall::SlingConvoy { rig, title, tasks, merge_mode, staged } => {
                slung(self.sling_convoy(rig, title.clone(), tasks.clone(), *merge_mode, *staged)?)
            }
            WorkCall::StartConvoy { convoy } => slung(self.start_convoy(convoy)?),
            WorkCall::SubmitReview { agent, bead, branch, pr_url, summary } => {
                let by = agent.to_string();
                let bead = self.submit_review(Submission {
                    by,
                    source: bead.clone(),
                    branch: branch.clone(),
                    target: None,
                    pr_url: pr_url.clone(),
                    summary: summary.clone(),
                    rig: None,
                })?;
                Answer::Bead { bead: Box::new(bead) }
            }
            WorkCall::UpdateConvoy { convoy, merge_mode, feature_branch } => {
                let convoy = self.update_convoy(convoy, *merge_mode, feature_branch.as_deref())?;
                Answer::Convoy { convoy: Box::new(convoy) }
            }
        })
    }

    pub fn town_call(&mut self, call: &TownCall) -> Result<Answer, Fault> {
        if let TownCall::Create { town, config } = call {
            self.create_town(town, config.as_ref().clone())?;
            return Ok(DONE);
        }
        if let TownCall::Destroy {} = call {
            self.destroy_town()?;
            return Ok(DONE);
        }
        self.town()?;
        Ok(match call {
            TownCall::AddRig { rig, name, git_url, default_branch } => {
                Answer::Rig { rig: self.add_rig(rig, name.clone(), git_url.clone(), default_branch.clone())? }
            }
            TownCall::Config {} => Answer::Config { config: Box::new(self.town()?.config.clone()) },
            TownCall::Create { .. } | TownCall::Destroy {} => DONE,
            TownCall::DryRun {} => Answer::Decisions { actions: self.dry_run()? },
            TownCall::EnsureMayor {} => Answer::MayorReached { reached: self.ensure_mayor()? },
            TownCall::Invariants {} => Answer::Invariants { violations: self.violations()? },
            TownCall::MayorStatus {} => Answer::MayorSeen { session: self.mayor_seen()? },
            TownCall::MessageMayor { message, model } => {
                Answer::MayorReached { reached: self.message_mayor(message, model.as_deref())? }
            }
            TownCall::Poisoned {} => Answer::Poisoned { events: event::poisoned(self.db)? },
            TownCall::RemoveRig { rig } => {
                self.remove_rig(rig)?;
                DONE
            }
            TownCall::Rig { rig } => Answer::Rig { rig: self.rig(rig)? },
            TownCall::Rigs {} => Answer::Rigs { rigs: store::town::rigs(self.db)? },
            TownCall::Status {} => Answer::Status { status: Box::new(self.status(None)?) },
            TownCall::UiAction { action } => {
                self.show(action.clone());
                DONE
            }
            TownCall::UpdateConfig { changes } => {
                Answer::Config { config: Box::new(self.update_config(changes.clone())?) }
            }
        })
    }

    pub fn is_draining(&self) -> Result<bool, Fault> {
        Ok(drain::started_at(self.db)?.is_some())
    }
}
