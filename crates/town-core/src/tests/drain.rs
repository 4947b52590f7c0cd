//! The rules of the drain. `d1` to `d19` are the hazards of spec/town.md 5.10.

use super::containers::Fixture;
use super::containers::ended;
use super::containers::heartbeat;
use super::containers::id;
use crate::message::container::ContainerAnswer;
use crate::message::container::ContainerInput;
use crate::message::container::ContainerOutput;
use crate::message::container::DrainEnd;
use database::Database;
use object_core::time::MINUTE;
use object_core::time::SECOND;

#[test]
fn a_town_that_does_not_drain_says_so_and_never_wakes() {
    let mut town = Fixture::new();
    assert_eq!(town.draining(), None);
    assert_eq!(town.beat(Some("old")), None);
    assert!(town.ready(None, "anything"), "there is nothing to clear");
    assert_eq!(town.alarm, None);
    assert_eq!(town.wake(), []);
}

#[test]
fn an_eviction_begins_a_drain_and_the_nonce_ends_it() {
    let mut town = Fixture::new();
    let nonce = town.evict(None);
    assert_eq!(town.draining(), Some(nonce.clone()));
    assert!(!town.ready(None, "wrong"));
    assert_eq!(town.draining(), Some(nonce.clone()));
    assert!(town.ready(None, &nonce));
    assert_eq!((town.draining(), town.alarm), (None, None));
    assert!(town.ready(None, &nonce), "a second time");
}

