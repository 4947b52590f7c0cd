//! What goes into a town and what comes out: the whole surface.

pub mod answer;
pub mod bead;
pub mod call;
pub mod container;
pub mod effect;

pub use answer::Answer;

use crate::error::Refusal;
use call::AgentCall;
use call::BeadCall;
use call::TalkCall;
use call::TownCall;
use call::WorkCall;
use container::ContainerInput;
use container::ContainerOutput;
use effect::Effect;
use effect::Outcome;
use protocol::id::AgentId;
use protocol::town::container::ContainerAgentStatus;
use protocol::town::container::StartAgent;
use protocol::town::status::Frame;
use protocol::town::status::TickMetrics;

/// What only the runtime knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// How many sockets of the status stream are open.
    pub viewers: usize,
}

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// Somebody asks, and waits for the [`Answer`].
    Call(Call),
    /// On the side of the container.
    Container(ContainerInput),
    /// What the container says of an agent that [`Output::Observe`] named. Only what is not `running` need be told.
    Observed {
        /// Which one.
        agent: AgentId,
        /// Its state there.
        status: ContainerAgentStatus,
        /// Why it ended, if it did.
        exit_reason: Option<String>,
    },
    /// What became of an [`Output::Perform`].
    Outcome {
        /// Its key.
        key: String,
        /// What it led to.
        outcome: Outcome,
    },
    /// The alarm.
    Tick,
    /// Nothing but time, and perhaps other [`Facts`].
    Woke,
}

/// What is asked of the ledger.
#[derive(Clone, Debug, PartialEq)]
pub enum Call {
    /// About agents.
    Agent(AgentCall),
    /// About beads.
    Bead(BeadCall),
    /// About words between agents and people.
    Talk(TalkCall),
    /// About the town itself.
    Town(TownCall),
    /// About work that is handed out, reviewed and landed.
    Work(WorkCall),
}

/// What the shell is to do, in this order, after the state is written.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// The answer to an [`Input::Call`]: exactly one.
    Answer(Answer),
    /// To every socket of the status stream.
    Broadcast(Box<Frame>),
    /// For the container.
    Container(ContainerOutput),
    /// For the log.
    Notice(Notice),
    /// If the container runs, ask it what these agents do, and report each as [`Input::Observed`].
    Observe {
        /// Those that the town takes for running.
        agents: Vec<AgentId>,
    },
    /// Perform this within its time and report [`Input::Outcome`]. It is owed: it comes again until its outcome is known.
    Perform {
        /// Names it.
        key: String,
        /// From 1. From the second on it is not known what the tries before led to: ask first, where it matters.
        attempt: i64,
        /// When it came to be owed: no try was before that.
        since: i64,
        /// What is to be done.
        effect: Effect,
        /// With [`Effect::Start`]: the body, to which the shell adds tokens and environment.
        start: Option<Box<StartAgent>>,
    },
    /// What a tick did, if it did anything: for the log.
    Ticked(TickMetrics),
}

/// What an operator should find in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// The rules wanted to do something that could not be done.
    ActionFailed {
        /// What, with its target.
        action: String,
        /// Why not.
        reason: String,
    },
    /// Too many beads were dispatched in too short a time: no more are.
    BreakerOpen,
    /// An effect was given up.
    EffectDropped {
        /// Its key.
        key: String,
        /// How the last try ended.
        reason: String,
    },
    /// The same action was taken too often, and is held back.
    LoopHeld {
        /// What, with its target.
        action: String,
    },
    /// A fact cannot be applied, and is not tried any more.
    Poisoned {
        /// The row of `town_events`.
        event: String,
        /// How the last try ended.
        reason: String,
    },
}

impl From<Refusal> for Answer {
    fn from(refusal: Refusal) -> Self {
        Answer::Refused { refusal }
    }
}

/// What came of one input.
#[derive(Clone, Debug, PartialEq)]
pub struct Turn {
    /// To be performed, in this order.
    pub outputs: Vec<Output>,
    /// When the alarm is due, in milliseconds; None: never.
    pub alarm: Option<i64>,
}
