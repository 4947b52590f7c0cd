//! A town with a ledger, driven as the shell drives it, on SQLite in memory.

mod agents;
mod beads;

use crate::MIGRATIONS;
use crate::Town;
use crate::error::Refusal;
use crate::limits::Limits;
use crate::message::Answer;
use crate::message::Call;
use crate::message::Facts;
use crate::message::Input;
use crate::message::Notice;
use crate::message::Output;
use crate::message::call::TownCall;
use crate::message::container::ContainerAnswer;
use crate::message::container::ContainerCall;
use crate::message::container::ContainerInput;
use crate::message::container::ContainerOutput;
use crate::message::effect::Effect;
use crate::message::effect::Outcome;
use database::Database;
use database::NativeDatabase;
use database::Value;
use object_core::entropy::Entropy;
use protocol::id::RigId;
use protocol::id::TownId;
use protocol::time::iso8601;
use protocol::town::config::TownConfig;
use protocol::town::container::StartAgent;

pub const START: i64 = 1_800_000_000_000;

/// One town, its clock, and what came out of its last input.
pub struct World {
    pub db: NativeDatabase,
    pub core: Town,
    entropy: Entropy,
    pub now: i64,
    pub alarm: Option<i64>,
    pub facts: Facts,
    pub outputs: Vec<Output>,
    /// Every agent that was ever to be started.
    pub started: Vec<StartAgent>,
}

impl World {
    /// Tables without a town.
    pub fn nowhere() -> Self {
        let db = NativeDatabase::in_memory().unwrap();
        database::migrate(&db, MIGRATIONS).unwrap();
        Self {
            db,
            core: Town::new(Limits::default()),
            entropy: Entropy::from_seed([5; 32]),
            now: START,
            alarm: None,
            facts: Facts::default(),
            outputs: vec![],
            started: vec![],
        }
    }

    /// A town with one rig, `r1`.
    pub fn new() -> Self {
        let mut world = Self::nowhere();
        let town = TownId::parse("town0001-long").unwrap();
        world.call(Call::Town(TownCall::Create { town, config: Box::new(TownConfig::default()) }));
        world.add_rig("r1");
        world.take(Input::Outcome { key: "rig/r1".into(), outcome: Outcome::NotRunning });
        // Only one test is about the hourly token.
        world.sql(
            "INSERT INTO action_loop (key, window_from, count, held_until) VALUES ('once/token', ?, 1, '9999-12-31T00:00:00.000Z')",
            &[iso8601(START).into()],
        );
        world
    }

    pub fn add_rig(&mut self, id: &str) {
        self.call(Call::Town(TownCall::AddRig {
            rig: rig(id),
            name: id.into(),
            git_url: "https://example.com/r.git".into(),
            default_branch: "main".into(),
        }));
    }

    pub fn take(&mut self, input: Input) -> Vec<Output> {
        let turn = self.core.receive(&self.db, self.now, &self.facts, &mut self.entropy, &input).unwrap();
        self.alarm = turn.alarm;
        self.outputs = turn.outputs.clone();
        self.started.extend(starts(&turn.outputs));
        turn.outputs
    }

    /// The object is evicted: only the tables remain.
    pub fn evict(&mut self) {
        self.core = Town::new(Limits::default());
        self.take(Input::Woke);
    }

    /// As somebody asks.
    pub fn call(&mut self, call: Call) -> Answer {
        let mut answers = self.take(Input::Call(call)).into_iter().filter_map(|output| match output {
            Output::Answer(answer) => Some(answer),
            _ => None,
        });
        let answer = answers.next().expect("a call is answered");
        assert_eq!(answers.next(), None, "once");
        answer
    }

    /// As the container asks.
    pub fn container(&mut self, call: ContainerCall) -> ContainerAnswer {
        let outputs = self.take(Input::Container(ContainerInput::Call(call)));
        let mut answers = outputs.into_iter().filter_map(|output| match output {
            Output::Container(ContainerOutput::Answer(answer)) => Some(answer),
            _ => None,
        });
        let answer = answers.next().expect("a call is answered");
        assert_eq!(answers.next(), None, "once");
        answer
    }

    pub fn refused(&mut self, call: Call) -> Refusal {
        match self.call(call) {
            Answer::Refused { refusal } => refusal,
            other => panic!("not refused: {other:?}"),
        }
    }

    pub fn done(&mut self, call: Call) {
        assert_eq!(self.call(call), Answer::Done {});
    }

    pub fn tick(&mut self) -> Vec<Output> {
        self.take(Input::Tick)
    }

    /// Time passes without an alarm, then one tick.
    pub fn tick_after(&mut self, ms: i64) -> Vec<Output> {
        self.now += ms;
        self.tick()
    }

    /// Lets time pass, ringing the alarm whenever it is due.
    pub fn run(&mut self, ms: i64) -> Vec<Output> {
        let until = self.now + ms;
        let mut outputs = Vec::new();
        while let Some(at) = self.alarm.filter(|at| *at <= until) {
            assert!(at > self.now || !outputs.is_empty() || at == self.now, "time moves forward");
            self.now = self.now.max(at);
            outputs.extend(self.tick());
            assert!(self.alarm.is_none_or(|next| next > self.now), "an alarm moves time forward");
        }
        self.now = until;
        outputs
    }

    /// The keys of what is owed that begin with `prefix`.
    pub fn owed(&self, prefix: &str) -> Vec<String> {
        let sql = "SELECT key FROM owed WHERE substr(key, 1, length(?1)) = ?1 ORDER BY since, key";
        self.db.query(sql, &[prefix.into()]).unwrap().iter().map(|row| row.get(0).unwrap()).collect()
    }

    pub fn sql(&self, sql: &str, parameters: &[Value]) {
        self.db.query(sql, parameters).unwrap();
    }

    pub fn count(&self, sql: &str) -> i64 {
        self.db.query(sql, &[]).unwrap()[0].get(0).unwrap()
    }
}

pub fn rig(id: &str) -> RigId {
    RigId::parse(id).unwrap()
}

/// The agents that were to be started.
pub fn starts(outputs: &[Output]) -> Vec<StartAgent> {
    outputs
        .iter()
        .filter_map(|output| match output {
            Output::Perform { effect: Effect::Start { .. }, start, .. } => start.as_deref().cloned(),
            _ => None,
        })
        .collect()
}

/// What was to be done.
pub fn effects(outputs: &[Output]) -> Vec<Effect> {
    outputs
        .iter()
        .filter_map(|output| match output {
            Output::Perform { effect, .. } => Some(effect.clone()),
            _ => None,
        })
        .collect()
}

pub fn notices(outputs: &[Output]) -> Vec<Notice> {
    outputs
        .iter()
        .filter_map(|output| match output {
            Output::Notice(notice) => Some(notice.clone()),
            _ => None,
        })
        .collect()
}
