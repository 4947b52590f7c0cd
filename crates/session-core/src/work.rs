//! Preparation and start: what is asked of the container, and what it reports (design 4, "Work is asked for, not driven").
//!
//! Both are one owed effect, `Work`, with an attempt number of its own. The container answers at once and reports steps at least once
//! each; asking again with the same attempt answers where it stands, or begins anew in a container that lost its disk. So a lost report, a lost container and
//! a crash of this object are all healed by the same thing: the row is still there, and is asked for again.

use crate::Step;
use crate::limits::BRANCH_BYTES_MAX;
use crate::limits::STEP_MESSAGE_BYTES_MAX;
use crate::limits::cut;
use crate::message::Answer;
use crate::message::Effect;
use crate::message::Outcome;
use crate::register::prepared;
use crate::store;
use crate::store::ExecutionRow;
use crate::store::SessionRow;
use crate::store::Status;
use crate::store::WorkRow;
use crate::stream::READY;
use database::DatabaseError;
use database::execute;
use object_core::ReplyTo;
use object_core::entropy::constant_time_eq;
use object_core::entropy::sha256_hex;
use object_core::owed::Owed;
use protocol::id::BranchName;
use protocol::id::ExecutionId;
use protocol::id::ImageFile;
use protocol::sandbox;
use protocol::sandbox::Progress;
use protocol::sandbox::ReportTo;
use protocol::sandbox::Secret;
use protocol::sandbox::Snapshot;
use protocol::sandbox::TurnImage;
use protocol::sandbox::TurnPlan;
use protocol::sandbox::Work;
use protocol::sandbox::WorkspacePlan;
use protocol::trpc::Code;
use protocol::trpc::Images;
use protocol::trpc::TrpcError;

/// The key under which an attempt is owed: one at a time.
pub fn work_key(attempt: i64) -> String {
    format!("work/{attempt}")
}

/// A failed piece of work.
struct Failure {
    code: String,
    message: String,
    retryable: bool,
}

