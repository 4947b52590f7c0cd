//! A container's states, lease by lease.
#![cfg(test)]

use super::*;
use database::NativeDatabase;

#[test]
fn every_limit_must_be_over_0() {
    assert_eq!(LifecycleLimits::default().check(), Ok(()));
    for name in ["start_ms", "idle_ms", "stop_ms", "town_stop_ms", "lease_ms"] {
        let limits: LifecycleLimits = serde_json::from_str(&format!(r#"{{"{name}":0}}"#)).unwrap();
        assert_eq!(limits.check(), Err(NotPositive), "{name}");
    }
}

struct Sandbox {
    db: NativeDatabase,
    entropy: Entropy,
}

impl Sandbox {
    fn new() -> Self {
        let db = NativeDatabase::in_memory().unwrap();
        database::migrate(&db, MIGRATIONS).unwrap();
        Self { db, entropy: Entropy::from_seed([1; 32]) }
    }

    fn at(&mut self, now: i64, input: Input) -> Vec<Output> {
        receive(&self.db, &LifecycleLimits::default(), now, &mut self.entropy, &input).unwrap()
    }

    fn want(&mut self, now: i64) -> String {
        match self.at(now, Input::Want { lease: None }).pop() {
            Some(Output::Start { instance, .. }) => instance,
            other => panic!("{other:?}"),
        }
    }

    fn deadline(&self) -> Option<i64> {
        next_deadline(&self.db, &LifecycleLimits::default()).unwrap()
    }
}

#[test]
fn it_is_started_once_however_many_want_it() {
    let mut sandbox = Sandbox::new();
    let instance = sandbox.want(0);
    assert_eq!(sandbox.at(1, Input::Want { lease: None }), []);
    let running = sandbox.at(2, Input::Started { instance: instance.clone() });
    assert!(matches!(&running[..], [Output::Running { instance: i, .. }] if *i == instance));
    assert_eq!(sandbox.at(3, Input::Want { lease: None }), running);
}

#[test]
fn a_lease_keeps_it_running_and_its_release_lets_it_idle() {
    let mut sandbox = Sandbox::new();
    let instance = sandbox.want(0);
    sandbox.at(0, Input::Started { instance });
    sandbox.at(0, Input::Want { lease: Some("exc_1".into()) });
    assert_eq!(sandbox.at(20 * MINUTE, Input::Tick), []);
    sandbox.at(20 * MINUTE, Input::Release { lease: "exc_1".into() });
    assert_eq!(sandbox.deadline(), Some(35 * MINUTE));
    assert!(matches!(sandbox.at(35 * MINUTE, Input::Tick)[..], [Output::Terminate { .. }]));
}

#[test]
fn a_forgotten_lease_expires() {
    let mut sandbox = Sandbox::new();
    let instance = sandbox.want(0);
    sandbox.at(0, Input::Started { instance });
    sandbox.at(0, Input::Want { lease: Some("exc_1".into()) });
    assert_eq!(sandbox.deadline(), Some(60 * MINUTE));
    assert!(matches!(sandbox.at(60 * MINUTE, Input::Tick)[..], [Output::Terminate { .. }]));
}

#[test]
fn news_of_an_older_instance_change_nothing() {
    let mut sandbox = Sandbox::new();
    let old = sandbox.want(0);
    sandbox.at(1, Input::Ended { instance: old.clone() });
    let new = sandbox.want(2);
    assert_ne!(old, new);
    assert_eq!(sandbox.at(3, Input::Ended { instance: old.clone() }), []);
    assert_eq!(sandbox.at(3, Input::Started { instance: old.clone() }), []);
    assert_eq!(sandbox.at(3, Input::StartFailed { instance: old }), []);
    assert!(matches!(sandbox.at(4, Input::Started { instance: new })[..], [Output::Running { .. }]));
}

#[test]
fn one_that_never_starts_or_never_stops_is_destroyed() {
    let mut sandbox = Sandbox::new();
    let instance = sandbox.want(0);
    assert_eq!(sandbox.deadline(), Some(90 * SECOND));
    let destroyed = [Output::Destroy { instance }, Output::Unavailable];
    assert_eq!(sandbox.at(90 * SECOND, Input::Tick), destroyed);
    let instance = sandbox.want(100 * SECOND);
    sandbox.at(100 * SECOND, Input::Started { instance: instance.clone() });
    let idle = 100 * SECOND + 15 * MINUTE;
    assert_eq!(sandbox.at(idle, Input::Tick), [Output::Terminate { instance: instance.clone() }]);
    assert_eq!(sandbox.at(idle + 10 * SECOND, Input::Want { lease: None }), [Output::Unavailable]);
    assert_eq!(sandbox.at(idle + 30 * SECOND, Input::Tick), [Output::Destroy { instance }, Output::Unavailable]);
}

#[test]
fn one_that_comes_up_after_it_was_given_up_is_destroyed() {
    let mut sandbox = Sandbox::new();
    let instance = sandbox.want(0);
    sandbox.at(90 * SECOND, Input::Tick);
    let late = sandbox.at(91 * SECOND, Input::Started { instance: instance.clone() });
    assert_eq!(late, [Output::Destroy { instance }]);
}

/// Found by the simulation: the second try was the same start, so the late news that the first had ended were believed of a container that ran,
/// and nobody ended it.
#[test]
fn a_start_that_a_crash_interrupted_is_followed_by_another() {
    let mut sandbox = Sandbox::new();
    let first = sandbox.want(0);
    let woke = sandbox.at(90 * SECOND, Input::Woke);
    let [Output::Start { instance, .. }] = &woke[..] else { panic!("{woke:?}") };
    let second = instance.clone();
    assert_ne!(second, first);
    assert_eq!(sandbox.at(90 * SECOND, Input::Tick), [], "it has its whole time");
    sandbox.at(92 * SECOND, Input::Started { instance: second.clone() });
    assert_eq!(sandbox.at(93 * SECOND, Input::Ended { instance: first }), []);
    assert_eq!(sandbox.at(93 * SECOND, Input::Woke), []);
    let wanted = sandbox.at(94 * SECOND, Input::Want { lease: None });
    assert!(matches!(&wanted[..], [Output::Running { instance, .. }] if *instance == second), "{wanted:?}");
}

#[test]
fn a_stopped_container_causes_no_wake_up() {
    let mut sandbox = Sandbox::new();
    assert_eq!(sandbox.deadline(), None);
    let instance = sandbox.want(0);
    sandbox.at(0, Input::Started { instance: instance.clone() });
    sandbox.at(1, Input::Ended { instance });
    assert_eq!(sandbox.deadline(), None);
}
