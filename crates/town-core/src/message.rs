//! What goes into a town and what comes out: the whole surface.

use protocol::id::AgentId;
use protocol::id::InstanceId;
use protocol::id::RigId;
use protocol::town::Heartbeat;
use serde::Deserialize;
use serde::Serialize;

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// Somebody asks, and waits for the [`Answer`].
    Call(Call),
    /// A container answered a health check, [`Output::Handoff`] or another.
    ContainerHealth {
        /// Which one.
        instance: InstanceId,
        /// Whether it was told to end.
        draining: bool,
    },
    /// The alarm.
    Tick,
    /// The object was constructed.
    Woke,
}

/// What is asked of a town. Between the Worker and the object it travels as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Call {
    /// A container was told to end.
    ContainerEviction {
        /// Which one, if it said so.
        instance: Option<InstanceId>,
    },
    /// A container says that it replaces the evicted one.
    ContainerReady {
        /// Which one, if it said so.
        instance: Option<InstanceId>,
        /// What it was handed.
        nonce: String,
    },
    /// Somebody asks whether the town drains.
    DrainStatus,
    /// An agent lives.
    Heartbeat {
        /// Which agent. None is known before the ledger is built, and an unknown one is no error (spec/town.md 2.2).
        agent: AgentId,
        /// In which container, and what it does.
        body: Heartbeat,
        /// Of which rig.
        rig: RigId,
    },
}

/// What the shell is to do, in this order, after the state is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// The answer to an [`Input::Call`]: exactly one.
    Answer(Answer),
    /// The drain began or ended: for the log.
    Drain(DrainChange),
    /// If the container runs, ask it for its health with this nonce and report [`Input::ContainerHealth`]. A container that does not run
    /// is not started for it.
    Handoff {
        /// Ends the drain when a replacement sends it back.
        nonce: String,
    },
}

/// Answers, each to the [`Call`] of its name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase")]
pub enum Answer {
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
            DrainEnd::Expired => "expired",
            DrainEnd::Replaced => "replaced",
        }
    }
}

/// What came of one input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turn {
    /// To be performed, in this order.
    pub outputs: Vec<Output>,
    /// When [`Input::Tick`] is due; None: never.
    pub alarm: Option<i64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_and_answers_survive_the_way_to_the_object() {
        let instance = InstanceId::parse("i-1").ok();
        let calls = [
            Call::ContainerEviction { instance: instance.clone() },
            Call::ContainerReady { instance, nonce: "n".into() },
            Call::DrainStatus,
            Call::Heartbeat {
                agent: AgentId::parse("a").unwrap(),
                body: Heartbeat { draining: true, ..Heartbeat::default() },
                rig: RigId::parse("r").unwrap(),
            },
        ];
        for call in calls {
            assert_eq!(serde_json::from_str::<Call>(&serde_json::to_string(&call).unwrap()).unwrap(), call);
        }
        for answer in [Answer::DrainStatus { nonce: None }, Answer::Heartbeat { nonce: Some("n".into()) }] {
            assert_eq!(serde_json::from_str::<Answer>(&serde_json::to_string(&answer).unwrap()).unwrap(), answer);
        }
    }
}
