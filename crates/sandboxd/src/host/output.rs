//! What a container prints, in a bounded file: the newest 8 to 16 MiB of it.

use crate::log;
use serde_json::json;
use std::io;
use std::path::Path;
use std::path::PathBuf;
use tokio::fs::File;
use tokio::io::AsyncRead;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;

/// At this size a file becomes `<name>.1` and the one before it is forgotten.
const ROTATE_BYTES: usize = 8 * 1024 * 1024;
const CHUNK_BYTES: usize = 16 * 1024;

/// Copies `output` to the file at `path` until it ends. If the file cannot be written the rest is read and dropped: a full disk of
/// the host must not block what runs in the container.
pub async fn keep(mut output: impl AsyncRead + Unpin, path: PathBuf) {
    if let Err(error) = copy(&mut output, &path, ROTATE_BYTES).await {
        log::warn("host", "container_log_lost", json!({ "path": path, "error": error.to_string() }));
        let _ = tokio::io::copy(&mut output, &mut tokio::io::sink()).await;
    }
}

async fn copy(output: &mut (impl AsyncRead + Unpin), path: &Path, rotate_bytes: usize) -> io::Result<()> {
    let mut file = File::create(path).await?;
    let mut written: usize = 0;
    let mut buffer = vec![0; CHUNK_BYTES];
    loop {
        let length = output.read(&mut buffer).await?;
        let Some(chunk) = buffer.get(..length).filter(|chunk| !chunk.is_empty()) else { return Ok(()) };
        if written >= rotate_bytes {
            tokio::fs::rename(path, path.with_added_extension("1")).await?;
            file = File::create(path).await?;
            written = 0;
        }
        file.write_all(chunk).await?;
        file.flush().await?;
        written = written.saturating_add(length);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_the_newest_two_files_worth_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c.log");
        let text: Vec<u8> = (0..100_000u32).flat_map(|n| format!("{n}\n").into_bytes()).collect();
        copy(&mut text.as_slice(), &path, 3 * CHUNK_BYTES).await.unwrap();

        let newest = std::fs::read(&path).unwrap();
        let older = std::fs::read(path.with_added_extension("1")).unwrap();
        assert!(newest.ends_with(b"99999\n"));
        assert_eq!(older.len(), 3 * CHUNK_BYTES);
        assert!(text.ends_with(&[older, newest].concat()), "the two files are the end of the text, without a gap");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
    }
}
