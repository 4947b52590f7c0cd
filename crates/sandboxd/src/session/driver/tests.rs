use super::*;
use std::path::Path;

#[tokio::test]
async fn after_a_call_that_was_cancelled_or_panicked_the_next_one_is_heard_at_once() {
    let id = SessionId::parse("agent_01234567-89ab-cdef-0123-456789abcdef").unwrap();
    let paths = SessionPaths::new(Path::new("/nowhere"), &id);
    let (mut driver, _activity) = Driver::new(id, paths, Limits::default());
    let (_sender, mut commands) = mpsc::channel(1);
    driver.tasks.spawn(future::pending()).abort();
    let cancelled = tokio::time::timeout(Duration::from_secs(30), driver.next(&mut commands)).await;
    assert!(matches!(cancelled, Ok(Happened::NotDone(error)) if error.is_cancelled()));
    driver.tasks.spawn(async { panic!("as a call that has a bug") });
    let panicked = tokio::time::timeout(Duration::from_secs(30), driver.next(&mut commands)).await;
    assert!(matches!(panicked, Ok(Happened::NotDone(error)) if error.is_panic()));
    driver.tasks.spawn(future::ready(Done::Replied));
    let heard = tokio::time::timeout(Duration::from_secs(30), driver.next(&mut commands)).await;
    assert!(matches!(heard, Ok(Happened::Done(Done::Replied))));
}
