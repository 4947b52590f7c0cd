//! The spool's file: the ingest machine decides its contents, this module does what it says.
//!
//! Written without fsync: it is to survive this process, not the machine (design 3). A write that fails (a full disk) is told to
//! the machine, which goes on from memory, and logged once until one succeeds again.

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
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::path::PathBuf;

/// One execution's spool.
pub struct SpoolFile {
    path: PathBuf,
    file: Option<File>,
    /// The last write failed, and that is in the log.
    failing: bool,
}

impl SpoolFile {
    /// The spool at `path`, which need not exist.
    pub fn new(path: PathBuf) -> Self {
        Self { path, file: None, failing: false }
    }

    /// What a former process left; empty if nothing.
    pub fn read_all(&self) -> Vec<u8> {
        fs::read(&self.path).unwrap_or_default()
    }

    /// `bytes` bytes from `offset`; fewer if there are not so many, or they cannot be read.
    pub fn read(&mut self, offset: u64, bytes: usize) -> Vec<u8> {
        let mut buffer = vec![0; bytes];
        let read = self.open().and_then(|file| file.read_at(&mut buffer, offset));
        if let Err(error) = &read {
            self.tell("spool_not_read", error);
        }
        buffer.truncate(read.unwrap_or(0));
        buffer
    }

    /// Changes the file. False if that could not be done: then what counts of it is as it was.
    pub fn write(&mut self, write: SpoolWrite) -> bool {
        let done = match write {
            SpoolWrite::Append { at, records } => {
                self.open().and_then(|file| file.write_all_at(records.as_bytes(), at))
            }
            SpoolWrite::Remove => self.remove(),
            SpoolWrite::Rewrite { keep } => self.rewrite(&keep),
            SpoolWrite::Truncate(bytes) => self.open().and_then(|file| file.set_len(bytes)),
        };
        if let Err(error) = &done
            && !self.failing
        {
            self.tell("spool_not_written", error);
        }
        self.failing = done.is_err();
        done.is_ok()
    }

    fn open(&mut self) -> io::Result<&File> {
        let file = match self.file.take() {
            Some(file) => file,
            None => {
                let mut options = OpenOptions::new();
                options.read(true).write(true).create(true).truncate(false).mode(0o600).open(&self.path)?
            }
        };
        Ok(self.file.insert(file))
    }

    fn remove(&mut self) -> io::Result<()> {
        self.file = None;
        remove(&self.path)
    }

    /// The kept ranges go to a spare file, which then takes this one's place; this one becomes the next spare. So under a steady load the same
    /// two files are written over and over, and the disk has nothing to allocate or to free. What the spare still holds behind the ranges is of
    /// an earlier time, and told by its smaller numbers.
    fn rewrite(&mut self, keep: &[Range<u64>]) -> io::Result<()> {
        let (spare, next) = (self.path.with_extension("spare"), self.path.with_extension("next"));
        self.copy(keep, &spare)?;
        let _ = fs::remove_file(&next);
        // Where a file cannot have two names, the next spare is a new one.
        let keeps_old = fs::hard_link(&self.path, &next).is_ok();
        fs::rename(&spare, &self.path)?;
        self.file = None;
        if keeps_old {
            let _ = fs::rename(&next, &spare);
        }
        Ok(())
    }

    fn copy(&mut self, keep: &[Range<u64>], to: &Path) -> io::Result<()> {
        let mut old = self.open()?;
        let mut new = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(to)?;
        for range in keep {
            old.seek(SeekFrom::Start(range.start))?;
            io::copy(&mut Read::by_ref(&mut old).take(range.end.saturating_sub(range.start)), &mut new)?;
        }
        Ok(())
    }

    fn tell(&self, event: &str, error: &io::Error) {
        log::error("session", event, json!({ "file": self.path.display().to_string(), "error": error.to_string() }));
    }
}

/// Removes a spool, and what was beside it for its own use.
pub fn remove(path: &Path) -> io::Result<()> {
    let removed = ["spare", "next"].map(|extension| fs::remove_file(path.with_extension(extension)));
    let [spare, next] = removed;
    for result in [fs::remove_file(path), spare, next] {
        match result {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::iter;
    use std::sync::Arc;

    fn append(at: u64, text: &str) -> SpoolWrite {
        SpoolWrite::Append { at, records: Arc::new(text.to_owned()) }
    }

    #[test]
    fn appends_rewrites_and_removes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("spool");
        let mut spool = SpoolFile::new(path.clone());
        assert!(spool.read_all().is_empty());
        assert!(spool.write(append(0, "one ")) && spool.write(append(4, "two ")));
        assert_eq!((spool.read(4, 3), spool.read(6, 9)), (b"two".to_vec(), b"o ".to_vec()));
        assert!(spool.write(SpoolWrite::Rewrite { keep: vec![0..2, 4..7] }));
        assert!(spool.write(append(5, " three")));
        assert_eq!(SpoolFile::new(path.clone()).read_all(), b"ontwo three");
        assert!(spool.write(SpoolWrite::Truncate(2)) && spool.write(append(2, "e")));
        assert_eq!(spool.read_all(), b"one");
        // The first file is written over; what lies behind is left.
        assert!(spool.write(SpoolWrite::Rewrite { keep: iter::once(1..3).collect() }));
        assert_eq!((spool.read(0, 2), spool.read_all()), (b"ne".to_vec(), b"nee two ".to_vec()));
        assert!(spool.write(SpoolWrite::Remove) && spool.write(SpoolWrite::Remove));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_full_disk_is_told_and_leaves_what_was_there() {
        // Every write to it fails with ENOSPC, as on a full disk.
        let mut full = SpoolFile::new(PathBuf::from("/dev/full"));
        assert!(!full.write(append(0, "one")));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("spool");
        let mut spool = SpoolFile::new(path.clone());
        assert!(spool.write(append(0, "one two")));
        // Its place is taken: the new file cannot be made.
        fs::create_dir(path.with_extension("spare")).unwrap();
        assert!(!spool.write(SpoolWrite::Rewrite { keep: iter::once(4..7).collect() }));
        assert_eq!(spool.read_all(), b"one two");
    }
}
