//! Questions and requests for permission that wait for a person (design 6).
//!
//! They are volatile events; only their ids are kept, with the execution, for as long as they keep its clock from running.

use crate::Step;
use crate::store;
use crate::store::ExecutionRow;
use database::DatabaseError;
use database::execute;
use serde::Deserialize;
use serde_json::Value;
use std::borrow::Cow;

/// The most questions that are remembered as pending.
const QUESTIONS_MAX: usize = 20;

impl Step<'_> {
    /// Takes an event that may be about a question. A pending question or permission suspends the hung deadline: the agent waits for a person (design 6). The end of a turn ends them all.
    pub fn note_question(&mut self, execution: &ExecutionRow, data: &str) -> Result<(), DatabaseError> {
        let Ok(event) = serde_json::from_str::<Asked>(data) else { return Ok(()) };
        let properties = event.properties.unwrap_or_default();
        let mut waiting = execution.waiting.clone();
        match event.event.unwrap_or_default().as_ref() {
            "question.asked" | "permission.asked" if !self.is_stale(&properties)? => {
                waiting.extend(properties.id.map(Cow::into_owned).filter(|id| !execution.waiting.contains(id)));
            }
            "question.replied" | "question.rejected" | "permission.replied" => {
                waiting.retain(|id| Some(id.as_str()) != properties.request_id.as_deref());
            }
            "session.turn.close" if self.is_own(&properties)? => waiting.clear(),
            _ => return Ok(()),
        }
        waiting.truncate(QUESTIONS_MAX);
        if waiting == execution.waiting {
            return Ok(());
        }
        let list = serde_json::to_string(&waiting).unwrap_or_default();
        execute(
            self.db,
            "UPDATE execution SET waiting = ?, event_at = ? WHERE id = ?",
            &[list.into(), self.now.into(), execution.id.as_str().into()],
        )
    }

    /// Whether the message that asks has ended: after an abort the agent server keeps the question, and lists it in every snapshot.
    fn is_stale(&self, asked: &AskedProperties) -> Result<bool, DatabaseError> {
        let Some(message) = asked.tool.as_ref().and_then(|tool| tool.message_id.as_deref()) else { return Ok(false) };
        let rows = self.db.query("SELECT data FROM entity WHERE key = ?", &[format!("message/{message}").into()])?;
        let Some(row) = rows.first() else { return Ok(false) };
        let message: Value = serde_json::from_str(&row.get::<String>(0)?).unwrap_or_default();
        Ok(message.pointer("/properties/info/time/completed").is_some_and(Value::is_number))
    }

    /// Whether the event is of the session's own agent, and not of one that it called in.
    fn is_own(&self, closed: &AskedProperties) -> Result<bool, DatabaseError> {
        let own = store::kilo_session(self.db)?;
        Ok(closed.session_id.is_none() || closed.session_id.as_deref() == own.as_deref())
    }
}

/// What an agent event says of a question.
#[derive(Deserialize)]
struct Asked<'a> {
    #[serde(borrow)]
    event: Option<Cow<'a, str>>,
    #[serde(borrow)]
    properties: Option<AskedProperties<'a>>,
}

#[derive(Default, Deserialize)]
struct AskedProperties<'a> {
    #[serde(borrow)]
    id: Option<Cow<'a, str>>,
    #[serde(borrow, rename = "requestID")]
    request_id: Option<Cow<'a, str>>,
    #[serde(borrow, rename = "sessionID")]
    session_id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    tool: Option<AskedTool<'a>>,
}

#[derive(Deserialize)]
struct AskedTool<'a> {
    #[serde(borrow, rename = "messageID")]
    message_id: Option<Cow<'a, str>>,
}

/// A cheap look before the row is read: text deltas are the bulk of the volatile events.
pub fn is_question(data: &str) -> bool {
    ["question.", "permission.", "session.turn.close"].iter().any(|name| data.contains(name))
}
