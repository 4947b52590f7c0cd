//! `CloudAgentSession`: the shell around `session-core`.
//!
//! Stores nothing itself: the rows are the core's, sockets are found by tag, their facts are in attachments. An object that was evicted
//! between any two events continues as if it had not been.

mod callback;
mod effects;
mod group;
pub mod images;
pub mod logs;
pub mod routes;
mod secrets;
pub mod snapshot;
mod sockets;
mod viewers;

use crate::config::Config;
use crate::http;
use crate::log;
use crate::object;
use crate::object::Alarm;
use crate::object::Waiting;
use crate::object::failed;
use crate::object::now_ms;
use crate::object::within;
use crate::session::group::Group;
use crate::sql::WorkerdDatabase;
use futures_channel::oneshot;
use object_core::ReplyTo;
use protocol::sandbox::Progress;
use protocol::trpc::TrpcError;
use session_core::Session;
use session_core::message::Answer;
use session_core::message::Call;
use session_core::message::Facts;
use session_core::message::Input;
use session_core::message::Output;
use std::cell::Cell;
use std::cell::RefCell;
use std::rc::Rc;
use wasm_bindgen::JsValue;
use wasm_bindgen::prelude::wasm_bindgen;
use worker::DurableObject;
use worker::Env;
use worker::Request;
use worker::Response;
use worker::State;
use worker::WebSocket;
use worker::durable_object;
use worker::web_sys;

/// How long a front end waits for a preparation or a start, which are bound to 12 minutes.
const CALL_MS: i64 = 13 * 60 * 1_000;

/// What a caller gets.
pub type CallResult = Result<Answer, TrpcError>;

/// One agent session.
#[durable_object(alarm)]
pub struct CloudAgentSession {
    shell: Rc<Shell>,
}

/// What the handlers share, and what outlives them in effects.
struct Shell {
    state: State,
    env: Env,
    config: Config,
    db: WorkerdDatabase,
    core: RefCell<Session>,
    alarm: Alarm,
    waiting: Waiting<CallResult>,
    group: RefCell<Group>,
    woken: Cell<bool>,
}

impl DurableObject for CloudAgentSession {
    fn new(state: State, env: Env) -> Self {
        let config = Config::from_env(&env);
        let core = session_core::Config {
            worker_url: config.worker_url.clone().unwrap_or_default(),
            limits: config.limits.session.clone(),
        };
        let shell = Shell {
            db: WorkerdDatabase::new(&state.storage()),
            core: RefCell::new(Session::new(core)),
            alarm: Alarm::new(&state),
            waiting: Waiting::default(),
            group: RefCell::default(),
            woken: Cell::new(false),
            state,
            env,
            config,
        };
        Self { shell: Rc::new(shell) }
    }

    async fn fetch(&self, mut request: Request) -> worker::Result<Response> {
        let shell = &self.shell;
        shell.wake()?;
        match request.path().as_str() {
            "/call" => {
                let call: Call = http::parse(&request.bytes().await?)?;
                let result = shell.call(|reply| Input::Call { reply, call }).await?;
                http::json(200, &result)
            }
            "/progress" => {
                let progress: Progress = http::parse(&request.bytes().await?)?;
                let token = http::bearer(&request).unwrap_or_default();
                let result = shell.call(|reply| Input::Progress { reply, token, progress }).await?;
                http::json(200, &result)
            }
            "/snapshot" => {
                let token = http::bearer(&request).unwrap_or_default();
                let result = shell.call(|reply| Input::SnapshotAccess { reply, token }).await?;
                http::json(200, &result)
            }
            "/ingest" => shell.open_ingest(&request),
            "/stream" => shell.open_stream(&request),
            _ => Response::error("Not found", 404),
        }
    }

    async fn alarm(&self) -> worker::Result<Response> {
        self.shell.alarm.fired();
        // Never fails: the platform gives up an alarm that does. And a failure of one part stops no other.
        let mut failed = false;
        for (part, result) in [
            ("wake", self.shell.wake()),
            ("expire", self.shell.turn(Input::Expire).map(|own| failed |= log_failed_jobs(&own))),
            ("pay_debts", self.shell.turn(Input::PayDebts).map(drop)),
        ] {
            if let Err(error) = result {
                log::error("session_alarm", &[("part", part), ("error", &error.to_string())]);
                failed = true;
            }
        }
        // Last: what failed is still due, and would ring again at once.
        if failed {
            self.shell.alarm.retry();
        }
        Response::empty()
    }
}

