//! One running `kilo serve`: started, watched, stopped.
//!
//! A task owns the process. It drains its outputs, and ends it when its [`Running`] is dropped, so that no way out of a function
//! leaves an agent server behind. However it ended, its tools end with it, and only then everybody is told: nothing of it
//! writes any more while its work is committed.

use super::client::Client;
use super::environment::Environment;
use crate::log;
use crate::session::command;
use crate::session::command::Group;
use crate::session::error::WorkError;
use crate::session::limits;
use crate::session::reap;
use crate::session::redact::Redactor;
use nix::sys::signal::Signal;
use nix::sys::signal::kill;
use nix::unistd::Pid;
use protocol::id::KiloSessionId;
use serde_json::json;
use std::io;
use std::net::TcpListener;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::Weak;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use tokio::io::AsyncRead;
use tokio::io::AsyncReadExt;
use tokio::process::Child;
use tokio::process::Command;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::watch;

/// A request before this line may never be answered (spec/kilo.md 3).
const LISTENING: &str = "kilo server listening on http://";

/// Tells when an agent server has ended: `None` while it runs, then the reason.
pub type Gone = watch::Receiver<Option<String>>;

/// Ends an agent server that others own. Says nothing of one that is gone.
#[derive(Clone, Debug)]
pub struct Ender(Weak<watch::Sender<bool>>);

impl Ender {
    /// Ends it, as [`Server::stop`] does, without an abort before it: from now on it serves nobody.
    pub fn end(&self) {
        if let Some(stop) = self.0.upgrade() {
            stop.send_replace(true);
        }
    }
}

/// How to start one.
pub struct Recipe<'a> {
    /// The program.
    pub kilo: &'a Path,
    /// Its environment, whole.
    pub environment: &'a Environment,
    /// The repository.
    pub workspace: &'a Path,
    /// The agent session that is worked in.
    pub session: &'a KiloSessionId,
    /// The model's name.
    pub model: &'a str,
    /// For what it says when it fails.
    pub redactor: &'a Redactor,
}

/// An agent server that runs for one agent session.
pub struct Server {
    /// Calls it.
    pub client: Client,
    environment: Environment,
    running: Running,
}

impl Server {
    /// Starts one and waits until it listens.
    pub async fn start(
        recipe: &Recipe<'_>,
        http: &reqwest::Client,
        place: OwnedSemaphorePermit,
    ) -> Result<Self, WorkError> {
        let Recipe { kilo, environment, workspace, redactor, .. } = *recipe;
        let running = Running::start(kilo, environment, workspace, place).await;
        let running = running.map_err(|error| WorkError::AgentServer(redactor.clean(&error)))?;
        let client = Client::new(http.clone(), running.port, recipe.session.clone(), recipe.model.to_owned())
            .with_redactor(redactor.clone());
        Ok(Self { client, environment: environment.clone(), running })
    }

    /// Whether it runs, with this configuration, for this agent session.
    pub fn serves(&self, environment: &Environment, session: &KiloSessionId) -> bool {
        let is_up = self.running.gone.borrow().is_none() && !*self.running.stop.borrow();
        is_up && self.environment == *environment && self.client.session() == session
    }

    /// Tells when it has ended.
    pub fn gone(&self) -> Gone {
        self.running.gone.clone()
    }

    /// Ends it, for one that does not own it.
    pub fn ender(&self) -> Ender {
        Ender(Arc::downgrade(&self.running.stop))
    }

    /// Ends it. What it was doing is aborted first: SIGTERM in a turn leaves locks behind that the next start runs into
    /// (spec/kilo.md 6).
    pub async fn stop(self) {
        if self.running.gone.borrow().is_none() {
            let aborted = tokio::time::timeout(limits::ABORT_BEFORE_STOP_TIMEOUT, self.client.abort()).await;
            let failure = aborted.map_or_else(|late| Some(late.to_string()), |result| Some(result.err()?.to_string()));
            if let Some(error) = failure {
                log::warn("session", "abort_before_stop_failed", json!({ "error": error }));
            }
        }
        self.running.stop().await;
    }
}

