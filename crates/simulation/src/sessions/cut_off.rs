//! A machine may be cut off: the platform takes its container for lost while it still reaches the Worker. Here that lasts for a while, and is
//! told as any other end.

use super::world::Event;
use super::world::World;
use crate::container::platform;
use crate::container::platform::Container;
use object_core::time::SECOND;

impl World<'_> {
    /// The platform loses sight of a container that still works.
    pub fn cut_off(&mut self) {
        let Some(container) = self.platform.current.take() else { return };
        let instance = container.instance.clone();
        self.run.note(|| format!("container {instance} is cut off"));
        let at = self.now + self.run.random.between("cut-off", 5 * SECOND, 400 * SECOND);
        self.queue.push(at, Event::CutOffEnds { instance: instance.clone() });
        self.cut_off.push(container);
        platform::notify(self, &instance);
    }

    pub fn cut_off_ends(&mut self, instance: &str) {
        self.end_cut_off(|container| container.instance == instance);
    }

    /// A process ended by itself, that of a container that is cut off too.
    pub fn process_ended(&mut self, pid: u64) {
        platform::process_ended(self, pid);
        self.end_cut_off(|container| container.pid == Some(pid));
    }

    fn end_cut_off(&mut self, which: impl Fn(&Container) -> bool) {
        if let Some(index) = self.cut_off.iter().position(which) {
            let container = self.cut_off.remove(index);
            platform::end(self, container);
        }
    }
}
