//! Who asks, as the guard found it: the one thing that the Worker adds to a request, in a header that no client can set.

use super::error::TownError;
use crate::route::percent_decode;
use protocol::id::AgentId;
use protocol::id::UserId;
use session_core::percent_encode;

/// Set by the Worker on every request to an object of the town family.
pub const CALLER_HEADER: &str = "x-holdfast-caller";

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Caller {
    /// Somebody in the town's container; an agent, if it said which.
    Inside(Option<AgentId>),
    /// The deployment's own back end.
    Operator,
    User(UserId),
}

impl Caller {
    /// A user, by a name that a token holds.
    pub fn user(name: &str) -> Result<Self, TownError> {
        Ok(Self::User(UserId::parse(name)?))
    }

    /// As it travels. A user's id may hold what a header may not.
    pub fn header(&self) -> String {
        match self {
            Self::Inside(agent) => format!("inside:{}", agent.as_ref().map_or("", AgentId::as_str)),
            Self::Operator => "operator:".to_owned(),
            Self::User(user) => format!("user:{}", percent_encode(user.as_str())),
        }
    }

    /// Reads [`Self::header`]. None: the request did not come from the Worker's guard.
    pub fn parse(header: &str) -> Option<Self> {
        match header.split_once(':')? {
            ("inside", "") => Some(Self::Inside(None)),
            ("inside", agent) => Some(Self::Inside(Some(AgentId::parse(agent).ok()?))),
            ("operator", "") => Some(Self::Operator),
            ("user", user) => Some(Self::User(UserId::parse(&percent_decode(user)?).ok()?)),
            _ => None,
        }
    }

    /// Refuses whoever is known to be another agent.
    pub fn must_be(&self, agent: &AgentId, refusal: &'static str) -> Result<(), TownError> {
        match self {
            Self::Inside(Some(own)) if own != agent => Err(TownError::Forbidden(refusal)),
            _ => Ok(()),
        }
    }

    /// The user, if it is one.
    pub fn user_id(&self) -> Option<&UserId> {
        match self {
            Self::Inside(_) | Self::Operator => None,
            Self::User(user) => Some(user),
        }
    }

    /// The agent, if it is known.
    pub fn agent(&self) -> Option<&AgentId> {
        match self {
            Self::Inside(agent) => agent.as_ref(),
            Self::Operator | Self::User(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_asks_survives_the_way_to_the_object() {
        let agent = AgentId::parse("a1").unwrap();
        for caller in [
            Caller::Inside(None),
            Caller::Inside(Some(agent.clone())),
            Caller::Operator,
            Caller::User(UserId::parse("oauth/gö:1 ü").unwrap()),
        ] {
            assert!(caller.header().is_ascii());
            assert_eq!(Caller::parse(&caller.header()), Some(caller));
        }
        for bad in ["", "inside", "user:", "agent:a", "inside:../x"] {
            assert_eq!(Caller::parse(bad), None, "{bad}");
        }
        assert!(Caller::Inside(None).must_be(&agent, "").is_ok(), "whoever is nobody in particular may be any");
        assert!(Caller::Inside(AgentId::parse("a2").ok()).must_be(&agent, "").is_err());
    }
}