/// A running agent server, whatever sessions it has. Dropping it ends it.
pub struct Running {
    /// Where it listens on loopback.
    pub port: u16,
    gone: Gone,
    /// True: it is to end.
    stop: Arc<watch::Sender<bool>>,
    /// Whether something that it started could not be ended.
    tools_left: Arc<AtomicBool>,
}

impl Running {
    /// Starts one and waits until it listens. The error may quote what the program said.
    pub async fn start(
        kilo: &Path,
        environment: &Environment,
        workspace: &Path,
        place: OwnedSemaphorePermit,
    ) -> Result<Self, String> {
        let mut tries = limits::AGENT_START_TRIES;
        let (port, process) = loop {
            let port = free_port().map_err(|error| error.to_string())?;
            match launch(kilo, environment, workspace, port).await {
                Ok(process) => break (port, process),
                // Somebody took the port in between.
                Err(NotListening::Exited { tail, .. }) if tries > 1 && tail.contains("port") => {
                    tries = tries.saturating_sub(1);
                }
                Err(error) => return Err(error.to_string()),
            }
        };
        let (tell_gone, gone) = watch::channel(None);
        let (stop, stopped) = watch::channel(false);
        let tools_left = Arc::new(AtomicBool::new(false));
        let left = tools_left.clone();
        tokio::spawn(async move {
            let reason = watch_over(process, stopped, &left).await;
            // Only now may another one take this place in the container; and whoever waits for the end of this one may want to.
            drop(place);
            tell_gone.send_replace(Some(reason));
        });
        Ok(Self { port, gone, stop: Arc::new(stop), tools_left })
    }

    /// Tells when it has ended.
    pub fn gone(&self) -> Gone {
        self.gone.clone()
    }

    /// Ends it, and every process that it started. Abort its turns before. False: something is left.
    pub async fn stop(self) -> bool {
        let mut gone = self.gone;
        self.stop.send_replace(true);
        // The task bounds this: SIGKILL follows SIGTERM.
        let _ = gone.wait_for(Option::is_some).await;
        !self.tools_left.load(Ordering::Relaxed)
    }
}

struct Process {
    child: Child,
    group: Group,
    /// The value of its mark.
    mark: String,
}

