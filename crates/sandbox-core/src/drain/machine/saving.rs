//! From the freeze to the last receipt: whose worktree may be saved, in which order, and what the town hears of it.

use super::Drain;
use crate::drain::Kind;
use crate::drain::Output;
use crate::drain::Phase;
use crate::drain::Receipt;
use crate::drain::member::Entry;
use crate::drain::member::Stage;
use protocol::id::AgentId;

/// Why the work of somebody who can be saved was not.
const TOO_LATE: &str = "could not be saved in time";

impl Drain {
    pub(super) fn save_if_frozen(&mut self, now_ms: i64, out: &mut Vec<Output>) {
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
        out.push(Output::Find);
        self.proceed(now_ms, out);
    }

    /// A worktree that an agent names is saved, or left alone, for that agent.
    pub(super) fn on_found(&mut self, now_ms: i64, folders: Vec<String>, out: &mut Vec<Output>) {
        let entries = &self.entries;
        let is_named = |folder: &String| entries.iter().any(|entry| entry.member.worktree.as_ref() == Some(folder));
        if self.folders.find(folders.into_iter().filter(|folder| !is_named(folder))) {
            self.proceed(now_ms, out);
        }
    }

    fn loose(entry: &Entry) -> Option<(Option<String>, String)> {
        match &entry.stage {
            Stage::Loose { reason } => Some((entry.member.worktree.clone(), reason.clone())),
            _ => None,
        }
    }

    pub(super) fn on_saved(&mut self, now_ms: i64, agent: &AgentId, receipt: Receipt, out: &mut Vec<Output>) {
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
    pub(super) fn on_step(&mut self, now_ms: i64, agent: &AgentId, stage: &Stage, out: &mut Vec<Output>) {
        let Some(entry) = self.at(agent, stage) else { return };
        entry.stage = if *stage == Stage::Telling && entry.was_live { Stage::Reporting } else { Stage::Done };
        if entry.stage == Stage::Reporting {
            out.push(Output::Report(agent.clone()));
        }
        self.proceed(now_ms, out);
    }

    /// Begins what there is a place for; ends the phase if nothing is left.
    pub(super) fn proceed(&mut self, now_ms: i64, out: &mut Vec<Output>) {
        if self.phase == Phase::Saving {
            let by = now_ms.saturating_add(self.limits.save_ms);
            while let Some(entry) = self.next_to_save() {
                entry.stage = Stage::Saving { by };
                out.push(Output::Save(entry.member.id.clone()));
            }
            while self.has_place()
                && let Some(folder) = self.folders.begin(by)
            {
                out.push(Output::SaveFolder(folder));
            }
        }
        let is_done = self.folders.is_done() && self.entries.iter().all(|entry| entry.stage == Stage::Done);
        match self.phase {
            Phase::Saving if is_done => self.close(now_ms, out),
            // The end of the process would lose what is still being told.
            Phase::Closing if is_done && self.cleared => self.finish(out),
            _ => {}
        }
    }

    /// Whether one more worktree can be saved now.
    fn has_place(&self) -> bool {
        let saving = self.entries.iter().filter(|entry| matches!(entry.stage, Stage::Saving { .. })).count();
        saving.saturating_add(self.folders.saving()) < self.limits.saves_at_once.max(1)
    }

    /// Whose worktree is saved next, if there is a place. Two saves in one worktree would remove each other's locks, so one waits for the
    /// other. Work that was interrupted goes first: who ended by itself in the same worktree then finds nothing left to save.
    fn next_to_save(&mut self) -> Option<&mut Entry> {
        if !self.has_place() {
            return None;
        }
        let saving = self.entries.iter().filter(|entry| matches!(entry.stage, Stage::Saving { .. }));
        let busy: Vec<Option<String>> = saving.map(|entry| entry.member.worktree.clone()).collect();
        let waiting = self.entries.iter_mut().filter(|entry| entry.stage == Stage::Frozen);
        waiting.filter(|entry| !busy.contains(&entry.member.worktree)).min_by_key(|entry| !entry.was_live)
    }

    /// Gives up what should have been saved by `now_ms`; at the end of all time also what was never begun.
    pub(super) fn abandon(&mut self, now_ms: i64, out: &mut Vec<Output>) {
        for index in 0..self.entries.len() {
            let Some(Entry { stage, member, .. }) = self.entries.get(index) else { continue };
            match stage {
                Stage::Saving { by } if *by <= now_ms => out.push(Output::Abandon(member.id.clone())),
                Stage::Frozen if now_ms == i64::MAX => {}
                _ => continue,
            }
            self.give_receipt(index, Receipt::without(TOO_LATE), out);
        }
        let mut late = self.folders.give_up(now_ms);
        out.extend(late.iter().cloned().map(Output::AbandonFolder));
        if now_ms == i64::MAX {
            late.extend(self.folders.give_up_rest());
        }
        let receipt = || Receipt::without(TOO_LATE);
        out.extend(late.into_iter().map(|folder| Output::LogFolder { folder, receipt: receipt() }));
    }
}
