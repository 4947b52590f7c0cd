//! Finds a shorter schedule of faults that breaks the same promise.

use crate::profile::Profile;
use crate::run::Occasion;
use crate::run::Options;
use std::collections::BTreeSet;

/// The smallest set of occasions that was found with which `seed` still breaks `promise`. Parts are left out, first large ones, then small ones, until no single
/// occasion can be missed, or `tries_max` runs were made.
pub fn shrink(profile: Profile, seed: u64, promise: &str, fired: &[Occasion], tries_max: u32) -> BTreeSet<Occasion> {
    let mut kept: Vec<Occasion> = fired.to_vec();
    let breaks = |only: &[Occasion]| {
        let options = Options { trace: false, only: Some(only.iter().cloned().collect()) };
        let finished = profile.seed(seed, options);
        let same = finished.violation.is_some_and(|violation| violation.promise == promise);
        // What is left out moves others a little: only what happened counts on.
        same.then_some(finished.fired)
    };
    let mut tries = 0;
    let mut size = kept.len().div_ceil(2);
    while size > 0 {
        let mut from = 0;
        let mut shorter = false;
        while from < kept.len() {
            let to = (from + size).min(kept.len());
            let rest: Vec<Occasion> = kept[..from].iter().chain(&kept[to..]).cloned().collect();
            tries += 1;
            match breaks(&rest) {
                Some(fired) => {
                    kept = fired;
                    shorter = true;
                }
                None => from = to,
            }
        }
        size = match (size, shorter) {
            (1, false) => 0,
            (1, true) => 1,
            (size, _) => size.div_ceil(2),
        };
        if tries >= tries_max {
            break;
        }
    }
    kept.into_iter().collect()
}
