//! An object that stores, a network that breaks, a process that is killed: the object's log is what was emitted, once each, in order.

use super::*;
use proptest::prelude::*;

/// What the session object does with numbered events (design 3).
#[derive(Default)]
struct Object {
    log: Vec<String>,
    last_seq: u64,
    lost: u64,
}

impl Object {
    /// Takes a frame; the answer is the acknowledgement, or `None` for a gap.
    fn take(&mut self, frame: &str) -> Result<Option<u64>, ()> {
        let mut acked = None;
        for event in parse_frame(frame).unwrap() {
            let Some(seq) = event.seq else { continue };
            acked = Some(seq);
            if seq <= self.last_seq {
                continue;
            }
            if event.stream_event_type == "events_lost" {
                assert!(event.data().get().contains(&format!("\"from\":{},", self.last_seq + 1)));
                self.lost += seq - self.last_seq;
            } else if seq == self.last_seq + 1 {
                self.log.push(event.data().get().to_owned());
            } else {
                return Err(());
            }
            self.last_seq = seq;
        }
        Ok(acked)
    }
}

#[derive(Clone, Debug)]
enum Step {
    /// The agent says something that is stored.
    Log,
    /// Or something that is not.
    Volatile,
    /// Time passes.
    Pass(i64),
    /// The network takes so many frames to the object, and its answers back.
    Carry(usize),
    /// The socket breaks; what is on its way in either direction is gone.
    Cut,
    /// The process is killed and started again on the same disk.
    Kill,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => Just(Step::Log),
        2 => Just(Step::Volatile),
        4 => prop_oneof![Just(10_i64), Just(60), Just(1_500), Just(9_000)].prop_map(Step::Pass),
        6 => (0_usize..4).prop_map(Step::Carry),
        1 => Just(Step::Cut),
        1 => Just(Step::Kill),
    ];
    prop::collection::vec(step, 1..120)
}

struct World {
    limits: Limits,
    bench: Ingest,
    now: i64,
    file: Vec<u8>,
    object: Object,
    /// The socket as the network sees it: its number, and whether the object has greeted on it.
    socket: Option<(Connection, bool)>,
    up: VecDeque<String>,
    /// What the agent said, without what died in a killed process's window.
    emitted: Vec<String>,
    n: u64,
    over: bool,
}

impl World {
    fn new(limits: Limits) -> Self {
        let bench = Ingest::new(&limits, execution(), &[]);
        let mut world = Self {
            limits,
            bench,
            now: 0,
            file: Vec::new(),
            object: Object::default(),
            socket: None,
            up: VecDeque::new(),
            emitted: Vec::new(),
            n: 0,
            over: false,
        };
        world.say(Input::Open);
        world
    }

