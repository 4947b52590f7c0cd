//! What a role was started with cannot be read by the other processes of its user.
#![cfg(target_os = "linux")]
#![allow(clippy::arithmetic_side_effects, clippy::panic, clippy::unwrap_used)]

#[path = "support/mod.rs"]
mod support;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use support::until;
use tempfile::TempDir;

const TOKEN: &str = "a-token-that-nobody-may-see";
/// What shows a process the others, as bits in a set of capabilities: SYS_MODULE, SYS_RAWIO, SYS_PTRACE, SYS_ADMIN, PERFMON.
const SIGHT: u64 = 1 << 16 | 1 << 17 | 1 << 19 | 1 << 21 | 1 << 38;
/// Somebody without capabilities.
const NOBODY: u32 = 65_534;

/// A command as an agent runs it: without capabilities. Root gives up being root for it.
fn unprivileged(program: &Path) -> Command {
    let mut command = Command::new(program);
    if fs::metadata("/proc/self").unwrap().uid() == 0 {
        command.uid(NOBODY).gid(NOBODY);
    }
    command
}

/// The whole environment of a process, as another process of its user sees it.
fn environment_of(pid: u32) -> Option<String> {
    let output = unprivileged(Path::new("cat")).arg(format!("/proc/{pid}/environ")).stderr(Stdio::null()).output();
    let output = output.unwrap();
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

fn children_of(pid: u32) -> Vec<u32> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace().map(|pid| pid.parse().unwrap()).collect()
}

struct Town(Child);

impl Drop for Town {
    fn drop(&mut self) {
        support::send(i32::try_from(self.0.id()).unwrap(), nix::sys::signal::Signal::SIGINT);
        let _ = self.0.wait();
    }
}

/// `init` with a town below it, as a container starts it, and on a loopback port of its own. It has begun to listen.
fn town(sandboxd: &Path, root: Option<&Path>) -> Town {
    let log = tempfile::NamedTempFile::new().unwrap();
    let mut command = unprivileged(sandboxd);
    command.args(["init", "--", "town"]).env_clear().env("PATH", "/usr/bin:/bin");
    command
        .env("GASTOWN_TOWN_ID", "t1")
        .env("GASTOWN_API_URL", "http://127.0.0.1:9")
        .env("HOLDFAST_LISTEN", "127.0.0.1:0");
    command.env("GASTOWN_CONTAINER_TOKEN", TOKEN).envs(root.map(|root| ("HOLDFAST_ROOT", root)));
    let town = Town(command.stderr(log.reopen().unwrap()).spawn().unwrap());
    let listens = || fs::read_to_string(&log).unwrap().contains(r#""event":"ready""#).then_some(());
    until("the town to listen", listens);
    town
}

/// The program where every user may run it.
fn anybodys_copy() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let sandboxd = folder.path().join("sandboxd");
    // By another process: a child that a test beside this one starts would inherit the open copy, and nobody can run what somebody writes.
    assert!(Command::new("cp").arg(env!("CARGO_BIN_EXE_sandboxd")).arg(&sandboxd).status().unwrap().success());
    (folder, sandboxd)
}

#[test]
fn a_process_of_the_same_user_sees_the_token_neither_of_init_nor_of_the_town() {
    let (folder, sandboxd) = anybodys_copy();

    let contained = town(&sandboxd, None);
    let roles = until("the role", || Some(children_of(contained.0.id())).filter(|children| !children.is_empty()));
    assert_eq!(environment_of(contained.0.id()), None);
    assert_eq!(roles.into_iter().map(environment_of).collect::<Vec<_>>(), [None]);

    let on_a_shared_machine = town(&sandboxd, Some(folder.path()));
    let seen = environment_of(on_a_shared_machine.0.id());
    assert!(seen.is_some_and(|seen| seen.contains(TOKEN)), "there the host finds what a dead one has left");
}

/// The set of that name in what a process says of itself.
fn capabilities(status: &str, name: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    u64::from_str_radix(line.trim_start_matches(':').trim(), 16).unwrap()
}

/// `init` runs a shell that says what it may do, and reads the environment of `init` if it can.
fn curious(mut init: Command) -> (String, String) {
    let script = "cat /proc/self/status; cat /proc/$PPID/environ; exit 0";
    init.args(["init", "--", "/bin/sh", "-c", script]).env_clear().env("PATH", "/usr/bin:/bin").env("TOKEN", TOKEN);
    let output = init.stderr(Stdio::piped()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    (String::from_utf8_lossy(&output.stdout).into_owned(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn what_init_starts_sees_the_token_not_even_as_root() {
    if fs::metadata("/proc/self").unwrap().uid() != 0 {
        println!("only root has what is given up here: nothing was tested");
        return;
    }
    let (said, logged) = curious(Command::new(env!("CARGO_BIN_EXE_sandboxd")));
    let before = capabilities(&fs::read_to_string("/proc/self/status").unwrap(), "CapBnd");
    for set in ["CapBnd", "CapEff", "CapPrm"] {
        assert_eq!(capabilities(&said, set), before & !SIGHT, "{set}: nothing else is given up");
    }
    assert_eq!(capabilities(&said, "CapInh") & SIGHT, 0);
    assert!(!said.contains(TOKEN) && logged.contains("Permission denied"), "{said}{logged}");
}

#[test]
fn an_init_that_may_not_give_it_up_says_so_and_goes_on() {
    let (_folder, sandboxd) = anybodys_copy();
    let (said, logged) = curious(unprivileged(&sandboxd));
    assert_eq!(capabilities(&said, "CapEff"), 0);
    assert!(!said.contains(TOKEN));
    // Where nobody on this machine can get it, there is nothing to give up.
    let own = fs::read_to_string("/proc/self/status").unwrap();
    let told = usize::from(capabilities(&own, "CapBnd") & SIGHT != 0);
    assert_eq!(logged.matches("sight_not_given_up").count(), told, "{logged}");
}
