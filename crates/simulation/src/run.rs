//! One run: its chance, its faults, its trace, what it has counted, and the promise that it broke.

use crate::random::Random;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fmt;

/// Something that goes wrong, and how often: this many times in a million occasions, in ordinary weather.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    /// Its name in traces and tables.
    pub name: &'static str,
    /// How often.
    pub per_million: u64,
}

/// One occasion of one fault: the n-th, from 0.
pub type Occasion = (String, u64);

/// A promise that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Its name: shrinking keeps it.
    pub promise: &'static str,
    /// What was seen.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.promise, self.what)
    }
}

/// What a run has counted.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Events that were taken.
    pub steps: u64,
    /// How much time passed in the simulation.
    pub simulated_ms: i64,
    /// Faults that happened, by name.
    pub faults: BTreeMap<&'static str, u64>,
    /// Inputs that arrived, by the state that they found.
    pub pairs: BTreeMap<(&'static str, &'static str), u64>,
}

impl Tally {
    /// Adds another run's.
    pub fn add(&mut self, other: &Tally) {
        self.steps += other.steps;
        self.simulated_ms += other.simulated_ms;
        for (name, count) in &other.faults {
            *self.faults.entry(name).or_default() += count;
        }
        for (pair, count) in &other.pairs {
            *self.pairs.entry(*pair).or_default() += count;
        }
    }
}

/// How a seed is run.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Whether the trace is kept.
    pub trace: bool,
    /// Only these occasions of faults happen. None: as chance has it.
    pub only: Option<BTreeSet<Occasion>>,
}

/// A run under way.
pub struct Run {
    /// Chance.
    pub random: Random,
    /// The counts.
    pub tally: Tally,
    /// Whether anything goes wrong at all: not while a run is brought to its end.
    pub faults_on: bool,
    /// What went wrong, in order.
    pub fired: Vec<Occasion>,
    /// The trace, if it is kept.
    pub trace: Vec<String>,
    options: Options,
    violation: Option<Violation>,
}

impl Run {
    /// A run of `seed`.
    pub fn new(seed: u64, options: Options) -> Self {
        Self {
            random: Random::new(seed),
            tally: Tally::default(),
            faults_on: true,
            fired: Vec::new(),
            trace: Vec::new(),
            options,
            violation: None,
        }
    }

    /// Whether `fault` happens on this occasion.
    ///
    /// Each run has a weather of its own: most faults are rare or absent in it, and a few are common. Rare and common faults meet
    /// that way, which they would not if each were always as likely.
    pub fn fault(&mut self, fault: Fault) -> bool {
        if !self.faults_on {
            return false;
        }
        let (drawn, n) = self.random.next(fault.name);
        let happens = drawn % 1_000_000 < fault.per_million.saturating_mul(self.weather(fault.name));
        let happens =
            happens && self.options.only.as_ref().is_none_or(|only| only.contains(&(fault.name.to_owned(), n)));
        if happens {
            *self.tally.faults.entry(fault.name).or_default() += 1;
            self.fired.push((fault.name.to_owned(), n));
            self.note(|| format!("  fault {} #{n}", fault.name));
        }
        happens
    }

    fn weather(&self, name: &str) -> u64 {
        match self.random.fixed(name, u64::MAX) % 20 {
            0..=7 => 0,
            8..=14 => 1,
            15..=18 => 5,
            _ => 25,
        }
    }

    /// A line of the trace.
    pub fn note(&mut self, line: impl FnOnce() -> String) {
        if self.options.trace {
            let line = format!("{:>6} {}", self.tally.steps, line());
            self.trace.push(line);
        }
    }

    /// Counts that `input` came in `state`.
    pub fn cover(&mut self, state: &'static str, input: &'static str) {
        *self.tally.pairs.entry((state, input)).or_default() += 1;
    }

    /// A promise is broken. The first one counts: what follows may be its consequence.
    pub fn broken(&mut self, promise: &'static str, what: impl FnOnce() -> String) {
        if self.violation.is_none() {
            let violation = Violation { promise, what: what() };
            self.note(|| format!("BROKEN {violation}"));
            self.violation = Some(violation);
        }
    }

    /// The promise that was broken.
    pub fn violation(&self) -> Option<&Violation> {
        self.violation.as_ref()
    }
}
