//! `getSession`, and names that are derived (spec/session.md 2.9, 3.8). Never any secret.

use crate::Step;
use crate::callback::undelivered;
use crate::limits::Limits;
use crate::message::Answer;
use crate::message::PREPARATION_FAILED;
use crate::store;
use crate::store::ExecutionRow;
use crate::store::Status;
use database::DatabaseError;
use object_core::ReplyTo;
use object_core::entropy::sha256_hex;
use protocol::id::InvalidId;
use protocol::id::SandboxId;
use protocol::id::UserId;
use protocol::trpc::Code;
use protocol::trpc::ExecutionView;
use protocol::trpc::SessionView;
use protocol::trpc::TrpcError;

/// The container that the sessions of one user, or of one user in an organisation, share; those that a bot began for the user have their own.
pub fn sandbox_id(organization: Option<&str>, user: &UserId, bot: Option<&str>) -> Result<SandboxId, InvalidId> {
    let owner = organization.map_or_else(|| format!("user:{user}"), str::to_owned);
    let (prefix, name) = match (organization, bot.filter(|bot| !bot.is_empty())) {
        (Some(_), None) => ("org", format!("{owner}__{user}")),
        (None, None) => ("usr", format!("{owner}__{user}")),
        (Some(_), Some(bot)) => ("bot", format!("{owner}__{user}__bot:{bot}")),
        (None, Some(bot)) => ("ubt", format!("{owner}__{user}__bot:{bot}")),
    };
    let hash = sha256_hex(&name);
    SandboxId::parse(&format!("{prefix}-{}", hash.get(..48).unwrap_or_default()))
}

impl Step<'_> {
    pub fn view(&mut self, reply: ReplyTo) -> Result<(), DatabaseError> {
        let Some(session) = store::session(self.db)? else {
            let error = store::tombstone(self.db)?.map(|_| PREPARATION_FAILED.to_owned());
            let not_found = TrpcError::new(Code::NotFound, "Session not found");
            self.reply(reply, Err(TrpcError { error, ..not_found }));
            return Ok(());
        };
        let show = |row: ExecutionRow| execution_view(row, &self.config.limits, self.now);
        let active = match &session.active {
            Some(active) => store::execution(self.db, active)?.map(show),
            None => None,
        };
        let last = store::last_execution(self.db)?.map(show);
        let input = session.input;
        let view = SessionView {
            session_id: session.id.to_string(),
            kilo_session_id: session.kilo_session.to_string(),
            user_id: session.user.to_string(),
            org_id: input.organization_id,
            sandbox_id: session.sandbox.to_string(),
            git_url: input.git.github_repo.is_none().then_some(input.git.url),
            github_repo: input.git.github_repo,
            platform: input.platform,
            prompt: input.prompt,
            mode: serde_json::to_value(input.mode)
                .ok()
                .and_then(|mode| mode.as_str().map(str::to_owned))
                .unwrap_or_default(),
            model: input.model,
            variant: input.variant,
            auto_commit: input.auto_commit,
            upstream_branch: session.branch.or(input.upstream_branch.map(String::from)),
            env_var_count: input.env_vars.len(),
            setup_command_count: input.setup_commands.len(),
            mcp_server_count: input
                .mcp_servers
                .and_then(|servers| servers.as_object().map(|map| map.len()))
                .unwrap_or(0),
            execution: active,
            last_execution: last,
            callbacks: undelivered(self.db)?,
            prepared_at: session.prepared_at,
            initiated_at: session.initiated_at,
            initial_message_id: input.initial_message_id.map(String::from),
            timestamp: session.changed_at,
            version: session.changed_at,
        };
        self.reply(reply, Ok(Answer::View(Box::new(view))));
        Ok(())
    }
}

fn execution_view(row: ExecutionRow, limits: &Limits, now: i64) -> ExecutionView {
    ExecutionView {
        health: health(&row, limits, now).to_owned(),
        id: row.id.to_string(),
        status: row.status.as_str().to_owned(),
        started_at: row.started_at,
        last_heartbeat: row.heartbeat_at,
        process_id: None,
        error: row.error,
        resume: row.resume,
    }
}

fn health(row: &ExecutionRow, limits: &Limits, now: i64) -> &'static str {
    if row.status != Status::Running {
        return "unknown";
    }
    let (since, healthy_ms) = match row.heartbeat_at {
        Some(at) => (at, limits.healthy_ms),
        None => (row.started_at, limits.startup_grace_ms),
    };
    match now.saturating_sub(since) {
        age if age < healthy_ms => "healthy",
        age if age < limits.stale_ms => "unknown",
        _ => "stale",
    }
}
