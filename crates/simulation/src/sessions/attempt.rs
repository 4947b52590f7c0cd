//! One attempt at a piece of work, from the disk to the prompt (`crates/sandboxd/src/session/attempt.rs`). What is there already is skipped.

use super::agent::Agent;
use super::call::Ask;
use super::call::Heard;
use super::call::Who;
use super::driver::Command;
use super::task::Cancel;
use super::task::Stage;
use super::task::Task;
use super::task::What;
use super::worker::Worker;
use super::world::World;
use crate::sessions::faults;
use protocol::sandbox::Outcome;
use protocol::sandbox::Progress;
use protocol::sandbox::Resume;
use protocol::sandbox::Step;
use protocol::sandbox::Work;

/// How long new work waits for an execution that is about to end.
const SETTLE_MS: i64 = 10_000;
/// Fetches of a snapshot before a cold start is given up.
const FETCHES_MAX: u32 = 3;

/// How far an attempt is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    Begin,
    Freed,
    Disk,
    Cloned,
    SetUp,
    SetUpDone,
    Conversation,
    Imported,
    Serve,
    Served,
    Turn,
    Cleared,
}

/// Why an attempt failed.
pub struct WorkError {
    code: &'static str,
    message: String,
    retryable: bool,
    /// An execution is in its way: nothing may be cleared under its feet.
    busy: bool,
}

/// A failure, with what `error.rs` says of it.
pub fn work_error(code: &'static str, message: &str, retryable: bool) -> WorkError {
    WorkError { code, message: message.to_owned(), retryable, busy: false }
}

enum Next {
    Wait(Stage),
    Go,
    Done,
}

