//! The whole surface of a session: what goes in, what comes out, what is owed.

use object_core::ReplyTo;
use object_core::directory::Entry;
use protocol::envelope::Envelope;
use protocol::id::ExecutionId;
use protocol::id::KiloSessionId;
use protocol::id::SandboxId;
use protocol::id::SessionId;
use protocol::id::UserId;
use protocol::ingest::Command;
use protocol::sandbox::Progress;
use protocol::sandbox::Secret;
use protocol::sandbox::Work;
use protocol::trpc::Ack;
use protocol::trpc::CallbackTarget;
use protocol::trpc::Change;
use protocol::trpc::Interrupted;
use protocol::trpc::PrepareSession;
use protocol::trpc::Prepared;
use protocol::trpc::SendMessage;
use protocol::trpc::SessionView;
use protocol::trpc::TrpcError;
use protocol::verdict::Verdict;
use serde::Deserialize;
use serde::Serialize;
use std::collections::BTreeMap;

/// What only the runtime knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// The executions whose ingest sockets are open, one entry each.
    pub ingest: Vec<String>,
    /// How many viewers there are. Without one, nothing is made to be sent.
    pub viewers: usize,
}

/// Something happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// A front end asks.
    Call { reply: ReplyTo, call: Call },
    /// An ingest socket closed. It is no longer in [`Facts::ingest`].
    IngestClosed { execution: ExecutionId, code: u16, reason: String },
    /// Text frames that arrived on ingest sockets, in this order. They are one transaction: a group commit.
    IngestFrames(Vec<IngestFrame>),
    /// A wrapper wants to connect.
    IngestOpen(IngestOpen),
    /// The alarm, second: what is owed and due is tried. An input of its own, so that a failure of one does not stop the other.
    PayDebts,
    /// What became of an effect.
    Outcome { key: String, effect: Box<Effect>, outcome: Outcome },
    /// The container reports on its work.
    Progress { reply: ReplyTo, token: String, progress: Progress },
    /// The alarm, first: what is over its time ends.
    Expire,
    /// A container wants to read or replace the session's snapshot.
    SnapshotAccess { reply: ReplyTo, token: String },
    /// A viewer shows a ticket, which is good for one connection.
    StreamOpen { nonce: String, expires_at: i64 },
    /// The first input after construction.
    Woke,
}

/// A front end's question. Travels between the Worker and the object.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Call {
    Delete,
    Initiate,
    Interrupt,
    Judge(Verdict),
    /// Whether logs of this execution may be kept. Without a report token, the Worker has checked the user's own.
    KeepLogs {
        execution: ExecutionId,
        token: Option<Secret>,
    },
    Register(Box<Registration>),
    Send(Box<SendMessage>),
    Update(Vec<Change>),
    View,
}

impl Call {
    /// Whether it is the same call when it arrives a second time, because the answer to the first was lost: it has one effect, and its caller the answer.
    /// Any other would find what its first arrival did, and take it for another's.
    pub fn may_repeat(&self) -> bool {
        match self {
            Call::Delete
            | Call::Interrupt
            | Call::KeepLogs { .. }
            | Call::Register(_)
            | Call::Update(_)
            | Call::View => true,
            Call::Send(message) => message.message_id.is_some(),
            Call::Initiate | Call::Judge(_) => false,
        }
    }
}

/// The code with which a [`Call::View`] finds nothing where a preparation has failed. A viewer that connects is told why.
pub const PREPARATION_FAILED: &str = "PREPARATION_FAILED";

/// A new session.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Registration {
    pub user: UserId,
    pub session: SessionId,
    pub kilo_session: KiloSessionId,
    pub sandbox: SandboxId,
    pub input: PrepareSession,
}

/// The answer to a [`Call`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Answer {
    Ack(Ack),
    Interrupted(Interrupted),
    Prepared(Prepared),
    Success(Success),
    View(Box<SessionView>),
    /// To [`Input::Progress`], [`Input::SnapshotAccess`] and [`Call::KeepLogs`].
    Noted {},
}

/// `deleteSession`, `updateSession`, and the answers to what the agent asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Success {
    pub success: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// A wrapper's handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IngestOpen {
    pub execution: ExecutionId,
    /// Absent with upstream's wrapper.
    pub generation: Option<i64>,
    pub proof: Proof,
}

/// A text frame of an ingest socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IngestFrame {
    /// The shell's name for the socket: what answers the frame carries it.
    pub socket: usize,
    pub execution: ExecutionId,
    pub text: String,
}

/// How a wrapper shows that it may write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proof {
    /// The execution's ingest secret.
    Secret(String),
    /// The user's own token, already checked by the Worker (upstream's form).
    UserToken,
}

