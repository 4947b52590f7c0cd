//! `SandboxDO` and `TownContainerDO`: two names of one shell around `object_core::lifecycle`.
//!
//! | Request | Effect |
//! | --- | --- |
//! | any `/…?wake=1[&lease=…]` | starts the container if it does not run, takes the lease, forwards |
//! | any `/…` | forwards if it runs; 410 `NOT_RUNNING` otherwise: nothing is started only to be looked at |
//! | `POST /lease/release/{holder}` | gives a lease back |
//! | `POST /exited/{instance}` | the platform's notice that it ended |

mod cloudflare;
mod local;
mod runtime;

use crate::config::Config;
use crate::http;
use crate::log;
use crate::object;
use crate::object::Alarm;
use crate::object::ask;
use crate::object::failed;
use crate::object::now_ms;
use crate::object::within;
use crate::route::ContainerKind;
use crate::sql::WorkerdDatabase;
use futures_channel::oneshot;
use futures_util::lock::Mutex;
use js_sys::Uint8Array;
use object_core::entropy::constant_time_eq;
use object_core::lifecycle;
use object_core::lifecycle::Input;
use object_core::lifecycle::LifecycleLimits;
use object_core::lifecycle::Output;
use object_core::lifecycle::State as Life;
use protocol::sandbox::ApiError;
use runtime::ContainerRuntime;
use runtime::Runtime;
use std::cell::Cell;
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;
use wasm_bindgen::JsValue;
use worker::Delay;
use worker::DurableObject;
use worker::Env;
use worker::Method;
use worker::Request;
use worker::RequestInit;
use worker::Response;
use worker::State;
use worker::durable_object;
use worker::wasm_bindgen;

/// The path under which leases are given back.
pub const RELEASE: &str = "/lease/release/";
const EXITED: &str = "/exited/";

/// How long a request waits for the container to start. Below the 25 s of a session's owed work, which asks again.
const START_WAIT_MS: i64 = 20_000;
/// How long the container may take to answer.
const FORWARD_MS: i64 = 60_000;
/// How long a starting container may take for one answer to whether it is healthy, and the pause before the next question.
const HEALTH_MS: i64 = 2_000;
const HEALTH_INTERVAL: Duration = Duration::from_millis(50);
/// How long the exit notice may take.
const EXITED_MS: i64 = 10_000;

/// The container that a user's sessions share.
#[durable_object(alarm)]
pub struct SandboxDO {
    shell: Rc<Shell>,
}

/// The container of a town.
#[durable_object(alarm)]
pub struct TownContainerDO {
    shell: Rc<Shell>,
}

impl DurableObject for SandboxDO {
    fn new(state: State, env: Env) -> Self {
        Self { shell: Shell::new(state, env, ContainerKind::Sandbox) }
    }

    async fn fetch(&self, request: Request) -> worker::Result<Response> {
        self.shell.fetch(request).await
    }

    async fn alarm(&self) -> worker::Result<Response> {
        self.shell.alarm()
    }
}

impl DurableObject for TownContainerDO {
    fn new(state: State, env: Env) -> Self {
        Self { shell: Shell::new(state, env, ContainerKind::Town) }
    }

    async fn fetch(&self, request: Request) -> worker::Result<Response> {
        self.shell.fetch(request).await
    }

    async fn alarm(&self) -> worker::Result<Response> {
        self.shell.alarm()
    }
}

/// What the platform calls when a container ended. Guard: the host's token.
pub async fn exited(
    request: Request,
    env: &Env,
    config: &Config,
    kind: ContainerKind,
    name: &str,
    instance: &str,
) -> worker::Result<Response> {
    let token = config.host.as_ref().map(|host| host.token.as_str());
    let authorised = token.zip(http::bearer(&request)).is_some_and(|(token, given)| constant_time_eq(token, &given));
    if !authorised {
        return error(401, "UNAUTHORIZED", "The host's token is required");
    }
    let mut init = RequestInit::new();
    init.with_method(Method::Post);
    let notice = Request::new_with_init(&format!("http://container{EXITED}{instance}"), &init)?;
    ask(env, runtime::binding(kind), name, notice, EXITED_MS).await
}

/// What a request needs to know of a running container.
#[derive(Clone)]
struct Running {
    instance: String,
    token: String,
}

type Started = Option<Running>;

/// How a container is ended.
#[derive(Clone, Copy)]
enum Verb {
    Destroy,
    Terminate,
}