impl Step<'_> {
    /// Owes the next attempt: a preparation, or with `turn` the start of an execution. A container that lost its disk brings back the
    /// conversation of a session that has one.
    pub fn owe_work(
        &mut self,
        session: &SessionRow,
        turn: Option<TurnPlan>,
        has_conversation: bool,
        reply: Option<ReplyTo>,
    ) -> Result<(), DatabaseError> {
        // Whose events the steps are: `prep_<session>` while the session comes up by itself, else the execution.
        let source = match &turn {
            Some(turn) if reply.is_some() => turn.execution_id.to_string(),
            _ => format!("prep_{}", session.id),
        };
        let attempt = store::work(self.db)?.map_or(1, |work| work.attempt.saturating_add(1));
        let token = self.entropy.secret();
        execute(
            self.db,
            "INSERT INTO work (attempt, execution, source, since, token_hash, n, ended) VALUES (?, ?, ?, ?, ?, 0, 0)",
            &[
                attempt.into(),
                turn.as_ref().map(|turn| turn.execution_id.as_str()).into(),
                source.into(),
                self.now.into(),
                sha256_hex(&token).into(),
            ],
        )?;
        store::prune_attempts(self.db, attempt)?;
        let url = self.session_url(session, "progress");
        let snapshot = Snapshot { url: self.session_url(session, "snapshot"), restore: has_conversation };
        let work = Work {
            attempt: attempt.unsigned_abs(),
            workspace: workspace(session),
            turn,
            report: ReportTo { url, token: Secret(token) },
            snapshot: Some(snapshot),
        };
        let effect = Effect::Work {
            sandbox: session.sandbox.clone(),
            work: Box::new(work),
            secrets: session.input.encrypted_secrets.clone(),
        };
        Owed::owe(self.db, self.now, &work_key(attempt), &effect, reply)
    }

    /// The form in which an effect is performed now.
    ///
    /// A start that is asked for again may reach a new container while the wrapper in the old one still lives, cut off. So each asking has a higher
    /// generation than those before; the container that knows the attempt keeps the one it has, and the highest that connects is the only one to write.
    pub fn renew(&mut self, effect: Effect) -> Result<Effect, DatabaseError> {
        let Effect::Work { sandbox, mut work, secrets } = effect else { return Ok(effect) };
        if let Some(turn) = &mut work.turn {
            let generation = store::ask(self.db, i64::try_from(work.attempt).unwrap_or(i64::MAX))?;
            turn.ingest_url.push_str(&format!("&generation={generation}"));
        }
        Ok(Effect::Work { sandbox, work, secrets })
    }

    /// A URL of the Worker that belongs to this session.
    pub fn session_url(&self, session: &SessionRow, last: &str) -> String {
        format!("{}/sessions/{}/{}/{last}", self.config.worker_url, percent_encode(session.user.as_str()), session.id)
    }

    /// What became of asking for `attempt`.
    pub fn work_outcome(&mut self, key: &str, attempt: u64, tries: i64, outcome: Outcome) -> Result<(), DatabaseError> {
        let Some(work) = store::work(self.db)?.filter(|work| work.attempt.unsigned_abs() == attempt) else {
            return Ok(());
        };
        match outcome {
            Outcome::Progress(progress) => {
                let ask_at = self.now.saturating_add(self.config.limits.work_ask_ms);
                Owed::<Effect>::begin_again(self.db, key, ask_at)?;
                self.advance(work, &progress)
            }
            Outcome::Refused { code, message } => self.work_failed(work, Failure { code, message, retryable: false }),
            Outcome::Failed { .. } => self.retry(key, tries),
            Outcome::Done => Ok(()),
        }
    }

    /// A report of the container, at least once each. The answer tells it whether anybody still wants to know.
    pub fn progress(&mut self, reply: ReplyTo, token: &str, progress: &Progress) -> Result<(), DatabaseError> {
        let hash = sha256_hex(token);
        let known = store::work(self.db)?.filter(|work| work.attempt.unsigned_abs() == progress.attempt);
        let Some(work) = known else {
            self.reply(reply, Err(TrpcError::new(Code::Conflict, "Stale attempt: a newer one, or none, is under way")));
            return Ok(());
        };
        if !constant_time_eq(&work.token_hash, &hash) {
            self.reply(reply, Err(TrpcError::new(Code::Unauthorized, "Invalid report token")));
            return Ok(());
        }
        self.reply(reply, Ok(Answer::Noted {}));
        self.advance(work, progress)
    }

    fn advance(&mut self, mut work: WorkRow, progress: &Progress) -> Result<(), DatabaseError> {
        let n = i64::try_from(progress.n).unwrap_or(i64::MAX);
        // A container that began anew counts from one again: steps may repeat, but an outcome is taken whatever its number.
        let repeated = n <= work.n && progress.outcome.is_none();
        if work.ended || repeated || progress.attempt != work.attempt.unsigned_abs() {
            return Ok(());
        }
        work.n = n;
        match &progress.outcome {
            None => {
                let message = cut(&progress.message, STEP_MESSAGE_BYTES_MAX);
                self.save_step(&work, progress.step, &message, false)?;
                self.broadcast_preparing(&work.source, progress.step, &message)
            }
            Some(sandbox::Outcome::Done { branch, resume }) => self.work_done(work, branch, *resume),
            Some(sandbox::Outcome::Failed { code, message, retryable }) => {
                self.work_failed(work, Failure { code: code.clone(), message: message.clone(), retryable: *retryable })
            }
        }
    }

    fn save_step(&self, work: &WorkRow, step: sandbox::Step, message: &str, ended: bool) -> Result<(), DatabaseError> {
        execute(
            self.db,
            "UPDATE work SET n = ?, step = ?, message = ?, ended = ? WHERE attempt = ?",
            &[work.n.into(), step.as_str().into(), message.into(), ended.into(), work.attempt.into()],
        )
    }

    fn work_done(&mut self, work: WorkRow, branch: &str, resume: sandbox::Resume) -> Result<(), DatabaseError> {
        let Some(mut session) = store::session(self.db)? else { return Ok(()) };
        let reply = Owed::<Effect>::settle(self.db, &work_key(work.attempt))?.and_then(|debt| debt.reply_to);
        self.save_step(&work, sandbox::Step::Ready, READY, true)?;
        if branch.len() <= BRANCH_BYTES_MAX {
            session.branch = Some(branch.to_owned());
        }
        session.changed_at = self.now;
        if let Some(execution) = &work.execution {
            store::save_session(self.db, &session)?;
            self.execution_accepted(&session, execution, Some(resume), reply)?;
            return self.broadcast_ready(&work.source, Some(branch), Some(resume));
        }
        session.prepared_at = Some(self.now);
        store::save_session(self.db, &session)?;
        if session.input.auto_initiate {
            // `ready` unlocks the front end's input: it waits for the start (spec/session.md 4.4, 12).
            return self.begin_first_turn(session, None);
        }
        self.reply_if(reply, Ok(prepared(&session)));
        self.broadcast_ready(&work.source, Some(branch), Some(resume))
    }

    /// A preparation that failed for a passing reason is owed again, under the next number and within the same bound.
    fn prepare_again(&mut self, work: &WorkRow) -> Result<bool, DatabaseError> {
        let limits = &self.config.limits;
        let tries = store::attempts_since(self.db, work.since)?;
        let again_at = self.now.saturating_add(limits.backoff_ms(tries));
        if tries >= limits.preparation_attempts || again_at >= work.since.saturating_add(limits.work_ms) {
            return Ok(false);
        }
        let Some(session) = store::session(self.db)? else { return Ok(false) };
        let reply = Owed::<Effect>::settle(self.db, &work_key(work.attempt))?.and_then(|debt| debt.reply_to);
        execute(self.db, "UPDATE work SET ended = 1 WHERE attempt = ?", &[work.attempt.into()])?;
        self.owe_work(&session, None, false, reply)?;
        let next = work.attempt.saturating_add(1);
        execute(self.db, "UPDATE work SET since = ? WHERE attempt = ?", &[work.since.into(), next.into()])?;
        Owed::<Effect>::retry_at(self.db, &work_key(next), again_at)?;
        Ok(true)
    }

    fn work_failed(&mut self, work: WorkRow, mut failure: Failure) -> Result<(), DatabaseError> {
        failure.message = cut(&failure.message, STEP_MESSAGE_BYTES_MAX).into_owned();
        if failure.retryable && work.execution.is_none() && self.prepare_again(&work)? {
            return Ok(());
        }
        let Some(session) = store::session(self.db)? else { return Ok(()) };
        let reply = Owed::<Effect>::settle(self.db, &work_key(work.attempt))?.and_then(|debt| debt.reply_to);
        self.save_step(&work, sandbox::Step::Failed, &failure.message, true)?;
        match &work.execution {
            Some(execution) => {
                self.fail_execution(execution, Status::Failed, &failure.message, "error", None)?;
            }
            None => {
                self.forget_session(&session)?;
                // Viewers are still to be told, in its name.
                self.session = Some(session.id);
                execute(
                    self.db,
                    "INSERT OR REPLACE INTO tombstone (one, at, message) VALUES (1, ?, ?)",
                    &[self.now.into(), failure.message.as_str().into()],
                )?;
            }
        }
        // Only now, when the state is consistent: a front end reacts at once (spec/session.md 7.3).
        self.broadcast_failed(&work, &failure.message)?;
        self.reply_if(reply, Err(start_error(failure)));
        Ok(())
    }

    /// The last step of work that failed, whoever found out.
    fn broadcast_failed(&mut self, work: &WorkRow, message: &str) -> Result<(), DatabaseError> {
        let begins_by_itself = work.execution.is_some() && work.source.starts_with("prep_");
        let prefix = if begins_by_itself { "Auto-initiate failed: " } else { "" };
        self.broadcast_preparing(&work.source, sandbox::Step::Failed, &format!("{prefix}{message}"))
    }

    /// The bound of a preparation or start, whatever happens.
    pub fn expire_work(&mut self) -> Result<(), DatabaseError> {
        let deadline = self.work_deadline()?;
        match store::work(self.db)? {
            Some(work) if deadline.is_some_and(|at| at <= self.now) => {
                let (code, message) = if work.n > 0 {
                    ("WORKSPACE_SETUP_FAILED", "Preparation took too long")
                } else {
                    ("SANDBOX_CONNECT_FAILED", "The container did not begin in time")
                };
                self.work_failed(work, Failure { code: code.into(), message: message.into(), retryable: true })
            }
            _ => Ok(()),
        }
    }

    /// When the work under way is given up.
    pub fn work_deadline(&self) -> Result<Option<i64>, DatabaseError> {
        Ok(store::work(self.db)?
            .filter(|work| !work.ended)
            .map(|work| work.since.saturating_add(self.config.limits.work_ms)))
    }

    /// An execution ended while the container was still asked to start it. A front end that waits learns what became of it.
    pub fn end_start(&mut self, id: &ExecutionId, status: Status, error: Option<&str>) -> Result<(), DatabaseError> {
        let Some(work) = store::work(self.db)?.filter(|work| !work.ended && work.execution.as_ref() == Some(id)) else {
            return Ok(());
        };
        let reply = Owed::<Effect>::settle(self.db, &work_key(work.attempt))?.and_then(|debt| debt.reply_to);
        execute(self.db, "UPDATE work SET ended = 1 WHERE attempt = ?", &[work.attempt.into()])?;
        let Some(session) = store::session(self.db)? else { return Ok(()) };
        if status == Status::Completed {
            // The turn was over before the report of its start came in.
            self.execution_accepted(&session, id, None, reply)?;
            return self.broadcast_ready(&work.source, session.branch.as_deref(), None);
        }
        let error = error.unwrap_or("The execution ended before it began");
        self.broadcast_failed(&work, error)?;
        let failure = Failure { code: "WRAPPER_START_FAILED".into(), message: error.to_owned(), retryable: false };
        self.reply_if(reply, Err(start_error(failure)));
        Ok(())
    }
}

