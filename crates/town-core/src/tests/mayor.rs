//! The mayor: started by words, reached by them, waiting between them.

use super::world::World;
use super::world::effects;
use super::world::notices;
use super::world::starts;
use crate::message::Answer;
use crate::message::Call;
use crate::message::Input;
use crate::message::Notice;
use crate::message::call::AgentCall;
use crate::message::call::TownCall;
use crate::message::effect::Effect;
use crate::message::effect::Outcome;
use protocol::town::agent::AgentStatus;
use protocol::town::agent::Role;
use protocol::town::bead::BeadStatus;
use protocol::town::mayor::MayorSession;

#[test]
fn a_message_starts_the_mayor_or_reaches_it() {
    let mut world = World::new();
    let message = |text: &str| Call::Town(TownCall::MessageMayor { message: text.into() });
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
    world.call(Call::Town(TownCall::MessageMayor { message: "hello".into() }));
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
