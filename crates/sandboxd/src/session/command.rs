//! Runs a program to its end: in a process group of its own, within a time, keeping a bounded part of what it says.
//!
//! Dropping the future kills the group, so whoever gives up waiting leaves nothing running.

use super::limits;
use nix::sys::signal::Signal;
use nix::sys::signal::killpg;
use nix::unistd::Pid;
use std::collections::VecDeque;
use std::io;
use std::pin::pin;
use std::process::Stdio;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;
use tokio::io::AsyncRead;
use tokio::io::AsyncReadExt;
use tokio::process::Child;
use tokio::process::Command;

/// How a program ended by itself.
#[derive(Debug)]
pub struct Finished {
    /// None if a signal ended it.
    pub code: Option<i32>,
    /// Its standard output, at most [`limits::OUTPUT_BYTES_MAX`] of it.
    pub stdout: String,
    /// The last lines of both its outputs.
    pub tail: String,
}

impl Finished {
    /// Whether it ended with exit code 0.
    pub fn succeeded(&self) -> bool {
        self.code == Some(0)
    }

    /// The first line of its standard output.
    pub fn first_line(&self) -> String {
        self.stdout.lines().next().unwrap_or_default().trim().to_owned()
    }
}

/// Why a program did not end by itself.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// It never ran.
    #[error("could not be started: {0}")]
    Start(io::Error),
    /// It was killed.
    #[error("did not end within {} s and was killed{}", .after.as_secs(), quote(.tail))]
    Timeout {
        /// The time it had.
        after: Duration,
        /// The last lines it said.
        tail: String,
    },
}

/// What follows the line in which `text` begins, of which only a part is there: it may be a part of a secret, which no [`Redactor`] knows.
///
/// [`Redactor`]: super::redact::Redactor
pub fn whole_lines(text: &str) -> &str {
    text.split_once('\n').map_or("", |(_, rest)| rest)
}

/// Appends what a program said to a message about it.
pub fn quote(tail: &str) -> String {
    if tail.is_empty() { String::new() } else { format!(": {tail}") }
}

/// Runs `command` without input.
pub async fn run(command: Command, timeout: Duration) -> Result<Finished, CommandError> {
    run_into(command, Stdio::piped(), timeout).await
}

/// Runs `command` without input, and with its standard output into `stdout`.
pub async fn run_into(mut command: Command, stdout: Stdio, timeout: Duration) -> Result<Finished, CommandError> {
    command.stdin(Stdio::null()).stdout(stdout).stderr(Stdio::piped()).process_group(0);
    let mut child = command.spawn().map_err(CommandError::Start)?;
    let mut group = Group::of(&child);
    let said = Mutex::new(Said::default());
    match tokio::time::timeout(timeout, finish(&mut child, &said)).await {
        Ok(code) => {
            group.leader = None;
            let said = said.into_inner().unwrap_or_else(PoisonError::into_inner);
            Ok(Finished { code: code.map_err(CommandError::Start)?, tail: said.tail(), stdout: said.stdout() })
        }
        Err(_) => {
            let said = said.into_inner().unwrap_or_else(PoisonError::into_inner);
            Err(CommandError::Timeout { after: timeout, tail: said.tail() })
        }
    }
}

/// Waits for the program, not for those it left behind: they may hold its outputs open for ever.
async fn finish(child: &mut Child, said: &Mutex<Said>) -> io::Result<Option<i32>> {
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let hear = |bytes: &[u8], is_stdout| said.lock().unwrap_or_else(PoisonError::into_inner).hear(bytes, is_stdout);
    let mut reading = pin!(async {
        tokio::join!(listen(stdout, |bytes| hear(bytes, true)), listen(stderr, |bytes| hear(bytes, false)))
    });
    let mut all_read = false;
    let status = loop {
        tokio::select! {
            status = child.wait() => break status?,
            _ = &mut reading, if !all_read => all_read = true,
        }
    };
    if !all_read {
        let _ = tokio::time::timeout(limits::OUTPUT_GRACE, reading).await;
    }
    Ok(status.code())
}

async fn listen(stream: Option<impl AsyncRead + Unpin>, mut hear: impl FnMut(&[u8])) {
    let Some(mut stream) = stream else { return };
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(read) = stream.read(&mut buffer).await {
        match buffer.get(..read) {
            Some(bytes) if read > 0 => hear(bytes),
            _ => return,
        }
    }
}

