//! The session family of routes, in tRPC's wire format (spec/session.md 2.3, 2.5).
//!
//! Order of checks, as upstream's: token, then internal key, then input, then the session object.

pub mod ticket;

use crate::auth;
use crate::auth::Caller;
use crate::config::Config;
use crate::http;
use crate::http::BodyError;
use crate::log;
use crate::object;
use crate::object::now_ms;
use crate::route::Procedure;
use crate::route::Refusal;
use crate::session::logs;
use crate::session::routes;
use crate::user;
use object_core::directory;
use protocol::id::MessageId;
use protocol::id::SessionId;
use protocol::id::UserId;
use protocol::time::iso8601;
use protocol::trpc;
use protocol::trpc::Admits;
use protocol::trpc::Code;
use protocol::trpc::ResultBody;
use protocol::trpc::TrpcError;
use serde_json::Value;
use serde_json::json;
use serde_json::value::RawValue;
use serde_json::value::to_raw_value;
use session_core::callback::check_url;
use session_core::message::Call;
use session_core::message::Registration;
use session_core::sandbox_id;
use worker::Env;
use worker::Request;
use worker::Response;

/// How long a call may wait for a preparation or a start: a little longer than the object itself.
const WORK_CALL_MS: i64 = 14 * 60 * 1_000;
/// How long every other call may take.
const CALL_MS: i64 = 30_000;

type Answer = Result<Box<RawValue>, TrpcError>;

/// Answers one procedure.
pub async fn call(procedure: Procedure, request: Request, env: &Env, config: &Config) -> worker::Result<Response> {
    match run(procedure, request, env, config).await {
        Ok(Ok(data)) => http::json(200, &ResultBody::new(data)),
        Ok(Err(error)) => answer_error(procedure.name(), &error),
        Err(failure) => {
            log::error("trpc", &[("procedure", procedure.name()), ("error", &failure.to_string())]);
            let error = TrpcError::retryable("INTERNAL", "The session could not be reached: try again");
            answer_error(procedure.name(), &error)
        }
    }
}

/// Answers a request that has no route, in this family's shape.
pub fn refuse(procedure: &str, refusal: Refusal) -> worker::Result<Response> {
    let error = match refusal {
        // How a batch names its calls.
        Refusal::NotFound if procedure.contains(',') => no_batches(),
        Refusal::MethodNotAllowed => TrpcError::new(Code::MethodNotSupported, "Queries are GET, mutations are POST"),
        Refusal::BadImage | Refusal::BadUserId | Refusal::NotFound => {
            TrpcError::new(Code::NotFound, format!("No procedure found on path \"{procedure}\""))
        }
    };
    answer_error(procedure, &error)
}

fn no_batches() -> TrpcError {
    TrpcError::new(Code::BadRequest, "Batches are not supported: use httpLink")
}

fn answer_error(procedure: &str, error: &TrpcError) -> worker::Result<Response> {
    http::json(error.code.facts().1, &error.body(procedure))
}

