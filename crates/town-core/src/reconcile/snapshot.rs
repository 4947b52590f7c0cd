//! The rows that the rules look at. Every statement goes by key from what is not over: what is over costs nothing.

use crate::error::Fault;
use crate::limits::Limits;
use crate::store;
use crate::store::agent::AgentRow;
use crate::store::instant;
use crate::store::read_id;
use crate::store::read_word;
use crate::store::review::Review;
use crate::store::town::TownRow;
use database::Database;
use protocol::id::BeadId;
use protocol::id::RigId;
use protocol::town::agent::Role;
use protocol::town::bead::Bead;
use protocol::town::bead::BeadStatus;
use protocol::town::bead::BeadType;
use protocol::town::convoy::Convoy;
use std::collections::BTreeMap;
use std::collections::BTreeSet;

/// The town at one moment.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    pub now: i64,
    pub draining: bool,
    /// Whether too much was dispatched: nothing more is.
    pub breaker_open: bool,
    /// Whether refineries review pull requests too.
    pub code_review: bool,
    pub agents: Vec<AgentView>,
    /// Issues that somebody has, or had.
    pub issues: Vec<IssueView>,
    /// Issues that only wait for an agent, oldest first: as many as one tick may hand out.
    pub ready: Vec<Bead>,
    pub reviews: Vec<ReviewView>,
    pub convoys: Vec<ConvoyView>,
    pub default_branches: BTreeMap<RigId, String>,
}

#[derive(Clone, Debug)]
pub struct AgentView {
    pub row: AgentRow,
    /// What is on its hook; None if there is no hook, or no such bead.
    pub hooked: Option<(BeadType, BeadStatus)>,
    /// The sources of what it was told lately. Read only for an agent that is silent.
    pub nudged_by: Vec<String>,
}

#[derive(Clone, Debug)]
pub struct IssueView {
    pub bead: Bead,
    pub blocked: bool,
    pub reviews: Tally,
}

/// The reviews of an issue, apart from those that failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub unfinished: i64,
    pub merged: i64,
}

#[derive(Clone, Debug)]
pub struct ReviewView {
    pub bead: Bead,
    pub review: Review,
    /// Whether it waits for rework.
    pub blocked: bool,
}

#[derive(Clone, Debug)]
pub struct ConvoyView {
    pub bead: Bead,
    pub convoy: Convoy,
    /// A recount: how many are over with their reviews, of how many.
    pub counted: (i64, i64),
    /// Its own landings, oldest first.
    pub landings: Vec<Bead>,
    /// The rig of any of its beads.
    pub rig: Option<RigId>,
}

impl Snapshot {
    pub fn read(
        db: &dyn Database,
        limits: &Limits,
        now: i64,
        draining: bool,
        town: Option<&TownRow>,
    ) -> Result<Self, Fault> {
        let blocked = blocked(db)?;
        Ok(Self {
            now,
            draining,
            breaker_open: breaker_open(db, limits, now)?,
            code_review: town.is_none_or(|town| town.config.refinery.code_review),
            agents: agents(db, limits, now)?,
            issues: issues(db, &blocked)?,
            ready: ready(db, limits, now, limits.breaker_dispatches)?,
            reviews: reviews(db, &blocked)?,
            convoys: convoys(db)?,
            default_branches: store::town::rigs(db)?.into_iter().map(|rig| (rig.id, rig.default_branch)).collect(),
        })
    }

    /// Who holds a bead.
    pub fn holder(&self, bead: &BeadId) -> Option<&AgentView> {
        self.agents.iter().find(|view| view.row.agent.current_hook_bead_id.as_ref() == Some(bead))
    }
}

