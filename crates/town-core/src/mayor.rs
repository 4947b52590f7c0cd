//! The mayor: one per town, talks with the user, is never hooked (spec/town.md 8.6).

use crate::Step;
use crate::error::Fault;
use crate::message::Output;
use crate::message::effect::Effect;
use crate::store;
use object_core::owed::Owed;
use protocol::id::AgentId;
use protocol::town::agent::Agent;
use protocol::town::agent::AgentStatus;
use protocol::town::agent::NudgeMode;
use protocol::town::agent::NudgePriority;
use protocol::town::agent::Role;
use protocol::town::mayor::MayorReached;
use protocol::town::mayor::MayorSeen;
use protocol::town::mayor::MayorSession;
use protocol::town::status::Frame;
use serde_json::Value;
use serde_json::json;

/// The source of nudges that hold what the mayor missed.
const KEPT: &str = "missed";

impl Step<'_> {
    /// Says something to the mayor, and starts it for that if it does not run.
    pub fn message_mayor(&mut self, message: &str, model: Option<&str>) -> Result<MayorReached, Fault> {
        if let Some(model) = model {
            self.set_mayor_model(model)?;
        }
        let mayor = self.get_or_create_agent(Role::Mayor, None)?;
        let session_status = self.reach_mayor(&mayor, message)?;
        Ok(MayorReached { agent_id: mayor.id, session_status })
    }

    fn set_mayor_model(&mut self, model: &str) -> Result<(), Fault> {
        if self.town()?.config.role_models.mayor.as_deref() == Some(model) {
            return Ok(());
        }
        let models = json!({"mayor": model});
        self.update_config([("role_models".to_owned(), models)].into_iter().collect()).map(drop)
    }

    /// Starts the mayor unless it runs.
    pub fn ensure_mayor(&mut self) -> Result<MayorReached, Fault> {
        let mayor = self.get_or_create_agent(Role::Mayor, None)?;
        let session_status = if is_there(&mayor) {
            MayorSession::Active
        } else {
            self.start_mayor(&mayor, "You are on duty. Wait for the user.")?
        };
        Ok(MayorReached { agent_id: mayor.id, session_status })
    }

    pub fn mayor_seen(&self) -> Result<Option<MayorSeen>, Fault> {
        let mayor = store::agent::select(self.db, "WHERE a.role = 'mayor'", &[])?.into_iter().next();
        Ok(mayor.map(|row| MayorSeen {
            status: if is_there(&row.agent) { MayorSession::Active } else { MayorSession::Idle },
            last_activity_at: row.agent.last_activity_at,
            session_id: row.agent.id.clone(),
            agent_id: row.agent.id,
        }))
    }

    /// Asks the screens of those who look to show something. Nobody keeps it.
    pub fn show(&mut self, action: Value) {
        if self.facts.viewers > 0 {
            let frame = Frame::UiAction { channel: "ui_action", action, ts: self.now };
            self.outputs.push(Output::Broadcast(Box::new(frame)));
        }
    }

    /// Tells the mayor what happened, and says whether there is one that hears it. Nobody is started for it: one that rests hears it when it is called next.
    pub fn tell_mayor(&mut self, text: &str) -> Result<bool, Fault> {
        let mayor = store::agent::select(self.db, "WHERE a.role = 'mayor'", &[])?.into_iter().next();
        let Some(mayor) = mayor.map(|row| row.agent) else { return Ok(false) };
        if is_there(&mayor) {
            self.reach_mayor(&mayor, text)?;
            return Ok(true);
        }
        self.keep_words(&mayor.id, text)?;
        Ok(false)
    }

    fn reach_mayor(&mut self, mayor: &Agent, text: &str) -> Result<MayorSession, Fault> {
        if !is_there(mayor) {
            return self.start_mayor(mayor, text);
        }
        let text = self.with_words_left(&mayor.id, Some(text))?;
        if self.owed_start(&mayor.id)?.is_some_and(|start| start.attempt == 0) {
            self.owe_mayor(mayor, &text)?;
            return Ok(MayorSession::Starting);
        }
        self.ask_mayor(&mayor.id, text)?;
        Ok(MayorSession::Active)
    }

    fn ask_mayor(&mut self, mayor: &AgentId, text: String) -> Result<(), Fault> {
        store::agent::asked(self.db, self.now, mayor)?;
        let nudge = Some(self.entropy.uuid());
        self.owe(&Effect::Tell { agent: mayor.clone(), text, nudge, mail: vec![] })
    }

    /// The mayor ended its turn. Only a working one waits, and only if nothing was asked of it since.
    pub fn mayor_waits(&mut self, agent: &AgentId, fired_at: Option<i64>) -> Result<(), Fault> {
        let Some(row) = store::agent::find(self.db, agent)? else { return Ok(()) };
        if row.agent.role != Role::Mayor || row.agent.status != AgentStatus::Working {
            return Ok(());
        }
        let start = self.owed_start(agent)?;
        let is_of_earlier_run = start.as_ref().is_some_and(|start| start.attempt == 0);
        if is_of_earlier_run || fired_at.is_some_and(|at| row.asked_at.is_some_and(|asked| at < asked)) {
            return Ok(());
        }
        if let Some(start) = start {
            // It took its turn, so it has started, whatever becomes known of that.
            Owed::<Effect>::settle(self.db, &start.key)?;
        }
        store::agent::set_status(self.db, self.now, agent, &AgentStatus::Waiting)?;
        self.tell_words_left(agent)
    }

    /// The mayor is between two turns, which is when it hears what was left for it. Its container does not ask for that.
    pub fn tell_words_left(&mut self, mayor: &AgentId) -> Result<(), Fault> {
        if self.is_draining()? {
            return Ok(());
        }
        let words = self.with_words_left(mayor, None)?;
        if words.is_empty() { Ok(()) } else { self.ask_mayor(mayor, words) }
    }

    /// Words that did not reach the mayor: they go with the next ones, and whoever looks at the town is told.
    pub fn mayor_missed(&mut self, mayor: &AgentId, words: &str, reason: &str) -> Result<(), Fault> {
        self.keep_words(mayor, words)?;
        self.say(
            mayor,
            &format!("The mayor could not be reached ({reason}). What it was told is kept for the next message."),
        )
    }

    fn keep_words(&mut self, mayor: &AgentId, words: &str) -> Result<(), Fault> {
        let (mode, priority) = (NudgeMode::Queue, NudgePriority::Urgent);
        self.nudge(mayor, words.to_owned(), mode, priority, KEPT.to_owned(), None).map(drop)
    }

    /// These words after those that were left for the mayor and are not on their way: they are delivered with them.
    fn with_words_left(&mut self, mayor: &AgentId, text: Option<&str>) -> Result<String, Fault> {
        let mut words = Vec::new();
        for left in store::nudge::pending(self.db, self.now, mayor)? {
            let id = left.nudge_id;
            let tell =
                Effect::Tell { agent: mayor.clone(), text: String::new(), nudge: Some(id.clone()), mail: vec![] };
            if Owed::<Effect>::find(self.db, &tell.key())?.is_none() {
                store::nudge::delivered(self.db, self.now, &id)?;
                words.push(left.message);
            }
        }
        words.extend(text.map(str::to_owned));
        Ok(words.join("\n\n"))
    }

    pub fn start_mayor(&mut self, mayor: &Agent, prompt: &str) -> Result<MayorSession, Fault> {
        let prompt = self.with_words_left(&mayor.id, Some(prompt))?;
        store::agent::dispatched(self.db, self.now, &mayor.id)?;
        store::agent::asked(self.db, self.now, &mayor.id)?;
        self.owe_mayor(mayor, &prompt)?;
        Ok(MayorSession::Starting)
    }

    /// Owes its start with these words, after those with which it is owed already.
    fn owe_mayor(&mut self, mayor: &Agent, text: &str) -> Result<(), Fault> {
        let earlier = match self.owed_start(&mayor.id)?.map(|start| start.effect) {
            Some(Effect::Start { prompt, .. }) => prompt,
            _ => None,
        };
        let prompt = [earlier, Some(text.to_owned())].into_iter().flatten().collect::<Vec<_>>().join("\n\n");
        self.owe(&Effect::Start { agent: mayor.id.clone(), bead: None, prompt: Some(prompt) })
    }
}

fn is_there(mayor: &Agent) -> bool {
    matches!(mayor.status, AgentStatus::Stalled | AgentStatus::Waiting | AgentStatus::Working)
}
