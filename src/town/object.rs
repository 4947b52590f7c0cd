//! `TownDO`, named by its town: the shell around `town-core`.
//!
//! Stores nothing itself: the rows are the core's, the sockets of the status stream are found by tag. An object that was evicted between any two
//! events continues as if it had not been.
//!
//! | Request | What becomes of it |
//! | --- | --- |
//! | `POST /ended?at={ms}` | `TownContainerDO` tells that the container ended |
//! | an upgrade | the status stream: the Worker has checked who asks |
//! | any other | the ledger's routes |

use super::effects::InFlight;
use super::effects::Try;
use super::ledger;
use super::notice;
use crate::config::Config;
use crate::log;
use crate::object;
use crate::object::Alarm;
use crate::object::failed;
use crate::object::now_ms;
use crate::sql::WorkerdDatabase;
use std::rc::Rc;
use town_core::Town;
use town_core::message::Answer;
use town_core::message::Call;
use town_core::message::Facts;
use town_core::message::Input;
use town_core::message::Output;
use town_core::message::container::ContainerAnswer;
use town_core::message::container::ContainerCall;
use town_core::message::container::ContainerInput;
use town_core::message::container::ContainerOutput;
use wasm_bindgen::JsValue;
use wasm_bindgen::prelude::wasm_bindgen;
use worker::DurableObject;
use worker::Env;
use worker::Error;
use worker::Request;
use worker::Response;
use worker::State;
use worker::durable_object;
use worker::web_sys;

/// The path of the notice that the town's container ended.
pub const ENDED: &str = "/ended";

/// One town.
#[durable_object(alarm)]
pub struct TownDO {
    shell: Rc<Shell>,
}

/// What the handlers share, and what outlives them in effects.
pub(super) struct Shell {
    pub(super) state: State,
    pub(super) env: Env,
    pub(super) config: Config,
    db: WorkerdDatabase,
    core: Town,
    alarm: Alarm,
    pub(super) in_flight: InFlight,
}

impl DurableObject for TownDO {
    fn new(state: State, env: Env) -> Self {
        let config = Config::from_env(&env);
        let shell = Shell {
            db: object::open(&state.storage(), town_core::MIGRATIONS),
            core: Town::new(config.limits.town.clone()),
            alarm: Alarm::new(&state),
            in_flight: InFlight::default(),
            state,
            env,
            config,
        };
        Self { shell: Rc::new(shell) }
    }

    async fn fetch(&self, request: Request) -> worker::Result<Response> {
        if request.path() == ENDED {
            return self.shell.container_ended(&request);
        }
        if request.headers().get("upgrade")?.is_some_and(|to| to.eq_ignore_ascii_case("websocket")) {
            return self.shell.open_status();
        }
        ledger::serve(&self.shell, request).await
    }

    /// Never fails: the platform gives up an alarm that does.
    async fn alarm(&self) -> worker::Result<Response> {
        self.shell.alarm.fired();
        if let Err(error) = self.shell.receive(&Input::Tick) {
            log::error("town_alarm", &[("town", &self.shell.name()), ("error", &error.to_string())]);
            self.shell.alarm.retry();
        }
        Response::empty()
    }
}

/// The events of the status sockets, bound by our own hands: beside them, the macro makes no room for an alarm.
#[wasm_bindgen]
impl TownDO {
    /// The stream goes one way: what a viewer says is not read.
    #[wasm_bindgen(js_name = webSocketMessage)]
    pub fn message(&self, _socket: web_sys::WebSocket, _message: JsValue) {}

    #[wasm_bindgen(js_name = webSocketClose)]
    pub fn close(&self, socket: web_sys::WebSocket, _code: u16, _reason: String) -> Result<(), JsValue> {
        Ok(self.shell.status_closed(&socket.into(), (1000, ""))?)
    }

    #[wasm_bindgen(js_name = webSocketError)]
    pub fn error(&self, socket: web_sys::WebSocket) -> Result<(), JsValue> {
        Ok(self.shell.status_closed(&socket.into(), (1011, "WebSocket error"))?)
    }
}

impl Shell {
    /// Asks the ledger.
    pub(super) fn ask(self: &Rc<Self>, call: Call) -> worker::Result<Answer> {
        let answer = self.receive(&Input::Call(call))?.into_iter().find_map(|output| match output {
            Output::Answer(answer) => Some(answer),
            _ => None,
        });
        answer.ok_or_else(|| Error::RustError("a call without an answer".into()))
    }

    /// Asks the container's side of the town.
    pub(super) fn ask_container(self: &Rc<Self>, call: ContainerCall) -> worker::Result<ContainerAnswer> {
        let input = Input::Container(ContainerInput::Call(call));
        let answer = self.receive(&input)?.into_iter().find_map(|output| match output {
            Output::Container(ContainerOutput::Answer(answer)) => Some(answer),
            _ => None,
        });
        answer.ok_or_else(|| Error::RustError("a call without an answer".into()))
    }

    /// One input: one synchronous transaction, then its outputs. Returns the answers; all others are performed here.
    pub(super) fn receive(self: &Rc<Self>, input: &Input) -> worker::Result<Vec<Output>> {
        let facts = Facts { viewers: self.viewers() };
        let mut entropy = object::entropy()?;
        let turn = self.core.receive(&self.db, now_ms(), &facts, &mut entropy, input).map_err(failed)?;
        self.alarm.set(turn.alarm);
        let mut answers = Vec::new();
        for output in turn.outputs {
            match output {
                Output::Broadcast(frame) => self.broadcast(&frame),
                Output::Container(ContainerOutput::Drain(change)) => notice::drain(&self.name(), &change),
                Output::Container(ContainerOutput::Handoff { nonce }) => self.hand_off(nonce),
                Output::Notice(found) => notice::notice(&self.name(), &found),
                Output::Observe { agents } => self.observe(agents),
                Output::Perform { key, attempt, since, effect, start } => {
                    self.perform(key, Try { attempt, since, start }, effect);
                }
                Output::Ticked(metrics) => notice::ticked(&self.name(), &metrics),
                Output::Answer(_) | Output::Container(ContainerOutput::Answer(_)) => answers.push(output),
            }
        }
        Ok(answers)
    }

    /// Reports what came of something that was done beside everything else. What is lost here is asked for again by the core.
    pub(super) fn report(self: &Rc<Self>, input: &Input) {
        if let Err(error) = self.receive(input) {
            log::error("town", &[("town", &self.name()), ("error", &error.to_string())]);
        }
    }

    fn container_ended(self: &Rc<Self>, request: &Request) -> worker::Result<Response> {
        let url = request.url()?;
        let at = url.query_pairs().find(|(key, _)| key == "at").and_then(|(_, at)| at.parse().ok());
        let at = at.ok_or_else(|| Error::RustError("the notice does not say when".into()))?;
        self.receive(&Input::Container(ContainerInput::Ended { at }))?;
        Response::empty()
    }

    /// The town: every call came by this name.
    pub(super) fn name(&self) -> String {
        self.state.id().name().unwrap_or_default()
    }
}
