//! Starting and ending a container. Both happen beside everything else, and report what came of them.

use super::runtime::Call;
use super::runtime::ContainerRuntime;
use super::shell::Shell;
use super::shell::Verb;
use super::town;
use crate::log;
use crate::object::failed;
use crate::object::within;
use crate::route::ContainerKind;
use object_core::lifecycle;
use object_core::lifecycle::Input;
use std::rc::Rc;
use std::time::Duration;
use worker::Delay;
use worker::Method;
use worker::Request;

/// How long a starting container may take for one answer to whether it is healthy, and the pause before the next question.
const HEALTH_MS: i64 = 2_000;
const HEALTH_INTERVAL: Duration = Duration::from_millis(50);
/// How long the platform may take to end a container: meanwhile nothing else is asked of it. Longer than the local host is waited for.
const END_MS: i64 = 20_000;

impl Shell {
    pub fn start(self: &Rc<Self>, instance: String, token: String) {
        let shell = Rc::clone(self);
        self.state.wait_until(async move {
            let started = within(shell.config.limits.container.start_ms, shell.bring_up(&instance, &token)).await;
            if let Some(Ok(())) = started {
                log::info("container_start", &[("instance", &instance)]);
                shell.report(&Input::Started { instance: instance.clone() });
                shell.await_end(instance).await;
                return;
            }
            let error =
                started.and_then(|result| result.err()).map_or("no healthy answer in time".into(), |e| e.to_string());
            log::error("container_start", &[("instance", &instance), ("error", &error)]);
            shell.report(&Input::StartFailed { instance });
        });
    }

    /// Waits for the end of a container that runs, beside everything else.
    pub fn hear_end(self: &Rc<Self>, instance: String) {
        let shell = Rc::clone(self);
        self.state.wait_until(async move { shell.await_end(instance).await });
    }

    /// Reports the end, where the platform says so here and not by a call: as long as this object lives. A crash comes as an error there.
    async fn await_end(self: &Rc<Self>, instance: String) {
        let ended = match self.runtime.ended().await {
            Ok(ended) => ended,
            Err(_) => matches!(self.runtime.running().await, Ok(false)),
        };
        if ended {
            self.report(&Input::Ended { instance });
        }
    }

    /// Starts a container and waits until it is healthy. Bounded by the caller; ends early when the start is no longer wanted.
    async fn bring_up(&self, instance: &str, token: &str) -> worker::Result<()> {
        let verb = self.verbs.lock().await;
        if self.is_starting(instance)? {
            let environment = match self.kind {
                ContainerKind::Sandbox => vec![],
                ContainerKind::Town => town::environment(&self.db, &self.config, &self.name())?,
            };
            self.runtime.start(instance, token, environment).await?;
        }
        drop(verb);
        while self.is_starting(instance)? {
            let request = Request::new("http://container/health", Method::Get)?;
            let call = Call { request: &request, body: None, path: "/health", token, town_config: None };
            let health = within(HEALTH_MS, self.runtime.fetch(call)).await;
            if matches!(health, Some(Ok(answer)) if answer.status_code() == 200) {
                return Ok(());
            }
            Delay::from(HEALTH_INTERVAL).await;
        }
        Err(worker::Error::RustError("superseded".into()))
    }

    /// Ends a container, unless a newer one has taken its place: the platform knows only one.
    pub fn end(self: &Rc<Self>, instance: String, verb: Verb) {
        let shell = Rc::clone(self);
        self.state.wait_until(async move {
            let turn = shell.verbs.lock().await;
            let result = within(END_MS, shell.end_current(&instance, verb)).await;
            drop(turn);
            let error = match result {
                Some(Ok(true)) => return shell.report(&Input::Ended { instance }),
                Some(Ok(false)) => return,
                Some(Err(error)) => error.to_string(),
                None => format!("the platform did not answer within {END_MS} ms"),
            };
            log::error("container", &[("instance", &instance), ("error", &error)]);
        });
    }

    /// Ends the container whatever it does, a start that is under way too. Whether it is known to be gone: if not, this is to be asked again.
    pub async fn end_for_good(self: &Rc<Self>) -> worker::Result<bool> {
        let Some(known) = lifecycle::load(&self.db).map_err(failed)? else { return Ok(true) };
        self.turn(&Input::Ended { instance: known.instance })?;
        let _turn = self.verbs.lock().await;
        let gone = async {
            self.runtime.destroy().await?;
            self.runtime.running().await.map(|running| !running)
        };
        Ok(matches!(within(END_MS, gone).await, Some(Ok(true))))
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
}
