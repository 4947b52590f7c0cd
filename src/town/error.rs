//! Every refusal of the town family, with its status and its text.

/// Why a request is not answered as it wished.
#[derive(Debug, thiserror::Error)]
pub enum TownError {
    #[error("{0}")]
    BadRequest(&'static str),
    #[error("{0}")]
    Forbidden(&'static str),
    #[error("Method not allowed")]
    MethodNotAllowed,
    #[error("Token verification is not configured")]
    NoSecret,
    #[error("Not implemented yet")]
    NotBuilt,
    #[error("Not found")]
    NotFound,
    #[error("Request body too large")]
    TooLarge,
    #[error("{0}")]
    Unauthorized(&'static str),
    /// The cause is for the log alone.
    #[error("Internal server error")]
    Internal(#[from] worker::Error),
}

impl TownError {
    /// The HTTP status.
    pub fn status(&self) -> u16 {
        match self {
            Self::BadRequest(_) => 400,
            Self::Unauthorized(_) => 401,
            Self::Forbidden(_) => 403,
            Self::NotFound => 404,
            Self::MethodNotAllowed => 405,
            Self::TooLarge => 413,
            Self::Internal(_) | Self::NoSecret => 500,
            Self::NotBuilt => 501,
        }
    }
}
