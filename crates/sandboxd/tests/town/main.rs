//! `sandboxd town` as a process: its routes, its agents, its signals, and what it tells the town. Git, processes and signals are real.
#![cfg(target_os = "linux")]
#![allow(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

mod agent;
mod agents;
mod control;
mod drain;
mod folders;
mod hydration;
mod kilo;
mod lost_calls;
#[path = "../support/program.rs"]
mod program;
mod reviews;
mod stage;
mod streams;
#[path = "../support/mod.rs"]
mod support;
mod tokens;
mod trouble;
mod worker;
