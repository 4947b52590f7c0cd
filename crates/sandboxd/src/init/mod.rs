//! The first process of a container.
//!
//! It starts one child, passes SIGTERM and SIGINT on to it, starts it again on the same disk when it dies unasked, and
//! kills what a dead child left behind: an agent's shells live in sessions of their own and would go on writing to a
//! workspace that the next child believes to be its own. As PID 1, or as child subreaper where it is not, it inherits every
//! orphan, so parentage finds them all.
//!
//! There is no event loop, no lock and, after the start, no allocation that matters: it waits for signals on one thread.
//! A child that died is seen by SIGCHLD; signals that arrive together are seen together; all dead children are collected on
//! each of them, so none is missed.

mod restarts;

use crate::log;
use crate::memory;
use crate::processes::Snapshot;
use crate::processes::kill_each;
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::sys::signal::kill;
use nix::sys::wait::WaitPidFlag;
use nix::sys::wait::WaitStatus;
use nix::sys::wait::waitpid;
use nix::unistd::Pid;
use restarts::Restarts;
use serde_json::json;
use signal_hook::consts::SIGCHLD;
use signal_hook::consts::SIGINT;
use signal_hook::consts::SIGTERM;
use signal_hook::iterator::Signals;
use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::process::Command;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;
use std::time::Instant;

const ROLE: &str = "init";

/// How long orphans are killed for. SIGKILL works at once but on a process that waits for a disk; such a one is left.
const CLEANUP_LIMIT: Duration = Duration::from_secs(5);
/// Between two looks at the orphans.
const CLEANUP_STEP: Duration = Duration::from_millis(2);

/// Supervises `child`, a role of this program or a path and its arguments, until it ends for good.
pub fn run(child: &[OsString]) -> ExitCode {
    match supervise(child) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            log::error(ROLE, "failed", json!({ "error": error.to_string() }));
            ExitCode::FAILURE
        }
    }
}

/// How a child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Code(i32),
    Signal(Signal),
}

impl End {
    /// As a shell would report it.
    fn exit_code(self) -> u8 {
        match self {
            End::Code(code) => u8::try_from(code).unwrap_or(u8::MAX),
            End::Signal(signal) => u8::try_from((signal as i32).saturating_add(128)).unwrap_or(u8::MAX),
        }
    }
}

fn supervise(child: &[OsString]) -> io::Result<u8> {
    prctl::set_child_subreaper(true)?;
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGCHLD])?;
    // Looked up once: a program file that was replaced meanwhile has no path any more.
    let program = program(child)?;
    let arguments = if is_path(child) { child.get(1..).unwrap_or_default() } else { child };
    let mut restarts = Restarts::default();
    let mut asked_to_end = false;
    let memory = memory::offer()?;
    loop {
        // Not waited for through this handle: the loop below collects every child there is, inherited ones included.
        let handle = Command::new(&program).args(arguments).envs([memory::variable(&memory)]).spawn()?;
        let pid = Pid::from_raw(i32::try_from(handle.id()).map_err(io::Error::other)?);
        log::info(ROLE, "child_started", json!({ "pid": pid.as_raw() }));

        let end = wait_for(pid, &mut signals, &mut asked_to_end);
        let killed = kill_descendants();
        log::info(
            ROLE,
            "child_ended",
            json!({ "pid": pid.as_raw(), "end": format!("{end:?}"), "orphans_killed": killed }),
        );

        asked_to_end |= signals.pending().any(|signal| signal != SIGCHLD);
        if asked_to_end || end == End::Code(0) {
            return Ok(end.exit_code());
        }
        if !restarts.grant(Instant::now()) {
            log::error(ROLE, "child_keeps_dying", json!({ "end": format!("{end:?}") }));
            return Ok(1);
        }
    }
}

fn is_path(child: &[OsString]) -> bool {
    child.first().is_some_and(|name| name.to_string_lossy().contains('/'))
}

fn program(child: &[OsString]) -> io::Result<PathBuf> {
    match child.first() {
        Some(path) if is_path(child) => Ok(PathBuf::from(path)),
        _ => std::env::current_exe(),
    }
}

/// Returns when the child `pid` has ended. Meanwhile SIGTERM and SIGINT go to it, and inherited processes that end are
/// collected.
fn wait_for(pid: Pid, signals: &mut Signals, asked_to_end: &mut bool) -> End {
    loop {
        let arrived: Vec<i32> = signals.wait().collect();
        for signal in arrived.iter().filter_map(|number| Signal::try_from(*number).ok()) {
            if signal != Signal::SIGCHLD {
                *asked_to_end = true;
                // It cannot have been collected before this line, so the number is still its own.
                let _ = kill(pid, signal);
                log::info(ROLE, "signal_forwarded", json!({ "pid": pid.as_raw(), "signal": signal.as_str() }));
            }
        }
        if let Some((_, end)) = collect_dead().into_iter().find(|(dead, _)| *dead == pid) {
            return end;
        }
    }
}

/// Waits for every child that is dead now.
fn collect_dead() -> Vec<(Pid, End)> {
    let mut dead = Vec::new();
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, code)) => dead.push((pid, End::Code(code))),
            Ok(WaitStatus::Signaled(pid, signal, _)) => dead.push((pid, End::Signal(signal))),
            Err(nix::errno::Errno::EINTR) => {}
            Ok(_) | Err(_) => return dead,
        }
    }
}

/// Kills everything that descends from this process and says how many there were. What a dying process started in its last
/// moment is found in the next look.
fn kill_descendants() -> usize {
    let started = Instant::now();
    let mut killed = std::collections::HashSet::new();
    loop {
        collect_dead();
        let mut descendants = Snapshot::take().descendants(Pid::this());
        descendants.retain(|process| !process.zombie);
        if descendants.is_empty() {
            return killed.len();
        }
        if started.elapsed() > CLEANUP_LIMIT {
            log::error(ROLE, "orphans_remain", json!({ "count": descendants.len() }));
            return killed.len();
        }
        kill_each(&descendants);
        killed.extend(descendants.iter().map(|process| process.pid));
        thread::sleep(CLEANUP_STEP);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_those_of_a_shell() {
        assert_eq!(End::Code(0).exit_code(), 0);
        assert_eq!(End::Code(7).exit_code(), 7);
        assert_eq!(End::Signal(Signal::SIGTERM).exit_code(), 143);
    }
}
