//! Words between agents and people: mail, nudges, prime (spec/town.md 3.5, 3.6, 4.8).
//!
//! Mail is a bead: open until it is read. A nudge is a row: it waits for its agent's next idle moment, or is sent at once as an owed effect.

use crate::Step;
use crate::error::Fault;
use crate::message::bead::NewBead;
use crate::message::effect::Effect;
use crate::store;
use protocol::id::AgentId;
use protocol::id::BeadId;
use protocol::town::agent::AgentStatus;
use protocol::town::agent::Mail;
use protocol::town::agent::Nudge;
use protocol::town::agent::NudgeMode;
use protocol::town::agent::NudgePriority;
use protocol::town::agent::Prime;
use protocol::town::agent::PullRequestContext;
use protocol::town::agent::ReworkContext;
use protocol::town::bead::Bead;
use protocol::town::bead::BeadEventType;
use protocol::town::bead::BeadStatus;
use protocol::town::bead::BeadType;
use protocol::town::bead::label;
use serde_json::Map;
use serde_json::json;

/// How many beads of its rig an agent is shown.
const PRIME_BEADS: i64 = 20;

impl Step<'_> {
    pub fn send_mail(&mut self, from: &AgentId, to: &AgentId, subject: String, body: String) -> Result<(), Fault> {
        let rig = self.agent(to)?.agent.rig_id;
        let mut metadata = Map::new();
        metadata.insert("from_agent_id".into(), json!(from));
        metadata.insert("to_agent_id".into(), json!(to));
        let mail = self.create_bead(NewBead {
            body: Some(body),
            rig,
            assignee: Some(to.clone()),
            labels: vec![label::MESSAGE.into(), format!("from:{from}")],
            metadata,
            created_by: Some(from.to_string()),
            ..NewBead::new(BeadType::Message, subject)
        })?;
        self.note(&mail.bead_id, BeadEventType::MailSent, Some(from.to_string()))
    }

    /// What an agent has not read, in the order it came.
    pub fn unread(&self, agent: &AgentId) -> Result<Vec<Mail>, Fault> {
        let beads = store::bead::select(
            self.db,
            "WHERE b.assignee_agent_bead_id = ? AND b.type = 'message' AND b.status = 'open' ORDER BY b.rowid",
            &[agent.as_str().into()],
        )?;
        Ok(beads.into_iter().map(|bead| to_mail(agent, bead)).collect())
    }

    /// Reads the mail, and so delivers it.
    pub fn check_mail(&mut self, agent: &AgentId) -> Result<Vec<Mail>, Fault> {
        self.agent(agent)?;
        let mail = self.unread(agent)?;
        for one in &mail {
            self.mail_delivered(&one.id)?;
        }
        Ok(mail)
    }

    pub fn mail_delivered(&mut self, mail: &BeadId) -> Result<(), Fault> {
        match store::bead::find(self.db, mail)? {
            Some(bead) if bead.kind == BeadType::Message => {
                self.set_status(mail, BeadStatus::Closed, "system", None).map(drop)
            }
            _ => Ok(()),
        }
    }

    /// Sends each working agent what it has not read, as one message. It counts as delivered when the container took it.
    pub fn deliver_mail(&mut self) -> Result<(), Fault> {
        let waiting = store::agent::select(
            self.db,
            "WHERE a.status = 'working' AND a.bead_id IN
                (SELECT assignee_agent_bead_id FROM beads WHERE type = 'message' AND status = 'open')",
            &[],
        )?;
        for row in waiting {
            let mail = self.unread(&row.agent.id)?;
            let items: Vec<String> = mail
                .iter()
                .map(|mail| format!("[MAIL from {}] {}\n{}", mail.from_agent_id, mail.subject, mail.body))
                .collect();
            let text = format!("You have {} new mail message(s):\n\n{}", mail.len(), items.join("\n\n---\n\n"));
            let mail = mail.into_iter().map(|mail| mail.id).collect();
            self.owe_once(&Effect::Tell { agent: row.agent.id, text, nudge: None, mail })?;
        }
        Ok(())
    }

    /// Nudges an agent. Only mode `queue` expires.
    pub fn nudge(
        &mut self,
        agent: &AgentId,
        message: String,
        mode: NudgeMode,
        priority: NudgePriority,
        source: String,
        ttl_ms: Option<i64>,
    ) -> Result<String, Fault> {
        let row = self.agent(agent)?;
        let nudge = Nudge { nudge_id: self.entropy.uuid(), message, mode, priority, source };
        let expires_at = ttl_ms.filter(|_| mode == NudgeMode::Queue).map(|ttl| self.now.saturating_add(ttl));
        store::nudge::insert(self.db, self.now, agent, &nudge, expires_at)?;
        let before = self.now.saturating_sub(self.limits.nudge_kept_ms);
        store::nudge::prune(self.db, before, agent, self.limits.nudges_kept)?;
        let runs = row.is_running() || row.agent.status == AgentStatus::Waiting;
        if mode == NudgeMode::Immediate && runs {
            let nudge_id = Some(nudge.nudge_id.clone());
            self.owe(&Effect::Tell { agent: agent.clone(), text: nudge.message, nudge: nudge_id, mail: vec![] })?;
        }
        if mode == NudgeMode::WaitIdle && row.agent.status == AgentStatus::Waiting {
            self.tell_words_left(agent)?;
        }
        Ok(nudge.nudge_id)
    }

    /// All that an agent needs to begin. Reading it delivers the mail.
    pub fn prime(&mut self, agent: &AgentId) -> Result<Prime, Fault> {
        let agent = self.agent(agent)?.agent;
        let hooked_bead = self.hooked_bead(&agent)?;
        let undelivered_mail = self.check_mail(&agent.id)?;
        let open_beads = store::bead::select(
            self.db,
            "WHERE b.type IN ('issue', 'merge_request', 'escalation', 'convoy', 'molecule') AND b.status IN ('open', 'in_progress')
             AND (b.rig_id IS NULL OR b.rig_id = ?) ORDER BY b.rowid DESC LIMIT ?",
            &[agent.rig_id.as_ref().map(protocol::id::RigId::as_str).into(), PRIME_BEADS.into()],
        )?;
        let hooked = |label: &str| hooked_bead.as_ref().filter(|bead| bead.has_label(label));
        Ok(Prime {
            rework_context: hooked(label::REWORK).map(|bead| self.rework(bead)).transpose()?,
            pr_fixup_context: hooked(label::PR_FIXUP).map(|bead| pull_request(bead, None)),
            pr_conflict_context: hooked(label::PR_CONFLICT).map(|bead| {
                let has_feedback = bead.metadata.get("has_feedback").is_some_and(|value| *value == json!(true));
                pull_request(bead, Some(has_feedback))
            }),
            agent,
            hooked_bead,
            undelivered_mail,
            open_beads,
        })
    }

    fn rework(&self, bead: &Bead) -> Result<ReworkContext, Fault> {
        let text = |key| bead.text(key).map(str::to_owned);
        let original = match bead.text("rework_for").and_then(|id| BeadId::parse(id).ok()) {
            Some(id) => store::bead::find(self.db, &id)?,
            None => None,
        };
        let files = bead.metadata.get("files").and_then(|files| files.as_array());
        Ok(ReworkContext {
            feedback: bead.body.clone().unwrap_or_default(),
            branch: text("branch"),
            target_branch: text("target_branch"),
            files: files.into_iter().flatten().filter_map(|file| file.as_str().map(str::to_owned)).collect(),
            original_bead_title: original.map(|bead| bead.title),
            mr_bead_id: text("mr_bead_id"),
        })
    }
}

fn to_mail(agent: &AgentId, bead: Bead) -> Mail {
    Mail {
        from_agent_id: bead.text("from_agent_id").unwrap_or_default().to_owned(),
        to_agent_id: agent.clone(),
        subject: bead.title,
        body: bead.body.unwrap_or_default(),
        delivered: false,
        created_at: bead.created_at,
        delivered_at: None,
        id: bead.bead_id,
    }
}

fn pull_request(bead: &Bead, has_feedback: Option<bool>) -> PullRequestContext {
    let text = |key| bead.text(key).map(str::to_owned);
    PullRequestContext {
        pr_url: text("pr_url"),
        branch: text("branch"),
        target_branch: text("target_branch"),
        has_feedback,
    }
}
