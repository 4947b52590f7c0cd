//! `AgentDO`: an agent's event log. Its class exists so that the deployment's migrations are complete; the routes to it answer 501.

use crate::http;
use worker::DurableObject;
use worker::Env;
use worker::Request;
use worker::Response;
use worker::State;
use worker::durable_object;
use worker::wasm_bindgen;

/// The event log of one agent.
#[durable_object(fetch)]
pub struct AgentDO {}

impl DurableObject for AgentDO {
    fn new(_state: State, _env: Env) -> Self {
        Self {}
    }

    async fn fetch(&self, _request: Request) -> worker::Result<Response> {
        http::json(501, &http::Plain { error: "Not implemented yet" })
    }
}
