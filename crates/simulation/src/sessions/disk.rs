//! What a container's disk holds: it outlives the process, not the container.

use super::agent::Store;
use protocol::id::ExecutionId;
use protocol::id::MessageId;
use protocol::sandbox::Secret;
use sandbox_core::spool::SpoolWrite;
use std::collections::BTreeMap;

/// A disk, by session.
#[derive(Default)]
pub struct Disk {
    pub homes: BTreeMap<usize, Home>,
}

/// What of a session is on a disk.
#[derive(Default)]
pub struct Home {
    pub cloned: bool,
    pub set_up: bool,
    /// The agent has the session's conversation.
    pub imported: bool,
    /// Messages that the agent was handed.
    pub prompted: Vec<MessageId>,
    /// Where the events of executions go that are not delivered (`link.rs`, `Address`).
    pub addresses: BTreeMap<ExecutionId, Address>,
    /// The spools' files.
    pub spools: BTreeMap<ExecutionId, Vec<u8>>,
    /// The right to put the conversation away, of the newest work: for a process that follows.
    pub store: Option<(u64, String)>,
    /// The agent server's own storage.
    pub agent: Store,
}

/// How to reach the object of one execution.
#[derive(Clone, Debug)]
pub struct Address {
    pub execution: ExecutionId,
    pub generation: i64,
    pub secret: Secret,
    /// The execution's last word is in the spool.
    pub over: bool,
}

impl Home {
    /// Changes a spool's file, as `spool_file.rs` does.
    pub fn write_spool(&mut self, execution: &ExecutionId, write: SpoolWrite) {
        match write {
            SpoolWrite::Remove => {
                self.spools.remove(execution);
            }
            SpoolWrite::Append { at, records } => {
                let file = self.spools.entry(execution.clone()).or_default();
                let at = usize::try_from(at).expect("a spool fits memory");
                file.resize(file.len().max(at + records.len()), 0);
                file[at..at + records.len()].copy_from_slice(records.as_bytes());
            }
            SpoolWrite::Rewrite { keep } => {
                let file = self.spools.entry(execution.clone()).or_default();
                let index = |offset: u64| usize::try_from(offset).expect("a spool fits memory").min(file.len());
                *file = keep.iter().flat_map(|range| file[index(range.start)..index(range.end)].to_vec()).collect();
            }
            SpoolWrite::Truncate(bytes) => {
                let file = self.spools.entry(execution.clone()).or_default();
                file.truncate(usize::try_from(bytes).expect("a spool fits memory"));
            }
        }
    }

    /// That range of a spool's file, or less.
    pub fn read_spool(&self, execution: &ExecutionId, offset: u64, bytes: usize) -> Vec<u8> {
        let file = self.spools.get(execution).map_or(&[][..], Vec::as_slice);
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(file.len());
        file[from..file.len().min(from + bytes)].to_vec()
    }
}
