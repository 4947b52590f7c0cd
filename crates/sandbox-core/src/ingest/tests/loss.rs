//! Bounds and full disks: what is kept, what is given up, and that it is said. And what a killed process leaves.

use super::*;

#[test]
fn of_waiting_volatile_events_the_newest_thousand_are_kept_and_lifecycle_events_always() {
    let mut bench = Bench::open();
    bench.closed(1);
    bench.event(Event::fatal("Boom"));
    for n in 0..1_500 {
        bench.event(volatile(n));
    }
    bench.pass(1_000);
    let said = bench.connected(2, 0);
    assert_eq!(said[1], r#"wrapper_resumed {"bufferedEvents":1001,"eventsLost":true}"#);
    assert_eq!(said[2], "1:error");
    assert_eq!(said.iter().filter(|what| *what == "status").count(), 1_000);
    bench.closed(2);
    bench.pass(2_000);
    assert_eq!(bench.connected(3, 1), ["ready 3"], "the loss is announced once");
}

#[test]
fn a_full_spool_keeps_no_volatile_events_and_announces_what_it_gave_up() {
    let mut bench = Bench::with(&Limits { spool_bytes_max: 3_000, ..Limits::default() });
    bench.say(Input::Open);
    bench.connected(1, 0);
    bench.closed(1);
    for n in 0..40 {
        bench.event(log(n));
        bench.event(volatile(n));
    }
    bench.pass(1_000);
    let said = bench.connected(2, 0);
    assert!(said[1].ends_with("\"eventsLost\":true}"), "{said:?}");
    assert!(said[2].ends_with(":events_lost") && !said.contains(&"status".to_owned()), "{said:?}");
    assert_eq!(said.last().unwrap(), "40:kilocode");
}

#[test]
fn what_a_full_disk_does_not_take_is_sent_from_memory() {
    let mut bench = Bench::open();
    bench.disk_full = true;
    assert_eq!(bench.event(log(1)), [""; 0]);
    assert_eq!((bench.pass(50), bench.file.len()), (vec!["1:kilocode".to_owned()], 0));
    bench.disk_full = false;
    bench.event(log(2));
    assert_eq!(bench.pass(50), ["2:kilocode"]);
    // The process dies: what it had said is known to the object, and what the disk holds is sent again or not, as the object says.
    let mut next = Bench { ingest: Ingest::new(&Limits::default(), execution(), &bench.file), ..Bench::new() };
    next.file = bench.file;
    next.say(Input::Open);
    assert_eq!(
        next.connected(1, 1),
        ["ready 1", r#"wrapper_resumed {"bufferedEvents":1,"eventsLost":false}"#, "2:kilocode"]
    );
}

#[test]
fn what_neither_disk_nor_memory_can_hold_is_announced_as_lost_and_the_end_is_kept() {
    let limits = Limits { spool_resident_bytes_max: 1_000, ..Limits::default() };
    let mut bench = Bench::with(&limits);
    bench.say(Input::Open);
    bench.connected(1, 0);
    bench.closed(1);
    bench.disk_full = true;
    for n in 1..=20 {
        bench.event(log(n));
        bench.pass(50);
    }
    bench.event(Event::fatal("Boom"));
    let connected = bench.connected(2, 0);
    assert_eq!(connected[1], r#"wrapper_resumed {"bufferedEvents":8,"eventsLost":true}"#, "{connected:?}");
    assert_eq!(connected[2], "14:events_lost");
    assert_eq!(connected.last().unwrap(), "21:error");
    assert_eq!(bench.ack(2, 21), [""; 0]);
    assert_eq!(bench.say(Input::Finish), ["disconnect 2 1000 done", "drained"]);
}

#[test]
fn a_new_process_sends_what_the_old_one_left() {
    let mut old = Bench::open();
    old.event(log(1));
    old.event(log(2));
    old.pass(50);
    old.closed(1);
    old.event(log(3));
    old.pass(50);
    let mut file = old.file.clone();
    file.extend(b"4 99 event\n{torn");
    let mut new =
        Bench { ingest: Ingest::new(&Limits::default(), execution(), &file), now: old.now, file, disk_full: false };
    new.event(Event::fatal("Wrapper restarted"));
    assert_eq!(new.say(Input::Open), ["connect 1"]);
    assert_eq!(
        new.connected(1, 1),
        [
            "ready 1",
            r#"wrapper_resumed {"bufferedEvents":3,"eventsLost":false}"#,
            "2:kilocode",
            "3:kilocode",
            "4:error"
        ]
    );
}