struct Shell {
    state: State,
    db: WorkerdDatabase,
    limits: LifecycleLimits,
    runtime: Runtime,
    alarm: Alarm,
    /// What is asked of the platform is asked one after the other: a late `destroy` must not hit the next start.
    verbs: Mutex<()>,
    /// Requests that wait for the container: told the token when it runs, nothing when it will not.
    waiting: RefCell<Vec<oneshot::Sender<Started>>>,
    woken: Cell<bool>,
}

impl Shell {
    fn new(state: State, env: Env, kind: ContainerKind) -> Rc<Self> {
        let config = Config::from_env(&env);
        Rc::new(Self {
            db: object::open(&state.storage(), lifecycle::MIGRATIONS),
            limits: config.limits.container.clone(),
            runtime: Runtime::new(&state, kind, &config),
            alarm: Alarm::new(&state),
            verbs: Mutex::new(()),
            waiting: RefCell::default(),
            woken: Cell::new(false),
            state,
        })
    }

    /// Never fails: the platform gives up an alarm that does.
    fn alarm(self: &Rc<Self>) -> worker::Result<Response> {
        self.alarm.fired();
        if let Err(error) = self.wake().and_then(|()| self.turn(&Input::Tick)) {
            log::error("container", &[("error", &error.to_string())]);
            self.alarm.retry();
        }
        Response::empty()
    }