async fn run(procedure: Procedure, mut request: Request, env: &Env, config: &Config) -> worker::Result<Answer> {
    if request.url()?.query_pairs().any(|(key, _)| key == "batch") {
        return Ok(Err(no_batches()));
    }
    let header = request.headers().get("authorization")?;
    let Caller { user, bot } = match auth::caller(header.as_deref(), config.nextauth_secret.as_deref(), now_ms()) {
        Ok(caller) => caller,
        Err(message) => return Ok(Err(TrpcError::new(Code::Unauthorized, message))),
    };
    if procedure.needs_internal_key()
        && let Err(error) = internal_key(&request, config)
    {
        return Ok(Err(error));
    }
    let input = match input(procedure, &mut request).await {
        Ok(input) => input,
        Err(error) => return Ok(Err(error)),
    };
    let admits = Admits { loopback: config.allow_loopback, callback_url: check_url };
    let invalid = |issues: Vec<trpc::Issue>| TrpcError::invalid(&issues);
    match procedure {
        Procedure::Health => answer(&json!({
            "status": "ok", "timestamp": iso8601(now_ms()), "version": env!("CARGO_PKG_VERSION"),
        })),
        Procedure::PrepareSession => match trpc::parse_prepare_session(&input, admits) {
            Err(issues) => Ok(Err(invalid(issues))),
            Ok(_) if config.worker_url.is_none() => Ok(Err(TrpcError::new(
                Code::InternalServerError,
                "WORKER_URL is not configured: containers could not report",
            ))),
            Ok(input) => prepare(env, user, bot.as_deref(), input).await,
        },
        Procedure::ListSessions => match trpc::parse_list_sessions(&input) {
            Err(issues) => Ok(Err(invalid(issues))),
            Ok(list) => list_sessions(env, &user, list).await,
        },
        Procedure::SendMessage => match trpc::parse_send_message(&input) {
            Err(issues) => Ok(Err(invalid(issues))),
            Ok(mut message) => {
                let session = message.session.clone();
                // By its id the session knows a message that it is sent again.
                message.message_id = Some(message.message_id.map_or_else(new_message_id, Ok)?);
                routes::call(env, &user, &session, &Call::Send(Box::new(message)), WORK_CALL_MS).await
            }
        },
        Procedure::InitiateFromKilocodeSession => match trpc::parse_initiate(&input) {
            Err(issues) => Ok(Err(invalid(issues))),
            Ok(initiate) => routes::call(env, &user, &initiate.session, &Call::Initiate, WORK_CALL_MS).await,
        },
        Procedure::UpdateSession => match trpc::parse_update_session(&input, admits) {
            Err(issues) => Ok(Err(invalid(issues))),
            Ok(update) => routes::call(env, &user, &update.session, &Call::Update(update.changes), CALL_MS).await,
        },
        Procedure::GetSession => simple(env, &user, &input, "cloudAgentSessionId", &Call::View).await,
        Procedure::InterruptSession => simple(env, &user, &input, "sessionId", &Call::Interrupt).await,
        Procedure::DeleteSession => {
            let deleted = simple(env, &user, &input, "sessionId", &Call::Delete).await;
            Ok(deleted.unwrap_or_else(|failure| {
                let session = input.get("sessionId").and_then(Value::as_str).unwrap_or_default();
                let fields = [("user", user.as_str()), ("session", session), ("error", &failure.to_string())];
                log::error("delete_session", &fields);
                Err(TrpcError::new(Code::InternalServerError, "Failed to clean up session metadata"))
            }))
        }
        Procedure::AnswerPermission => judge(env, &user, trpc::parse_answer_permission(&input)).await,
        Procedure::AnswerQuestion => judge(env, &user, trpc::parse_answer_question(&input)).await,
        Procedure::RejectQuestion => judge(env, &user, trpc::parse_reject_question(&input)).await,
        Procedure::GetWrapperLogs => match trpc::parse_wrapper_logs(&input) {
            Err(issues) => Ok(Err(invalid(issues))),
            Ok(wanted) => wrapper_logs(env, &user, &wanted).await,
        },
    }
}

/// A procedure whose whole input is a session id.
async fn simple(env: &Env, user: &UserId, input: &Value, field: &str, call: &Call) -> worker::Result<Answer> {
    match trpc::parse_session_id(input, field) {
        Err(issues) => Ok(Err(TrpcError::invalid(&issues))),
        Ok(session) => routes::call(env, user, &session, call, CALL_MS).await,
    }
}

/// A person's word to the agent.
async fn judge(env: &Env, user: &UserId, judge: Result<trpc::Judge, Vec<trpc::Issue>>) -> worker::Result<Answer> {
    match judge {
        Err(issues) => Ok(Err(TrpcError::invalid(&issues))),
        Ok(judge) => routes::call(env, user, &judge.session, &Call::Judge(judge.verdict), CALL_MS).await,
    }
}

