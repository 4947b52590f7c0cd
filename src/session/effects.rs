//! Performs what a session owes, and says what became of it.

use crate::config::Config;
use crate::container;
use crate::object::ask;
use crate::object::within;
use crate::session::callback;
use crate::user;
use object_core::directory::Call;
use protocol::id::SandboxId;
use protocol::sandbox::ApiError;
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
        Effect::Callback(post) => callback::deliver(config, post).await,
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
        Effect::Stop { sandbox, session } => {
            to_sandbox(env, sandbox, effect, &format!("/sessions/{session}/stop"), None).await
        }
        Effect::Release { sandbox, execution } => {
            to_sandbox(env, sandbox, effect, &format!("{}{execution}", container::RELEASE), None).await
        }
        Effect::Work { sandbox, work } => {
            let session = &work.workspace.session_id;
            let lease = work.turn.as_ref().map_or(String::new(), |turn| format!("&lease={}", turn.execution_id));
            let path = format!("/sessions/{session}/work?wake=1{lease}");
            to_sandbox(env, sandbox, effect, &path, Some(serde_json::to_string(work)?)).await
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
    let mut response = ask(env, "SANDBOX", sandbox.as_str(), request, effect.timeout_ms()).await?;
    let bytes = response.bytes().await?;
    Ok(match response.status_code() {
        200..=299 => match effect {
            Effect::Work { .. } => Outcome::Progress(serde_json::from_slice(&bytes)?),
            _ => Outcome::Done,
        },
        status => {
            let error = serde_json::from_slice(&bytes).unwrap_or_else(|_| ApiError {
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

fn failed(code: &str, message: &str) -> Outcome {
    Outcome::Failed { code: code.to_owned(), message: message.to_owned() }
}
