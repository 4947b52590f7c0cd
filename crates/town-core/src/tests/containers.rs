//! A town as its container sees it. Its ledger is empty.

use crate::MIGRATIONS;
use crate::Town;
use crate::limits::Limits;
use crate::message::Call;
use crate::message::Facts;
use crate::message::Input;
use crate::message::Output;
use crate::message::call::TownCall;
use crate::message::container::ContainerAnswer;
use crate::message::container::ContainerCall;
use crate::message::container::ContainerInput;
use crate::message::container::ContainerOutput;
use crate::message::container::DrainChange;
use crate::message::container::DrainEnd;
use database::Database;
use database::NativeDatabase;
use object_core::entropy::Entropy;
use protocol::id::AgentId;
use protocol::id::InstanceId;
use protocol::id::RigId;
use protocol::id::TownId;
use protocol::town::Heartbeat;
use protocol::town::config::TownConfig;

/// A town on a clock that the test moves.
pub struct Fixture {
    pub db: NativeDatabase,
    entropy: Entropy,
    pub now: i64,
    pub alarm: Option<i64>,
}

/// The tables of a town with nothing in it.
pub fn empty_town() -> NativeDatabase {
    let db = NativeDatabase::in_memory().unwrap();
    database::migrate(&db, MIGRATIONS).unwrap();
    let town = TownId::parse("t1").unwrap();
    let create = Input::Call(Call::Town(TownCall::Create { town, config: Box::new(TownConfig::default()) }));
    let mut entropy = Entropy::from_seed([1; 32]);
    Town::new(Limits::default()).receive(&db, 0, &Facts::default(), &mut entropy, &create).unwrap();
    db
}

impl Fixture {
    pub fn new() -> Self {
        let db = empty_town();
        Self { db, entropy: Entropy::from_seed([3; 32]), now: 1_795_234_294_369, alarm: None }
    }

    fn take(&mut self, input: &Input) -> Vec<ContainerOutput> {
        let town = Town::new(Limits::default());
        let turn = town.receive(&self.db, self.now, &Facts::default(), &mut self.entropy, input).unwrap();
        self.alarm = turn.alarm;
        of_container(turn.outputs)
    }

    pub fn receive(&mut self, input: &ContainerInput) -> Vec<ContainerOutput> {
        self.take(&Input::Container(input.clone()))
    }

    /// Nothing happens but time.
    pub fn wake(&mut self) -> Vec<ContainerOutput> {
        self.take(&Input::Woke)
    }

    pub fn call(&mut self, call: ContainerCall) -> Vec<ContainerOutput> {
        self.receive(&ContainerInput::Call(call))
    }

    pub fn ask(&mut self, call: ContainerCall) -> ContainerAnswer {
        let mut answers = self.call(call).into_iter().filter_map(|output| match output {
            ContainerOutput::Answer(answer) => Some(answer),
            _ => None,
        });
        let answer = answers.next().unwrap();
        assert_eq!(answers.next(), None, "one answer");
        answer
    }

    pub fn evict(&mut self, instance: Option<&str>) -> String {
        match self.ask(ContainerCall::Eviction { instance: instance.map(id) }) {
            ContainerAnswer::Eviction { nonce } => nonce,
            other => panic!("{other:?}"),
        }
    }

    /// The nonce that a heartbeat brings home.
    pub fn beat(&mut self, instance: Option<&str>) -> Option<String> {
        match self.ask(heartbeat(instance, false)) {
            ContainerAnswer::Heartbeat { nonce } => nonce,
            other => panic!("{other:?}"),
        }
    }

    pub fn ready(&mut self, instance: Option<&str>, nonce: &str) -> bool {
        match self.ask(ContainerCall::Ready { instance: instance.map(id), nonce: nonce.into() }) {
            ContainerAnswer::Ready { cleared } => cleared,
            other => panic!("{other:?}"),
        }
    }

    /// The current nonce; None if the town does not drain.
    pub fn draining(&mut self) -> Option<String> {
        match self.ask(ContainerCall::DrainStatus) {
            ContainerAnswer::DrainStatus { nonce } => nonce,
            other => panic!("{other:?}"),
        }
    }

    /// Lets time pass, ringing the alarm whenever it is due. Returns what the alarms gave.
    pub fn pass(&mut self, ms: i64) -> Vec<ContainerOutput> {
        let until = self.now + ms;
        let mut outputs = Vec::new();
        while let Some(at) = self.alarm.filter(|at| *at <= until) {
            assert!(at > self.now, "an alarm moves time forward");
            self.now = at;
            outputs.extend(self.take(&Input::Tick));
        }
        self.now = until;
        outputs
    }

    pub fn rows(&self, table: &str) -> i64 {
        self.db.query(&format!("SELECT COUNT(*) FROM {table}"), &[]).unwrap()[0].get(0).unwrap()
    }
}

/// Without a ledger there is nothing else.
pub fn of_container(outputs: Vec<Output>) -> Vec<ContainerOutput> {
    let of = |output| match output {
        Output::Container(output) => output,
        other => panic!("{other:?}"),
    };
    outputs.into_iter().map(of).collect()
}

pub fn id(text: &str) -> InstanceId {
    InstanceId::parse(text).unwrap()
}

pub fn heartbeat(instance: Option<&str>, draining: bool) -> ContainerCall {
    ContainerCall::Heartbeat {
        agent: AgentId::parse("a1").unwrap(),
        body: Heartbeat { container_instance_id: instance.map(id), draining, ..Heartbeat::default() },
        rig: RigId::parse("r1").unwrap(),
    }
}

pub fn ended(how: DrainEnd) -> ContainerOutput {
    ContainerOutput::Drain(DrainChange::Ended(how))
}
