//! What a person sees of a town: the status snapshot, and why a bead waits (spec/town.md 9.2).

use crate::Step;
use crate::drain;
use crate::error::Fault;
use crate::reconcile::cooling_until;
use crate::reconcile::invariants;
use crate::reconcile::reconcile;
use crate::reconcile::snapshot;
use crate::reconcile::snapshot::Snapshot;
use crate::store;
use protocol::id::BeadId;
use protocol::time::iso8601;
use protocol::town::agent::AgentStatus;
use protocol::town::bead::BeadStatus;
use protocol::town::bead::BeadType;
use protocol::town::bead::label;
use protocol::town::status::AgentCounts;
use protocol::town::status::AlarmStatus;
use protocol::town::status::BeadCounts;
use protocol::town::status::Patrol;
use protocol::town::status::RecentEvent;
use protocol::town::status::TickMetrics;
use protocol::town::status::TownStatus;
use protocol::town::status::Violation;
use protocol::town::status::WaitReason;
use protocol::town::status::Why;

/// How much of the history a snapshot shows.
const RECENT: i64 = 20;

impl Step<'_> {
    pub fn status(&self, reconciler: Option<TickMetrics>) -> Result<TownStatus, Fault> {
        let agents = store::agent::all(self.db)?;
        let count = |status: AgentStatus| {
            let n = agents.iter().filter(|row| row.agent.status == status).count();
            i64::try_from(n).unwrap_or(i64::MAX)
        };
        let mut patrol = Patrol { stalled_agents: count(AgentStatus::Stalled), ..Patrol::default() };
        let since = self.now.saturating_sub(self.limits.gupp_repeat_ms);
        for row in &agents {
            if row.is_running() {
                let sources = store::nudge::sources_since(self.db, &row.agent.id, since)?;
                let told = |source: &str| i64::from(sources.iter().any(|own| own == source));
                patrol.gupp_warnings = patrol.gupp_warnings.saturating_add(told("reconciler:warn"));
                patrol.gupp_escalations = patrol.gupp_escalations.saturating_add(told("reconciler:escalate"));
            }
            if let Some(hook) = &row.agent.current_hook_bead_id
                && !self.is_live(hook)?
            {
                patrol.orphaned_hooks = patrol.orphaned_hooks.saturating_add(1);
            }
        }
        let interval = self.interval_ms()?;
        let started_at = drain::started_at(self.db)?;
        Ok(TownStatus {
            alarm: AlarmStatus {
                next_fire_at: self.next_tick()?,
                interval_ms: interval.unwrap_or_default(),
                interval_label: match interval {
                    Some(ms) if ms == self.limits.tick_active_ms => "active (5s)".into(),
                    Some(_) => "idle (5m)".into(),
                    None => "at rest".into(),
                },
            },
            agents: AgentCounts {
                working: count(AgentStatus::Working),
                waiting: count(AgentStatus::Waiting),
                idle: count(AgentStatus::Idle),
                stalled: count(AgentStatus::Stalled),
                dead: count(AgentStatus::Dead),
                total: i64::try_from(agents.len()).unwrap_or(i64::MAX),
            },
            beads: self.bead_counts()?,
            patrol,
            reconciler,
            recent_events: store::history::list(self.db, None, None, RECENT)?
                .into_iter()
                .map(|event| RecentEvent {
                    time: event.created_at,
                    kind: event.event_type.as_str().to_owned(),
                    message: event
                        .new_value
                        .map_or_else(|| event.bead_id.to_string(), |value| format!("{}: {value}", event.bead_id)),
                })
                .collect(),
            draining: started_at.is_some(),
            drain_started_at: started_at.map(iso8601),
        })
    }

    fn bead_counts(&self) -> Result<BeadCounts, Fault> {
        let mut counts = BeadCounts::default();
        let rows = self.db.query(
            "SELECT status, COUNT(*) FROM beads WHERE type = 'issue' AND status IN ('open', 'in_progress', 'in_review', 'failed')
             GROUP BY status",
            &[],
        )?;
        for row in &rows {
            let count = row.get(1)?;
            match BeadStatus::parse(&row.get::<String>(0)?) {
                Some(BeadStatus::Failed) => counts.failed = count,
                Some(BeadStatus::InProgress) => counts.in_progress = count,
                Some(BeadStatus::InReview) => counts.in_review = count,
                Some(BeadStatus::Open) => counts.open = count,
                Some(BeadStatus::Closed) | None => {}
            }
        }
        counts.triage_requests = i64::try_from(self.open_triage()?.len()).unwrap_or(i64::MAX);
        Ok(counts)
    }

    pub fn violations(&self) -> Result<Vec<Violation>, Fault> {
        Ok(invariants::violations(&self.snapshot()?))
    }

    /// What a tick would decide now, as kind and target.
    pub fn dry_run(&self) -> Result<Vec<String>, Fault> {
        let actions = reconcile(&self.snapshot()?, self.limits);
        Ok(actions.iter().map(|action| format!("{}/{}", action.kind(), action.target())).collect())
    }

    pub fn snapshot(&self) -> Result<Snapshot, Fault> {
        Snapshot::read(self.db, self.limits, self.now, self.is_draining()?, self.town.as_ref())
    }

    /// All that holds a bead back, by the same tests that the reconciler makes.
    pub fn why(&self, bead: &BeadId) -> Result<Why, Fault> {
        let bead = self.bead(bead)?;
        let mut reasons = Vec::new();
        let mut add = |holds: bool, reason| {
            if holds {
                reasons.push(reason);
            }
        };
        let blocked_by = store::dependency::blockers(self.db, &bead.bead_id)?;
        let (attempts, last) = (bead.dispatch_attempts, bead.last_dispatch_attempt_at);
        let cooling = cooling_until(self.limits, self.now, attempts, last);
        let holder = store::agent::hooked_to(self.db, &bead.bead_id)?;
        let works = holder.as_ref().is_some_and(|row| row.is_running());
        let mut waits = false;
        match bead.status {
            BeadStatus::Closed | BeadStatus::Failed => add(true, WaitReason::Terminal),
            BeadStatus::InReview => add(true, WaitReason::Review),
            _ if works => add(true, WaitReason::Working),
            BeadStatus::InProgress | BeadStatus::Open => waits = true,
        }
        if waits {
            let convoys = store::dependency::tracked(self.db, &bead.bead_id)?;
            let mut staged = false;
            for convoy in convoys {
                staged |= store::convoy::find(self.db, &convoy.bead_id)?.is_some_and(|convoy| convoy.staged);
            }
            add(!blocked_by.is_empty(), WaitReason::Blocked);
            add(staged, WaitReason::Staged);
            add(bead.has_label(label::HELD), WaitReason::Held);
            add(bead.has_label(label::TRIAGE_REQUEST), WaitReason::Triage);
            add(bead.rig_id.is_none() && bead.kind == BeadType::Issue, WaitReason::NoRig);
            add(self.is_draining()?, WaitReason::Draining);
            add(cooling.is_some(), WaitReason::CoolingDown);
            add(snapshot::breaker_open(self.db, self.limits, self.now)?, WaitReason::Breaker);
            add(self.is_held_back(&bead.bead_id)?, WaitReason::LoopBreaker);
        }
        if reasons.is_empty() {
            reasons.push(WaitReason::NextTick);
        }
        Ok(Why {
            bead_id: bead.bead_id,
            status: bead.status,
            reasons,
            blocked_by,
            cooling_down_until: cooling.filter(|_| waits),
            dispatch_attempts: bead.dispatch_attempts,
            max_dispatch_attempts: self.limits.dispatch_attempts_max,
            agent_id: holder.map(|row| row.agent.id),
        })
    }
}
