//! What an agent server says: which of it concerns the agent, and who else is told.

use super::actor::Actor;
use crate::clock::now_ms;
use sandbox_core::agent::AgentEvent;
use sandbox_core::managed::Input;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::sync::Arc;

/// A request that a person would answer.
#[derive(Deserialize)]
struct Request {
    id: String,
}

#[derive(Deserialize)]
struct OfStatus {
    status: Kind,
}

#[derive(Deserialize)]
struct Kind {
    #[serde(rename = "type")]
    kind: String,
}

impl Actor {
    /// One event, of whatever session.
    pub(super) async fn hear(&mut self, text: &str) {
        let Ok(event) = AgentEvent::parse(text) else { return };
        let Some(session) = &self.session else { return };
        if event.session_id() != Some(session.talk.session().as_str()) {
            return;
        }
        self.view.send_modify(|view| view.hear(&event, now_ms()));
        let properties = event.properties.unwrap_or("{}");
        self.publish(&event.kind, properties.to_owned(), !event.is_volatile());
        match event.kind.as_ref() {
            "session.idle" => self.receive(Input::Idle).await,
            "session.turn.open" => self.receive(Input::Busy).await,
            "session.status" if !is_idle(properties) => self.receive(Input::Busy).await,
            "question.asked" | "permission.asked" => self.answer(&event.kind, properties),
            _ => {}
        }
    }

    /// Nobody is there to be asked: everything is allowed, and what is not a matter of permission the agent decides itself.
    fn answer(&self, kind: &str, properties: &str) {
        let (Some(session), Ok(Request { id })) = (&self.session, serde_json::from_str(properties)) else { return };
        let (client, is_question) = (session.talk.client.clone(), kind == "question.asked");
        self.shared.background.spawn(async move {
            // What it does not take any more it does not wait for.
            let _ = if is_question { client.reject_question(&id).await } else { client.allow(&id).await };
        });
    }

    /// Tells viewers, and the town if the event is one that is kept.
    pub(super) fn publish(&self, name: &str, data: String, is_kept: bool) {
        let Ok(data) = RawValue::from_string(data).map(Arc::<RawValue>::from) else { return };
        self.shared.feed.say(&self.place.agent, name, data.clone());
        if is_kept {
            self.posts.send(name, data);
        }
    }
}

fn is_idle(properties: &str) -> bool {
    serde_json::from_str(properties).is_ok_and(|OfStatus { status }| status.kind == "idle")
}
