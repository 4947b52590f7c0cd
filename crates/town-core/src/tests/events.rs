//! Facts: applied once, by a tick, and quarantined when they cannot be.

use super::world::World;
use super::world::notices;
use crate::limits::Limits;
use crate::message::Answer;
use crate::message::Call;
use crate::message::Input;
use crate::message::Notice;
use crate::message::call::AgentCall;
use crate::message::call::TownCall;
use crate::message::call::WorkCall;
use database::Database;
use object_core::time::DAY;
use object_core::time::SECOND;
use protocol::id::AgentId;
use protocol::time::iso8601;
use protocol::town::agent::AgentStatus;
use protocol::town::bead::BeadStatus;
use protocol::town::bead::BeadType;
use protocol::town::container::ContainerAgentStatus;

fn pending(world: &World) -> i64 {
    world.count("SELECT COUNT(*) FROM town_events WHERE processed_at IS NULL")
}

fn insert(world: &World, kind: &str, agent: Option<&str>, bead: Option<&str>, payload: &str) {
    let n = world.count("SELECT COUNT(*) FROM town_events");
    world.sql(
        "INSERT INTO town_events (event_id, event_type, agent_id, bead_id, payload, created_at) VALUES (?, ?, ?, ?, ?, ?)",
        &[
            format!("e{n}").into(),
            kind.into(),
            agent.map(str::to_owned).into(),
            bead.map(str::to_owned).into(),
            payload.into(),
            iso8601(world.now).into(),
        ],
    );
}

#[test]
fn gt_done_changes_nothing_before_the_tick_and_counts_once() {
    let mut world = World::new();
    let (agent, bead) = world.working();
    let done = AgentCall::Done { agent: agent.clone(), bead: None, branch: "b".into(), pr_url: None, summary: None };
    world.done(Call::Agent(done.clone()));
    assert_eq!(world.status(&bead), BeadStatus::InProgress);
    world.done(Call::Agent(done));
    world.tick();
    assert_eq!(world.status(&bead), BeadStatus::InReview);
    assert_eq!(world.beads_of(BeadType::MergeRequest).len(), 1, "the second finds no hook");
    assert_eq!(pending(&world), 0);
}

