//! The processes of this machine, as `/proc` shows them: who descends from whom, and who carries a mark.
//!
//! An agent's tools make sessions and process groups of their own, so neither a signal to a group nor the end of the
//! agent server reaches them. Parentage does as long as a subreaper lives above them, and the environment does always.

use nix::sys::signal::Signal;
use nix::sys::signal::kill;
use nix::unistd::Pid;
use std::collections::HashSet;
use std::fs;
use std::path::Path;

/// One process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    pub pid: Pid,
    pub parent: Pid,
    /// Dead, and not waited for.
    pub zombie: bool,
}

/// A moment's list of all processes.
#[derive(Debug)]
pub struct Snapshot(Vec<Process>);

impl Snapshot {
    /// A list that was made up.
    #[cfg(test)]
    pub fn of(processes: Vec<Process>) -> Self {
        Self(processes)
    }

    /// Reads `/proc`. Processes that end meanwhile are left out.
    pub fn take() -> Self {
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        Self(entries.filter_map(|entry| process(entry.file_name().to_str()?.parse().ok()?)).collect())
    }

    /// The processes whose parents, upwards, lead to `ancestor`; zombies among them. `ancestor` itself is not.
    pub fn descendants(&self, ancestor: Pid) -> Vec<Process> {
        let mut found = Vec::new();
        let mut parents = HashSet::from([ancestor]);
        loop {
            let next = |process: &&Process| parents.contains(&process.parent) && !parents.contains(&process.pid);
            let generation: Vec<Process> = self.0.iter().filter(next).copied().collect();
            if generation.is_empty() {
                return found;
            }
            parents.extend(generation.iter().map(|process| process.pid));
            found.extend(generation);
        }
    }

    /// Whether there is such a process, and not as a zombie.
    pub fn lives(&self, pid: Pid) -> bool {
        self.0.iter().any(|process| process.pid == pid && !process.zombie)
    }

    /// The processes whose parent is `parent`, zombies among them.
    pub fn children(&self, parent: Pid) -> Vec<Process> {
        self.0.iter().filter(|process| process.parent == parent).copied().collect()
    }

    /// The living processes that were started with a variable in their environment that `matches`, written `NAME=value`.
    pub fn with_variable(&self, matches: impl Fn(&[u8]) -> bool) -> Vec<Process> {
        let marked = |process: &&Process| {
            let environment = fs::read(format!("/proc/{}/environ", process.pid)).unwrap_or_default();
            environment.split(|byte| *byte == 0).any(&matches)
        };
        self.0.iter().filter(|process| !process.zombie).filter(marked).copied().collect()
    }

    /// The living processes that work in `folder`, or below it.
    pub fn working_in(&self, folder: &Path) -> Vec<Process> {
        let is_there = |process: &&Process| {
            fs::read_link(format!("/proc/{}/cwd", process.pid)).is_ok_and(|place| place.starts_with(folder))
        };
        self.0.iter().filter(|process| !process.zombie).filter(is_there).copied().collect()
    }
}

fn process(pid: i32) -> Option<Process> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the program's name in parentheses, and may hold anything, parentheses included.
    let mut fields = stat.get(stat.rfind(')')?..)?.split_whitespace().skip(1);
    let state = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    Some(Process { pid: Pid::from_raw(pid), parent: Pid::from_raw(parent), zombie: state == "Z" || state == "X" })
}

/// Sends SIGKILL to each. One that is gone already is as good.
pub fn kill_each<'a>(processes: impl IntoIterator<Item = &'a Process>) {
    for process in processes {
        let _ = kill(process.pid, Signal::SIGKILL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Child;
    use std::process::Command;
    use std::process::Stdio;

    fn sleeping(marker: &str) -> Child {
        // The name in /proc/PID/stat is that of the file: one with a parenthesis and a space must not confuse the parser.
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("a) b");
        std::os::unix::fs::symlink("/bin/sh", &program).unwrap();
        Command::new(program)
            .args(["-c", "sleep 30 & echo; wait"])
            .env("PROCESSES_TEST", marker)
            .stdout(Stdio::piped())
            .spawn()
            .map(|mut child| {
                // Once the line is there, so is the grandchild.
                let mut line = [0];
                std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut line).unwrap();
                child
            })
            .unwrap()
    }

    #[test]
    fn a_child_and_its_child_are_found_by_parentage_and_by_environment() {
        let mut child = sleeping("here");
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap());
        let snapshot = Snapshot::take();

        let mine = snapshot.descendants(Pid::this());
        assert!(mine.iter().any(|process| process.pid == pid));
        let grandchildren = snapshot.descendants(pid);
        assert_eq!(grandchildren.len(), 1);
        assert_eq!(grandchildren[0].parent, pid);
        assert!(mine.contains(&grandchildren[0]));

        // A process that begins another program at this moment shows none of its variables.
        let marked = std::iter::repeat_with(Snapshot::take)
            .take(1000)
            .map(|snapshot| snapshot.with_variable(|variable| variable == b"PROCESSES_TEST=here"))
            .find(|marked| marked.len() == 2)
            .unwrap();
        assert!(snapshot.with_variable(|variable| variable == b"PROCESSES_TEST=her").is_empty());

        kill_each(&marked);
        assert!(!child.wait().unwrap().success());
        assert!(Snapshot::take().descendants(pid).is_empty());
    }
}
