//! The rules of a session, driven as the shell drives them, on SQLite in memory.

mod bounds;
mod callbacks;
mod deadlines;
mod execution;
mod gone;
mod group;
mod images;
mod ingest;
mod preparation;
mod questions;
mod races;
mod reaper;
mod repeated;
mod schema;
mod secrets;
mod snapshot;
mod start;
mod stream;
mod update;
mod verdicts;
mod view;

use crate::Config;
use crate::Session;
use crate::limits::Limits;
use crate::message::Answer;
use crate::message::Call;
use crate::message::Effect;
use crate::message::Facts;
use crate::message::IngestFrame;
use crate::message::IngestOpen;
use crate::message::Input;
use crate::message::Outcome;
use crate::message::Output;
use crate::message::Proof;
use crate::message::Registration;
use crate::message::Turn;
use database::NativeDatabase;
use object_core::ReplyTo;
use object_core::entropy::Entropy;
use protocol::id::ExecutionId;
use protocol::id::KiloSessionId;
use protocol::id::SessionId;
use protocol::id::UserId;
use protocol::sandbox;
use protocol::sandbox::Progress;
use protocol::sandbox::Resume;
use protocol::sandbox::Step;
use protocol::sandbox::Work;
use protocol::trpc::Admits;
use protocol::trpc::TrpcError;
use protocol::trpc::parse_prepare_session;
use protocol::trpc::parse_send_message;
use serde_json::Value;
use serde_json::json;
use std::collections::BTreeMap;

const SESSION: &str = "agent_01234567-89ab-cdef-0123-456789abcdef";
const KILO_SESSION: &str = "ses_0123456789abABCDEFGHIJKLMN";
const START: i64 = 1_800_000_000_000;

/// One session, its clock, and everything that came out of it.
struct World {
    db: NativeDatabase,
    core: Session,
    seed: u8,
    now: i64,
    facts: Facts,
    alarm: Option<i64>,
    outputs: Vec<Output>,
    /// The last effect that was performed under each key.
    performed: BTreeMap<String, Effect>,
}

impl World {
    fn new() -> Self {
        let db = NativeDatabase::in_memory().unwrap();
        Self {
            db,
            core: core(),
            seed: 0,
            now: START,
            facts: Facts { viewers: 1, ..Facts::default() },
            alarm: None,
            outputs: vec![],
            performed: BTreeMap::new(),
        }
    }

    /// The object is evicted: only the tables remain.
    fn evict(&mut self) {
        self.core = core();
        self.take(Input::Woke);
    }

    /// Takes an input and returns what it led to.
    fn take(&mut self, input: Input) -> Vec<Output> {
        // What is made of the same bytes later differs by its time.
        self.seed = self.seed.wrapping_add(1);
        let mut entropy = Entropy::from_seed([self.seed; 32]);
        let Turn { outputs, alarm } = self.core.receive(&self.db, self.now, &self.facts, &mut entropy, input).unwrap();
        self.alarm = alarm;
        for output in &outputs {
            if let Output::Perform { key, effect } = output {
                self.performed.insert(key.clone(), effect.clone());
            }
        }
        self.outputs.extend(outputs.clone());
        outputs
    }

    fn call(&mut self, call: Call) -> ReplyTo {
        let reply = ReplyTo(i64::from(self.seed) + 1_000);
        self.take(Input::Call { reply, call });
        reply
    }

    fn reply(&self, to: ReplyTo) -> Option<Result<Answer, TrpcError>> {
        self.outputs.iter().find_map(|output| match output {
            Output::Reply { to: who, result } if *who == to => Some(result.clone()),
            _ => None,
        })
    }

    fn pass(&mut self, ms: i64) {
        self.now += ms;
    }

    /// The alarm fires when it is due, and the clock is then.
    fn alarm(&mut self) -> Vec<Output> {
        self.now = self.now.max(self.alarm.expect("an alarm is set"));
        self.tick()
    }

    fn tick(&mut self) -> Vec<Output> {
        let mut outputs = self.take(Input::Expire);
        outputs.extend(self.take(Input::PayDebts));
        outputs
    }

    fn outcome(&mut self, key: &str, outcome: Outcome) -> Vec<Output> {
        let effect = Box::new(self.performed.get(key).expect("it was performed").clone());
        self.take(Input::Outcome { key: key.into(), effect, outcome })
    }

    fn register(&mut self, fields: Value) -> ReplyTo {
        self.register_as(KILO_SESSION, fields)
    }

    fn register_as(&mut self, kilo_session: &str, fields: Value) -> ReplyTo {
        let mut input = json!({"prompt": "do it", "mode": "code", "model": "m", "gitUrl": "https://example.com/r.git"});
        input.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        self.call(Call::Register(Box::new(Registration {
            user: UserId::parse("oauth/google:1").unwrap(),
            session: SessionId::parse(SESSION).unwrap(),
            kilo_session: KiloSessionId::parse(kilo_session).unwrap(),
            sandbox: crate::sandbox_id(None, &UserId::parse("oauth/google:1").unwrap(), None).unwrap(),
            input: parse_prepare_session(&input, Admits { loopback: false, callback_url: crate::callback::check_url })
                .unwrap(),
        })))
    }

    fn done(&mut self, key: &str) -> Vec<Output> {
        self.outcome(key, Outcome::Done)
    }

