//! The whole HTTP surface, as one table.
//!
//! | Method, path | Guard |
//! | --- | --- |
//! | `GET /`, `GET /health` | none |
//! | `GET /stream` | stream ticket (query) |
//! | any `/sessions/{user}/{session}/ingest` | ingest secret, or the user's token; what is no upgrade is told so, whatever its method |
//! | `POST /sessions/{user}/{session}/progress` | report token of the attempt |
//! | `PUT /images/{path}/{file}` | user token |
//! | `GET /sessions/{user}/{session}/images/{path}/{file}` | report token of an attempt that is not over |
//! | `GET\|PUT /sessions/{user}/{session}/snapshot` | report token of an attempt that is not over |
//! | `PUT /sessions/{user}/{session}/logs/{execution}/logs.tar.gz` | the same, or the user's token |
//! | `POST /api/cloud-agent-next/sessions/stream-ticket` | internal key and user token |
//! | `POST /internal/containers/{kind}/{name}/{instance}/exited` | host token |
//! | below `/api/towns`, `/api/users`, `/api/orgs`, `/api/mayor`, `/debug/towns` | [`TownRoute`] |
//! | `GET\|POST /trpc/{procedure}` | user token, and the internal key where [`Procedure::needs_internal_key`] |

use crate::town::route::TownRoute;
use protocol::id::ExecutionId;
use protocol::id::ImageFile;
use protocol::id::ImagePath;
use protocol::id::SessionId;
use protocol::id::UserId;

/// A known path with the right method.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    ContainerExited { kind: ContainerKind, name: String, instance: String },
    Health,
    ImageGet { user: UserId, session: SessionId, path: ImagePath, file: ImageFile },
    ImagePut { path: ImagePath, file: ImageFile },
    Ingest { user: UserId, session: SessionId },
    LogsPut { user: UserId, session: SessionId, execution: ExecutionId },
    Progress { user: UserId, session: SessionId },
    Root,
    SnapshotGet { user: UserId, session: SessionId },
    SnapshotPut { user: UserId, session: SessionId },
    Stream,
    StreamTicket,
    Town(TownRoute),
    Trpc(Procedure),
}

