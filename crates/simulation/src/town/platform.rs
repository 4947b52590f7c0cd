//! The platform's container: one at a time for the town, and its process.
//!
//! | Rule | Here |
//! | --- | --- |
//! | `start` gives a fresh disk, whatever is there already | [`World::platform_start`] |
//! | SIGTERM lets the process end by itself, for 15 min at most; SIGKILL does not | [`World::evict`], [`World::platform_signal`], [`World::platform_destroy`] |
//! | `sandboxd init` starts a killed process again on the same disk; after five times it gives up | [`World::process_killed`] |
//! | A notice of an end may be lost, late, or doubled | [`World::platform_destroy`] |

use super::faults;
use super::git::Disk;
use super::world::Event;
use super::world::World;
use object_core::time::MINUTE;
use object_core::time::SECOND;

/// How often a process is started again.
const RESTARTS_MAX: u32 = 5;
/// From SIGTERM to SIGKILL.
const GRACE_MS: i64 = 15 * MINUTE;

/// The platform.
#[derive(Default)]
pub struct Platform {
    current: Option<Container>,
    /// How many were started.
    pub starts: u64,
}

/// A container.
struct Container {
    instance: String,
    disk: u64,
    pid: Option<u64>,
    restarts: u32,
    evicted: bool,
}

impl Platform {
    /// The process that serves requests to this container.
    pub fn process_of(&self, instance: &str) -> Option<u64> {
        self.current.as_ref().filter(|container| container.instance == instance)?.pid
    }

    /// Whether there is a container.
    pub fn runs(&self) -> bool {
        self.current.is_some()
    }

    /// The process that runs.
    pub fn pid(&self) -> Option<u64> {
        self.current.as_ref()?.pid
    }
}

impl World<'_> {
    pub fn platform_start(&mut self, instance: String) {
        if let Some(old) = self.platform.current.take() {
            self.end(old);
        }
        self.platform.starts += 1;
        self.run.note(|| format!("container {instance} starts"));
        if self.run.fault(faults::START_FAILS) {
            // Told at once, or never healthy.
            if self.run.random.percent("start-fails-at-once", 50) {
                return self.start_over(self.keeper.incarnation, instance);
            }
        } else {
            let takes = if self.run.fault(faults::START_SLOW) {
                self.run.random.between("start-slow", 15 * SECOND, 2 * MINUTE)
            } else {
                self.run.random.between("start", 300, 6 * SECOND)
            };
            self.queue.push(self.now + takes, Event::ProcessUp { instance: instance.clone() });
        }
        let disk = self.new_id();
        self.disks.insert(disk, Disk::default());
        self.platform.current = Some(Container { instance, disk, pid: None, restarts: 0, evicted: false });
    }

    /// The process of a container is up.
    pub fn process_up(&mut self, instance: &str) {
        let pid = self.new_id();
        let Some(container) = self.platform.current.as_mut().filter(|container| container.instance == instance) else {
            return;
        };
        if container.pid.is_some() {
            return;
        }
        container.pid = Some(pid);
        let disk = container.disk;
        self.start_process(pid, disk);
        self.keeper_healthy(instance);
    }

    /// SIGTERM.
    pub fn platform_signal(&mut self) {
        match self.platform.current.as_ref().map(|container| container.pid) {
            Some(Some(pid)) => self.terminate(pid),
            Some(None) => self.platform_destroy(),
            None => {}
        }
    }

    /// SIGKILL.
    pub fn platform_destroy(&mut self) {
        let Some(container) = self.platform.current.take() else { return };
        let instance = container.instance.clone();
        self.run.note(|| format!("container {instance} ends"));
        self.end(container);
        if self.run.fault(faults::NOTICE_LOST) {
            return;
        }
        for _ in 0..if self.run.fault(faults::NOTICE_DOUBLED) { 2 } else { 1 } {
            let late = self.run.fault(faults::NOTICE_LATE);
            let late = if late { self.run.random.between("notice-late", SECOND, 4 * MINUTE) } else { 0 };
            let at = self.now + late + self.delay();
            self.queue.push(at, Event::ExitNotice { instance: instance.clone() });
        }
    }

    /// The platform wants the machine: SIGTERM, and after a while SIGKILL.
    pub fn evict(&mut self) {
        let Some(container) = self.platform.current.as_mut().filter(|container| !container.evicted) else { return };
        container.evicted = true;
        let instance = container.instance.clone();
        self.run.note(|| format!("container {instance} is evicted"));
        let grace = if self.run.fault(faults::GRACE_SHORT) {
            self.run.random.between("grace", 2 * SECOND, GRACE_MS)
        } else {
            GRACE_MS
        };
        if self.run.fault(faults::SIGNAL_DOUBLED) {
            let at = self.now + self.run.random.between("signal-again", 1, grace);
            self.queue.push(at, Event::SignalAgain { instance: instance.clone() });
        }
        self.queue.push(self.now + grace, Event::ContainerKilled { instance });
        self.platform_signal();
    }

    pub fn signal_again(&mut self, instance: &str) {
        if self.platform.current.as_ref().is_some_and(|container| container.instance == instance) {
            self.platform_signal();
        }
    }

    /// Its time is up.
    pub fn container_killed(&mut self, instance: &str) {
        if self.platform.current.as_ref().is_some_and(|container| container.instance == instance) {
            self.platform_destroy();
        }
    }

    /// The process is killed; `init` starts it again, and hands SIGTERM on if it had come.
    pub fn process_killed(&mut self) {
        let Some(container) = &mut self.platform.current else { return };
        let Some(pid) = container.pid.take() else { return };
        container.restarts += 1;
        let (instance, gives_up) = (container.instance.clone(), container.restarts > RESTARTS_MAX);
        let is_ending = self.processes.get(&pid).is_some_and(|process| process.acks.is_draining());
        self.kill_process(pid);
        if gives_up || is_ending {
            return self.platform_destroy();
        }
        let at = self.now + self.run.random.between("restart", 100, 2_000);
        self.queue.push(at, Event::ProcessUp { instance });
    }

    /// The process ended by itself: so does its container.
    pub fn process_ended(&mut self, pid: u64) {
        if self.platform.pid() == Some(pid) {
            self.platform_destroy();
        }
    }

    fn end(&mut self, container: Container) {
        if let Some(pid) = container.pid {
            self.kill_process(pid);
        }
        self.disks.remove(&container.disk);
    }
}
