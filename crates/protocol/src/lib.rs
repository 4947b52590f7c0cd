//! Every type that crosses a process, and nothing else.
//!
//! | Module | Between |
//! | --- | --- |
//! | [`id`] | everyone: identifiers, parsed once at the edge |
//! | [`envelope`] | front ends and the Worker: secrets that only the deployment's key opens |
//! | [`event`] | which events are stored, by one table that both ends of a socket share |
//! | [`ingest`] | wrapper and session object, over the ingest WebSocket |
//! | [`stream`] | session object and viewers, over the stream WebSocket |
//! | [`sandbox`] | session object and `sandboxd session`, over HTTP |
//! | [`host`] | container objects and `sandboxd host`, over HTTP |
//! | [`time`] | everyone: instants as text |
//! | [`trpc`] | front ends and the Worker |
//! | [`town`] | `sandboxd town` and the town object |
//! | [`verdict`] | a person and the agent: answers to what it asks |
//!
//! The crate knows no clock, no storage and no socket. It builds for every target of the workspace.
#![cfg_attr(test, allow(clippy::arithmetic_side_effects))]

pub mod envelope;
pub mod event;
pub mod host;
pub mod id;
pub mod ingest;
pub mod sandbox;
pub mod stream;
pub mod time;
pub mod town;
pub mod trpc;
pub mod verdict;
