//! Worktrees of nobody, when a container ends: they were left by agents that went on to another branch, or by a process that died on this disk
//! (`sandboxd`'s `town/agents/saving`).

use super::faults;
use super::world::Event;
use super::world::World;
use object_core::time::SECOND;
use sandbox_core::drain::Input;
use sandbox_core::drain::Receipt;

impl World<'_> {
    /// Every worktree on the disk of a process, by its branch. One without a clone holds nothing that could be pushed.
    pub fn folders(&self, pid: u64) -> Vec<String> {
        let disk = self.processes.get(&pid).and_then(|process| self.disks.get(&process.disk));
        let all = disk.into_iter().flat_map(|disk| disk.worktrees.keys());
        all.filter(|folder| !folder.starts_with('/')).cloned().collect()
    }

    /// Whether the remote has all that is in a worktree.
    pub fn is_folder_safe(&self, pid: u64, folder: &str) -> bool {
        let disk = self.processes.get(&pid).and_then(|process| self.disks.get(&process.disk));
        let worktree = disk.and_then(|disk| disk.worktrees.get(folder));
        worktree.is_none_or(|worktree| worktree.all().is_subset(&self.remote.files(folder)))
    }

    pub fn save_folder(&mut self, pid: u64, folder: String) -> Option<Input> {
        if self.is_folder_safe(pid, &folder) {
            let receipt = Receipt { branch: folder.clone(), commit: None, pushed: true, reason: None };
            return Some(Input::FolderSaved { folder, receipt });
        }
        let number = self.new_id();
        let takes = if self.run.fault(faults::SAVE_SLOW) {
            self.run.random.between("folder-slow", 20 * SECOND, 80 * SECOND)
        } else {
            self.run.random.between("folder", 200, 12 * SECOND)
        };
        self.processes.get_mut(&pid)?.drain.as_mut()?.folders.insert(folder.clone(), number);
        self.queue.push(self.now + takes, Event::FolderOver { pid, folder, number });
        None
    }

    /// A worktree of nobody was committed and pushed, or not.
    pub fn folder_over(&mut self, pid: u64, folder: String, number: u64) {
        let fails = self.run.fault(faults::PUSH_FAILS);
        let Some(process) = self.processes.get_mut(&pid) else { return };
        let Some(draining) = process.drain.as_mut() else { return };
        if draining.folders.get(&folder) != Some(&number) {
            return;
        }
        draining.folders.remove(&folder);
        let disk = self.disks.get_mut(&process.disk);
        let Some(worktree) = disk.and_then(|disk| disk.worktrees.get_mut(&folder)) else { return };
        worktree.commit();
        if !fails {
            self.remote.take(&folder, &worktree.committed);
        }
        let (commit, reason) = (Some(format!("c{number}")), fails.then(|| "the push failed".to_owned()));
        let receipt = Receipt { branch: folder.clone(), commit, pushed: !fails, reason };
        self.drain_hears(pid, Input::FolderSaved { folder, receipt });
    }
}
