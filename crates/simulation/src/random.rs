//! Chance, from one seed.
//!
//! Every draw names what it is for, and the n-th draw of a name depends on the seed, the name and n alone. So a schedule from which one fault is
//! taken away keeps its other draws as far as it can, which is what makes shrinking work.

use object_core::entropy::Entropy;
use std::collections::BTreeMap;

/// The one source of chance of a run.
pub struct Random {
    seed: u64,
    drawn: BTreeMap<&'static str, u64>,
}

impl Random {
    /// Everything that follows depends on `seed` alone.
    pub fn new(seed: u64) -> Self {
        Self { seed, drawn: BTreeMap::new() }
    }

    /// The next number for `what`, and which one it is, from 0.
    pub fn next(&mut self, what: &'static str) -> (u64, u64) {
        let n = self.drawn.entry(what).or_default();
        let this = *n;
        *n += 1;
        (self.fixed(what, this), this)
    }

    /// The number that belongs to `what` and `n`, drawn or not.
    pub fn fixed(&self, what: &str, n: u64) -> u64 {
        mix(mix(self.seed ^ name_hash(what)) ^ n)
    }

    /// A number below `bound`, which is over 0.
    pub fn below(&mut self, what: &'static str, bound: u64) -> u64 {
        self.next(what).0 % bound
    }

    /// A number from `low` up to, and without, `high`.
    pub fn between(&mut self, what: &'static str, low: i64, high: i64) -> i64 {
        let width = u64::try_from(high - low).unwrap_or(1).max(1);
        low + i64::try_from(self.below(what, width)).unwrap_or(0)
    }

    /// Whether something happens that does in `percent` of all cases.
    pub fn percent(&mut self, what: &'static str, percent: u64) -> bool {
        self.below(what, 100) < percent
    }

    /// A seed for one input of a core.
    pub fn entropy(&mut self, what: &'static str) -> Entropy {
        let mut seed = [0; 32];
        for chunk in seed.chunks_exact_mut(8) {
            chunk.copy_from_slice(&self.next(what).0.to_le_bytes());
        }
        Entropy::from_seed(seed)
    }
}

/// The finaliser of SplitMix64: every bit of the input changes half of the output.
fn mix(value: u64) -> u64 {
    let z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// FNV-1a.
fn name_hash(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_draws_the_same_and_another_does_not() {
        let draw = |seed| (0..4).map(|_| 0).scan(Random::new(seed), |r, _| Some(r.next("a").0)).collect::<Vec<_>>();
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
    }

    #[test]
    fn what_is_drawn_for_one_thing_does_not_move_another() {
        let (mut one, mut other) = (Random::new(7), Random::new(7));
        one.next("a");
        assert_eq!(one.next("b"), other.next("b"));
    }

    #[test]
    fn draws_are_spread() {
        let mut random = Random::new(3);
        let hits = (0..10_000).filter(|_| random.percent("p", 30)).count();
        assert!((2_700..3_300).contains(&hits), "{hits}");
    }
}
