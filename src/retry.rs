//! Tries a call to an object again when the platform says that this may help (spec/session.md 2.5).
//!
//! The platform says so by `retryable: true` on what it throws, never by words. A call that the object itself answered is not tried again, whatever
//! the answer.

use js_sys::Reflect;
use std::time::Duration;
use worker::Delay;
use worker::Error;

/// How often one call is tried.
const TRIES_MAX: u32 = 3;
/// The longest pause.
const PAUSE_MS_MAX: f64 = 5_000.0;

/// Calls until it succeeds, fails for good, or was tried often enough.
pub async fn retried<T>(call: impl AsyncFnMut() -> worker::Result<T>) -> worker::Result<T> {
    retried_with(call, is_retryable, async |failures| {
        Delay::from(Duration::from_millis(pause_ms(failures, js_sys::Math::random()))).await;
    })
    .await
}

async fn retried_with<T, E>(
    mut call: impl AsyncFnMut() -> Result<T, E>,
    may_help: impl Fn(&E) -> bool,
    mut pause: impl AsyncFnMut(u32),
) -> Result<T, E> {
    let mut failures = 0_u32;
    loop {
        match call().await {
            Err(error) if may_help(&error) => {
                failures = failures.saturating_add(1);
                if failures >= TRIES_MAX {
                    return Err(error);
                }
                pause(failures.saturating_sub(1)).await;
            }
            result => return result,
        }
    }
}

fn is_retryable(error: &Error) -> bool {
    match error {
        Error::UnknownJsError { original, .. } | Error::Internal(original) => {
            Reflect::get(original, &"retryable".into()).is_ok_and(|mark| mark.as_bool() == Some(true))
        }
        _ => false,
    }
}

/// The pause after failure number `failures`, from 0: up to 100 ms, 200 ms, 400 ms …
fn pause_ms(failures: u32, random: f64) -> u64 {
    let longest = 100.0 * f64::from(failures).exp2();
    (longest * random).min(PAUSE_MS_MAX) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;
    use std::pin::pin;
    use std::task::Context;
    use std::task::Poll;
    use std::task::Waker;

    #[derive(Debug, PartialEq, Eq)]
    enum Fault {
        Final(&'static str),
        Passing(u32),
    }

    /// What comes of a call that gives these results, and how often it was made, with the pauses in between.
    fn run(results: Vec<Result<u32, Fault>>) -> (Result<u32, Fault>, u32, Vec<u32>) {
        let (results, calls, pauses) = (RefCell::new(results.into_iter()), RefCell::new(0), RefCell::new(vec![]));
        let work = retried_with(
            async || {
                *calls.borrow_mut() += 1;
                results.borrow_mut().next().unwrap()
            },
            |fault| matches!(fault, Fault::Passing(_)),
            async |failures| pauses.borrow_mut().push(failures),
        );
        let Poll::Ready(result) = pin!(work).poll(&mut Context::from_waker(Waker::noop())) else { panic!("it waits") };
        (result, calls.into_inner(), pauses.into_inner())
    }

    #[test]
    fn a_success_is_not_repeated() {
        assert_eq!(run(vec![Ok(1)]), (Ok(1), 1, vec![]));
    }

    #[test]
    fn each_try_is_a_call_of_its_own_until_one_succeeds() {
        assert_eq!(run(vec![Err(Fault::Passing(1)), Err(Fault::Passing(2)), Ok(3)]), (Ok(3), 3, vec![0, 1]));
    }

    #[test]
    fn the_third_failure_is_the_last() {
        let faults = (1..=3).map(|n| Err(Fault::Passing(n))).collect();
        assert_eq!(run(faults), (Err(Fault::Passing(3)), 3, vec![0, 1]));
    }

    #[test]
    fn what_only_sounds_as_if_it_would_pass_does_not() {
        let fault = || Fault::Final("retryable: network connection lost");
        assert_eq!(run(vec![Err(fault())]), (Err(fault()), 1, vec![]));
    }

    #[test]
    fn pauses_double_and_are_bounded() {
        assert_eq!([0, 1, 2].map(|failures| pause_ms(failures, 0.5)), [50, 100, 200]);
        assert_eq!([pause_ms(0, 0.0), pause_ms(30, 0.99), pause_ms(2_000, 0.99)], [0, 5_000, 5_000]);
    }
}