impl World<'_> {
    /// True: it is over.
    pub fn advance_attempt(&mut self, w: &mut Worker, task: &mut Task) -> bool {
        if task.step == At::Cleared {
            let outcome = task.outcome.take();
            self.tell(w, task, Step::Failed, outcome);
            return true;
        }
        let What::Attempt(work) = &task.what else { return true };
        let work = work.clone();
        loop {
            let next = match task.cancel {
                Some(why) => {
                    let message = format!("{why:?} before the agent took the prompt");
                    Err(work_error("WRAPPER_START_FAILED", &message, why == Cancel::ShutDown))
                }
                None => self.attempt_step(w, task, &work),
            };
            match next {
                Ok(Next::Go) => {}
                Ok(Next::Wait(stage)) => {
                    task.stage = stage;
                    return false;
                }
                Ok(Next::Done) => {
                    let outcome = Outcome::Done { branch: format!("session/{}", w.s), resume: task.resume };
                    self.tell(w, task, Step::Ready, Some(outcome));
                    return true;
                }
                Err(error) => return self.attempt_fails(w, task, error),
            }
        }
    }

    fn attempt_fails(&mut self, w: &mut Worker, task: &mut Task, error: WorkError) -> bool {
        let WorkError { code, message, retryable, busy } = error;
        self.run.note(|| format!("process {}: attempt fails: {code} {message}", w.pid));
        let outcome = Outcome::Failed { code: code.to_owned(), message, retryable };
        if busy {
            self.tell(w, task, Step::Failed, Some(outcome));
            return true;
        }
        self.clear_after(w);
        let at = self.now + self.run.random.between("clear", 1, 2_000);
        (task.failing, task.step, task.outcome) = (true, At::Cleared, Some(outcome));
        task.stage = Stage::Pause { at };
        false
    }

    fn attempt_step(&mut self, w: &mut Worker, task: &mut Task, work: &Work) -> Result<Next, WorkError> {
        let restores = work.snapshot.as_ref().is_some_and(|snapshot| snapshot.restore);
        match task.step {
            At::Begin => {
                let Some(running) = w.job.active() else { return go(task, At::Disk) };
                if work.turn.as_ref().is_some_and(|turn| turn.execution_id == *running) {
                    return Ok(Next::Done);
                }
                task.step = At::Freed;
                Ok(Next::Wait(Stage::Free { until: self.now + SETTLE_MS }))
            }
            At::Freed if w.job.active().is_some() => {
                let error = work_error("WRAPPER_START_FAILED", "Execution is still running", true);
                Err(WorkError { busy: true, ..error })
            }
            At::Freed => go(task, At::Disk),
            At::Disk if self.home(w.disk, w.s).cloned => go(task, At::SetUp),
            At::Disk => {
                for step in [Step::DiskCheck, Step::WorkspaceSetup, Step::Cloning] {
                    self.tell(w, task, step, None);
                }
                self.takes(task, At::Cloned, 300, 8_000, "WORKSPACE_SETUP_FAILED")
            }
            At::Cloned => {
                self.tell(w, task, Step::Branch, None);
                self.home(w.disk, w.s).cloned = true;
                go(task, At::SetUp)
            }
            At::SetUp if self.home(w.disk, w.s).set_up => go(task, At::Conversation),
            At::SetUp => {
                self.tell(w, task, Step::SetupCommands, None);
                self.takes(task, At::SetUpDone, 100, 10_000, "WORKSPACE_SETUP_FAILED")
            }
            At::SetUpDone => {
                self.home(w.disk, w.s).set_up = true;
                go(task, At::Conversation)
            }
            At::Conversation if self.home(w.disk, w.s).imported => go(task, At::Serve),
            At::Conversation => {
                if task.fetches == 0 {
                    self.tell(w, task, Step::KiloSession, None);
                    task.resume = Resume::Fresh;
                }
                if !restores {
                    return self.takes(task, At::Imported, 500, 4_000, "KILO_SERVER_FAILED");
                }
                task.fetches += 1;
                let token = work.report.token.expose().to_owned();
                self.call(w.s, Who::Fetch { pid: w.pid, task: task.id }, Ask::Snapshot { token });
                Ok(Next::Wait(Stage::Answer))
            }
            At::Imported => {
                self.home(w.disk, w.s).imported = true;
                go(task, At::Serve)
            }
            At::Serve if w.agent.is_some() => go(task, At::Turn),
            At::Serve => {
                self.tell(w, task, Step::KiloServer, None);
                self.takes(task, At::Served, 800, 6_000, "KILO_SERVER_FAILED")
            }
            At::Served => {
                let id = self.new_id();
                w.agent = Some(Agent::new(id));
                go(task, At::Turn)
            }
            At::Turn => {
                w.store = Some((work.attempt, work.report.token.expose().to_owned()));
                self.home(w.disk, w.s).store = w.store.clone();
                let Some(turn) = &work.turn else { return Ok(Next::Done) };
                w.unsaved = true;
                w.permissions = work.workspace.permissions;
                self.driver_command(w, Command::Start(Box::new(turn.clone()), task.id));
                Ok(Next::Wait(Stage::Answer))
            }
            At::Cleared => Ok(Next::Done),
        }
    }

    /// A step that takes its time, or fails.
    fn takes(
        &mut self,
        task: &mut Task,
        then: At,
        least: i64,
        most: i64,
        code: &'static str,
    ) -> Result<Next, WorkError> {
        if self.run.fault(faults::STEP_FAILS) {
            return Err(work_error(code, "it did not work this time", true));
        }
        if self.run.fault(faults::STEP_REFUSED) {
            return Err(work_error(code, "it cannot work", false));
        }
        let takes = if self.run.fault(faults::STEP_SLOW) {
            self.run.random.between("step-slow", 20_000, 120_000)
        } else {
            self.run.random.between("step", least, most)
        };
        task.step = then;
        Ok(Next::Wait(Stage::Pause { at: self.now + takes }))
    }

    /// The answer to who wants the snapshot.
    pub fn snapshot_fetched(&mut self, pid: u64, s: usize, id: u64, heard: Heard) {
        let fails = self.run.fault(faults::STORE_FAILS);
        self.with_worker(pid, s, |world, w| {
            let Some(mut task) = w.tasks.remove(&id) else { return };
            let status = match &heard {
                Ok(Ok(_)) if !fails => 200,
                Ok(Err(error)) => error.code.facts().1,
                _ => 500,
            };
            let kept = world.kept.get(&s).cloned();
            task.stage = Stage::Pause { at: world.now + 1_000 };
            match (status, kept) {
                (200, Some(kept)) => {
                    let home = world.home(w.disk, s);
                    (home.agent, home.imported) = (kept.store, true);
                    (task.resume, task.step) = (Resume::Replayed, At::Imported);
                }
                (200 | 404, _) => task.step = At::Imported,
                (500.., _) if task.fetches < FETCHES_MAX => {}
                _ => {
                    let what = "The session's snapshot could not be fetched";
                    let error = work_error("KILO_SERVER_FAILED", what, status >= 500);
                    if world.attempt_fails(w, &mut task, error) {
                        return w.bench.retain(|waiting| *waiting != id);
                    }
                }
            }
            w.tasks.insert(id, task);
        });
    }

    /// The session's loop answers a start.
    pub fn start_answered(&mut self, w: &mut Worker, id: u64, result: Result<(), WorkError>) {
        let Some(mut task) = w.tasks.remove(&id) else { return };
        if task.stage != Stage::Answer || task.step != At::Turn {
            w.tasks.insert(id, task);
            return;
        }
        let over = match result {
            Ok(()) => {
                let outcome = Outcome::Done { branch: format!("session/{}", w.s), resume: task.resume };
                if let What::Attempt(work) = &task.what
                    && let Some(turn) = &work.turn
                {
                    let execution = turn.execution_id.clone();
                    self.add_task(w, What::Keep { execution });
                }
                self.tell(w, &mut task, Step::Ready, Some(outcome));
                true
            }
            Err(error) => self.attempt_fails(w, &mut task, error),
        };
        if over {
            w.bench.retain(|waiting| *waiting != id);
        } else {
            w.tasks.insert(id, task);
        }
    }

    /// Tells a step, or what came of it. Nobody waits for the reports of an attempt that was replaced.
    fn tell(&mut self, w: &mut Worker, task: &mut Task, step: Step, outcome: Option<Outcome>) {
        let What::Attempt(work) = &task.what else { return };
        task.n += 1;
        let message = format!("{step:?}");
        let progress = Progress { attempt: work.attempt, n: task.n, step, message, outcome };
        if let Some((known, _, newest)) = &mut w.attempt
            && *newest == task.id
        {
            *known = progress.clone();
            let token = work.report.token.expose().to_owned();
            self.report(w, task.id, token, progress);
        }
    }
}

fn go(task: &mut Task, step: At) -> Result<Next, WorkError> {
    task.step = step;
    Ok(Next::Go)
}
