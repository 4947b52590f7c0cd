//! The containers of the host by name, and what may be done with them.
//!
//! One change of a container at a time: start and deletion take its `change` lock, so a start waits for the end of the instance
//! before it and finds its disk free. Looking and signalling take no lock that is held over a wait.

use super::container;
use super::container::LISTEN_VARIABLE;
use super::container::Phase;
use super::container::ROOT_VARIABLE;
use super::container::Running;
use super::error::CallError;
use super::exit_hook;
use super::tree::LiveInits;
use nix::sys::signal::Signal;
use protocol::host::Container;
use protocol::host::Start;
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::timeout;

/// Names that the host remembers. One machine cannot run nearly as many.
const MOST_NAMES: usize = 1_000;
/// How long containers may take to end by themselves when the host ends.
const STOP_GRACE: Duration = Duration::from_secs(5);

/// A container's name, which is also that of a folder.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Name(String);

impl Name {
    /// Parses a name: 1 to 128 lower-case letters, digits, `-`, `_`, `.`, not only dots.
    pub fn parse(text: &str) -> Result<Self, CallError> {
        let valid = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_' | '.');
        if (1..=128).contains(&text.len()) && text.chars().all(valid) && text.chars().any(|c| c != '.') {
            return Ok(Self(text.to_owned()));
        }
        Err(CallError::InvalidRequest("container name: 1 to 128 of a-z 0-9 - _ . , not only dots".to_owned()))
    }

    fn shown(&self, running: &Running) -> Container {
        Container {
            name: self.0.clone(),
            instance: running.instance.clone(),
            running: running.phase() == Phase::Running,
        }
    }
}

#[derive(Debug, Default)]
struct Slot {
    /// Held by whoever starts or deletes.
    change: tokio::sync::Mutex<()>,
    current: Mutex<Option<Running>>,
}

impl Slot {
    fn current(&self) -> Option<Running> {
        locked(&self.current).clone()
    }
}

/// All containers.
#[derive(Debug)]
pub struct Registry {
    program: PathBuf,
    root: PathBuf,
    live: LiveInits,
    slots: Mutex<HashMap<Name, Arc<Slot>>>,
    stopping: AtomicBool,
}

impl Registry {
    /// Runs containers with `program`, which is this one, in folders below `root`.
    pub fn new(program: PathBuf, root: PathBuf) -> Self {
        let slots = Mutex::default();
        Self { program, root, live: LiveInits::default(), slots, stopping: AtomicBool::new(false) }
    }

    /// The container as it is now.
    pub fn look(&self, name: &Name) -> Result<Container, CallError> {
        self.current(name).map(|running| name.shown(&running))
    }

    /// Where a container that runs listens.
    pub fn address(&self, name: &Name) -> Result<SocketAddr, CallError> {
        match self.current(name) {
            Ok(running) if running.phase() == Phase::Running => Ok(running.address),
            _ => Err(CallError::NotRunningToForward),
        }
    }

    /// Starts the container on an empty disk unless it runs; says whether it was started.
    pub async fn start(&self, name: &Name, start: Start) -> Result<(Container, bool), CallError> {
        check(&start)?;
        let slot = self.slot(name)?;
        let _change = slot.change.lock().await;
        let before = slot.current();
        if let Some(running) = &before {
            if running.phase() == Phase::Running {
                return Ok((name.shown(running), false));
            }
            running.ended().await;
        }
        let folder = self.root.join(&name.0);
        clear_but_log(&folder, before.map(|running| running.instance)).await?;
        // Asked last: from here to the entry in the slot there is no await, so the end of the host finds every container.
        if self.stopping.load(Ordering::Relaxed) {
            return Err(CallError::Stopping);
        }
        let running = container::start(&self.program, &folder, start, self.live.clone())?;
        *locked(&slot.current) = Some(running.clone());
        Ok((name.shown(&running), true))
    }

    /// Signals the container's first process.
    pub fn signal(&self, name: &Name, signal: Signal) -> Result<(), CallError> {
        if self.current(name)?.signal(signal) { Ok(()) } else { Err(CallError::NotRunning) }
    }

    /// Kills the container, if it runs, and removes its disk, if it has one.
    pub async fn delete(&self, name: &Name) -> Result<(), CallError> {
        let slot = self.slot(name)?;
        let _change = slot.change.lock().await;
        if let Some(running) = slot.current() {
            running.kill().await;
            remove_folder(running.folder()).await?;
            *locked(&slot.current) = None;
        }
        Ok(())
    }

