//! The subscription to the agent server's events: a task that does nothing but read.
//!
//! The agent server buffers without bound for a reader that stalls (spec/kilo.md 8), so this task waits for nothing but the
//! session's loop, and that loop never waits.

use super::kilo::client::Client;
use super::limits;
use axum::body::Bytes;
use futures_util::StreamExt;
use sandbox_core::limits::Limits;
use sandbox_core::sse::SseDecoder;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// What came of the subscription.
pub enum Note {
    /// It is over.
    Ended {
        /// For the log.
        reason: String,
    },
    /// Bytes of the stream, cut anywhere. The first event in them means that the subscription is open.
    Chunk(Bytes),
}

/// A subscription. Dropping it ends it.
pub struct Events {
    /// Makes events of the chunks.
    pub decoder: SseDecoder,
    notes: mpsc::Receiver<Note>,
    task: JoinHandle<()>,
}

impl Drop for Events {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Events {
    /// Begins to subscribe.
    pub fn subscribe(client: Client, limits: &Limits) -> Self {
        let (tell, notes) = mpsc::channel(limits::NOTES_MAX);
        let task = tokio::spawn(async move {
            let reason = read(client, &tell).await;
            let _ = tell.send(Note::Ended { reason }).await;
        });
        Self { decoder: SseDecoder::new(limits), notes, task }
    }

    /// The next note; None after the end. May be cancelled.
    pub async fn next(&mut self) -> Option<Note> {
        self.notes.recv().await
    }
}

async fn read(client: Client, tell: &mpsc::Sender<Note>) -> String {
    let mut body = match client.events().await {
        Ok(answer) => answer.bytes_stream(),
        Err(error) => return error.to_string(),
    };
    while let Some(chunk) = body.next().await {
        let chunk = match chunk {
            Ok(chunk) => chunk,
            Err(error) => return error.without_url().to_string(),
        };
        if tell.send(Note::Chunk(chunk)).await.is_err() {
            return "nobody listens".to_owned();
        }
    }
    "the stream ended".to_owned()
}
