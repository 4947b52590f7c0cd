//! The spool's file: the ingest machine decides its contents, this module does what it says.
//!
//! Written without fsync: it is to survive this process, not the machine (design 3). A write that fails (a full disk) is
//! logged and the events go on from memory; only a restart of this process would then miss them.

use crate::log;
use sandbox_core::spool::SpoolWrite;
use serde_json::json;
use std::fs;
use std::fs::File;
use std::fs::OpenOptions;
use std::io;
use std::io::Read;
use std::io::Seek;
use std::io::SeekFrom;
use std::io::Write;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

/// One execution's spool.
pub struct SpoolFile {
    path: PathBuf,
    file: Option<File>,
}

impl SpoolFile {
    /// The spool at `path`, which need not exist.
    pub fn new(path: PathBuf) -> Self {
        Self { path, file: None }
    }

    /// What a former process left; empty if nothing.
    pub fn read_all(&self) -> Vec<u8> {
        fs::read(&self.path).unwrap_or_default()
    }

    /// `bytes` bytes from `offset`; fewer if there are not so many.
    pub fn read(&mut self, offset: u64, bytes: usize) -> Vec<u8> {
        let mut buffer = vec![0; bytes];
        let read = self.open().and_then(|file| file.read_at(&mut buffer, offset));
        buffer.truncate(self.or_log("read", read).unwrap_or(0));
        buffer
    }

    /// Changes the file.
    pub fn write(&mut self, write: SpoolWrite) {
        let done = match write {
            SpoolWrite::Append(bytes) => self.open().and_then(|mut file| file.write_all(&bytes)),
            SpoolWrite::Remove => self.remove(),
            SpoolWrite::Rewrite { keep } => self.rewrite(&keep),
            SpoolWrite::Truncate(bytes) => self.open().and_then(|file| file.set_len(bytes)),
        };
        self.or_log("write", done);
    }

    fn open(&mut self) -> io::Result<&File> {
        let file = match self.file.take() {
            Some(file) => file,
            None => OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(&self.path)?,
        };
        Ok(self.file.insert(file))
    }

    fn remove(&mut self) -> io::Result<()> {
        self.file = None;
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn rewrite(&mut self, keep: &[Range<u64>]) -> io::Result<()> {
        let fresh = self.path.with_extension("rewrite");
        let mut old = self.open()?.try_clone()?;
        let mut new = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
        for range in keep {
            old.seek(SeekFrom::Start(range.start))?;
            io::copy(&mut Read::by_ref(&mut old).take(range.end.saturating_sub(range.start)), &mut new)?;
        }
        fs::rename(&fresh, &self.path)?;
        self.file = None;
        Ok(())
    }

    fn or_log<T>(&self, verb: &str, result: io::Result<T>) -> Option<T> {
        if let Err(error) = &result {
            let fields = json!({ "verb": verb, "file": self.path.display().to_string(), "error": error.to_string() });
            log::error("session", "spool_failed", fields);
        }
        result.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn appends_rewrites_and_removes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("spool");
        let mut spool = SpoolFile::new(path.clone());
        assert!(spool.read_all().is_empty());
        spool.write(SpoolWrite::Append(b"one ".to_vec()));
        spool.write(SpoolWrite::Append(b"two ".to_vec()));
        assert_eq!((spool.read(4, 3), spool.read(6, 9)), (b"two".to_vec(), b"o ".to_vec()));
        spool.write(SpoolWrite::Rewrite { keep: vec![0..2, 4..7] });
        spool.write(SpoolWrite::Append(b" three".to_vec()));
        assert_eq!(SpoolFile::new(path.clone()).read_all(), b"ontwo three");
        spool.write(SpoolWrite::Truncate(2));
        spool.write(SpoolWrite::Append(b"e".to_vec()));
        assert_eq!(spool.read_all(), b"one");
        spool.write(SpoolWrite::Remove);
        spool.write(SpoolWrite::Remove);
        assert!(!path.exists());
    }
}