/// What the container of an execution logged, as far as it has come.
async fn wrapper_logs(env: &Env, user: &UserId, wanted: &trpc::WrapperLogs) -> worker::Result<Answer> {
    let trpc::WrapperLogs { session, execution } = wanted;
    if let Err(error) = routes::call(env, user, session, &Call::View, CALL_MS).await? {
        return Ok(Err(error));
    }
    match logs::read(env, user, session, execution).await? {
        Some(content) => answer(&json!({ "content": content, "sessionId": session, "executionId": execution })),
        None => Ok(Err(TrpcError::new(Code::NotFound, "No logs of this execution have arrived"))),
    }
}

/// New ids, then a registration. With `autoInitiate` the answer needs no container and no network beyond our own objects.
async fn prepare(env: &Env, user: UserId, bot: Option<&str>, input: trpc::PrepareSession) -> worker::Result<Answer> {
    let mut entropy = object::entropy()?;
    let broken = |error: protocol::id::InvalidId| worker::Error::RustError(error.to_string());
    let session = SessionId::parse(&format!("agent_{}", entropy.uuid())).map_err(broken)?;
    let kilo_session = protocol::id::KiloSessionId::parse(&entropy.kilo_session_id(now_ms())).map_err(broken)?;
    let sandbox = sandbox_id(input.organization_id.as_deref(), &user, bot).map_err(broken)?;
    let registration = Registration { user: user.clone(), session: session.clone(), kilo_session, sandbox, input };
    routes::call(env, &user, &session, &Call::Register(Box::new(registration)), WORK_CALL_MS).await
}

/// The caller's sessions: his own, or those that are his in an organisation. What others have there is theirs, since a session answers only its user.
async fn list_sessions(env: &Env, user: &UserId, list: trpc::ListSessions) -> worker::Result<Answer> {
    let (owner, filter) = match list.organization_id {
        Some(organization) => (format!("org:{organization}"), Some(user.to_string())),
        None => (format!("user:{user}"), None),
    };
    let call = directory::Call::List { cursor: list.cursor, limit: list.limit, user: filter };
    match user::call(env, &owner, &call).await? {
        directory::Answer::Page { page } => answer(&page),
        _ => Ok(Err(TrpcError::new(Code::InternalServerError, "The directory gave no page"))),
    }
}

fn new_message_id() -> worker::Result<MessageId> {
    MessageId::parse(&object::entropy()?.message_id(now_ms()))
        .map_err(|error| worker::Error::RustError(error.to_string()))
}

fn answer<T: serde::Serialize>(data: &T) -> worker::Result<Answer> {
    Ok(Ok(to_raw_value(data)?))
}

/// Checks `x-internal-api-key`.
pub fn internal_key(request: &Request, config: &Config) -> Result<(), TrpcError> {
    let given = request.headers().get("x-internal-api-key").ok().flatten();
    auth::internal_key(config.internal_api_secret.as_deref(), given.as_deref())
}

/// The input of a call: the query parameter `input`, or the body.
async fn input(procedure: Procedure, request: &mut Request) -> Result<Value, TrpcError> {
    let malformed = || TrpcError::new(Code::BadRequest, "The input is not valid JSON");
    if procedure.is_query() {
        let url = request.url().map_err(|_| malformed())?;
        let input = url.query_pairs().find(|(key, _)| key == "input").map(|(_, value)| value.into_owned());
        return input.map_or_else(|| Ok(json!({})), |input| serde_json::from_str(&input).map_err(|_| malformed()));
    }
    match http::body(request).await {
        Ok(body) => http::parse(&body).map_err(|_| malformed()),
        Err(BodyError::TooLarge) => {
            let message = format!("The body is larger than {} bytes", http::BODY_BYTES_MAX);
            Err(TrpcError::new(Code::PayloadTooLarge, message))
        }
        Err(BodyError::Broken) => Err(malformed()),
    }
}
