//! A running `sandboxd session`, and the processes that it started.
//!
//! Each binary uses a part of it.
#![allow(clippy::panic, dead_code)]

use nix::sys::signal::Signal;
use nix::sys::signal::kill;
use nix::unistd::Pid;
use serde_json::Value;
use std::fs;
use std::io::BufRead;
use std::io::BufReader;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::sync::mpsc;
use std::time::Duration;

/// Starts it on a port of its choice, and returns the URL where it listens.
pub fn listen(command: &mut Command) -> (Child, String) {
    let mut child = command.env("HOLDFAST_LISTEN", "127.0.0.1:0").stderr(Stdio::piped()).spawn().unwrap();
    let log = BufReader::new(child.stderr.take().unwrap());
    let (tell, address) = mpsc::channel();
    std::thread::spawn(move || {
        for line in log.lines().map_while(Result::ok) {
            // Shown with the test's output when it fails.
            println!("{line}");
            let entry: Value = serde_json::from_str(&line).unwrap_or_default();
            if entry["event"] == "listening" {
                let _ = tell.send(entry["address"].as_str().unwrap().to_owned());
            }
        }
    });
    let Ok(address) = address.recv_timeout(Duration::from_secs(30)) else {
        // A test that fails leaves nothing behind. `init` takes its child with it.
        let _ = kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGTERM);
        panic!("sandboxd did not start to listen: {:?}", child.wait());
    };
    (child, format!("http://{address}"))
}

/// Ends `sandboxd` and all that it started for a session at once: there is nobody left who would answer its goodbyes.
pub fn end(sandboxd: &mut Child, session: &str) {
    let _ = sandboxd.kill();
    let _ = sandboxd.wait();
    for (pid, _) in processes(session) {
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
}

/// The processes that carry a session's mark: their ids and command lines.
pub fn processes(session: &str) -> Vec<(i32, String)> {
    let mark = format!("HOLDFAST_SESSION={session}");
    let entries = fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
    entries
        .filter(|path| {
            let environment = fs::read(path.join("environ")).unwrap_or_default();
            environment.split(|byte| *byte == 0).any(|variable| variable == mark.as_bytes())
        })
        .filter_map(|path| {
            let line = String::from_utf8_lossy(&fs::read(path.join("cmdline")).ok()?).replace('\0', " ");
            Some((path.file_name()?.to_str()?.parse().ok()?, line))
        })
        .collect()
}
