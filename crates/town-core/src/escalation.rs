//! Escalations: what needs a person's eye, raised again until somebody sees it (spec/town.md 4.8).

use crate::Step;
use crate::error::Fault;
use crate::error::Refusal;
use crate::message::bead::NewBead;
use crate::store;
use crate::triage::Question;
use protocol::id::AgentId;
use protocol::id::BeadId;
use protocol::id::RigId;
use protocol::town::bead::Bead;
use protocol::town::bead::BeadStatus;
use protocol::town::bead::BeadType;
use protocol::town::bead::Priority;
use protocol::town::bead::label;
use serde_json::Map;
use serde_json::Value;

/// How many characters of its words become the title.
const TITLE_CHARS: usize = 100;
/// How many escalations are listed.
const LIST_MAX: i64 = 100;

/// What is escalated.
#[derive(Clone, Debug)]
pub struct Trouble {
    /// Its beginning becomes the title.
    pub words: String,
    /// None: the words.
    pub body: Option<String>,
    pub severity: Priority,
    pub metadata: Map<String, Value>,
    pub rig: Option<RigId>,
    /// Who asks for help; None: the town.
    pub agent: Option<AgentId>,
}

impl Trouble {
    /// What the town itself cannot mend.
    pub fn of_town(words: String) -> Self {
        Self { words, body: None, severity: Priority::High, metadata: Map::new(), rig: None, agent: None }
    }
}

impl Step<'_> {
    /// Makes an escalation, asks triage about it, and tells the mayor if it is more than small.
    pub fn escalate(&mut self, trouble: Trouble) -> Result<Bead, Fault> {
        let Trouble { words, severity, agent, .. } = trouble.clone();
        let bead = self.record_escalation(trouble)?;
        let options: &[&str] = match severity {
            Priority::Low => &["NUDGE", "CLOSE_BEAD", "PROVIDE_GUIDANCE"],
            Priority::Medium | Priority::High | Priority::Critical => {
                &["ESCALATE_TO_MAYOR", "RESTART", "CLOSE_BEAD", "REASSIGN_BEAD"]
            }
        };
        self.ask_triage(Question {
            kind: "escalation",
            agent: agent.as_ref(),
            title: bead.title.clone(),
            context: words.clone(),
            options,
            escalation: Some(&bead.bead_id),
        })?;
        if severity >= Priority::Medium {
            self.tell_mayor(&format!("[ESCALATION {}] {words}", severity.as_str()))?;
        }
        Ok(bead)
    }

    /// Makes an escalation that nobody is told of: it is in the list, and raised with its age.
    pub fn record_escalation(&mut self, trouble: Trouble) -> Result<Bead, Fault> {
        let Trouble { words, body, severity, metadata, rig, agent } = trouble;
        let title: String = words.chars().take(TITLE_CHARS).collect();
        let bead = self.create_bead(NewBead {
            body: body.or(Some(words)),
            rig,
            priority: priority_of(severity),
            labels: labels_of(severity),
            metadata,
            created_by: agent.map(|agent| agent.to_string()),
            ..NewBead::new(BeadType::Escalation, format!("Escalation: {title}"))
        })?;
        store::escalation::insert(self.db, &bead.bead_id, severity)?;
        Ok(bead)
    }

    /// Somebody saw it: it is over.
    pub fn acknowledge(&mut self, escalation: &BeadId) -> Result<Bead, Fault> {
        let not_found = || Fault::from(Refusal::EscalationNotFound { escalation: escalation.clone() });
        let bead = store::bead::find(self.db, escalation)?.ok_or_else(not_found)?;
        if bead.kind != BeadType::Escalation {
            return Err(not_found());
        }
        store::escalation::acknowledge(self.db, self.now, escalation)?;
        self.set_status(escalation, BeadStatus::Closed, "user", None)
    }

    pub fn list_escalations(&self, acknowledged: Option<bool>) -> Result<Vec<Bead>, Fault> {
        Ok(store::escalation::list(self.db, acknowledged, LIST_MAX)?)
    }

    /// Raises what nobody has seen for too long.
    pub fn raise_escalations(&mut self) -> Result<(), Fault> {
        for unseen in store::escalation::unseen(self.db, self.limits.escalation_raises_max)? {
            if self.raise_at(&unseen) > self.now {
                continue;
            }
            let severity = unseen.severity.raised();
            store::escalation::raise(self.db, &unseen.bead, severity)?;
            store::bead::relabel(self.db, self.now, &unseen.bead, priority_of(severity), &labels_of(severity))?;
            let title = self.bead(&unseen.bead)?.title;
            self.tell_mayor(&format!("[ESCALATION {}, not acknowledged] {title}", severity.as_str()))?;
        }
        Ok(())
    }

    /// When the next escalation is to be raised.
    pub fn next_raise(&self) -> Result<Option<i64>, Fault> {
        let unseen = store::escalation::unseen(self.db, self.limits.escalation_raises_max)?;
        Ok(unseen.iter().map(|unseen| self.raise_at(unseen)).min())
    }

    fn raise_at(&self, unseen: &store::escalation::Unseen) -> i64 {
        let ages = unseen.raised.saturating_add(1).saturating_mul(self.limits.escalation_age_ms);
        unseen.created_at.saturating_add(ages)
    }
}

/// What a front end reads the severity from.
pub fn labels_of(severity: Priority) -> Vec<String> {
    vec![label::ESCALATION.into(), format!("severity:{}", severity.as_str())]
}

/// No escalation is small work.
fn priority_of(severity: Priority) -> Priority {
    severity.max(Priority::Medium)
}
