//! Worktrees in which nobody works who is known: an agent went on to another branch, was forgotten, or belonged to a process that died on this disk.
//!
//! What lies in them is work all the same. They are looked for once all agents are frozen, and saved after the agents' own.

/// How far one of them is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Waiting,
    /// It is being saved, until then at most.
    Saving {
        by: i64,
    },
    Done,
}

#[derive(Clone, Debug)]
struct Folder {
    path: String,
    stage: Stage,
}

/// All of them.
#[derive(Clone, Debug, Default)]
pub(super) struct Folders {
    /// They were looked for, or there is no time left for it.
    known: bool,
    all: Vec<Folder>,
}

impl Folders {
    /// These there are. False: that is known already.
    pub fn find(&mut self, paths: impl Iterator<Item = String>) -> bool {
        let is_first = !std::mem::replace(&mut self.known, true);
        if is_first {
            self.all = paths.map(|path| Folder { path, stage: Stage::Waiting }).collect();
        }
        is_first
    }

    /// When the saves under way have lasted too long.
    pub fn deadlines(&self) -> impl Iterator<Item = i64> {
        self.all.iter().filter_map(|folder| match folder.stage {
            Stage::Saving { by } => Some(by),
            Stage::Waiting | Stage::Done => None,
        })
    }

    /// How many are being saved.
    pub fn saving(&self) -> usize {
        self.deadlines().count()
    }

    /// The next one, which is being saved from now on, until `by` at most.
    pub fn begin(&mut self, by: i64) -> Option<String> {
        let next = self.all.iter_mut().find(|folder| folder.stage == Stage::Waiting)?;
        next.stage = Stage::Saving { by };
        Some(next.path.clone())
    }

    /// One was saved. False: nobody waits for that.
    pub fn end(&mut self, path: &str) -> bool {
        let saving = |folder: &&mut Folder| folder.path == path && matches!(folder.stage, Stage::Saving { .. });
        let Some(folder) = self.all.iter_mut().find(saving) else { return false };
        folder.stage = Stage::Done;
        true
    }

    /// Gives up those that should have been saved by `now_ms`.
    pub fn give_up(&mut self, now_ms: i64) -> Vec<String> {
        let is_due = |folder: &&mut Folder| matches!(folder.stage, Stage::Saving { by } if by <= now_ms);
        let due = self.all.iter_mut().filter(is_due);
        due.map(|folder| {
            folder.stage = Stage::Done;
            folder.path.clone()
        })
        .collect()
    }

    /// Gives up those that nobody has begun to save, and to look for more.
    pub fn give_up_rest(&mut self) -> Vec<String> {
        self.known = true;
        let waiting = self.all.iter_mut().filter(|folder| folder.stage == Stage::Waiting);
        waiting
            .map(|folder| {
                folder.stage = Stage::Done;
                folder.path.clone()
            })
            .collect()
    }

    /// Whether nothing is left to do.
    pub fn is_done(&self) -> bool {
        self.known && self.all.iter().all(|folder| folder.stage == Stage::Done)
    }
}
