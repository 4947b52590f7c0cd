//! What the town keeps of an agent's conversation (spec/town.md 6.8): large files, which take their time.

use super::Home;
use super::Place;
use super::tries::Pauses;
use crate::session::transfer;
use crate::session::transfer::TransferError;
use protocol::sandbox::SNAPSHOT_BYTES_MAX;
use reqwest::Method;
use reqwest::RequestBuilder;
use reqwest::StatusCode;
use reqwest::header::CONTENT_TYPE;
use std::path::Path;
use std::time::Duration;
use tokio::time::Instant;

impl Home {
    /// Fetches what was kept of an agent's conversation into the new file `target`. False: nothing is kept.
    pub async fn fetch_snapshot(&self, place: &Place, target: &Path) -> Result<bool, TransferError> {
        self.transfer(|left| async move {
            // What an earlier try has left there.
            let _ = tokio::fs::remove_file(target).await;
            transfer::get(self.snapshot(Method::GET, place, left), target, SNAPSHOT_BYTES_MAX).await
        })
        .await
    }

    /// Puts away what is to be kept of an agent's conversation.
    pub async fn keep_snapshot(&self, place: &Place, source: &Path) -> Result<(), TransferError> {
        self.transfer(|left| async move {
            let call = self.snapshot(Method::POST, place, left);
            transfer::put(call.header(CONTENT_TYPE, "application/octet-stream"), source).await
        })
        .await
    }

    fn snapshot(&self, method: Method, place: &Place, left: Duration) -> RequestBuilder {
        self.about(method, place, "db-snapshot").timeout(left)
    }

    /// Again and again until it is done, for `snapshot_ms` at most; once more with a new token if that has expired.
    async fn transfer<T, F>(&self, once: impl Fn(Duration) -> F) -> Result<T, TransferError>
    where
        F: Future<Output = Result<T, TransferError>>,
    {
        let (started, bound) = (Instant::now(), Duration::from_millis(self.config.limits.snapshot_ms));
        let left = || bound.saturating_sub(started.elapsed());
        let (mut pauses, mut is_renewed) = (Pauses::new(), false);
        loop {
            let token = self.live.token();
            let error = match once(left()).await {
                Ok(done) => return Ok(done),
                Err(error) => error,
            };
            let is_expired = error.status() == Some(StatusCode::UNAUTHORIZED.as_u16());
            if is_expired && !is_renewed && self.renew(&token).await {
                is_renewed = true;
                continue;
            }
            let pause = pauses.take();
            if !error.is_passing() || left() <= pause {
                return Err(error);
            }
            tokio::time::sleep(pause).await;
        }
    }
}
