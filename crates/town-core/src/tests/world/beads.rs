//! Beads of a [`World`]: made, read, aged.

use super::World;
use super::rig;
use crate::message::Answer;
use crate::message::Call;
use crate::message::bead::NewBead;
use crate::message::call::BeadCall;
use protocol::id::BeadId;
use protocol::time::iso8601;
use protocol::town::bead::Bead;
use protocol::town::bead::BeadEvent;
use protocol::town::bead::BeadStatus;
use protocol::town::bead::BeadType;

impl World {
    pub fn create(&mut self, new: NewBead) -> BeadId {
        match self.call(Call::Bead(BeadCall::Create(new))) {
            Answer::Bead { bead } => bead.bead_id,
            other => panic!("{other:?}"),
        }
    }

    pub fn issue(&mut self, title: &str) -> BeadId {
        self.create(NewBead { rig: Some(rig("r1")), ..NewBead::new(BeadType::Issue, title) })
    }

    pub fn bead(&mut self, bead: &BeadId) -> Bead {
        match self.call(Call::Bead(BeadCall::Get { bead: bead.clone() })) {
            Answer::Bead { bead } => *bead,
            other => panic!("{other:?}"),
        }
    }

    pub fn status(&mut self, bead: &BeadId) -> BeadStatus {
        self.bead(bead).status
    }

    pub fn set_status(&mut self, bead: &BeadId, status: BeadStatus) -> Bead {
        match self.call(Call::Bead(BeadCall::SetStatus { bead: bead.clone(), status, agent: "user".into() })) {
            Answer::Bead { bead } => *bead,
            other => panic!("{other:?}"),
        }
    }

    pub fn close(&mut self, bead: &BeadId) {
        self.set_status(bead, BeadStatus::Closed);
    }

    pub fn beads_of(&mut self, kind: BeadType) -> Vec<Bead> {
        let call = BeadCall::List { rig: None, status: None, kind: Some(kind), assignee: None, limit: 100, offset: 0 };
        match self.call(Call::Bead(call)) {
            Answer::Beads { beads } => beads,
            other => panic!("{other:?}"),
        }
    }

    /// The newest bead of a kind.
    pub fn newest(&mut self, kind: BeadType) -> Bead {
        self.beads_of(kind).into_iter().next().expect("there is one")
    }

    /// Its history, oldest first.
    pub fn history(&mut self, bead: &BeadId) -> Vec<BeadEvent> {
        let call = BeadCall::Events { bead: Some(bead.clone()), since: None, limit: 100 };
        match self.call(Call::Bead(call)) {
            Answer::Events { mut events } => {
                events.reverse();
                events
            }
            other => panic!("{other:?}"),
        }
    }

    /// As if the bead had been left alone for that long.
    pub fn age_bead(&self, bead: &BeadId, ms: i64) {
        self.sql(
            "UPDATE beads SET updated_at = ? WHERE bead_id = ?",
            &[iso8601(self.now - ms).into(), bead.as_str().into()],
        );
    }

    /// As if it had been tried that often, the last time that long ago.
    pub fn set_attempts(&self, bead: &BeadId, attempts: i64, ms: i64) {
        self.sql(
            "UPDATE beads SET dispatch_attempts = ?, last_dispatch_attempt_at = ? WHERE bead_id = ?",
            &[attempts.into(), iso8601(self.now - ms).into(), bead.as_str().into()],
        );
    }
}
