//! Requests that pass through the container's object.
//!
//! | Rule | Where it is so |
//! | --- | --- |
//! | Work starts the container and waits 20 s for it; a container that turns out to have ended is started anew, once | `wake_and_forward` |
//! | Everything else is answered 410 if the container does not run: nothing is started to be looked at | `fetch` |
//! | The container has 60 s to answer; one that says nothing has not said that it ended | `forward` |

use super::Beside;
use super::Host;
use super::object;
use object_core::lifecycle::Input;
use object_core::time::SECOND;

/// How long a request waits for the container to start, and how long the container may take to answer.
const START_WAIT_MS: i64 = 20 * SECOND;
const FORWARD_MS: i64 = 60 * SECOND;
/// How often a request wants the container.
const TRIES: u32 = 2;

/// What the object answers itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// None: the object was lost, or failed.
    Lost,
    /// 410.
    NotRunning,
    /// 503: the container is not up yet, or did not answer.
    Unreached,
}

/// A request that waits for the container.
pub(super) struct Waiter {
    pub request: u64,
    /// How often it may still want it, this time included.
    tries: u32,
}

/// A request is at the object. Whether that is awake: if not, it is answered.
pub fn arrives(host: &mut impl Host, request: u64) -> bool {
    let is_awake = object::wake(host).is_ok();
    if !is_awake {
        host.refuse(request, Refusal::Lost);
    }
    is_awake
}

/// Has the container started for a request that arrived, if it does not run.
pub fn wake_and_forward(host: &mut impl Host, request: u64) {
    want(host, request, TRIES);
}

/// Forwards a request that arrived, if the container runs.
pub fn forward_if_running(host: &mut impl Host, request: u64) {
    match host.object().running() {
        Some(instance) => forward(host, request, instance, 0),
        None => host.refuse(request, Refusal::NotRunning),
    }
}

fn want(host: &mut impl Host, request: u64, tries: u32) {
    if tries == 0 {
        return host.refuse(request, Refusal::Unreached);
    }
    if let Some(memory) = &mut host.object().memory {
        memory.waiting.push(Waiter { request, tries });
    }
    let over = host.now() + START_WAIT_MS;
    object::beside(host, over, Beside::WaitOver { request, tries });
    let lease = host.lease(request);
    if object::turn(host, &Input::Want { lease }).is_err() {
        wait_over(host, request, tries);
    }
}

/// It waited for long enough.
pub(super) fn wait_over(host: &mut impl Host, request: u64, tries: u32) {
    let Some(memory) = &mut host.object().memory else { return };
    let is_it = |waiter: &Waiter| (waiter.request, waiter.tries) == (request, tries);
    if let Some(index) = memory.waiting.iter().position(is_it) {
        memory.waiting.remove(index);
        host.refuse(request, Refusal::Unreached);
    }
}

/// The container runs, or will not.
pub(super) fn tell_waiting(host: &mut impl Host, running: Option<&str>) {
    let Some(memory) = &mut host.object().memory else { return };
    for Waiter { request, tries } in std::mem::take(&mut memory.waiting) {
        match running {
            Some(instance) => forward(host, request, instance.to_owned(), tries),
            None => host.refuse(request, Refusal::Unreached),
        }
    }
}

/// `tries` is 0 for a request that starts nothing.
fn forward(host: &mut impl Host, request: u64, instance: String, tries: u32) {
    let Some(memory) = &mut host.object().memory else { return };
    memory.forwarded.insert(request);
    let (arrives, over) = (host.now() + host.delay(), host.now() + FORWARD_MS);
    object::beside(host, arrives, Beside::Forwarded { request, instance, tries });
    object::beside(host, over, Beside::ForwardTimesOut { request });
}

/// A request reaches the container, or finds it gone.
pub(super) fn forwarded(host: &mut impl Host, request: u64, instance: String, tries: u32) {
    match host.platform().process_of(&instance) {
        Some(pid) => return host.deliver(pid, request),
        None if host.platform().runs() => return unanswered(host, request),
        None => {}
    }
    if !host.object().passes(request) {
        return;
    }
    match (object::turn(host, &Input::Ended { instance }), tries) {
        (Err(_), _) => host.refuse(request, Refusal::Lost),
        (Ok(()), 0) => host.refuse(request, Refusal::NotRunning),
        (Ok(()), tries) => want(host, request, tries - 1),
    }
}

/// The container does not answer.
pub(super) fn unanswered(host: &mut impl Host, request: u64) {
    if host.object().passes(request) {
        host.refuse(request, Refusal::Unreached);
    }
}
