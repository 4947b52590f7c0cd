//! Molecules: work in ordered steps (spec/town.md 8.7). Each step waits for the one before it. They end with the bead that they are the steps of, whether or
//! not its agent walked them.

use crate::Step;
use crate::error::Fault;
use crate::error::Refusal;
use crate::message::bead::NewBead;
use crate::store;
use crate::store::bead::Filter;
use protocol::id::AgentId;
use protocol::id::BeadId;
use protocol::time::iso8601;
use protocol::town::bead::Bead;
use protocol::town::bead::BeadStatus;
use protocol::town::bead::BeadType;
use protocol::town::bead::label;
use protocol::town::convoy::FormulaStep;
use protocol::town::convoy::Molecule;
use protocol::town::convoy::MoleculeStatus;
use protocol::town::convoy::MoleculeStep;
use serde_json::Map;
use serde_json::json;

impl Step<'_> {
    pub fn create_molecule(&mut self, source: &BeadId, steps: &[FormulaStep]) -> Result<Molecule, Fault> {
        if steps.is_empty() {
            return Err(Refusal::Invalid { what: "A molecule needs at least one step".into() }.into());
        }
        let source = self.bead(source)?;
        let mut metadata = Map::new();
        metadata.insert("source_bead_id".into(), json!(source.bead_id));
        metadata.insert("formula".into(), json!({"steps": steps}));
        let parent = self.create_bead(NewBead {
            rig: source.rig_id.clone(),
            parent: Some(source.bead_id.clone()),
            labels: vec![label::MOLECULE.into()],
            metadata,
            ..NewBead::new(BeadType::Molecule, format!("Molecule: {}", source.title))
        })?;
        let mut before: Option<BeadId> = None;
        for (index, step) in steps.iter().enumerate() {
            let mut metadata = Map::new();
            metadata.insert("step_index".into(), json!(index));
            metadata.insert("step_data".into(), json!(step));
            let bead = self.create_bead(NewBead {
                body: Some(step.instructions.clone()),
                parent: Some(parent.bead_id.clone()),
                labels: vec![label::MOLECULE_STEP.into(), format!("step:{index}")],
                metadata,
                ..NewBead::new(BeadType::Issue, step.title.clone())
            })?;
            if let Some(before) = &before {
                self.block(&bead.bead_id, before)?;
            }
            before = Some(bead.bead_id);
        }
        store::bead::merge_metadata(self.db, &source.bead_id, &json!({"molecule_bead_id": parent.bead_id}))?;
        self.molecule(&parent).map(|(molecule, _)| molecule)
    }

    /// The step that the agent's bead has come to.
    pub fn current_step(&self, agent: &AgentId) -> Result<MoleculeStep, Fault> {
        let parent = self.molecule_of(agent)?;
        match self.molecule(&parent)? {
            (molecule, Some(step)) => Ok(MoleculeStep { molecule, step }),
            (_, None) => Err(Refusal::MoleculeNotFound {}.into()),
        }
    }

    /// Ends the current step.
    pub fn advance(&mut self, agent: &AgentId, summary: &str) -> Result<Molecule, Fault> {
        let parent = self.molecule_of(agent)?;
        let (_, step) = self.molecule(&parent)?;
        let step = step.ok_or_else(|| Fault::from(Refusal::MoleculeNotFound {}))?;
        store::bead::merge_metadata(self.db, &step.bead_id, &json!({"summary": summary}))?;
        self.set_status(&step.bead_id, BeadStatus::Closed, agent.as_str(), None)?;
        let (molecule, _) = self.molecule(&parent)?;
        if molecule.status == MoleculeStatus::Completed {
            self.set_status(&parent.bead_id, BeadStatus::Closed, agent.as_str(), None)?;
        }
        Ok(molecule)
    }

    /// Ends what is left of a bead's molecules in the way that it ended: nobody works on their steps any more. The last step first, so that none of them is
    /// begun because the one before it is over.
    pub fn end_molecules(&mut self, source: &Bead) -> Result<(), Fault> {
        let below = |step: &Self, parent: &BeadId, kind| {
            let filter = Filter { parent: Some(parent.clone()), kind: Some(kind), ..Filter::default() };
            store::bead::list(step.db, &filter, i64::from(u32::MAX), 0)
        };
        for molecule in below(self, &source.bead_id, BeadType::Molecule)? {
            for step in below(self, &molecule.bead_id, BeadType::Issue)? {
                self.take_away(&step.bead_id, "what it is a step of is over")?;
                self.set_status(&step.bead_id, source.status, "system", None)?;
            }
            self.set_status(&molecule.bead_id, source.status, "system", None)?;
        }
        Ok(())
    }

    fn molecule_of(&self, agent: &AgentId) -> Result<Bead, Fault> {
        let none = || Fault::from(Refusal::MoleculeNotFound {});
        let agent = self.agent(agent)?.agent;
        let bead = self.hooked_bead(&agent)?.ok_or_else(none)?;
        let id = bead.text("molecule_bead_id").and_then(|id| BeadId::parse(id).ok()).ok_or_else(none)?;
        store::bead::find(self.db, &id)?.ok_or_else(none)
    }

    /// A molecule and its next step, if one is left.
    fn molecule(&self, parent: &Bead) -> Result<(Molecule, Option<Bead>), Fault> {
        let steps = store::bead::select(
            self.db,
            "WHERE b.parent_bead_id = ? AND b.type = 'issue' ORDER BY b.rowid",
            &[parent.bead_id.as_str().into()],
        )?;
        let count = |status| steps.iter().filter(|step| step.status == status).count();
        let closed = count(BeadStatus::Closed);
        let status = if count(BeadStatus::Failed) > 0 {
            MoleculeStatus::Failed
        } else if closed == steps.len() {
            MoleculeStatus::Completed
        } else {
            MoleculeStatus::Active
        };
        let source = parent.text("source_bead_id").and_then(|id| BeadId::parse(id).ok());
        let molecule = Molecule {
            id: parent.bead_id.clone(),
            bead_id: source.unwrap_or_else(|| parent.bead_id.clone()),
            status,
            current_step: i64::try_from(closed).unwrap_or(i64::MAX),
            total_steps: i64::try_from(steps.len()).unwrap_or(i64::MAX),
            created_at: iso8601(parent.created_at),
        };
        let next = steps.into_iter().find(|step| !step.status.is_terminal());
        Ok((molecule, next.filter(|_| status == MoleculeStatus::Active)))
    }
}
