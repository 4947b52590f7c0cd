//! The mayor: started by words, reached by them, waiting between them.

use super::world::World;
use super::world::effects;
use super::world::notices;
use super::world::starts;
use crate::limits::Limits;
use crate::message::Answer;
use crate::message::Call;
use crate::message::Input;
use crate::message::Notice;
use crate::message::call::AgentCall;
use crate::message::call::TalkCall;
use crate::message::call::TownCall;
use crate::message::effect::Effect;
use crate::message::effect::Outcome;
use object_core::time::MINUTE;
use object_core::time::SECOND;
use protocol::id::AgentId;
use protocol::time::iso8601;
use protocol::town::Heartbeat;
use protocol::town::agent::AgentStatus;
use protocol::town::agent::NudgeMode;
use protocol::town::agent::NudgePriority;
use protocol::town::agent::Role;
use protocol::town::bead::BeadStatus;
use protocol::town::bead::Priority;
use protocol::town::container::ContainerAgentStatus;
use protocol::town::mayor::MayorSession;

#[test]
fn a_message_starts_the_mayor_or_reaches_it() {
    let mut world = World::new();
    let message = |text: &str| Call::Town(TownCall::MessageMayor { message: text.into(), model: None });
    let Answer::MayorReached { reached } = world.call(message("hello")) else { panic!() };
    assert_eq!(reached.session_status, MayorSession::Starting);
    let start = starts(&world.outputs);
    assert_eq!((start[0].prompt.as_str(), start[0].rig_id.as_str()), ("hello", "mayor-town0001-long"));
    assert!(start[0].lightweight && start[0].rigs.len() == 1 && start[0].role == Role::Mayor);
    world.started_as(&reached.agent_id, Outcome::Done);
    let Answer::MayorReached { reached } = world.call(message("more")) else { panic!() };
    assert_eq!(reached.session_status, MayorSession::Active);
    let told = effects(&world.outputs);
    assert!(matches!(&told[..], [Effect::Tell { text, .. }] if text == "more"));
    let key = told[0].key();
    world.take(Input::Outcome { key, outcome: Outcome::NotRunning });
    assert_eq!(starts(&world.outputs)[0].prompt, "more", "it was gone: it is started with the words");
}

#[test]
fn a_start_that_cannot_be_written_down_is_dropped_and_stops_nothing() {
    let mut world = World::new();
    world.sql("UPDATE town SET id = ?", &["t".repeat(128).into()]);
    world.call(Call::Town(TownCall::MessageMayor { message: "hello".into(), model: None }));
    assert!(matches!(&notices(&world.outputs)[..], [Notice::EffectDropped { .. }]));
    let (bead, _) = world.sling("a");
    assert_eq!(bead.status, BeadStatus::InProgress);
}

#[test]
fn the_mayor_waits_only_after_working_and_not_for_a_turn_that_is_over() {
    let mut world = World::new();
    let Answer::MayorReached { reached } = world.call(Call::Town(TownCall::EnsureMayor {})) else { panic!() };
    let mayor = reached.agent_id;
    let waiting = |fired_at| Call::Agent(AgentCall::Waiting { agent: mayor.clone(), fired_at });
    let late = world.now - 1;
    world.done(waiting(Some(late)));
    assert_eq!(world.agent(&mayor).status, AgentStatus::Working, "it was asked again since");
    let fired_at = world.now;
    world.done(waiting(Some(fired_at)));
    assert_eq!(world.agent(&mayor).status, AgentStatus::Waiting);
    let Answer::MayorSeen { session: Some(seen) } = world.call(Call::Town(TownCall::MayorStatus {})) else { panic!() };
    assert_eq!(seen.status, MayorSession::Active);
    world.set_agent_status(&mayor, &AgentStatus::Idle);
    world.done(waiting(None));
    assert_eq!(world.agent(&mayor).status, AgentStatus::Idle);
    let polecat = world.polecat();
    world.set_agent_status(&polecat, &AgentStatus::Working);
    world.done(Call::Agent(AgentCall::Waiting { agent: polecat.clone(), fired_at: None }));
    assert_eq!(world.agent(&polecat).status, AgentStatus::Working, "only the mayor waits");
}

