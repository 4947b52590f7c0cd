//! A container: its object, as `src/container` has it around `object_core::lifecycle`, and the platform that runs it. Each profile has one, and is its
//! [`Host`].
//!
//! | Module | What it models |
//! | --- | --- |
//! | [`object`] | the object: construction, turns, alarm, loss (`src/container/shell.rs`) |
//! | [`passage`] | requests that wait for the container, and pass through the object (`src/container/forward.rs`) |
//! | [`power`] | what the object asks of the platform, and what it hears of that (`src/container/power.rs`) |
//! | [`platform`] | the platform: the container, its disk, its process |

pub mod object;
pub mod passage;
pub mod platform;
pub mod power;

use crate::run::Fault;
use crate::run::Run;
use database::Database;
use database::DatabaseError;
use object::ContainerObject;
use object_core::lifecycle::Output;
use passage::Refusal;
use platform::Platform;
use power::Verb;

/// A world that has a container.
pub trait Host: Sized {
    /// An alarm rings late.
    const ALARM_LATE: Fault;

    /// The run.
    fn run(&mut self) -> &mut Run;
    /// The time, in milliseconds since the Unix epoch.
    fn now(&self) -> i64;
    /// How long a message takes between two machines.
    fn delay(&mut self) -> i64;
    /// Has [`happens`] called with `event` at that time.
    fn arrange(&mut self, at: i64, event: Event);
    /// The container's object.
    fn object(&mut self) -> &mut ContainerObject;
    /// The platform.
    fn platform(&mut self) -> &mut Platform;

    /// The lease under which a request wants the container.
    fn lease(&self, _request: u64) -> Option<String> {
        None
    }

    /// A request is at the process. Its answer is for whoever asked if [`ContainerObject::passes`].
    fn deliver(&mut self, pid: u64, request: u64);
    /// The object answers a request itself.
    fn refuse(&mut self, request: u64, why: Refusal);

    /// A process comes up, on a disk that is empty if nothing was there yet.
    fn start_process(&mut self, pid: u64, disk: u64);
    /// A process gets SIGTERM.
    fn terminate(&mut self, pid: u64);
    /// Whether it got one.
    fn is_ending(&self, pid: u64) -> bool;
    /// A process is gone at once.
    fn kill_process(&mut self, pid: u64);
    /// A disk is gone.
    fn forget_disk(&mut self, disk: u64);
    /// How long the platform waits after the SIGTERM of an eviction.
    fn grace(&mut self) -> i64;

    /// Does the lifecycle's part of a turn, with what the object owes of its own in the same write. Returns the news that are due, too.
    fn receive(
        _db: &dyn Database,
        _now: i64,
        work: impl FnOnce() -> Result<Vec<Output>, DatabaseError>,
    ) -> Result<(Vec<Output>, Vec<i64>), DatabaseError> {
        Ok((work()?, Vec::new()))
    }

    /// When the next news are due.
    fn next_news(_db: &dyn Database) -> Result<Option<i64>, DatabaseError> {
        Ok(None)
    }

    /// Sends news.
    fn tell(&mut self, _news: i64) {}
}

/// What will happen to a container.
#[derive(Debug)]
pub enum Event {
    Alarm { version: u64 },
    Beside { incarnation: u64, what: Beside },
    ContainerKilled { instance: String },
    ExitNotice { instance: String },
    ProcessUp { instance: String },
    SignalAgain { instance: String },
}

/// What its object does beside everything else: a lost object does nothing of it.
#[derive(Debug)]
pub enum Beside {
    ForwardTimesOut { request: u64 },
    Forwarded { request: u64, instance: String, tries: u32 },
    StartOver { instance: String },
    Verb { verb: Verb, instance: String },
    WaitOver { request: u64, tries: u32 },
}

/// What was arranged happens.
pub fn happens(host: &mut impl Host, event: Event) {
    match event {
        Event::Alarm { version } => object::alarm(host, version),
        Event::Beside { incarnation, .. } if incarnation != host.object().incarnation => {}
        Event::Beside { what, .. } => match what {
            Beside::ForwardTimesOut { request } => passage::unanswered(host, request),
            Beside::Forwarded { request, instance, tries } => passage::forwarded(host, request, instance, tries),
            Beside::StartOver { instance } => power::start_over(host, instance),
            Beside::Verb { verb, instance } => power::act(host, verb, instance),
            Beside::WaitOver { request, tries } => passage::wait_over(host, request, tries),
        },
        Event::ContainerKilled { instance } => platform::container_killed(host, &instance),
        Event::ExitNotice { instance } => power::exit_notice(host, instance),
        Event::ProcessUp { instance } => platform::process_up(host, &instance),
        Event::SignalAgain { instance } => platform::signal_again(host, &instance),
    }
}
