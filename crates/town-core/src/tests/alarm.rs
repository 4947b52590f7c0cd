//! The cadence, and what a tick costs that changes nothing.

use super::world::START;
use super::world::World;
use crate::message::Answer;
use crate::message::Call;
use crate::message::Input;
use crate::message::Output;
use crate::message::call::AgentCall;
use crate::message::call::TownCall;
use crate::message::effect::Outcome;
use crate::message::effect::PullRequestState;
use object_core::time::MINUTE;
use object_core::time::SECOND;
use protocol::town::Heartbeat;
use protocol::town::agent::AgentStatus;
use protocol::town::bead::BeadStatus;
use protocol::town::status::Frame;
use protocol::town::status::TownStatus;

fn status(world: &mut World) -> TownStatus {
    match world.call(Call::Town(TownCall::Status {})) {
        Answer::Status { status } => *status,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_town_without_work_never_wakes_and_one_that_is_looked_at_wakes_every_five_minutes() {
    let mut world = World::new();
    assert_eq!(world.alarm, None);
    world.tick();
    assert_eq!(world.alarm, None);
    world.facts.viewers = 1;
    world.tick();
    assert_eq!(world.alarm, Some(START + 300_000));
    assert_eq!(status(&mut world).alarm.interval_label, "idle (5m)");
}

#[test]
fn work_arms_the_alarm_whatever_brings_it() {
    let five_seconds = Some(START + 5_000);
    let mut world = World::new();
    world.sling("a");
    assert_eq!(world.alarm, five_seconds, "sling");
    assert_eq!(status(&mut world).alarm.interval_label, "active (5s)");

    let mut world = World::new();
    let (agent, bead) = (world.polecat(), world.issue("a"));
    assert_eq!(world.alarm, five_seconds, "a bead that waits for an agent");
    world.hook(&agent, &bead);
    assert_eq!(world.alarm, five_seconds, "a hook");
    world.set_attempts(&bead, 1, 0);
    world.beat(&agent, Heartbeat::default());
    assert_eq!(world.alarm, five_seconds, "a heartbeat");

    let mut world = World::new();
    let agent = world.polecat();
    let done = AgentCall::Done { agent, bead: None, branch: "b".into(), pr_url: None, summary: None };
    world.done(Call::Agent(done));
    assert_eq!(world.alarm, five_seconds, "a fact");

    let mut world = World::new();
    world.convoy(&[&[]], None, false);
    assert_eq!(world.alarm, five_seconds, "a convoy");
}

#[test]
fn open_work_that_nobody_can_do_now_is_looked_at_every_five_minutes() {
    let mut world = World::new();
    world.convoy(&[&[]], None, true);
    world.tick();
    assert_eq!(world.alarm, Some(START + 300_000), "staged");
    let mut world = World::new();
    let bead = world.issue("a");
    world.set_attempts(&bead, 3, 0);
    world.tick();
    assert_eq!(world.alarm, Some(START + 300_000), "cooling down");
}

#[test]
fn a_pull_request_is_looked_at_every_minute_and_keeps_nobody_awake_between() {
    let mut world = World::new();
    let (_, review, refinery) = world.in_review();
    world.gt_done(&refinery, Some("https://github.com/o/r/pull/1"));
    assert_eq!(world.alarm, Some(START + 60_000));
    let polls = |outputs: &[Output]| super::world::effects(outputs).len();
    for _ in 0..3 {
        assert_eq!(polls(&world.run(MINUTE)), 1);
        let outcome = Outcome::PullRequest(PullRequestState::Open);
        world.take(Input::Outcome { key: format!("poll/{review}"), outcome });
    }
}

#[test]
fn ticks_lie_on_a_grid_that_nothing_postpones() {
    let mut world = World::new();
    let (agent, _) = world.working();
    for _ in 0..9 {
        world.now += SECOND / 2;
        world.beat(&agent, Heartbeat::default());
        assert_eq!(world.alarm, Some(START + 5_000));
    }
    world.now = START + 5_000;
    world.tick();
    assert_eq!(world.alarm, Some(START + 10_000));
    world.evict();
    assert_eq!(world.alarm, Some(START + 10_000), "nor does a restart");
}

#[test]
fn a_mayor_that_waits_is_no_active_work() {
    let mut world = World::new();
    world.call(Call::Town(TownCall::EnsureMayor {}));
    assert_eq!(world.alarm, Some(START + 5_000));
    let mayor = world.mayor();
    world.done(Call::Agent(AgentCall::Waiting { agent: mayor.clone(), fired_at: None }));
    world.take(Input::Outcome { key: format!("start/{mayor}"), outcome: Outcome::Done });
    assert_eq!(world.alarm, None);
    let seen = status(&mut world);
    assert_eq!((seen.agents.waiting, seen.agents.total), (1, 1));
}

#[test]
fn a_tick_that_changes_nothing_writes_no_row() {
    let mut world = World::new();
    world.in_review();
    world.working();
    world.convoy(&[&[], &[0]], None, true);
    world.tick();
    let written = |world: &World| world.count("SELECT total_changes()");
    let before = written(&world);
    for _ in 0..10 {
        world.tick_after(5 * SECOND);
    }
    assert_eq!(written(&world), before);
    let outputs = world.tick();
    assert!(matches!(&outputs[..], [Output::Observe { agents }] if agents.len() == 2), "{outputs:?}");
}

#[test]
fn a_town_goes_on_after_every_eviction() {
    let mut world = World::new();
    let (bead, agent) = world.sling("a");
    world.evict();
    world.now += SECOND;
    world.done(Call::Agent(AgentCall::Done {
        agent: agent.id,
        bead: None,
        branch: "b".into(),
        pr_url: None,
        summary: None,
    }));
    world.evict();
    world.run(5 * SECOND);
    assert_eq!(world.status(&bead.bead_id), BeadStatus::InReview);
}

#[test]
fn viewers_get_news_at_once_and_a_snapshot_with_every_tick() {
    let mut world = World::new();
    world.facts.viewers = 2;
    world.sling("a");
    let frames = |outputs: &[Output]| -> Vec<serde_json::Value> {
        let frame = |output: &Output| match output {
            Output::Broadcast(frame) => serde_json::to_value(frame).ok(),
            _ => None,
        };
        outputs.iter().filter_map(frame).collect()
    };
    let news: Vec<_> = frames(&world.outputs).iter().map(|frame| frame["type"].to_string()).collect();
    assert_eq!(news, ["\"bead.created\"", "\"bead.created\"", "\"bead.status_changed\""]);
    let outputs = world.tick();
    let shown = frames(&outputs);
    assert_eq!(shown.len(), 1);
    assert_eq!((&shown[0]["agents"]["working"], &shown[0]["beads"]["inProgress"]), (&1.into(), &1.into()));
    assert_eq!(
        (&shown[0]["alarm"]["intervalMs"], &shown[0]["reconciler"]["eventsDrained"]),
        (&5_000.into(), &1.into())
    );
    assert_eq!(shown[0].get("draining"), None);
    world.drain();
    assert!(matches!(&world.tick()[..], [.., Output::Broadcast(_)] | [Output::Broadcast(_), ..]));
    let seen = status(&mut world);
    assert_eq!((seen.draining, seen.drain_started_at), (true, Some(protocol::time::iso8601(world.now))));
    world.facts.viewers = 0;
    world.sling("b");
    assert!(
        !world
            .outputs
            .iter()
            .any(|output| matches!(output, Output::Broadcast(frame) if !matches!(**frame, Frame::Snapshot(_))))
    );
}

#[test]
fn the_status_counts_agents_work_and_reminders() {
    let mut world = World::new();
    let (agent, _) = world.working();
    world.idle_events(&agent, 20 * MINUTE);
    let failed = world.issue("f");
    world.set_status(&failed, BeadStatus::Failed);
    world.tick();
    let seen = status(&mut world);
    assert_eq!((seen.patrol.gupp_warnings, seen.patrol.gupp_escalations), (1, 0));
    assert_eq!((seen.beads.failed, seen.beads.in_progress, seen.agents.working), (1, 1, 1));
    assert!(seen.recent_events.len() > 3 && seen.recent_events[0].time >= seen.recent_events[1].time);
    world.set_agent_status(&agent, &AgentStatus::Stalled);
    assert_eq!(status(&mut world).patrol.stalled_agents, 1);
}

#[test]
fn what_failed_is_counted_up_to_a_thousand() {
    let mut world = World::new();
    world.sql(
        "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 1500)
         INSERT INTO beads (bead_id, type, status, title, created_at, updated_at) SELECT 'f-' || n, 'issue', 'failed', 't', ?1, ?1 FROM n",
        &[protocol::time::iso8601(START).into()],
    );
    assert_eq!(status(&mut world).beads.failed, 1_000);
}

/// A mayor that was told something and whose container goes on to beat for it, with this as its newest event.
fn mayor_that_hangs(world: &mut World, event: Option<i64>) -> AgentStatus {
    world.call(Call::Town(TownCall::MessageMayor { message: "hello".into(), model: None }));
    let mayor = world.mayor();
    world.started_as(&mayor, Outcome::Done);
    for key in world.owed("tell/") {
        world.take(Input::Outcome { key, outcome: Outcome::Done });
    }
    let last_event_at = event.map(protocol::time::iso8601);
    for _ in 0..32 {
        world.beat(&mayor, Heartbeat { last_event_at: last_event_at.clone(), ..Heartbeat::default() });
        world.run(30 * SECOND);
    }
    world.agent(&mayor).status
}

#[test]
fn a_mayor_that_hangs_before_its_first_event_lets_the_town_rest() {
    let mut world = World::new();
    assert_eq!(mayor_that_hangs(&mut world, None), AgentStatus::Waiting);
    assert_eq!(world.alarm, None);
    assert_eq!(
        mayor_that_hangs(&mut world, Some(START)),
        AgentStatus::Waiting,
        "and one that hangs at a later message"
    );
    assert_eq!(world.alarm, None);
}

#[test]
fn a_mayor_that_waited_for_long_is_not_silent_when_it_is_asked_again() {
    let mut world = World::new();
    mayor_that_hangs(&mut world, None);
    let (mayor, old) = (world.mayor(), world.now);
    world.now += 20 * MINUTE;
    world.call(Call::Town(TownCall::MessageMayor { message: "more".into(), model: None }));
    // The heartbeat was sent before the container had the message.
    let last_event_at = Some(protocol::time::iso8601(old));
    world.beat(&mayor, Heartbeat { last_event_at, ..Heartbeat::default() });
    world.tick();
    assert_eq!(world.agent(&mayor).status, AgentStatus::Working);
}
