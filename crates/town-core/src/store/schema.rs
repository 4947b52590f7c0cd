//! The tables of the ledger (spec/town.md 3.2), by version.
//!
//! There are no CHECK and no foreign-key constraints: a bead outlives what it names, and old rows may hold words of other versions. Each
//! index costs a written row, so there is one only where the tick or a listing reads by it. One hook per agent and one agent per hook is a
//! constraint of the table itself.

use database::Migration;
use object_core::owed::OWED_TABLE;

/// Version 2: the ledger, beside the drain of version 1.
pub const LEDGER: Migration = Migration {
    version: 2,
    statements: &[
        OWED_TABLE,
        "CREATE TABLE town (
            one INTEGER PRIMARY KEY CHECK (one = 1), id TEXT NOT NULL, created_at TEXT NOT NULL, config TEXT NOT NULL
        )",
        "CREATE TABLE rigs (
            id TEXT PRIMARY KEY, name TEXT NOT NULL, git_url TEXT NOT NULL DEFAULT '', default_branch TEXT NOT NULL DEFAULT 'main',
            config TEXT NOT NULL DEFAULT '{}', created_at TEXT NOT NULL
        )",
        "CREATE UNIQUE INDEX idx_rigs_name ON rigs (name)",
        "CREATE TABLE beads (
            bead_id TEXT PRIMARY KEY, type TEXT NOT NULL, status TEXT NOT NULL DEFAULT 'open', title TEXT NOT NULL, body TEXT,
            rig_id TEXT, parent_bead_id TEXT, assignee_agent_bead_id TEXT, priority TEXT DEFAULT 'medium',
            labels TEXT DEFAULT '[]', metadata TEXT DEFAULT '{}', dispatch_attempts INTEGER NOT NULL DEFAULT 0,
            last_dispatch_attempt_at TEXT, created_by TEXT, created_at TEXT NOT NULL, updated_at TEXT NOT NULL, closed_at TEXT
        )",
        "CREATE INDEX idx_beads_type_status ON beads (type, status)",
        "CREATE INDEX idx_beads_parent ON beads (parent_bead_id) WHERE parent_bead_id IS NOT NULL",
        "CREATE INDEX idx_beads_rig ON beads (rig_id, status)",
        "CREATE INDEX idx_beads_assignee ON beads (assignee_agent_bead_id, type, status)
            WHERE assignee_agent_bead_id IS NOT NULL",
        "CREATE INDEX idx_beads_dispatched ON beads (last_dispatch_attempt_at) WHERE last_dispatch_attempt_at IS NOT NULL",
        "CREATE TABLE bead_events (
            bead_event_id TEXT PRIMARY KEY, bead_id TEXT NOT NULL, agent_id TEXT, event_type TEXT NOT NULL, old_value TEXT,
            new_value TEXT, metadata TEXT DEFAULT '{}', created_at TEXT NOT NULL
        )",
        "CREATE INDEX idx_bead_events_bead ON bead_events (bead_id)",
        "CREATE INDEX idx_bead_events_created ON bead_events (created_at)",
        "CREATE TABLE bead_dependencies (
            bead_id TEXT NOT NULL, depends_on_bead_id TEXT NOT NULL, dependency_type TEXT NOT NULL DEFAULT 'blocks',
            PRIMARY KEY (bead_id, depends_on_bead_id)
        ) WITHOUT ROWID",
        "CREATE INDEX idx_bead_dependencies_on ON bead_dependencies (depends_on_bead_id)",
        "CREATE TABLE agent_metadata (
            bead_id TEXT PRIMARY KEY, role TEXT NOT NULL, identity TEXT NOT NULL UNIQUE, container_process_id TEXT,
            status TEXT NOT NULL DEFAULT 'idle', current_hook_bead_id TEXT, dispatch_attempts INTEGER NOT NULL DEFAULT 0,
            checkpoint TEXT, last_activity_at TEXT, agent_status_message TEXT, agent_status_updated_at TEXT,
            last_event_type TEXT, last_event_at TEXT, active_tools TEXT NOT NULL DEFAULT '[]', stalled_at TEXT
        )",
        "CREATE UNIQUE INDEX idx_agent_hook ON agent_metadata (current_hook_bead_id) WHERE current_hook_bead_id IS NOT NULL",
        "CREATE TABLE review_metadata (
            bead_id TEXT PRIMARY KEY, branch TEXT NOT NULL, target_branch TEXT NOT NULL DEFAULT 'main', merge_commit TEXT,
            pr_url TEXT, retry_count INTEGER NOT NULL DEFAULT 0
        )",
        "CREATE TABLE escalation_metadata (
            bead_id TEXT PRIMARY KEY, severity TEXT NOT NULL, category TEXT, acknowledged INTEGER NOT NULL DEFAULT 0,
            re_escalation_count INTEGER NOT NULL DEFAULT 0, acknowledged_at TEXT
        )",
        "CREATE TABLE convoy_metadata (
            bead_id TEXT PRIMARY KEY, total_beads INTEGER NOT NULL DEFAULT 0, closed_beads INTEGER NOT NULL DEFAULT 0,
            landed_at TEXT, feature_branch TEXT, merge_mode TEXT, staged INTEGER NOT NULL DEFAULT 0
        )",
        "CREATE TABLE agent_nudges (
            nudge_id TEXT PRIMARY KEY, agent_bead_id TEXT NOT NULL, message TEXT NOT NULL, mode TEXT NOT NULL DEFAULT 'wait-idle',
            priority TEXT NOT NULL DEFAULT 'normal', source TEXT NOT NULL DEFAULT 'system', created_at TEXT NOT NULL,
            delivered_at TEXT, expires_at TEXT
        )",
        "CREATE INDEX idx_agent_nudges_agent ON agent_nudges (agent_bead_id, created_at)",
        "CREATE TABLE action_loop (
            key TEXT PRIMARY KEY, window_from TEXT NOT NULL, count INTEGER NOT NULL, held_until TEXT
        ) WITHOUT ROWID",
        "ALTER TABLE town_events ADD COLUMN attempts INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE town_events ADD COLUMN poisoned TEXT",
        "CREATE INDEX idx_town_events_pending ON town_events (created_at) WHERE processed_at IS NULL",
    ],
};

/// Version 3: the names of what was deleted. The town's own is `town`, a rig's `rig/{id}`.
pub const GONE: Migration =
    Migration { version: 3, statements: &["CREATE TABLE gone (name TEXT PRIMARY KEY) WITHOUT ROWID"] };

/// Version 4: the reviews of a branch.
pub const BRANCHES: Migration =
    Migration { version: 4, statements: &["CREATE INDEX idx_review_branch ON review_metadata (branch)"] };

/// Version 5: when an agent was last asked something. Its heartbeats move every other time that it has.
pub const ASKED: Migration =
    Migration { version: 5, statements: &["ALTER TABLE agent_metadata ADD COLUMN asked_at TEXT"] };

/// Every table of a town. Not among them: `gone`, which outlasts it.
pub const TABLES: [&str; 15] = [
    "action_loop",
    "agent_metadata",
    "agent_nudges",
    "bead_dependencies",
    "bead_events",
    "beads",
    "convoy_metadata",
    "drain",
    "escalation_metadata",
    "evicted",
    "owed",
    "review_metadata",
    "rigs",
    "town",
    "town_events",
];