fn start_error(failure: Failure) -> TrpcError {
    if failure.retryable {
        TrpcError::retryable(&failure.code, failure.message)
    } else {
        TrpcError { error: Some(failure.code), ..TrpcError::new(Code::InternalServerError, failure.message) }
    }
}

fn workspace(session: &SessionRow) -> WorkspacePlan {
    let input = &session.input;
    WorkspacePlan {
        session_id: session.id.clone(),
        kilo_session_id: session.kilo_session.clone(),
        git_url: input.git.url.clone(),
        git_token: input.git.token.clone(),
        upstream_branch: input.upstream_branch.clone(),
        // What git calls a detached head is no branch's name.
        last_branch: session.branch.as_deref().and_then(|branch| BranchName::parse(branch).ok()),
        shallow: input.shallow,
        setup_commands: input.setup_commands.clone(),
        env: input.env_vars.clone(),
        mcp_servers: input.mcp_servers.clone(),
        append_system_prompt: input.append_system_prompt.clone(),
        permissions: input.permissions,
    }
}

/// Letters, digits and `-_.~` stay; everything else becomes `%XX`.
pub fn percent_encode(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

fn turn_images(step: &Step<'_>, session: &SessionRow, images: &Images) -> Vec<TurnImage> {
    let Images { path, files } = images;
    let of_file = |file: &ImageFile| TurnImage {
        url: step.session_url(session, &format!("images/{path}/{file}")),
        filename: file.to_string(),
        mime: file.content_type().to_owned(),
    };
    files.iter().map(of_file).collect()
}

/// The plan of a turn, and the secret of which only the hash is kept.
pub fn turn_plan(
    step: &mut Step<'_>,
    session: &SessionRow,
    execution: &ExecutionRow,
    secret: String,
    prompt: crate::execution::Prompt,
) -> TurnPlan {
    let socket = step.session_url(session, "ingest").replacen("http", "ws", 1);
    TurnPlan {
        execution_id: execution.id.clone(),
        message_id: prompt.message_id,
        prompt: prompt.text,
        images: prompt.images.map_or_else(Vec::new, |images| turn_images(step, session, &images)),
        agent: prompt.mode.agent().to_owned(),
        model: prompt.model,
        variant: prompt.variant,
        auto_commit: prompt.auto_commit,
        condense_on_complete: prompt.condense_on_complete,
        ingest_url: format!("{socket}?executionId={}", execution.id),
        ingest_secret: Secret(secret),
        logs_url: Some(step.session_url(session, &format!("logs/{}/logs.tar.gz", execution.id))),
    }
}