    /// Lets the tick ask for work, and returns what it asked for.
    fn asked_work(&mut self) -> Work {
        self.alarm().into_iter().find_map(work_of).expect("work is asked for")
    }

    fn report(&mut self, work: &Work, n: u64, step: Step, outcome: Option<sandbox::Outcome>) -> Vec<Output> {
        let progress = Progress { attempt: work.attempt, n, step, message: format!("{step:?}"), outcome };
        let token = work.report.token.expose().to_owned();
        self.take(Input::Progress { reply: ReplyTo(1), token, progress })
    }

    fn finish_work(&mut self, work: &Work, n: u64) -> Vec<Output> {
        let outcome = sandbox::Outcome::Done { branch: "session/x".into(), resume: Resume::Fresh };
        self.report(work, n, Step::KiloServer, Some(outcome))
    }

    fn fail_work(&mut self, work: &Work, n: u64) -> Vec<Output> {
        let outcome = sandbox::Outcome::Failed {
            code: "WORKSPACE_SETUP_FAILED".into(),
            message: "boom".into(),
            retryable: false,
        };
        self.report(work, n, Step::Failed, Some(outcome))
    }

    /// A session that is prepared and waits to be initiated.
    fn prepared(fields: Value) -> Self {
        let mut world = World::new();
        world.register(fields);
        world.done("directory/add");
        let preparation = world.asked_work();
        world.finish_work(&preparation, 1);
        world
    }

    /// A session whose first turn runs, with its wrapper connected.
    fn running() -> (Self, ExecutionId, Work) {
        Self::running_with(json!({}))
    }

    /// The same, with more said when it was prepared.
    fn running_with(mut fields: Value) -> (Self, ExecutionId, Work) {
        fields["autoInitiate"] = json!(true);
        let mut world = World::prepared(fields);
        let start = world.asked_work();
        let execution = start.turn.clone().unwrap().execution_id;
        world.connect(&execution, &start);
        world.finish_work(&start, 1);
        world.outputs.clear();
        (world, execution, start)
    }

    fn connect(&mut self, execution: &ExecutionId, work: &Work) -> Vec<Output> {
        let turn = work.turn.clone().unwrap();
        let generation = turn.ingest_url.rsplit_once("&generation=").and_then(|(_, number)| number.parse().ok());
        let proof = Proof::Secret(turn.ingest_secret.expose().to_owned());
        let open = IngestOpen { execution: execution.clone(), generation, proof };
        self.facts.ingest = vec![execution.to_string()];
        self.take(Input::IngestOpen(open))
    }

    fn disconnect(&mut self, execution: &ExecutionId) {
        self.facts.ingest.clear();
        self.take(Input::IngestClosed { execution: execution.clone(), code: 1006, reason: "gone".into() });
    }

    fn frame(&mut self, execution: &ExecutionId, frame: Value) -> Vec<Output> {
        self.frames(execution, &[frame.to_string()])
    }

    /// Frames that arrived together, each from a socket of its own number.
    fn frames(&mut self, execution: &ExecutionId, texts: &[String]) -> Vec<Output> {
        let frame =
            |(socket, text): (usize, &String)| IngestFrame { socket, execution: execution.clone(), text: text.clone() };
        self.take(Input::IngestFrames(texts.iter().enumerate().map(frame).collect()))
    }

    fn complete(&mut self, execution: &ExecutionId) -> Vec<Output> {
        self.frame(execution, json!({"streamEventType": "complete", "data": {"exitCode": 0}}))
    }

    /// A follow-up that runs, with its wrapper connected.
    fn follow_up(&mut self) -> (ExecutionId, Work) {
        self.send("more");
        let work = self.asked_work();
        let execution = work.turn.clone().unwrap().execution_id;
        self.connect(&execution, &work);
        self.finish_work(&work, 1);
        (execution, work)
    }

    fn send(&mut self, prompt: &str) -> ReplyTo {
        let message = parse_send_message(&json!({"cloudAgentSessionId": SESSION, "prompt": prompt})).unwrap();
        self.call(Call::Send(Box::new(message)))
    }

    /// `getSession`, as JSON; null if there is none.
    fn view(&mut self) -> Value {
        let reply = self.call(Call::View);
        match self.reply(reply).unwrap() {
            Ok(answer) => serde_json::to_value(answer).unwrap(),
            Err(_) => Value::Null,
        }
    }

    fn stored(&self, kind: &str) -> Vec<Value> {
        let sql = "SELECT data FROM log WHERE type = ? ORDER BY id";
        let rows = database::Database::query(&self.db, sql, &[kind.into()]).unwrap();
        rows.iter().map(|row| serde_json::from_str(&row.get::<String>(0).unwrap()).unwrap()).collect()
    }
}

fn core() -> Session {
    Session::new(Config { worker_url: "http://w".into(), limits: Limits::default() })
}

fn work_of(output: Output) -> Option<Work> {
    match output {
        Output::Perform { effect: Effect::Work { work, .. }, .. } => Some(*work),
        _ => None,
    }
}

/// The broadcasts of a kind, as their `data`.
fn broadcasts(outputs: &[Output], kind: &str) -> Vec<Value> {
    outputs
        .iter()
        .filter_map(|output| match output {
            Output::Broadcast(event) if event.kind == kind => {
                let frame: Value = serde_json::from_str(&event.text).unwrap();
                Some(frame["data"].clone())
            }
            _ => None,
        })
        .collect()
}