#[test]
fn an_eviction_leaves_one_processed_audit_row_and_changes_nothing_else() {
    let mut town = Fixture::new();
    town.evict(Some("old"));
    let row = &town.db.query("SELECT event_type, payload, created_at, processed_at FROM town_events", &[]).unwrap()[0];
    let at = "2026-11-21T04:11:34.369Z";
    assert_eq!(row.0, ["container_eviction".into(), r#"{"containerInstanceId":"old"}"#.into(), at.into(), at.into()]);
    assert_eq!(town.wake(), []);
    assert!(town.draining().is_some(), "a tick ends no drain");
}

#[test]
fn a_second_eviction_kills_the_first_nonce_and_restarts_the_clock() {
    let mut town = Fixture::new();
    let first = town.evict(Some("old"));
    town.pass(10 * MINUTE);
    let second = town.evict(Some("old"));
    assert_ne!(first, second);
    assert!(!town.ready(Some("new"), &first));
    assert!(town.pass(14 * MINUTE).iter().all(|output| *output == ContainerOutput::Handoff { nonce: second.clone() }));
    assert!(town.ready(Some("new"), &second));
}

#[test]
fn a_drain_that_nobody_ends_expires_after_15_minutes_and_not_before() {
    let mut town = Fixture::new();
    town.evict(Some("old"));
    assert!(!town.pass(15 * MINUTE - 1).contains(&ended(DrainEnd::Expired)));
    assert!(town.draining().is_some());
    assert_eq!(town.pass(1), [ended(DrainEnd::Expired)]);
    assert_eq!((town.draining(), town.alarm), (None, None));
}

#[test]
fn a_late_alarm_does_not_prolong_a_drain() {
    let mut town = Fixture::new();
    let nonce = town.evict(Some("old"));
    town.now += 15 * MINUTE;
    assert_eq!(town.draining(), None);
    assert!(town.ready(Some("old"), &nonce), "there is nothing left to clear");
}

#[test]
fn the_nonce_is_offered_after_11_minutes_and_then_every_minute() {
    let mut town = Fixture::new();
    let nonce = town.evict(Some("old"));
    assert_eq!(town.alarm, Some(town.now + 11 * MINUTE));
    assert_eq!(town.pass(11 * MINUTE - 1), []);
    let offer = ContainerOutput::Handoff { nonce };
    assert_eq!(town.pass(1), std::slice::from_ref(&offer));
    assert_eq!(town.pass(4 * MINUTE), [offer.clone(), offer.clone(), offer, ended(DrainEnd::Expired)]);
}

#[test]
fn another_instance_that_does_not_drain_ends_the_drain_at_once() {
    let mut town = Fixture::new();
    town.evict(Some("old"));
    assert_eq!(
        town.call(heartbeat(Some("new"), true)),
        [ContainerOutput::Answer(ContainerAnswer::Heartbeat { nonce: None })]
    );
    assert!(town.draining().is_some());
    let freed = [ContainerOutput::Answer(ContainerAnswer::Heartbeat { nonce: None }), ended(DrainEnd::Replaced)];
    assert_eq!(town.call(heartbeat(Some("new"), false)), freed);
    assert_eq!((town.draining(), town.alarm), (None, None));
}

#[test]
fn a_health_answer_of_another_instance_ends_the_drain_and_no_other_does() {
    let mut town = Fixture::new();
    let health = |instance: &str, draining| ContainerInput::Health { instance: id(instance), draining };
    assert_eq!(town.receive(&health("new", false)), [], "there is nothing to end");
    town.evict(Some("old"));
    assert_eq!(town.receive(&health("old", false)), []);
    assert_eq!(town.receive(&health("new", true)), []);
    assert_eq!(town.receive(&health("new", false)), [ended(DrainEnd::Replaced)]);
}

#[test]
fn the_end_of_the_evicted_container_ends_the_drain_and_an_earlier_end_does_not() {
    let mut town = Fixture::new();
    town.evict(None);
    let before = ContainerInput::Ended { at: town.now - 1 };
    assert_eq!(town.receive(&before), []);
    let after = ContainerInput::Ended { at: town.now + 1 };
    assert_eq!(town.receive(&after), [ended(DrainEnd::Ended)]);
    assert_eq!((town.receive(&after), town.draining()), (vec![], None));
}

#[test]
fn after_an_anonymous_eviction_an_instance_proves_nothing() {
    let mut town = Fixture::new();
    let nonce = town.evict(None);
    assert_eq!(town.beat(Some("any")), Some(nonce.clone()));
    assert_eq!(town.receive(&ContainerInput::Health { instance: id("any"), draining: false }), []);
    assert_eq!(town.draining(), Some(nonce));
}

#[test]
fn a_container_that_reports_without_end_fills_no_disk() {
    let mut town = Fixture::new();
    for n in 0..1_100 {
        town.now += SECOND;
        town.evict(Some(&format!("i{n}")));
    }
    assert_eq!((town.rows("town_events"), town.rows("evicted")), (1_000, 1_000));
    town.now += 8 * 24 * 60 * MINUTE;
    town.evict(Some("last"));
    assert_eq!((town.rows("town_events"), town.rows("evicted")), (1, 1));
}

#[test]
fn d1_a_heartbeat_of_the_dying_container_does_not_end_the_drain() {
    let mut town = Fixture::new();
    town.evict(Some("old"));
    for draining in [false, true] {
        let answer = ContainerOutput::Answer(ContainerAnswer::Heartbeat { nonce: None });
        assert_eq!(town.call(heartbeat(Some("old"), draining)), [answer]);
    }
    assert!(town.draining().is_some());
    let mut town = Fixture::new();
    let nonce = town.evict(None);
    assert_eq!(town.beat(None), Some(nonce.clone()), "without an id it gets the nonce, but clears nothing");
    assert_eq!(town.draining(), Some(nonce));
}

#[test]
fn d2_a_heartbeat_is_answered_with_the_nonce_of_its_own_turn() {
    let mut town = Fixture::new();
    assert_eq!(town.beat(None), None, "before the eviction");
    let first = town.evict(None);
    assert_eq!(town.beat(None), Some(first));
    let second = town.evict(None);
    assert_eq!(town.beat(None), Some(second));
}

#[test]
fn d3_a_heartbeat_of_the_old_container_that_was_in_flight_gets_no_nonce_and_its_ack_does_not_count() {
    let mut town = Fixture::new();
    let nonce = town.evict(Some("old"));
    assert_eq!(town.beat(Some("old")), None);
    assert!(!town.ready(Some("old"), &nonce), "it knows the nonce from the answer to its eviction");
    assert_eq!(town.draining(), Some(nonce.clone()));
    assert!(town.ready(Some("new"), &nonce));
}

#[test]
fn d3_holds_for_every_container_that_was_ever_evicted() {
    let mut town = Fixture::new();
    town.evict(Some("first"));
    town.call(heartbeat(Some("second"), false));
    let nonce = town.evict(Some("second"));
    assert_eq!(town.beat(Some("first")), None);
    assert!(!town.ready(Some("first"), &nonce));
    assert_eq!(town.draining(), Some(nonce));
}

#[test]
fn d4_the_nonce_in_a_health_check_comes_late_and_does_not_help_the_old_container() {
    let mut town = Fixture::new();
    let nonce = town.evict(Some("old"));
    assert_eq!(town.pass(11 * MINUTE - 1), [], "until then the old container may be the one that answers");
    assert_eq!(town.pass(1), [ContainerOutput::Handoff { nonce: nonce.clone() }]);
    assert_eq!(town.receive(&ContainerInput::Health { instance: id("old"), draining: true }), []);
    assert!(!town.ready(Some("old"), &nonce));
    assert!(town.draining().is_some());
}

#[test]
fn d5_an_idle_town_offers_the_nonce_too() {
    let mut town = Fixture::new();
    town.evict(Some("old"));
    assert!(matches!(town.pass(12 * MINUTE)[..], [ContainerOutput::Handoff { .. }, ContainerOutput::Handoff { .. }]));
}

#[test]
fn d6_after_one_ack_a_late_duplicate_eviction_is_acknowledged_again() {
    let mut town = Fixture::new();
    let first = town.evict(None);
    assert!(town.ready(Some("new"), &first));
    let second = town.evict(None);
    assert_eq!(town.beat(Some("new")), Some(second.clone()));
    assert!(town.ready(Some("new"), &second));
    town.evict(Some("old"));
    assert_eq!(town.beat(Some("new")), None);
    assert_eq!(town.draining(), None, "the replacement needs no nonce: it shows itself");
}

#[test]
fn d18_a_draining_town_asks_nothing_of_a_container_but_its_health() {
    let mut town = Fixture::new();
    town.evict(Some("old"));
    let mut outputs = town.wake();
    outputs.extend(town.call(heartbeat(Some("old"), false)));
    outputs.extend(town.pass(15 * MINUTE));
    let only_health = |output: &ContainerOutput| {
        matches!(output, ContainerOutput::Answer(_) | ContainerOutput::Drain(_) | ContainerOutput::Handoff { .. })
    };
    assert!(outputs.iter().all(only_health), "{outputs:?}");
}

#[test]
fn d19_when_the_drain_expired_the_old_container_still_ends_no_later_one() {
    let mut town = Fixture::new();
    let nonce = town.evict(Some("old"));
    town.pass(15 * MINUTE);
    assert_eq!(town.beat(Some("old")), None);
    let later = town.evict(Some("new"));
    assert_eq!(town.beat(Some("old")), None);
    assert!(!town.ready(Some("old"), &later));
    assert!(!town.ready(Some("old"), &nonce));
    assert_eq!(town.draining(), Some(later));
}
