//! What acts on a session's disk and agent server, one at a time: attempts, stops, the end of the container, recovery
//! (`crates/sandboxd/src/session/state.rs`, `keep.rs`, `recovery.rs`).

use super::agent::Store;
use super::call::Ask;
use super::call::Heard;
use super::call::Who;
use super::driver::Command;
use super::effects::FlightId;
use super::link::Link;
use super::worker::Worker;
use super::world::World;
use crate::sessions::faults;
use protocol::id::ExecutionId;
use protocol::sandbox::Resume;
use protocol::sandbox::Work;
use protocol::trpc::Code;
use sandbox_core::event::Event as OwnEvent;
use sandbox_core::ingest::GaveUp;
use sandbox_core::ingest::Input;
use session_core::message::Outcome;

/// How long a stop waits for the turn to end, and how long the end of the container does.
const TURN_END_MS: i64 = 15_000;
const SHUTDOWN_FLUSH_MS: i64 = 5_000;

/// Why an attempt is not wanted any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cancel {
    Aborted,
    Replaced,
    ShutDown,
    Stopped,
}

/// Something that is being done.
pub struct Task {
    pub id: u64,
    pub what: What,
    pub stage: Stage,
    /// How far an attempt is.
    pub step: super::attempt::At,
    pub cancel: Option<Cancel>,
    /// An attempt that cleans up after itself is not cancelled any more.
    pub failing: bool,
    /// The number of its last report.
    pub n: u64,
    pub resume: Resume,
    /// Fetches of the snapshot.
    pub fetches: u32,
    /// How it ended, once that is known and only the bench is to be cleared.
    pub outcome: Option<protocol::sandbox::Outcome>,
}

/// What is being done.
pub enum What {
    Attempt(Box<Work>),
    /// After a turn: its conversation is kept.
    Keep {
        execution: ExecutionId,
    },
    Recover,
    ShutDown,
    Stop {
        forget: bool,
        flight: FlightId,
    },
}

/// What it waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The session's loop to be idle, or this time.
    Idle { until: i64 },
    /// Its turn.
    Bench,
    /// No execution to be running, or this time.
    Free { until: i64 },
    /// This time.
    Pause { at: i64 },
    /// Somebody's answer.
    Answer,
    /// This execution to be over.
    TurnOf(ExecutionId),
    /// The conversation to be put away.
    Keeping { exported_at: Option<i64> },
}

/// What is kept of a conversation outside of containers.
#[derive(Clone, Default)]
pub struct Kept {
    /// Which attempt put it there.
    pub attempt: u64,
    pub store: Store,
}

