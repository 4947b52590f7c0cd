//! Triage: questions of the patrol and of agents, answered in batches by a short-lived agent (spec/town.md 4.8).

use crate::Step;
use crate::bead::FailureReason;
use crate::error::Fault;
use crate::error::Refusal;
use crate::escalation::Trouble;
use crate::message::bead::NewBead;
use crate::message::effect::Effect;
use crate::store;
use protocol::id::AgentId;
use protocol::id::BeadId;
use protocol::id::RigId;
use protocol::town::agent::AgentStatus;
use protocol::town::agent::NudgeMode;
use protocol::town::agent::NudgePriority;
use protocol::town::agent::Role;
use protocol::town::bead::Bead;
use protocol::town::bead::BeadEventType;
use protocol::town::bead::BeadStatus;
use protocol::town::bead::BeadType;
use protocol::town::bead::Priority;
use protocol::town::bead::label;
use serde_json::Map;
use serde_json::json;

/// What the patrol offers (spec/town.md 13, Q2).
pub const PATROL_OPTIONS: &[&str] = &["RESTART", "CLOSE_BEAD", "ESCALATE"];

/// Of a question's metadata: in how many batches it was.
pub const TRIAGE_BATCHES: &str = "triage_batches";

/// A question for the triage agent.
#[derive(Clone, Debug)]
pub struct Question<'a> {
    /// `stuck_agent`, `escalation`, …
    pub kind: &'a str,
    /// Whom it is about.
    pub agent: Option<&'a AgentId>,
    pub title: String,
    pub context: String,
    pub options: &'a [&'a str],
    /// The escalation that ends with it.
    pub escalation: Option<&'a BeadId>,
}

/// What a triage agent decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Decision {
    CloseBead,
    Discard,
    EscalateToMayor,
    Nudge,
    ReassignBead,
    Restart,
    RestartWithBackoff,
}

impl Decision {
    fn parse(word: &str) -> Option<Self> {
        Some(match word.to_ascii_uppercase().as_str() {
            "CLOSE_BEAD" => Self::CloseBead,
            "DISCARD" | "PROVIDE_GUIDANCE" => Self::Discard,
            "ESCALATE" | "ESCALATE_TO_MAYOR" => Self::EscalateToMayor,
            "NUDGE" => Self::Nudge,
            "REASSIGN_BEAD" => Self::ReassignBead,
            "RESTART" => Self::Restart,
            "RESTART_WITH_BACKOFF" => Self::RestartWithBackoff,
            _ => return None,
        })
    }
}

/// Questions that wait.
const OPEN_REQUESTS: &str = "WHERE b.type = 'issue' AND b.status = 'open' AND b.labels LIKE '%\"gt:triage-request\"%'
    ORDER BY b.rowid";
/// Batches that somebody works on.
const OPEN_BATCHES: &str =
    "WHERE b.type = 'issue' AND b.status IN ('open', 'in_progress') AND b.labels LIKE '%\"gt:triage\"%'
    AND b.created_by = 'patrol' LIMIT 1";

