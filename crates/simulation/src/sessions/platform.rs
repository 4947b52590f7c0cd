//! The platform's containers: one at a time for the sandbox, and its processes.
//!
//! | Rule | Here |
//! | --- | --- |
//! | `start` gives a fresh disk, whatever is there already | [`World::platform_start`] |
//! | SIGTERM lets the process end by itself; SIGKILL does not | [`World::platform_signal`], [`World::platform_destroy`] |
//! | `sandboxd init` starts a killed wrapper again on the same disk; after five times it gives up | [`World::wrapper_killed`] |
//! | A lost container has an empty disk, and a notice of its end may be lost | [`World::container_ends`] |
//! | A machine may be cut off: the platform takes its container for lost while it still reaches the Worker | [`World::cut_off`] |

use super::disk::Disk;
use super::world::Event;
use super::world::World;
use crate::sessions::faults;

/// How often a wrapper is started again.
const RESTARTS_MAX: u32 = 5;

/// The platform.
#[derive(Default)]
pub struct Platform {
    /// The one container that it knows of.
    pub current: Option<Container>,
    /// Those that it takes for lost, and that still work.
    pub cut_off: Vec<Container>,
    /// How many were started.
    pub starts: u64,
}

/// A container.
pub struct Container {
    pub instance: String,
    pub disk: u64,
    pub pid: Option<u64>,
    restarts: u32,
}

impl Platform {
    /// The process that serves requests to this container.
    pub fn process_of(&self, instance: &str) -> Option<u64> {
        self.current.as_ref().filter(|container| container.instance == instance)?.pid
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
                return self.start_failed(&instance);
            }
        } else {
            let takes = if self.run.fault(faults::START_SLOW) {
                self.run.random.between("start-slow", 15_000, 120_000)
            } else {
                self.run.random.between("start", 300, 6_000)
            };
            self.queue.push(self.now + takes, Event::ProcessUp { instance: instance.clone() });
        }
        let disk = self.new_id();
        self.disks.insert(disk, Disk::default());
        self.platform.current = Some(Container { instance, disk, pid: None, restarts: 0 });
    }

    /// The wrapper of a container is up.
    pub fn process_up(&mut self, instance: &str) {
        let Some(container) = self.platform.current.as_ref().filter(|container| container.instance == instance) else {
            return;
        };
        if container.pid.is_some() {
            return;
        }
        let disk = container.disk;
        let pid = self.new_id();
        if let Some(container) = &mut self.platform.current {
            container.pid = Some(pid);
        }
        self.run.note(|| format!("process {pid} is up in {instance}"));
        self.start_process(pid, disk);
        self.sandbox_healthy(instance);
    }

    /// SIGTERM.
    pub fn platform_signal(&mut self) {
        match self.platform.current.as_ref().map(|container| container.pid) {
            Some(Some(pid)) => self.shut_down(pid),
            Some(None) => self.platform_destroy(),
            None => {}
        }
    }

    /// SIGKILL.
    pub fn platform_destroy(&mut self) {
        if let Some(container) = self.platform.current.take() {
            self.container_ends(container);
        }
    }

    /// The platform wants the machine: SIGTERM, and after a while SIGKILL.
    pub fn evict(&mut self) {
        let Some(container) = &self.platform.current else { return };
        let instance = container.instance.clone();
        self.run.note(|| format!("container {instance} is evicted"));
        let at = self.now + self.run.random.between("eviction", 2_000, 40_000);
        self.queue.push(at, Event::ContainerKilled { instance });
        self.platform_signal();
    }

    /// The machine is lost, or its time is up.
    pub fn container_killed(&mut self, instance: &str) {
        if self.platform.current.as_ref().is_some_and(|container| container.instance == instance) {
            self.platform_destroy();
        }
    }

    /// The wrapper is killed; `init` starts it again.
    pub fn wrapper_killed(&mut self) {
        let Some(container) = &mut self.platform.current else { return };
        let Some(pid) = container.pid.take() else { return };
        container.restarts += 1;
        let (instance, gives_up) = (container.instance.clone(), container.restarts > RESTARTS_MAX);
        self.run.note(|| format!("process {pid} is killed"));
        self.kill_process(pid);
        if gives_up {
            return self.platform_destroy();
        }
        let at = self.now + self.run.random.between("restart", 100, 2_000);
        self.queue.push(at, Event::ProcessUp { instance });
    }

    /// The process ended by itself: so does its container.
    pub fn process_ended(&mut self, pid: u64) {
        if self.platform.current.as_ref().is_some_and(|container| container.pid == Some(pid)) {
            return self.platform_destroy();
        }
        if let Some(index) = self.platform.cut_off.iter().position(|container| container.pid == Some(pid)) {
            let container = self.platform.cut_off.remove(index);
            self.end(container);
        }
    }

    fn container_ends(&mut self, container: Container) {
        let instance = container.instance.clone();
        self.run.note(|| format!("container {instance} ends"));
        self.end(container);
        self.notify(instance);
    }

    fn notify(&mut self, instance: String) {
        if !self.run.fault(faults::NOTICE_LOST) {
            let at = self.now + self.delay();
            self.queue.push(at, Event::ExitNotice { instance });
        }
    }

    fn end(&mut self, container: Container) {
        if let Some(pid) = container.pid {
            self.kill_process(pid);
        }
        self.disks.remove(&container.disk);
    }

    /// The platform loses sight of a container that still works.
    pub fn cut_off(&mut self) {
        let Some(container) = self.platform.current.take() else { return };
        let instance = container.instance.clone();
        self.run.note(|| format!("container {instance} is cut off"));
        let at = self.now + self.run.random.between("cut-off", 5_000, 400_000);
        self.queue.push(at, Event::CutOffEnds { instance: instance.clone() });
        self.platform.cut_off.push(container);
        self.notify(instance);
    }

    pub fn cut_off_ends(&mut self, instance: &str) {
        if let Some(index) = self.platform.cut_off.iter().position(|container| container.instance == instance) {
            let container = self.platform.cut_off.remove(index);
            self.end(container);
        }
    }
}
