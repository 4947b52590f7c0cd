//! The whole HTTP surface, as one table.
//!
//! | Method, path | Guard |
//! | --- | --- |
//! | `GET /health` | none |
//! | `GET /stream` | stream ticket (query) |
//! | `GET /sessions/{user}/{session}/ingest` | ingest secret, or the user's token |
//! | `POST /sessions/{user}/{session}/progress` | report token of the attempt |
//! | `PUT /sessions/{user}/{session}/snapshot`, `…/logs/{execution}/logs.tar.gz` | not built yet: 501 |
//! | `POST /api/cloud-agent-next/sessions/stream-ticket` | internal key and user token |
//! | `POST /internal/containers/{kind}/{name}/{instance}/exited` | host token |
//! | below `/api/towns`, `/api/users`, `/api/orgs`, `/api/mayor` | [`TownRoute`] |
//! | `GET\|POST /trpc/{procedure}` | user token, and the internal key where [`Procedure::needs_internal_key`] |

use crate::town::route::TownRoute;
use protocol::id::SessionId;
use protocol::id::UserId;

/// A known path with the right method.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    ContainerExited {
        kind: ContainerKind,
        name: String,
        instance: String,
    },
    Health,
    Ingest {
        user: UserId,
        session: SessionId,
    },
    /// Known, but not there yet.
    NotBuilt,
    Progress {
        user: UserId,
        session: SessionId,
    },
    Stream,
    StreamTicket,
    Town(TownRoute),
    Trpc(Procedure),
}

/// Why a request has no route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    BadUserId,
    MethodNotAllowed,
    NotFound,
}

/// Which of the container objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContainerKind {
    Sandbox,
    Town,
}

/// A tRPC procedure (spec/session.md 2.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Procedure {
    AnswerQuestion,
    DeleteSession,
    GetSession,
    GetWrapperLogs,
    Health,
    InitiateFromKilocodeSession,
    InterruptSession,
    ListSessions,
    PrepareSession,
    RejectQuestion,
    SendMessage,
    UpdateSession,
}

impl Procedure {
    const ALL: [(&'static str, Procedure); 12] = [
        ("answerQuestion", Procedure::AnswerQuestion),
        ("deleteSession", Procedure::DeleteSession),
        ("getSession", Procedure::GetSession),
        ("getWrapperLogs", Procedure::GetWrapperLogs),
        ("health", Procedure::Health),
        ("initiateFromKilocodeSessionV2", Procedure::InitiateFromKilocodeSession),
        ("interruptSession", Procedure::InterruptSession),
        ("listSessions", Procedure::ListSessions),
        ("prepareSession", Procedure::PrepareSession),
        ("rejectQuestion", Procedure::RejectQuestion),
        ("sendMessageV2", Procedure::SendMessage),
        ("updateSession", Procedure::UpdateSession),
    ];

    fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(known, _)| *known == name).map(|(_, procedure)| *procedure)
    }

    /// The name on the wire.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, known)| *known == self).map_or("", |(name, _)| name)
    }

    /// Queries are `GET`, mutations `POST`.
    pub fn is_query(self) -> bool {
        matches!(self, Self::GetSession | Self::GetWrapperLogs | Self::Health | Self::ListSessions)
    }

    /// Procedures for the deployment's own back end, not for browsers.
    pub fn needs_internal_key(self) -> bool {
        matches!(self, Self::PrepareSession | Self::UpdateSession)
    }
}

impl Route {
    /// Finds the route of a request.
    pub fn parse(method: &str, path: &str) -> Result<Self, Refusal> {
        let only = |allowed: &str, route| if method == allowed { Ok(route) } else { Err(Refusal::MethodNotAllowed) };
        let segments: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        match segments.as_slice() {
            ["health"] => only("GET", Route::Health),
            ["stream"] => only("GET", Route::Stream),
            ["trpc", name] => {
                let procedure = Procedure::parse(name).ok_or(Refusal::NotFound)?;
                only(if procedure.is_query() { "GET" } else { "POST" }, Route::Trpc(procedure))
            }
            ["api", "cloud-agent-next", "sessions", "stream-ticket"] => only("POST", Route::StreamTicket),
            ["api", rest @ ..] => TownRoute::parse(method, rest).map(Route::Town),
            ["sessions", user, session, rest @ ..] => {
                let user = percent_decode(user).and_then(|user| UserId::parse(&user).ok()).ok_or(Refusal::BadUserId)?;
                let session = SessionId::parse(session).map_err(|_| Refusal::NotFound)?;
                match rest {
                    ["ingest"] => only("GET", Route::Ingest { user, session }),
                    ["progress"] => only("POST", Route::Progress { user, session }),
                    ["snapshot"] | ["logs", _, "logs.tar.gz"] => only("PUT", Route::NotBuilt),
                    _ => Err(Refusal::NotFound),
                }
            }
            ["internal", "containers", kind, name, instance, "exited"] => {
                let kind = match *kind {
                    "sandbox" => ContainerKind::Sandbox,
                    "town" => ContainerKind::Town,
                    _ => return Err(Refusal::NotFound),
                };
                let (name, instance) = ((*name).to_owned(), (*instance).to_owned());
                only("POST", Route::ContainerExited { kind, name, instance })
            }
            _ => Err(Refusal::NotFound),
        }
    }
}

/// Undoes percent-encoding; None if it is broken or not UTF-8.
fn percent_decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        rest = tail;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let digits = std::str::from_utf8(tail.get(..2)?).ok()?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        rest = tail.get(2..)?;
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SESSION: &str = "agent_01234567-89ab-cdef-0123-456789abcdef";

    #[test]
    fn every_procedure_has_one_name_and_one_method() {
        for (name, procedure) in Procedure::ALL {
            let (right, wrong) = if procedure.is_query() { ("GET", "POST") } else { ("POST", "GET") };
            assert_eq!(Route::parse(right, &format!("/trpc/{name}")), Ok(Route::Trpc(procedure)));
            assert_eq!(Route::parse(wrong, &format!("/trpc/{name}")), Err(Refusal::MethodNotAllowed));
            assert_eq!(procedure.name(), name);
        }
    }

    #[test]
    fn user_ids_are_decoded() {
        let user = UserId::parse("oauth/google:1").unwrap();
        let session = SessionId::parse(SESSION).unwrap();
        let path = format!("/sessions/oauth%2Fgoogle%3A1/{SESSION}/ingest");
        assert_eq!(Route::parse("GET", &path), Ok(Route::Ingest { user, session }));
        for broken in ["%", "%2", "%zz", "%ff"] {
            assert_eq!(Route::parse("GET", &format!("/sessions/{broken}/{SESSION}/ingest")), Err(Refusal::BadUserId));
        }
    }

    #[test]
    fn what_is_not_in_the_table_is_not_found() {
        for path in
            ["/", "/healthz", "/trpc", "/trpc/nope", "/trpc/health/x", "/sessions/u/agent_1/ingest", "/sessions/u"]
        {
            assert_eq!(Route::parse("GET", path), Err(Refusal::NotFound), "{path}");
        }
        assert_eq!(Route::parse("POST", "/health"), Err(Refusal::MethodNotAllowed));
    }
}
