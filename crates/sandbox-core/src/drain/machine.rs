//! The machine: phases, their ends, and the way of each agent through the last of them.

use super::DrainLimits;
use super::Input;
use super::Kind;
use super::Member;
use super::Output;
use super::Phase;
use super::Receipt;
use super::Standing;
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
        saves.chain(self.phase_by).chain(self.all_by).min()
    }

    /// Takes what happened at `now_ms`, returns what to do, in order.
    pub fn receive(&mut self, now_ms: i64, input: Input) -> Vec<Output> {
        let mut out = Vec::new();
        match input {
            Input::Cleared if self.phase == Phase::Closing => {
                self.cleared = true;
                self.proceed(now_ms, &mut out);
            }
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
            Input::Cleared | Input::Notified | Input::Terminate(_) => {}
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

    fn save_if_frozen(&mut self, now_ms: i64, out: &mut Vec<Output>) {
        if self.phase != Phase::Freezing || self.entries.iter().any(|entry| entry.stage == Stage::Freezing) {
            return;
        }
        self.enter(now_ms, Phase::Saving, self.limits.save_all_ms, out);
        // Who may still write forbids it for everybody in the same worktree.
        let loose: Vec<(Option<String>, String)> = self.entries.iter().filter_map(Self::loose).collect();
        for index in 0..self.entries.len() {
            let Some(entry) = self.entries.get(index) else { continue };
            let worktree = entry.member.worktree.clone();
            let shared = loose.iter().find(|(place, _)| place.is_some() && *place == worktree);
            let refused = match (&entry.stage, shared) {
                (Stage::Loose { reason }, _) => Some(reason.clone()),
                (_, Some((_, reason))) => Some(format!("another agent of the same worktree: {reason}")),
                (_, None) if worktree.is_none() => Some("there was no worktree yet".to_owned()),
                (_, None) => None,
            };
            if let Some(reason) = refused {
                self.give_receipt(index, Receipt::without(reason), out);
            }
        }
        self.proceed(now_ms, out);
    }

    fn loose(entry: &Entry) -> Option<(Option<String>, String)> {
        match &entry.stage {
            Stage::Loose { reason } => Some((entry.member.worktree.clone(), reason.clone())),
            _ => None,
        }
    }

    fn on_saved(&mut self, now_ms: i64, agent: &AgentId, receipt: Receipt, out: &mut Vec<Output>) {
        let saving = |entry: &Entry| entry.member.id == *agent && matches!(entry.stage, Stage::Saving { .. });
        let Some(index) = self.entries.iter().position(saving) else { return };
        self.give_receipt(index, receipt, out);
        self.proceed(now_ms, out);
    }

    /// The receipt of an agent is known: it is logged, and told to the town if it has a bead.
    fn give_receipt(&mut self, index: usize, receipt: Receipt, out: &mut Vec<Output>) {
        let Some(entry) = self.entries.get_mut(index) else { return };
        let agent = entry.member.id.clone();
        out.push(Output::Log { agent: agent.clone(), receipt: receipt.clone() });
        // Of one that ended by itself and left nothing, the town has nothing to learn.
        let is_news = entry.was_live || receipt.commit.is_some();
        if entry.member.kind == Kind::Worker && is_news {
            entry.stage = Stage::Telling;
            out.push(Output::Tell { agent, receipt });
        } else {
            entry.stage = Stage::Done;
        }
    }

    /// The town answered, or could not.
    fn on_step(&mut self, now_ms: i64, agent: &AgentId, stage: &Stage, out: &mut Vec<Output>) {
        let Some(entry) = self.at(agent, stage) else { return };
        entry.stage = if *stage == Stage::Telling && entry.was_live { Stage::Reporting } else { Stage::Done };
        if entry.stage == Stage::Reporting {
            out.push(Output::Report(agent.clone()));
        }
        self.proceed(now_ms, out);
    }

    /// Begins what there is a place for; ends the phase if nothing is left.
    fn proceed(&mut self, now_ms: i64, out: &mut Vec<Output>) {
        if self.phase == Phase::Saving {
            let by = now_ms.saturating_add(self.limits.save_ms);
            while let Some(entry) = self.next_to_save() {
                entry.stage = Stage::Saving { by };
                out.push(Output::Save(entry.member.id.clone()));
            }
        }
        let is_done = self.entries.iter().all(|entry| entry.stage == Stage::Done);
        match self.phase {
            Phase::Saving if is_done => self.close(now_ms, out),
            // The end of the process would lose what is still being told.
            Phase::Closing if is_done && self.cleared => self.finish(out),
            _ => {}
        }
    }

    /// Whose worktree is saved next, if there is a place. Two saves in one worktree would remove each other's locks, so one waits for the
    /// other. Work that was interrupted goes first: who ended by itself in the same worktree then finds nothing left to save.
    fn next_to_save(&mut self) -> Option<&mut Entry> {
        let saving = self.entries.iter().filter(|entry| matches!(entry.stage, Stage::Saving { .. }));
        let busy: Vec<Option<String>> = saving.map(|entry| entry.member.worktree.clone()).collect();
        if busy.len() >= self.limits.saves_at_once.max(1) {
            return None;
        }
        let waiting = self.entries.iter_mut().filter(|entry| entry.stage == Stage::Frozen);
        waiting.filter(|entry| !busy.contains(&entry.member.worktree)).min_by_key(|entry| !entry.was_live)
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

    /// Gives up what should have been saved by `now_ms`; at the end of all time also what was never begun.
    fn abandon(&mut self, now_ms: i64, out: &mut Vec<Output>) {
        for index in 0..self.entries.len() {
            let Some(Entry { stage, member, .. }) = self.entries.get(index) else { continue };
            match stage {
                Stage::Saving { by } if *by <= now_ms => out.push(Output::Abandon(member.id.clone())),
                Stage::Frozen if now_ms == i64::MAX => {}
                _ => continue,
            }
            self.give_receipt(index, Receipt::without("could not be saved in time"), out);
        }
    }

    fn at(&mut self, agent: &AgentId, stage: &Stage) -> Option<&mut Entry> {
        self.entries.iter_mut().find(|entry| entry.member.id == *agent && entry.stage == *stage)
    }
}
