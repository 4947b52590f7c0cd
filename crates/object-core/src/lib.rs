//! What every durable object needs, without an object: rules and SQL, synchronous, pure.
//!
//! | Module | What it owns |
//! | --- | --- |
//! | [`entropy`] | randomness as an argument: ids, nonces, secrets |
//! | [`time`] | durations |
//! | [`owed`] | effects that must happen: a row until they did |
//! | [`agent_log`] | the event log of one agent of a town |
//! | [`event_log`] | the two hot tables of events, ids that never repeat, replay |
//! | [`lifecycle`] | a container: wanted, starting, running, stopping; who leases it |
//! | [`notice`] | the end of a container that ran, owed until it was heard |
//! | [`directory`] | which sessions a user has |
//! | [`holdings`] | which towns and rigs a user has |
//!
//! A core is driven by one call, `receive(now, facts, input)`, which is one transaction, and answers with outputs that its shell performs after
//! the write. Nothing here waits, reads a clock or draws a random number.
#![cfg_attr(test, allow(clippy::arithmetic_side_effects))]

pub mod agent_log;
pub mod directory;
pub mod entropy;
pub mod event_log;
pub mod holdings;
pub mod lifecycle;
pub mod notice;
pub mod owed;
pub mod time;

/// Names a caller that waits for an answer.
///
/// The shell keeps number → caller in memory, with a timeout. After a restart the number means nobody, which is safe because
/// numbers are drawn at random: the work goes on, the answer is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct ReplyTo(pub i64);

/// The nearest of several deadlines.
pub fn nearest(deadlines: impl IntoIterator<Item = Option<i64>>) -> Option<i64> {
    deadlines.into_iter().flatten().min()
}
