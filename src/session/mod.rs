//! `CloudAgentSession`: the shell around `session-core`.
//!
//! Stores nothing itself: the rows are the core's, sockets are found by tag, their facts are in attachments. An object that was evicted
//! between any two events continues as if it had not been.

mod callback;
mod effects;
pub mod routes;
mod sockets;

use crate::config::Config;
use crate::http;
use crate::log;
use crate::object;
use crate::object::Alarm;
use crate::object::Waiting;
use crate::object::failed;
use crate::object::now_ms;
use crate::object::within;
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
use worker::DurableObject;
use worker::Env;
use worker::Request;
use worker::Response;
use worker::State;
use worker::WebSocket;
use worker::WebSocketIncomingMessage;
use worker::durable_object;
use worker::wasm_bindgen;

/// How long a front end waits for a preparation or a start, which are bound to 12 minutes.
const CALL_MS: i64 = 13 * 60 * 1_000;

/// What a caller gets.
pub type CallResult = Result<Answer, TrpcError>;

/// One agent session.
#[durable_object]
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
                let call: Call = serde_json::from_slice(&request.bytes().await?)?;
                let result = shell.call(|reply| Input::Call { reply, call }).await?;
                http::json(200, &result)
            }
            "/progress" => {
                let progress: Progress = serde_json::from_slice(&request.bytes().await?)?;
                let token = http::bearer(&request).unwrap_or_default();
                let result = shell.call(|reply| Input::Progress { reply, token, progress }).await?;
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
        for (part, result) in [
            ("wake", self.shell.wake()),
            ("expire", self.shell.turn(Input::Expire).map(drop)),
            ("pay_debts", self.shell.turn(Input::PayDebts).map(drop)),
        ] {
            if let Err(error) = result {
                log::error("session_alarm", &[("part", part), ("error", &error.to_string())]);
                self.shell.alarm.retry();
            }
        }
        Response::empty()
    }

    async fn websocket_message(&self, socket: WebSocket, message: WebSocketIncomingMessage) -> worker::Result<()> {
        self.shell.wake()?;
        self.shell.message(&socket, message)
    }

    async fn websocket_close(
        &self,
        socket: WebSocket,
        code: usize,
        reason: String,
        _clean: bool,
    ) -> worker::Result<()> {
        // The one event that comes before `Woke`, which would find the socket gone and not know why.
        let closed = self.shell.closed(&socket, u16::try_from(code).unwrap_or(1006), reason);
        self.shell.wake()?;
        closed
    }

    async fn websocket_error(&self, socket: WebSocket, _error: worker::Error) -> worker::Result<()> {
        self.shell.wake()?;
        self.shell.closed(&socket, 1006, String::new())
    }

    async fn connect(&self, _socket: worker::Socket) -> worker::Result<()> {
        Err(worker::Error::RustError("CloudAgentSession takes no raw sockets".into()))
    }
}

impl Shell {
    /// Before the first event after construction: what an eviction or a crash interrupted goes on.
    fn wake(self: &Rc<Self>) -> worker::Result<()> {
        if !self.woken.get() {
            self.turn(Input::Woke)?;
            self.woken.set(true);
            self.resume_catch_ups()?;
        }
        Ok(())
    }

    /// One input: one synchronous transaction, then its outputs. Returns the outputs for the event that is being handled; all others are
    /// performed here.
    fn turn(self: &Rc<Self>, input: Input) -> worker::Result<Vec<Output>> {
        let facts = Facts { ingest: self.open_executions() };
        let mut entropy = object::entropy()?;
        let turn = self.core.borrow_mut().receive(&self.db, now_ms(), &facts, &mut entropy, input).map_err(failed)?;
        self.alarm.set(turn.alarm);
        let mut own = Vec::new();
        for output in turn.outputs {
            match output {
                Output::Broadcast(broadcast) => self.broadcast(&broadcast),
                Output::Perform { key, effect } => self.perform(key, effect),
                Output::Reply { to, result } => self.waiting.answer(to, result),
                Output::ToIngest { execution, command } => self.send_to_ingest(&execution, &command),
                Output::AcceptIngest { .. }
                | Output::AcceptStream
                | Output::Answer(_)
                | Output::Close { .. }
                | Output::Refuse { .. } => own.push(output),
            }
        }
        Ok(own)
    }

    /// An input with a caller, who gets the core's answer, or is told to come back.
    async fn call(self: &Rc<Self>, input: impl FnOnce(ReplyTo) -> Input) -> worker::Result<CallResult> {
        let number = object::entropy()?.reply_to();
        let answer: oneshot::Receiver<CallResult> = self.waiting.register(number);
        self.turn(input(number))?;
        let answered = within(CALL_MS, answer).await;
        self.waiting.forget(number);
        Ok(match answered {
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
