//! What the turn reads of the agent's events.

use super::error::AgentError;
use serde::Deserialize;
use serde::de::IgnoredAny;
use std::borrow::Cow;

#[derive(Deserialize)]
pub(super) struct Closed<'a> {
    #[serde(borrow, default)]
    pub(super) reason: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
pub(super) struct ErrorOf<'a> {
    #[serde(borrow, default)]
    pub(super) error: AgentError<'a>,
}

/// A permission request or a question.
#[derive(Deserialize)]
pub(super) struct Request<'a> {
    #[serde(borrow)]
    pub(super) id: Cow<'a, str>,
    #[serde(default)]
    pub(super) tool: Option<IgnoredAny>,
}

#[derive(Deserialize)]
pub(super) struct StatusOf<'a> {
    #[serde(borrow)]
    pub(super) status: Status<'a>,
}

#[derive(Deserialize)]
pub(super) struct Status<'a> {
    #[serde(borrow, rename = "type")]
    pub(super) kind: Cow<'a, str>,
    #[serde(borrow, default)]
    pub(super) message: Option<Cow<'a, str>>,
}
