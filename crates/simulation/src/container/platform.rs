//! The platform: one container at a time, and its process.
//!
//! | Rule | Here |
//! | --- | --- |
//! | `start` gives a fresh disk, whatever is there already | [`start`] |
//! | SIGTERM lets the process end by itself; SIGKILL does not | [`signal`], [`destroy`] |
//! | An eviction is SIGTERM, and SIGKILL when its time is over; SIGTERM may come twice | [`evict`] |
//! | `sandboxd init` starts a killed process again on the same disk, unless SIGTERM had come; after five times it gives up | [`process_killed`] |
//! | A notice of an end may be lost, late, or doubled | [`notify`] |

use super::Event;
use super::Host;
use super::power;
use crate::run::Fault;
use object_core::time::MINUTE;
use object_core::time::SECOND;

/// A container takes long to start, up to two minutes.
const START_SLOW: Fault = Fault { name: "start-slow", per_million: 40_000 };
/// A container does not start.
const START_FAILS: Fault = Fault { name: "start-fails", per_million: 40_000 };
/// The notice of an end is lost; comes late, up to four minutes; comes twice.
const NOTICE_LOST: Fault = Fault { name: "notice-lost", per_million: 100_000 };
const NOTICE_LATE: Fault = Fault { name: "notice-late", per_million: 100_000 };
const NOTICE_DOUBLED: Fault = Fault { name: "notice-doubled", per_million: 100_000 };
/// SIGTERM comes twice.
const SIGNAL_DOUBLED: Fault = Fault { name: "signal-doubled", per_million: 100_000 };

/// How often a process is started again.
const RESTARTS_MAX: u32 = 5;

/// The platform.
#[derive(Default)]
pub struct Platform {
    /// The one container that it knows of.
    pub current: Option<Container>,
    /// How many were started.
    pub starts: u64,
    processes: u64,
}

/// A container.
pub struct Container {
    /// Which start of it.
    pub instance: String,
    /// Its process, once that is up.
    pub pid: Option<u64>,
    /// The number of its start.
    disk: u64,
    restarts: u32,
    evicted: bool,
}

impl Platform {
    /// Whether there is a container.
    pub fn runs(&self) -> bool {
        self.current.is_some()
    }

    /// The process that runs.
    pub fn pid(&self) -> Option<u64> {
        self.current.as_ref()?.pid
    }

    /// The process that serves requests to this container.
    pub fn process_of(&self, instance: &str) -> Option<u64> {
        self.pid().filter(|_| self.is(instance))
    }

    fn is(&self, instance: &str) -> bool {
        self.current.as_ref().is_some_and(|container| container.instance == instance)
    }
}

/// Starts a container.
pub(super) fn start(host: &mut impl Host, instance: String) {
    if let Some(old) = host.platform().current.take() {
        end(host, old);
    }
    host.platform().starts += 1;
    host.run().note(|| format!("container {instance} starts"));
    if host.run().fault(START_FAILS) {
        // Told at once, or never healthy.
        if host.run().random.percent("start-fails-at-once", 50) {
            return power::start_over(host, instance);
        }
    } else {
        let takes = if host.run().fault(START_SLOW) {
            host.run().random.between("start-slow", 15 * SECOND, 2 * MINUTE)
        } else {
            host.run().random.between("start", 300, 6 * SECOND)
        };
        host.arrange(host.now() + takes, Event::ProcessUp { instance: instance.clone() });
    }
    let platform = host.platform();
    let disk = platform.starts;
    platform.current = Some(Container { instance, pid: None, disk, restarts: 0, evicted: false });
}

/// The process of a container is up.
pub(super) fn process_up(host: &mut impl Host, instance: &str) {
    let platform = host.platform();
    let Some(container) = platform.current.as_mut().filter(|it| it.instance == instance && it.pid.is_none()) else {
        return;
    };
    platform.processes += 1;
    let (pid, disk) = (platform.processes, container.disk);
    container.pid = Some(pid);
    host.run().note(|| format!("process {pid} is up in {instance}"));
    host.start_process(pid, disk);
    power::healthy(host, instance);
}

/// SIGTERM.
pub(super) fn signal(host: &mut impl Host) {
    match host.platform().current.as_ref().map(|container| container.pid) {
        Some(Some(pid)) => host.terminate(pid),
        Some(None) => destroy(host),
        None => {}
    }
}

/// SIGKILL.
pub fn destroy(host: &mut impl Host) {
    let Some(container) = host.platform().current.take() else { return };
    let instance = container.instance.clone();
    host.run().note(|| format!("container {instance} ends"));
    end(host, container);
    notify(host, &instance);
}

/// Ends a container that the platform knows no more.
pub fn end(host: &mut impl Host, container: Container) {
    if let Some(pid) = container.pid {
        host.kill_process(pid);
    }
    host.forget_disk(container.disk);
}

/// Tells the object that a container has ended, as well as it can.
pub fn notify(host: &mut impl Host, instance: &str) {
    if host.run().fault(NOTICE_LOST) {
        return;
    }
    for _ in 0..if host.run().fault(NOTICE_DOUBLED) { 2 } else { 1 } {
        let is_late = host.run().fault(NOTICE_LATE);
        let late = if is_late { host.run().random.between("notice-late", SECOND, 4 * MINUTE) } else { 0 };
        let at = host.now() + late + host.delay();
        host.arrange(at, Event::ExitNotice { instance: instance.to_owned() });
    }
}

/// The platform wants the machine.
pub fn evict(host: &mut impl Host) {
    let Some(container) = host.platform().current.as_mut().filter(|container| !container.evicted) else { return };
    container.evicted = true;
    let instance = container.instance.clone();
    host.run().note(|| format!("container {instance} is evicted"));
    let grace = host.grace();
    if host.run().fault(SIGNAL_DOUBLED) {
        let at = host.now() + host.run().random.between("signal-again", 1, grace);
        host.arrange(at, Event::SignalAgain { instance: instance.clone() });
    }
    host.arrange(host.now() + grace, Event::ContainerKilled { instance });
    signal(host);
}

pub(super) fn signal_again(host: &mut impl Host, instance: &str) {
    if host.platform().is(instance) {
        signal(host);
    }
}

/// The time of an eviction is over.
pub(super) fn container_killed(host: &mut impl Host, instance: &str) {
    if host.platform().is(instance) {
        destroy(host);
    }
}

/// The process is killed.
pub fn process_killed(host: &mut impl Host) {
    let Some(container) = &mut host.platform().current else { return };
    let Some(pid) = container.pid.take() else { return };
    container.restarts += 1;
    let (instance, gives_up) = (container.instance.clone(), container.restarts > RESTARTS_MAX);
    let is_ending = host.is_ending(pid);
    host.run().note(|| format!("process {pid} is killed"));
    host.kill_process(pid);
    if gives_up || is_ending {
        return destroy(host);
    }
    let at = host.now() + host.run().random.between("restart", 100, 2 * SECOND);
    host.arrange(at, Event::ProcessUp { instance });
}

/// A process ended by itself: so does its container, if the platform knows of it.
pub fn process_ended(host: &mut impl Host, pid: u64) {
    if host.platform().pid() == Some(pid) {
        destroy(host);
    }
}