/// Whether the circuit breaker is open. It counts healthy long runs too (spec/town.md 13, Q8).
pub fn breaker_open(db: &dyn Database, limits: &Limits, now: i64) -> Result<bool, Fault> {
    let rows = db.query(
        "SELECT COUNT(*) FROM beads WHERE last_dispatch_attempt_at > ? AND dispatch_attempts > 0 AND status <> 'closed'",
        &[instant(now.saturating_sub(limits.breaker_window_ms))],
    )?;
    let count: i64 = rows.first().map_or(Ok(0), |row| row.get(0))?;
    Ok(count >= limits.breaker_dispatches)
}

fn agents(db: &dyn Database, limits: &Limits, now: i64) -> Result<Vec<AgentView>, Fault> {
    let rows = db.query(
        "SELECT a.bead_id, b.type, b.status FROM agent_metadata a JOIN beads b ON b.bead_id = a.current_hook_bead_id",
        &[],
    )?;
    let mut hooks: BTreeMap<protocol::id::AgentId, (BeadType, BeadStatus)> = BTreeMap::new();
    for row in &rows {
        hooks.insert(read_id(row, 0)?, (read_word(row, 1, BeadType::parse)?, read_word(row, 2, BeadStatus::parse)?));
    }
    let mut views = Vec::new();
    for row in store::agent::all(db)? {
        let seen = row.last_event_at.or(row.agent.last_activity_at);
        let silent = seen.is_some_and(|at| now.saturating_sub(at) > limits.gupp_warn_ms);
        let nudged_by = if silent && row.is_running() && row.agent.role != Role::Mayor {
            store::nudge::sources_since(db, &row.agent.id, now.saturating_sub(limits.gupp_repeat_ms))?
        } else {
            Vec::new()
        };
        views.push(AgentView { hooked: hooks.get(&row.agent.id).copied(), nudged_by, row });
    }
    Ok(views)
}

fn issues(db: &dyn Database, blocked: &BTreeSet<BeadId>) -> Result<Vec<IssueView>, Fault> {
    let tallies = tallies(db)?;
    let beads = store::bead::select(
        db,
        "WHERE b.type = 'issue' AND b.status IN ('open', 'in_progress', 'in_review')
         AND (b.status <> 'open' OR b.assignee_agent_bead_id IS NOT NULL) ORDER BY b.rowid",
        &[],
    )?;
    Ok(beads
        .into_iter()
        .map(|bead| IssueView {
            blocked: blocked.contains(&bead.bead_id),
            reviews: tallies.get(&bead.bead_id).copied().unwrap_or_default(),
            bead,
        })
        .collect())
}

fn reviews(db: &dyn Database, blocked: &BTreeSet<BeadId>) -> Result<Vec<ReviewView>, Fault> {
    let beads = store::bead::select(
        db,
        "WHERE b.type = 'merge_request' AND b.status IN ('open', 'in_progress') ORDER BY b.rowid",
        &[],
    )?;
    let mut views = Vec::new();
    for bead in beads {
        if let Some(review) = store::review::find(db, &bead.bead_id)? {
            views.push(ReviewView { blocked: blocked.contains(&bead.bead_id), review, bead });
        }
    }
    Ok(views)
}

fn convoys(db: &dyn Database) -> Result<Vec<ConvoyView>, Fault> {
    let beads = store::bead::select(
        db,
        "WHERE b.type = 'convoy' AND b.status IN ('open', 'in_progress', 'in_review') ORDER BY b.rowid",
        &[],
    )?;
    let mut views = Vec::new();
    for bead in beads {
        let Some(convoy) = store::convoy::find(db, &bead.bead_id)? else { continue };
        let counted = store::dependency::progress(db, &bead.bead_id)?;
        let is_complete = counted.1 > 0 && counted.0 >= counted.1;
        let landings = if is_complete { store::review::of_source(db, &bead.bead_id)? } else { Vec::new() };
        let rig = if is_complete {
            store::dependency::tracking(db, &bead.bead_id)?.into_iter().find_map(|tracked| tracked.rig_id)
        } else {
            None
        };
        views.push(ConvoyView { bead, convoy, counted, landings, rig });
    }
    Ok(views)
}

