//! The rules of `CloudAgentSession`: one agent session of one user.
//!
//! One way in, [`Session::receive`]: one transaction, an `Err` undoes all of it. One way out, a [`Turn`]: outputs that the shell performs after the
//! write, and the time of the next alarm. No clock, no randomness, no I/O: time, entropy and what only the runtime knows are arguments.
//!
//! | Module | What it owns |
//! | --- | --- |
//! | [`message`] | inputs, outputs, effects: the whole surface |
//! | `register` | from `prepareSession` to a directory entry, deletion |
//! | `work` | preparation and start: what is asked of the container, and its progress |
//! | `execution` | executions: begin, run, end, exactly once |
//! | [`callback`] | who is told when an execution ended |
//! | `ingest` | the wrapper's socket: handshake, frames, disconnects |
//! | `question` | what waits for a person |
//! | [`stream`] | viewers: filters, replay, `connected` |
//! | `verdict` | answers to what the agent asks |
//! | `deadline` | the table of deadlines that the alarm follows |
//! | `view` | `getSession` |
//! | `store` | the rows |
//! | `snapshot` | who may read and replace what is kept of the conversation |
//! | `rest` | a session without work: idle stop, retention, end of life |
//! | [`limits`] | every number |
#![cfg_attr(test, allow(clippy::arithmetic_side_effects))]

pub mod callback;
mod deadline;
mod execution;
mod ingest;
pub mod limits;
pub mod message;
mod question;
mod register;
mod rest;
mod snapshot;
mod store;
pub mod stream;
#[cfg(test)]
mod tests;
mod verdict;
mod view;
mod work;

pub use view::sandbox_id;
pub use work::percent_encode;

use crate::limits::Limits;
use crate::message::Call;
use crate::message::Effect;
use crate::message::Facts;
use crate::message::Input;
use crate::message::Output;
use crate::message::Turn;
use crate::store::MIGRATIONS;
use database::Database;
use database::DatabaseError;
use database::Migration;
use object_core::entropy::Entropy;
use object_core::event_log::EventLog;
use object_core::nearest;
use object_core::owed::Owed;
use protocol::id::SessionId;
use protocol::trpc::Code;
use protocol::trpc::TrpcError;

/// What the object is told once.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where containers reach the Worker: `http(s)://host`, without a slash at the end.
    pub worker_url: String,
    /// Every number.
    pub limits: Limits,
}

/// One session. Holds nothing that its tables do not.
pub struct Session {
    config: Config,
    migrations: &'static [Migration],
    log: EventLog,
    /// Whether the tables are known to be there, and to be of the newest version.
    migrated: bool,
}

impl Session {
    /// A session over whatever its database holds.
    pub fn new(config: Config) -> Self {
        Self::with_migrations(config, MIGRATIONS)
    }

    fn with_migrations(config: Config, migrations: &'static [Migration]) -> Self {
        Self { config, migrations, log: EventLog::default(), migrated: false }
    }

    /// Whether there is, or was, such a session. Anybody may ask for any name: only a registration makes tables.
    pub fn exists(&self, db: &dyn Database) -> Result<bool, DatabaseError> {
        if self.migrated { Ok(true) } else { store::exists(db) }
    }

    /// Takes one input. What comes back is to be performed after the write; on `Err` nothing happened.
    pub fn receive(
        &mut self,
        db: &dyn Database,
        now: i64,
        facts: &Facts,
        entropy: &mut Entropy,
        input: Input,
    ) -> Result<Turn, DatabaseError> {
        let Self { config, migrations, log, migrated } = self;
        if !*migrated {
            if !matches!(&input, Input::Call { call: Call::Register(_), .. }) && !store::exists(db)? {
                return Ok(Turn { outputs: absent(input), alarm: None });
            }
            database::migrate(db, migrations)?;
            *migrated = true;
        }
        let result = database::transaction(db, || {
            let mut step = Step { db, now, facts, entropy, config, log, session: None, outputs: Vec::new() };
            step.take(input)?;
            let alarm = step.next_deadline()?;
            Ok(Turn { outputs: step.outputs, alarm })
        });
        if result.is_err() {
            self.log.forget();
        }
        result
    }
}

