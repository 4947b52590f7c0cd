//! Every bound of the session role, with its unit in its name and the reason for it.
//!
//! The numbers come from spec/session.md 14 unless a line says otherwise.

use std::time::Duration;

/// A body of a call; a prompt of 100,000 characters and 50 variables of 4 KiB fit well.
pub const BODY_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Sessions that one process remembers: each is a small record, the agent servers are counted apart.
pub const SESSIONS_MAX: usize = 4096;
/// Agent servers in one container: 0.5 to 0.8 GB each (spec/kilo.md 1) of the 6 GiB that an instance for sessions has (wrangler.toml), with room for
/// what the agents run, and for two exports.
pub const MAX_AGENT_SERVERS: usize = 6;

/// Below this much free space what killed clones left behind is cleared first.
pub const DISK_LOW_MB: u64 = 2_048;
/// Below this much nothing can be cloned and work is refused.
pub const DISK_FREE_MIN_MB: u64 = 256;

/// A clone.
pub const CLONE_TIMEOUT: Duration = Duration::from_secs(120);
/// A git command that asks the remote: fetch, ls-remote, push.
pub const GIT_REMOTE_TIMEOUT: Duration = Duration::from_secs(60);
/// A git command that works on the disk alone, hooks included.
pub const GIT_LOCAL_TIMEOUT: Duration = Duration::from_secs(30);
/// One setup command.
pub const SETUP_COMMAND_TIMEOUT: Duration = Duration::from_secs(120);
/// What is kept of the end of a command's output, for its error message.
pub const OUTPUT_TAIL_BYTES: usize = 8 * 1024;
/// What a caller may read of a command's output: `git status` of a large change fits.
pub const OUTPUT_BYTES_MAX: usize = 1024 * 1024;
/// How many of the last lines of output an error message quotes.
pub const OUTPUT_TAIL_LINES: usize = 12;
/// After a command ended, how long its output may still be held open by what it left running.
pub const OUTPUT_GRACE: Duration = Duration::from_millis(250);

/// `kilo import` (spec/session.md 8.8); the first one in a home also creates the database: 5 s on a busy machine.
pub const IMPORT_TIMEOUT: Duration = Duration::from_secs(120);
/// `sandboxd restore`: fetching an export (spec/session.md 8.8).
pub const RESTORE_DOWNLOAD_TIMEOUT: Duration = Duration::from_secs(300);
/// An uncompressed export: ten times what an agent's context holds, tool outputs included.
pub const EXPORT_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// What `kilo export` may write: with some hundred images of 5 MiB, which are then left out.
pub const AGENT_EXPORT_BYTES_MAX: u64 = 1024 * 1024 * 1024;
/// `kilo export`: 4 s on a busy machine.
pub const EXPORT_TIMEOUT: Duration = Duration::from_secs(60);
/// Exports at once in one container: each is a process of the agent's program, 0.5 GB.
pub const EXPORTS_AT_ONCE: usize = 2;
/// Moving a snapshot to or from its store.
pub const SNAPSHOT_TRANSFER_TIMEOUT: Duration = Duration::from_secs(60);
/// Fetches of a snapshot before a cold start is given up, for a passing reason.
pub const SNAPSHOT_FETCH_TRIES: u32 = 3;
/// The pause between two of them.
pub const SNAPSHOT_FETCH_PAUSE: Duration = Duration::from_secs(1);
/// Fetching one image of a prompt, 5 MiB at most.
pub const IMAGE_TIMEOUT: Duration = Duration::from_secs(20);
/// Fetches of an image before the start is given up, for a passing reason.
pub const IMAGE_FETCH_TRIES: u32 = 3;
/// The pause between two of them.
pub const IMAGE_FETCH_PAUSE: Duration = Duration::from_secs(1);
/// From the start of `kilo serve` to its listening line: 4 s on a busy machine.
pub const AGENT_START_TIMEOUT: Duration = Duration::from_secs(60);
/// Starts of `kilo serve` for one attempt: the chosen port may be taken in between.
pub const AGENT_START_TRIES: u32 = 3;
/// One call to the agent server; an abort takes up to 0.4 s, the first prompt up to 2.5 s.
pub const AGENT_CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// The abort before an agent server is ended. Less than any other call: one that hangs is ended without it, and what the session has must still be
/// kept before the container ends (20 s, crates/sandbox-core, `shutdown_ms_max`).
pub const ABORT_BEFORE_STOP_TIMEOUT: Duration = Duration::from_secs(3);
/// From SIGTERM to SIGKILL of an agent server; it needs 1.4 s in the middle of a turn.
pub const AGENT_STOP_TIMEOUT: Duration = Duration::from_secs(3);