/// What B1 may hand out, or must give up. However much waits, only what is taken leaves the database.
pub fn ready(db: &dyn Database, limits: &Limits, now: i64, count: i64) -> Result<Vec<Bead>, Fault> {
    let since = |attempts: i64| instant(now.saturating_sub(limits.cooldown_ms(attempts)));
    let parameters =
        [limits.dispatch_attempts_max.into(), since(1), since(2), since(3), since(4), since(5), count.into()];
    Ok(store::bead::select(db, READY, &parameters)?)
}

/// Work that somebody has, and that waits for something that is not over.
fn blocked(db: &dyn Database) -> Result<BTreeSet<BeadId>, Fault> {
    ids(
        db,
        "SELECT DISTINCT w.bead_id FROM beads w
         CROSS JOIN bead_dependencies d ON d.bead_id = w.bead_id AND d.dependency_type = 'blocks'
         CROSS JOIN beads b ON b.bead_id = d.depends_on_bead_id
         WHERE w.type IN ('issue', 'merge_request') AND w.status IN ('open', 'in_progress')
         AND (w.type = 'merge_request' OR w.assignee_agent_bead_id IS NOT NULL) AND b.status NOT IN ('closed', 'failed')",
    )
}

fn tallies(db: &dyn Database) -> Result<BTreeMap<BeadId, Tally>, Fault> {
    let rows = db.query(
        "SELECT b.bead_id, SUM(m.status IN ('open', 'in_progress')), SUM(m.status = 'closed') FROM beads b
         CROSS JOIN bead_dependencies d ON d.depends_on_bead_id = b.bead_id AND d.dependency_type = 'tracks'
         CROSS JOIN beads m ON m.bead_id = d.bead_id AND m.type = 'merge_request'
         WHERE b.type = 'issue' AND b.status = 'in_review' GROUP BY b.bead_id",
        &[],
    )?;
    let mut tallies = BTreeMap::new();
    for row in &rows {
        let tally = Tally { unfinished: row.get(1)?, merged: row.get(2)? };
        tallies.insert(read_id(row, 0)?, tally);
    }
    Ok(tallies)
}

fn ids(db: &dyn Database, sql: &str) -> Result<BTreeSet<BeadId>, Fault> {
    let rows = db.query(sql, &[])?;
    Ok(rows.iter().map(|row| read_id(row, 0)).collect::<Result<_, _>>()?)
}

/// Open issues with a rig and without an agent, label or blocker that keeps them, whose convoy was started, and which do not cool down.
const READY: &str = "WHERE b.type = 'issue' AND b.status = 'open' AND b.assignee_agent_bead_id IS NULL AND b.rig_id IS NOT NULL
    AND b.labels NOT LIKE '%\"gt:held\"%' AND b.labels NOT LIKE '%\"gt:triage-request\"%'
    AND (b.last_dispatch_attempt_at IS NULL OR b.dispatch_attempts >= ?1
        OR b.last_dispatch_attempt_at <= CASE MAX(b.dispatch_attempts, 1) WHEN 1 THEN ?2 WHEN 2 THEN ?3 WHEN 3 THEN ?4 WHEN 4 THEN ?5 ELSE ?6 END)
    AND NOT EXISTS (SELECT 1 FROM bead_dependencies d CROSS JOIN beads o ON o.bead_id = d.depends_on_bead_id
        WHERE d.bead_id = b.bead_id AND d.dependency_type = 'blocks' AND o.status NOT IN ('closed', 'failed'))
    AND NOT EXISTS (SELECT 1 FROM bead_dependencies d CROSS JOIN convoy_metadata c ON c.bead_id = d.depends_on_bead_id
        WHERE d.bead_id = b.bead_id AND d.dependency_type = 'tracks' AND c.staged = 1)
    ORDER BY b.rowid LIMIT ?7";
