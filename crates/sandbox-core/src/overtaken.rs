//! What the agent's event stream said while the agent server was asked for the same: whatever of the answer it has overtaken is left out.
//!
//! A viewer that comes late is answered from the agent server's state (`request_snapshot`). That answer is some calls old when it arrives, and put
//! behind a newer event it would stand for good: a session that is busy after its end, a question that was answered.

use crate::agent::AgentEvent;
use crate::limits::Limits;
use protocol::id::KiloSessionId;
use serde::Deserialize;
use std::borrow::Cow;
use std::collections::HashSet;

/// One asking, from its beginning to the server's answer.
#[derive(Debug, Default)]
pub struct Overtaken {
    status: bool,
    answered: HashSet<String>,
    overflowed: bool,
}

impl Overtaken {
    /// The stream said this meanwhile.
    pub fn hear(&mut self, limits: &Limits, session: &KiloSessionId, event: &AgentEvent<'_>) {
        match event.kind.as_ref() {
            "permission.replied" | "question.rejected" | "question.replied" => {
                let Some(Answered { id }) = event.read() else { return };
                if self.answered.len() < limits.gap_entities_max {
                    self.answered.insert(id.into_owned());
                } else {
                    self.overflowed = true;
                }
            }
            "session.idle" | "session.status" | "session.turn.close" | "session.turn.open" => {
                self.status |= event.session_id() == Some(session.as_str());
            }
            _ => {}
        }
    }

    /// Whether this event of the answer still holds.
    pub fn leaves(&self, event: &AgentEvent<'_>) -> bool {
        match event.kind.as_ref() {
            "session.status" => !self.status,
            _ => {
                let asked = event.read::<Asked>();
                !self.overflowed && asked.is_none_or(|asked| !self.answered.contains(asked.id.as_ref()))
            }
        }
    }
}

#[derive(Deserialize)]
struct Answered<'a> {
    #[serde(borrow, rename = "requestID")]
    id: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Asked<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str = r#"{"type":"session.status","properties":{"sessionID":"ses_ours","status":{"type":"busy"}}}"#;
    const QUESTION: &str = r#"{"type":"question.asked","properties":{"id":"que_1","sessionID":"ses_ours"}}"#;
    const PERMISSION: &str = r#"{"type":"permission.asked","properties":{"id":"per_1","sessionID":"ses_child"}}"#;

    /// What is left of the three above once this was heard.
    fn left(limits: &Limits, heard: &[String]) -> Vec<&'static str> {
        let session = KiloSessionId::parse("ses_e03b2959effeetYLbSKCsEOEU2").unwrap();
        let mut overtaken = Overtaken::default();
        for payload in heard {
            let payload = payload.replace("ses_ours", session.as_str());
            overtaken.hear(limits, &session, &AgentEvent::parse(&payload).unwrap());
        }
        let all = [STATUS, QUESTION, PERMISSION];
        all.into_iter().filter(|payload| overtaken.leaves(&AgentEvent::parse(payload).unwrap())).collect()
    }

    fn said(kind: &str, properties: &str) -> String {
        format!(r#"{{"type":"{kind}","properties":{{{properties}}}}}"#)
    }

    #[test]
    fn what_the_stream_said_meanwhile_leaves_out_what_it_makes_old_and_nothing_else() {
        let limits = Limits::default();
        let of_child = said("session.idle", r#""sessionID":"ses_child""#);
        assert_eq!(left(&limits, &[of_child]), [STATUS, QUESTION, PERMISSION]);
        for kind in ["session.idle", "session.status", "session.turn.open", "session.turn.close"] {
            assert_eq!(left(&limits, &[said(kind, r#""sessionID":"ses_ours""#)]), [QUESTION, PERMISSION], "{kind}");
        }
        for kind in ["question.replied", "question.rejected"] {
            let answered = said(kind, r#""sessionID":"ses_ours","requestID":"que_1""#);
            assert_eq!(left(&limits, &[answered]), [STATUS, PERMISSION], "{kind}");
        }
        let allowed = said("permission.replied", r#""sessionID":"ses_child","requestID":"per_1","reply":"once""#);
        assert_eq!(left(&limits, &[allowed]), [STATUS, QUESTION]);
    }

    #[test]
    fn of_more_answers_than_are_remembered_no_request_is_taken_for_open() {
        let limits = Limits { gap_entities_max: 1, ..Limits::default() };
        let answered = |n: u32| said("question.replied", &format!(r#""requestID":"que_other{n}""#));
        assert_eq!(left(&limits, &[answered(1)]), [STATUS, QUESTION, PERMISSION]);
        assert_eq!(left(&limits, &[answered(1), answered(2)]), [STATUS]);
    }
}