/// One post of a progress report.
pub const REPORT_TIMEOUT: Duration = Duration::from_secs(10);
/// The first pause between posts of the same report; doubles up to [`REPORT_BACKOFF_MAX`].
pub const REPORT_BACKOFF_MIN: Duration = Duration::from_millis(250);
/// The longest pause between posts of the same report.
pub const REPORT_BACKOFF_MAX: Duration = Duration::from_secs(5);
/// How long one report is posted: the object has given the work up after 12 min (crates/session-core, `work_ms`).
pub const REPORT_LIMIT: Duration = Duration::from_secs(15 * 60);
/// Reports of one attempt that wait: more than an attempt has steps.
pub const REPORT_QUEUE: usize = 32;

/// The whole auto-commit: a little less than what the job machine allows (120 s), so that its own result is told.
pub const AUTO_COMMIT_TIMEOUT: Duration = Duration::from_secs(115);
/// Characters of a commit message's subject.
pub const COMMIT_SUBJECT_CHARS: usize = 72;

/// An ingest connection attempt.
pub const INGEST_CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// On SIGTERM, how long the last events may wait for their acknowledgement: inside the platform's time before SIGKILL.
pub const SHUTDOWN_FLUSH_TIMEOUT: Duration = Duration::from_secs(5);
/// How long new work waits for an execution that is about to end: more than an aborted agent needs to come to rest.
pub const SETTLE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a stop or an abort waits for the turn to end before it goes on without it.
pub const TURN_END_TIMEOUT: Duration = Duration::from_secs(15);
/// How long the peer may take to answer our close frame.
pub const SOCKET_CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// Notes of a socket, or of an event stream, that wait for the session's loop. Beyond it the sender waits.
pub const NOTES_MAX: usize = 64;
/// After the event stream of an agent server ended, until it is subscribed to again.
pub const RESUBSCRIBE_PAUSE_MS: i64 = 250;
/// Asking the agent server what its sessions are doing; no answer is fine too.
pub const AGENT_STATUS_TIMEOUT: Duration = Duration::from_secs(5);
/// The newest messages that are asked for after a gap in the agent's events. One step of a turn is one message.
pub const AGENT_MESSAGES_MAX: u32 = 100;
/// The sub-agents of one turn that are asked about after a gap.
pub const AGENT_CHILDREN_MAX: usize = 8;
/// Requests for permission, and questions, that are withdrawn after an abort. A turn waits for one at a time, its sub-agents for one each.
pub const AGENT_REQUESTS_MAX: usize = 32;
/// Condensing a conversation: one call of the model.
pub const CONDENSE_TIMEOUT: Duration = Duration::from_secs(180);

/// Between two uploads of an execution's logs.
pub const LOGS_INTERVAL: Duration = Duration::from_secs(30);
/// After an execution's last word, how long its logs wait for what is said of the word's delivery.
pub const LOGS_END_WAIT: Duration = Duration::from_secs(2);
/// On SIGTERM, how long the last uploads may take (spec/session.md 8.7).
pub const LOGS_SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(5);
/// One upload.
pub const LOGS_TIMEOUT: Duration = Duration::from_secs(15);
/// The agent server's log files that are uploaded, the newest of them: one for each of its starts, and one of its own.
pub const LOG_FILES_MAX: usize = 4;
/// What is uploaded of one file, from its end. All of them are below `LOGS_BYTES_MAX`.
pub const LOG_FILE_BYTES_MAX: u64 = 256 * 1024;