/// What a program said so far.
#[derive(Default)]
struct Said {
    stdout: Vec<u8>,
    end: VecDeque<u8>,
    /// Whether `end` is not all of it.
    is_cut: bool,
}

impl Said {
    fn hear(&mut self, bytes: &[u8], is_stdout: bool) {
        if is_stdout {
            let room = limits::OUTPUT_BYTES_MAX.saturating_sub(self.stdout.len());
            self.stdout.extend(bytes.iter().take(room));
        }
        self.end.extend(bytes);
        let excess = self.end.len().saturating_sub(limits::OUTPUT_TAIL_BYTES);
        self.end.drain(..excess);
        self.is_cut |= excess > 0;
    }

    fn stdout(self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    fn tail(&self) -> String {
        let bytes: Vec<u8> = self.end.iter().copied().collect();
        let text = String::from_utf8_lossy(&bytes);
        let text = if self.is_cut { whole_lines(&text) } else { &text };
        let lines: Vec<&str> = text.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
        let from = lines.len().saturating_sub(limits::OUTPUT_TAIL_LINES);
        lines.get(from..).unwrap_or_default().join("\n")
    }
}

/// Kills a process group unless its leader is known to have ended.
pub struct Group {
    /// None once the leader was waited for: from then on its number may be another's.
    pub leader: Option<Pid>,
}

impl Group {
    /// The group that `child` was started in as its leader.
    pub fn of(child: &Child) -> Self {
        Self { leader: child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw) }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(leader) = self.leader {
            // ESRCH: it ended in this moment, which is what is wanted.
            let _ = killpg(leader, Signal::SIGKILL);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    fn bash(script: &str) -> Command {
        let mut command = Command::new("bash");
        command.args(["-c", script]);
        command
    }

    #[tokio::test]
    async fn output_and_exit_code_are_kept() {
        let finished = run(bash("echo out; echo err >&2; exit 3"), Duration::from_secs(10)).await.unwrap();
        assert_eq!((finished.code, finished.stdout.as_str()), (Some(3), "out\n"));
        assert!(finished.tail.contains("out") && finished.tail.contains("err"), "{}", finished.tail);
    }

    #[tokio::test]
    async fn a_program_that_leaves_another_behind_is_not_waited_for() {
        let finished = run(bash("sleep 60 & echo $!"), Duration::from_secs(30)).await.unwrap();
        let left = Pid::from_raw(finished.stdout.trim().parse().unwrap());
        // It is there to be killed.
        nix::sys::signal::kill(left, Signal::SIGKILL).unwrap();
    }

    #[tokio::test]
    async fn a_program_that_takes_too_long_is_killed_with_its_group() {
        let error = run(bash("sleep 31 & echo $!; wait"), Duration::from_secs(8)).await.unwrap_err();
        let CommandError::Timeout { tail, .. } = error else { panic!("{error}") };
        let left = Pid::from_raw(tail.trim().parse().unwrap());
        let state = || std::fs::read_to_string(format!("/proc/{left}/stat"));
        let start = Instant::now();
        while state().is_ok_and(|state| !state.contains(") Z ")) {
            assert!(start.elapsed() < Duration::from_secs(10), "{left} lives");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    #[tokio::test]
    async fn no_part_of_a_line_is_kept_whose_beginning_is_not() {
        let script = format!("echo a-secret-with-an-end; printf '%{}s\\nlast'", limits::OUTPUT_TAIL_BYTES - 10);
        let finished = run(bash(&script), Duration::from_secs(10)).await.unwrap();
        assert_eq!(finished.tail, "last");
    }

    #[tokio::test]
    async fn an_endless_talker_is_cut() {
        let finished = run(bash("head -c 3000000 /dev/zero | tr '\\0' x; echo; echo end"), Duration::from_secs(20));
        let finished = finished.await.unwrap();
        assert_eq!(finished.stdout.len(), limits::OUTPUT_BYTES_MAX);
        assert!(finished.tail.ends_with("end") && finished.tail.len() <= limits::OUTPUT_TAIL_BYTES);
    }
}