    /// Ends every container, gently and then not, and lets no other start.
    pub async fn stop_all(&self) {
        self.stopping.store(true, Ordering::Relaxed);
        let all: Vec<Running> = locked(&self.slots).values().filter_map(|slot| slot.current()).collect();
        for container in &all {
            container.signal(Signal::SIGTERM);
        }
        let all_ended = async {
            for container in &all {
                container.ended().await;
            }
        };
        if timeout(STOP_GRACE, all_ended).await.is_err() {
            for container in &all {
                container.kill().await;
            }
        }
    }

    fn current(&self, name: &Name) -> Result<Running, CallError> {
        let slot = locked(&self.slots).get(name).cloned();
        slot.and_then(|slot| slot.current()).ok_or(CallError::NoSuchContainer)
    }

    fn slot(&self, name: &Name) -> Result<Arc<Slot>, CallError> {
        let mut slots = locked(&self.slots);
        if slots.len() >= MOST_NAMES && !slots.contains_key(name) {
            slots.retain(|_, slot| slot.current().is_some() || Arc::strong_count(slot) > 1);
            if slots.len() >= MOST_NAMES {
                return Err(CallError::TooManyContainers);
            }
        }
        Ok(slots.entry(name.clone()).or_default().clone())
    }
}

/// No code that holds one of these locks can panic, and what they guard is whole at all times.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Refuses what could not be started, or not as asked.
fn check(start: &Start) -> Result<(), CallError> {
    for (name, value) in &start.env {
        if name.is_empty() || name.contains(['=', '\0']) || value.expose().contains('\0') {
            return Err(CallError::InvalidRequest(format!("env: {name:?} is not a variable that a process can have")));
        }
        if name == ROOT_VARIABLE || name == LISTEN_VARIABLE {
            return Err(CallError::InvalidRequest(format!("env: {name} is set by the host")));
        }
    }
    match &start.on_exit {
        Some(hook) if !exit_hook::is_loopback(&hook.url) => {
            Err(CallError::InvalidRequest("onExit.url: http:// and a loopback address expected".to_owned()))
        }
        _ => Ok(()),
    }
}

/// Empties `folder` but for the log of the instance before.
async fn clear_but_log(folder: &Path, before: Option<String>) -> io::Result<()> {
    tokio::fs::create_dir_all(folder).await?;
    let kept = before.map(|instance| format!("{instance}.log"));
    let mut entries = tokio::fs::read_dir(folder).await?;
    while let Some(entry) = entries.next_entry().await? {
        if entry.file_type().await?.is_dir() {
            remove_folder(&entry.path()).await?;
        } else if !kept.as_deref().is_some_and(|kept| entry.file_name().to_string_lossy().starts_with(kept)) {
            tokio::fs::remove_file(entry.path()).await?;
        }
    }
    Ok(())
}

async fn remove_folder(folder: &Path) -> io::Result<()> {
    match tokio::fs::remove_dir_all(folder).await {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::host::ExitHook;
    use protocol::host::Role;
    use protocol::sandbox::Secret;

    #[test]
    fn a_name_is_a_harmless_folder_name() {
        for good in ["a", "ses-0123", "town.one_2", &"x".repeat(128)] {
            assert!(Name::parse(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "A", "a/b", "a b", "ä", "%2e", &"x".repeat(129)] {
            assert!(Name::parse(bad).is_err(), "{bad}");
        }
    }

    fn start(name: &str, value: &str, hook: Option<&str>) -> Start {
        Start {
            role: Role::Town,
            env: [(name.to_owned(), Secret(value.to_owned()))].into(),
            on_exit: hook.map(|url| ExitHook { url: url.to_owned(), token: Secret("t".into()) }),
        }
    }

    #[test]
    fn an_environment_that_no_process_can_have_is_refused() {
        assert!(check(&start("A", "1=2", Some("http://127.0.0.1:1/"))).is_ok());
        for bad in [
            start("", "1", None),
            start("A=B", "1", None),
            start("A", "\0", None),
            start("HOLDFAST_ROOT", "/", None),
            start("HOLDFAST_LISTEN", "0.0.0.0:1", None),
            start("A", "1", Some("http://example.com/")),
        ] {
            assert!(matches!(check(&bad), Err(CallError::InvalidRequest(_))), "{bad:?}");
        }
    }
}
