//! How a drain may end.

use super::DrainRow;
use super::Ledger;
use crate::town::world::World;
use town_core::message::Input;
use town_core::message::container::ContainerCall;
use town_core::message::container::ContainerInput;

impl World<'_> {
    pub(super) fn check_drain(&mut self, before: &Ledger, after: &Ledger, input: &Input, now: i64) {
        let is_eviction = matches!(input, Input::Container(ContainerInput::Call(ContainerCall::Eviction { .. })));
        if let Input::Container(ContainerInput::Call(ContainerCall::Eviction { instance: Some(instance) })) = input {
            self.town.shadow.evicted.insert(instance.to_string());
            if after.drain.is_none() {
                self.run.broken("an eviction begins a drain", || instance.to_string());
            }
        }
        let expiry = self.town.limits.drain_expiry_ms;
        if let Some(drain) = &after.drain
            && drain.started_at + expiry <= now
        {
            self.run.broken("a drain is over after 15 minutes", || format!("it began at {}", drain.started_at));
        }
        let Some(drain) = &before.drain else { return };
        let is_same = after.drain.as_ref().is_some_and(|now| now.nonce == drain.nonce);
        if is_same || is_eviction || drain.started_at + expiry <= now {
            return;
        }
        if let Some(why) = self.wrongly_ended(drain, input) {
            self.run.broken("a drain ends in one of four ways", || why);
        }
    }

    /// Why this input must not have ended the drain.
    fn wrongly_ended(&self, drain: &DrainRow, input: &Input) -> Option<String> {
        let is_evicted = |instance: &str| self.town.shadow.evicted.contains(instance);
        let of = |instance: Option<String>, draining: bool| match instance {
            Some(instance) if is_evicted(&instance) => Some(format!("{instance} was evicted itself")),
            Some(instance) if draining => Some(format!("{instance} drains itself")),
            None if drain.evicted.is_some() => Some("by nobody knows whom".to_owned()),
            Some(_) | None => None,
        };
        let Input::Container(input) = input else { return Some("by an input that says nothing of it".to_owned()) };
        match input {
            ContainerInput::Call(ContainerCall::Heartbeat { body, .. }) => {
                of(body.container_instance_id.as_ref().map(ToString::to_string), body.draining)
            }
            ContainerInput::Call(ContainerCall::Ready { instance, nonce }) => {
                let wrong = (*nonce != drain.nonce).then(|| "the nonce is another".to_owned());
                wrong.or_else(|| of(instance.as_ref().map(ToString::to_string), false))
            }
            ContainerInput::Ended { at } => {
                (*at < drain.started_at).then(|| format!("the end was at {at}, before the drain"))
            }
            ContainerInput::Health { instance, draining } => of(Some(instance.to_string()), *draining),
            ContainerInput::Call(ContainerCall::DrainStatus | ContainerCall::Eviction { .. }) => {
                Some("by a question".to_owned())
            }
        }
    }
}