#[test]
fn an_empty_agent_id_completes_the_mayor() {
    let mut world = World::new();
    let mayor = world.mayor();
    world.set_agent_status(&mayor, &AgentStatus::Working);
    world.completed(None, true, None);
    assert_eq!(world.agent(&mayor).status, AgentStatus::Idle);
}

fn message(text: &str) -> Call {
    Call::Town(TownCall::MessageMayor { message: text.into(), model: None })
}

#[test]
fn two_messages_to_a_mayor_that_is_gone_both_reach_the_next_one() {
    let mut world = World::new();
    world.call(message("hello"));
    let mayor = world.mayor();
    world.started_as(&mayor, Outcome::Done);
    let mut tells = Vec::new();
    for words in ["one", "two"] {
        world.call(message(words));
        tells.extend(effects(&world.outputs).iter().map(Effect::key));
    }
    for key in &tells {
        world.take(Input::Outcome { key: key.clone(), outcome: Outcome::NotRunning });
    }
    assert_eq!(world.started.last().unwrap().prompt, "one");
    world.started_as(&mayor, Outcome::Done);
    let told = effects(&world.run(MINUTE));
    assert!(told.iter().any(|effect| matches!(effect, Effect::Tell { text, .. } if text == "two")), "{told:?}");
}

#[test]
fn words_that_could_not_be_told_wait_with_those_that_wait_for_the_next_container() {
    let mut world = World::new();
    world.call(message("hello"));
    let mayor = world.mayor();
    world.started_as(&mayor, Outcome::Done);
    for words in ["one", "two"] {
        world.call(message(words));
    }
    let nonce = world.drain();
    for key in world.owed("tell/") {
        world.take(Input::Outcome { key, outcome: Outcome::NotRunning });
    }
    world.run(5 * MINUTE);
    let not_found = Input::Observed { agent: mayor, status: ContainerAgentStatus::NotFound, exit_reason: None };
    world.take(not_found);
    world.run(MINUTE);
    assert_eq!(world.started.len(), 1);
    world.ready(&nonce);
    world.run(2 * MINUTE);
    let mut words: Vec<_> = world.started.last().unwrap().prompt.split("\n\n").collect();
    words.sort_unstable();
    assert_eq!(words, ["one", "two"]);
}

#[test]
fn a_start_of_the_mayor_of_which_nothing_is_known_is_tried_again_with_its_words() {
    let mut world = World::new();
    world.call(message("hello"));
    let mayor = world.mayor();
    for tries in 2..=Limits::default().effect_tries_max {
        world.started_as(&mayor, Outcome::Unknown { reason: "no answer".into() });
        let again = starts(&world.run(75 * SECOND));
        assert_eq!(again.iter().map(|start| start.prompt.as_str()).collect::<Vec<_>>(), ["hello"], "try {tries}");
    }
    world.started_as(&mayor, Outcome::Unknown { reason: "no answer".into() });
    assert!(matches!(&notices(&world.outputs)[..], [Notice::EffectDropped { .. }]), "and given up aloud");
    assert_eq!(world.owed("start/"), Vec::<String>::new());
}

#[test]
fn a_message_may_name_the_model_of_the_next_start() {
    let mut world = World::new();
    let call = |model: &str| TownCall::MessageMayor { message: "hello".into(), model: Some(model.into()) };
    world.call(Call::Town(call("some/model")));
    assert_eq!(world.started.last().unwrap().model, "some/model");
    assert_eq!(world.owed("config").len(), 1, "the container is told too");
}

