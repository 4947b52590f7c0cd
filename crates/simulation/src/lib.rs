//! The whole system in one process: the real cores with their real SQL, everything around them modelled, on a virtual clock and one seeded source
//! of chance. Each run is one seed; after every step the promises of the design are checked, and at the end that everything came to rest.
//!
//! | Module | What it owns |
//! | --- | --- |
//! | [`random`] | chance: named draws from one seed |
//! | [`queue`] | the future, in order |
//! | [`run`] | one run: faults, trace, counts, the promise that was broken |
//! | [`durable`] | what the platform keeps of a Durable Object, and how its turns go wrong |
//! | [`container`] | a container: its object, the requests to it, the platform that runs it |
//! | [`profile`] | the profiles by name, and how one seed of one is run |
//! | [`shrink`] | a shorter schedule that breaks the same promise |
//! | [`sessions`] | the profile `sessions` |
//! | [`town`] | the profile `town` |
//!
//! # Another profile
//!
//! A profile is a function `fn(&mut Run)` and a line in [`profile::PROFILES`]; `sessions` is one, in a folder of its own. Everything above it in the table
//! knows of none: a new one brings its world, its event enum on a [`queue::Queue`], its faults ([`run::Fault`] constants), and its promises
//! ([`run::Run::broken`]). Objects of it stand on [`durable::Storage`], whose `turn` gives them every fate of a turn. A world with a
//! container is a [`container::Host`].
//!
//! # What a run is made of
//!
//! A run's chance is drawn by name ([`random::Random`]), so the same seed gives the same bytes, and taking one fault out of a schedule moves as little else as
//! can be. Nothing here reads a clock or another source of chance; maps are ordered.
// A run that overflows, or finds something missing that it has put there itself, is to stop at once: the panic is caught and reported with its seed.
#![allow(clippy::arithmetic_side_effects, clippy::expect_used, clippy::indexing_slicing)]

pub mod container;
pub mod durable;
pub mod profile;
pub mod queue;
pub mod random;
pub mod run;
pub mod sessions;
pub mod shrink;
pub mod town;