/// Why a request has no route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    BadImage,
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
    AnswerPermission,
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
    const ALL: [(&'static str, Procedure); 13] = [
        ("answerPermission", Procedure::AnswerPermission),
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
        let segments: Vec<&str> = path.strip_prefix('/').unwrap_or(path).split('/').collect();
        match segments.as_slice() {
            [""] => only("GET", Route::Root),
            ["health"] => only("GET", Route::Health),
            ["images", path, file] => {
                let (path, file) = image(path, file).ok_or(Refusal::BadImage)?;
                only("PUT", Route::ImagePut { path, file })
            }
            ["stream"] => only("GET", Route::Stream),
            ["trpc", name] => {
                let procedure = Procedure::parse(name).ok_or(Refusal::NotFound)?;
                only(if procedure.is_query() { "GET" } else { "POST" }, Route::Trpc(procedure))
            }
            ["api", "cloud-agent-next", "sessions", "stream-ticket"] => only("POST", Route::StreamTicket),
            ["api", "debug", ..] => Err(Refusal::NotFound),
            ["debug", ..] => TownRoute::parse(method, &segments).map(Route::Town),
            ["api", rest @ ..] => TownRoute::parse(method, rest).map(Route::Town),
            ["sessions", user, session, rest @ ..] => {
                let user = percent_decode(user).and_then(|user| UserId::parse(&user).ok()).ok_or(Refusal::BadUserId)?;
                let session = SessionId::parse(session).map_err(|_| Refusal::NotFound)?;
                match rest {
                    ["ingest"] => Ok(Route::Ingest { user, session }),
                    ["images", path, file] => {
                        let (path, file) = image(path, file).ok_or(Refusal::NotFound)?;
                        only("GET", Route::ImageGet { user, session, path, file })
                    }
                    ["progress"] => only("POST", Route::Progress { user, session }),
                    ["snapshot"] if method == "GET" => Ok(Route::SnapshotGet { user, session }),
                    ["snapshot"] => only("PUT", Route::SnapshotPut { user, session }),
                    ["logs", execution, "logs.tar.gz"] => {
                        let execution = ExecutionId::parse(execution).map_err(|_| Refusal::NotFound)?;
                        only("PUT", Route::LogsPut { user, session, execution })
                    }
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

fn image(path: &str, file: &str) -> Option<(ImagePath, ImageFile)> {
    Some((ImagePath::parse(path).ok()?, ImageFile::parse(file).ok()?))
}

/// Undoes percent-encoding; None if it is broken or not UTF-8.
pub fn percent_decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        rest = tail;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        // Else a sign would do for a digit.
        let digits = tail.get(..2).filter(|digits| digits.iter().all(u8::is_ascii_hexdigit))?;
        bytes.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
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
    fn a_path_with_another_slash_before_it_is_another_path() {
        for path in ["//health", "//api/users/u/towns", "//sessions"] {
            assert_eq!(Route::parse("GET", path), Err(Refusal::NotFound), "{path}");
        }
    }

    #[test]
    fn user_ids_are_decoded() {
        let user = UserId::parse("oauth/google:1").unwrap();
        let session = SessionId::parse(SESSION).unwrap();
        let path = format!("/sessions/oauth%2Fgoogle%3A1/{SESSION}/ingest");
        for method in ["GET", "POST", "HEAD"] {
            let ingest = Route::Ingest { user: user.clone(), session: session.clone() };
            assert_eq!(Route::parse(method, &path), Ok(ingest), "every method is told that this is for sockets");
        }
        for broken in ["%", "%2", "%zz", "%+f", "%ff"] {
            assert_eq!(percent_decode(broken), None, "{broken}");
            assert_eq!(Route::parse("GET", &format!("/sessions/{broken}/{SESSION}/ingest")), Err(Refusal::BadUserId));
        }
    }

    #[test]
    fn logs_are_put_under_the_name_of_an_execution() {
        let path = |execution: &str| format!("/sessions/u/{SESSION}/logs/{execution}/logs.tar.gz");
        let id = "exc_00000000000000000000000001";
        let (user, session) = (UserId::parse("u").unwrap(), SessionId::parse(SESSION).unwrap());
        let execution = ExecutionId::parse(id).unwrap();
        assert_eq!(Route::parse("PUT", &path(id)), Ok(Route::LogsPut { user, session, execution }));
        assert_eq!(Route::parse("GET", &path(id)), Err(Refusal::MethodNotAllowed));
        assert_eq!(Route::parse("PUT", &path("..")), Err(Refusal::NotFound));
    }

    #[test]
    fn images_have_names_that_cannot_climb() {
        let uuid = "01234567-89ab-cdef-0123-456789abcdef";
        let name = format!("{uuid}.png");
        let (path, file) = (ImagePath::parse(uuid).unwrap(), ImageFile::parse(&name).unwrap());
        let put = Route::ImagePut { path: path.clone(), file: file.clone() };
        assert_eq!(Route::parse("PUT", &format!("/images/{uuid}/{name}")), Ok(put));
        assert_eq!(Route::parse("GET", &format!("/images/{uuid}/{name}")), Err(Refusal::MethodNotAllowed));
        for (path, file) in [(uuid, "cat.png"), ("..", name.as_str()), (uuid, "%2E%2E"), ("a", "b")] {
            assert_eq!(Route::parse("PUT", &format!("/images/{path}/{file}")), Err(Refusal::BadImage));
            let of_session = format!("/sessions/u/{SESSION}/images/{path}/{file}");
            assert_eq!(Route::parse("GET", &of_session), Err(Refusal::NotFound));
        }
        let (user, session) = (UserId::parse("u").unwrap(), SessionId::parse(SESSION).unwrap());
        let get = Route::ImageGet { user, session, path, file };
        assert_eq!(Route::parse("GET", &format!("/sessions/u/{SESSION}/images/{uuid}/{name}")), Ok(get));
    }

    #[test]
    fn what_is_not_in_the_table_is_not_found() {
        for path in [
            "/nowhere",
            "/debug",
            "/debug/towns/t/nothing",
            "/api/debug/towns/t/status",
            "/healthz",
            "/trpc",
            "/trpc/nope",
            "/trpc/health/x",
            "/sessions/u/agent_1/ingest",
            "/sessions/u",
        ] {
            assert_eq!(Route::parse("GET", path), Err(Refusal::NotFound), "{path}");
        }
        assert_eq!(Route::parse("POST", "/health"), Err(Refusal::MethodNotAllowed));
        assert_eq!(Route::parse("GET", "/"), Ok(Route::Root));
        assert!(matches!(Route::parse("GET", "/debug/towns/t/status"), Ok(Route::Town(_))));
    }
}
