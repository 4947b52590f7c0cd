//! Performs what a session owes, and says what became of it.

use crate::config::Config;
use crate::container;
use crate::http;
use crate::object::ask_if;
use crate::object::within;
use crate::session::callback;
use crate::session::logs;
use crate::session::secrets;
use crate::session::snapshot;
use crate::user;
use object_core::directory::Call;
use protocol::id::SandboxId;
use protocol::sandbox::ApiError;
use protocol::sandbox::Stop;
use protocol::verdict::Taken;
use session_core::message::Effect;
use session_core::message::Outcome;
use worker::Env;
use worker::Method;
use worker::Request;
use worker::RequestInit;

/// One try. Takes at most the effect's own timeout; what it could not find out is a failure, and will be asked again.
pub async fn perform(env: &Env, config: &Config, effect: &Effect) -> Outcome {
    let unknown = || failed("TIMEOUT", "no answer in time");
    within(effect.timeout_ms(), try_once(env, config, effect)).await.map_or_else(unknown, |result| {
        result.unwrap_or_else(|error| failed("SANDBOX_CONNECT_FAILED", &error.to_string()))
    })
}

async fn try_once(env: &Env, config: &Config, effect: &Effect) -> worker::Result<Outcome> {
    match effect {
        Effect::Callback(post) => Ok(callback::deliver(config, post).await),
        Effect::DirectoryAdd { owner, entry } => {
            user::call(env, owner, &Call::Add { entry: entry.clone() }).await?;
            Ok(Outcome::Done)
        }
        Effect::DirectoryRemove { owner, session } => {
            user::call(env, owner, &Call::Remove { session: session.to_string() }).await?;
            Ok(Outcome::Done)
        }
        Effect::Abort { sandbox, session } => {
            let path = format!("/sessions/{session}/job/abort");
            to_sandbox(env, sandbox, effect, &path, None).await
        }
        Effect::Judge { sandbox, session, verdict, .. } => {
            let path = format!("/sessions/{session}/job/{}", verdict.route());
            to_sandbox(env, sandbox, effect, &path, Some(verdict.body()?)).await
        }
        Effect::SnapshotRemove { user, session } => {
            snapshot::remove(env, user, session).await?;
            logs::remove(env, user, session).await?;
            Ok(Outcome::Done)
        }
        Effect::Stop { sandbox, session, forget, attempt } => {
            let body = serde_json::to_string(&Stop { forget: *forget, attempt: *attempt })?;
            to_sandbox(env, sandbox, effect, &format!("/sessions/{session}/stop"), Some(body)).await
        }
        Effect::Release { sandbox, execution } => {
            to_sandbox(env, sandbox, effect, &format!("{}{execution}", container::RELEASE), None).await
        }
        Effect::Work { sandbox, work, secrets } => {
            let mut work = work.clone();
            match secrets::open(config.secrets_key.as_deref(), secrets).await {
                Ok(opened) => work.workspace.env.extend(opened),
                Err(error) => {
                    return Ok(Outcome::Refused { code: error.code().to_owned(), message: error.to_string() });
                }
            }
            let session = &work.workspace.session_id;
            let lease = work.turn.as_ref().map_or(String::new(), |turn| format!("&lease={}", turn.execution_id));
            let path = format!("/sessions/{session}/work?wake=1{lease}");
            to_sandbox(env, sandbox, effect, &path, Some(serde_json::to_string(&work)?)).await
        }
    }
}

async fn to_sandbox(
    env: &Env,
    sandbox: &SandboxId,
    effect: &Effect,
    path: &str,
    body: Option<String>,
) -> worker::Result<Outcome> {
    let mut init = RequestInit::new();
    init.with_method(Method::Post);
    if let Some(body) = body {
        init.with_body(Some(body.into()));
        init.headers.set("content-type", "application/json")?;
    }
    let request = Request::new_with_init(&format!("http://sandbox{path}"), &init)?;
    let limit_ms = effect.timeout_ms();
    let mut response = ask_if(effect.may_repeat(), env, "SANDBOX", sandbox.as_str(), request, limit_ms).await?;
    let bytes = response.bytes().await?;
    Ok(match response.status_code() {
        200..=299 => match effect {
            Effect::Judge { .. } => taken(&http::parse(&bytes)?),
            Effect::Work { .. } => Outcome::Progress(http::parse(&bytes)?),
            _ => Outcome::Done,
        },
        status => {
            let error = http::parse(&bytes).unwrap_or_else(|_| ApiError {
                error: "SANDBOX_CONNECT_FAILED".into(),
                message: format!("the container answered {status}"),
            });
            match status {
                // Too early, too many, or not able to right now.
                408 | 425 | 429 | 500.. => Outcome::Failed { code: error.error, message: error.message },
                _ => Outcome::Refused { code: error.error, message: error.message },
            }
        }
    })
}

fn taken(taken: &Taken) -> Outcome {
    if taken.success {
        return Outcome::Done;
    }
    let message = "The agent does not wait for this answer, or not any more".to_owned();
    Outcome::Refused { code: "NOT_WANTED".to_owned(), message }
}

fn failed(code: &str, message: &str) -> Outcome {
    Outcome::Failed { code: code.to_owned(), message: message.to_owned() }
}
