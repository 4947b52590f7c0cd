//! What goes wrong around a town, and how often in ordinary weather ([`crate::run::Run::fault`]). What goes wrong with any object is in
//! `durable.rs`.

use crate::run::Fault;

const fn fault(name: &'static str, per_million: u64) -> Fault {
    Fault { name, per_million }
}

/// An alarm rings late, by up to two minutes.
pub const ALARM_LATE: Fault = fault("alarm-late", 10_000);
/// The clock of a container jumps, by up to a minute.
pub const CLOCK_JUMPS: Fault = fault("clock-jumps", 2_000);
/// A deploy: all memory is gone, and every socket closes.
pub const DEPLOY: Fault = fault("deploy", 8_000);
/// An object with nothing in flight leaves memory; its sockets stay.
pub const HIBERNATE: Fault = fault("hibernate", 60_000);
/// A fact is in the ledger that nobody can apply.
pub const FACT_POISONED: Fault = fault("fact-poisoned", 4_000);

/// A message between two machines takes seconds.
pub const NETWORK_SLOW: Fault = fault("network-slow", 6_000);
/// A request does not arrive.
pub const REQUEST_LOST: Fault = fault("request-lost", 6_000);
/// A request arrives, and its answer does not.
pub const ANSWER_LOST: Fault = fault("answer-lost", 6_000);

/// A call of a container, such as a heartbeat, arrives twice.
pub const CALL_DOUBLED: Fault = fault("call-doubled", 10_000);
/// The town does not answer that a container is evicted, and has not heard it.
pub const EVICTION_HANGS: Fault = fault("eviction-hangs", 100_000);

/// The machine of a container is lost.
pub const MACHINE_LOST: Fault = fault("machine-lost", 2_000);
/// The platform evicts a container: SIGTERM, then SIGKILL when its time is over.
pub const EVICTED: Fault = fault("evicted", 8_000);
/// That time is short.
pub const GRACE_SHORT: Fault = fault("grace-short", 150_000);
/// The process is killed and started again on the same disk.
pub const PROCESS_KILLED: Fault = fault("process-killed", 2_500);
/// The container reaches nobody for minutes, and works on.
pub const HOME_UNREACHABLE: Fault = fault("home-unreachable", 2_000);

/// An agent does not start: no clone, no server, no session.
pub const AGENT_START_FAILS: Fault = fault("agent-start-fails", 20_000);
/// Its start takes more than a minute.
pub const AGENT_START_SLOW: Fault = fault("agent-start-slow", 20_000);
/// It does not take a prompt.
pub const PROMPT_REFUSED: Fault = fault("prompt-refused", 10_000);
/// It stops in the middle of a turn, and says nothing any more.
pub const AGENT_HANGS: Fault = fault("agent-hangs", 15_000);
/// Its server dies.
pub const AGENT_DIES: Fault = fault("agent-dies", 15_000);
/// Its turn ends without `gt_done`.
pub const AGENT_FORGETS: Fault = fault("agent-forgets", 30_000);
/// It asks for help instead.
pub const AGENT_ESCALATES: Fault = fault("agent-escalates", 20_000);
/// It does not do what it is told when its container ends.
pub const AGENT_STUBBORN: Fault = fault("agent-stubborn", 100_000);
/// It says `session.idle` more than once.
pub const IDLE_DOUBLED: Fault = fault("idle-doubled", 200_000);
/// What it started cannot be ended.
pub const FREEZE_FAILS: Fault = fault("freeze-fails", 30_000);
/// A push fails.
pub const PUSH_FAILS: Fault = fault("push-fails", 30_000);
/// A save takes more than a minute.
pub const SAVE_SLOW: Fault = fault("save-slow", 20_000);

/// A merge meets a conflict.
pub const MERGE_CONFLICTS: Fault = fault("merge-conflicts", 60_000);
/// A reviewer refuses.
pub const REVIEW_FAILS: Fault = fault("review-fails", 60_000);
/// A reviewer asks for changes.
pub const CHANGES_REQUESTED: Fault = fault("changes-requested", 100_000);
/// A pull request is closed without a merge.
pub const PR_CLOSED: Fault = fault("pr-closed", 150_000);
/// The host of a pull request does not answer.
pub const FORGE_FAILS: Fault = fault("forge-fails", 60_000);

/// A person changes the plan: cancels, deletes, reassigns, resets, or gives a status to what is over already.
pub const USER_MEDDLES: Fault = fault("user-meddles", 80_000);
/// A viewer of the status stream goes, and comes back later.
pub const VIEWER_LEAVES: Fault = fault("viewer-leaves", 80_000);
