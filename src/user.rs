//! `UserDO`, named `user:<id>` or `org:<id>`: the directory. Its rules are `object_core::directory`.

use crate::http;
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
#[durable_object(fetch)]
pub struct UserDO {
    db: WorkerdDatabase,
}

impl DurableObject for UserDO {
    fn new(state: State, _env: Env) -> Self {
        Self { db: open(&state.storage(), directory::MIGRATIONS) }
    }

    async fn fetch(&self, mut request: Request) -> worker::Result<Response> {
        let call: Call = serde_json::from_slice(&request.bytes().await?)?;
        http::json(200, &directory::receive(&self.db, &call).map_err(failed)?)
    }
}

/// Asks the directory of `owner`.
pub async fn call(env: &Env, owner: &str, call: &Call) -> worker::Result<Answer> {
    let mut init = RequestInit::new();
    init.with_method(Method::Post).with_body(Some(serde_json::to_string(call)?.into()));
    let request = Request::new_with_init("http://user/", &init)?;
    let mut response = ask(env, "USER", owner, request, ANSWER_MS).await?;
    Ok(serde_json::from_slice(&response.bytes().await?)?)
}
