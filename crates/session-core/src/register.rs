//! From `prepareSession` to a directory entry, and back out again (spec/session.md 7.2).
//!
//! A session is registered, its directory entry is owed, and only when that is confirmed is the caller answered and the preparation owed:
//! whoever holds the answer can fetch a stream ticket at once. A registration that cannot be completed is undone whole.

use crate::Step;
use crate::message::Answer;
use crate::message::Effect;
use crate::message::Outcome;
use crate::message::Output;
use crate::message::Registration;
use crate::message::Success;
use crate::store;
use crate::store::SessionRow;
use crate::work::work_key;
use database::DatabaseError;
use object_core::ReplyTo;
use object_core::directory::Entry;
use object_core::owed::Owed;
use protocol::time::iso8601;
use protocol::trpc::CUSTOM_NEEDS_PROMPT;
use protocol::trpc::Change;
use protocol::trpc::Code;
use protocol::trpc::Issue;
use protocol::trpc::Prepared;
use protocol::trpc::TrpcError;

/// The key under which the directory entry is owed.
const LIST: &str = "directory/add";
/// The key under which its removal is owed.
const UNLIST: &str = "directory/remove";
/// The key under which the removal of the snapshot is owed.
const FORGET: &str = "snapshot/remove";
/// The key under which the end of an idle agent server is owed.
pub const STOP: &str = "stop";
/// The key under which the end of a deleted session's agent server is owed, with all that it left there.
const STOP_FORGET: &str = "stop/forget";