#[derive(Debug, thiserror::Error)]
enum NotListening {
    #[error("cannot be started: {0}")]
    Start(#[from] io::Error),
    #[error("ended with {status} before it listened{}", command::quote(.tail))]
    Exited { status: String, tail: String },
    #[error("did not listen within {} s{}", limits::AGENT_START_TIMEOUT.as_secs(), command::quote(.tail))]
    Timeout { tail: String },
}

/// `--port 0` would not mean any port: it takes a fixed one first.
fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

async fn launch(kilo: &Path, environment: &Environment, workspace: &Path, port: u16) -> Result<Process, NotListening> {
    let mut command = Command::new(kilo);
    command.args(["serve", "--hostname", "127.0.0.1", "--port", &port.to_string()]);
    command.env_clear().envs(environment.iter().map(|(name, value)| (name, value)));
    let mark = uuid::Uuid::new_v4().to_string();
    command.env(reap::AGENT_MARK, &mark).current_dir(workspace).process_group(0);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    let group = Group::of(&child);
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let (heard, mut said) = watch::channel(Beginning::default());
    tokio::spawn(drain(stdout, heard.clone()));
    tokio::spawn(drain(stderr, heard));
    let listening = async {
        loop {
            tokio::select! {
                status = child.wait() => {
                    // What it said last may still be on its way.
                    tokio::time::sleep(limits::OUTPUT_GRACE).await;
                    let status = status.map_or_else(|error| error.to_string(), |status| status.to_string());
                    return Err(NotListening::Exited { status, tail: said.borrow().text.trim().to_owned() });
                }
                listens = async { said.wait_for(|said| said.text.contains(LISTENING)).await.is_ok() } => {
                    if listens {
                        return Ok(());
                    }
                    // Both outputs are closed: only the exit remains to be seen.
                    tokio::time::sleep(limits::OUTPUT_GRACE).await;
                }
            }
        }
    };
    match tokio::time::timeout(limits::AGENT_START_TIMEOUT, listening).await {
        Ok(Ok(())) => Ok(Process { child, group, mark }),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(NotListening::Timeout { tail: said.borrow().text.trim().to_owned() }),
    }
}

/// What a server says first: that it listens, or why it cannot.
#[derive(Default)]
struct Beginning {
    text: String,
    is_full: bool,
}

impl Beginning {
    /// Takes more of it, while there is room. False: nothing was taken.
    fn hear(&mut self, bytes: &[u8]) -> bool {
        if self.is_full {
            return false;
        }
        self.is_full = self.text.len() >= limits::OUTPUT_TAIL_BYTES;
        if self.is_full {
            // A part of a line may be a part of a secret, which nobody would know. For the same reason nothing is taken from here on.
            self.text.truncate(self.text.rfind('\n').map_or(0, |end| end.saturating_add(1)));
        } else {
            self.text.push_str(&String::from_utf8_lossy(bytes));
        }
        !self.is_full
    }
}

/// Reads to the end, or the server would block; keeps the beginning.
async fn drain(stream: Option<impl AsyncRead + Unpin>, heard: watch::Sender<Beginning>) {
    let Some(mut stream) = stream else { return };
    let mut buffer = [0; 4096];
    while let Ok(read) = stream.read(&mut buffer).await {
        let Some(bytes) = buffer.get(..read).filter(|bytes| !bytes.is_empty()) else { return };
        heard.send_if_modified(|beginning| beginning.hear(bytes));
    }
}

/// Waits until it has ended, or is asked to, and ends its tools. Returns how it ended.
async fn watch_over(mut process: Process, mut stop: watch::Receiver<bool>, tools_left: &AtomicBool) -> String {
    let status = tokio::select! {
        status = process.child.wait() => status,
        asked = async { stop.wait_for(|asked| *asked).await.is_ok() } => {
            if asked
                && let Some(leader) = process.group.leader
            {
                let _ = kill(leader, Signal::SIGTERM);
                let _ = tokio::time::timeout(limits::AGENT_STOP_TIMEOUT, process.child.wait()).await;
            }
            end(&mut process).await
        }
    };
    process.group.leader = process.group.leader.filter(|_| status.is_err());
    if !reap::kill_agent(&process.mark).await {
        tools_left.store(true, Ordering::Relaxed);
        log::error("session", "tools_left", json!({ "agent": process.mark }));
    }
    let reason = status.map_or_else(|error| error.to_string(), |status| status.to_string());
    format!("the agent server ended with {reason}")
}

/// Kills what is left of it.
async fn end(process: &mut Process) -> io::Result<std::process::ExitStatus> {
    if let Ok(None) = process.child.try_wait() {
        let _ = process.group.leader.map(|leader: Pid| nix::sys::signal::killpg(leader, Signal::SIGKILL));
    }
    process.child.wait().await
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHUNK: usize = 4096;

    /// What is kept of an output that comes in pieces of [`CHUNK`].
    fn kept(output: &str) -> String {
        let mut beginning = Beginning::default();
        for chunk in output.as_bytes().chunks(CHUNK) {
            beginning.hear(chunk);
        }
        beginning.text
    }

    #[test]
    fn of_more_output_than_is_kept_the_first_whole_lines_stay_and_nothing_that_came_later() {
        let long = "x".repeat(limits::OUTPUT_TAIL_BYTES);
        assert_eq!(kept("first\nlast"), "first\nlast");
        // Its middle is lost; its end and what follows come in pieces of their own.
        let later = format!("{}-end-of-a-secret\n", "y".repeat(4 * CHUNK));
        assert_eq!(kept(&format!("first\nsecond\n{long}{later}{later}")), "first\nsecond\n");
        assert_eq!(kept(&format!("{long}{later}{later}")), "");
    }

    #[tokio::test]
    async fn a_server_that_talks_without_end_is_heard_to_the_end() {
        let (heard, said) = watch::channel(Beginning::default());
        let output = "a line\n".repeat(10 * CHUNK);
        drain(Some(output.as_bytes()), heard).await;
        let text = &said.borrow().text;
        assert!(text.len() > CHUNK && output.starts_with(text) && text.ends_with('\n'));
    }
}