#[test]
fn facts_of_one_millisecond_are_applied_in_the_order_they_came() {
    let mut world = World::new();
    let (agent, bead) = world.working();
    let id = bead.as_str();
    insert(&world, "agent_done", Some(agent.as_str()), None, r#"{"branch":"b"}"#);
    insert(&world, "bead_cancelled", None, Some(id), r#"{"cancel_status":"failed"}"#);
    world.tick();
    assert_eq!(world.status(&bead), BeadStatus::Failed);
    assert_eq!(world.beads_of(BeadType::MergeRequest).len(), 1, "it was done before it was cancelled");
}

#[test]
fn a_fact_about_what_is_gone_is_processed() {
    let mut world = World::new();
    insert(&world, "agent_done", Some("nobody"), None, r#"{"branch":"b"}"#);
    insert(&world, "bead_cancelled", None, Some("nothing"), "{}");
    insert(&world, "container_status", Some("nobody"), None, r#"{"status":"exited"}"#);
    let outputs = world.tick();
    assert_eq!((pending(&world), notices(&outputs)), (0, vec![]));
}

#[test]
fn facts_that_only_tell_are_drained() {
    let mut world = World::new();
    let (bead, _) = world.sling("a");
    insert(&world, "nudge_timeout", None, None, "{}");
    insert(&world, "container_eviction", None, None, "{}");
    insert(&world, "bead_created", None, Some(bead.bead_id.as_str()), r#"{"bead_type":"issue"}"#);
    world.tick();
    assert_eq!(pending(&world), 0);
}

#[test]
fn a_poisoned_fact_is_quarantined_after_five_tries_with_its_reason_and_stops_no_other() {
    let mut world = World::new();
    let (agent, bead) = world.working();
    insert(&world, "agent_done", Some(agent.as_str()), None, r#"{"branch":7}"#);
    insert(&world, "from_the_future", None, None, "{}");
    for n in 1..=4 {
        assert_eq!(notices(&world.tick_after(SECOND)), [], "try {n}");
        assert_eq!(pending(&world), 2);
    }
    let told = notices(&world.tick_after(SECOND));
    assert!(matches!(&told[..], [Notice::Poisoned { .. }, Notice::Poisoned { .. }]), "{told:?}");
    assert_eq!(pending(&world), 0);
    let Answer::Poisoned { events } = world.call(Call::Town(TownCall::Poisoned {})) else { panic!() };
    assert_eq!((events.len(), events[1].event_type.as_str(), events[1].attempts), (2, "agent_done", 5));
    assert!(events[1].reason.contains("expected a string"), "{}", events[1].reason);
    world.gt_done(&agent, None);
    assert_eq!(world.status(&bead), BeadStatus::InReview, "what is in order goes on");
}

#[test]
fn a_fact_that_fails_half_way_leaves_nothing_behind() {
    let mut world = World::new();
    let (agent, bead) = world.working();
    // The bead of the merge request can be written; what belongs to it cannot.
    world.done(Call::Agent(AgentCall::Done {
        agent: agent.clone(),
        bead: None,
        branch: "b".into(),
        pr_url: None,
        summary: None,
    }));
    let before = world.count("SELECT COUNT(*) FROM beads");
    world.sql("ALTER TABLE review_metadata RENAME COLUMN branch TO other", &[]);
    world.tick();
    assert_eq!(world.count("SELECT COUNT(*) FROM beads"), before);
    assert_eq!(world.count("SELECT attempts FROM town_events WHERE event_type = 'agent_done'"), 1);
    world.sql("ALTER TABLE review_metadata RENAME COLUMN other TO branch", &[]);
    world.tick();
    assert_eq!(world.status(&bead), BeadStatus::InReview);
}

#[test]
fn what_the_container_says_twice_is_one_fact_and_what_changes_nothing_is_none() {
    let mut world = World::new();
    let (agent, _) = world.working();
    let say = |status| Input::Observed { agent: agent.clone(), status, exit_reason: None };
    // It may not know yet that it has it.
    for status in [ContainerAgentStatus::Running, ContainerAgentStatus::Unknown, ContainerAgentStatus::NotFound] {
        world.take(say(status));
    }
    assert_eq!(pending(&world), 0);
    world.now += Limits::default().cold_start_ms;
    world.take(say(ContainerAgentStatus::NotFound));
    world.take(say(ContainerAgentStatus::NotFound));
    assert_eq!(pending(&world), 1);
    world.take(say(ContainerAgentStatus::Exited));
    assert_eq!(pending(&world), 2);
}

#[test]
fn an_agent_that_exited_is_idle_and_its_bead_waits_for_its_rule() {
    let mut world = World::new();
    let (agent, bead) = world.working();
    world.now += SECOND;
    world.take(Input::Observed { agent: agent.clone(), status: ContainerAgentStatus::Exited, exit_reason: None });
    world.tick();
    assert_eq!(world.agent(&agent).status, AgentStatus::Idle);
    assert_eq!(world.status(&bead), BeadStatus::InProgress);
}

#[test]
fn an_agent_that_failed_in_its_container_has_ended_too() {
    let mut world = World::new();
    let (agent, _) = world.working();
    world.now += SECOND;
    world.take(Input::Observed { agent: agent.clone(), status: ContainerAgentStatus::Failed, exit_reason: None });
    world.tick();
    assert_eq!(world.agent(&agent).status, AgentStatus::Idle);
}

#[test]
fn a_container_that_just_started_may_not_know_its_agents_for_three_minutes() {
    let mut world = World::new();
    let (agent, _) = world.working();
    let unknown =
        || Input::Observed { agent: agent.clone(), status: ContainerAgentStatus::NotFound, exit_reason: None };
    // The heartbeat rule would fire first: the drain keeps it quiet.
    world.drain();
    world.now += 179 * SECOND;
    world.take(unknown());
    world.tick();
    assert_eq!(world.agent(&agent).status, AgentStatus::Working);
    world.now += SECOND;
    world.take(unknown());
    world.tick();
    assert_eq!(world.agent(&agent).status, AgentStatus::Idle);
}

#[test]
fn a_dead_agent_stays_dead_whatever_the_container_says() {
    let mut world = World::new();
    let agent = world.polecat();
    world.set_agent_status(&agent, &AgentStatus::Dead);
    world.take(Input::Observed { agent: agent.clone(), status: ContainerAgentStatus::Exited, exit_reason: None });
    world.tick();
    assert_eq!(world.agent(&agent).status, AgentStatus::Dead);
}

#[test]
fn a_report_of_a_run_that_was_replaced_changes_nothing() {
    let mut world = World::new();
    let (agent, bead) = world.working();
    world.done(Call::Agent(AgentCall::Completed {
        agent: Some(agent.clone()),
        bead: None,
        success: false,
        reason: None,
    }));
    world.sql(
        "UPDATE beads SET last_dispatch_attempt_at = ? WHERE bead_id = ?",
        &[iso8601(world.now + 1).into(), bead.as_str().into()],
    );
    world.tick();
    assert_eq!(world.status(&bead), BeadStatus::InProgress);
    assert_eq!(world.agent(&agent).current_hook_bead_id, Some(bead));
}

#[test]
fn the_three_ways_a_run_ends_leave_its_bead_failed_open_or_to_the_rules() {
    let mut world = World::new();
    let (agent, bead) = world.working();
    world.now += SECOND;
    world.completed(Some(&agent), false, Some("boom"));
    assert_eq!(world.status(&bead), BeadStatus::Failed);
    let failure = world.history(&bead).pop().unwrap();
    assert_eq!(failure.metadata["failure_reason"]["code"], "agent_failed");
    assert_eq!(world.agent(&agent).current_hook_bead_id, None);

    let mut world = World::new();
    let (agent, bead) = world.working();
    world.drain();
    world.completed(Some(&agent), true, Some("container eviction"));
    let found = world.bead(&bead);
    assert_eq!((found.status, found.assignee_agent_bead_id), (BeadStatus::Open, None));

    let mut world = World::new();
    let (agent, bead) = world.working();
    world.completed(Some(&agent), true, None);
    assert_eq!(world.status(&bead), BeadStatus::InProgress);
    assert_eq!(world.agent(&agent).status, AgentStatus::Idle);
    world.completed(AgentId::parse("nobody").ok().as_ref(), true, None);
}

#[test]
fn cancelling_a_bead_unhooks_its_agent_by_the_tick() {
    let mut world = World::new();
    let (agent, bead) = world.working();
    world.set_status(&bead, BeadStatus::Failed);
    assert_eq!(world.agent(&agent).current_hook_bead_id, Some(bead));
    world.tick();
    assert_eq!(world.agent(&agent).current_hook_bead_id, None);
}

#[test]
fn a_started_convoy_is_started_again_by_its_fact_without_harm() {
    let mut world = World::new();
    let (convoy, beads) = world.convoy(&[&[]], None, true);
    world.tick();
    assert_eq!(world.bead(&beads[0]).assignee_agent_bead_id, None);
    world.call(Call::Work(WorkCall::StartConvoy { convoy }));
    world.tick();
    assert_eq!(pending(&world), 0);
    assert!(world.bead(&beads[0]).assignee_agent_bead_id.is_some());
}

#[test]
fn old_facts_are_forgotten_and_waiting_ones_are_not() {
    let mut world = World::new();
    world.sling("a");
    world.tick();
    insert(&world, "from_the_future", None, None, "{}");
    world.now += 8 * DAY;
    world.sling("b");
    let (old, waiting) = (world.count("SELECT COUNT(*) FROM town_events"), pending(&world));
    assert_eq!((old, waiting), (2, 2));
}

#[test]
fn the_stored_forms_of_facts_and_debts_are_pinned() {
    let mut world = World::new();
    let (agent, bead) = world.working();
    world.done(Call::Agent(AgentCall::Done {
        agent: agent.clone(),
        bead: None,
        branch: "b".into(),
        pr_url: None,
        summary: None,
    }));
    let kept = |sql: &str| -> Vec<String> {
        let rows = world.db.query(sql, &[]).unwrap();
        rows.iter().map(|row| row.get(0).unwrap()).collect()
    };
    let facts = kept("SELECT event_type || ' ' || payload FROM town_events WHERE processed_at IS NULL");
    assert_eq!(facts, [r#"agent_done {"branch":"b","pr_url":null,"summary":null}"#]);
    world.sling("x");
    let debts = world.db.query("SELECT key, effect FROM owed", &[]).unwrap();
    let (key, effect): (String, String) = (debts[0].get(0).unwrap(), debts[0].get(1).unwrap());
    let (other, its) = (world.newest(BeadType::Issue), world.agents().pop().unwrap());
    assert_ne!((&its.id, &other.bead_id), (&agent, &bead));
    assert_eq!(key, format!("start/{}/{}", its.id, other.bead_id));
    let expected = format!(r#"{{"start":{{"agent":"{}","bead":"{}","prompt":null}}}}"#, its.id, other.bead_id);
    assert_eq!(effect, expected);
}

#[test]
fn a_town_of_the_first_version_keeps_its_drain_and_its_audit_rows() {
    let db = database::NativeDatabase::in_memory().unwrap();
    database::migrate(&db, &crate::MIGRATIONS[..1]).unwrap();
    let insert = "INSERT INTO town_events (event_id, event_type, created_at, processed_at)
        VALUES ('e', 'container_eviction', '2026-01-01T00:00:00.000Z', '2026-01-01T00:00:00.000Z')";
    db.query(insert, &[]).unwrap();
    database::migrate(&db, crate::MIGRATIONS).unwrap();
    let rows = db.query("SELECT event_id, attempts, poisoned FROM town_events", &[]).unwrap();
    assert_eq!(rows[0].0, ["e".into(), 0.into(), database::Value::Null]);
}