/// What a session that was never registered has to say. Nothing is written.
fn absent(input: Input) -> Vec<Output> {
    let not_found = || TrpcError::new(Code::NotFound, "Session not found");
    match input {
        Input::Call { reply, call } => {
            let result = match call {
                Call::Delete => Ok(register::already_deleted()),
                Call::Interrupt => Ok(execution::interrupted(false, "Session not found", false)),
                Call::Initiate
                | Call::Judge(_)
                | Call::KeepLogs { .. }
                | Call::Register(_)
                | Call::Send(_)
                | Call::Update(_)
                | Call::View => Err(not_found()),
            };
            vec![Output::Reply { to: reply, result }]
        }
        Input::Progress { reply, .. } | Input::SnapshotAccess { reply, .. } => {
            vec![Output::Reply { to: reply, result: Err(not_found()) }]
        }
        Input::StreamOpen { .. } => vec![Output::Refuse { status: 404, message: "Session not found".into() }],
        Input::IngestOpen(_) => vec![Output::Refuse { status: 404, message: "Execution not found".into() }],
        Input::Expire
        | Input::IngestClosed { .. }
        | Input::IngestFrames(_)
        | Input::Outcome { .. }
        | Input::PayDebts
        | Input::Woke => vec![],
    }
}

/// One turn in the making. The modules of this crate each add the methods of their subject.
struct Step<'a> {
    db: &'a dyn Database,
    now: i64,
    facts: &'a Facts,
    entropy: &'a mut Entropy,
    config: &'a Config,
    log: &'a mut EventLog,
    /// The session's id, once a broadcast has asked for it, and of a session that is just forgotten.
    session: Option<SessionId>,
    outputs: Vec<Output>,
}

impl Step<'_> {
    fn take(&mut self, input: Input) -> Result<(), DatabaseError> {
        match input {
            Input::Call { reply, call } => match call {
                Call::Delete => self.delete(reply),
                Call::Initiate => self.initiate(reply),
                Call::Interrupt => self.interrupt(reply),
                Call::Judge(verdict) => self.judge(reply, verdict),
                Call::KeepLogs { execution, token } => self.keep_logs(reply, &execution, token.as_ref()),
                Call::Register(registration) => self.register(reply, *registration),
                Call::Send(message) => self.send_message(reply, *message),
                Call::Update(changes) => self.update(reply, changes),
                Call::View => self.view(reply),
            },
            Input::IngestClosed { execution, code, reason } => self.ingest_closed(&execution, code, &reason),
            Input::IngestFrames(frames) => self.ingest_frames(&frames),
            Input::IngestOpen(open) => self.ingest_open(&open),
            Input::Outcome { key, effect, outcome } => self.outcome(&key, &effect, outcome),
            Input::Progress { reply, token, progress } => self.progress(reply, &token, &progress),
            Input::Expire => {
                self.expire();
                Ok(())
            }
            Input::PayDebts => self.pay_debts(),
            Input::SnapshotAccess { reply, token } => self.snapshot_access(reply, &token),
            Input::StreamOpen { nonce, expires_at } => self.stream_open(&nonce, expires_at),
            Input::Woke => self.woke(),
        }
    }

    fn pay_debts(&mut self) -> Result<(), DatabaseError> {
        let limits = &self.config.limits;
        for debt in
            Owed::<Effect>::take_due(self.db, self.now, |effect, attempt| limits.retry_after_ms(effect, attempt))?
        {
            let effect = self.renew(debt.effect)?;
            self.outputs.push(Output::Perform { key: debt.key, effect });
        }
        Ok(())
    }

    fn next_deadline(&self) -> Result<Option<i64>, DatabaseError> {
        Ok(nearest([Owed::<Effect>::next_retry(self.db)?, self.state_deadline()?, self.work_deadline()?]))
    }
}
