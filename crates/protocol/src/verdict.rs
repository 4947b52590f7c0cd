//! What a person says to what the agent asks (spec/session.md 2.5, 8.4).
//!
//! An ask has an id of its own, and the agent takes one answer to each: whoever answers second hears that it was not wanted.

use crate::id::AskId;
use serde::Deserialize;
use serde::Serialize;

/// One answer, on its way from a front end to the agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// To a question: the labels chosen, or words of the person's own, for each of its parts.
    AnswerQuestion(QuestionAnswer),
    /// To a question: none will be given.
    RejectQuestion(QuestionRejection),
    /// To a request for permission.
    AnswerPermission(PermissionAnswer),
}

impl Verdict {
    /// The last part of its path in the container: `/sessions/{session}/job/…`.
    pub fn route(&self) -> &'static str {
        match self {
            Verdict::AnswerQuestion(_) => "answer-question",
            Verdict::RejectQuestion(_) => "reject-question",
            Verdict::AnswerPermission(_) => "answer-permission",
        }
    }

    /// Its body there.
    pub fn body(&self) -> serde_json::Result<String> {
        match self {
            Verdict::AnswerQuestion(answer) => serde_json::to_string(answer),
            Verdict::RejectQuestion(rejection) => serde_json::to_string(rejection),
            Verdict::AnswerPermission(answer) => serde_json::to_string(answer),
        }
    }
}

/// Body of `POST …/job/answer-question`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct QuestionAnswer {
    pub question_id: AskId,
    pub answers: Vec<Vec<String>>,
}

/// Body of `POST …/job/reject-question`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct QuestionRejection {
    pub question_id: AskId,
}

/// Body of `POST …/job/answer-permission`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PermissionAnswer {
    pub permission_id: AskId,
    pub response: Permission,
}

/// How far a permission goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Permission {
    /// From now on.
    Always,
    /// This time.
    Once,
    /// Not at all.
    Reject,
}

/// What became of it: the answer of the three routes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taken {
    /// `answered` or `rejected`.
    pub status: String,
    /// False: the agent does not wait for this, or not any more.
    pub success: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bodies_are_pinned() {
        let id = AskId::parse("que_1").unwrap();
        let answers = vec![vec!["B".to_owned()], vec![]];
        for (verdict, route, body) in [
            (
                Verdict::AnswerQuestion(QuestionAnswer { question_id: id.clone(), answers }),
                "answer-question",
                r#"{"questionId":"que_1","answers":[["B"],[]]}"#,
            ),
            (
                Verdict::RejectQuestion(QuestionRejection { question_id: id.clone() }),
                "reject-question",
                r#"{"questionId":"que_1"}"#,
            ),
            (
                Verdict::AnswerPermission(PermissionAnswer { permission_id: id, response: Permission::Once }),
                "answer-permission",
                r#"{"permissionId":"que_1","response":"once"}"#,
            ),
        ] {
            assert_eq!((verdict.route(), verdict.body().unwrap().as_str()), (route, body));
        }
    }
}
