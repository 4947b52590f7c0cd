//! What a town and its container tell each other: heartbeats, and the drain.

use protocol::id::AgentId;
use protocol::id::InstanceId;
use protocol::id::RigId;
use protocol::town::Heartbeat;

/// What happened on the side of the container.
#[derive(Clone, Debug, PartialEq)]
pub enum ContainerInput {
    /// Somebody in it asks, and waits for the [`ContainerAnswer`].
    Call(ContainerCall),
    /// It ended, as the runtime reports.
    Ended {
        /// When, in milliseconds: an end before the eviction is another container's.
        at: i64,
    },
    /// It answered a health check, [`ContainerOutput::Handoff`] or another.
    Health {
        /// Which one.
        instance: InstanceId,
        /// Whether it was told to end.
        draining: bool,
    },
}

/// What a container asks of its town.
#[derive(Clone, Debug, PartialEq)]
pub enum ContainerCall {
    /// Whether the town drains.
    DrainStatus,
    /// A container was told to end.
    Eviction {
        /// Which one, if it said so.
        instance: Option<InstanceId>,
    },
    /// An agent lives.
    Heartbeat {
        /// Which agent. An unknown one is no error (spec/town.md 2.2).
        agent: AgentId,
        /// In which container, and what it does.
        body: Heartbeat,
        /// Of which rig.
        rig: RigId,
    },
    /// A container says that it replaces the evicted one.
    Ready {
        /// Which one, if it said so.
        instance: Option<InstanceId>,
        /// What it was handed.
        nonce: String,
    },
}

/// The answer to the call of its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ContainerAnswer {
    /// Whether it drains.
    DrainStatus {
        /// None if the town does not drain.
        nonce: Option<String>,
    },
    /// It is recorded.
    Eviction {
        /// The nonce of the drain that it began.
        nonce: String,
    },
    /// There is no such town: nothing was heard, nothing is kept.
    NoTown,
    /// It is heard.
    Heartbeat {
        /// To be acknowledged by the container, if it may.
        nonce: Option<String>,
    },
    /// It counts, or not.
    Ready {
        /// Whether the town does not drain any more.
        cleared: bool,
    },
}

/// What the shell is to do for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ContainerOutput {
    /// The answer to a [`ContainerInput::Call`]: exactly one.
    Answer(ContainerAnswer),
    /// The drain began or ended: for the log.
    Drain(DrainChange),
    /// If the container runs, ask it for its health with this nonce and report [`ContainerInput::Health`]. A container that does not run
    /// is not started for it.
    Handoff {
        /// Ends the drain when a replacement sends it back.
        nonce: String,
    },
}

/// How the drain changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DrainChange {
    /// A container was evicted.
    Began {
        /// Which one, if it said so.
        instance: Option<InstanceId>,
    },
    /// The town is free again.
    Ended(DrainEnd),
    /// An acknowledgement did not count: a wrong nonce, or the evicted container's own.
    Refused {
        /// Who sent it.
        instance: Option<InstanceId>,
    },
}

/// What ended a drain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DrainEnd {
    /// A replacement sent the nonce back.
    Acknowledged,
    /// The runtime reported the end of the evicted container.
    Ended,
    /// Nothing was heard for too long.
    Expired,
    /// A replacement showed itself.
    Replaced,
}

impl DrainEnd {
    /// The name in the log.
    pub fn as_str(self) -> &'static str {
        match self {
            DrainEnd::Acknowledged => "acknowledged",
            DrainEnd::Ended => "ended",
            DrainEnd::Expired => "expired",
            DrainEnd::Replaced => "replaced",
        }
    }
}
