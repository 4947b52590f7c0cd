//! One session in one process of `sandboxd session` (`crates/sandboxd/src/session/state.rs`, `sessions.rs`, `http.rs`).
//!
//! | Rule | Where it is so |
//! | --- | --- |
//! | A known attempt answers where it stands; a newer one makes an older one give up; an older one is a conflict | `Session::submit` |
//! | What acts on the disk and on the agent server takes turns, in the order in which it came | `bench` |
//! | `abort` ends the execution, or the attempt that is about to start one | `Session::abort` |
//! | `stop` and SIGTERM end everything, and keep the conversation; `forget` leaves nothing | `stop`, `shut_down`, `forget` |
//! | A restarted process delivers what is in the spools, and declares what ran failed | `recovery.rs` |

use super::agent::Agent;
use super::disk::Home;
use super::driver::Running;
use super::driver::Todo;
use super::effects::FlightId;
use super::effects::failed;
use super::effects::refused;
use super::link::Link;
use super::link::News;
use super::report::Reporter;
use super::task::Cancel;
use super::task::Task;
use super::task::What;
use super::world::Event;
use super::world::World;
use protocol::id::KiloSessionId;
use protocol::sandbox::Permissions;
use protocol::sandbox::Progress;
use protocol::sandbox::Step;
use protocol::sandbox::TurnPlan;
use protocol::sandbox::Work;
use sandbox_core::job::Job;
use session_core::message::Effect;
use session_core::message::Outcome;
use std::collections::BTreeMap;
use std::collections::VecDeque;

/// A process.
pub struct Process {
    pub disk: u64,
    /// SIGTERM was seen.
    pub draining: bool,
    /// When it exits, whatever is still to be done.
    pub exits_at: Option<i64>,
    pub skew_ms: i64,
    /// When its clock last jumped.
    pub jumped_at: i64,
    pub sessions: BTreeMap<usize, Worker>,
}

/// A session in a process.
pub struct Worker {
    pub pid: u64,
    pub s: usize,
    pub disk: u64,
    pub skew_ms: i64,
    pub kilo: KiloSessionId,
    /// Who allows what the agent wants to do, by the newest work.
    pub permissions: Permissions,
    /// The newest attempt, and its task.
    pub attempt: Option<(Progress, bool, u64)>,
    pub tasks: BTreeMap<u64, Task>,
    /// Who acts, and who waits to.
    pub bench: VecDeque<u64>,
    pub reporters: BTreeMap<u64, Reporter>,
    pub agent: Option<Agent>,
    pub job: Job,
    /// Asked for, and not yet accepted by the job machine: the turn, and the task that waits.
    pub starting: Option<(TurnPlan, u64)>,
    pub run: Option<Running>,
    /// Links whose executions are over.
    pub links: Vec<Link>,
    pub todo: VecDeque<Todo>,
    pub calls: BTreeMap<(i64, u64), super::driver::Call>,
    /// A turn has begun since the conversation was last kept.
    pub unsaved: bool,
    /// The right to put the conversation away, and of which attempt. None: not yet, or not any more.
    pub store: Option<(u64, String)>,
    wakes_at: Option<i64>,
    pub forgotten: bool,
}

impl Worker {
    /// The container's clock.
    pub fn now(&self, now: i64) -> i64 {
        now + self.skew_ms
    }
}