    fn say(&mut self, input: Input<'_>) {
        let (mut read, mut spooled) = (None, None);
        for output in self.bench.receive(self.now, input) {
            match output {
                Output::Connect { connection } => {
                    self.up.clear();
                    self.socket = Some((connection, false));
                }
                Output::Disconnect { .. } => {
                    self.up.clear();
                    self.socket = None;
                }
                Output::Send { connection, frame } => {
                    assert_eq!(self.socket, Some((connection, true)), "nothing is sent before the greeting");
                    self.up.push_back(frame);
                }
                Output::Spool(write) => {
                    let done = perform(&mut self.file, &write);
                    if matches!(write, SpoolWrite::Append { .. } | SpoolWrite::Rewrite { .. }) {
                        spooled = Some(done);
                    }
                }
                Output::ReadSpool { offset, bytes } => {
                    let at = offset as usize;
                    read = Some((offset, self.file[at..at + bytes].to_vec()));
                }
                Output::Drained => self.over = true,
                Output::GaveUp(why) => panic!("gave up: {why:?}"),
                Output::Deliver(_) | Output::Ready { .. } | Output::Reconnecting { .. } => {}
            }
        }
        if let Some(done) = spooled {
            self.say(Input::Spooled { done });
        }
        if let Some((offset, bytes)) = read {
            self.say(Input::SpoolBytes { offset, bytes: &bytes });
        }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Log => {
                self.n += 1;
                self.emitted.push(log(self.n).data().to_owned());
                self.say(Input::Event(log(self.n)));
            }
            Step::Volatile => self.say(Input::Event(volatile(0))),
            Step::Pass(ms) => {
                let until = self.now + ms;
                while let Some(at) = self.bench.next_deadline().filter(|at| *at <= until) {
                    self.now = self.now.max(at);
                    self.say(Input::Tick);
                }
                self.now = until;
            }
            Step::Carry(frames) => self.carry(*frames),
            Step::Cut => {
                if let Some((connection, _)) = self.socket.take() {
                    self.up.clear();
                    self.say(Input::Closed { connection, code: 1006 });
                }
            }
            Step::Kill => {
                // What was in the window dies with the process; what was in the file does not.
                self.settle_window();
                self.up.clear();
                self.socket = None;
                self.bench = Ingest::new(&self.limits, execution(), &self.file);
                self.say(Input::Open);
            }
        }
    }

    /// Brings the window into the file, so that `emitted` is what must arrive.
    fn settle_window(&mut self) {
        self.step(&Step::Pass(self.limits.batch_ms));
        let in_file = String::from_utf8_lossy(&self.file).into_owned();
        let arrived = &self.object.log;
        self.emitted.retain(|event| arrived.contains(event) || in_file.contains(event.as_str()));
    }

    fn carry(&mut self, frames: usize) {
        let Some((connection, greeted)) = self.socket else { return };
        if !greeted {
            self.socket = Some((connection, true));
            let resume = format!(r#"{{"type":"resume","lastSeq":{}}}"#, self.object.last_seq);
            self.say(Input::Opened { connection });
            self.say(Input::Frame { connection, text: &resume });
        }
        for _ in 0..frames {
            let Some(frame) = self.up.pop_front() else { break };
            self.say(Input::Written { connection, bytes: frame.len() });
            match self.object.take(&frame) {
                Ok(Some(seq)) => {
                    self.say(Input::Frame { connection, text: &format!(r#"{{"type":"ack","seq":{seq}}}"#) });
                }
                Ok(None) => {}
                Err(()) => panic!("a gap"),
            }
            if self.socket.map(|(now, _)| now) != Some(connection) {
                break;
            }
        }
    }

    fn drain(&mut self) {
        self.say(Input::Finish);
        for _ in 0..200 {
            if self.over {
                return;
            }
            self.carry(100);
            self.step(&Step::Pass(1_000));
        }
        panic!("not drained");
    }
}

/// Small enough that everything has to be read back, batched and tidied up.
fn tight() -> Limits {
    Limits {
        batch_bytes_max: 400,
        send_bytes_max: 600,
        spool_resident_bytes_max: 500,
        spool_slack_bytes: 700,
        reconnect_ms_max: i64::MAX,
        finish_ms_max: i64::MAX / 2,
        ..Limits::default()
    }
}

proptest! {
    #[test]
    fn the_log_is_what_was_emitted_once_each_in_order(steps in steps()) {
        let mut world = World::new(tight());
        steps.iter().for_each(|step| world.step(step));
        world.drain();
        prop_assert_eq!(&world.object.log, &world.emitted);
        prop_assert_eq!((world.object.lost, world.file.len()), (0, 0));
    }

    #[test]
    fn what_a_full_spool_gives_up_is_announced_and_the_rest_is_in_order(steps in steps()) {
        let mut world = World::new(Limits { spool_bytes_max: 1_000, ..tight() });
        steps.iter().for_each(|step| world.step(step));
        world.drain();
        let log = &world.object.log;
        let mut emitted = world.emitted.iter();
        prop_assert!(log.iter().all(|event| emitted.any(|other| other == event)), "a subsequence");
        prop_assert!(world.object.lost as usize >= world.emitted.len() - log.len());
    }
}
