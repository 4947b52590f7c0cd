//! Requests to a session object that wait for an answer: front ends, reports of containers, access to snapshots.
//!
//! A request, or its answer, may be lost; then whoever called does not know what became of it.

use super::world::Event;
use super::world::World;
use crate::durable::Stopped;
use crate::sessions::faults;
use protocol::sandbox::Progress;
use protocol::trpc::Code;
use protocol::trpc::TrpcError;
use session_core::message::Answer;
use session_core::message::Call;
use session_core::message::Input;

/// How long a front end's call waits inside the object (`src/session/mod.rs`, `CALL_MS`).
const CALL_MS: i64 = 13 * 60_000;

pub type CallId = u64;

/// What a caller hears: the object's answer, or that the connection was lost.
pub type Heard = Result<Result<Answer, TrpcError>, &'static str>;

/// What is asked.
#[derive(Clone, Debug)]
pub enum Ask {
    Front(Call),
    Progress { token: String, progress: Progress },
    Snapshot { token: String },
}

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub enum Who {
    User,
    /// The reporter of a task.
    Reporter {
        pid: u64,
        task: u64,
    },
    /// A task that fetches the snapshot.
    Fetch {
        pid: u64,
        task: u64,
    },
    /// A task that puts a snapshot away.
    Keep {
        pid: u64,
        task: u64,
    },
    /// The Worker, once a snapshot was put away: whether its session is still there.
    Kept {
        pid: u64,
        task: u64,
    },
}

/// A request under way.
pub struct Caller {
    pub s: usize,
    pub ask: Ask,
    pub who: Who,
    answered: bool,
}

impl World<'_> {
    /// Sends a request to object `s`.
    pub fn call(&mut self, s: usize, who: Who, ask: Ask) -> CallId {
        let id = self.new_id();
        self.callers.insert(id, Caller { s, ask, who, answered: false });
        if self.run.fault(faults::REQUEST_LOST) {
            self.answer_call(id, Err("the request was lost"));
        } else {
            let at = self.now + self.delay();
            self.queue.push(at, Event::CallArrives(id));
        }
        id
    }

    pub fn call_arrives(&mut self, id: CallId) {
        let Some(caller) = self.callers.get(&id) else { return };
        let (s, ask) = (caller.s, caller.ask.clone());
        if let Err(stopped) = self.wake(s) {
            return self.fail_call(id, stopped);
        }
        let number = self.run.random.entropy("reply-to").reply_to();
        self.memory(s).waiting.insert(number, id);
        let incarnation = self.objects[s].incarnation;
        self.queue.push(self.now + CALL_MS, Event::CallTimesOut { s, incarnation, number, call: id });
        let reply = number;
        self.objects[s].shadow.asking = match &ask {
            Ask::Snapshot { token } => Some(token.clone()),
            Ask::Front(_) | Ask::Progress { .. } => None,
        };
        let input = match ask {
            Ask::Front(call) => Input::Call { reply, call },
            Ask::Progress { token, progress } => Input::Progress { reply, token, progress },
            Ask::Snapshot { token } => Input::SnapshotAccess { reply, token },
        };
        if let Err(stopped) = self.turn(s, input) {
            if let Some(memory) = &mut self.objects[s].memory {
                memory.waiting.remove(&number);
            }
            self.fail_call(id, stopped);
        }
    }

    fn fail_call(&mut self, id: CallId, stopped: Stopped) {
        self.answer_call(
            id,
            match stopped {
                Stopped::Crashed => Err("the object was lost"),
                Stopped::Failed(error) => Ok(Err(TrpcError::new(Code::InternalServerError, error))),
            },
        );
    }

    pub fn call_times_out(&mut self, s: usize, incarnation: u64, number: object_core::ReplyTo, call: CallId) {
        let object = &mut self.objects[s];
        if object.incarnation == incarnation
            && let Some(memory) = &mut object.memory
            && memory.waiting.remove(&number).is_some()
        {
            self.answer_call(call, Ok(Err(TrpcError::retryable("TIMEOUT", "The work goes on"))));
        }
    }

    /// Sends the answer on its way. The first one counts.
    pub fn answer_call(&mut self, id: CallId, mut heard: Heard) {
        let Some(caller) = self.callers.get_mut(&id) else { return };
        if std::mem::replace(&mut caller.answered, true) {
            return;
        }
        if heard.is_ok() && self.run.fault(faults::ANSWER_LOST) {
            heard = Err("the answer was lost");
        }
        let at = self.now + self.delay();
        self.queue.push(at, Event::CallAnswered { call: id, heard });
    }

    pub fn call_answered(&mut self, id: CallId, heard: Heard) {
        let Some(caller) = self.callers.remove(&id) else { return };
        match caller.who {
            Who::User => self.user_hears(caller.s, caller.ask, heard),
            Who::Reporter { pid, task } => self.report_answered(pid, caller.s, task, heard),
            Who::Fetch { pid, task } => self.snapshot_fetched(pid, caller.s, task, heard),
            Who::Keep { pid, task } => self.snapshot_may_be_kept(pid, caller.s, task, caller.ask, heard),
            Who::Kept { pid, task } => self.snapshot_was_kept(pid, caller.s, task, caller.ask, heard),
        }
    }
}
