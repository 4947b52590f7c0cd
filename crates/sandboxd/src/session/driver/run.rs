//! One execution while it runs: its machines' surroundings.

use super::Start;
use crate::clock::now_ms;
use crate::session::error::Cancel;
use crate::session::error::WorkError;
use crate::session::events::Events;
use crate::session::git::Git;
use crate::session::images::Image;
use crate::session::kilo::client::Client;
use crate::session::kilo::server::Ender;
use crate::session::kilo::server::Gone;
use crate::session::link::Link;
use protocol::id::BranchName;
use protocol::sandbox::TurnPlan;
use sandbox_core::gap::Gap;
use sandbox_core::job::JobEnd;
use sandbox_core::job::JobId;
use sandbox_core::limits::Limits;
use sandbox_core::overtaken::Overtaken;
use sandbox_core::turn::Turn;
use tokio::sync::oneshot;
use tokio::task::AbortHandle;

/// One execution.
pub(super) struct Run {
    pub(super) id: JobId,
    pub(super) plan: TurnPlan,
    /// Empty once they were sent.
    pub(super) images: Vec<Image>,
    pub(super) client: Client,
    pub(super) git: Git,
    pub(super) requested_branch: Option<BranchName>,
    pub(super) accepted: Option<oneshot::Sender<Result<(), WorkError>>>,
    /// None once it was seen.
    pub(super) gone: Option<Gone>,
    pub(super) ender: Ender,
    pub(super) turn: Turn,
    pub(super) link: Option<Link>,
    pub(super) events: Option<Events>,
    /// Whether this subscription has been heard.
    pub(super) open: bool,
    /// Whether an earlier subscription of this execution was open.
    pub(super) heard_before: bool,
    /// What the stream says while the agent server is asked what a gap in it held.
    pub(super) gap: Option<Gap>,
    /// What the stream says while the agent server is asked on a viewer's behalf.
    pub(super) snapshot: Option<Overtaken>,
    /// Counts the subscriptions: an answer about an older one's gap is of no use.
    pub(super) subscriptions: u64,
    /// When the prompt was sent, in milliseconds since 1970.
    pub(super) prompted_at: i64,
    /// When to subscribe again.
    pub(super) resubscribe_at: Option<i64>,
    /// Auto-commit and condensing, which may be cancelled.
    pub(super) after_turn: Vec<AbortHandle>,
}

impl Run {
    /// The execution that `start` asked for, as job `id`.
    pub(super) fn new(id: JobId, start: Start, limits: &Limits) -> Self {
        Self {
            id,
            turn: Turn::new(limits, start.client.session().clone(), start.permissions),
            plan: start.plan,
            images: start.images,
            client: start.client,
            git: start.git,
            requested_branch: start.requested_branch,
            accepted: Some(start.accepted),
            gone: Some(start.gone),
            ender: start.ender,
            link: None,
            events: None,
            open: false,
            heard_before: false,
            gap: None,
            snapshot: None,
            subscriptions: 0,
            prompted_at: now_ms(),
            resubscribe_at: None,
            after_turn: Vec::new(),
        }
    }

    /// Subscribes to the agent's events, instead of any earlier subscription.
    pub(super) fn subscribe(&mut self, limits: &Limits) {
        self.open = false;
        self.gap = None;
        self.subscriptions = self.subscriptions.saturating_add(1);
        self.resubscribe_at = None;
        self.events = Some(Events::subscribe(self.client.clone(), limits));
    }

    /// Nobody will listen to the agent any more: one that may yet take up the prompt that was taken back must not outlive this. The next turn
    /// starts another.
    pub(super) fn end_agent_that_may_yet_begin(&self) {
        if self.turn.may_yet_begin() {
            self.ender.end();
        }
    }

    /// Tells whoever asked for it whether the agent took the prompt. Only the first answer counts.
    pub(super) fn answer(&mut self, result: Result<(), WorkError>) {
        if let Some(accepted) = self.accepted.take() {
            // Whoever asked may have given up.
            let _ = accepted.send(result);
        }
    }
}

/// How a job ended, for the log: what the agent said about it is not for there.
pub(super) fn name_of(end: &JobEnd) -> &'static str {
    match end {
        JobEnd::Abandoned(why) => why.reason(),
        JobEnd::NotStarted { code, .. } => code,
        JobEnd::Replaced => "replaced",
        JobEnd::Reported => "reported",
    }
}

/// Why the agent did not take the prompt, if this is how its job ended.
pub(super) fn why_not_accepted(end: &JobEnd) -> WorkError {
    match end {
        JobEnd::NotStarted { code: "CONNECTION_ERROR", message } => WorkError::Ingest(message.clone()),
        JobEnd::NotStarted { message, .. } => WorkError::Prompt(message.clone()),
        JobEnd::Abandoned(why) => WorkError::Ingest(why.reason().to_owned()),
        JobEnd::Replaced | JobEnd::Reported => WorkError::Cancelled(Cancel::Aborted),
    }
}