impl Step<'_> {
    pub fn reply(&mut self, to: ReplyTo, result: Result<Answer, TrpcError>) {
        self.outputs.push(Output::Reply { to, result });
    }

    pub fn reply_if(&mut self, to: Option<ReplyTo>, result: Result<Answer, TrpcError>) {
        if let Some(to) = to {
            self.reply(to, result);
        }
    }

    pub fn register(&mut self, reply: ReplyTo, new: Registration) -> Result<(), DatabaseError> {
        match store::session(self.db)? {
            Some(session) if session.kilo_session == new.kilo_session => return self.registered(reply, &session),
            // While its removal from the directory is owed, the name is not free: the entry would go, and the session stay.
            None if store::tombstone(self.db)?.is_none() && Owed::<Effect>::find(self.db, UNLIST)?.is_none() => {}
            _ => {
                self.reply(reply, Err(TrpcError::new(Code::Conflict, "Session already registered")));
                return Ok(());
            }
        }
        let row = SessionRow {
            user: new.user,
            id: new.session,
            kilo_session: new.kilo_session,
            sandbox: new.sandbox,
            input: new.input,
            created_at: self.now,
            changed_at: self.now,
            prepared_at: None,
            initiated_at: None,
            branch: None,
            active: None,
            stopped_after: None,
            oldest_at: self.now,
        };
        store::save_session(self.db, &row)?;
        let entry = Entry {
            cloud_agent_session_id: row.id.to_string(),
            kilo_session_id: row.kilo_session.to_string(),
            title: format!("New session - {}", iso8601(self.now)),
            created_on_platform: row.input.created_on_platform.clone(),
            organization_id: row.input.organization_id.clone(),
            created_at: self.now,
            user_id: Some(row.user.to_string()),
        };
        self.owe_now(LIST, Effect::DirectoryAdd { owner: row.owner(), entry }, Some(reply))
    }

    /// The same registration again: its caller lost the connection before the answer.
    fn registered(&mut self, reply: ReplyTo, session: &SessionRow) -> Result<(), DatabaseError> {
        let preparation = store::work(self.db)?.filter(|work| work.execution.is_none() && !session.input.auto_initiate);
        let waits = self.wait_in_place(LIST, reply)?
            || preparation.map_or(Ok(false), |work| self.wait_in_place(&work_key(work.attempt), reply))?;
        if !waits {
            self.reply(reply, Ok(prepared(session)));
        }
        Ok(())
    }

    /// Has `reply` wait for the debt under `key`, in place of whoever did. False: nothing is owed under it.
    pub fn wait_in_place(&mut self, key: &str, reply: ReplyTo) -> Result<bool, DatabaseError> {
        let Some(debt) = Owed::<Effect>::find(self.db, key)? else { return Ok(false) };
        Owed::<Effect>::reply_to(self.db, key, reply)?;
        let message = "The same call came again, and waits in place of this one";
        self.reply_if(debt.reply_to, Err(TrpcError::retryable("SUPERSEDED", message)));
        Ok(true)
    }

    /// Owes an effect and performs it in this turn, because a caller waits or nothing else would.
    pub fn owe_now(&mut self, key: &str, effect: Effect, reply: Option<ReplyTo>) -> Result<(), DatabaseError> {
        Owed::owe(self.db, self.now, key, &effect, reply)?;
        let retry_after_ms = self.config.limits.retry_after_ms(&effect, 1);
        if let Some(debt) = Owed::<Effect>::take_now(self.db, self.now, key, retry_after_ms)? {
            self.outputs.push(Output::Perform { key: debt.key, effect: debt.effect });
        }
        Ok(())
    }

    /// Owes an effect for the next tick, which is due at once.
    pub fn owe(&mut self, key: &str, effect: &Effect) -> Result<(), DatabaseError> {
        Owed::owe(self.db, self.now, key, effect, None)
    }

    /// News of an effect. A key names one debt for ever, so late news of one cannot be taken for another's.
    pub fn outcome(&mut self, key: &str, effect: &Effect, outcome: Outcome) -> Result<(), DatabaseError> {
        let Some(debt) = Owed::<Effect>::find(self.db, key)? else {
            return self.settled(key, effect, &outcome);
        };
        if let Effect::Callback(_) = debt.effect {
            return self.callback_outcome(&debt, outcome);
        }
        match (debt.effect, outcome) {
            (Effect::Work { work, .. }, outcome) => self.work_outcome(key, work.attempt, debt.attempt, outcome),
            (Effect::Abort { .. }, outcome) => self.abort_outcome(key, debt.attempt, outcome),
            (Effect::DirectoryAdd { .. }, Outcome::Done | Outcome::Progress(_)) => self.listed(),
            (Effect::DirectoryAdd { .. }, Outcome::Refused { message, .. }) => self.unlist(&message),
            (Effect::DirectoryAdd { .. }, Outcome::Failed { message, .. }) => {
                if debt.attempt < self.config.limits.directory_attempts {
                    self.retry(key, debt.attempt)
                } else {
                    self.unlist(&message)
                }
            }
            (effect, Outcome::Failed { .. }) => {
                let pause = self.config.limits.pause_ms(&effect, debt.attempt);
                Owed::<Effect>::retry_at(self.db, key, self.now.saturating_add(pause))
            }
            // Refused means that there is nothing left to release, stop or remove.
            (_, _) => Owed::<Effect>::settle(self.db, key).map(drop),
        }
    }

    /// What is no longer owed is of no interest, but for work that was, or may have been, taken up after its session was gone: nobody else would end
    /// it. A verdict never was: its caller waits.
    fn settled(&mut self, key: &str, effect: &Effect, outcome: &Outcome) -> Result<(), DatabaseError> {
        match (effect, outcome) {
            (Effect::Judge { reply, .. }, outcome) => {
                self.judged(*reply, outcome);
                Ok(())
            }
            // A late word: it was delivered after all.
            (Effect::Callback(_), Outcome::Done) => Owed::<Effect>::settle(self.db, key).map(drop),
            (Effect::Work { sandbox, work, .. }, Outcome::Progress(_) | Outcome::Failed { .. })
                if store::session_id(self.db)?.is_none() =>
            {
                let session = work.workspace.session_id.clone();
                self.owe(STOP_FORGET, &Effect::Stop { sandbox: sandbox.clone(), session, forget: true, attempt: None })
            }
            _ => Ok(()),
        }
    }

    /// Tries again after a pause that grows with the number of failures.
    pub fn retry(&mut self, key: &str, attempt: i64) -> Result<(), DatabaseError> {
        Owed::<Effect>::retry_at(self.db, key, self.now.saturating_add(self.config.limits.backoff_ms(attempt)))
    }

    /// The directory has the entry: answer, and owe the preparation.
    fn listed(&mut self) -> Result<(), DatabaseError> {
        let reply = Owed::<Effect>::settle(self.db, LIST)?.and_then(|debt| debt.reply_to);
        let Some(session) = store::session(self.db)? else { return Ok(()) };
        let waits_for_work = if session.input.auto_initiate {
            self.reply_if(reply, Ok(prepared(&session)));
            None
        } else {
            reply
        };
        self.owe_work(&session, None, false, waits_for_work)
    }

    /// The directory will not have it. Whether an earlier try got through is unknown, so the removal is owed.
    fn unlist(&mut self, message: &str) -> Result<(), DatabaseError> {
        let reply = Owed::<Effect>::settle(self.db, LIST)?.and_then(|debt| debt.reply_to);
        if let Some(session) = store::session(self.db)? {
            self.forget_session(&session)?;
        }
        let error = TrpcError::new(Code::InternalServerError, format!("Failed to create session record: {message}"));
        self.reply_if(reply, Err(error));
        Ok(())
    }

    pub fn delete(&mut self, reply: ReplyTo) -> Result<(), DatabaseError> {
        let answer = match store::session(self.db)? {
            Some(session) => {
                self.forget_session(&session)?;
                Answer::Success(Success { success: true, message: None })
            }
            None => already_deleted(),
        };
        self.wipe()?;
        self.reply(reply, Ok(answer));
        Ok(())
    }

    /// Leaves nothing but what is owed, and nobody connected.
    pub fn wipe(&mut self) -> Result<(), DatabaseError> {
        store::wipe(self.db)?;
        self.log.forget();
        self.outputs.push(Output::CloseAll { reason: "Session deleted".to_owned() });
        Ok(())
    }

    pub fn update(&mut self, reply: ReplyTo, changes: Vec<Change>) -> Result<(), DatabaseError> {
        let only_callback =
            !changes.is_empty() && changes.iter().all(|change| matches!(change, Change::CallbackTarget(_)));
        let refusal = |code, message: &str| Err(TrpcError::new(code, message));
        let result = match store::session(self.db)? {
            None => refusal(Code::NotFound, "Session not found"),
            Some(session) if session.prepared_at.is_none() => {
                refusal(Code::BadRequest, "Session has not been prepared")
            }
            Some(session) if session.initiated_at.is_some() && !only_callback => {
                refusal(Code::BadRequest, "Session has already been initiated")
            }
            Some(mut session) => {
                let upstream = session.input.upstream_branch.clone();
                for change in changes {
                    change.apply(&mut session.input);
                }
                if session.input.upstream_branch != upstream {
                    // Where the preparation left the workspace is not where the first turn begins.
                    session.branch = None;
                }
                // What each change may be was checked where it came in; this depends on what is kept.
                if session.input.mode.lacks_prompt(session.input.append_system_prompt.as_deref()) {
                    Err(TrpcError::invalid(&[Issue {
                        code: "custom".to_owned(),
                        path: vec!["appendSystemPrompt".to_owned()],
                        message: CUSTOM_NEEDS_PROMPT.to_owned(),
                    }]))
                } else {
                    session.changed_at = self.now;
                    store::save_session(self.db, &session)?;
                    Ok(Answer::Success(Success { success: true, message: None }))
                }
            }
        };
        self.reply(reply, result);
        Ok(())
    }

    /// Ends everything of this session that is elsewhere, and its own row. Whoever still waits for it is told.
    pub fn forget_session(&mut self, session: &SessionRow) -> Result<(), DatabaseError> {
        if let Some(active) = &session.active {
            self.owe_release(session, active)?;
        }
        for debt in Owed::<Effect>::list(self.db, "")? {
            if matches!(debt.effect, Effect::Abort { .. } | Effect::DirectoryAdd { .. } | Effect::Work { .. }) {
                Owed::<Effect>::settle(self.db, &debt.key)?;
                self.reply_if(debt.reply_to, Err(TrpcError::new(Code::NotFound, "Session was deleted")));
            }
        }
        Owed::<Effect>::keep_dead(self.db, 0)?;
        Owed::<Effect>::settle(self.db, STOP)?;
        database::execute(self.db, "DELETE FROM session", &[])?;
        // A session without a turn has no conversation.
        if store::executions(self.db)? > 0 {
            let (user, id) = (session.user.clone(), session.id.clone());
            self.owe(FORGET, &Effect::SnapshotRemove { user, session: id })?;
        }
        self.owe(UNLIST, &Effect::DirectoryRemove { owner: session.owner(), session: session.id.clone() })?;
        let (sandbox, id) = (session.sandbox.clone(), session.id.clone());
        self.owe(STOP_FORGET, &Effect::Stop { sandbox, session: id, forget: true, attempt: None })
    }
}

/// The answer to `deleteSession` where there is nothing to delete.
pub fn already_deleted() -> Answer {
    Answer::Success(Success { success: true, message: Some("Session not found or already deleted".to_owned()) })
}

/// The answer to `prepareSession`.
pub fn prepared(session: &SessionRow) -> Answer {
    Answer::Prepared(Prepared {
        cloud_agent_session_id: session.id.to_string(),
        kilo_session_id: session.kilo_session.to_string(),
    })
}
