//! The rules of `TownDO`: one town.
//!
//! One way in, [`Town::receive`]: one transaction, an `Err` undoes all of it. One way out, a [`Turn`]: outputs that the shell performs
//! after the write, and the time of the next alarm. No clock, no randomness, no I/O: time and entropy are arguments.
//!
//! | Module | What it owns |
//! | --- | --- |
//! | [`message`] | inputs, calls, outputs, effects, answers: the whole surface |
//! | [`error`] | refusals |
//! | `router` | from a call to its rule |
//! | `store` | the rows, table by table |
//! | `town`, `bead`, `update`, `hook`, `agent` | the ledger: who there is, what is to be done, who does it |
//! | `talk`, `escalation`, `triage`, `mayor` | words: mail, nudges, what needs attention |
//! | `sling`, `dispatch`, `prompt`, `done`, `review`, `convoy`, `molecule` | work: handed out, done, reviewed, landed |
//! | `event`, `queue` | facts, and applying them once |
//! | `reconcile`, `apply`, `breaker` | what the ledger should become, and making it so |
//! | `debt` | effects that are owed, and their outcomes |
//! | `tick`, `status`, `why` | one tick, when the next is due, what a person sees |
//! | `drain` | the eviction of a container, and who may end it |
//! | [`limits`] | every number |
#![cfg_attr(test, allow(clippy::arithmetic_side_effects))]

mod agent;
mod apply;
mod bead;
mod breaker;
mod convoy;
mod debt;
mod dispatch;
mod done;
mod drain;
pub mod error;
mod escalation;
mod event;
mod hook;
pub mod limits;
mod mayor;
pub mod message;
mod molecule;
mod poll;
mod prompt;
mod queue;
mod reconcile;
mod review;
mod router;
mod sling;
mod status;
mod store;
mod talk;
#[cfg(test)]
mod tests;
mod tick;
mod town;
mod triage;
mod update;
mod why;

use crate::error::Fault;
use crate::error::Refusal;
use crate::limits::Limits;
use crate::message::Answer;
use crate::message::Call;
use crate::message::Facts;
use crate::message::Input;
use crate::message::Output;
use crate::message::Turn;
use crate::message::container::ContainerAnswer;
use crate::message::container::ContainerCall;
use crate::message::container::ContainerInput;
use crate::message::container::ContainerOutput;
use crate::message::effect::Effect;
use crate::store::town::TownRow;
use database::Database;
use database::DatabaseError;
use database::Migration;
use object_core::entropy::Entropy;
use object_core::nearest;
use object_core::owed::Owed;

/// The schema of a town: the drain and the audit of evictions, then the ledger.
pub const MIGRATIONS: &[Migration] = &[
    Migration { version: 1, statements: &[drain::TABLE, drain::EVICTED_TABLE, event::TABLE] },
    store::schema::LEDGER,
    store::schema::GONE,
    store::schema::BRANCHES,
    store::schema::ASKED,
];

/// One town. Holds nothing that its tables do not.
pub struct Town {
    limits: Limits,
}

impl Town {
    /// A town with these limits.
    pub fn new(limits: Limits) -> Self {
        Self { limits }
    }

    /// Takes one input, over tables that [`MIGRATIONS`] made. What comes back is to be performed after the write; on `Err` nothing happened.
    pub fn receive(
        &self,
        db: &dyn Database,
        now: i64,
        facts: &Facts,
        entropy: &mut Entropy,
        input: &Input,
    ) -> Result<Turn, DatabaseError> {
        let limits = &self.limits;
        let turn = database::transaction(db, || {
            let outputs = drain::settle(db, limits, now)?.into_iter().map(Output::Container).collect();
            let town = store::town::find(db)?;
            let mut step = Step { db, now, facts, entropy, limits, town, outputs };
            step.take(input)?;
            step.pay_debts()?;
            let alarm = step.next_deadline()?;
            Ok::<_, Fault>(Turn { outputs: step.outputs, alarm })
        });
        turn.map_err(|fault| match fault {
            Fault::Database(error) => error,
            Fault::Refused(refusal) => DatabaseError::Sql(refusal.to_string()),
        })
    }
}

/// One turn in the making. The modules of this crate each add the methods of their subject.
struct Step<'a> {
    db: &'a dyn Database,
    now: i64,
    facts: &'a Facts,
    entropy: &'a mut Entropy,
    limits: &'a Limits,
    town: Option<TownRow>,
    outputs: Vec<Output>,
}

impl Step<'_> {
    fn take(&mut self, input: &Input) -> Result<(), Fault> {
        match input {
            Input::Call(call) => self.call(call),
            Input::Container(ContainerInput::Call(_)) if self.town.is_none() => {
                self.outputs.push(Output::Container(ContainerOutput::Answer(ContainerAnswer::NoTown)));
                Ok(())
            }
            Input::Outcome { key, outcome } => self.outcome(key, outcome),
            // A town that is no more hears nothing of what goes on.
            _ if self.town.is_none() => Ok(()),
            Input::Container(input) => self.container(input),
            Input::Observed { agent, status, exit_reason } => self.observed(agent, status, exit_reason.as_deref()),
            Input::Tick => self.tick(),
            Input::Woke => Ok(()),
        }
    }

    /// A refused call leaves nothing behind but its answer.
    fn call(&mut self, call: &Call) -> Result<(), Fault> {
        let db = self.db;
        let said = self.outputs.len();
        let result = database::transaction(db, || match call {
            Call::Agent(call) => self.agent_call(call),
            Call::Bead(call) => self.bead_call(call),
            Call::Talk(call) => self.talk_call(call),
            Call::Town(call) => self.town_call(call),
            Call::Work(call) => self.work_call(call),
        });
        match result {
            Ok(answer) => self.outputs.push(Output::Answer(answer)),
            Err(Fault::Refused(refusal)) => {
                self.outputs.truncate(said);
                self.outputs.push(Output::Answer(Answer::from(refusal)));
            }
            Err(Fault::Database(error)) => return Err(error.into()),
        }
        Ok(())
    }

    /// To the ledger a heartbeat is a sign of life; the rest is the drain's.
    fn container(&mut self, input: &ContainerInput) -> Result<(), Fault> {
        if let ContainerInput::Call(ContainerCall::Heartbeat { agent, body, .. }) = input {
            store::agent::heartbeat(self.db, self.now, agent, body)?;
        }
        let outputs = drain::take(self.db, self.limits, self.now, self.entropy, input)?;
        self.outputs.extend(outputs.into_iter().map(Output::Container));
        Ok(())
    }

    fn next_deadline(&self) -> Result<Option<i64>, Fault> {
        let tick = self.town.as_ref().map_or(Ok(None), |_| self.next_tick())?;
        Ok(nearest([Owed::<Effect>::next_retry(self.db)?, tick, drain::deadline(self.db, self.limits)?]))
    }

    /// A new id, of whatever kind.
    fn new_id<T>(&mut self, parse: fn(&str) -> Result<T, protocol::id::InvalidId>) -> Result<T, Fault> {
        parse(&self.entropy.uuid()).map_err(|error| Refusal::Invalid { what: error.message.to_owned() }.into())
    }
}