    async fn fetch(self: &Rc<Self>, request: Request) -> worker::Result<Response> {
        self.wake()?;
        let path = request.path();
        if let Some(instance) = path.strip_prefix(EXITED) {
            self.turn(&Input::Ended { instance: instance.to_owned() })?;
            return Response::empty();
        }
        if let Some(holder) = path.strip_prefix(RELEASE) {
            self.turn(&Input::Release { lease: holder.to_owned() })?;
            return Response::empty();
        }
        let url = request.url()?;
        let query = |name: &str| url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned());
        match (query("wake").is_some(), query("lease")) {
            (true, lease) => self.wake_and_forward(request, &path, lease).await,
            (false, _) => match self.known_running()? {
                Some(running) => match self.forward(&request, body_of(&request), &path, &running).await? {
                    Some(answer) => Ok(answer),
                    None => error(410, "NOT_RUNNING", "The container has ended"),
                },
                None => error(410, "NOT_RUNNING", "The container does not run"),
            },
        }
    }

    /// A container that turns out to have ended is started anew, once: the body is kept for that.
    async fn wake_and_forward(
        self: &Rc<Self>,
        mut request: Request,
        path: &str,
        lease: Option<String>,
    ) -> worker::Result<Response> {
        let body = request.bytes().await?;
        for _ in 0..2 {
            let Some(running) = self.running(lease.clone()).await? else { break };
            let body = Uint8Array::from(body.as_slice());
            if let Some(answer) = self.forward(&request, Some(body.into()), path, &running).await? {
                return Ok(answer);
            }
        }
        error(503, "SANDBOX_CONNECT_FAILED", "The container is not up yet: try again")
    }

    fn known_running(&self) -> worker::Result<Started> {
        let known = lifecycle::load(&self.db).map_err(failed)?.filter(|known| known.state == Life::Running);
        Ok(known.map(|known| Running { instance: known.instance, token: known.token }))
    }

    /// Before the first event after construction: a start that was under way begins again.
    fn wake(self: &Rc<Self>) -> worker::Result<()> {
        if !self.woken.get() {
            self.turn(&Input::Woke)?;
            self.woken.set(true);
        }
        Ok(())
    }

    /// One input: one synchronous transaction, then its outputs.
    fn turn(self: &Rc<Self>, input: &Input) -> worker::Result<()> {
        let mut entropy = object::entropy()?;
        let outputs = lifecycle::receive(&self.db, &self.limits, now_ms(), &mut entropy, input).map_err(failed)?;
        self.alarm.set(lifecycle::next_deadline(&self.db, &self.limits).map_err(failed)?);
        for output in outputs {
            match output {
                Output::Running { instance, token } => self.tell_waiting(&Some(Running { instance, token })),
                Output::Unavailable => self.tell_waiting(&None),
                Output::Start { instance, token } => self.start(instance, token),
                Output::Terminate { instance } => self.end(instance, Verb::Terminate),
                Output::Destroy { instance } => self.end(instance, Verb::Destroy),
            }
        }
        Ok(())
    }

    fn tell_waiting(&self, started: &Started) {
        for caller in self.waiting.take() {
            // A caller that went away needs no answer.
            drop(caller.send(started.clone()));
        }
    }

    /// The container's token once it runs; None if it does not within the wait.
    async fn running(self: &Rc<Self>, lease: Option<String>) -> worker::Result<Started> {
        let (sender, started) = oneshot::channel();
        self.waiting.borrow_mut().push(sender);
        self.turn(&Input::Want { lease })?;
        Ok(within(START_WAIT_MS, started).await.and_then(|answer| answer.ok()).flatten())
    }

    fn start(self: &Rc<Self>, instance: String, token: String) {
        let shell = Rc::clone(self);
        self.state.wait_until(async move {
            let started = within(shell.limits.start_ms, shell.bring_up(&instance, &token)).await;
            if let Some(Ok(())) = started {
                log::info("container_start", &[("instance", &instance)]);
                shell.report(&Input::Started { instance: instance.clone() });
                // Where the platform says so here, and not by a call: as long as this object lives.
                // A crash comes as an error there.
                let ended = match shell.runtime.ended().await {
                    Ok(ended) => ended,
                    Err(_) => matches!(shell.runtime.running().await, Ok(false)),
                };
                if ended {
                    shell.report(&Input::Ended { instance });
                }
                return;
            }
            let error =
                started.and_then(|result| result.err()).map_or("no healthy answer in time".into(), |e| e.to_string());
            log::error("container_start", &[("instance", &instance), ("error", &error)]);
            shell.report(&Input::StartFailed { instance });
        });
    }

    /// Starts a container and waits until it is healthy. Bounded by the caller; ends early when the start is no longer wanted.
    async fn bring_up(&self, instance: &str, token: &str) -> worker::Result<()> {
        let verb = self.verbs.lock().await;
        if self.is_current(instance)? {
            self.runtime.start(instance, token).await?;
        }
        drop(verb);
        while self.is_current(instance)? {
            let request = Request::new("http://container/health", Method::Get)?;
            let health = within(HEALTH_MS, self.runtime.fetch(&request, None, "/health", token)).await;
            if matches!(health, Some(Ok(answer)) if answer.status_code() == 200) {
                return Ok(());
            }
            Delay::from(HEALTH_INTERVAL).await;
        }
        Err(worker::Error::RustError("superseded".into()))
    }

    fn is_current(&self, instance: &str) -> worker::Result<bool> {
        Ok(lifecycle::load(&self.db).map_err(failed)?.is_some_and(|known| known.instance == instance))
    }

    /// Ends a container, unless a newer one has taken its place: the platform knows only one.
    fn end(self: &Rc<Self>, instance: String, verb: Verb) {
        let shell = Rc::clone(self);
        self.state.wait_until(async move {
            let turn = shell.verbs.lock().await;
            let result = shell.end_current(&instance, verb).await;
            drop(turn);
            match result {
                Ok(true) => shell.report(&Input::Ended { instance }),
                Ok(false) => {}
                Err(error) => log::error("container", &[("instance", &instance), ("error", &error.to_string())]),
            }
        });
    }

    /// Whether it is already gone.
    async fn end_current(&self, instance: &str, verb: Verb) -> worker::Result<bool> {
        if !self.is_current(instance)? {
            return Ok(false);
        }
        match verb {
            Verb::Terminate => self.runtime.signal("SIGTERM").await?,
            Verb::Destroy => self.runtime.destroy().await?,
        }
        Ok(!self.runtime.running().await?)
    }

    fn report(self: &Rc<Self>, input: &Input) {
        if let Err(error) = self.turn(input) {
            log::error("container", &[("error", &error.to_string())]);
        }
    }

    /// Forwards a request. None: the container has ended.
    async fn forward(
        self: &Rc<Self>,
        request: &Request,
        body: Option<JsValue>,
        path: &str,
        to: &Running,
    ) -> worker::Result<Option<Response>> {
        let answer = within(FORWARD_MS, self.runtime.fetch(request, body, path, &to.token)).await;
        if let Some(Ok(response)) = answer
            && response.status_code() != 502
        {
            return Ok(Some(response));
        }
        // A platform that says nothing has not said that it ended.
        if !matches!(self.runtime.running().await, Ok(false)) {
            return error(503, "SANDBOX_CONNECT_FAILED", "The container did not answer: try again").map(Some);
        }
        self.turn(&Input::Ended { instance: to.instance.clone() })?;
        Ok(None)
    }
}

/// The body as it is, to be passed on untouched.
fn body_of(request: &Request) -> Option<JsValue> {
    request.inner().body().map(Into::into)
}

fn error(status: u16, code: &str, message: &str) -> worker::Result<Response> {
    http::json(status, &ApiError { error: code.to_owned(), message: message.to_owned() })
}