/// Whether a job of the alarm failed.
fn log_failed_jobs(outputs: &[Output]) -> bool {
    let mut failed = false;
    for output in outputs {
        if let Output::Failed { job, error } = output {
            log::error("session_job", &[("job", job), ("error", error)]);
            failed = true;
        }
    }
    failed
}

/// The socket events, bound by our own hands: they wait for nothing, and the promise and the task that the library makes for each would cost more
/// than the event.
#[wasm_bindgen]
impl CloudAgentSession {
    #[wasm_bindgen(js_name = webSocketMessage)]
    pub fn message(&self, socket: web_sys::WebSocket, message: JsValue) -> Result<(), JsValue> {
        let socket = WebSocket::from(socket);
        if let Err(error) = self.shell.wake() {
            // Its frame cannot be taken: a producer that numbers its events connects again and resumes.
            return Ok(group::refuse(&socket, &error)?);
        }
        Ok(self.shell.message(socket, message)?)
    }

    #[wasm_bindgen(js_name = webSocketClose)]
    pub fn close(&self, socket: web_sys::WebSocket, code: u16, reason: String) -> Result<(), JsValue> {
        // The one event that comes before `Woke`, which would find the socket gone and not know why.
        let closed = self.shell.closed(&socket.into(), code, reason);
        self.shell.wake()?;
        Ok(closed?)
    }

    #[wasm_bindgen(js_name = webSocketError)]
    pub fn error(&self, socket: web_sys::WebSocket) -> Result<(), JsValue> {
        self.shell.wake()?;
        Ok(self.shell.closed(&socket.into(), 1006, String::new())?)
    }
}

impl Shell {
    /// Before the first event after construction: what an eviction or a crash interrupted goes on.
    fn wake(self: &Rc<Self>) -> worker::Result<()> {
        if !self.woken.get() {
            self.turn(Input::Woke)?;
            self.woken.set(true);
            self.resume_catch_ups();
        }
        Ok(())
    }

    /// One input, after the frames that came before it. Returns the outputs for the event that is being handled.
    fn turn(self: &Rc<Self>, input: Input) -> worker::Result<Vec<Output>> {
        self.flush()?;
        self.receive(input)
    }

    /// One synchronous transaction, then its outputs. Returns those for the event that is being handled; all others are performed here.
    fn receive(self: &Rc<Self>, input: Input) -> worker::Result<Vec<Output>> {
        let facts = Facts { ingest: self.open_executions(), viewers: self.viewers() };
        let mut entropy = object::entropy()?;
        let turn = self.core.borrow_mut().receive(&self.db, now_ms(), &facts, &mut entropy, input).map_err(failed)?;
        self.alarm.set(turn.alarm);
        let (mut own, mut broadcasts) = (Vec::new(), Vec::new());
        for output in turn.outputs {
            match output {
                Output::Broadcast(broadcast) => broadcasts.push(broadcast),
                Output::CloseAll { reason } => self.close_all(&reason),
                Output::Perform { key, effect } => self.perform(key, effect),
                Output::Reply { to, result } => self.waiting.answer(to, result),
                Output::ToIngest { execution, command } => self.send_to_ingest(&execution, &command),
                Output::AcceptIngest { .. }
                | Output::AcceptStream
                | Output::Answer { .. }
                | Output::Close { .. }
                | Output::Failed { .. }
                | Output::Refuse { .. } => own.push(output),
            }
        }
        self.broadcast(&broadcasts);
        Ok(own)
    }

    /// An input with a caller, who gets the core's answer, or is told to come back.
    async fn call(self: &Rc<Self>, input: impl FnOnce(ReplyTo) -> Input) -> worker::Result<CallResult> {
        let number = object::entropy()?.reply_to();
        let answer: oneshot::Receiver<CallResult> = self.waiting.register(number);
        let answered = match self.turn(input(number)) {
            Ok(_) => Ok(within(CALL_MS, answer).await),
            Err(error) => Err(error),
        };
        self.waiting.forget(number);
        Ok(match answered? {
            Some(Ok(result)) => result,
            _ => Err(TrpcError::retryable("TIMEOUT", "The work goes on, but took too long to wait for")),
        })
    }

    /// Performs an effect beside everything else. Should this object die, the row that it came from brings it back.
    fn perform(self: &Rc<Self>, key: String, effect: session_core::message::Effect) {
        let shell = Rc::clone(self);
        self.state.wait_until(async move {
            let outcome = effects::perform(&shell.env, &shell.config, &effect).await;
            let input = Input::Outcome { key: key.clone(), effect: Box::new(effect), outcome };
            if let Err(error) = shell.turn(input) {
                log::error("outcome", &[("key", &key), ("error", &error.to_string())]);
            }
        });
    }
}
