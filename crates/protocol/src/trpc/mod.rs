//! tRPC over HTTP: inputs, outputs, errors (spec/session.md 2.3 to 2.11).
//!
//! Success is `{"result":{"data":…}}`, failure [`ErrorBody`]. Inputs are parsed whole: an invalid one names every field that is
//! wrong, and nothing happens.

mod asks;
mod calls;
mod fields;
mod images;
mod mcp;
mod output;
mod parts;
mod prepare;
mod rules;
mod update;

pub use asks::Judge;
pub use asks::parse_answer_permission;
pub use asks::parse_answer_question;
pub use asks::parse_reject_question;
pub use calls::Initiate;
pub use calls::ListSessions;
pub use calls::SendMessage;
pub use calls::StreamTicket;
pub use calls::WrapperLogs;
pub use calls::parse_initiate;
pub use calls::parse_list_sessions;
pub use calls::parse_send_message;
pub use calls::parse_session_id;
pub use calls::parse_stream_ticket;
pub use calls::parse_wrapper_logs;
pub use fields::Issue;
pub use images::Images;
pub use output::Ack;
pub use output::CallbackView;
pub use output::ExecutionView;
pub use output::Interrupted;
pub use output::Prepared;
pub use output::SessionView;
pub use parts::Admits;
pub use parts::CUSTOM_NEEDS_PROMPT;
pub use parts::CallbackTarget;
pub use parts::GateThreshold;
pub use parts::GitSource;
pub use parts::Mode;
pub use parts::Platform;
pub use prepare::PrepareSession;
pub use prepare::parse_prepare_session;
pub use update::Change;
pub use update::UpdateSession;
pub use update::parse_update_session;

use serde::Deserialize;
use serde::Serialize;

/// The codes of tRPC errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Code {
    BadRequest,
    Conflict,
    Forbidden,
    InternalServerError,
    MethodNotSupported,
    NotFound,
    PayloadTooLarge,
    ServiceUnavailable,
    Unauthorized,
}

impl Code {
    /// The name on the wire, the HTTP status, and the JSON-RPC code.
    pub fn facts(self) -> (&'static str, u16, i32) {
        match self {
            Code::BadRequest => ("BAD_REQUEST", 400, -32600),
            Code::Conflict => ("CONFLICT", 409, -32009),
            Code::Forbidden => ("FORBIDDEN", 403, -32003),
            Code::InternalServerError => ("INTERNAL_SERVER_ERROR", 500, -32603),
            Code::MethodNotSupported => ("METHOD_NOT_SUPPORTED", 405, -32005),
            Code::NotFound => ("NOT_FOUND", 404, -32004),
            Code::PayloadTooLarge => ("PAYLOAD_TOO_LARGE", 413, -32013),
            Code::ServiceUnavailable => ("SERVICE_UNAVAILABLE", 503, -32603),
            Code::Unauthorized => ("UNAUTHORIZED", 401, -32001),
        }
    }
}

/// A failed call, before it is put on the wire.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrpcError {
    /// What kind of failure.
    pub code: Code,
    /// For the caller; holds no secret.
    pub message: String,
    /// A stable code of ours, such as `EXECUTION_IN_PROGRESS`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Whether the same call could succeed later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retryable: Option<bool>,
    /// With `EXECUTION_IN_PROGRESS`: the one that is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active_execution_id: Option<String>,
}

impl TrpcError {
    /// An error with a code and a message.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), error: None, retryable: None, active_execution_id: None }
    }

    /// An error that may pass, with a stable code.
    pub fn retryable(code: &str, message: impl Into<String>) -> Self {
        Self { error: Some(code.to_owned()), retryable: Some(true), ..Self::new(Code::ServiceUnavailable, message) }
    }

    /// Invalid input: the message is the JSON text of the issues.
    pub fn invalid(issues: &[Issue]) -> Self {
        Self::new(Code::BadRequest, serde_json::to_string(issues).unwrap_or_default())
    }

    /// The body of the answer.
    pub fn body(&self, procedure: &str) -> ErrorBody {
        let (name, http_status, code) = self.code.facts();
        ErrorBody {
            error: ErrorShape {
                message: self.message.clone(),
                code,
                data: ErrorData {
                    code: name.to_owned(),
                    http_status,
                    path: procedure.to_owned(),
                    error: self.error.clone(),
                    active_execution_id: self.active_execution_id.clone(),
                    retryable: self.retryable,
                },
            },
        }
    }
}

/// A successful answer.
#[derive(Clone, Debug, Serialize)]
pub struct ResultBody<T> {
    /// Always there.
    pub result: ResultData<T>,
}

/// The inside of [`ResultBody`].
#[derive(Clone, Debug, Serialize)]
pub struct ResultData<T> {
    /// The procedure's output.
    pub data: T,
}

impl<T> ResultBody<T> {
    /// Wraps an output.
    pub fn new(data: T) -> Self {
        Self { result: ResultData { data } }
    }
}

/// A failed answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ErrorBody {
    error: ErrorShape,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct ErrorShape {
    message: String,
    code: i32,
    data: ErrorData,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct ErrorData {
    code: String,
    http_status: u16,
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    active_execution_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retryable: Option<bool>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_shape_is_pinned() {
        let error = TrpcError::retryable("SANDBOX_CONNECT_FAILED", "no container");
        assert_eq!(
            serde_json::to_string(&error.body("sendMessageV2")).unwrap(),
            r#"{"error":{"message":"no container","code":-32603,"data":{"code":"SERVICE_UNAVAILABLE","httpStatus":503,"path":"sendMessageV2","error":"SANDBOX_CONNECT_FAILED","retryable":true}}}"#
        );
    }

    #[test]
    fn the_result_shape_is_pinned() {
        assert_eq!(serde_json::to_string(&ResultBody::new(1)).unwrap(), r#"{"result":{"data":1}}"#);
    }
}
