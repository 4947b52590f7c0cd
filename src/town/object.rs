//! `TownDO`, named by its town: the shell around `town-core`, for the container's side of it. No route makes a ledger, and none is linked.
//!
//! Stores nothing itself. An object that was evicted between any two events continues as if it had not been.

use crate::config::Config;
use crate::http;
use crate::log;
use crate::object;
use crate::object::Alarm;
use crate::object::ask;
use crate::object::failed;
use crate::object::now_ms;
use crate::sql::WorkerdDatabase;
use object_core::time::SECOND;
use protocol::id::InstanceId;
use protocol::id::TownId;
use protocol::town::DRAIN_NONCE_HEADER;
use protocol::town::TOWN_ID_HEADER;
use protocol::town::TownHealth;
use std::cell::Cell;
use std::rc::Rc;
use town_core::Town;
use town_core::message::container::ContainerAnswer;
use town_core::message::container::ContainerCall;
use town_core::message::container::ContainerInput;
use town_core::message::container::ContainerOutput;
use town_core::message::container::DrainChange;
use worker::DurableObject;
use worker::Env;
use worker::Method;
use worker::Request;
use worker::RequestInit;
use worker::Response;
use worker::State;
use worker::durable_object;
use worker::wasm_bindgen;

/// How long a town may take to answer: it asks nobody.
const ANSWER_MS: i64 = 8 * SECOND;

/// How long a container may take to answer a health check (spec/town.md 5.5).
const HEALTH_MS: i64 = 5 * SECOND;

/// Asks a town.
pub async fn call(env: &Env, town: &TownId, call: &ContainerCall) -> worker::Result<ContainerAnswer> {
    let mut init = RequestInit::new();
    init.with_method(Method::Post).with_body(Some(serde_json::to_string(call)?.into()));
    let request = Request::new_with_init("http://town/", &init)?;
    let mut response = ask(env, "TOWN", town.as_str(), request, ANSWER_MS).await?;
    Ok(serde_json::from_slice(&response.bytes().await?)?)
}

/// One town.
#[durable_object(alarm)]
pub struct TownDO {
    shell: Rc<Shell>,
}

/// What the handlers share, and what outlives them in effects.
struct Shell {
    state: State,
    env: Env,
    db: WorkerdDatabase,
    core: Town,
    alarm: Alarm,
    woken: Cell<bool>,
}

impl DurableObject for TownDO {
    fn new(state: State, env: Env) -> Self {
        let shell = Shell {
            db: object::open(&state.storage(), town_core::CONTAINER_MIGRATIONS),
            core: Town::new(Config::from_env(&env).limits.town),
            alarm: Alarm::new(&state),
            woken: Cell::new(false),
            state,
            env,
        };
        Self { shell: Rc::new(shell) }
    }

    async fn fetch(&self, mut request: Request) -> worker::Result<Response> {
        let call: ContainerCall = serde_json::from_slice(&request.bytes().await?)?;
        match self.shell.turn(ContainerInput::Call(call))? {
            Some(answer) => http::json(200, &answer),
            None => Err(worker::Error::RustError("a call without an answer".into())),
        }
    }

    async fn alarm(&self) -> worker::Result<Response> {
        self.shell.alarm.fired();
        self.shell.turn(ContainerInput::Woke)?;
        Response::empty()
    }
}

impl Shell {
    /// One input: one synchronous transaction, then its outputs. Returns the answer, if the input asked for one.
    fn turn(self: &Rc<Self>, input: ContainerInput) -> worker::Result<Option<ContainerAnswer>> {
        if !self.woken.replace(true) {
            self.turn(ContainerInput::Woke)?;
        }
        let mut entropy = object::entropy()?;
        let turn = self.core.receive_container(&self.db, now_ms(), &mut entropy, &input).map_err(failed)?;
        self.alarm.set(turn.alarm);
        let mut own = None;
        for output in turn.outputs {
            match output {
                ContainerOutput::Answer(answer) => own = Some(answer),
                ContainerOutput::Drain(change) => self.log(&change),
                ContainerOutput::Handoff { nonce } => self.hand_off(nonce),
            }
        }
        Ok(own)
    }

    /// Offers the nonce beside everything else. What the container says is an input; if it says nothing, the core will offer again.
    fn hand_off(self: &Rc<Self>, nonce: String) {
        let shell = Rc::clone(self);
        self.state.wait_until(async move {
            let told = match shell.health(&nonce).await {
                Ok(Some(health)) => {
                    let (instance, draining) = (health.container_instance_id, health.draining);
                    shell.turn(ContainerInput::Health { instance, draining }).map(drop)
                }
                Ok(None) => Ok(()),
                Err(error) => Err(error),
            };
            if let Err(error) = told {
                log::info("drain_handoff_failed", &[("town", &shell.name()), ("error", &error.to_string())]);
            }
        });
    }

    /// A health check of the container; None if it does not run, for nobody starts it to be asked.
    async fn health(&self, nonce: &str) -> worker::Result<Option<TownHealth>> {
        let name = self.name();
        let init = RequestInit::new();
        init.headers.set(DRAIN_NONCE_HEADER, nonce)?;
        init.headers.set(TOWN_ID_HEADER, &name)?;
        let request = Request::new_with_init("http://container/health", &init)?;
        let mut response = ask(&self.env, "TOWN_CONTAINER", &name, request, HEALTH_MS).await?;
        let body = response.bytes().await?;
        match response.status_code() {
            200 => Ok(Some(serde_json::from_slice(&body)?)),
            410 => Ok(None),
            status => Err(worker::Error::RustError(format!("the container answered {status}"))),
        }
    }

    /// The town. Only the log and the container need it; every call came by this name.
    fn name(&self) -> String {
        self.state.id().name().unwrap_or_default()
    }

    fn log(&self, change: &DrainChange) {
        let name = |instance: &Option<InstanceId>| instance.as_ref().map_or("unknown".to_owned(), ToString::to_string);
        let (event, key, value) = match change {
            DrainChange::Began { instance } => ("drain_began", "instance", name(instance)),
            DrainChange::Ended(how) => ("drain_ended", "how", how.as_str().to_owned()),
            DrainChange::Refused { instance } => ("drain_ack_refused", "instance", name(instance)),
        };
        log::info(event, &[("town", &self.name()), (key, &value)]);
    }
}
