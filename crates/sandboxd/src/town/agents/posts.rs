//! An agent's events on their way to the town: one after the other, because in another order a tool would end before it began.
//!
//! They are for viewers only. So nothing waits for them, and what does not fit into the bound of all agents together is lost.

use super::shared::Shared;
use crate::town::home::Place;
use crate::town::limits::EVENT_POST_TIMEOUT;
use serde_json::value::RawValue;
use std::sync::Arc;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::mpsc;

/// What an event takes besides its fields.
const EVENT_BYTES: usize = 256;

/// One event.
struct Post {
    name: String,
    data: Arc<RawValue>,
    _room: OwnedSemaphorePermit,
}

/// The way of one agent's events. It ends with what was said before it was dropped.
pub struct Posts {
    queue: mpsc::UnboundedSender<Post>,
    shared: Arc<Shared>,
}

impl Posts {
    /// Nothing is on its way yet.
    pub fn new(shared: &Arc<Shared>, place: &Place) -> Self {
        let (queue, mut waiting) = mpsc::unbounded_channel::<Post>();
        let (home, place) = (shared.home.clone(), place.clone());
        tokio::spawn(async move {
            while let Some(post) = waiting.recv().await {
                let _ = home.tell_event(&place, &post.name, &post.data, EVENT_POST_TIMEOUT).await;
            }
        });
        Self { queue, shared: shared.clone() }
    }

    /// Sends it after those before it.
    pub fn send(&self, name: &str, data: Arc<RawValue>) {
        let bytes = u32::try_from(data.get().len().saturating_add(EVENT_BYTES)).unwrap_or(u32::MAX);
        if let Ok(room) = self.shared.posts.clone().try_acquire_many_owned(bytes) {
            let _ = self.queue.send(Post { name: name.to_owned(), data, _room: room });
        }
    }
}
