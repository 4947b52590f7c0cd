//! How often the town is called: again if the container's token has expired, and again if the call was lost, for as long as the caller waits.

use super::Home;
use super::HomeError;
use super::ask;
use super::send;
use crate::log;
use protocol::sandbox::Secret;
use protocol::town::Success;
use reqwest::RequestBuilder;
use reqwest::Response;
use reqwest::StatusCode;
use std::time::Duration;
use tokio::time::Instant;

const ROLE: &str = "town";
/// Between the first call and the second one. Each pause is twice as long as the one before.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// A longer one would only lose time: the town comes back within seconds.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// The pauses between calls.
#[derive(Debug)]
pub struct Pauses(Duration);

impl Pauses {
    /// None was made yet.
    pub fn new() -> Self {
        Self(FIRST_PAUSE)
    }

    /// How long the next one is.
    pub fn take(&mut self) -> Duration {
        let next = self.0.saturating_mul(2).min(LONGEST_PAUSE);
        std::mem::replace(&mut self.0, next)
    }
}

impl HomeError {
    fn is_unauthorized(&self) -> bool {
        *self == HomeError::Answer(StatusCode::UNAUTHORIZED)
    }

    /// Whether the same call could succeed later.
    fn is_passing(&self) -> bool {
        match self {
            HomeError::Answer(status) => crate::session::report::is_passing(*status),
            HomeError::Unreachable(_) => true,
        }
    }
}

impl Home {
    /// Makes the call; a second time with a new token if the first finds that the token has expired.
    pub(super) async fn send_renewing(&self, call: impl Fn() -> RequestBuilder) -> Result<Response, HomeError> {
        let token = self.live.token();
        match send(call()).await {
            Err(error) if error.is_unauthorized() && self.renew(&token).await => send(call()).await,
            outcome => outcome,
        }
    }

    /// The same, again and again until it is answered, for `bound` at most.
    pub(super) async fn insist(&self, bound: Duration, call: impl Fn() -> RequestBuilder) -> Result<(), HomeError> {
        let started = Instant::now();
        let left = || bound.saturating_sub(started.elapsed());
        let mut pauses = Pauses::new();
        loop {
            let error = match self.send_renewing(|| call().timeout(left())).await {
                Ok(_) => return Ok(()),
                Err(error) => error,
            };
            let pause = pauses.take();
            if !error.is_passing() || left() <= pause {
                return Err(error);
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// Exchanges a token that has expired for a new one, unless that was done meanwhile (spec/town.md 2.4). False: there is none.
    pub(super) async fn renew(&self, expired: &Secret) -> bool {
        #[derive(serde::Deserialize)]
        struct Fresh {
            token: String,
        }
        let _alone = self.renewing.lock().await;
        if self.live.token() != *expired {
            return true;
        }
        let call = self.post("refresh-container-token", self.config.limits.town_call_timeout_ms);
        match ask::<Success<Fresh>>(call).await {
            Ok(fresh) if !fresh.data.token.is_empty() => {
                self.live.set_token(Secret(fresh.data.token));
                log::info(ROLE, "token_refreshed", self.ids());
                true
            }
            Ok(_) => false,
            Err(error) => {
                log::warn(ROLE, "token_not_refreshed", self.ids_and(&error));
                false
            }
        }
    }
}
