use super::changes::Change;
use super::changes::Settled;
use super::changes::Told;
use super::*;
use crate::directory;
use crate::time::HOUR;
use crate::time::SECOND;
use database::NativeDatabase;

fn town(id: &str) -> Town {
    let id = TownId::parse(id).unwrap();
    Town { id, name: "Home".into(), owner_user_id: "u".into(), created_at: 1, updated_at: 1 }
}

fn rig(id: &str, town: &str) -> Rig {
    Rig {
        id: RigId::parse(id).unwrap(),
        town_id: TownId::parse(town).unwrap(),
        name: "app".into(),
        git_url: "https://example.com/r.git".into(),
        default_branch: "main".into(),
        platform_integration_id: None,
        created_at: 1,
        updated_at: 1,
    }
}

fn add(rig: Rig) -> Call {
    Call::AddRig { rig, kilocode_token: Some("k".into()) }
}

fn user() -> NativeDatabase {
    let db = NativeDatabase::in_memory().unwrap();
    database::migrate(&db, directory::MIGRATIONS).unwrap();
    db
}

fn ask(db: &NativeDatabase, call: Call) -> Answer {
    receive(db, 0, &call).unwrap()
}

/// What is due at `now`, by its key.
fn due(db: &NativeDatabase, now: i64) -> Vec<String> {
    changes::take_due(db, now).unwrap().iter().map(Change::key).collect()
}

fn told(db: &NativeDatabase, key: &str, told: Told) -> Settled {
    let change = changes::take_now(db, 0, key).unwrap().expect("it is owed");
    changes::settle(db, &change, told).unwrap()
}

#[test]
fn a_town_goes_with_its_rigs() {
    let db = user();
    assert_eq!(ask(&db, Call::AddTown(town("t1"))), Answer::Town(town("t1")));
    ask(&db, Call::AddTown(town("t2")));
    for rig in [rig("r1", "t1"), rig("r2", "t1"), rig("r3", "t2")] {
        assert_eq!(ask(&db, add(rig.clone())), Answer::Rig(rig));
    }
    let t1 = || town("t1").id;
    assert_eq!(ask(&db, Call::Rigs(t1())), Answer::Rigs(vec![rig("r1", "t1"), rig("r2", "t1")]));
    assert_eq!(ask(&db, Call::RemoveTown(t1())), Answer::Done);
    assert_eq!(ask(&db, Call::RemoveTown(t1())), Answer::TownNotFound);
    assert_eq!(ask(&db, Call::Rig(rig("r1", "t1").id)), Answer::RigNotFound);
    assert_eq!(ask(&db, Call::Towns), Answer::Towns(vec![town("t2")]));
    assert_eq!(ask(&db, Call::Rig(rig("r3", "t2").id)), Answer::Rig(rig("r3", "t2")));
    assert_eq!(due(&db, 0), ["rig/r3", "town/t1", "town/t2"], "the rigs of a town that ends need no end of their own");
}

#[test]
fn a_rig_needs_a_town_of_the_same_user() {
    let db = user();
    assert_eq!(ask(&db, add(rig("r1", "t1"))), Answer::TownNotFound);
    assert_eq!(ask(&db, Call::RemoveRig(rig("r1", "t1").id)), Answer::RigNotFound);
    assert_eq!(ask(&db, Call::Rigs(town("t1").id)), Answer::TownNotFound);
    assert_eq!(changes::next_try(&db).unwrap(), None, "and nothing is owed");
}

#[test]
fn nobody_has_more_than_the_bound() {
    let db = user();
    for n in 0..HOLDINGS_MAX {
        ask(&db, Call::AddTown(town(&format!("t{n}"))));
    }
    assert_eq!(ask(&db, Call::AddTown(town("one-more"))), Answer::Full);
}

#[test]
fn what_is_made_is_told_to_the_town_until_it_has_answered() {
    let db = user();
    ask(&db, Call::AddTown(town("t1")));
    assert_eq!(told(&db, "town/t1", Told::Unknown), Settled::Owed);
    assert_eq!(due(&db, 30 * SECOND - 1), [] as [&str; 0]);
    let mut now = 30 * SECOND;
    for _ in 0..200 {
        assert_eq!(due(&db, now), ["town/t1"]);
        let next = changes::next_try(&db).unwrap().unwrap();
        assert!(next > now && next <= now + HOUR);
        now = next;
    }
    assert_eq!(told(&db, "town/t1", Told::Done), Settled::Done);
    assert_eq!(changes::next_try(&db).unwrap(), None);
    assert_eq!(ask(&db, Call::Town(town("t1").id)), Answer::Town(town("t1")));
}

#[test]
fn what_a_town_refuses_is_taken_back() {
    let db = user();
    ask(&db, Call::AddTown(town("t1")));
    ask(&db, add(rig("r1", "t1")));
    assert_eq!(told(&db, "rig/r1", Told::Refused), Settled::Owed, "its town is not made yet");
    assert_eq!(told(&db, "town/t1", Told::Done), Settled::Done);
    assert_eq!(told(&db, "rig/r1", Told::Refused), Settled::TakenBack);
    assert_eq!(ask(&db, Call::Rig(rig("r1", "t1").id)), Answer::RigNotFound);
    assert_eq!(changes::next_try(&db).unwrap(), None);
    ask(&db, Call::AddTown(town("t2")));
    assert_eq!(told(&db, "town/t2", Told::Refused), Settled::TakenBack);
    assert_eq!(ask(&db, Call::Towns), Answer::Towns(vec![town("t1")]));
}

#[test]
fn a_removal_takes_the_place_of_a_creation_that_is_under_way() {
    let db = user();
    ask(&db, Call::AddTown(town("t1")));
    ask(&db, add(rig("r1", "t1")));
    let making = changes::take_now(&db, 0, "rig/r1").unwrap().unwrap();
    ask(&db, Call::RemoveRig(rig("r1", "t1").id));
    assert_eq!(changes::settle(&db, &making, Told::Done).unwrap(), Settled::Owed, "the old answer settles nothing");
    let removal = changes::take_now(&db, 0, "rig/r1").unwrap().unwrap();
    assert_eq!(removal, Change::RemoveRig { town: town("t1").id, rig: rig("r1", "t1").id });
    assert_eq!(changes::settle(&db, &removal, Told::Refused).unwrap(), Settled::Done, "what is not there has ended");
}

#[test]
fn the_stored_form_is_pinned() {
    let wire = |change: Change| serde_json::to_string(&change).unwrap();
    assert_eq!(wire(Change::MakeTown { town: town("t1").id }), r#"{"make_town":{"town":"t1"}}"#);
    assert_eq!(
        wire(Change::RemoveRig { town: town("t1").id, rig: rig("r1", "t1").id }),
        r#"{"remove_rig":{"town":"t1","rig":"r1"}}"#
    );
}
