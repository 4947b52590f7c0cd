//! The agent servers of the town: one for each worktree and environment, shared by who has the same, ended with the last of them.
//!
//! The environment belongs to the key, because an agent's tools speak in the name that is in it: two agents in one worktree must
//! not call `gt_done` for each other.

use crate::session::kilo::environment::Environment;
use crate::session::kilo::server::Gone;
use crate::session::kilo::server::Running;
use crate::town::limits::AGENT_SERVERS_MAX;
use std::collections::HashMap;
use std::num::NonZero;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::Weak;
use std::thread::available_parallelism;
use tokio::sync::Semaphore;

/// All of them.
#[derive(Debug)]
pub struct Servers {
    places: Arc<Semaphore>,
    /// A start takes a processor for seconds. More of them at a time make each other slower, until all are out of time.
    starts: Semaphore,
    known: Mutex<HashMap<Key, Slot>>,
}

type Key = (PathBuf, Environment);
/// One start at a time for each key.
type Slot = Arc<tokio::sync::Mutex<Weak<Shared>>>;

struct Shared {
    port: u16,
    gone: Gone,
    running: Mutex<Option<Running>>,
}

/// The use of an agent server. Dropping the last one ends the server.
pub struct Lease {
    shared: Arc<Shared>,
}

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    #[error("all places are taken")]
    Full,
    /// May hold what the server printed, and so secrets.
    #[error("{0}")]
    NotStarted(String),
}

impl Servers {
    /// None runs.
    pub fn new() -> Self {
        Self::with_starts(available_parallelism().map_or(1, NonZero::get))
    }

    /// So many may start at the same time.
    fn with_starts(starts: usize) -> Self {
        let places = Arc::new(Semaphore::new(AGENT_SERVERS_MAX));
        Self { places, starts: Semaphore::new(starts), known: Mutex::default() }
    }

    /// How many run.
    pub fn count(&self) -> usize {
        AGENT_SERVERS_MAX.saturating_sub(self.places.available_permits())
    }

    /// The server of `workdir` with this environment, started if it does not run.
    pub async fn lease(&self, kilo: &Path, workdir: &Path, environment: &Environment) -> Result<Lease, LeaseError> {
        let key = (workdir.to_owned(), environment.clone());
        let slot = {
            let mut known = self.known();
            // Nobody has it, and nobody is about to: only the map does.
            known.retain(|other, slot| *other == key || Arc::strong_count(slot) > 1 || in_use(slot));
            known.entry(key).or_default().clone()
        };
        let mut slot = slot.lock().await;
        if let Some(shared) = slot.upgrade().filter(|shared| shared.gone.borrow().is_none()) {
            return Ok(Lease { shared });
        }
        let place = self.places.clone().try_acquire_owned().map_err(|_| LeaseError::Full)?;
        let _turn = self.starts.acquire().await;
        let running = Running::start(kilo, environment, workdir, place).await.map_err(LeaseError::NotStarted)?;
        let shared = Shared { port: running.port, gone: running.gone(), running: Mutex::new(Some(running)) };
        let lease = Lease { shared: Arc::new(shared) };
        *slot = Arc::downgrade(&lease.shared);
        Ok(lease)
    }

    fn known(&self) -> MutexGuard<'_, HashMap<Key, Slot>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn in_use(slot: &Slot) -> bool {
    slot.try_lock().is_ok_and(|shared| shared.strong_count() > 0)
}

impl Lease {
    /// Where it listens on loopback.
    pub fn port(&self) -> u16 {
        self.shared.port
    }

    /// Tells when the server has ended.
    pub fn gone(&self) -> Gone {
        self.shared.gone.clone()
    }

    /// Gives it back. Who gives back the last one waits for the end of the server and of all that it started. False: something of it is left.
    pub async fn release(self) -> bool {
        let Some(shared) = Arc::into_inner(self.shared) else { return true };
        let running = shared.running.into_inner().unwrap_or_else(PoisonError::into_inner);
        match running {
            Some(running) => running.stop().await,
            None => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::program;

    /// Says that it listens, and lives.
    const KILO: &str = "#!/bin/sh\necho \"kilo server listening on http://127.0.0.1:$5\"\nexec sleep 600\n";

    #[tokio::test]
    async fn who_has_the_same_worktree_and_environment_shares_a_server_until_the_last_one_leaves() {
        let folder = tempfile::tempdir().unwrap();
        let kilo = folder.path().join("kilo");
        program::install(&kilo, KILO);
        let of = |agent: &str| {
            vec![("PATH".to_owned(), std::env::var("PATH").unwrap()), ("AGENT".to_owned(), agent.to_owned())]
        };
        let servers = Servers::new();
        let lease = async |agent: &str| servers.lease(&kilo, folder.path(), &of(agent)).await.unwrap();
        let (first, second) = tokio::join!(lease("a"), lease("a"));
        assert_eq!((first.port(), servers.count()), (second.port(), 1));
        let other = lease("b").await;
        assert_eq!(servers.count(), 2);

        assert!(first.release().await);
        assert!(second.gone().borrow().is_none());
        assert!(second.release().await && other.release().await);
        assert_eq!(servers.count(), 0);
        let again = lease("a").await;
        assert_eq!(servers.count(), 1);
        assert!(again.release().await);
    }

    #[tokio::test]
    async fn when_all_places_are_taken_there_is_none_until_one_is_given_back() {
        let folder = tempfile::tempdir().unwrap();
        let kilo = folder.path().join("kilo");
        program::install(&kilo, KILO);
        let environment = vec![("PATH".to_owned(), std::env::var("PATH").unwrap())];
        let servers = Servers::new();
        let others =
            servers.places.clone().acquire_many_owned(u32::try_from(AGENT_SERVERS_MAX).unwrap()).await.unwrap();
        let refused = servers.lease(&kilo, folder.path(), &environment).await.err().unwrap();
        assert!(matches!(refused, LeaseError::Full), "{refused}");
        drop(others);
        assert!(servers.lease(&kilo, folder.path(), &environment).await.unwrap().release().await);
    }

    /// Fails where another one is starting.
    const ALONE: &str = "#!/bin/sh\nmkdir \"$HOME/starting\" || exit 1\nsleep 0.1\nrmdir \"$HOME/starting\"\n\
        echo \"kilo server listening on http://127.0.0.1:$5\"\nexec sleep 600\n";

    #[tokio::test]
    async fn servers_start_one_after_the_other_where_there_is_one_processor() {
        let folder = tempfile::tempdir().unwrap();
        let kilo = folder.path().join("kilo");
        program::install(&kilo, ALONE);
        let home = folder.path().to_string_lossy().into_owned();
        let of = |agent: &str| {
            let path = std::env::var("PATH").unwrap();
            [("PATH", path.as_str()), ("HOME", &home), ("AGENT", agent)]
                .map(|(n, v)| (n.to_owned(), v.to_owned()))
                .to_vec()
        };
        let servers = Servers::with_starts(1);
        let lease = async |agent: &str| servers.lease(&kilo, folder.path(), &of(agent)).await;
        let (first, second, third) = tokio::join!(lease("a"), lease("b"), lease("c"));
        for lease in [first, second, third] {
            assert!(lease.unwrap().release().await);
        }
    }
}