impl World<'_> {
    pub fn add_task(&mut self, w: &mut Worker, what: What) -> u64 {
        let id = self.new_id();
        let stage = match &what {
            What::Attempt(_) | What::Recover => {
                w.bench.push_back(id);
                Stage::Bench
            }
            What::Keep { execution } => Stage::TurnOf(execution.clone()),
            What::ShutDown => Stage::Idle { until: self.now + SHUTDOWN_FLUSH_MS },
            What::Stop { .. } => Stage::Idle { until: self.now + TURN_END_MS },
        };
        let task = Task {
            id,
            what,
            stage,
            step: super::attempt::At::Begin,
            cancel: None,
            failing: false,
            n: 0,
            resume: Resume::Resumed,
            fetches: 0,
            outcome: None,
        };
        w.tasks.insert(id, task);
        id
    }

    fn ready(&self, w: &Worker, task: &Task) -> bool {
        let holds_bench = w.bench.front() == Some(&task.id);
        let ready = match &task.stage {
            Stage::Idle { until } => w.run.is_none() || *until <= self.now,
            Stage::Bench => holds_bench,
            Stage::Free { until } => w.job.active().is_none() || *until <= self.now,
            Stage::Pause { at } | Stage::Keeping { exported_at: Some(at) } => *at <= self.now,
            Stage::Answer => false,
            Stage::TurnOf(execution) => w.job.active() != Some(execution),
            Stage::Keeping { exported_at: None } => true,
        };
        ready || (task.cancel.is_some() && holds_bench && !task.failing && matches!(task.what, What::Attempt(_)))
    }

    /// Goes on with one task that can. False: there is none.
    pub fn advance_tasks(&mut self, w: &mut Worker) -> bool {
        let Some(id) = w.tasks.values().find(|task| self.ready(w, task)).map(|task| task.id) else { return false };
        let Some(mut task) = w.tasks.remove(&id) else { return false };
        let over = match task.what {
            What::Attempt(_) => self.advance_attempt(w, &mut task),
            _ => self.advance_other(w, &mut task),
        };
        if over {
            w.bench.retain(|waiting| *waiting != id);
        } else {
            w.tasks.insert(id, task);
        }
        true
    }

    /// When a task goes on by itself.
    pub fn tasks_wake_at(&self, w: &Worker) -> Option<i64> {
        let until = |task: &Task| match &task.stage {
            Stage::Idle { until } | Stage::Free { until } => Some(*until),
            Stage::Pause { at } => Some(*at),
            Stage::Keeping { exported_at } => *exported_at,
            Stage::Answer | Stage::Bench | Stage::TurnOf(_) => None,
        };
        w.tasks.values().filter_map(until).min()
    }

    /// True: it is over.
    fn advance_other(&mut self, w: &mut Worker, task: &mut Task) -> bool {
        match (&task.stage, &task.what) {
            (Stage::Idle { .. }, _) => {
                w.bench.push_back(task.id);
                task.stage = Stage::Bench;
                false
            }
            (Stage::Bench, What::Recover) => {
                if self.recover(w) {
                    task.stage = Stage::Keeping { exported_at: None };
                    w.bench.retain(|waiting| *waiting != task.id);
                    return false;
                }
                true
            }
            (Stage::Bench, _) => {
                self.clear_bench(w);
                task.stage = Stage::Keeping { exported_at: None };
                false
            }
            (Stage::TurnOf(_), _) => {
                task.stage = Stage::Keeping { exported_at: None };
                false
            }
            (Stage::Keeping { exported_at: None }, _) if w.store.is_some() && w.unsaved => {
                w.unsaved = false;
                let at = self.now + self.run.random.between("export", 500, 5_000);
                task.stage = Stage::Keeping { exported_at: Some(at) };
                false
            }
            (Stage::Keeping { exported_at: Some(_) }, _) => {
                let Some((_, token)) = w.store.clone() else { return self.task_over(w, task) };
                let who = Who::Keep { pid: w.pid, task: task.id };
                self.call(w.s, who, Ask::Snapshot { token });
                task.stage = Stage::Answer;
                false
            }
            _ => self.task_over(w, task),
        }
    }

    fn task_over(&mut self, w: &mut Worker, task: &Task) -> bool {
        if let What::Stop { forget, flight } = task.what {
            if forget {
                let home = self.home(w.disk, w.s);
                (home.cloned, home.set_up, home.imported) = (false, false, false);
                (home.agent, home.store) = (Store::default(), None);
                w.forgotten = w.tasks.is_empty();
            }
            self.container_answers(flight, Outcome::Done);
        }
        true
    }

    /// The Worker's answer to who wants to put a snapshot away. Then the bytes go past the object, and the Worker asks once more: a session that was
    /// deleted meanwhile may have been so before there was anything to delete (`src/session/snapshot.rs`).
    pub fn snapshot_may_be_kept(&mut self, pid: u64, s: usize, task: u64, ask: Ask, heard: Heard) {
        let allowed = matches!(heard, Ok(Ok(_))) && !self.run.fault(faults::STORE_FAILS);
        let Ask::Snapshot { token } = &ask else { return };
        let kept = self.processes.get(&pid).and_then(|process| process.sessions.get(&s)).map(|w| {
            let attempt = w.store.as_ref().filter(|(_, known)| known == token).map_or(0, |(attempt, _)| *attempt);
            (w.disk, attempt)
        });
        match kept.filter(|_| allowed) {
            Some((disk, attempt)) => {
                let store = self.home(disk, s).agent.clone();
                self.snapshot_kept(s, Kept { attempt, store });
                self.call(s, Who::Kept { pid, task }, ask);
            }
            None => self.kept_or_not(pid, s, task, false),
        }
    }

    /// The Worker's second answer. While it gets none it asks again.
    pub fn snapshot_was_kept(&mut self, pid: u64, s: usize, task: u64, ask: Ask, heard: Heard) {
        match heard {
            Err(_) => {
                self.call(s, Who::Kept { pid, task }, ask);
            }
            Ok(Err(error)) if error.code == Code::NotFound => {
                self.kept.remove(&s);
                self.kept_or_not(pid, s, task, false);
            }
            Ok(_) => self.kept_or_not(pid, s, task, true),
        }
    }

    fn kept_or_not(&mut self, pid: u64, s: usize, task: u64, kept: bool) {
        self.with_worker(pid, s, |world, w| {
            let Some(task) = w.tasks.remove(&task) else { return };
            w.unsaved |= !kept;
            world.task_over(w, &task);
            w.bench.retain(|waiting| *waiting != task.id);
        });
    }

    /// Ends the agent server and everything else that was started for the session.
    pub fn clear_bench(&mut self, w: &mut Worker) {
        self.agent_ends(w, "the agent server was stopped");
        w.agent = None;
    }

    /// What a former process on this disk had not delivered is delivered; what it ran is declared failed.
    /// True: an execution was cut off.
    fn recover(&mut self, w: &mut Worker) -> bool {
        let addresses: Vec<_> = self.home(w.disk, w.s).addresses.values().cloned().collect();
        let cut_off = addresses.iter().any(|address| !address.over);
        for address in addresses {
            let (execution, over) = (address.execution.clone(), address.over);
            self.run.note(|| format!("process {} recovers {execution}", w.pid));
            let file = self.home(w.disk, w.s).spools.get(&execution).cloned().unwrap_or_default();
            let id = self.new_id();
            let mut link = Link::new(id, &self.limits, address, &file);
            link.whole = false;
            let mut news = self.link_receive(w, &mut link, Input::Open);
            if !over {
                news.extend(self.link_own(w, &mut link, OwnEvent::fatal("Wrapper restarted")));
            }
            news.extend(self.link_says_no_more(w, &mut link));
            self.drains(w, link, news);
        }
        cut_off
    }

    /// An execution is over: unless something is undelivered that the next process could deliver, nobody needs its address or its spool any more.
    pub fn address_settles(&mut self, w: &Worker, execution: &ExecutionId, undelivered: Option<GaveUp>) {
        if let Some(GaveUp::FinishTimeout | GaveUp::Unreachable) = undelivered {
            return;
        }
        let home = self.home(w.disk, w.s);
        home.addresses.remove(execution);
        home.spools.remove(execution);
    }

    /// A failed attempt, or one that nobody wants, leaves nothing of the session running.
    pub fn clear_after(&mut self, w: &mut Worker) {
        self.driver_command(w, Command::Abort);
        self.clear_bench(w);
    }
}
