//! Which messages the agent has had: the same one twice runs once, also across a restart of this process.

use super::paths::SessionPaths;
use crate::log;
use protocol::id::MessageId;
use serde_json::json;
use std::fs;
use std::io;

/// The last `max` messages, oldest first.
pub fn read(paths: &SessionPaths, max: usize) -> Vec<MessageId> {
    let text = fs::read_to_string(paths.prompted()).unwrap_or_default();
    let ids: Vec<MessageId> = text.lines().filter_map(|line| MessageId::parse(line).ok()).collect();
    let from = ids.len().saturating_sub(max);
    ids.get(from..).unwrap_or_default().to_vec()
}

/// Whether the agent has had any.
pub fn any(paths: &SessionPaths) -> io::Result<bool> {
    match fs::read(paths.prompted()) {
        Ok(text) => Ok(!text.is_empty()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Notes one more, and forgets those before the last `max`.
pub fn add(paths: &SessionPaths, message: &MessageId, max: usize) -> io::Result<()> {
    let mut ids = read(paths, max.saturating_sub(1));
    ids.push(message.clone());
    write(paths, &ids)
}

/// Forgets one that the agent did not take after all.
pub fn remove(paths: &SessionPaths, message: &MessageId, max: usize) {
    let mut ids = read(paths, max);
    ids.retain(|id| id != message);
    if let Err(error) = write(paths, &ids) {
        log::error("session", "message_not_forgotten", json!({ "messageId": message, "error": error.to_string() }));
    }
}

fn write(paths: &SessionPaths, ids: &[MessageId]) -> io::Result<()> {
    let text: String = ids.iter().map(|id| format!("{id}\n")).collect();
    let fresh = paths.own.join("prompted.new");
    fs::write(&fresh, text)?;
    fs::rename(fresh, paths.prompted())
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::id::SessionId;

    #[test]
    fn the_last_ones_are_remembered() {
        let root = tempfile::tempdir().unwrap();
        let session = SessionId::parse("agent_01234567-89ab-cdef-0123-456789abcdef").unwrap();
        let paths = SessionPaths::new(root.path(), &session);
        paths.create().unwrap();
        let ids: Vec<MessageId> = (0..4).map(|n| MessageId::parse(&format!("msg_{n:026}")).unwrap()).collect();
        for id in &ids {
            add(&paths, id, 3).unwrap();
        }
        assert_eq!(read(&paths, 3), ids[1..]);
        assert_eq!(read(&paths, 2), ids[2..]);
        remove(&paths, &ids[2], 3);
        assert_eq!(read(&paths, 3), [ids[1].clone(), ids[3].clone()]);
    }
}
