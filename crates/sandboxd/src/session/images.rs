//! What the user shows with a prompt: fetched before anything is begun for the turn, handed to the agent as `data:` URLs.
//!
//! Without an image that its user speaks of, a prompt means something else: one that is missing fails the start.

use super::error::WorkError;
use super::limits;
use super::transfer;
use super::transfer::TransferError;
use crate::log;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use protocol::id::SessionId;
use protocol::sandbox::IMAGE_BYTES_MAX;
use protocol::sandbox::Secret;
use protocol::sandbox::TurnImage;
use serde::Serialize;
use serde_json::json;

/// An image as the agent server takes it.
#[derive(Serialize)]
pub struct Image {
    filename: String,
    mime: String,
    /// `data:…;base64,…`: a third longer than the image.
    url: String,
}

/// Why there is no image.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// It was never uploaded by this user, or is gone.
    #[error("there is none")]
    Missing,
    /// It could not be moved.
    #[error(transparent)]
    Transfer(#[from] TransferError),
}

impl ImageError {
    /// Whether the same call could succeed later.
    pub fn is_passing(&self) -> bool {
        matches!(self, ImageError::Transfer(error) if error.is_passing())
    }
}

/// Fetches all of them, in order.
pub async fn fetch(
    http: &reqwest::Client,
    session: &SessionId,
    token: &Secret,
    wanted: &[TurnImage],
) -> Result<Vec<Image>, WorkError> {
    let mut images = Vec::with_capacity(wanted.len());
    for TurnImage { url, filename, mime } in wanted {
        let bytes = fetch_patiently(http, session, token, url)
            .await
            .map_err(|reason| WorkError::Image { file: filename.clone(), reason })?;
        let url = format!("data:{mime};base64,{}", STANDARD.encode(bytes));
        images.push(Image { filename: filename.clone(), mime: mime.clone(), url });
    }
    Ok(images)
}

async fn fetch_patiently(
    http: &reqwest::Client,
    session: &SessionId,
    token: &Secret,
    url: &str,
) -> Result<Vec<u8>, ImageError> {
    let mut tries = limits::IMAGE_FETCH_TRIES;
    loop {
        tries = tries.saturating_sub(1);
        let call = http.get(url).bearer_auth(token.expose()).timeout(limits::IMAGE_TIMEOUT);
        match transfer::read(call, IMAGE_BYTES_MAX).await {
            Err(error) if error.is_passing() && tries > 0 => {
                let fields = json!({ "sessionId": session, "error": error.to_string() });
                log::warn("session", "image_fetch_delayed", fields);
                tokio::time::sleep(limits::IMAGE_FETCH_PAUSE).await;
            }
            read => return read?.ok_or(ImageError::Missing),
        }
    }
}
