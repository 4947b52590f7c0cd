//! Molecules: steps that are walked in order, and end with what they are steps of (spec/town.md 8.7).

use super::world::World;
use crate::error::Refusal;
use crate::message::Answer;
use crate::message::Call;
use crate::message::call::WorkCall;
use object_core::time::HOUR;
use protocol::id::BeadId;
use protocol::town::bead::BeadStatus;
use protocol::town::bead::BeadType;
use protocol::town::bead::label;
use protocol::town::convoy::FormulaStep;
use protocol::town::convoy::Molecule;
use protocol::town::convoy::MoleculeStatus;

/// A molecule of two steps.
fn molecule(world: &mut World, bead: &BeadId) -> Molecule {
    let step = |title: &str| FormulaStep { title: title.into(), instructions: "do".into() };
    let steps = vec![step("1"), step("2")];
    match world.call(Call::Work(WorkCall::CreateMolecule { bead: bead.clone(), steps })) {
        Answer::Molecule { molecule } => molecule,
        other => panic!("{other:?}"),
    }
}

/// Its steps, in order.
fn steps(world: &mut World) -> Vec<BeadId> {
    let mut steps = world.beads_of(BeadType::Issue);
    steps.retain(|bead| bead.has_label(label::MOLECULE_STEP));
    steps.into_iter().rev().map(|bead| bead.bead_id).collect()
}

#[test]
fn a_molecule_is_walked_step_by_step() {
    let mut world = World::new();
    let (agent, bead) = world.working();
    let none = Call::Work(WorkCall::CurrentStep { agent: agent.clone() });
    assert_eq!(world.refused(none.clone()), Refusal::MoleculeNotFound {});
    let molecule = molecule(&mut world, &bead);
    assert_eq!((molecule.current_step, molecule.total_steps, molecule.bead_id.clone()), (0, 2, bead));
    let Answer::Step { step } = world.call(none.clone()) else { panic!() };
    assert_eq!((step.step.title.as_str(), step.step.has_label("step:0")), ("1", true));
    let advance = |world: &mut World| -> Molecule {
        match world.call(Call::Work(WorkCall::AdvanceMolecule { agent: agent.clone(), summary: "did".into() })) {
            Answer::Molecule { molecule } => molecule,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(advance(&mut world).status, MoleculeStatus::Active);
    let last = advance(&mut world);
    assert_eq!((last.status, last.current_step), (MoleculeStatus::Completed, 2));
    assert_eq!(world.newest(BeadType::Molecule).status, BeadStatus::Closed);
    assert_eq!(world.refused(none), Refusal::MoleculeNotFound {});
}

/// Story: an agent never asked for its steps. They stayed open for ever, in the list of every agent, and the town looked at them every five minutes.
#[test]
fn a_molecule_ends_with_its_source() {
    for end in [BeadStatus::Closed, BeadStatus::Failed] {
        for advanced in [false, true] {
            let mut world = World::new();
            let (agent, bead) = world.working();
            molecule(&mut world, &bead);
            if advanced {
                world.call(Call::Work(WorkCall::AdvanceMolecule { agent, summary: "did".into() }));
            }
            world.set_status(&bead, end);
            let steps = steps(&mut world);
            assert_eq!(world.status(&steps[0]), if advanced { BeadStatus::Closed } else { end });
            assert_eq!(world.status(&steps[1]), end);
            assert_eq!(world.newest(BeadType::Molecule).status, end);
            world.run(HOUR);
            assert_eq!(world.alarm, None, "nothing is left to look at");
        }
    }
}

#[test]
fn what_is_left_after_a_step_that_failed_ends_with_the_source_and_nobody_begins_it() {
    let mut world = World::new();
    let (_, bead) = world.working();
    molecule(&mut world, &bead);
    let steps = steps(&mut world);
    let holder = world.polecat();
    world.hook(&holder, &steps[1]);
    world.close(&bead);
    assert_eq!(world.status(&steps[1]), BeadStatus::Closed);
    assert_eq!(world.agent(&holder).current_hook_bead_id, None);
    assert_eq!(world.bead(&steps[1]).dispatch_attempts, 0, "it was never begun");

    let (_, bead) = world.working();
    molecule(&mut world, &bead);
    let steps = self::steps(&mut world).split_off(2);
    world.set_status(&steps[0], BeadStatus::Failed);
    assert_eq!(world.status(&steps[1]), BeadStatus::Open);
    world.close(&bead);
    assert_eq!(world.status(&steps[1]), BeadStatus::Closed);
}
