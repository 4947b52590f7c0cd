//! What outlives a killed role, but not its container: a file in memory without a name, which `init` holds and each of its children inherits.
//!
//! It is on no disk, so it may hold secrets. A role takes it over before it starts anything, so that nothing which it starts inherits it.
//! Records are appended, and the last one of a key counts. One that is cut short was being written when the process was killed: it does not count.

use crate::log;
use nix::sys::memfd::MFdFlags;
use nix::sys::memfd::memfd_create;
use serde::Deserialize;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::env;
use std::fs::File;
use std::io;
use std::io::Read;
use std::io::Seek;
use std::io::SeekFrom;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::fd::OwnedFd;
use std::os::fd::RawFd;
use std::sync::Mutex;
use std::sync::PoisonError;

/// Tells a child the number of the inherited file.
pub const VARIABLE: &str = "HOLDFAST_MEMORY_FD";
/// All records together: some hundred sessions. What does not fit is not kept, and that is logged.
const BYTES_MAX: u64 = 8 * 1024 * 1024;

/// A new one, which children inherit under the number that [`VARIABLE`] tells.
pub fn offer() -> io::Result<OwnedFd> {
    Ok(memfd_create("holdfast", MFdFlags::empty())?)
}

/// How a child is told of it.
pub fn variable(memory: &OwnedFd) -> (&'static str, String) {
    (VARIABLE, memory.as_raw_fd().to_string())
}

/// The memory, if this process has one.
#[derive(Default)]
pub struct Memory(Mutex<Option<File>>);

#[derive(Serialize, Deserialize)]
struct Record<'a> {
    key: String,
    /// None: forgotten.
    #[serde(borrow)]
    value: Option<&'a RawValue>,
}

impl Memory {
    /// Takes over what the parent process offers. Without an offer nothing is remembered.
    pub fn inherited() -> Self {
        let offered = env::var(VARIABLE).ok().and_then(|number| number.parse().ok());
        Self(Mutex::new(offered.and_then(|number| take_over(number).ok())))
    }

    /// Remembers `value` under `key`, instead of what was there.
    pub fn remember(&self, key: &str, value: &impl Serialize) {
        self.append(key, serde_json::value::to_raw_value(value).map(Some));
    }

    /// Forgets what is under `key`.
    pub fn forget(&self, key: &str) {
        self.append(key, Ok(None));
    }

    /// Everything that is remembered, and can be read, by key.
    pub fn recall<T: DeserializeOwned>(&self) -> BTreeMap<String, T> {
        let mut file = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let text = file.as_mut().and_then(|file| read(file).ok()).unwrap_or_default();
        let read = |(key, value): (String, &RawValue)| Some((key, serde_json::from_str(value.get()).ok()?));
        newest(&text).into_iter().filter_map(read).collect()
    }

    fn append(&self, key: &str, value: serde_json::Result<Option<Box<RawValue>>>) {
        let mut file = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(file) = file.as_mut() else { return };
        let appended = value.map_err(io::Error::from).and_then(|value| append(file, key, value.as_deref()));
        if let Err(error) = appended {
            log::warn("memory", "not_remembered", json!({ "key": key, "error": error.to_string() }));
        }
    }
}

/// The file under that number, which is closed: what this process opens itself is not inherited.
fn take_over(number: RawFd) -> io::Result<File> {
    let file = File::options().read(true).write(true).open(format!("/proc/self/fd/{number}"));
    nix::unistd::close(number)?;
    file
}

fn append(file: &mut File, key: &str, value: Option<&RawValue>) -> io::Result<()> {
    // Not behind a record that was cut short.
    let line = format!("\n{}", serde_json::to_string(&Record { key: key.to_owned(), value })?);
    let length = u64::try_from(line.len()).unwrap_or(u64::MAX);
    if file.seek(SeekFrom::End(0))?.saturating_add(length) > BYTES_MAX {
        let kept = rewrite(file)?;
        if kept.saturating_add(length) > BYTES_MAX {
            return Err(io::Error::other(format!("more than {BYTES_MAX} bytes would be remembered")));
        }
    }
    file.write_all(line.as_bytes())
}

/// Leaves out what no longer counts, and says how many bytes are left.
fn rewrite(file: &mut File) -> io::Result<u64> {
    let text = read(file)?;
    let mut kept = Vec::new();
    for (key, value) in newest(&text) {
        kept.push(b'\n');
        serde_json::to_writer(&mut kept, &Record { key, value: Some(value) })?;
    }
    file.set_len(0)?;
    file.rewind()?;
    file.write_all(&kept)?;
    file.stream_position()
}

fn read(file: &mut File) -> io::Result<String> {
    let mut bytes = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn newest(text: &str) -> BTreeMap<String, &RawValue> {
    let mut newest = BTreeMap::new();
    for Record { key, value } in text.lines().filter_map(|line| serde_json::from_str(line).ok()) {
        match value {
            Some(value) => drop(newest.insert(key, value)),
            None => drop(newest.remove(&key)),
        }
    }
    newest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory() -> Memory {
        Memory(Mutex::new(Some(tempfile::tempfile().unwrap())))
    }

    fn raw(memory: &Memory) -> std::sync::MutexGuard<'_, Option<File>> {
        memory.0.lock().unwrap()
    }

    #[test]
    fn the_last_record_of_a_key_counts_and_one_that_was_cut_short_does_not() {
        let memory = memory();
        memory.remember("a", &1);
        memory.remember("b", &2);
        memory.remember("a", &3);
        memory.remember("c", &4);
        memory.forget("c");
        raw(&memory).as_mut().unwrap().write_all(b"\n{\"key\":\"b\",\"val").unwrap();
        memory.remember("d", &5);
        let known = [("a", 3), ("b", 2), ("d", 5)].map(|(key, value)| (key.to_owned(), value));
        assert_eq!(memory.recall(), BTreeMap::from(known));
    }

    #[test]
    fn what_no_longer_counts_takes_no_room_and_what_does_not_fit_is_left_out() {
        let memory = memory();
        let large = "x".repeat(3 * 1024 * 1024);
        for _ in 0..5 {
            memory.remember("a", &large);
        }
        memory.remember("b", &large);
        assert!(raw(&memory).as_ref().unwrap().metadata().unwrap().len() <= BYTES_MAX);
        memory.remember("c", &large);
        assert_eq!(memory.recall::<String>().into_keys().collect::<Vec<_>>(), ["a", "b"]);
    }

    #[test]
    fn what_is_offered_is_taken_over_once_and_inherited_no_further() {
        let offered = offer().unwrap();
        // A number that no test beside this one is given when it is free again.
        let number = nix::fcntl::fcntl(&offered, nix::fcntl::FcntlArg::F_DUPFD(900)).unwrap();
        drop(offered);
        let mut file = take_over(number).unwrap();
        append(&mut file, "a", None).unwrap();
        assert!(take_over(number).is_err());
        let flags = nix::fcntl::fcntl(&file, nix::fcntl::FcntlArg::F_GETFD).unwrap();
        assert_eq!(flags, nix::libc::FD_CLOEXEC);
    }
}