/// What the shell is to do, in order, after the write.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Accept the ingest socket of the handshake that is being answered, close the others of its execution, and send these.
    AcceptIngest { execution: ExecutionId, commands: Vec<Command> },
    /// Accept the viewer whose handshake is being answered.
    AcceptStream,
    /// Send to the socket of an [`IngestFrame`].
    Answer { socket: usize, command: Command },
    /// Send to every viewer whose filter matches.
    Broadcast(Broadcast),
    /// Close the socket of an [`IngestFrame`].
    Close { socket: usize, code: u16, reason: String },
    /// Tell every wrapper to end its agent, and close all sockets of the session, which is no more.
    CloseAll { reason: String },
    /// A job of [`Input::Expire`] failed and was undone, alone. It is still due: for the log, and the next alarm has to be later than the deadline.
    Failed { job: &'static str, error: String },
    /// Perform an effect and report its [`Outcome`] under `key`.
    Perform { key: String, effect: Effect },
    /// Refuse the handshake that is being answered.
    Refuse { status: u16, message: String },
    /// Answer a caller who waits.
    Reply { to: ReplyTo, result: Result<Answer, TrpcError> },
    /// Send to the ingest sockets of an execution.
    ToIngest { execution: ExecutionId, command: Command },
}

/// One event on its way to the viewers: serialised once, whatever their number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broadcast {
    /// For the filters.
    pub execution: String,
    /// For the filters.
    pub kind: String,
    /// For the filters.
    pub at: i64,
    /// The frame.
    pub text: String,
}

/// An effect that is owed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// Stop the agent's turn.
    Abort { sandbox: SandboxId, session: SessionId },
    /// Tell whoever wants to know that an execution ended.
    Callback(Box<CallbackPost>),
    /// Put the session into its owner's directory.
    DirectoryAdd { owner: String, entry: Entry },
    /// Take it out again.
    DirectoryRemove { owner: String, session: SessionId },
    /// Hand the agent a person's word. Not owed: it carries who waits for its outcome.
    Judge { reply: ReplyTo, sandbox: SandboxId, session: SessionId, verdict: Verdict },
    /// Give back the container's lease.
    Release { sandbox: SandboxId, execution: ExecutionId },
    /// Delete what is kept of the session's conversation, and its logs.
    SnapshotRemove { user: UserId, session: SessionId },
    /// End the session's agent server, if its container runs; with `forget`, leave nothing of the session there. With an attempt, unless newer work
    /// has come: a stop may be overtaken on its way.
    Stop {
        sandbox: SandboxId,
        session: SessionId,
        #[serde(default)]
        forget: bool,
        #[serde(default)]
        attempt: Option<u64>,
    },
    /// Have the container do this. A turn's execution holds a lease on the container. The secrets are for its environment, where they win; only the
    /// shell can open them.
    Work {
        sandbox: SandboxId,
        work: Box<Work>,
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        secrets: BTreeMap<String, Envelope>,
    },
}

impl Effect {
    /// How long the shell may take. The next try comes later than this.
    pub fn timeout_ms(&self) -> i64 {
        match self {
            // The container may have to be started first.
            Effect::Work { .. } => 25_000,
            _ => 10_000,
        }
    }

    /// Whether one try may reach its container twice. The agent takes a verdict once, and says no to the second.
    pub fn may_repeat(&self) -> bool {
        !matches!(self, Effect::Judge { .. })
    }

    /// Whether it only takes away what is not needed any more: nobody waits for it, and it is tried until it is done.
    pub fn is_cleanup(&self) -> bool {
        match self {
            Effect::DirectoryRemove { .. }
            | Effect::Release { .. }
            | Effect::SnapshotRemove { .. }
            | Effect::Stop { .. } => true,
            Effect::Abort { .. }
            | Effect::Callback(_)
            | Effect::DirectoryAdd { .. }
            | Effect::Judge { .. }
            | Effect::Work { .. } => false,
        }
    }
}

/// One callback, ready to be sent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CallbackPost {
    pub target: CallbackTarget,
    /// Identifies the message: the receiver may see it more than once.
    pub execution: ExecutionId,
    /// JSON.
    pub body: String,
}

/// What became of an effect.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// It is so now.
    Done,
    /// Unknown, or not now: try again.
    Failed { code: String, message: String },
    /// To [`Effect::Work`]: where that attempt stands.
    Progress(Progress),
    /// Never, this way.
    Refused { code: String, message: String },
}

/// What one input led to.
#[derive(Clone, Debug, PartialEq)]
pub struct Turn {
    /// To be performed in order.
    pub outputs: Vec<Output>,
    /// When the alarm is due next; None: not before something else happens.
    pub alarm: Option<i64>,
}
