//! The rules of `TownDO`: one town.
//!
//! One way in, [`Town::receive`]: one transaction, an `Err` undoes all of it. One way out, a [`Turn`]: outputs that the shell performs
//! after the write, and the time of the next alarm. No clock, no randomness, no I/O: time and entropy are arguments.
//!
//! | Module | What it owns |
//! | --- | --- |
//! | [`message`] | inputs, outputs, answers: the whole surface |
//! | `drain` | the eviction of a container, and who may end it |
//! | `event` | `town_events` |
//! | [`limits`] | every number |
#![cfg_attr(test, allow(clippy::arithmetic_side_effects))]

mod drain;
mod event;
pub mod limits;
pub mod message;
#[cfg(test)]
mod tests;

use crate::limits::Limits;
use crate::message::Call;
use crate::message::Input;
use crate::message::Output;
use crate::message::Turn;
use database::Database;
use database::DatabaseError;
use database::Migration;
use object_core::entropy::Entropy;

/// The schema of a town.
pub const MIGRATIONS: &[Migration] =
    &[Migration { version: 1, statements: &[drain::TABLE, drain::EVICTED_TABLE, event::TABLE] }];

/// One town. Holds nothing that its tables do not.
pub struct Town {
    limits: Limits,
}

impl Town {
    /// A town over tables that [`MIGRATIONS`] made.
    pub fn new(limits: Limits) -> Self {
        Self { limits }
    }

    /// Takes one input. What comes back is to be performed after the write; on `Err` nothing happened.
    pub fn receive(
        &self,
        db: &dyn Database,
        now: i64,
        entropy: &mut Entropy,
        input: &Input,
    ) -> Result<Turn, DatabaseError> {
        let limits = &self.limits;
        database::transaction(db, || {
            let mut outputs = drain::settle(db, limits, now)?;
            outputs.extend(match input {
                Input::Call(call) => take(db, limits, now, entropy, call)?,
                Input::ContainerHealth { instance, draining } => drain::health(db, instance, *draining)?,
                Input::Tick | Input::Woke => vec![],
            });
            Ok(Turn { outputs, alarm: drain::deadline(db, limits)? })
        })
    }
}

fn take(
    db: &dyn Database,
    limits: &Limits,
    now: i64,
    entropy: &mut Entropy,
    call: &Call,
) -> Result<Vec<Output>, DatabaseError> {
    match call {
        Call::ContainerEviction { instance } => drain::evicted(db, limits, now, entropy, instance.as_ref()),
        Call::ContainerReady { instance, nonce } => drain::ready(db, instance.as_ref(), nonce),
        Call::DrainStatus => drain::status(db),
        Call::Heartbeat { body, .. } => drain::heartbeat(db, body),
    }
}
