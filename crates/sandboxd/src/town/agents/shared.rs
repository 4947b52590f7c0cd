//! What all agents of the town share, and what goes on beside them.

use super::servers::Servers;
use crate::town::config::Config;
use crate::town::feed::Feed;
use crate::town::git::COMMAND_TIMEOUT;
use crate::town::git::GitManager;
use crate::town::git::Settings;
use crate::town::home::Home;
use crate::town::limits::EVENT_POSTS_BYTES_MAX;
use crate::town::live::Live;
use crate::town::tools::Tools;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::sync::Semaphore;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// One of them for the whole process.
pub struct Shared {
    /// What the process was started with.
    pub config: Config,
    /// Calls to agent servers.
    pub http: reqwest::Client,
    /// What the town said since.
    pub live: Arc<Live>,
    /// The town.
    pub home: Arc<Home>,
    /// Who watches.
    pub feed: Feed,
    /// All git.
    pub git: Arc<GitManager>,
    /// What agents may ask of the town.
    pub tools: Arc<Tools>,
    /// Where this process listens.
    pub address: SocketAddr,
    /// All agent servers.
    pub servers: Servers,
    /// Changes whenever an agent does.
    pub changed: watch::Sender<()>,
    /// The list of live agents is not what the town was told last.
    pub registry_changed: Notify,
    /// Room for events on their way to the town, in bytes.
    pub posts: Arc<Semaphore>,
    /// What nobody waits for until the process ends.
    pub background: Background,
}

impl Shared {
    /// For a town that has no agents yet.
    pub fn new(config: Config, http: reqwest::Client, live: Arc<Live>, home: Arc<Home>, address: SocketAddr) -> Self {
        let git = Arc::new(GitManager::new(Settings {
            root: config.root.clone(),
            path: config.path.clone(),
            allow_loopback: config.allow_loopback,
            command_timeout: COMMAND_TIMEOUT,
        }));
        Self {
            config,
            http,
            live,
            tools: Arc::new(Tools::new(home.clone(), git.clone())),
            home,
            address,
            feed: Feed::new(),
            git,
            servers: Servers::new(),
            changed: watch::channel(()).0,
            registry_changed: Notify::new(),
            posts: Arc::new(Semaphore::new(EVENT_POSTS_BYTES_MAX)),
            background: Background::default(),
        }
    }
}

/// Work that goes on by itself, and is awaited for a while at the end, so that the exit does not lose it.
#[derive(Debug, Default)]
pub struct Background(Mutex<JoinSet<()>>);

impl Background {
    /// Begins it.
    pub fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let mut running = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while running.try_join_next().is_some() {}
        running.spawn(work);
    }

    /// Waits until all of it is done, for so long; the rest is given up. True if nothing was.
    pub async fn finish(&self, timeout: Duration) -> bool {
        let mut running = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        let all = async { while running.join_next().await.is_some() {} };
        tokio::time::timeout(timeout, all).await.is_ok()
    }
}
