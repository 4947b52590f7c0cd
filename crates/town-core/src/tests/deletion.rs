//! A town that is deleted: nothing of it comes back, and what is kept elsewhere ends, however often that fails.

use super::world::World;
use super::world::rig;
use crate::error::Refusal;
use crate::message::Answer;
use crate::message::Call;
use crate::message::Input;
use crate::message::Output;
use crate::message::call::AgentCall;
use crate::message::call::TownCall;
use crate::message::container::ContainerAnswer;
use crate::message::container::ContainerCall;
use crate::message::container::ContainerInput;
use crate::message::effect::Effect;
use crate::message::effect::Outcome;
use database::Database;
use object_core::time::HOUR;
use protocol::id::AgentId;
use protocol::id::InstanceId;
use protocol::id::TownId;
use protocol::town::Heartbeat;
use protocol::town::config::TownConfig;
use protocol::town::container::ContainerAgentStatus;
use std::collections::BTreeSet;

fn destroy() -> Call {
    Call::Town(TownCall::Destroy {})
}

fn create() -> Call {
    let town = TownId::parse("town0001-long").unwrap();
    Call::Town(TownCall::Create { town, config: Box::new(TownConfig::default()) })
}

/// The keys of what is to be performed, each answered.
fn answered(world: &mut World, outputs: Vec<Output>, outcome: &Outcome) -> BTreeSet<String> {
    let keys: BTreeSet<_> = outputs
        .into_iter()
        .filter_map(|output| match output {
            Output::Perform { key, .. } => Some(key),
            _ => None,
        })
        .collect();
    for key in &keys {
        world.take(Input::Outcome { key: key.clone(), outcome: outcome.clone() });
    }
    keys
}

fn names<const N: usize>(names: [&str; N]) -> BTreeSet<String> {
    names.map(str::to_owned).into()
}

/// The tables that hold anything.
fn filled(world: &World) -> BTreeSet<String> {
    let tables =
        world.db.query("SELECT name FROM sqlite_master WHERE type = 'table' AND name <> 'migration'", &[]).unwrap();
    let names = tables.iter().map(|row| row.get::<String>(0).unwrap());
    names.filter(|name| !world.db.query(&format!("SELECT 1 FROM {name}"), &[]).unwrap().is_empty()).collect()
}

#[test]
fn what_a_deleted_town_has_elsewhere_is_owed_until_it_has_ended() {
    let mut world = World::new();
    let (agent, _) = world.working();
    world.drain();
    let outputs = world.take(Input::Call(destroy()));
    let owed = BTreeSet::from(["end".to_owned(), format!("forget/{agent}"), "snapshots".to_owned()]);
    let lost = Outcome::Unknown { reason: "no answer".into() };
    assert_eq!(answered(&mut world, outputs, &lost), owed);
    assert_eq!(filled(&world), names(["gone", "owed"]));
    for _ in 0..20 {
        let at = world.alarm.expect("it is owed");
        assert!(at > world.now && at <= world.now + HOUR, "in an hour at the latest");
        world.now = at;
        world.evict();
        let outputs = world.take(Input::Tick);
        answered(&mut world, outputs, &lost);
    }
    assert_eq!(filled(&world), names(["gone", "owed"]), "never given up");
    world.now += HOUR;
    let outputs = world.take(Input::Tick);
    assert_eq!(answered(&mut world, outputs, &Outcome::Done), owed);
    assert_eq!((filled(&world), world.alarm), (names(["gone"]), None));
}

#[test]
fn an_agent_that_was_deleted_before_its_town_is_forgotten_too() {
    let mut world = World::new();
    let (agent, _) = world.working();
    world.take(Input::Call(Call::Agent(AgentCall::Delete { agent: agent.clone() })));
    let outputs = world.take(Input::Call(destroy()));
    let forget = Effect::Forget { agent };
    assert!(outputs.iter().any(|output| matches!(output, Output::Perform { effect, .. } if *effect == forget)));
}

#[test]
fn what_comes_after_the_end_of_a_town_is_refused_and_leaves_nothing() {
    let mut world = World::new();
    let (agent, _) = world.working();
    let outputs = world.take(Input::Call(destroy()));
    answered(&mut world, outputs, &Outcome::Done);
    let instance = InstanceId::parse("i1").ok();
    let beat = ContainerCall::Heartbeat { agent: agent.clone(), body: Heartbeat::default(), rig: rig("r1") };
    let ready = ContainerCall::Ready { instance: instance.clone(), nonce: "n".into() };
    for call in [ContainerCall::Eviction { instance }, beat, ready, ContainerCall::DrainStatus] {
        assert_eq!(world.container(call), ContainerAnswer::NoTown);
    }
    let instance = InstanceId::parse("i2").unwrap();
    world.take(Input::Container(ContainerInput::Ended { at: world.now }));
    world.take(Input::Container(ContainerInput::Health { instance, draining: true }));
    world.take(Input::Observed { agent: agent.clone(), status: ContainerAgentStatus::Exited, exit_reason: None });
    world.take(Input::Outcome { key: format!("start/{agent}"), outcome: Outcome::Done });
    world.take(Input::Tick);
    let refused = Answer::from(Refusal::TownNotFound {});
    assert_eq!(world.call(create()), refused, "it is never made again");
    assert_eq!(world.call(Call::Agent(AgentCall::Prime { agent })), refused);
    world.done(destroy());
    assert_eq!((filled(&world), world.alarm), (names(["gone"]), None));
}

#[test]
fn a_town_that_never_was_takes_nothing_from_a_container() {
    let mut world = World::nowhere();
    let agent = AgentId::parse("a1").unwrap();
    let beat = ContainerCall::Heartbeat { agent, body: Heartbeat::default(), rig: rig("r1") };
    for call in [ContainerCall::Eviction { instance: None }, beat, ContainerCall::DrainStatus] {
        assert_eq!(world.container(call), ContainerAnswer::NoTown);
    }
    assert_eq!((filled(&world), world.alarm), (names([]), None));
}

#[test]
fn a_creation_that_comes_after_it_was_taken_back_makes_nothing() {
    let mut world = World::nowhere();
    world.done(destroy());
    assert_eq!(world.call(create()), Answer::from(Refusal::TownNotFound {}));

    let mut world = World::new();
    world.done(Call::Town(TownCall::RemoveRig { rig: rig("r2") }));
    let late =
        TownCall::AddRig { rig: rig("r2"), name: "late".into(), git_url: "u".into(), default_branch: "m".into() };
    assert_eq!(world.refused(Call::Town(late)), Refusal::RigNotFound { rig: rig("r2") });
    assert_eq!(world.count("SELECT COUNT(*) FROM rigs"), 1);
}
