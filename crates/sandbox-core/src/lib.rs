//! The container side's machines, without I/O: they are told what happened and when, and say what to do.
//!
//! | Module | Owns |
//! | --- | --- |
//! | [`sse`] | bytes of the agent server's event stream → texts of events; cuts strings while reading |
//! | [`agent`] | one event of the agent server, parsed |
//! | [`normalise`] | what of the agent's events is dropped, coalesced, trimmed; nothing else does |
//! | [`event`] | an event on its way to the object |
//! | [`spool`] | numbered events until they are acknowledged, in memory and as a file |
//! | [`ingest`] | the connection to the object: numbers, sends, reconnects, resumes |
//! | [`gap`] | what a break of the agent's event stream held, from the agent server's own state |
//! | [`overtaken`] | what of the agent server's answer for a late viewer its event stream has made old meanwhile |
//! | [`turn`] | when the agent's turn is over, and how |
//! | [`job`] | one execution from start to end |
//! | [`managed`] | one agent of a town: what it is doing, and what is done when it is idle |
//! | [`ack`] | which drain nonce a container acknowledges |
//! | [`drain`] | how a container that ends keeps its agents' work |
//! | [`limits`] | every bound |
//!
//! # How they are put together
//!
//! ```text
//! agent ─bytes─▶ SseDecoder ─text─▶ AgentEvent ─┬─▶ Turn ─Ended─▶ Job ─Emit─┐
//!                                               └─▶ Ingest ◀───────────────┘
//!                                                   │  Normaliser → Spool → frames ─▶ object
//! ```
//!
//! [`turn::Turn`], [`job::Job`] and [`ingest::Ingest`] have one shape: `receive(now_ms, input) -> Vec<Output>`. Perform all outputs
//! in their order; only then report outcomes, as inputs. `next_deadline()` says when an input `Tick` is due; it may have moved after each
//! `receive`. Time is any clock in milliseconds since the Unix epoch; a step backwards delays a deadline and does no other harm.
#![cfg_attr(test, allow(clippy::arithmetic_side_effects))]

pub mod ack;
pub mod agent;
pub mod drain;
pub mod event;
pub mod gap;
pub mod ingest;
pub mod job;
pub mod limits;
pub mod managed;
pub mod normalise;
pub mod overtaken;
pub mod spool;
pub mod sse;
pub mod turn;

mod cut;
#[cfg(test)]
mod fixtures;
mod json;
