//! Reports of an attempt: in order, at least once, until the answer is 2xx or says that nobody wants them
//! (`crates/sandboxd/src/session/report.rs`).

use super::call::Ask;
use super::call::Heard;
use super::call::Who;
use super::worker::Worker;
use super::world::World;
use protocol::sandbox::Progress;
use std::collections::VecDeque;

/// The first and the longest pause between posts of the same report, and how long one is posted.
const BACKOFF_MIN_MS: i64 = 250;
const BACKOFF_MAX_MS: i64 = 5_000;
const LIMIT_MS: i64 = 15 * 60_000;

/// The reports of one attempt.
pub struct Reporter {
    token: String,
    queue: VecDeque<Progress>,
    posting: bool,
    begun: i64,
    pause: i64,
    retry_at: i64,
}

impl World<'_> {
    pub fn report(&mut self, w: &mut Worker, task: u64, token: String, progress: Progress) {
        let now = self.now;
        let reporter = w.reporters.entry(task).or_insert_with(|| Reporter {
            token,
            queue: VecDeque::new(),
            posting: false,
            begun: now,
            pause: BACKOFF_MIN_MS,
            retry_at: now,
        });
        reporter.queue.push_back(progress);
    }

    /// Posts one report that is due. False: there is none.
    pub fn post_reports(&mut self, w: &mut Worker) -> bool {
        let now = self.now;
        let due = |reporter: &Reporter| !reporter.posting && !reporter.queue.is_empty() && reporter.retry_at <= now;
        let Some((task, reporter)) = w.reporters.iter_mut().find(|(_, reporter)| due(reporter)) else { return false };
        reporter.posting = true;
        let Some(progress) = reporter.queue.front().cloned() else { return false };
        let (task, token) = (*task, reporter.token.clone());
        self.call(w.s, Who::Reporter { pid: w.pid, task }, Ask::Progress { token, progress });
        true
    }

    pub fn reports_wake_at(&self, w: &Worker) -> Option<i64> {
        let waits = |reporter: &&Reporter| !reporter.posting && !reporter.queue.is_empty();
        w.reporters.values().filter(waits).map(|reporter| reporter.retry_at).min()
    }

    pub fn report_answered(&mut self, pid: u64, s: usize, task: u64, heard: Heard) {
        self.with_worker(pid, s, |world, w| {
            let now = world.now;
            let Some(reporter) = w.reporters.get_mut(&task) else { return };
            reporter.posting = false;
            let passing = match heard {
                Ok(Ok(_)) => {
                    reporter.queue.pop_front();
                    (reporter.begun, reporter.pause, reporter.retry_at) = (now, BACKOFF_MIN_MS, now);
                    return;
                }
                Ok(Err(error)) => matches!(error.code.facts().1, 408 | 425 | 429 | 500..),
                Err(_) => true,
            };
            if !passing || reporter.begun + LIMIT_MS < now {
                w.reporters.remove(&task);
                return;
            }
            reporter.retry_at = now + reporter.pause;
            reporter.pause = (reporter.pause * 2).min(BACKOFF_MAX_MS);
        });
    }
}
