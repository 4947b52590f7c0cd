//! The town as its container, its agents and its people see it.

mod acts;
mod agents;
mod alarm;
mod beads;
mod containers;
mod convoys;
mod drain;
mod draining;
mod events;
mod mayor;
mod model;
mod patrol;
mod polls;
mod properties;
mod reconciler;
mod reviews;
mod scale;
mod simulated;
mod talk;
mod work;
mod world;
