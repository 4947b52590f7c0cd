//! The machine: phases, their ends, and the way of each agent through the last of them.

mod saving;

use super::DrainLimits;
use super::Input;
use super::Member;
use super::Output;
use super::Phase;
use super::Standing;
use super::folders::Folders;
use super::member::Entry;
use super::member::Stage;
use protocol::id::AgentId;

/// A drain, before, during and after.
#[derive(Clone, Debug)]
pub struct Drain {
    limits: DrainLimits,
    phase: Phase,
    /// When the phase has lasted too long.
    phase_by: Option<i64>,
    /// When everything has.
    all_by: Option<i64>,
    entries: Vec<Entry>,
    /// Worktrees of nobody.
    folders: Folders,
    /// Nudges that were not answered yet.
    nudging: Vec<AgentId>,
    /// Whether the town's list of live agents is empty, or could not be emptied.
    cleared: bool,
}

impl Drain {
    /// A drain that has not begun.
    pub fn new(limits: DrainLimits) -> Self {
        Self {
            limits,
            phase: Phase::Calm,
            phase_by: None,
            all_by: None,
            entries: vec![],
            folders: Folders::default(),
            nudging: vec![],
            cleared: false,
        }
    }

    /// Where it stands.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// When a `Tick` is due.
    pub fn next_deadline(&self) -> Option<i64> {
        let saves = self.entries.iter().filter_map(|entry| match entry.stage {
            Stage::Saving { by } => Some(by),
            _ => None,
        });
        saves.chain(self.folders.deadlines()).chain(self.phase_by).chain(self.all_by).min()
    }

    /// Takes what happened at `now_ms`, returns what to do, in order.
    pub fn receive(&mut self, now_ms: i64, input: Input) -> Vec<Output> {
        let mut out = Vec::new();
        match input {
            Input::Cleared if self.phase == Phase::Closing => {
                self.cleared = true;
                self.proceed(now_ms, &mut out);
            }
            Input::FolderSaved { folder, receipt } if self.folders.end(&folder) => {
                out.push(Output::LogFolder { folder, receipt });
                self.proceed(now_ms, &mut out);
            }
            Input::Found(folders) if self.phase == Phase::Saving => self.on_found(now_ms, folders, &mut out),
            Input::Frozen { agent, outcome } => self.on_frozen(now_ms, &agent, outcome, &mut out),
            Input::Members(members) => self.on_members(now_ms, members, &mut out),
            Input::Notified if self.phase == Phase::Notifying => self.nudge(now_ms, &mut out),
            Input::Nudged(agent) => {
                self.nudging.retain(|nudged| *nudged != agent);
                self.wait_if_nudged(now_ms, &mut out);
            }
            Input::Reported(agent) => self.on_step(now_ms, &agent, &Stage::Reporting, &mut out),
            Input::Saved { agent, receipt } => self.on_saved(now_ms, &agent, receipt, &mut out),
            Input::Terminate(members) if self.phase == Phase::Calm => {
                self.entries = members.into_iter().map(Entry::new).collect();
                self.all_by = Some(now_ms.saturating_add(self.limits.total_ms));
                self.enter(now_ms, Phase::Notifying, self.limits.notify_ms, &mut out);
                out.push(Output::Notify);
            }
            Input::Tick => self.tick(now_ms, &mut out),
            Input::Told(agent) => self.on_step(now_ms, &agent, &Stage::Telling, &mut out),
            Input::Cleared | Input::FolderSaved { .. } | Input::Found(_) | Input::Notified | Input::Terminate(_) => {}
        }
        out
    }

    fn enter(&mut self, now_ms: i64, phase: Phase, limit_ms: i64, out: &mut Vec<Output>) {
        self.phase = phase;
        self.phase_by = Some(now_ms.saturating_add(limit_ms));
        out.push(Output::Entered(phase));
    }

    /// Before the freeze, agents come and go by themselves; after it, only we end them.
    fn on_members(&mut self, now_ms: i64, members: Vec<Member>, out: &mut Vec<Output>) {
        if !matches!(self.phase, Phase::Notifying | Phase::Nudging | Phase::Waiting) {
            return;
        }
        for member in members {
            match self.entries.iter_mut().find(|entry| entry.member.id == member.id) {
                Some(entry) => entry.member = member,
                None => self.entries.push(Entry::new(member)),
            }
        }
        if matches!(self.phase, Phase::Nudging | Phase::Waiting) {
            self.nudge_all(out);
        }
        self.freeze_if_calm(now_ms, out);
    }

