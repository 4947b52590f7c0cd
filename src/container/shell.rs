//! The lifecycle of one container: one input, one transaction, then its outputs.

use super::runtime::Runtime;
use super::town;
use crate::config::Config;
use crate::log;
use crate::object;
use crate::object::Alarm;
use crate::object::failed;
use crate::object::now_ms;
use crate::object::within;
use crate::route::ContainerKind;
use crate::sql::WorkerdDatabase;
use futures_channel::oneshot;
use futures_util::lock::Mutex;
use object_core::lifecycle;
use object_core::lifecycle::Input;
use object_core::lifecycle::Output;
use object_core::lifecycle::State as Life;
use object_core::nearest;
use object_core::notice;
use std::cell::Cell;
use std::cell::RefCell;
use std::rc::Rc;
use worker::Env;
use worker::Response;
use worker::State;

/// How long a request waits for the container to start. Below the 25 s of a session's owed work, which asks again.
const START_WAIT_MS: i64 = 20_000;

/// What a request needs to know of a running container.
#[derive(Clone)]
pub struct Running {
    pub instance: String,
    pub token: String,
}

/// None: it does not run.
pub type Started = Option<Running>;

/// How a container is ended.
#[derive(Clone, Copy)]
pub enum Verb {
    Destroy,
    Terminate,
}

/// One container.
pub struct Shell {
    pub state: State,
    pub env: Env,
    pub kind: ContainerKind,
    pub config: Config,
    pub db: WorkerdDatabase,
    pub runtime: Runtime,
    /// What is asked of the platform is asked one after the other: a late `destroy` must not hit the next start.
    pub verbs: Mutex<()>,
    alarm: Alarm,
    /// Requests that wait for the container: told the token when it runs, nothing when it will not.
    waiting: RefCell<Vec<oneshot::Sender<Started>>>,
    woken: Cell<bool>,
}

impl Shell {
    pub fn new(state: State, env: Env, kind: ContainerKind) -> Rc<Self> {
        let mut config = Config::from_env(&env);
        let db = object::open(&state.storage(), lifecycle::MIGRATIONS);
        if kind == ContainerKind::Town {
            config.limits.container = config.limits.container.of_town();
            object::extend(&db, town::MIGRATIONS);
        }
        Rc::new(Self {
            db,
            runtime: Runtime::new(&state, kind, &config),
            alarm: Alarm::new(&state),
            verbs: Mutex::new(()),
            waiting: RefCell::default(),
            woken: Cell::new(false),
            state,
            env,
            kind,
            config,
        })
    }

    /// Never fails: the platform gives up an alarm that does.
    pub fn alarm(self: &Rc<Self>) -> worker::Result<Response> {
        self.alarm.fired();
        if let Err(error) = self.wake().and_then(|()| self.turn(&Input::Tick)) {
            log::error("container", &[("error", &error.to_string())]);
            self.alarm.retry();
        }
        Response::empty()
    }

    /// Before the first event after construction: a start that was under way begins again, and whoever waited for a container's end waits anew.
    pub fn wake(self: &Rc<Self>) -> worker::Result<()> {
        if !self.woken.get() {
            self.turn(&Input::Woke)?;
            self.woken.set(true);
            let known = lifecycle::load(&self.db).map_err(failed)?;
            if let Some(known) = known.filter(|known| matches!(known.state, Life::Running | Life::Stopping)) {
                self.hear_end(known.instance);
            }
        }
        Ok(())
    }

    /// One input: one synchronous transaction, then its outputs.
    pub fn turn(self: &Rc<Self>, input: &Input) -> worker::Result<()> {
        let (now, limits, mut entropy) = (now_ms(), &self.config.limits.container, object::entropy()?);
        let mut work = || lifecycle::receive(&self.db, limits, now, &mut entropy, input);
        let (outputs, notices) = match self.kind {
            ContainerKind::Sandbox => (work().map_err(failed)?, vec![]),
            ContainerKind::Town => notice::noting_its_end(&self.db, now, work).map_err(failed)?,
        };
        self.set_alarm()?;
        for output in outputs {
            match output {
                Output::Running { instance, token } => self.tell_waiting(&Some(Running { instance, token })),
                Output::Unavailable => self.tell_waiting(&None),
                Output::Start { instance, token } => self.start(instance, token),
                Output::Terminate { instance } => self.end(instance, Verb::Terminate),
                Output::Destroy { instance } => self.end(instance, Verb::Destroy),
            }
        }
        for notice in notices {
            self.tell_town(notice);
        }
        Ok(())
    }

    pub fn set_alarm(&self) -> worker::Result<()> {
        let of_life = lifecycle::next_deadline(&self.db, &self.config.limits.container).map_err(failed)?;
        let of_town = match self.kind {
            ContainerKind::Sandbox => None,
            ContainerKind::Town => notice::next(&self.db).map_err(failed)?,
        };
        self.alarm.set(nearest([of_life, of_town]));
        Ok(())
    }

    /// For what happens beside everything else: nobody is left to be told of an error.
    pub fn report(self: &Rc<Self>, input: &Input) {
        if let Err(error) = self.turn(input) {
            log::error("container", &[("error", &error.to_string())]);
        }
    }

    /// Whether this start is still the newest.
    pub fn is_current(&self, instance: &str) -> worker::Result<bool> {
        Ok(lifecycle::load(&self.db).map_err(failed)?.is_some_and(|known| known.instance == instance))
    }

    /// Whether this start is still wanted.
    pub fn is_starting(&self, instance: &str) -> worker::Result<bool> {
        let known = lifecycle::load(&self.db).map_err(failed)?;
        Ok(known.is_some_and(|known| known.instance == instance && known.state == Life::Starting))
    }

    pub fn known_running(&self) -> worker::Result<Started> {
        let known = lifecycle::load(&self.db).map_err(failed)?.filter(|known| known.state == Life::Running);
        Ok(known.map(|known| Running { instance: known.instance, token: known.token }))
    }

    /// The container's token once it runs; None if it does not within the wait.
    pub async fn running(self: &Rc<Self>, lease: Option<String>) -> worker::Result<Started> {
        let (sender, started) = oneshot::channel();
        self.waiting.borrow_mut().push(sender);
        self.turn(&Input::Want { lease })?;
        Ok(within(START_WAIT_MS, started).await.and_then(|answer| answer.ok()).flatten())
    }

    fn tell_waiting(&self, started: &Started) {
        for caller in self.waiting.take() {
            // A caller that went away needs no answer.
            drop(caller.send(started.clone()));
        }
    }

    /// The object's name: a sandbox, or a town.
    pub fn name(&self) -> String {
        self.state.id().name().unwrap_or_default()
    }
}
