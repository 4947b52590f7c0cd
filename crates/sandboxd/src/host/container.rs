//! One running container: a supervised process group with a folder of its own.
//!
//! The process belongs to one task, [`watch`], which alone waits for it. Everyone else reads its [`Phase`], so nobody signals
//! a process number that has been given to another process: the phase changes in the same turn in which the dead process
//! is collected.

use super::exit_hook;
use super::output;
use super::tree;
use crate::log;
use nix::sys::signal::Signal;
use nix::sys::signal::kill;
use nix::unistd::Pid;
use protocol::host::Exit;
use protocol::host::Role;
use protocol::host::Start;
use serde_json::json;
use std::io;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::path::Path;
use std::path::PathBuf;
use std::process::Stdio;
use tokio::net::unix::pipe::Receiver;
use tokio::process::Child;
use tokio::process::Command;
use tokio::sync::watch;
use uuid::Uuid;

/// Marks every process of a container; its value is the container's folder.
pub const ROOT_VARIABLE: &str = "HOLDFAST_ROOT";
/// Tells the role where to listen.
pub const LISTEN_VARIABLE: &str = "HOLDFAST_LISTEN";

/// How far a container's end has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Its first process lives.
    Running,
    /// That is dead, and what it left is being killed.
    Ending,
    /// Nothing of it lives.
    Ended,
}

/// A container that was started.
#[derive(Clone, Debug)]
pub struct Running {
    /// Which start of the name this is.
    pub instance: String,
    /// Where it listens.
    pub address: SocketAddr,
    folder: PathBuf,
    pid: Pid,
    phase: watch::Receiver<Phase>,
}

impl Running {
    /// How far its end has come.
    pub fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// Sends a signal to its first process; false if that is dead.
    pub fn signal(&self, signal: Signal) -> bool {
        self.phase() == Phase::Running && kill(self.pid, signal).is_ok()
    }

    /// Its disk.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Kills all of it. [`Running::ended`] tells when that is done.
    pub async fn kill(&self) {
        // While init lives it would restart its child: it goes first, and the watcher does the rest.
        self.signal(Signal::SIGKILL);
        self.ended().await;
    }

    /// Returns when nothing of it lives.
    pub async fn ended(&self) {
        // An error means that the watcher is gone, which it only is after its last word.
        let _ = self.phase.clone().wait_for(|phase| *phase == Phase::Ended).await;
    }
}

/// Starts a container in `<parent>/<instance>/`, a new and empty folder. It runs when this returns; whether it is ready is
/// asked through its port.
pub fn start(program: &Path, parent: &Path, start: Start, live: tree::LiveInits) -> io::Result<Running> {
    let instance = Uuid::new_v4().to_string();
    let folder = parent.join(&instance);
    std::fs::create_dir_all(&folder)?;
    let address = free_address()?;
    let (output, child_output) = io::pipe()?;
    let output = Receiver::from_owned_fd(output.into())?;

    let mut command = Command::new(program);
    command
        .args(["init", "--", role_name(start.role)])
        .env_clear()
        .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
        .envs(start.env.iter().map(|(name, value)| (name, value.expose())))
        .env(ROOT_VARIABLE, &folder)
        .env(LISTEN_VARIABLE, address.to_string())
        .current_dir(&folder)
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(child_output.try_clone()?)
        .stderr(child_output);
    let child = command.spawn()?;
    // Closes the host's copies of the write end: the output ends when the last process of the container has.
    drop(command);
    let pid = child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw);
    let pid = pid.ok_or_else(|| io::Error::other("the process ended at once"))?;
    live.insert(pid);

    log::info(
        "host",
        "container_started",
        json!({ "instance": instance, "folder": folder, "pid": pid.as_raw(), "listen": address }),
    );
    tokio::spawn(output::keep(output, parent.join(format!("{instance}.log"))));
    let (phase_sender, phase) = watch::channel(Phase::Running);
    let running = Running { instance, address, folder, pid, phase };
    tokio::spawn(watch(child, running.clone(), start, phase_sender, live));
    Ok(running)
}

/// Sees the container through to its end and reports that.
async fn watch(mut child: Child, container: Running, start: Start, phase: watch::Sender<Phase>, live: tree::LiveInits) {
    let status = child.wait().await;
    // No await between the line above and these: see the module's text.
    phase.send_replace(Phase::Ending);
    live.remove(container.pid);
    let exit_code = status.as_ref().ok().and_then(std::process::ExitStatus::code);
    let left = tree::kill(&container.folder, &live).await;
    phase.send_replace(Phase::Ended);
    let fields = json!({ "instance": container.instance, "exit_code": exit_code, "left_behind": left });
    log::info("host", "container_ended", fields);
    if let Some(hook) = start.on_exit {
        exit_hook::report(&hook, &Exit { instance: container.instance, exit_code }).await;
    }
}

fn role_name(role: Role) -> &'static str {
    match role {
        Role::Session => "session",
        Role::Town => "town",
    }
}

/// An address that is free now. Another process could take it before the container does; then the container fails to listen
/// and ends, which its owner sees and repeats.
fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}
