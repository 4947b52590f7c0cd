//! Programs that a test writes and that something runs.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::process::Stdio;

/// Puts a program there, and the folder that it is in.
///
/// Another process writes it: a child that a test beside this one starts would inherit the open file until it runs its own program,
/// and nobody can run what somebody may still write ("Text file busy").
pub fn install(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut command = Command::new("install");
    let mut child = command.args(["-m", "755", "/dev/stdin"]).arg(path).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success(), "{}", path.display());
}
