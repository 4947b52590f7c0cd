//! A run is repeatable, ends, and keeps its promises; one that does not can be told and shrunk.

use simulation::profile::Finished;
use simulation::profile::PROFILES;
use simulation::profile::Profile;
use simulation::run::Options;
use std::collections::BTreeSet;

fn traced(profile: Profile, seed: u64) -> Finished {
    profile.seed(seed, Options { trace: true, only: None })
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    for profile in PROFILES {
        for seed in [1, 2] {
            let (one, other) = (traced(*profile, seed), traced(*profile, seed));
            assert!(one.trace.len() > 100, "{} lines", one.trace.len());
            assert_eq!(one.trace, other.trace, "{} {seed}", profile.name);
            assert_eq!(one.fired, other.fired);
        }
        assert_ne!(traced(*profile, 1).trace, traced(*profile, 2).trace);
    }
}

#[test]
fn a_run_without_faults_keeps_every_promise_and_does_its_work() {
    for profile in PROFILES {
        let calm = profile.seed(3, Options { trace: false, only: Some(BTreeSet::new()) });
        assert_eq!(calm.violation, None);
        assert!(calm.fired.is_empty() && calm.tally.steps > 100, "{} steps", calm.tally.steps);
        if profile.name == "sessions" {
            let worked = calm.tally.pairs.get(&("running", "ingest-frames"));
            assert!(worked.is_some_and(|frames| *frames > 10), "{worked:?} frames of running turns");
        }
    }
}

#[test]
fn what_comes_in_a_run_of_sessions_is_in_the_table_and_has_no_reason_not_to() {
    let profile = PROFILES[0];
    let table = simulation::sessions::pairs();
    for seed in [5, 6, 7] {
        let finished = profile.seed(seed, Options::default());
        for (state, input) in finished.tally.pairs.keys() {
            assert!(table.iter().any(|pair| (pair.0, pair.1) == (*state, *input)), "{state}, {input}");
        }
        assert_eq!(profile.surprises(&finished.tally), []);
    }
}

#[test]
fn what_was_left_out_of_a_schedule_does_not_happen() {
    let profile = PROFILES[0];
    let all = profile.seed(4, Options::default());
    let some: BTreeSet<_> = all.fired.iter().take(3).cloned().collect();
    let rest = profile.seed(4, Options { trace: false, only: Some(some.clone()) });
    assert!(all.fired.len() > 3);
    assert!(rest.fired.iter().all(|occasion| some.contains(occasion)), "{:?}", rest.fired);
}
