//! Executions: begin, run, end, exactly once (spec/session.md 3.5, 3.7, 10.2).
//!
//! There is at most one active execution. Its end is one transition, [`Step::end_execution`]; whatever comes second finds a terminal status and
//! changes nothing. The marker `active` is cleared only by the execution that it names.

use crate::Step;
use crate::callback::forget_letter;
use crate::limits::TEXT_BYTES_MAX;
use crate::limits::cut;
use crate::message::Answer;
use crate::message::Effect;
use crate::message::Outcome;
use crate::message::Output;
use crate::register::STOP;
use crate::store;
use crate::store::ExecutionRow;
use crate::store::SessionRow;
use crate::store::Status;
use crate::work::turn_plan;
use crate::work::work_key;
use database::DatabaseError;
use database::execute;
use object_core::ReplyTo;
use object_core::entropy::sha256_hex;
use object_core::owed::Owed;
use protocol::id::ExecutionId;
use protocol::id::MessageId;
use protocol::id::SessionId;
use protocol::ingest::Command;
use protocol::sandbox::Resume;
use protocol::trpc::Ack;
use protocol::trpc::Code;
use protocol::trpc::Images;
use protocol::trpc::Interrupted;
use protocol::trpc::Mode;
use protocol::trpc::SendMessage;
use protocol::trpc::TrpcError;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;

/// What a turn asks of the agent.
pub struct Prompt {
    pub message_id: MessageId,
    pub text: String,
    pub images: Option<Images>,
    pub mode: Mode,
    pub model: String,
    pub variant: Option<String>,
    pub auto_commit: bool,
    pub condense_on_complete: bool,
}

