//! The machine beside recordings of both versions of the agent server.

use super::*;
use crate::fixtures;
use crate::fixtures::What;

/// What the machine says during a recording, each under the note of its scenario.
fn replay(recording: &str, permissions: Permissions, answer_status: bool) -> Vec<(String, Output)> {
    let session = fixtures::lines(recording)
        .find_map(|line| match line.what {
            What::Event(payload) => AgentEvent::parse(&payload).unwrap().session_id().map(str::to_owned),
            _ => None,
        })
        .unwrap();
    // The recording client sent its next prompt after 250 ms of quiet.
    let limits = Limits { quiet_ms: 200, ..Limits::default() };
    let mut turn = Turn::new(&limits, KiloSessionId::parse(&session).unwrap(), permissions);
    let mut answers = Vec::new();
    let mut scenario = String::new();
    let mut lines: Vec<fixtures::Line> = fixtures::lines(recording).collect();
    // What a failing command says just before the next prompt is not that prompt's rejection.
    let stray =
        lines.iter().position(|line| matches!(&line.what, What::Event(event) if event.contains("Command not found")));
    stray.into_iter().for_each(|index| drop(lines.remove(index)));
    for line in lines {
        while let Some(at) = turn.next_deadline().filter(|at| *at <= line.ms) {
            answers.extend(turn.receive(at, Input::Tick).into_iter().map(|output| (scenario.clone(), output)));
        }
        let outputs = match &line.what {
            What::Event(payload) => turn.receive(line.ms, Input::Agent(&AgentEvent::parse(payload).unwrap())),
            What::Note(note) => {
                scenario.clone_from(note);
                Vec::new()
            }
            // A prompt that is queued behind another belongs to the turn that is on.
            What::Request(path) if *path == format!("POST /session/{session}/prompt_async") && !turn.is_on() => {
                turn.receive(line.ms, Input::Prompt)
            }
            What::Request(path) if *path == format!("POST /session/{session}/abort") => {
                turn.receive(line.ms, Input::Stopping)
            }
            What::Response(path, 400) if path.ends_with("/prompt_async") => {
                turn.receive(line.ms, Input::PromptRefused { message: "400".into() })
            }
            What::Request(_) | What::Response(..) => Vec::new(),
        };
        for output in outputs {
            if output == Output::AskStatus {
                if answer_status {
                    let ends = turn.receive(line.ms, Input::Status { busy: false });
                    answers.extend(ends.into_iter().map(|output| (scenario.clone(), output)));
                }
            } else {
                answers.push((scenario.clone(), output));
            }
        }
    }
    answers
}

#[test]
fn recorded_scenarios_end_as_they_did() {
    let end = |end: TurnEnd| Some(end);
    let rejected = || end(TurnEnd::Rejected { message: "400".into() });
    // Scenario, and what ends in it; `None` stands for a granted permission.
    let expected = |drop: TurnEnd, permissions: Permissions| {
        let all = vec![
            ("B plain text", vec![end(TurnEnd::Completed)]),
            ("C tools: bash and write", vec![end(TurnEnd::Completed)]),
            ("D permission asked: once", vec![None, end(TurnEnd::Completed)]),
            ("D2 permission asked: reject", vec![None, end(TurnEnd::Completed)]),
            ("E question: reply", vec![end(TurnEnd::Completed)]),
            ("E2 question: reject", vec![end(TurnEnd::Completed)]),
            ("F abort while text streams", vec![end(TurnEnd::Interrupted)]),
            ("F2 abort while bash runs", vec![end(TurnEnd::Interrupted)]),
            ("F3 abort while permission is asked", vec![None, end(TurnEnd::Interrupted)]),
            ("G error 401", vec![end(failed("bad key"))]),
            ("G error 400", vec![end(failed("malformed"))]),
            ("G error 402", vec![end(TurnEnd::Fatal { error: "Insufficient credits".into() })]),
            ("G drop", vec![end(drop)]),
            ("G error 429 retry", vec![end(TurnEnd::Interrupted)]),
            (
                "J messageID",
                vec![end(TurnEnd::Completed), end(TurnEnd::Completed), rejected(), end(TurnEnd::Completed)],
            ),
            ("queue: two prompts", vec![end(TurnEnd::Completed)]),
        ];
        // A person's own answer is none of the machine's.
        let of_machine = |end: &Option<TurnEnd>| end.is_some() || permissions == Permissions::Allow;
        let kept = all.into_iter().map(|(scenario, ends)| (scenario, ends.into_iter().filter(of_machine).collect()));
        kept.collect::<Vec<(&str, Vec<Option<TurnEnd>>)>>()
    };
    for (recording, drop) in
        fixtures::RECORDINGS.into_iter().zip([failed("Connection reset by server"), TurnEnd::Interrupted])
    {
        for (permissions, answer_status) in
            [(Permissions::Allow, true), (Permissions::Allow, false), (Permissions::Ask, true)]
        {
            let mut seen: Vec<(String, Vec<Option<TurnEnd>>)> = Vec::new();
            for (scenario, output) in replay(recording, permissions, answer_status) {
                let what = match output {
                    Output::Ended(end) => Some(end),
                    Output::ReplyPermission { .. } => None,
                    other => panic!("{scenario}: {other:?}"),
                };
                match seen.last_mut() {
                    Some((last, all)) if *last == scenario => all.push(what),
                    _ => seen.push((scenario, vec![what])),
                }
            }
            let expected = expected(drop.clone(), permissions);
            let seen: Vec<_> = seen.iter().map(|(scenario, all)| (scenario.as_str(), all.clone())).collect();
            assert_eq!(seen, expected);
        }
    }
}
