//! The inputs of the calls that name a session which is there, and of the two that list sessions or open one's stream.

use super::fields::Fields;
use super::fields::Issue;
use super::images::Images;
use super::images::images;
use super::parts::Mode;
use super::parts::token;
use super::rules::limited;
use super::rules::model;
use super::rules::prompt;
use super::rules::uuid;
use super::rules::variant;
use crate::id::ExecutionId;
use crate::id::MessageId;
use crate::id::SessionId;
use crate::sandbox::Secret;
use serde::Deserialize;
use serde::Serialize;
use serde_json::Value;

/// `initiateFromKilocodeSessionV2`, and every other call that names only a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Initiate {
    pub session: SessionId,
}

/// `sendMessageV2`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SendMessage {
    pub session: SessionId,
    pub prompt: String,
    pub images: Option<Images>,
    pub mode: Option<Mode>,
    pub model: Option<String>,
    pub variant: Option<String>,
    pub auto_commit: Option<bool>,
    pub condense_on_complete: Option<bool>,
    pub git_token: Option<Secret>,
    pub github_token: Option<Secret>,
    pub message_id: Option<MessageId>,
}

/// The body of the stream-ticket endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamTicket {
    pub session: SessionId,
    pub organization_id: Option<String>,
}

/// `listSessions`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListSessions {
    pub cursor: Option<String>,
    pub limit: i64,
    pub organization_id: Option<String>,
}

/// `getWrapperLogs`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrapperLogs {
    pub session: SessionId,
    pub execution: ExecutionId,
}

/// Parses `getWrapperLogs`.
pub fn parse_wrapper_logs(input: &Value) -> Result<WrapperLogs, Vec<Issue>> {
    let mut fields = Fields::new(input);
    let session = fields.required("sessionId", SessionId::parse);
    let execution = fields.required("executionId", ExecutionId::parse);
    fields.finish(session.zip(execution).map(|(session, execution)| WrapperLogs { session, execution }))
}

/// Parses `sendMessageV2`.
pub fn parse_send_message(input: &Value) -> Result<SendMessage, Vec<Issue>> {
    let mut fields = Fields::new(input);
    let session = fields.required("cloudAgentSessionId", SessionId::parse);
    let prompt = fields.required("prompt", prompt);
    let mode = fields.parsed("mode", Mode::parse);
    if mode == Some(Mode::Custom) {
        fields.issue("mode", "A follow-up cannot change to custom");
    }
    let message = SendMessage {
        images: images(&mut fields),
        mode,
        model: fields.parsed("model", model),
        variant: fields.parsed("variant", variant),
        auto_commit: fields.flag("autoCommit"),
        condense_on_complete: fields.flag("condenseOnComplete"),
        git_token: token(&mut fields, "gitToken"),
        github_token: token(&mut fields, "githubToken"),
        message_id: fields.parsed("messageId", MessageId::parse),
        session: match session {
            Some(session) => session,
            None => return fields.finish(None),
        },
        prompt: prompt.clone().unwrap_or_default(),
    };
    fields.finish(prompt.map(|_| message))
}

/// Parses the input of a call that names only a session, in the field `name`.
pub fn parse_session_id(input: &Value, name: &str) -> Result<SessionId, Vec<Issue>> {
    let mut fields = Fields::new(input);
    let session = fields.required(name, SessionId::parse);
    fields.finish(session)
}

/// Parses `initiateFromKilocodeSessionV2`.
pub fn parse_initiate(input: &Value) -> Result<Initiate, Vec<Issue>> {
    parse_session_id(input, "cloudAgentSessionId").map(|session| Initiate { session })
}

/// Parses the body of the stream-ticket endpoint.
pub fn parse_stream_ticket(input: &Value) -> Result<StreamTicket, Vec<Issue>> {
    let mut fields = Fields::new(input);
    let session = fields.required("cloudAgentSessionId", SessionId::parse);
    let organization_id = fields.parsed("organizationId", uuid);
    fields.finish(session.map(|session| StreamTicket { session, organization_id }))
}

/// Parses `listSessions`; all fields are optional.
pub fn parse_list_sessions(input: &Value) -> Result<ListSessions, Vec<Issue>> {
    let mut fields = Fields::new(input);
    let cursor = fields.parsed("cursor", |text| limited(text, 100, "At most 100 characters"));
    let limit = match fields.value("limit").map(Value::as_i64) {
        None => 20,
        Some(Some(limit)) if (1..=100).contains(&limit) => limit,
        Some(_) => {
            fields.issue("limit", "Expected a whole number from 1 to 100");
            0
        }
    };
    let organization_id = fields.parsed("organizationId", uuid);
    fields.finish(Some(ListSessions { cursor, limit, organization_id }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_follow_up_names_its_session_and_cannot_be_custom() {
        let id = "agent_01234567-89ab-cdef-0123-456789abcdef";
        assert!(parse_send_message(&json!({"cloudAgentSessionId": id, "prompt": "p"})).is_ok());
        for bad in [
            json!({"prompt": "p"}),
            json!({"cloudAgentSessionId": "x", "prompt": "p"}),
            json!({"cloudAgentSessionId": id}),
            json!({"cloudAgentSessionId": id, "prompt": "p", "mode": "custom"}),
        ] {
            assert!(parse_send_message(&bad).is_err(), "{bad}");
        }
    }
}
