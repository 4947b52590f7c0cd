//! Leaves nothing of a session running.
//!
//! The agent's tools run in sessions and process groups of their own (spec/kilo.md 7), so a process group does not hold
//! them. Everything that sandboxd starts for a session carries a mark in its environment, which children inherit;
//! killed are all that carry it, and all their descendants. An agent server has a mark of its own besides, so that its tools
//! end with it while the session goes on.

use crate::processes;
use crate::processes::Process;
use crate::processes::Snapshot;
use nix::unistd::Pid;
use protocol::id::SessionId;
use std::thread;
use std::time::Duration;

/// The variable whose value is the session's id.
pub const MARK: &str = "HOLDFAST_SESSION";

/// The variable whose value names one agent server.
pub const AGENT_MARK: &str = "HOLDFAST_AGENT";

/// What is killed may have forked in the same moment: look again, but not for ever.
const ROUNDS_MAX: u32 = 20;
const ROUND_PAUSE: Duration = Duration::from_millis(25);

/// Kills every process of `session`. True if none is left.
pub async fn kill_all(session: &SessionId) -> bool {
    kill(format!("{MARK}={session}")).await
}

/// Kills an agent server and every process that it started. True if none is left.
pub async fn kill_agent(agent: &str) -> bool {
    kill(format!("{AGENT_MARK}={agent}")).await
}

async fn kill(mark: String) -> bool {
    tokio::task::spawn_blocking(move || kill_marked(&mark)).await.unwrap_or(false)
}

fn kill_marked(mark: &str) -> bool {
    for _ in 0..ROUNDS_MAX {
        let found = marked(mark);
        if found.is_empty() {
            return true;
        }
        processes::kill_each(&found);
        thread::sleep(ROUND_PAUSE);
    }
    marked(mark).is_empty()
}

/// The living processes that carry `mark`, and their descendants. Never this process.
fn marked(mark: &str) -> Vec<Process> {
    let snapshot = Snapshot::take();
    let mut found = snapshot.with_variable(|variable| variable == mark.as_bytes());
    found.retain(|process| process.pid != Pid::this());
    let below = found.iter().flat_map(|process| snapshot.descendants(process.pid));
    let below: Vec<Process> = below.filter(|process| !process.zombie).collect();
    found.extend(below);
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::process::Command;
    use std::process::Stdio;

    #[tokio::test]
    async fn a_process_that_left_its_session_and_forgot_its_environment_is_killed() {
        let id = format!("agent_{}", uuid::Uuid::new_v4());
        let mut child = Command::new("bash")
            .args(["-c", "setsid env -i bash -c 'echo $$; exec sleep 60' & wait"])
            .env(MARK, &id)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = [0; 16];
        let read = child.stdout.as_mut().unwrap().read(&mut line).unwrap();
        let grandchild: i32 = std::str::from_utf8(&line[..read]).unwrap().trim().parse().unwrap();
        // A zombie has no program.
        let program = format!("/proc/{grandchild}/exe");
        assert!(std::fs::read_link(&program).is_ok());
        assert!(kill_all(&SessionId::parse(&id).unwrap()).await);
        child.wait().unwrap();
        assert!(std::fs::read_link(&program).is_err());
    }
}