impl World<'_> {
    pub fn home(&mut self, disk: u64, s: usize) -> &mut Home {
        self.disks.entry(disk).or_default().homes.entry(s).or_default()
    }

    /// A process comes up, and recovers what a former one on its disk left.
    pub fn start_process(&mut self, pid: u64, disk: u64) {
        let process =
            Process { disk, draining: false, exits_at: None, skew_ms: 0, jumped_at: 0, sessions: BTreeMap::new() };
        self.processes.insert(pid, process);
        let left: Vec<usize> = self
            .disks
            .get(&disk)
            .into_iter()
            .flat_map(|disk| disk.homes.iter())
            .filter(|(_, home)| !home.addresses.is_empty() || home.store.is_some())
            .map(|(s, _)| *s)
            .collect();
        for s in left {
            self.add_worker(pid, s);
            self.with_worker(pid, s, |world, w| {
                // Whether the predecessor had kept the conversation nobody knows.
                w.store = world.home(disk, s).store.clone();
                w.unsaved = w.store.is_some();
                world.add_task(w, What::Recover);
            });
        }
    }

    /// A process is gone, at once; whoever is connected to it hears 1006, or nothing.
    pub fn kill_process(&mut self, pid: u64) {
        self.processes.remove(&pid);
        let ends: Vec<u64> = self.sockets_of(pid);
        for socket in ends {
            self.peer_closes(socket, true);
        }
    }

    fn add_worker(&mut self, pid: u64, s: usize) {
        let process = &self.processes[&pid];
        if process.sessions.contains_key(&s) {
            return;
        }
        let (disk, skew_ms) = (process.disk, process.skew_ms);
        let known = self.home(disk, s).prompted.clone();
        let worker = Worker {
            pid,
            s,
            disk,
            skew_ms,
            kilo: self.objects[s].kilo_session.clone(),
            permissions: Permissions::default(),
            attempt: None,
            tasks: BTreeMap::new(),
            bench: VecDeque::new(),
            reporters: BTreeMap::new(),
            agent: None,
            job: Job::new(&self.limits, known),
            starting: None,
            run: None,
            links: Vec::new(),
            todo: VecDeque::new(),
            calls: BTreeMap::new(),
            unsaved: false,
            store: None,
            wakes_at: None,
            forgotten: false,
        };
        if let Some(process) = self.processes.get_mut(&pid) {
            process.sessions.insert(s, worker);
        }
    }

    /// Something happens to a session in a process. None: it is not there.
    pub fn with_worker<R>(&mut self, pid: u64, s: usize, act: impl FnOnce(&mut Self, &mut Worker) -> R) -> Option<R> {
        let mut w = self.processes.get_mut(&pid)?.sessions.remove(&s)?;
        let result = act(self, &mut w);
        self.settle(&mut w);
        let again = self.wakes_at(&w);
        if again != w.wakes_at {
            w.wakes_at = again;
            if let Some(at) = again {
                self.queue.push(at.max(self.now), Event::Worker { pid, s });
            }
        }
        if !w.forgotten
            && let Some(process) = self.processes.get_mut(&pid)
        {
            process.sessions.insert(s, w);
        }
        self.exit_if_done(pid);
        Some(result)
    }

    /// Its next deadline has come.
    pub fn worker_wakes(&mut self, pid: u64, s: usize) {
        self.with_worker(pid, s, |world, w| {
            if w.wakes_at.is_some_and(|at| at <= world.now) {
                w.wakes_at = None;
            }
        });
    }

    /// Something happens to one of its links. False: it is not there.
    pub fn with_link(
        &mut self,
        pid: u64,
        s: usize,
        id: u64,
        act: impl FnOnce(&mut Self, &Worker, &mut Link) -> Vec<News>,
    ) -> bool {
        let found = self.with_worker(pid, s, |world, w| {
            if let Some(run) = &mut w.run
                && let Some(mut link) = run.link.take_if(|link| link.id == id)
            {
                let news = act(world, w, &mut link);
                w.todo.extend(news.into_iter().map(Todo::News));
                if let Some(run) = &mut w.run {
                    run.link = Some(link);
                }
                return true;
            }
            let Some(index) = w.links.iter().position(|link| link.id == id) else { return false };
            let mut link = w.links.remove(index);
            let news = act(world, w, &mut link);
            world.drains(w, link, news);
            true
        });
        found.unwrap_or(false)
    }

    /// A link whose execution is over goes on by itself until everything is acknowledged.
    pub fn drains(&mut self, w: &mut Worker, link: Link, news: Vec<News>) {
        for item in news {
            let undelivered = match item {
                News::Drained => None,
                News::GaveUp(why) => Some(why),
                News::Command(_) | News::Ready => continue,
            };
            let execution = link.execution().clone();
            return self.address_settles(w, &execution, undelivered);
        }
        w.links.push(link);
    }

    /// A call of the container's API arrives (`http.rs`).
    pub fn container_request(&mut self, pid: u64, flight: FlightId) {
        let (s, effect) = (self.flights[&flight].s, self.flights[&flight].effect.clone());
        let known = self.processes.get(&pid).is_some_and(|process| process.sessions.contains_key(&s));
        let newest =
            self.processes.get(&pid).and_then(|process| process.sessions.get(&s)).and_then(|w| w.attempt.as_ref());
        let newest = newest.map_or(0, |(progress, ..)| progress.attempt);
        let outcome = match effect {
            Effect::Work { work, .. } => {
                if self.processes.get(&pid).is_none_or(|process| process.draining) {
                    failed("This container is about to end; ask another one")
                } else {
                    self.add_worker(pid, s);
                    let submitted = self.with_worker(pid, s, |world, w| world.submit(w, *work));
                    submitted.unwrap_or_else(|| failed("the session is gone"))
                }
            }
            Effect::Abort { .. } if known => {
                self.with_worker(pid, s, |world, w| {
                    world.cancel(w, true, Cancel::Aborted);
                    world.driver_command(w, super::driver::Command::Abort);
                });
                Outcome::Done
            }
            Effect::Abort { .. } => refused("NOT_FOUND", "Nothing of this session runs here"),
            Effect::Judge { verdict, .. } => {
                let taken = self.with_worker(pid, s, |world, w| world.judged(w, &verdict)).flatten();
                match taken {
                    Some(true) => Outcome::Done,
                    Some(false) => refused("NOT_WANTED", "The agent does not wait for this answer"),
                    None => refused("NO_JOB", "No turn runs"),
                }
            }
            Effect::Stop { attempt: Some(attempt), .. } if newest > attempt => Outcome::Done,
            Effect::Stop { forget, .. } if known || forget => {
                self.add_worker(pid, s);
                self.with_worker(pid, s, |world, w| {
                    if forget {
                        w.store = None;
                    }
                    world.cancel(w, false, Cancel::Stopped);
                    world.driver_command(w, super::driver::Command::Abort);
                    world.add_task(w, What::Stop { forget, flight });
                });
                return;
            }
            _ => Outcome::Done,
        };
        self.container_answers(flight, outcome);
    }

    fn submit(&mut self, w: &mut Worker, work: Work) -> Outcome {
        if let Some((progress, ..)) = &w.attempt {
            let known = progress.attempt;
            if work.attempt == known {
                return Outcome::Progress(progress.clone());
            }
            if work.attempt < known {
                return refused("JOB_CONFLICT", "A newer attempt is known");
            }
            self.cancel(w, false, Cancel::Replaced);
        }
        let message = "Accepted".to_owned();
        let progress = Progress { attempt: work.attempt, n: 0, step: Step::DiskCheck, message, outcome: None };
        let has_turn = work.turn.is_some();
        let task = self.add_task(w, What::Attempt(Box::new(work)));
        w.attempt = Some((progress.clone(), has_turn, task));
        Outcome::Progress(progress)
    }

    /// Makes the newest attempt give up; `turn`: only if it is about to start one.
    pub fn cancel(&mut self, w: &mut Worker, turn: bool, why: Cancel) {
        if let Some((_, has_turn, task)) = &w.attempt
            && (*has_turn || !turn)
            && let Some(task) = w.tasks.get_mut(task)
        {
            task.cancel = Some(why);
        }
    }

    /// SIGTERM: all sessions end at once, in 20 s at most.
    pub fn shut_down(&mut self, pid: u64) {
        let Some(process) = self.processes.get_mut(&pid) else { return };
        if std::mem::replace(&mut process.draining, true) {
            return;
        }
        self.run.note(|| format!("process {pid} gets SIGTERM"));
        let exits_at = self.now + 20_000;
        process.exits_at = Some(exits_at);
        let sessions: Vec<usize> = process.sessions.keys().copied().collect();
        self.queue.push(exits_at, Event::ProcessExits { pid });
        for s in sessions {
            self.with_worker(pid, s, |world, w| {
                world.cancel(w, false, Cancel::ShutDown);
                world.driver_command(w, super::driver::Command::Shutdown);
                world.add_task(w, What::ShutDown);
            });
        }
        self.exit_if_done(pid);
    }

    fn exit_if_done(&mut self, pid: u64) {
        let Some(process) = self.processes.get_mut(&pid).filter(|process| process.draining) else { return };
        let ends = |task: &Task| matches!(task.what, What::ShutDown);
        if !process.sessions.values().any(|w| w.tasks.values().any(ends)) {
            process.exits_at = Some(self.now);
            let at = self.now + 5;
            self.queue.push(at, Event::ProcessExits { pid });
        }
    }

    pub fn process_exits(&mut self, pid: u64) {
        if self.processes.get(&pid).is_some_and(|process| process.exits_at.is_some_and(|at| at <= self.now)) {
            self.process_ended(pid);
        }
    }
}
