//! Every refusal of the town family, with its status and its text.

use protocol::id::InvalidId;
use serde_json::Value;
use serde_json::json;

/// Why a request is not answered as it wished.
#[derive(Debug, thiserror::Error)]
pub enum TownError {
    #[error("{0}")]
    BadRequest(&'static str),
    #[error("{0}")]
    Forbidden(&'static str),
    /// A field of the body is not as it should be.
    #[error("Invalid request body")]
    Invalid {
        /// Which; empty: the body itself.
        field: &'static str,
        /// What would be right.
        message: String,
    },
    #[error("Method not allowed")]
    MethodNotAllowed,
    #[error("Token verification is not configured")]
    NoSecret,
    #[error("Not implemented")]
    NotBuilt,
    #[error("{0}")]
    NotFound(&'static str),
    /// The town's own rules forbid it.
    #[error("{text}")]
    Refused { status: u16, text: String },
    #[error("Request body too large")]
    TooLarge,
    #[error("{0}")]
    Unauthorized(String),
    /// The cause is for the log alone.
    #[error("Internal server error")]
    Internal(#[from] worker::Error),
}

impl TownError {
    /// A field, and what would be right.
    pub fn invalid(field: &'static str, message: impl Into<String>) -> Self {
        Self::Invalid { field, message: message.into() }
    }

    /// The HTTP status.
    pub fn status(&self) -> u16 {
        match self {
            Self::BadRequest(_) | Self::Invalid { .. } => 400,
            Self::Unauthorized(_) => 401,
            Self::Forbidden(_) => 403,
            Self::NotFound(_) => 404,
            Self::MethodNotAllowed => 405,
            Self::TooLarge => 413,
            Self::Internal(_) | Self::NoSecret => 500,
            Self::NotBuilt => 501,
            Self::Refused { status, .. } => *status,
        }
    }

    /// The body of the answer.
    pub fn body(&self) -> Value {
        let mut body = json!({"success": false, "error": self.to_string()});
        if let (Self::Invalid { field, message }, Some(fields)) = (self, body.as_object_mut()) {
            let path: &[&str] = if field.is_empty() { &[] } else { &[field] };
            fields.insert("issues".into(), json!([{"path": path, "message": message}]));
        }
        body
    }
}

impl From<InvalidId> for TownError {
    fn from(error: InvalidId) -> Self {
        Self::BadRequest(error.message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invalid_field_is_named_and_every_refusal_has_one_shape() {
        let wire = json!({"success": false, "error": "Invalid request body",
            "issues": [{"path": ["title"], "message": "Expected a text of at least 1 character"}]});
        let invalid = TownError::invalid("title", "Expected a text of at least 1 character");
        assert_eq!((invalid.status(), invalid.body()), (400, wire));
        let refused = TownError::Refused { status: 409, text: "no".into() };
        assert_eq!((refused.status(), refused.body()), (409, json!({"success": false, "error": "no"})));
    }
}