    fn nudge(&mut self, now_ms: i64, out: &mut Vec<Output>) {
        self.enter(now_ms, Phase::Nudging, self.limits.nudge_ms, out);
        self.nudge_all(out);
        self.wait_if_nudged(now_ms, out);
    }

    fn nudge_all(&mut self, out: &mut Vec<Output>) {
        for entry in self.entries.iter_mut().filter(|entry| entry.wants_nudge()) {
            entry.nudged = true;
            // It gets something to do: until it is heard to be idle again, it works.
            entry.member.standing = Standing::Working;
            self.nudging.push(entry.member.id.clone());
            out.push(Output::Nudge(entry.member.id.clone()));
        }
    }

    fn wait_if_nudged(&mut self, now_ms: i64, out: &mut Vec<Output>) {
        if self.phase == Phase::Nudging && self.nudging.is_empty() {
            self.enter(now_ms, Phase::Waiting, self.limits.wait_ms, out);
        }
        self.freeze_if_calm(now_ms, out);
    }

    /// An agent whose nudge is on its way is not calm, whatever was seen of it before.
    fn freeze_if_calm(&mut self, now_ms: i64, out: &mut Vec<Output>) {
        if self.phase == Phase::Waiting && self.nudging.is_empty() && !self.entries.iter().any(Entry::is_active) {
            self.freeze(now_ms, out);
        }
    }

    fn freeze(&mut self, now_ms: i64, out: &mut Vec<Output>) {
        self.enter(now_ms, Phase::Freezing, self.limits.freeze_ms, out);
        for entry in &mut self.entries {
            entry.was_live = entry.is_live();
            entry.stage = match entry.member.standing {
                Standing::Ended => Stage::Frozen,
                Standing::Loose => Stage::Loose { reason: "processes of the agent are still running".to_owned() },
                Standing::AtRest | Standing::Idle | Standing::Starting | Standing::Working => Stage::Freezing,
            };
            if entry.was_live {
                out.push(Output::Freeze(entry.member.id.clone()));
            }
        }
        self.save_if_frozen(now_ms, out);
    }

    fn on_frozen(&mut self, now_ms: i64, agent: &AgentId, outcome: Result<(), String>, out: &mut Vec<Output>) {
        let Some(entry) = self.at(agent, &Stage::Freezing) else { return };
        entry.stage = match outcome {
            Ok(()) => Stage::Frozen,
            Err(reason) => Stage::Loose { reason },
        };
        self.save_if_frozen(now_ms, out);
    }

    fn close(&mut self, now_ms: i64, out: &mut Vec<Output>) {
        self.enter(now_ms, Phase::Closing, self.limits.close_ms, out);
        out.push(Output::ClearRegistry);
    }

    fn finish(&mut self, out: &mut Vec<Output>) {
        self.phase = Phase::Over;
        (self.phase_by, self.all_by) = (None, None);
        out.extend([Output::Entered(Phase::Over), Output::Over]);
    }

    fn tick(&mut self, now_ms: i64, out: &mut Vec<Output>) {
        let is_due = |by: Option<i64>| by.is_some_and(|by| by <= now_ms);
        if is_due(self.all_by) {
            self.abandon(i64::MAX, out);
            return self.finish(out);
        }
        self.abandon(now_ms, out);
        self.proceed(now_ms, out);
        if !is_due(self.phase_by) {
            return;
        }
        match self.phase {
            Phase::Notifying => self.nudge(now_ms, out),
            Phase::Nudging => {
                self.nudging.clear();
                self.wait_if_nudged(now_ms, out);
            }
            Phase::Waiting => self.freeze(now_ms, out),
            Phase::Freezing => {
                for entry in self.entries.iter_mut().filter(|entry| entry.stage == Stage::Freezing) {
                    entry.stage = Stage::Loose { reason: "could not be stopped in time".to_owned() };
                }
                self.save_if_frozen(now_ms, out);
            }
            Phase::Saving => {
                self.abandon(i64::MAX, out);
                self.close(now_ms, out);
            }
            Phase::Closing => self.finish(out),
            Phase::Calm | Phase::Over => {}
        }
    }

    fn at(&mut self, agent: &AgentId, stage: &Stage) -> Option<&mut Entry> {
        self.entries.iter_mut().find(|entry| entry.member.id == *agent && entry.stage == *stage)
    }
}
