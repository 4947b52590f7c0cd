//! `sandboxd init` with real children, signals and orphans.
#![allow(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::unwrap_used)]

mod support;

use nix::sys::signal::Signal;
use std::process::Child;
use std::process::ExitStatus;
use support::lives;
use support::numbers;
use support::sandboxd;
use support::send;
use support::until;
use tempfile::TempDir;

/// A supervised shell script, in a folder of its own.
struct Init {
    process: Child,
    folder: TempDir,
}

impl Init {
    fn run(script: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let process = sandboxd(["init", "--", "/bin/sh", "-c", script]).current_dir(folder.path()).spawn().unwrap();
        Self { process, folder }
    }

    fn send(&self, signal: Signal) {
        send(i32::try_from(self.process.id()).unwrap(), signal);
    }

    /// The numbers that the script wrote to a file, once there are `count`.
    fn numbers(&self, file: &str, count: usize) -> Vec<i32> {
        let path = self.folder.path().join(file);
        until(file, || Some(numbers(&path)).filter(|numbers| numbers.len() >= count))
    }

    fn ended(&mut self) -> ExitStatus {
        until("the end of init", || self.process.try_wait().unwrap())
    }
}

impl Drop for Init {
    fn drop(&mut self) {
        // A failed test leaves nothing behind either: init ends its descendants when its child dies.
        if self.process.try_wait().unwrap().is_none() {
            let pid = i32::try_from(self.process.id()).unwrap();
            send(pid, Signal::SIGTERM);
            for child in support::children(pid) {
                let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(child), Signal::SIGKILL);
            }
            let _ = self.process.wait();
        }
    }
}

/// Starts three kinds of descendants: one in a session of its own, one that is nobody's child and has no environment, and one
/// that ignores SIGTERM.
const WITH_DESCENDANTS: &str = "
    setsid sleep 1000 & echo $! >> descendants
    env -i /bin/sh -c 'setsid sleep 1000 & echo $! >> descendants' &
    sh -c 'trap \"\" TERM; while :; do sleep 0.05; done' & echo $! >> descendants
    until [ $(wc -l < descendants) -ge 3 ]; do sleep 0.02; done
    echo $$ >> children
    while :; do sleep 0.05; done";

#[test]
fn a_killed_child_is_started_again_on_the_same_disk_and_its_descendants_are_killed() {
    let mut init = Init::run(WITH_DESCENDANTS);
    let first = init.numbers("children", 1)[0];
    let left = init.numbers("descendants", 3);
    assert!(left.iter().all(|pid| lives(*pid)));

    send(first, Signal::SIGKILL);
    let second = init.numbers("children", 2)[1];
    assert_ne!(first, second);
    assert!(left.iter().all(|pid| !lives(*pid)), "the descendants were dead before the child was started again");

    init.send(Signal::SIGTERM);
    assert_eq!(init.ended().code(), Some(143), "as a shell reports a child that SIGTERM ended");
    assert!(init.numbers("descendants", 6).iter().all(|pid| !lives(*pid)));
    assert_eq!(init.numbers("children", 2).len(), 2, "not started again");
}

#[test]
fn sigterm_and_sigint_reach_the_child_and_its_exit_code_comes_back() {
    for (signal, code) in [(Signal::SIGTERM, 7), (Signal::SIGINT, 8)] {
        let mut init = Init::run("trap 'exit 7' TERM; trap 'exit 8' INT; echo 1 > ready; while :; do sleep 0.05; done");
        init.numbers("ready", 1);
        init.send(signal);
        assert_eq!(init.ended().code(), Some(code));
    }
}

#[test]
fn a_child_that_ends_well_ends_init_and_what_it_left() {
    let mut init = Init::run("setsid sleep 1000 & echo $! > left");
    assert_eq!(init.ended().code(), Some(0));
    assert!(!lives(init.numbers("left", 1)[0]));
}

#[test]
fn a_child_that_dies_at_each_start_is_given_up_after_five_restarts() {
    let mut init = Init::run("echo 1 >> starts; exit 3");
    assert_eq!(init.ended().code(), Some(1));
    assert_eq!(init.numbers("starts", 6).len(), 6);
}

#[test]
fn dead_orphans_are_collected_while_the_child_lives() {
    let mut init = Init::run("(sleep 0 & echo $! > orphan); echo 1 > ready; while :; do sleep 0.05; done");
    init.numbers("ready", 1);
    let orphan = init.numbers("orphan", 1)[0];
    until("the orphan's collection", || (!std::path::Path::new(&format!("/proc/{orphan}")).exists()).then_some(()));
    init.send(Signal::SIGTERM);
    init.ended();
}

#[test]
fn misuse_is_exit_code_two_and_shows_the_usage() {
    for args in [&["init"][..], &["nonsense"], &["host", "--listen", "0.0.0.0:1", "--root", "/nowhere"]] {
        let output = sandboxd(args.iter().copied()).stderr(std::process::Stdio::piped()).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(String::from_utf8(output.stderr).unwrap().contains("Usage:"));
    }
    let version = sandboxd(["--version"]).output().unwrap();
    assert_eq!(String::from_utf8(version.stdout).unwrap(), format!("sandboxd {}\n", env!("CARGO_PKG_VERSION")));
}
