//! What an agent may be given, and what becomes of work that is given to another (spec/town.md 3.5).

use super::world::World;
use super::world::rig;
use crate::error::Refusal;
use crate::message::Answer;
use crate::message::Call;
use crate::message::bead::NewBead;
use crate::message::call::AgentCall;
use crate::message::call::BeadCall;
use crate::message::effect::Outcome;
use object_core::time::MINUTE;
use protocol::id::AgentId;
use protocol::id::BeadId;
use protocol::town::agent::AgentStatus;
use protocol::town::agent::Role;
use protocol::town::bead::BeadStatus;
use protocol::town::bead::BeadType;

fn reassign(bead: &BeadId, agent: &AgentId) -> Call {
    Call::Bead(BeadCall::Reassign { bead: bead.clone(), rig: rig("r1"), agent: agent.clone() })
}

fn refused(world: &mut World, agent: &AgentId, bead: &BeadId) {
    let hook = Call::Agent(AgentCall::Hook { agent: agent.clone(), bead: bead.clone() });
    for call in [hook, reassign(bead, agent)] {
        let refusal = world.refused(call);
        assert!(matches!(refusal, Refusal::NotWorkable { .. }), "{refusal}");
    }
    assert_eq!(world.agent(agent).current_hook_bead_id, None);
}

/// Story: the bead stood in progress with an agent that nothing started. After five minutes it was taken from it, and went to the one who had it before.
#[test]
fn a_bead_at_work_that_is_given_to_another_is_worked_on_by_that_one() {
    let mut world = World::new();
    let (first, bead) = world.working();
    let chosen = world.polecat();
    let Answer::Bead { bead: given } = world.call(reassign(&bead, &chosen)) else { panic!() };
    assert_eq!(given.status, BeadStatus::Open);
    world.run(3 * MINUTE);
    let start = world.started.last().unwrap();
    assert_eq!((&start.agent_id, start.bead_id.as_ref()), (&chosen, Some(&bead)));
    world.started_as(&chosen, Outcome::Done);
    let found = world.bead(&bead);
    assert_eq!((found.status, found.assignee_agent_bead_id), (BeadStatus::InProgress, Some(chosen.clone())));
    assert_eq!(world.agent(&first).current_hook_bead_id, None);
    world.call(reassign(&bead, &chosen));
    assert_eq!(world.status(&bead), BeadStatus::InProgress, "to whoever has it, it changes nothing");
    assert_eq!(world.owed(&format!("stop/{chosen}")), [""; 0]);
}

/// Story: an issue was given to a refinery. No rule ever started it, and no merge request of that rig was reviewed again.
#[test]
fn a_refinery_takes_no_issue_and_goes_on_reviewing() {
    let mut world = World::new();
    let refinery = world.register(Role::Refinery, "r1");
    let issue = world.issue("a");
    refused(&mut world, &refinery, &issue);
    let (_, review, reviewer) = world.in_review();
    assert_eq!(reviewer, refinery);
    assert_eq!(world.status(&review), BeadStatus::InProgress);
}

#[test]
fn a_merge_request_goes_to_no_polecat_and_to_a_refinery_only_in_its_turn() {
    let mut world = World::new();
    let polecat = world.polecat();
    let (_, review, first) = world.in_review();
    refused(&mut world, &polecat, &review);
    let second = world.register(Role::Refinery, "r1");
    world.call(reassign(&review, &second));
    assert_eq!(world.agent(&first).current_hook_bead_id, None);
    assert_eq!(world.agent(&second).current_hook_bead_id, Some(review.clone()), "its turn has come");
    let waiting = world.create(NewBead { rig: Some(rig("r1")), ..NewBead::new(BeadType::MergeRequest, "m") });
    refused(&mut world, &first, &waiting);
}

#[test]
fn neither_a_molecule_nor_anything_for_the_mayor_is_hooked() {
    let mut world = World::new();
    let (polecat, mayor, issue) = (world.polecat(), world.mayor(), world.issue("a"));
    let molecule = world.create(NewBead { rig: Some(rig("r1")), ..NewBead::new(BeadType::Molecule, "m") });
    refused(&mut world, &polecat, &molecule);
    let refusal = world.refused(Call::Agent(AgentCall::Hook { agent: mayor, bead: issue }));
    assert!(matches!(refusal, Refusal::NotWorkable { .. }), "{refusal}");
}

/// Story: a person opened a merge request again while it was reviewed. Its refinery kept it on its hook, and reviewed neither it nor any other.
#[test]
fn a_refinery_lets_go_of_what_is_not_in_review() {
    let mut world = World::new();
    let (_, review, refinery) = world.in_review();
    world.set_status(&review, BeadStatus::Open);
    world.set_agent_status(&refinery, &AgentStatus::Idle);
    world.run(3 * MINUTE);
    assert_eq!(world.status(&review), BeadStatus::InProgress);
    assert_eq!(world.started.last().unwrap().bead_id, Some(review));
}