impl Step<'_> {
    /// Asks, unless the same is asked of the same agent already, or the patrol has asked too much.
    pub fn ask_triage(&mut self, question: Question<'_>) -> Result<(), Fault> {
        let open = self.open_triage()?;
        let agent = question.agent.map(AgentId::as_str);
        let same =
            |bead: &&Bead| bead.text("triage_type") == Some(question.kind) && bead.text("agent_bead_id") == agent;
        let by_patrol = |bead: &&Bead| bead.text("triage_type") != Some("escalation");
        let waiting = i64::try_from(open.iter().filter(by_patrol).count()).unwrap_or(i64::MAX);
        let is_escalation = question.kind == "escalation";
        if !is_escalation && (open.iter().any(|bead| same(&bead)) || waiting >= self.limits.triage_open_max) {
            return Ok(());
        }
        let row = match question.agent {
            Some(agent) => store::agent::find(self.db, agent)?,
            None => None,
        };
        let mut metadata = Map::new();
        metadata.insert("triage_type".into(), json!(question.kind));
        metadata.insert("agent_bead_id".into(), json!(agent));
        metadata.insert("context".into(), json!(question.context));
        metadata.insert("options".into(), json!(question.options));
        metadata.insert("escalation_bead_id".into(), json!(question.escalation));
        if let Some(hook) = row.as_ref().and_then(|row| row.agent.current_hook_bead_id.as_ref()) {
            metadata.insert("hooked_bead_id".into(), json!(hook));
        }
        self.create_bead(NewBead {
            body: Some(question.context.clone()),
            rig: row.and_then(|row| row.agent.rig_id),
            priority: Priority::High,
            labels: vec![label::TRIAGE_REQUEST.into()],
            metadata,
            created_by: Some("patrol".into()),
            ..NewBead::new(BeadType::Issue, question.title)
        })
        .map(drop)
    }

    pub fn open_triage(&self) -> Result<Vec<Bead>, Fault> {
        Ok(store::bead::select(self.db, OPEN_REQUESTS, &[])?)
    }

    /// Starts a batch for what waits, unless one runs, one has just left a question open, or the container is being replaced. What was asked as often
    /// as it may be goes to a person.
    pub fn dispatch_triage(&mut self) -> Result<(), Fault> {
        let waiting = self.open_triage()?;
        if waiting.is_empty() || self.is_draining()? || !store::bead::select(self.db, OPEN_BATCHES, &[])?.is_empty() {
            return Ok(());
        }
        let (unanswered, waiting): (Vec<_>, Vec<_>) =
            waiting.into_iter().partition(|asked| batches_of(asked) >= self.limits.triage_batches_max);
        for asked in &unanswered {
            self.give_up(asked)?;
        }
        if waiting.is_empty() || self.triage_rests(&waiting)? {
            return Ok(());
        }
        match store::town::rigs(self.db)?.into_iter().next() {
            Some(rig) => self.start_batch(&waiting, &rig.id),
            None => Ok(()),
        }
    }

    /// Whether a batch has just ended that had one of these questions: every batch has all that wait.
    fn triage_rests(&self, waiting: &[Bead]) -> Result<bool, Fault> {
        if waiting.iter().all(|asked| batches_of(asked) == 0) {
            return Ok(false);
        }
        let since = self.now.saturating_sub(self.limits.triage_pause_ms);
        let ended = store::bead::select(
            self.db,
            "WHERE b.type = 'issue' AND b.status IN ('closed', 'failed') AND b.last_dispatch_attempt_at > ? AND b.updated_at > ?
             AND b.labels LIKE '%\"gt:triage\"%' AND b.created_by = 'patrol' LIMIT 1",
            &[store::instant(since.saturating_sub(self.limits.gupp_stop_ms)), store::instant(since)],
        )?;
        Ok(!ended.is_empty())
    }

    /// A question that no batch answers becomes an escalation, if it does not come from one: each run of an agent costs money.
    fn give_up(&mut self, asked: &Bead) -> Result<(), Fault> {
        let words = format!("[TRIAGE] {}: not answered by {} triage batches", asked.title, batches_of(asked));
        self.tell_mayor(&words)?;
        if asked.text("escalation_bead_id").is_none() {
            self.record_escalation(Trouble { rig: asked.rig_id.clone(), ..Trouble::of_town(words) })?;
        }
        self.set_status(&asked.bead_id, BeadStatus::Closed, "patrol", None).map(drop)
    }

    fn start_batch(&mut self, waiting: &[Bead], rig: &RigId) -> Result<(), Fault> {
        let questions: Vec<String> =
            waiting.iter().map(|bead| format!("- {} ({})", bead.title, bead.bead_id)).collect();
        let batch = self.create_bead(NewBead {
            body: Some(questions.join("\n")),
            rig: Some(rig.clone()),
            priority: Priority::High,
            labels: vec![label::TRIAGE.into()],
            created_by: Some("patrol".into()),
            ..NewBead::new(BeadType::Issue, format!("Triage batch: {} request(s)", waiting.len()))
        })?;
        for asked in waiting {
            let counted = json!({TRIAGE_BATCHES: batches_of(asked).saturating_add(1)});
            store::bead::merge_metadata(self.db, &asked.bead_id, &counted)?;
        }
        let agent = self.get_or_create_agent(Role::Polecat, Some(rig))?;
        self.hook(&agent.id, &batch.bead_id)?;
        self.dispatch(&agent.id, &batch.bead_id)
    }

    /// A batch that could not be started is over: after a pause there is another, with whatever is asked by then.
    pub fn batch_not_started(&mut self, agent: &AgentId, bead: &BeadId, reason: &str) -> Result<(), Fault> {
        if !store::bead::find(self.db, bead)?.as_ref().is_some_and(is_batch) {
            return Ok(());
        }
        self.unhook(agent)?;
        let reason = FailureReason { code: "start", message: reason.to_owned(), source: "triage" };
        self.set_status(bead, BeadStatus::Failed, "system", Some(reason)).map(drop)
    }

    /// Carries out what a triage agent decided about a question. It is about the bead that was on the hook when it was asked.
    pub fn resolve_triage(
        &mut self,
        agent: &AgentId,
        request: &BeadId,
        action: &str,
        notes: &str,
    ) -> Result<Bead, Fault> {
        let hook = match store::agent::find(self.db, agent)? {
            Some(row) => self.hooked_bead(&row.agent)?,
            None => None,
        };
        if !hook.as_ref().is_some_and(is_batch) {
            return Err(Refusal::NotTriageAgent {}.into());
        }
        let asked = self.bead(request)?;
        if !asked.has_label(label::TRIAGE_REQUEST) {
            return Err(Refusal::NotWorkable { bead: request.clone(), why: "not a triage request".into() }.into());
        }
        let decision = Decision::parse(action).ok_or_else(|| Refusal::Invalid {
            what: format!(
                "Unknown triage action {action}: expected RESTART, RESTART_WITH_BACKOFF, CLOSE_BEAD, ESCALATE, ESCALATE_TO_MAYOR, \
                 NUDGE, REASSIGN_BEAD, DISCARD or PROVIDE_GUIDANCE"
            ),
        })?;
        if asked.status.is_terminal() {
            return Ok(asked);
        }
        let escalation = match asked.text("escalation_bead_id").and_then(|id| BeadId::parse(id).ok()) {
            Some(escalation) => store::bead::find(self.db, &escalation)?,
            None => None,
        };
        self.carry_out(decision, &asked, notes)?;
        let is_seen =
            decision != Decision::EscalateToMayor || self.escalate_to_mayor(&asked, notes, escalation.is_some())?;
        let resolution =
            json!({"resolution_action": action.to_ascii_uppercase(), "resolution_notes": notes, "resolved_by": agent});
        store::bead::merge_metadata(self.db, request, &resolution)?;
        self.note(request, BeadEventType::TriageResolved, Some(agent.to_string()))?;
        if let Some(escalation) = escalation.filter(|_| is_seen) {
            self.set_status(&escalation.bead_id, BeadStatus::Closed, agent.as_str(), None)?;
        }
        self.set_status(request, BeadStatus::Closed, agent.as_str(), None)?;
        self.bead(request)
    }

    /// Tells the mayor. Where nobody hears it there is an open escalation afterwards: it is raised until a person sees it.
    fn escalate_to_mayor(&mut self, asked: &Bead, notes: &str, is_escalated: bool) -> Result<bool, Fault> {
        let words = format!("[TRIAGE] {}: {notes}", asked.title);
        if self.tell_mayor(&words)? {
            return Ok(true);
        }
        if !is_escalated {
            self.record_escalation(Trouble { rig: asked.rig_id.clone(), ..Trouble::of_town(words) })?;
        }
        Ok(false)
    }

    fn carry_out(&mut self, decision: Decision, asked: &Bead, notes: &str) -> Result<(), Fault> {
        let target = asked.text("agent_bead_id").and_then(|id| AgentId::parse(id).ok());
        let row = match &target {
            Some(agent) => store::agent::find(self.db, agent)?,
            None => None,
        };
        let bead = match asked.text("hooked_bead_id").and_then(|id| BeadId::parse(id).ok()) {
            Some(bead) => store::bead::find(self.db, &bead)?.filter(|bead| !bead.status.is_terminal()),
            None => None,
        };
        let agent = row.as_ref().map(|row| &row.agent);
        let still_on_it =
            |bead: &Bead| agent.is_some_and(|agent| agent.current_hook_bead_id.as_ref() == Some(&bead.bead_id));
        match decision {
            Decision::Discard | Decision::EscalateToMayor => Ok(()),
            Decision::Nudge => match agent {
                Some(agent) => {
                    let words = if notes.is_empty() { asked.title.clone() } else { notes.to_owned() };
                    let (mode, priority) = (NudgeMode::Immediate, NudgePriority::Urgent);
                    self.nudge(&agent.id, words, mode, priority, "triage".into(), None).map(drop)
                }
                None => Ok(()),
            },
            Decision::CloseBead => {
                let Some(bead) = bead else { return Ok(()) };
                self.take_away(&bead.bead_id, "triage closed its bead")?;
                self.fail_by_triage(&bead.bead_id, notes)
            }
            Decision::ReassignBead => {
                let Some(bead) = bead else { return Ok(()) };
                match agent.filter(|_| still_on_it(&bead)) {
                    Some(agent) => {
                        self.stop_agent(&agent.id, "triage gave its bead to another")?;
                        self.unhook(&agent.id)?;
                    }
                    // Another has it already.
                    None if store::agent::hooked_to(self.db, &bead.bead_id)?.is_some() => return Ok(()),
                    None => {}
                }
                if bead.dispatch_attempts >= self.limits.dispatch_attempts_max {
                    return self.fail_by_triage(&bead.bead_id, notes);
                }
                self.reopen(&bead.bead_id, "triage")
            }
            Decision::Restart | Decision::RestartWithBackoff => {
                let Some(agent) = agent else { return Ok(()) };
                let Some(bead) = bead.filter(|bead| still_on_it(bead)) else { return Ok(()) };
                self.stop_agent(&agent.id, "triage restarts it")?;
                if bead.dispatch_attempts >= self.limits.dispatch_attempts_max {
                    self.unhook(&agent.id)?;
                    return self.fail_by_triage(&bead.bead_id, notes);
                }
                store::agent::set_status(self.db, self.now, &agent.id, &AgentStatus::Idle)?;
                if bead.kind == BeadType::Issue {
                    self.set_status(&bead.bead_id, BeadStatus::Open, "triage", None)?;
                }
                if decision == Decision::Restart {
                    return Ok(store::agent::set_activity(self.db, None, &agent.id)?);
                }
                store::agent::set_activity(self.db, Some(self.now), &agent.id)?;
                Ok(store::bead::set_last_dispatch(self.db, self.now, &bead.bead_id)?)
            }
        }
    }

    fn fail_by_triage(&mut self, bead: &BeadId, notes: &str) -> Result<(), Fault> {
        let reason = FailureReason { code: "triage", message: notes.to_owned(), source: "triage" };
        self.set_status(bead, BeadStatus::Failed, "triage", Some(reason)).map(drop)
    }

    /// Asks the container to end an agent's run.
    pub fn stop_agent(&mut self, agent: &AgentId, reason: &str) -> Result<(), Fault> {
        self.owe(&Effect::Stop { agent: agent.clone(), reason: reason.to_owned() })
    }
}

/// In how many batches a question was.
fn batches_of(asked: &Bead) -> i64 {
    asked.metadata.get(TRIAGE_BATCHES).and_then(serde_json::Value::as_i64).unwrap_or_default()
}

fn is_batch(bead: &Bead) -> bool {
    bead.has_label(label::TRIAGE) && bead.created_by.as_deref() == Some("patrol")
}
