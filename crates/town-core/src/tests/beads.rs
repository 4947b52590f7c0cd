//! Beads: made, listed, changed, ended, deleted.

use super::world::World;
use super::world::rig;
use crate::error::Refusal;
use crate::message::Answer;
use crate::message::Call;
use crate::message::bead::BeadChanges;
use crate::message::bead::NewBead;
use crate::message::call::BeadCall;
use crate::message::call::TownCall;
use object_core::time::SECOND;
use protocol::id::BeadId;
use protocol::town::bead::BeadEventType;
use protocol::town::bead::BeadStatus;
use protocol::town::bead::BeadType;
use protocol::town::bead::Priority;
use protocol::town::status::WaitReason;
use serde_json::json;

fn unknown() -> BeadId {
    BeadId::parse("00000000-0000-4000-8000-000000000000").unwrap()
}

fn list(world: &mut World, kind: Option<BeadType>, status: Option<BeadStatus>, limit: i64, offset: i64) -> Vec<String> {
    let call = BeadCall::List { rig: Some(rig("r1")), status, kind, assignee: None, limit, offset };
    match world.call(Call::Bead(call)) {
        Answer::Beads { beads } => beads.into_iter().map(|bead| bead.title).collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_bead_is_made_open_with_medium_priority_and_read_again() {
    let mut world = World::new();
    let bead = world.issue("first");
    let found = world.bead(&bead);
    assert_eq!((found.status, found.priority, found.title.as_str()), (BeadStatus::Open, Priority::Medium, "first"));
    assert_eq!((found.created_at, found.closed_at), (world.now, None));
    let refusal = world.refused(Call::Bead(BeadCall::Get { bead: unknown() }));
    assert_eq!(refusal, Refusal::BeadNotFound { bead: unknown() });
}

#[test]
fn beads_are_listed_newest_first_filtered_and_by_pages() {
    let mut world = World::new();
    for title in ["a", "b", "c"] {
        world.issue(title);
    }
    world.add_rig("r2");
    world.create(NewBead { rig: Some(rig("r1")), ..NewBead::new(BeadType::Escalation, "e") });
    world.create(NewBead { rig: Some(rig("r2")), ..NewBead::new(BeadType::Issue, "other rig") });
    assert_eq!(list(&mut world, Some(BeadType::Issue), None, 100, 0), ["c", "b", "a"]);
    assert_eq!(list(&mut world, None, None, 2, 0), ["e", "c"]);
    assert_eq!(list(&mut world, None, None, 2, 2), ["b", "a"]);
    assert_eq!(list(&mut world, None, Some(BeadStatus::Closed), 100, 0), Vec::<String>::new());
}

#[test]
fn closing_sets_the_time_and_failing_does_not() {
    let mut world = World::new();
    let (closed, failed) = (world.issue("a"), world.issue("b"));
    assert_eq!(world.set_status(&closed, BeadStatus::Closed).closed_at, Some(world.now));
    assert_eq!(world.set_status(&failed, BeadStatus::Failed).closed_at, None);
    assert_eq!(world.bead(&closed).closed_at, Some(world.now));
}

#[test]
fn what_is_terminal_stays_terminal_and_cancelled_twice_changes_nothing() {
    let mut world = World::new();
    let bead = world.issue("a");
    world.close(&bead);
    for status in [BeadStatus::Open, BeadStatus::Failed, BeadStatus::InProgress, BeadStatus::Closed] {
        assert_eq!(world.set_status(&bead, status).status, BeadStatus::Closed);
    }
    world.tick();
    assert_eq!(world.status(&bead), BeadStatus::Closed);
    let changes = world.history(&bead).into_iter().filter(|event| event.event_type == BeadEventType::StatusChanged);
    assert_eq!(changes.count(), 1);
}

#[test]
fn the_history_tells_creation_hooks_and_status_in_order() {
    let mut world = World::new();
    let (bead, agent) = (world.issue("a"), world.polecat());
    world.hook(&agent, &bead);
    world.done(Call::Agent(crate::message::call::AgentCall::Unhook { agent: agent.clone() }));
    world.set_status(&bead, BeadStatus::InProgress);
    let history = world.history(&bead);
    let kinds: Vec<_> = history.iter().map(|event| event.event_type.as_str()).collect();
    assert_eq!(kinds, ["created", "hooked", "unhooked", "status_changed"]);
    let last = history.last().unwrap();
    assert_eq!((last.old_value.as_deref(), last.new_value.as_deref()), (Some("open"), Some("in_progress")));
}

#[test]
fn the_history_since_a_moment_holds_only_what_came_later() {
    let mut world = World::new();
    let bead = world.issue("a");
    let since = world.now;
    world.now += SECOND;
    world.set_status(&bead, BeadStatus::InProgress);
    let call = BeadCall::Events { bead: None, since: Some(since), limit: 100 };
    let Answer::Events { events } = world.call(Call::Bead(call)) else { panic!() };
    let kinds: Vec<_> = events.iter().map(|event| event.event_type).collect();
    assert_eq!(kinds, [BeadEventType::StatusChanged]);
}

#[test]
fn an_update_changes_what_it_names_and_null_removes_the_body() {
    let mut world = World::new();
    let bead = world.issue("a");
    let update =
        |changes| Call::Bead(BeadCall::Update { bead: bead.clone(), rig: rig("r1"), changes, actor: "mayor".into() });
    let changes = BeadChanges {
        body: Some(Some("text".into())),
        priority: Some(Priority::High),
        labels: Some(vec!["x".into()]),
        ..BeadChanges::default()
    };
    world.call(update(changes));
    let found = world.bead(&bead);
    assert_eq!((found.title.as_str(), found.body.as_deref(), found.priority), ("a", Some("text"), Priority::High));
    world.call(update(BeadChanges { body: Some(None), ..BeadChanges::default() }));
    assert_eq!(world.bead(&bead).body, None);
    let elsewhere =
        BeadCall::Update { bead: bead.clone(), rig: rig("r2"), changes: BeadChanges::default(), actor: "m".into() };
    assert_eq!(world.refused(Call::Bead(elsewhere)), Refusal::WrongRig { what: "Bead".into() });
}

#[test]
fn blockers_that_would_wait_for_each_other_are_refused_and_nothing_changes() {
    let mut world = World::new();
    let (a, b) = (world.issue("a"), world.issue("b"));
    let update = |bead: &BeadId, on: &BeadId| {
        let changes =
            BeadChanges { title: Some("new".into()), depends_on: Some(vec![on.clone()]), ..BeadChanges::default() };
        Call::Bead(BeadCall::Update { bead: bead.clone(), rig: rig("r1"), changes, actor: "m".into() })
    };
    world.call(update(&a, &b));
    assert_eq!(world.refused(update(&b, &a)), Refusal::DependencyCycle {});
    assert_eq!(world.bead(&b).title, "b");
    let Answer::Why { why } = world.call(Call::Bead(BeadCall::Why { bead: b.clone() })) else { panic!() };
    assert_eq!(why.blocked_by, []);
}

#[test]
fn deleting_takes_children_history_hooks_and_waiting_facts_with_it() {
    let mut world = World::new();
    let (bead, agent) = (world.issue("a"), world.polecat());
    let child = world.create(NewBead { parent: Some(bead.clone()), ..NewBead::new(BeadType::Issue, "child") });
    world.hook(&agent, &bead);
    world.close(&bead);
    assert_eq!(world.count("SELECT COUNT(*) FROM town_events WHERE processed_at IS NULL"), 1);
    let answer = world.call(Call::Bead(BeadCall::Delete { beads: vec![bead.clone(), unknown()] }));
    assert_eq!(answer, Answer::Deleted { count: 1 });
    assert_eq!(world.count("SELECT COUNT(*) FROM town_events WHERE processed_at IS NULL"), 0);
    for gone in [&bead, &child] {
        assert!(matches!(
            world.refused(Call::Bead(BeadCall::Get { bead: gone.clone() })),
            Refusal::BeadNotFound { .. }
        ));
        assert_eq!(world.history(gone), []);
    }
    assert_eq!(world.agent(&agent).current_hook_bead_id, None);
}

#[test]
fn beads_are_deleted_by_status() {
    let mut world = World::new();
    let (a, b) = (world.issue("a"), world.issue("b"));
    world.close(&a);
    let call = BeadCall::DeleteByStatus { rig: rig("r1"), status: BeadStatus::Closed, kind: None };
    assert_eq!(world.call(Call::Bead(call)), Answer::Deleted { count: 1 });
    assert_eq!(world.status(&b), BeadStatus::Open);
}

#[test]
fn a_bead_says_why_it_waits() {
    let mut world = World::new();
    let (blocker, bead) = (world.issue("blocker"), world.issue("a"));
    let changes = BeadChanges {
        depends_on: Some(vec![blocker.clone()]),
        labels: Some(vec!["gt:held".into()]),
        ..BeadChanges::default()
    };
    world.call(Call::Bead(BeadCall::Update { bead: bead.clone(), rig: rig("r1"), changes, actor: "m".into() }));
    world.set_attempts(&bead, 3, 0);
    world.drain();
    let why = |world: &mut World, bead: &BeadId| match world.call(Call::Bead(BeadCall::Why { bead: bead.clone() })) {
        Answer::Why { why } => why,
        other => panic!("{other:?}"),
    };
    let told = why(&mut world, &bead);
    let expected = [WaitReason::Blocked, WaitReason::Held, WaitReason::Draining, WaitReason::CoolingDown];
    assert_eq!(told.reasons, expected);
    assert_eq!(told.blocked_by, std::slice::from_ref(&blocker));
    assert_eq!(told.cooling_down_until, Some(world.now + 300 * SECOND));
    assert_eq!((told.dispatch_attempts, told.max_dispatch_attempts), (3, 5));
    let wire = serde_json::to_value(&told).unwrap();
    assert_eq!(wire["reasons"], json!(["blocked", "held", "draining", "cooling_down"]));
    world.close(&blocker);
    assert_eq!(why(&mut world, &blocker).reasons, [WaitReason::Terminal]);
    let mut world = World::new();
    let bead = world.issue("a");
    assert_eq!(why(&mut world, &bead).reasons, [WaitReason::NextTick]);
    world.tick();
    let told = why(&mut world, &bead);
    assert_eq!((told.reasons, told.agent_id.is_some()), (vec![WaitReason::Working], true));
}

#[test]
fn a_town_that_was_never_made_has_no_ledger() {
    let mut world = World::new();
    world.sql("DELETE FROM town", &[]);
    assert_eq!(world.refused(Call::Town(TownCall::Rigs {})), Refusal::TownNotFound {});
    assert_eq!(world.alarm, None);
}
