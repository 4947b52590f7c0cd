//! What tests of a [`World`] do again and again: hand work out, make convoys, drain.

use super::world::World;
use super::world::rig;
use crate::message::Answer;
use crate::message::Call;
use crate::message::call::WorkCall;
use crate::message::container::ContainerAnswer;
use crate::message::container::ContainerCall;
use protocol::id::BeadId;
use protocol::id::InstanceId;
use protocol::town::agent::Agent;
use protocol::town::bead::Bead;
use protocol::town::bead::Priority;
use protocol::town::convoy::ConvoyDetail;
use protocol::town::convoy::ConvoyTask;
use protocol::town::convoy::MergeMode;
use serde_json::Map;

impl World {
    pub fn sling(&mut self, title: &str) -> (Bead, Agent) {
        let call = WorkCall::Sling {
            rig: rig("r1"),
            title: title.into(),
            body: None,
            priority: Priority::Medium,
            labels: vec![],
            metadata: Map::new(),
        };
        match self.call(Call::Work(call)) {
            Answer::Slung { bead, agent } => (*bead, *agent),
            other => panic!("{other:?}"),
        }
    }

    pub fn convoy_call(&self, title: &str, depends_on: &[&[usize]], mode: Option<MergeMode>, staged: bool) -> Call {
        let tasks = depends_on.iter().enumerate().map(|(n, on)| ConvoyTask {
            title: format!("task {n}"),
            body: None,
            depends_on: on.to_vec(),
        });
        Call::Work(WorkCall::SlingConvoy {
            rig: rig("r1"),
            title: title.into(),
            tasks: tasks.collect(),
            merge_mode: mode,
            staged: Some(staged),
        })
    }

    /// A convoy of tasks, and its beads.
    pub fn convoy(&mut self, depends_on: &[&[usize]], mode: Option<MergeMode>, staged: bool) -> (BeadId, Vec<BeadId>) {
        match self.call(self.convoy_call("A convoy", depends_on, mode, staged)) {
            Answer::ConvoySlung { convoy, beads } => (convoy.id, beads.into_iter().map(|bead| bead.bead_id).collect()),
            other => panic!("{other:?}"),
        }
    }

    pub fn convoy_detail(&mut self, convoy: &BeadId) -> ConvoyDetail {
        match self.call(Call::Work(WorkCall::Convoy { convoy: convoy.clone() })) {
            Answer::ConvoyDetail { detail } => *detail,
            other => panic!("{other:?}"),
        }
    }

    pub fn drain(&mut self) -> String {
        match self.container(ContainerCall::Eviction { instance: InstanceId::parse("old").ok() }) {
            ContainerAnswer::Eviction { nonce } => nonce,
            other => panic!("{other:?}"),
        }
    }

    pub fn ready(&mut self, nonce: &str) -> bool {
        let instance = InstanceId::parse("new").ok();
        match self.container(ContainerCall::Ready { instance, nonce: nonce.into() }) {
            ContainerAnswer::Ready { cleared } => cleared,
            other => panic!("{other:?}"),
        }
    }
}
