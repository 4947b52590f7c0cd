//! What goes wrong around sessions, and how often in ordinary weather ([`crate::run::Run::fault`]). What goes wrong with any object is in
//! `durable.rs`.

use crate::run::Fault;

const fn fault(name: &'static str, per_million: u64) -> Fault {
    Fault { name, per_million }
}

/// An alarm rings late, by up to two minutes.
pub const ALARM_LATE: Fault = fault("alarm-late", 20_000);
/// A container's clock jumps, by up to a minute, in either direction.
pub const CLOCK_JUMPS: Fault = fault("clock-jumps", 2_000);

/// A deploy: the memory is gone, and every socket closes with 1006.
pub const DEPLOY: Fault = fault("deploy", 4_000);
/// An object without anything in flight leaves memory; its sockets stay.
pub const HIBERNATE: Fault = fault("hibernate", 60_000);

/// A message between two machines takes seconds.
pub const NETWORK_SLOW: Fault = fault("network-slow", 4_000);
/// A request does not arrive.
pub const REQUEST_LOST: Fault = fault("request-lost", 4_000);
/// A request arrives, and its answer does not.
pub const ANSWER_LOST: Fault = fault("answer-lost", 4_000);
/// A socket is cut; both ends, one end or none hears of it.
pub const SOCKET_CUT: Fault = fault("socket-cut", 12_000);
/// Whether an end hears nothing of a lost peer (half-open).
pub const HALF_OPEN: Fault = fault("half-open", 50_000);
/// A socket takes nothing more, and says nothing.
pub const SOCKET_STALLED: Fault = fault("socket-stalled", 1_500);

/// The machine of a container is lost.
pub const MACHINE_LOST: Fault = fault("machine-lost", 1_200);
/// The platform takes a container for lost that still works, and reaches the Worker for a while.
pub const CUT_OFF: Fault = fault("cut-off", 1_200);
/// The platform evicts a container: SIGTERM, then SIGKILL.
pub const EVICTED: Fault = fault("evicted", 1_200);
/// The wrapper's process is killed and started again on the same disk.
pub const WRAPPER_KILLED: Fault = fault("wrapper-killed", 1_500);
/// A write to the container's disk fails.
pub const DISK_FULL: Fault = fault("disk-full", 3_000);

/// A clone, a setup command or a start of the agent server fails, for a reason that passes.
pub const STEP_FAILS: Fault = fault("step-fails", 15_000);
/// The same for a reason that does not.
pub const STEP_REFUSED: Fault = fault("step-refused", 5_000);
/// A step takes minutes.
pub const STEP_SLOW: Fault = fault("step-slow", 8_000);

/// The agent server takes the prompt and does nothing.
pub const AGENT_SILENT: Fault = fault("agent-silent", 12_000);
/// It takes an abort for one of an idle session, and takes the prompt up afterwards.
pub const AGENT_OPENS_LATE: Fault = fault("agent-opens-late", 300_000);
/// It hangs in the middle of a turn.
pub const AGENT_HANGS: Fault = fault("agent-hangs", 15_000);
/// Its turn ends with an error.
pub const AGENT_ERROR: Fault = fault("agent-error", 40_000);
/// It does not take the prompt.
pub const PROMPT_REFUSED: Fault = fault("prompt-refused", 12_000);
/// The answer to a call comes late or not at all.
pub const AGENT_DEAF: Fault = fault("agent-deaf", 10_000);
/// Its process ends.
pub const AGENT_DIES: Fault = fault("agent-dies", 2_000);
/// Its event stream breaks.
pub const STREAM_BREAKS: Fault = fault("stream-breaks", 6_000);
/// It says `session.idle` more than once.
pub const IDLE_DOUBLED: Fault = fault("idle-doubled", 200_000);
/// One of its events is huge.
pub const EVENT_HUGE: Fault = fault("event-huge", 3_000);
/// It asks a person.
pub const AGENT_ASKS: Fault = fault("agent-asks", 40_000);
/// It goes on for longer than an execution may.
pub const TURN_ENDLESS: Fault = fault("turn-endless", 4_000);

/// The callback receiver answers 500, or is away.
pub const RECEIVER_FAILS: Fault = fault("receiver-fails", 150_000);
/// It says no for good.
pub const RECEIVER_REFUSES: Fault = fault("receiver-refuses", 10_000);
/// It takes longer than anybody waits.
pub const RECEIVER_SLOW: Fault = fault("receiver-slow", 40_000);
/// The directory does not answer.
pub const DIRECTORY_FAILS: Fault = fault("directory-fails", 30_000);
/// The snapshot store does not answer.
pub const STORE_FAILS: Fault = fault("store-fails", 30_000);

/// A viewer goes, and comes back later.
pub const VIEWER_LEAVES: Fault = fault("viewer-leaves", 40_000);
/// A caller gives up and calls again.
pub const CALLER_REPEATS: Fault = fault("caller-repeats", 60_000);
