//! What a person sees of a town: the status snapshot (spec/town.md 9.2).

use crate::Step;
use crate::drain;
use crate::error::Fault;
use crate::reconcile::invariants;
use crate::reconcile::reconcile;
use crate::reconcile::snapshot::Snapshot;
use crate::store;
use protocol::time::iso8601;
use protocol::town::agent::AgentStatus;
use protocol::town::bead::BeadStatus;
use protocol::town::status::AgentCounts;
use protocol::town::status::AlarmStatus;
use protocol::town::status::BeadCounts;
use protocol::town::status::Patrol;
use protocol::town::status::RecentEvent;
use protocol::town::status::TickMetrics;
use protocol::town::status::TownStatus;
use protocol::town::status::Violation;

/// How much of the history a snapshot shows.
const RECENT: i64 = 20;
/// Up to where issues of a status are counted: what failed stays, and is counted again whenever somebody looks.
const COUNTED: i64 = 1_000;

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
        let mut counts = BeadCounts {
            open: self.count_issues(BeadStatus::Open)?,
            in_progress: self.count_issues(BeadStatus::InProgress)?,
            in_review: self.count_issues(BeadStatus::InReview)?,
            failed: self.count_issues(BeadStatus::Failed)?,
            triage_requests: 0,
        };
        counts.triage_requests = i64::try_from(self.open_triage()?.len()).unwrap_or(i64::MAX);
        Ok(counts)
    }

    /// How many issues are there, as far as anybody wants to count them.
    fn count_issues(&self, status: BeadStatus) -> Result<i64, Fault> {
        let rows = self.db.query(
            "SELECT COUNT(*) FROM (SELECT 1 FROM beads WHERE type = 'issue' AND status = ? LIMIT ?)",
            &[status.as_str().into(), COUNTED.into()],
        )?;
        Ok(rows.first().map_or(Ok(0), |row| row.get(0))?)
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
}