/// Story: one failed start of the mayor, and what the user had said was gone though it had been accepted.
#[test]
fn words_with_which_the_mayor_cannot_be_started_go_with_the_next_ones() {
    let no_disk = Outcome::Failed { reason: "no disk".into() };
    for (outcome, why) in [(no_disk, "no disk"), (Outcome::Full, "as many agents as it may")] {
        let mut world = World::new();
        world.facts.viewers = 1;
        world.call(message("hello"));
        let mayor = world.mayor();
        for _ in 1..Limits::default().effect_tries_max {
            world.started_as(&mayor, outcome.clone());
            assert_eq!(world.agent(&mayor).status, AgentStatus::Working);
            world.run(75 * SECOND);
        }
        world.started_as(&mayor, outcome);
        let said = world.agent(&mayor).agent_status_message.expect("whoever looks is told");
        assert!(said.contains(why), "{said}");
        assert_eq!(world.agent(&mayor).status, AgentStatus::Idle);
        world.call(message("more"));
        assert_eq!(world.started.last().unwrap().prompt, "hello\n\nmore");
    }
}

#[test]
fn words_that_a_running_mayor_does_not_take_go_with_the_next_ones() {
    let mut world = World::new();
    world.call(message("hello"));
    let mayor = world.mayor();
    world.started_as(&mayor, Outcome::Done);
    world.call(message("one"));
    for _ in 0..Limits::default().effect_tries_max {
        for key in world.owed("tell/") {
            world.take(Input::Outcome { key, outcome: Outcome::Failed { reason: "500".into() } });
        }
        world.run(35 * SECOND);
    }
    assert_eq!(world.owed("tell/"), Vec::<String>::new());
    world.call(message("two"));
    let told = effects(&world.outputs);
    assert!(matches!(&told[..], [Effect::Tell { text, .. }] if text == "one\n\ntwo"), "{told:?}");
    assert_eq!(world.nudges(&mayor), []);
}

#[test]
fn what_happens_while_the_mayor_rests_is_told_when_it_is_called() {
    let mut world = World::new();
    world.mayor();
    world.call(Call::Talk(TalkCall::Escalate {
        agent: None,
        rig: None,
        title: "the build is red".into(),
        body: None,
        severity: Priority::High,
        metadata: serde_json::Map::new(),
    }));
    assert_eq!(world.started, []);
    world.call(message("what is new?"));
    assert_eq!(world.started.last().unwrap().prompt, "[ESCALATION high] the build is red\n\nwhat is new?");
}

#[test]
fn the_words_of_a_start_that_is_not_made_any_more_go_with_the_next_ones() {
    let mut world = World::new();
    world.call(message("hello"));
    let mayor = world.mayor();
    world.done(Call::Agent(AgentCall::Reset { agent: mayor.clone() }));
    world.run(2 * MINUTE);
    assert_eq!(world.owed("start/"), Vec::<String>::new());
    world.call(message("more"));
    assert_eq!(world.started.last().unwrap().prompt, "hello\n\nmore");
}

fn waits(world: &mut World, mayor: &AgentId, fired_at: i64) {
    world.done(Call::Agent(AgentCall::Waiting { agent: mayor.clone(), fired_at: Some(fired_at) }));
}

/// A mayor in its first turn.
fn at_work() -> (World, AgentId) {
    let mut world = World::new();
    world.call(message("hello"));
    let mayor = world.mayor();
    world.started_as(&mayor, Outcome::Done);
    world.now += SECOND;
    (world, mayor)
}

/// Story: it stayed `working`, and its container awake, until it had been silent for long.
#[test]
fn a_heartbeat_does_not_make_the_end_of_a_turn_late() {
    let (mut world, mayor) = at_work();
    let fired_at = world.now;
    world.now += SECOND;
    let last_event_at = Some(iso8601(world.now));
    world.beat(&mayor, Heartbeat { last_event_at, ..Heartbeat::default() });
    waits(&mut world, &mayor, fired_at);
    assert_eq!(world.agent(&mayor).status, AgentStatus::Waiting);
}

