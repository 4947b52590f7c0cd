//! The profiles by name, and how one seed of one is run.

use crate::run::Occasion;
use crate::run::Options;
use crate::run::Run;
use crate::run::Tally;
use crate::run::Violation;
use crate::sessions;
use crate::town;
use std::cell::RefCell;
use std::panic;
use std::panic::AssertUnwindSafe;

/// A kind of world.
#[derive(Clone, Copy, Debug)]
pub struct Profile {
    /// As in `--profile`.
    pub name: &'static str,
    run: fn(&mut Run),
    /// The pairs of states and inputs that there are, with the reason for those that do not come.
    pairs: fn() -> Vec<Pair>,
}

/// A state, an input, and why they do not meet, if they do not.
pub type Pair = (&'static str, &'static str, Option<Why>);

/// Why an input does not come in a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// It cannot: where it comes all the same, the reason is wrong, or something is.
    Never(&'static str),
    /// It may, and hardly ever does.
    Seldom(&'static str),
}

impl Why {
    /// In words.
    pub fn words(self) -> &'static str {
        let (Self::Never(words) | Self::Seldom(words)) = self;
        words
    }
}

/// All of them.
pub const PROFILES: &[Profile] = &[
    Profile { name: "sessions", run: sessions::run, pairs: sessions::pairs },
    Profile { name: "town", run: town::run, pairs: town::pairs },
];

/// What came of a seed.
#[derive(Clone, Debug)]
pub struct Finished {
    /// The promise that it broke.
    pub violation: Option<Violation>,
    /// What it counted.
    pub tally: Tally,
    /// What went wrong in it.
    pub fired: Vec<Occasion>,
    /// The trace, if it was kept.
    pub trace: Vec<String>,
}

thread_local! {
    static PANIC: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Has panics of this process be reported with their seed only. To be called once.
pub fn quiet_panics() {
    panic::set_hook(Box::new(|info| PANIC.with(|text| *text.borrow_mut() = info.to_string())));
}

impl Profile {
    /// The profile of this name.
    pub fn find(name: &str) -> Option<Self> {
        PROFILES.iter().copied().find(|profile| profile.name == name)
    }

    /// The pairs of states and inputs that `tally` does not hold, with the reason if it is known.
    pub fn never(self, tally: &Tally) -> Vec<Pair> {
        let seen = |state, input| tally.pairs.contains_key(&(state, input));
        (self.pairs)().into_iter().filter(|(state, input, _)| !seen(*state, *input)).collect()
    }

    /// The pairs that `tally` holds although they cannot be.
    pub fn surprises(self, tally: &Tally) -> Vec<Pair> {
        let seen = |state, input| tally.pairs.contains_key(&(state, input));
        let is_surprise = |(state, input, why): &Pair| matches!(why, Some(Why::Never(_))) && seen(*state, *input);
        (self.pairs)().into_iter().filter(is_surprise).collect()
    }

    /// Runs one seed to its end. A panic is a broken promise too.
    pub fn seed(self, seed: u64, options: Options) -> Finished {
        let mut run = Run::new(seed, options);
        if panic::catch_unwind(AssertUnwindSafe(|| (self.run)(&mut run))).is_err() {
            let words = PANIC.with(|text| text.borrow().clone());
            run.broken("nothing panics", || words);
        }
        let violation = run.violation().cloned();
        Finished { violation, tally: run.tally, fired: run.fired, trace: run.trace }
    }
}