impl Step<'_> {
    pub fn initiate(&mut self, reply: ReplyTo) -> Result<(), DatabaseError> {
        match self.may_begin()? {
            Err(refusal) => self.reply(reply, Err(refusal)),
            Ok(session) if session.prepared_at.is_none() => {
                self.reply(reply, Err(TrpcError::new(Code::BadRequest, "Session has not been prepared")));
            }
            Ok(session) if session.initiated_at.is_some() => {
                self.reply(reply, Err(TrpcError::new(Code::BadRequest, "Session has already been initiated")));
            }
            Ok(session) => self.begin_first_turn(session, Some(reply))?,
        }
        Ok(())
    }

    pub fn send_message(&mut self, reply: ReplyTo, message: SendMessage) -> Result<(), DatabaseError> {
        let mut session = match self.may_begin()? {
            Err(refusal) => {
                if !self.sent_again(reply, message.message_id.as_ref())? {
                    self.reply(reply, Err(refusal));
                }
                return Ok(());
            }
            Ok(session) => session,
        };
        if session.initiated_at.is_none() {
            self.reply(reply, Err(TrpcError::new(Code::BadRequest, "Session has not been initiated yet")));
            return Ok(());
        }
        // Each kind of token goes to its own kind of host only.
        let token = if session.input.git.github_repo.is_some() { message.github_token } else { message.git_token };
        session.input.git.token = token.or(session.input.git.token);
        let message_id = match message.message_id {
            Some(id) => id,
            None => self.new_message_id()?,
        };
        let prompt = Prompt {
            message_id,
            text: message.prompt,
            images: message.images,
            mode: message.mode.unwrap_or(session.input.mode),
            model: message.model.unwrap_or_else(|| session.input.model.clone()),
            variant: message.variant.or_else(|| session.input.variant.clone()),
            auto_commit: message.auto_commit.unwrap_or(session.input.auto_commit),
            condense_on_complete: message.condense_on_complete.unwrap_or(session.input.condense_on_complete),
        };
        self.begin(session, prompt, Some(reply))
    }

    /// Whether this is the call that began the active execution, once more: its caller lost the connection before the answer.
    fn sent_again(&mut self, reply: ReplyTo, message: Option<&MessageId>) -> Result<bool, DatabaseError> {
        let Some(active) = store::active_execution(self.db)? else { return Ok(false) };
        if message.is_none() || active.message.as_ref() != message {
            return Ok(false);
        }
        let start = store::work(self.db)?.filter(|work| !work.ended && work.execution.as_ref() == Some(&active.id));
        if !start.map_or(Ok(false), |work| self.wait_in_place(&work_key(work.attempt), reply))?
            && let Some(session) = store::session_id(self.db)?
        {
            self.reply(reply, Ok(started(&session, &active.id)));
        }
        Ok(true)
    }

    /// The session, if a turn may begin now.
    fn may_begin(&mut self) -> Result<Result<SessionRow, TrpcError>, DatabaseError> {
        Ok(match store::session(self.db)? {
            None => Err(TrpcError::new(Code::NotFound, "Session not found")),
            Some(session) => match store::active_execution(self.db)? {
                Some(ExecutionRow { id, .. }) => Err(TrpcError {
                    error: Some("EXECUTION_IN_PROGRESS".into()),
                    active_execution_id: Some(id.to_string()),
                    ..TrpcError::new(Code::Conflict, format!("Execution {id} is in progress"))
                }),
                None => Ok(session),
            },
        })
    }

    /// The turn that `prepareSession` described.
    pub fn begin_first_turn(&mut self, session: SessionRow, reply: Option<ReplyTo>) -> Result<(), DatabaseError> {
        // An earlier start may have given it to the agent without anybody knowing, and the agent takes no message twice.
        let message_id = match session.input.initial_message_id.clone() {
            Some(id) if !store::has_message(self.db, &id)? => id,
            _ => self.new_message_id()?,
        };
        let prompt = Prompt {
            message_id,
            text: session.input.prompt.clone(),
            images: session.input.images.clone(),
            mode: session.input.mode,
            model: session.input.model.clone(),
            variant: session.input.variant.clone(),
            auto_commit: session.input.auto_commit,
            condense_on_complete: session.input.condense_on_complete,
        };
        self.begin(session, prompt, reply)
    }

    fn begin(&mut self, mut session: SessionRow, prompt: Prompt, reply: Option<ReplyTo>) -> Result<(), DatabaseError> {
        // An idle stop that is still being tried would end the agent of this turn.
        Owed::<Effect>::settle(self.db, STOP)?;
        let text = format!("exc_{}", self.entropy.ulid(self.now));
        let id = ExecutionId::parse(&text).map_err(|error| DatabaseError::Sql(error.to_string()))?;
        let secret = self.entropy.secret();
        execute(
            self.db,
            "INSERT INTO execution (id, status, generation, ingest_hash, started_at, waiting, interrupted, message)
             VALUES (?, 'pending', 1, ?, ?, '[]', 0, ?)",
            &[id.as_str().into(), sha256_hex(&secret).into(), self.now.into(), prompt.message_id.as_str().into()],
        )?;
        for forgotten in store::prune_executions(self.db)? {
            forget_letter(self.db, &forgotten)?;
        }
        let has_conversation = session.initiated_at.is_some();
        session.initiated_at.get_or_insert(self.now);
        session.active = Some(id.clone());
        session.changed_at = self.now;
        store::save_session(self.db, &session)?;
        let Some(row) = store::execution(self.db, &id)? else { return Ok(()) };
        let turn = turn_plan(self, &session, &row, secret, prompt);
        self.owe_work(&session, Some(turn), has_conversation, reply)
    }

    /// The agent took the prompt: from here on the execution's own deadlines govern.
    pub fn execution_accepted(
        &mut self,
        session: &SessionRow,
        id: &ExecutionId,
        resume: Option<Resume>,
        reply: Option<ReplyTo>,
    ) -> Result<(), DatabaseError> {
        execute(
            self.db,
            "UPDATE execution SET accepted_at = ?, resume = ? WHERE id = ? AND accepted_at IS NULL",
            &[self.now.into(), resume.map(Resume::as_str).into(), id.as_str().into()],
        )?;
        self.reply_if(reply, Ok(started(&session.id, id)));
        Ok(())
    }

    /// Whether the agent has the prompt: its container said so, or the agent itself, whose word may come first.
    fn has_begun(&self, execution: &ExecutionRow) -> Result<bool, DatabaseError> {
        if execution.accepted_at.is_some() {
            return Ok(true);
        }
        let Some(message) = &execution.message else { return Ok(false) };
        // A message that is sent again has the same id, and has begun in an earlier execution only.
        let sql = "SELECT 1 FROM entity WHERE key = ? AND execution = ?";
        let rows = self.db.query(sql, &[format!("message/{message}").into(), execution.id.as_str().into()])?;
        Ok(!rows.is_empty())
    }

    /// A first turn that never began leaves the session as it was before: prepared, and free to be initiated again.
    fn take_back_initiation(&mut self, execution: &ExecutionRow) -> Result<(), DatabaseError> {
        execute(
            self.db,
            "UPDATE session SET initiated_at = NULL WHERE initiated_at = ? AND active = ?",
            &[execution.started_at.into(), execution.id.as_str().into()],
        )
    }

    /// The one terminal transition. False: it had ended already, and nothing changes.
    pub fn end_execution(
        &mut self,
        id: &ExecutionId,
        status: Status,
        error: Option<&str>,
    ) -> Result<bool, DatabaseError> {
        let Some(execution) = store::execution(self.db, id)? else { return Ok(false) };
        if !execution.status.may_become(status) {
            return Ok(false);
        }
        let error = error.map(|error| cut(error, TEXT_BYTES_MAX));
        let error = error.as_deref();
        self.end_start(id, status, error)?;
        let never_began = status != Status::Completed && !self.has_begun(&execution)?;
        if never_began {
            self.take_back_initiation(&execution)?;
        }
        execute(
            self.db,
            "UPDATE execution SET status = ?, completed_at = ?, error = ?, disconnected_at = NULL, waiting = '[]' WHERE id = ?",
            &[status.as_str().into(), self.now.into(), error.into(), id.as_str().into()],
        )?;
        execute(
            self.db,
            "UPDATE session SET active = NULL, changed_at = ? WHERE active = ?",
            &[self.now.into(), id.as_str().into()],
        )?;
        if let Some(abort) = Owed::<Effect>::settle(self.db, &abort_key(id))? {
            self.reply_if(abort.reply_to, Ok(interrupted(true, "Interrupt signal sent", true)));
        }
        let (session, ended) = (store::session(self.db)?, store::execution(self.db, id)?);
        if let (Some(session), Some(ended)) = (session, ended) {
            self.owe_release(&session, id)?;
            // A follow-up that never began was answered to its caller, who need not hear of it twice.
            if !(never_began && store::executions(self.db)? > 1) {
                self.owe_callback(&session, &ended)?;
            }
        }
        Ok(true)
    }

    /// Ends an execution that cannot go on, and tells viewers and wrapper. Idempotent.
    pub fn fail_execution(
        &mut self,
        id: &ExecutionId,
        status: Status,
        error: &str,
        kind: &str,
        extra: Option<Map<String, Value>>,
    ) -> Result<bool, DatabaseError> {
        if !self.end_execution(id, status, Some(error))? {
            return Ok(false);
        }
        let mut data = Map::from_iter([("error".to_owned(), json!(error)), ("fatal".to_owned(), json!(true))]);
        data.extend(extra.unwrap_or_default());
        self.store_and_broadcast(id.as_str(), kind, &Value::Object(data))?;
        self.broadcast_cloud_status(id.as_str(), "error", None, Some(error))?;
        self.outputs.push(Output::ToIngest { execution: id.clone(), command: Command::Kill { signal: None } });
        Ok(true)
    }

    pub fn owe_release(&mut self, session: &SessionRow, id: &ExecutionId) -> Result<(), DatabaseError> {
        let effect = Effect::Release { sandbox: session.sandbox.clone(), execution: id.clone() };
        self.owe(&format!("release/{id}"), &effect)
    }

    pub fn interrupt(&mut self, reply: ReplyTo) -> Result<(), DatabaseError> {
        let Some(session) = store::session(self.db)? else {
            self.reply(reply, Ok(interrupted(false, "Session not found", false)));
            return Ok(());
        };
        let Some(active) = session.active else {
            self.reply(reply, Ok(interrupted(true, "No active execution", false)));
            return Ok(());
        };
        // Who asked before is answered now: what becomes of it is told to the last one.
        if let Some(earlier) = Owed::<Effect>::settle(self.db, &abort_key(&active))? {
            self.reply_if(earlier.reply_to, Ok(interrupted(true, "Interrupt signal sent", true)));
        }
        execute(self.db, "UPDATE execution SET interrupted = 1 WHERE id = ?", &[active.as_str().into()])?;
        self.outputs.push(Output::ToIngest {
            execution: active.clone(),
            command: Command::Kill { signal: Some("SIGTERM".into()) },
        });
        self.owe_now(&abort_key(&active), Effect::Abort { sandbox: session.sandbox, session: session.id }, Some(reply))
    }

    /// The container was asked to abort. If it knows of no such agent, nobody else will ever end the execution.
    pub fn abort_outcome(&mut self, key: &str, tries: i64, outcome: Outcome) -> Result<(), DatabaseError> {
        let gone = match outcome {
            Outcome::Done | Outcome::Progress(_) => false,
            Outcome::Refused { .. } => true,
            Outcome::Failed { .. } => return self.retry(key, tries),
        };
        let reply = Owed::<Effect>::settle(self.db, key)?.and_then(|debt| debt.reply_to);
        if gone && let Some(id) = key.strip_prefix(ABORT).and_then(|id| ExecutionId::parse(id).ok()) {
            self.fail_execution(&id, Status::Failed, "Interrupted - no running processes found", "error", None)?;
        }
        self.reply_if(reply, Ok(interrupted(true, "Interrupt signal sent", !gone)));
        Ok(())
    }

    fn new_message_id(&mut self) -> Result<MessageId, DatabaseError> {
        MessageId::parse(&self.entropy.message_id(self.now)).map_err(|error| DatabaseError::Sql(error.to_string()))
    }
}

const ABORT: &str = "abort/";

fn abort_key(id: &ExecutionId) -> String {
    format!("{ABORT}{id}")
}

/// The answer to the call that began an execution.
fn started(session: &SessionId, execution: &ExecutionId) -> Answer {
    Answer::Ack(Ack {
        cloud_agent_session_id: session.to_string(),
        execution_id: execution.to_string(),
        status: "started".into(),
        stream_url: format!("/stream?cloudAgentSessionId={session}"),
    })
}

pub fn interrupted(success: bool, message: &str, processes_found: bool) -> Answer {
    Answer::Interrupted(Interrupted { success, message: message.to_owned(), processes_found })
}
