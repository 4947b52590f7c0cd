//! A machine with its file, and what it says in short. The tests are beside, by subject.

use super::*;
use crate::limits::Limits;
use protocol::id::ExecutionId;
use protocol::ingest::parse_frame;
use serde_json::value::RawValue;
use std::collections::VecDeque;

mod end;
mod faults;
mod flow;
mod loss;
mod outage;
mod states;

fn execution() -> ExecutionId {
    ExecutionId::parse("exc_00000000000000000000000001").unwrap()
}

/// A stored event.
fn log(n: u64) -> Event {
    Event::new("kilocode", RawValue::from_string(format!(r#"{{"event":"session.idle","n":{n}}}"#)).unwrap())
}

/// An event that is not stored.
fn volatile(n: u64) -> Event {
    Event::new("status", RawValue::from_string(format!(r#"{{"message":"{n}"}}"#)).unwrap())
}

/// What the shell owes the machine.
enum Answer {
    Read(u64, Vec<u8>),
    Spooled(bool),
    Written(Connection, usize),
}

/// The machine and its file.
struct Bench {
    ingest: Ingest,
    now: i64,
    file: Vec<u8>,
    disk_full: bool,
}

impl Bench {
    fn new() -> Self {
        Self::with(&Limits::default())
    }

    fn with(limits: &Limits) -> Self {
        Self { ingest: Ingest::new(limits, execution(), &[]), now: 0, file: Vec::new(), disk_full: false }
    }

    /// Connected to an object that has nothing.
    fn open() -> Self {
        let mut bench = Self::new();
        assert_eq!(bench.say(Input::Open), ["connect 1"]);
        assert_eq!(bench.connected(1, 0), ["ready 1"]);
        bench
    }

    /// What the machine says, in short; the file is kept and read back, and frames are written, as the shell does.
    fn say(&mut self, input: Input<'_>) -> Vec<String> {
        let mut said = Vec::new();
        let mut answers = VecDeque::new();
        let mut outputs = self.ingest.receive(self.now, input);
        loop {
            for output in outputs {
                match output {
                    Output::Spool(write) => {
                        let done = !self.disk_full && perform(&mut self.file, &write);
                        if matches!(write, SpoolWrite::Append { .. } | SpoolWrite::Rewrite { .. }) {
                            answers.push_back(Answer::Spooled(done));
                        }
                    }
                    Output::ReadSpool { offset, bytes } => {
                        let at = offset as usize;
                        answers.push_back(Answer::Read(offset, self.file[at..at + bytes].to_vec()));
                    }
                    Output::Send { connection, frame } => {
                        assert!(frame.len() < protocol::ingest::FRAME_BYTES_MAX);
                        said.extend(parse_frame(&frame).unwrap().iter().map(brief_event));
                        answers.push_back(Answer::Written(connection, frame.len()));
                    }
                    other => said.push(brief(&other)),
                }
            }
            outputs = match answers.pop_front() {
                Some(Answer::Read(offset, bytes)) => {
                    self.ingest.receive(self.now, Input::SpoolBytes { offset, bytes: &bytes })
                }
                Some(Answer::Spooled(done)) => self.ingest.receive(self.now, Input::Spooled { done }),
                Some(Answer::Written(connection, bytes)) => {
                    self.ingest.receive(self.now, Input::Written { connection, bytes })
                }
                None => return said,
            };
        }
    }

    fn event(&mut self, event: Event) -> Vec<String> {
        self.say(Input::Event(event))
    }

    fn frame(&mut self, connection: u64, text: &str) -> Vec<String> {
        self.say(Input::Frame { connection: Connection(connection), text })
    }

    fn connected(&mut self, connection: u64, last_seq: u64) -> Vec<String> {
        assert_eq!(self.say(Input::Opened { connection: Connection(connection) }), [""; 0]);
        self.frame(connection, &format!(r#"{{"type":"resume","lastSeq":{last_seq}}}"#))
    }

    fn ack(&mut self, connection: u64, seq: u64) -> Vec<String> {
        self.frame(connection, &format!(r#"{{"type":"ack","seq":{seq}}}"#))
    }

    fn closed(&mut self, connection: u64) -> Vec<String> {
        self.say(Input::Closed { connection: Connection(connection), code: 1006 })
    }

    fn failed(&mut self, connection: u64, status: Option<u16>) -> Vec<String> {
        self.say(Input::ConnectFailed { connection: Connection(connection), status })
    }

    fn pass(&mut self, ms: i64) -> Vec<String> {
        let until = self.now + ms;
        let mut said = Vec::new();
        while let Some(at) = self.ingest.next_deadline().filter(|at| *at <= until) {
            self.now = self.now.max(at);
            said.extend(self.say(Input::Tick));
        }
        self.now = until;
        said
    }
}

/// Changes a file as the shell does.
fn perform(file: &mut Vec<u8>, write: &SpoolWrite) -> bool {
    match write {
        SpoolWrite::Append { at, records } => {
            let (at, records) = (*at as usize, records.as_bytes());
            assert!(at <= file.len(), "a hole");
            file.resize(file.len().max(at + records.len()), 0);
            file[at..at + records.len()].copy_from_slice(records);
        }
        SpoolWrite::Remove => file.clear(),
        SpoolWrite::Rewrite { keep } => {
            *file = keep.iter().flat_map(|range| file[range.start as usize..range.end as usize].to_vec()).collect();
        }
        SpoolWrite::Truncate(bytes) => file.truncate(*bytes as usize),
    }
    true
}

/// `7:kilocode` for a stored event, the type for another.
fn brief_event(event: &protocol::ingest::IngestEvent<'_>) -> String {
    match event.seq {
        Some(seq) => format!("{seq}:{}", event.stream_event_type),
        None if event.stream_event_type == "wrapper_resumed" => format!("wrapper_resumed {}", event.data()),
        None => event.stream_event_type.clone().into_owned(),
    }
}

fn brief(output: &Output) -> String {
    match output {
        Output::Connect { connection } => format!("connect {}", connection.0),
        Output::Deliver(command) => format!("deliver {}", serde_json::to_string(command).unwrap()),
        Output::Disconnect { connection, code, reason } => format!("disconnect {} {code} {reason}", connection.0),
        Output::Drained => "drained".to_owned(),
        Output::GaveUp(why) => format!("gave up: {}", why.reason()),
        Output::Ready { connection } => format!("ready {}", connection.0),
        Output::Reconnecting { attempt, at_ms } => format!("reconnecting({attempt}) at {at_ms}"),
        Output::ReadSpool { .. } | Output::Send { .. } | Output::Spool(_) => panic!("performed elsewhere"),
    }
}
