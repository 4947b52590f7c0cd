//! Moves files over HTTP, bounded in bytes. Large ones are streamed, in both directions, and never whole in memory.

use reqwest::RequestBuilder;
use reqwest::Response;
use reqwest::StatusCode;
use reqwest::header::CONTENT_LENGTH;
use std::io;
use std::path::Path;
use tokio::fs::OpenOptions;
use tokio::io::AsyncWriteExt;

/// Why a file did not arrive.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// It was refused.
    #[error("the answer was {status}{}", super::command::quote(.body))]
    Answer {
        /// The status.
        status: StatusCode,
        /// The beginning of what was said.
        body: String,
    },
    /// The disk.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// More than was agreed on.
    #[error("more than {0} bytes came")]
    TooLarge(u64),
    /// The network, or the time.
    #[error("{0}")]
    Transport(reqwest::Error),
}

impl TransferError {
    /// The status that was answered with.
    pub fn status(&self) -> Option<u16> {
        match self {
            TransferError::Answer { status, .. } => Some(status.as_u16()),
            TransferError::Io(_) | TransferError::TooLarge(_) | TransferError::Transport(_) => None,
        }
    }

    /// Whether the same call could succeed later.
    pub fn is_passing(&self) -> bool {
        match self {
            TransferError::Answer { status, .. } => super::report::is_passing(*status),
            TransferError::Transport(_) => true,
            TransferError::Io(_) | TransferError::TooLarge(_) => false,
        }
    }
}

impl From<reqwest::Error> for TransferError {
    fn from(error: reqwest::Error) -> Self {
        TransferError::Transport(error.without_url())
    }
}

/// Writes what `call` answers into the new file `target`. False, and no file, if there is nothing (404).
pub async fn get(call: RequestBuilder, target: &Path, bytes_max: u64) -> Result<bool, TransferError> {
    let Some(mut answer) = ask(call).await? else { return Ok(false) };
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(target).await?;
    let mut bytes = 0_u64;
    while let Some(chunk) = answer.chunk().await? {
        bytes = bytes.saturating_add(u64::try_from(chunk.len()).unwrap_or(u64::MAX));
        if bytes > bytes_max {
            return Err(TransferError::TooLarge(bytes_max));
        }
        file.write_all(&chunk).await?;
    }
    file.flush().await?;
    Ok(true)
}

/// Reads what `call` answers, which must be small. None if there is nothing (404).
pub async fn read(call: RequestBuilder, bytes_max: u64) -> Result<Option<Vec<u8>>, TransferError> {
    let Some(mut answer) = ask(call).await? else { return Ok(None) };
    let mut bytes = Vec::new();
    while let Some(chunk) = answer.chunk().await? {
        bytes.extend_from_slice(&chunk);
        if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > bytes_max {
            return Err(TransferError::TooLarge(bytes_max));
        }
    }
    Ok(Some(bytes))
}

async fn ask(call: RequestBuilder) -> Result<Option<Response>, TransferError> {
    let answer = call.send().await?;
    match answer.status() {
        StatusCode::NOT_FOUND => Ok(None),
        status if status.is_success() => Ok(Some(answer)),
        _ => Err(refusal(answer).await),
    }
}

/// Sends the file as the body of `call`, which must be a PUT.
pub async fn put(call: RequestBuilder, source: &Path) -> Result<(), TransferError> {
    let file = tokio::fs::File::open(source).await?;
    // Said in advance: a store takes no body of unknown length.
    let length = file.metadata().await?.len();
    let answer = call.header(CONTENT_LENGTH, length).body(file).send().await?;
    if answer.status().is_success() { Ok(()) } else { Err(refusal(answer).await) }
}

async fn refusal(answer: Response) -> TransferError {
    const QUOTED_CHARS: usize = 300;
    let status = answer.status();
    let body = answer.text().await.unwrap_or_default();
    TransferError::Answer { status, body: body.trim().chars().take(QUOTED_CHARS).collect() }
}
