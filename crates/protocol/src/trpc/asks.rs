//! `answerQuestion`, `rejectQuestion`, `answerPermission`: a person's word to the agent (spec/session.md 2.5).

use super::fields::Fields;
use super::fields::Issue;
use crate::id::AskId;
use crate::id::InvalidId;
use crate::id::SessionId;
use crate::verdict::Permission;
use crate::verdict::PermissionAnswer;
use crate::verdict::QuestionAnswer;
use crate::verdict::QuestionRejection;
use crate::verdict::Verdict;
use serde_json::Value;

/// The parts of one question that can be answered.
const ANSWERS_MAX: usize = 20;
/// The labels chosen in one part.
const LABELS_MAX: usize = 50;
/// One label, or a person's own words, in characters.
const LABEL_CHARS_MAX: usize = 10_000;

/// A verdict, and the session that asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judge {
    pub session: SessionId,
    pub verdict: Verdict,
}

/// Parses `answerQuestion`.
pub fn parse_answer_question(input: &Value) -> Result<Judge, Vec<Issue>> {
    let mut fields = Fields::new(input);
    let session = fields.required("sessionId", SessionId::parse);
    let question_id = fields.required("questionId", AskId::parse);
    let answers = answers(&mut fields);
    let verdict = question_id
        .zip(answers)
        .map(|(question_id, answers)| Verdict::AnswerQuestion(QuestionAnswer { question_id, answers }));
    judge(fields, session, verdict)
}

/// Parses `rejectQuestion`.
pub fn parse_reject_question(input: &Value) -> Result<Judge, Vec<Issue>> {
    let mut fields = Fields::new(input);
    let session = fields.required("sessionId", SessionId::parse);
    let question_id = fields.required("questionId", AskId::parse);
    let verdict = question_id.map(|question_id| Verdict::RejectQuestion(QuestionRejection { question_id }));
    judge(fields, session, verdict)
}

/// Parses `answerPermission`.
pub fn parse_answer_permission(input: &Value) -> Result<Judge, Vec<Issue>> {
    let mut fields = Fields::new(input);
    let session = fields.required("sessionId", SessionId::parse);
    let permission_id = fields.required("permissionId", AskId::parse);
    let response = fields.required("response", |text| {
        serde_json::from_value(Value::String(text.to_owned()))
            .map_err(|_| InvalidId { message: "Expected once, always or reject" })
    });
    let verdict = permission_id.zip(response).map(|(permission_id, response): (_, Permission)| {
        Verdict::AnswerPermission(PermissionAnswer { permission_id, response })
    });
    judge(fields, session, verdict)
}

fn judge(fields: Fields, session: Option<SessionId>, verdict: Option<Verdict>) -> Result<Judge, Vec<Issue>> {
    fields.finish(session.zip(verdict).map(|(session, verdict)| Judge { session, verdict }))
}

fn answers(fields: &mut Fields) -> Option<Vec<Vec<String>>> {
    let parsed: Option<Vec<Vec<String>>> =
        fields.value("answers").and_then(|value| serde_json::from_value(value.clone()).ok());
    let within = |answers: &Vec<Vec<String>>| {
        (1..=ANSWERS_MAX).contains(&answers.len())
            && answers.iter().all(|labels| {
                labels.len() <= LABELS_MAX && labels.iter().all(|label| label.chars().count() <= LABEL_CHARS_MAX)
            })
    };
    let answers = parsed.filter(within);
    if answers.is_none() {
        fields.issue(
            "answers",
            format!("Expected 1 to {ANSWERS_MAX} lists of at most {LABELS_MAX} strings of at most {LABEL_CHARS_MAX} characters"),
        );
    }
    answers
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const SESSION: &str = "agent_01234567-89ab-cdef-0123-456789abcdef";

    #[test]
    fn each_call_makes_its_verdict() {
        let id = AskId::parse("que_1").unwrap();
        let input = json!({"sessionId": SESSION, "questionId": "que_1", "answers": [["A", "B"], []]});
        let answers = vec![vec!["A".to_owned(), "B".to_owned()], vec![]];
        assert_eq!(
            parse_answer_question(&input).unwrap().verdict,
            Verdict::AnswerQuestion(QuestionAnswer { question_id: id.clone(), answers })
        );
        assert_eq!(
            parse_reject_question(&input).unwrap().verdict,
            Verdict::RejectQuestion(QuestionRejection { question_id: id.clone() })
        );
        let input = json!({"sessionId": SESSION, "permissionId": "que_1", "response": "reject"});
        assert_eq!(
            parse_answer_permission(&input).unwrap().verdict,
            Verdict::AnswerPermission(PermissionAnswer { permission_id: id, response: Permission::Reject })
        );
    }

    #[test]
    fn the_bounds_of_answers() {
        let parse = |answers: Value| {
            parse_answer_question(&json!({"sessionId": SESSION, "questionId": "q", "answers": answers})).is_ok()
        };
        assert!(parse(json!(vec![vec!["x".repeat(LABEL_CHARS_MAX)]; ANSWERS_MAX])));
        for bad in [
            json!(null),
            json!([]),
            json!(["A"]),
            json!([[1]]),
            json!(vec![vec!["A"]; ANSWERS_MAX + 1]),
            json!([vec!["A"; LABELS_MAX + 1]]),
            json!([["x".repeat(LABEL_CHARS_MAX + 1)]]),
        ] {
            assert!(!parse(bad.clone()), "{bad}");
        }
    }

    #[test]
    fn every_bad_field_is_named() {
        let fields = |result: Result<Judge, Vec<Issue>>| -> Vec<String> {
            result.unwrap_err().into_iter().map(|issue| issue.path.join(".")).collect()
        };
        assert_eq!(fields(parse_answer_question(&json!({}))), ["sessionId", "questionId", "answers"]);
        assert_eq!(fields(parse_reject_question(&json!({"sessionId": SESSION, "questionId": "../x"}))), ["questionId"]);
        let input = json!({"sessionId": SESSION, "permissionId": "p", "response": "never"});
        assert_eq!(fields(parse_answer_permission(&input)), ["response"]);
    }
}
