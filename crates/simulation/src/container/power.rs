//! What the container's object asks of the platform, and what it hears of that.
//!
//! | Rule | Where it is so |
//! | --- | --- |
//! | A start is over when the container is healthy, or after its bound | `start`, `bring_up` |
//! | What is asked of the platform is asked one after the other, and only of the newest start | `verbs`, `is_current` |
//! | Whatever ended meanwhile is not started | `is_starting` |
//! | What was to end and is gone already has ended | `end` |

use super::Beside;
use super::Host;
use super::object;
use super::platform;
use object_core::lifecycle::Input;
use object_core::lifecycle::State;

/// What is asked of the platform.
#[derive(Clone, Copy, Debug)]
pub enum Verb {
    Destroy,
    Start,
    Terminate,
}

/// Starts the container, and waits until it is healthy.
pub(super) fn start(host: &mut impl Host, instance: String) {
    let now = host.now();
    let object = host.object();
    if let Some(memory) = &mut object.memory {
        memory.starting = Some(instance.clone());
    }
    let over = now + object.limits.start_ms;
    object::beside(host, over, Beside::StartOver { instance: instance.clone() });
    ask(host, Verb::Start, instance);
}

/// Asks the platform, after what it was asked before.
pub(super) fn ask(host: &mut impl Host, verb: Verb, instance: String) {
    let (now, pause) = (host.now(), host.run().random.between("verb", 1, 60));
    let Some(memory) = &mut host.object().memory else { return };
    memory.verbs_free_at = memory.verbs_free_at.max(now) + pause;
    let at = memory.verbs_free_at;
    object::beside(host, at, Beside::Verb { verb, instance });
}

/// The platform is asked now.
pub(super) fn act(host: &mut impl Host, verb: Verb, instance: String) {
    let Some(known) = host.object().known().filter(|known| known.instance == instance) else { return };
    match verb {
        Verb::Start if known.state == State::Starting => return platform::start(host, instance),
        Verb::Start => return,
        Verb::Terminate => platform::signal(host),
        Verb::Destroy => platform::destroy(host),
    }
    if !host.platform().runs() {
        object::report(host, &Input::Ended { instance });
    }
}

/// The container answers its health check.
pub(super) fn healthy(host: &mut impl Host, instance: &str) {
    if is_awaited(host, instance) {
        object::report(host, &Input::Started { instance: instance.to_owned() });
    }
}

/// A start has taken too long, or failed.
pub(super) fn start_over(host: &mut impl Host, instance: String) {
    if is_awaited(host, &instance) {
        object::report(host, &Input::StartFailed { instance });
    }
}

/// Whether this start is waited for: no longer, from now on.
fn is_awaited(host: &mut impl Host, instance: &str) -> bool {
    let memory = host.object().memory.as_mut();
    memory.is_some_and(|memory| memory.starting.take_if(|starting| starting == instance).is_some())
}

/// The platform's notice.
pub(super) fn exit_notice(host: &mut impl Host, instance: String) {
    if object::wake(host).is_ok() {
        object::report(host, &Input::Ended { instance });
    }
}
