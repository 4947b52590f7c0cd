//! What the town owes the world, and what came of it (spec/town.md 4.4, 4.6).
//!
//! A debt is written in the turn that decides on it and performed after that turn. Its outcome is an input; a crash in between leaves the row, and a later
//! turn asks again.

use crate::Step;
use crate::error::Fault;
use crate::event::Fact;
use crate::limits::Limits;
use crate::message::Notice;
use crate::message::Output;
use crate::message::effect::Effect;
use crate::message::effect::Outcome;
use crate::message::effect::PullRequestState;
use crate::poll::Strike;
use crate::store;
use object_core::owed::Debt;
use object_core::owed::Owed;
use object_core::time::HOUR;
use protocol::id::AgentId;
use protocol::id::BeadId;
use protocol::town::agent::AgentStatus;
use protocol::town::agent::Role;
use protocol::town::bead::BeadEventType;

/// The longest pause before the next try at what must be done for good.
const LASTING_RETRY_MS: i64 = HOUR;
/// What the user is told of a mayor that found no room.
const FULL: &str = "the container runs as many agents as it may";

impl Step<'_> {
    /// Owes an effect. What was owed under the same key is replaced.
    pub fn owe(&mut self, effect: &Effect) -> Result<(), Fault> {
        Ok(Owed::owe(self.db, self.now, &effect.key(), effect, None)?)
    }

    /// Owes an effect unless its like is owed already.
    pub fn owe_once(&mut self, effect: &Effect) -> Result<(), Fault> {
        match Owed::<Effect>::find(self.db, &effect.key())? {
            Some(_) => Ok(()),
            None => self.owe(effect),
        }
    }

    /// Takes what is due. What makes no sense any more is dropped.
    pub fn pay_debts(&mut self) -> Result<(), Fault> {
        for debt in
            Owed::<Effect>::take_due(self.db, self.now, |effect, attempt| retry_ms(self.limits, effect, attempt))?
        {
            let mut start = None;
            if let Effect::Start { agent, bead, prompt } = &debt.effect {
                start = match self.start_plan(agent, bead.as_ref(), prompt.as_deref()) {
                    Ok(plan) => plan.map(Box::new),
                    Err(Fault::Refused(refusal)) => {
                        self.drop_debt(&debt, &refusal.to_string())?;
                        continue;
                    }
                    Err(fault) => return Err(fault),
                };
                let draining = self.is_draining()?;
                if draining && start.is_some() {
                    // Whatever came of the tries before, the container ends: they burn nothing, and the next container is asked.
                    self.outcome(&debt.key, &Outcome::Draining)?;
                    continue;
                }
                if start.is_none() {
                    match bead {
                        // Where it stands is settled by heartbeats, or by their absence.
                        Some(_) => drop(Owed::<Effect>::settle(self.db, &debt.key)?),
                        // The words exist nowhere else.
                        None => self.drop_debt(&debt, "it is not to be started any more")?,
                    }
                    continue;
                }
            }
            if debt.attempt > self.limits.effect_tries_max && !debt.effect.is_for_good() {
                self.drop_debt(&debt, "no outcome was reported")?;
                continue;
            }
            let Debt { key, effect, attempt, since, .. } = debt;
            self.outputs.push(Output::Perform { key, attempt, since, effect, start });
        }
        Ok(())
    }

    pub fn outcome(&mut self, key: &str, outcome: &Outcome) -> Result<(), Fault> {
        let Some(debt) = Owed::<Effect>::find(self.db, key)? else { return Ok(()) };
        match (&debt.effect, outcome) {
            (Effect::Start { bead: None, .. }, Outcome::Draining) => self.defer(&debt),
            // The mayor has no bead from which its words could be had again: they are tried until they certainly arrived.
            (
                Effect::Start { bead: None, .. },
                Outcome::Failed { .. } | Outcome::Full | Outcome::NotRunning | Outcome::Unknown { .. },
            ) if debt.attempt < self.limits.effect_tries_max => Ok(()),
            (Effect::Start { bead: None, .. }, Outcome::Unknown { reason }) => self.drop_debt(&debt, reason),
            (Effect::Start { agent, bead: None, .. }, Outcome::Failed { .. } | Outcome::Full) => {
                let reason = if let Outcome::Failed { reason } = outcome { reason } else { FULL };
                self.drop_debt(&debt, reason)?;
                Ok(store::agent::set_status(self.db, self.now, agent, &AgentStatus::Idle)?)
            }
            (Effect::Start { agent, bead, .. }, _) => {
                Owed::<Effect>::settle(self.db, key)?;
                self.started(&debt, agent, bead.as_ref(), outcome)
            }
            (Effect::Poll { bead, url }, Outcome::PullRequest(state)) => {
                Owed::<Effect>::settle(self.db, key)?;
                self.polled(bead, url, *state)
            }
            // The rules ask again when it is time.
            (Effect::Poll { bead, .. }, Outcome::Failed { reason } | Outcome::Unknown { reason }) => {
                self.drop_debt(&debt, reason)?;
                let is_lasting = matches!(outcome, Outcome::Failed { .. });
                self.poll_failed(bead, if is_lasting { Strike::Lasting } else { Strike::Transient }, reason)
            }
            (Effect::Tell { nudge, mail, .. }, Outcome::Done) => {
                Owed::<Effect>::settle(self.db, key)?;
                if let Some(nudge) = nudge {
                    store::nudge::delivered(self.db, self.now, nudge)?;
                }
                mail.iter().try_for_each(|mail| self.mail_delivered(mail))
            }
            (Effect::Tell { agent, text, nudge, mail }, Outcome::NotRunning) => match self.owed_start(agent)? {
                // It is on its way there, and is told when it has arrived.
                Some(start) if start.attempt > 0 => self.defer(&debt),
                _ => {
                    Owed::<Effect>::settle(self.db, key)?;
                    if mail.is_empty() { self.not_told(agent, text, nudge.as_deref()) } else { Ok(()) }
                }
            },
            // The next container is born with a fresh one.
            (Effect::RefreshToken {}, Outcome::Done | Outcome::NotRunning) => {
                Owed::<Effect>::settle(self.db, key)?;
                self.hold("token", self.limits.token_refresh_ms)
            }
            (_, Outcome::Done | Outcome::NotRunning) => Ok(Owed::<Effect>::settle(self.db, key).map(drop)?),
            (_, Outcome::Failed { reason } | Outcome::Unknown { reason })
                if debt.attempt >= self.limits.effect_tries_max && !debt.effect.is_for_good() =>
            {
                self.drop_debt(&debt, reason)
            }
            _ => Ok(()),
        }
    }

    fn defer(&self, debt: &Debt<Effect>) -> Result<(), Fault> {
        let at = self.now.saturating_add(retry_ms(self.limits, &debt.effect, 1));
        Ok(Owed::<Effect>::begin_again(self.db, &debt.key, at)?)
    }

    fn drop_debt(&mut self, debt: &Debt<Effect>, reason: &str) -> Result<(), Fault> {
        Owed::<Effect>::settle(self.db, &debt.key)?;
        self.outputs.push(Output::Notice(Notice::EffectDropped { key: debt.key.clone(), reason: reason.to_owned() }));
        let (agent, words, nudge) = match &debt.effect {
            Effect::Start { agent, bead: None, prompt: Some(words) } => (agent, words, None),
            Effect::Tell { agent, text, nudge, mail } if mail.is_empty() => (agent, text, nudge.as_deref()),
            _ => return Ok(()),
        };
        let is_mayor = store::agent::find(self.db, agent)?.is_some_and(|row| row.agent.role == Role::Mayor);
        if !is_mayor {
            return Ok(());
        }
        self.handed_on(nudge)?;
        self.mayor_missed(agent, words, reason)
    }

    fn started(
        &mut self,
        debt: &Debt<Effect>,
        agent: &AgentId,
        bead: Option<&BeadId>,
        outcome: &Outcome,
    ) -> Result<(), Fault> {
        let row = store::agent::find(self.db, agent)?;
        let Some(row) = row.filter(|row| row.agent.current_hook_bead_id.as_ref() == bead) else {
            return self.started_in_vain(agent, outcome);
        };
        match outcome {
            Outcome::Done => {
                if row.agent.role != Role::Refinery {
                    store::agent::reset_dispatch(self.db, agent)?;
                }
                match bead {
                    Some(bead) => self.note(bead, BeadEventType::AgentSpawned, Some(agent.to_string())),
                    None => Ok(()),
                }
            }
            Outcome::Draining => {
                // It was never tried in truth: no attempt is burned by a container that ends.
                store::agent::set_status(self.db, self.now, agent, &AgentStatus::Idle)?;
                bead.map_or(Ok(()), |bead| self.unburn(bead))
            }
            Outcome::Full => {
                // Others have the room: that says nothing of the bead. When it was tried stays, so that the cooldown paces the next try.
                store::agent::set_status(self.db, self.now, agent, &AgentStatus::Idle)?;
                let Some(bead) = bead else { return Ok(()) };
                self.unburn(bead)?;
                Ok(store::bead::set_last_dispatch(self.db, self.now, bead)?)
            }
            Outcome::Failed { reason } => {
                self.outputs
                    .push(Output::Notice(Notice::EffectDropped { key: debt.key.clone(), reason: reason.clone() }));
                if row.agent.status == AgentStatus::Working {
                    store::agent::set_status(self.db, self.now, agent, &AgentStatus::Idle)?;
                }
                bead.map_or(Ok(()), |bead| self.batch_not_started(agent, bead, reason))
            }
            // The container may have taken it: heartbeats decide, or their absence.
            Outcome::NotRunning | Outcome::PullRequest(_) | Outcome::Unknown { .. } => Ok(()),
        }
    }

    /// The agent is gone, or has other work. A stop that was carried out before it ran ended nothing.
    fn started_in_vain(&mut self, agent: &AgentId, outcome: &Outcome) -> Result<(), Fault> {
        let may_run = matches!(outcome, Outcome::Done | Outcome::Unknown { .. });
        // A later start took its place in the container, or will.
        let is_replaced = store::agent::find(self.db, agent)?.is_some_and(|row| row.is_running());
        if !may_run || is_replaced || self.owed_start(agent)?.is_some() {
            return Ok(());
        }
        self.stop_agent(agent, "it was started for work that it has no more")
    }

    /// The start of an agent that is owed.
    pub fn owed_start(&self, agent: &AgentId) -> Result<Option<Debt<Effect>>, Fault> {
        let owed = Owed::<Effect>::list(self.db, &format!("start/{agent}"))?;
        let is_its = |debt: &Debt<Effect>| matches!(&debt.effect, Effect::Start { agent: of, .. } if of == agent);
        Ok(owed.into_iter().find(is_its))
    }

    fn unburn(&mut self, bead: &BeadId) -> Result<(), Fault> {
        store::bead::uncount_dispatch(self.db, bead)?;
        let found = self.bead(bead)?;
        if found.kind == protocol::town::bead::BeadType::Issue {
            self.set_status(bead, protocol::town::bead::BeadStatus::Open, "system", None)?;
        }
        Ok(())
    }

    fn polled(&mut self, bead: &BeadId, url: &str, state: PullRequestState) -> Result<(), Fault> {
        self.poll_answered(bead)?;
        let state = match state {
            PullRequestState::Closed => "closed",
            PullRequestState::Merged => "merged",
            PullRequestState::Open => return Ok(()),
        };
        let fact = Fact::PrStatusChanged { pr_url: url.to_owned(), pr_state: state.to_owned() };
        self.report(None, Some(bead), &fact)
    }

    /// The mayor is started with the words that it could not be told. Others read their nudge when they run again.
    fn not_told(&mut self, agent: &AgentId, text: &str, nudge: Option<&str>) -> Result<(), Fault> {
        match store::agent::find(self.db, agent)? {
            Some(row) if row.agent.role == Role::Mayor => {
                self.handed_on(nudge)?;
                self.start_mayor(&row.agent, text).map(drop)
            }
            _ => Ok(()),
        }
    }

    /// The words of a nudge go another way: its row is not to say them again.
    fn handed_on(&self, nudge: Option<&str>) -> Result<(), Fault> {
        nudge.map_or(Ok(()), |nudge| Ok(store::nudge::delivered(self.db, self.now, nudge)?))
    }
}

/// What is tried until it is done is tried less and less often.
fn retry_ms(limits: &Limits, effect: &Effect, attempt: i64) -> i64 {
    match effect {
        Effect::Start { .. } => limits.start_retry_ms,
        _ if effect.is_for_good() => limits.effect_retry_ms.saturating_mul(attempt).min(LASTING_RETRY_MS),
        _ => limits.effect_retry_ms,
    }
}
