//! `UserDO`, named `user:<id>` or `org:<id>`: the directory of sessions, and the user's towns and rigs. The rules are `object_core::directory` and
//! `object_core::holdings`.

mod changes;
pub mod towns;

use crate::http;
use crate::log;
use crate::object::Alarm;
use crate::object::ask;
use crate::object::failed;
use crate::object::open;
use crate::sql::WorkerdDatabase;
use object_core::directory;
use object_core::directory::Answer;
use object_core::directory::Call;
use worker::DurableObject;
use worker::Env;
use worker::Method;
use worker::Request;
use worker::RequestInit;
use worker::Response;
use worker::State;
use worker::durable_object;
use worker::wasm_bindgen;

/// How long the directory may take.
const ANSWER_MS: i64 = 8_000;

/// The directory of one owner.
#[durable_object(alarm)]
pub struct UserDO {
    env: Env,
    /// The object's name.
    owner: String,
    db: WorkerdDatabase,
    alarm: Alarm,
}

impl DurableObject for UserDO {
    fn new(state: State, env: Env) -> Self {
        let owner = state.id().name().unwrap_or_default();
        Self { env, owner, db: open(&state.storage(), directory::MIGRATIONS), alarm: Alarm::new(&state) }
    }

    async fn fetch(&self, mut request: Request) -> worker::Result<Response> {
        if request.path().starts_with("/api/") {
            return self.towns(request).await;
        }
        let call: Call = http::parse(&request.bytes().await?)?;
        http::json(200, &directory::receive(&self.db, &call).map_err(failed)?)
    }

    /// Never fails: the platform gives up an alarm that does.
    async fn alarm(&self) -> worker::Result<Response> {
        self.alarm.fired();
        if let Err(error) = self.tell_what_is_due().await {
            log::error("user_alarm", &[("error", &error.to_string())]);
            self.alarm.retry();
        }
        Response::empty()
    }
}

/// Asks the directory of `owner`.
pub async fn call(env: &Env, owner: &str, call: &Call) -> worker::Result<Answer> {
    let mut init = RequestInit::new();
    init.with_method(Method::Post).with_body(Some(serde_json::to_string(call)?.into()));
    let request = Request::new_with_init("http://user/", &init)?;
    let mut response = ask(env, "USER", owner, request, ANSWER_MS).await?;
    Ok(http::parse(&response.bytes().await?)?)
}
