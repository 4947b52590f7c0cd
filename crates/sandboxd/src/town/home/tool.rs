//! The calls that agents' tools make (spec/town.md 7).

use super::Home;
use super::HomeError;
use super::calls::Place;
use super::calls::signed;
use super::unreachable;
use crate::town::tools::Request;
use protocol::id::TownId;
use reqwest::StatusCode;
use std::time::Duration;

/// A list of beads with their texts.
const ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;

impl Home {
    /// The town that this container serves.
    pub fn town(&self) -> &TownId {
        &self.config.town
    }

    /// Makes one call for the agent at `place`, and a second one if the first finds that the container's token has expired
    /// and a new one can be had. Whatever the town answers is an answer.
    pub async fn tool_call(&self, place: &Place, request: &Request) -> Result<(StatusCode, Vec<u8>), HomeError> {
        let token = self.live.token();
        let answer = self.try_tool_call(place, request).await?;
        if answer.0 == StatusCode::UNAUTHORIZED && self.renew(&token).await {
            return self.try_tool_call(place, request).await;
        }
        Ok(answer)
    }

    async fn try_tool_call(&self, place: &Place, request: &Request) -> Result<(StatusCode, Vec<u8>), HomeError> {
        let call = self
            .client
            .request(request.method.clone(), format!("{}/api/{}", self.config.api_url, request.path))
            .bearer_auth(self.live.token().expose())
            .timeout(Duration::from_millis(self.config.limits.town_call_timeout_ms))
            .query(&request.query);
        let call = signed(call, place);
        let call = match &request.body {
            Some(body) => call.json(body),
            None => call,
        };
        let mut answer = call.send().await.map_err(unreachable)?;
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(unreachable)? {
            body.extend_from_slice(&chunk);
            if body.len() > ANSWER_BYTES_MAX {
                return Err(HomeError::Unreachable(format!("the answer is longer than {ANSWER_BYTES_MAX} bytes")));
            }
        }
        Ok((answer.status(), body))
    }
}
