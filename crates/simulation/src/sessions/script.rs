//! What an agent does in one turn: the order of 7.7.9 (spec/kilo.md 5), with made-up contents.

use crate::run::Run;
use crate::sessions::faults;
use std::collections::VecDeque;

/// One thing that an agent does.
#[derive(Clone, Debug)]
pub enum Beat {
    Opened,
    Status(&'static str),
    /// The user's message.
    Prompt,
    Message {
        done: bool,
        error: Option<&'static str>,
    },
    Part {
        number: u32,
        bytes: usize,
        done: bool,
        tool: bool,
    },
    Delta {
        number: u32,
    },
    Updated,
    Failed,
    /// Goes on when it is answered.
    Asks {
        permission: bool,
    },
    /// An event of a sub-agent.
    Child,
    Closed(&'static str),
    Idle,
}

/// A turn: each beat follows the one before after a pause in milliseconds.
pub fn turn(run: &mut Run) -> VecDeque<(i64, Beat)> {
    let mut beats = VecDeque::new();
    if run.fault(faults::AGENT_SILENT) {
        return beats;
    }
    beats.push_back((run.random.between("agent", 20, 1_500), Beat::Opened));
    beats.push_back((2, Beat::Status("busy")));
    beats.push_back((3, Beat::Prompt));
    beats.push_back((5, Beat::Message { done: false, error: None }));
    let endless = run.fault(faults::TURN_ENDLESS);
    let parts = if endless { 80 } else { 1 + run.random.below("parts", 5) };
    for number in 0..u32::try_from(parts).unwrap_or(0) {
        part(run, &mut beats, number, endless);
        if run.fault(faults::AGENT_HANGS) {
            return beats;
        }
        if run.fault(faults::AGENT_ASKS) {
            let permission = run.random.percent("permission", 50);
            beats.push_back((run.random.between("agent", 10, 500), Beat::Asks { permission }));
        }
    }
    let failed = run.fault(faults::AGENT_ERROR);
    if failed {
        beats.push_back((5, Beat::Failed));
    }
    beats.push_back((5, Beat::Message { done: true, error: failed.then_some("UnknownError") }));
    beats.push_back((1, Beat::Updated));
    beats.push_back((3, Beat::Closed(if failed { "error" } else { "completed" })));
    beats.push_back((1, Beat::Status("idle")));
    let times = if run.fault(faults::IDLE_DOUBLED) { 3 } else { 1 };
    beats.extend((0..times).map(|_| (1, Beat::Idle)));
    beats
}

fn part(run: &mut Run, beats: &mut VecDeque<(i64, Beat)>, number: u32, endless: bool) {
    let tool = run.random.percent("tool", 40);
    let pause = if endless {
        run.random.between("agent-long", 20_000, 60_000)
    } else if run.random.percent("agent-slow", 15) {
        run.random.between("agent-long", 10_000, 90_000)
    } else {
        run.random.between("agent", 20, 3_000)
    };
    let bytes = if run.fault(faults::EVENT_HUGE) { 600_000 } else { 10 + run.random.below("bytes", 400) as usize };
    if !tool {
        beats.push_back((pause, Beat::Part { number, bytes: 0, done: false, tool }));
        beats.extend((0..run.random.below("deltas", 4)).map(|_| (20, Beat::Delta { number })));
        beats.push_back((30, Beat::Part { number, bytes, done: true, tool }));
    } else {
        beats.push_back((pause, Beat::Part { number, bytes, done: true, tool }));
    }
    if run.random.percent("child", 10) {
        beats.push_back((5, Beat::Child));
    }
}

/// What an abort makes of it: three times idle.
pub fn aborted() -> VecDeque<(i64, Beat)> {
    VecDeque::from([
        (1, Beat::Message { done: true, error: Some("MessageAbortedError") }),
        (1, Beat::Closed("interrupted")),
        (1, Beat::Status("idle")),
        (0, Beat::Idle),
        (0, Beat::Idle),
        (0, Beat::Idle),
    ])
}