#[test]
fn a_mayor_that_ended_its_turn_is_not_started_again_for_it() {
    let mut world = World::new();
    world.call(message("hello"));
    let mayor = world.mayor();
    world.started_as(&mayor, Outcome::Unknown { reason: "no answer".into() });
    world.now += SECOND;
    let fired_at = world.now;
    waits(&mut world, &mayor, fired_at);
    assert_eq!(world.agent(&mayor).status, AgentStatus::Waiting);
    world.run(10 * MINUTE);
    assert_eq!((world.started.len(), world.nudges(&mayor)), (1, vec![]));
}

fn nudge(world: &mut World, mayor: &AgentId, text: &str, mode: NudgeMode) {
    let (agent, message, source) = (mayor.clone(), text.into(), "agent".into());
    let priority = NudgePriority::Normal;
    world.call(Call::Talk(TalkCall::Nudge { agent, message, mode, priority, source, ttl_ms: None }));
}

fn told(world: &World) -> Vec<String> {
    let texts = effects(&world.outputs).into_iter().filter_map(|effect| match effect {
        Effect::Tell { text, .. } => Some(text),
        _ => None,
    });
    texts.collect()
}

/// Story: only agents with a hook ask for what was left for them, so the mayor never heard of it.
#[test]
fn what_waits_for_the_mayors_next_idle_moment_is_told_then_and_once() {
    let (mut world, mayor) = at_work();
    nudge(&mut world, &mayor, "one", NudgeMode::WaitIdle);
    nudge(&mut world, &mayor, "two", NudgeMode::Queue);
    assert_eq!(told(&world), Vec::<String>::new());
    let fired_at = world.now;
    waits(&mut world, &mayor, fired_at);
    assert_eq!(told(&world), ["one\n\ntwo"]);
    assert_eq!((world.agent(&mayor).status, world.nudges(&mayor)), (AgentStatus::Working, vec![]));
    world.take(Input::Outcome { key: world.owed("tell/").remove(0), outcome: Outcome::Done });
    world.now += SECOND;
    let fired_at = world.now;
    waits(&mut world, &mayor, fired_at);
    assert_eq!(world.agent(&mayor).status, AgentStatus::Waiting);
    nudge(&mut world, &mayor, "three", NudgeMode::WaitIdle);
    assert_eq!(told(&world), ["three"], "it has its idle moment");
}

#[test]
fn what_was_left_for_a_mayor_that_rests_goes_with_the_next_words() {
    let mut world = World::new();
    let mayor = world.mayor();
    nudge(&mut world, &mayor, "one", NudgeMode::WaitIdle);
    nudge(&mut world, &mayor, "two", NudgeMode::Immediate);
    assert_eq!(world.started, []);
    world.call(message("hello"));
    assert_eq!(world.started.last().unwrap().prompt, "one\n\ntwo\n\nhello");
}

#[test]
fn a_nudge_that_is_on_its_way_is_not_told_twice() {
    let (mut world, mayor) = at_work();
    nudge(&mut world, &mayor, "now", NudgeMode::Immediate);
    let key = world.owed("tell/").remove(0);
    world.call(message("more"));
    assert_eq!(told(&world), ["more"]);
    world.take(Input::Outcome { key, outcome: Outcome::NotRunning });
    assert_eq!(world.started.last().unwrap().prompt, "now");
}

#[test]
fn a_nudge_that_the_mayor_does_not_take_is_kept_once() {
    let (mut world, mayor) = at_work();
    nudge(&mut world, &mayor, "now", NudgeMode::Immediate);
    while let Some(key) = world.owed("tell/").pop() {
        world.take(Input::Outcome { key, outcome: Outcome::Failed { reason: "500".into() } });
        world.run(35 * SECOND);
    }
    world.call(message("more"));
    assert_eq!(told(&world), ["now\n\nmore"]);
}
