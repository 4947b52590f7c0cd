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
use std::collections::HashSet;
use std::thread;
use std::time::Duration;

/// The variable whose value is the session's id.
pub const MARK: &str = "HOLDFAST_SESSION";

/// The variable whose value names one agent server.
pub const AGENT_MARK: &str = "HOLDFAST_AGENT";

/// What is killed may have forked in the same moment, and takes its time to die: look again, but not for ever.
const ROUNDS_MAX: u32 = 40;
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
    let mut looks = Looks::default();
    for _ in 0..ROUNDS_MAX {
        let snapshot = Snapshot::take();
        let found = marked(&snapshot, mark);
        processes::kill_each(&found);
        if looks.show_nobody(&snapshot, &found) {
            return true;
        }
        thread::sleep(ROUND_PAUSE);
    }
    false
}

/// The living processes of `snapshot` that carry `mark`, and their descendants. Never this process.
fn marked(snapshot: &Snapshot, mark: &str) -> Vec<Process> {
    let mut found = snapshot.with_variable(|variable| variable == mark.as_bytes());
    found.retain(|process| process.pid != Pid::this());
    let below = found.iter().flat_map(|process| snapshot.descendants(process.pid));
    let below: Vec<Process> = below.filter(|process| !process.zombie).collect();
    found.extend(below);
    found
}

/// What looks at the processes have shown, one after the other.
#[derive(Default)]
struct Looks {
    /// Killed is not dead. A descendant without the mark is not found again once those above it are dead.
    dying: HashSet<Pid>,
    was_empty: bool,
}

impl Looks {
    /// Takes another one, which `found` these to kill. True: nobody is left, neither now nor the time before; a process that begins
    /// another program at this moment shows no environment.
    fn show_nobody(&mut self, snapshot: &Snapshot, found: &[Process]) -> bool {
        self.dying.retain(|pid| snapshot.lives(*pid));
        self.dying.extend(found.iter().map(|process| process.pid));
        let is_empty = self.dying.is_empty();
        std::mem::replace(&mut self.was_empty, is_empty) && is_empty
    }
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

    fn process(pid: i32, zombie: bool) -> Process {
        Process { pid: Pid::from_raw(pid), parent: Pid::from_raw(1), zombie }
    }

    /// Takes a look at `there`, of whom those with these ids are found.
    fn look(looks: &mut Looks, there: &[Process], found: &[i32]) -> bool {
        let found: Vec<Process> = there.iter().filter(|one| found.contains(&one.pid.as_raw())).copied().collect();
        looks.show_nobody(&Snapshot::of(there.to_vec()), &found)
    }

    #[test]
    fn who_is_not_found_any_more_but_has_not_died_yet_is_waited_for() {
        let mut looks = Looks::default();
        let (marked, below) = (process(7, false), process(8, false));
        assert!(!look(&mut looks, &[marked, below], &[7, 8]));
        // What led to it is dead.
        for _ in 0..3 {
            assert!(!look(&mut looks, &[process(7, true), below], &[]));
        }
        assert!(!look(&mut looks, &[process(8, true)], &[]));
        assert!(look(&mut looks, &[], &[]));
    }

    #[test]
    fn who_shows_no_environment_for_a_moment_is_not_missed() {
        let mut looks = Looks::default();
        let between_programs = process(7, false);
        assert!(!look(&mut looks, &[between_programs], &[]));
        assert!(!look(&mut looks, &[between_programs], &[7]));
        assert!(!look(&mut looks, &[], &[]));
        assert!(look(&mut looks, &[], &[]));
    }
}
