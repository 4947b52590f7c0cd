//! Every input in every phase, as one table: what the machine says.

use super::*;

type Make = fn() -> Bench;

const PHASES: [(&str, Make); 10] = [
    ("idle", Bench::new),
    ("opening", || Bench::opening(binding(1))),
    ("sending", || Bench::sending(binding(1))),
    ("running", || Bench::running(binding(1))),
    ("committing", committing),
    ("condensing", condensing),
    ("condensed", condensed),
    ("naming", || {
        let mut bench = condensed();
        bench.late();
        bench
    }),
    ("settling", || {
        let mut bench = Bench::running(binding(1));
        bench.say(Input::Abort);
        bench
    }),
    ("finishing", || Bench::finishing(binding(1))),
];

fn committing() -> Bench {
    let mut bench = Bench::running(binding(1));
    bench.say(Input::TurnEnded { job: JobId(1), end: TurnEnd::Completed });
    bench
}

fn condensing() -> Bench {
    let mut bench = committing();
    bench.say(Input::AutoCommitDone(JobId(1)));
    bench
}

fn condensed() -> Bench {
    let mut bench = condensing();
    bench.say(Input::CondenseDone(JobId(1)));
    bench
}

/// Every input; those about a job about `job`.
fn inputs(job: JobId) -> Vec<(&'static str, Input)> {
    let ended = |end| Input::TurnEnded { job, end };
    let message = || "m".to_owned();
    vec![
        ("abort", Input::Abort),
        ("agent aborted", Input::AgentAborted(job)),
        ("agent heard", Input::AgentHeard),
        ("commit done", Input::AutoCommitDone(job)),
        ("branch", Input::Branch { job, branch: None }),
        ("condense done", Input::CondenseDone(job)),
        ("events open", Input::EventsOpen(job)),
        ("drained", Input::IngestDrained(job)),
        ("ingest fenced", Input::IngestGaveUp { job, why: GaveUp::Fenced { status: 409 } }),
        ("ingest unreachable", Input::IngestGaveUp { job, why: GaveUp::Unreachable }),
        ("ingest ready", Input::IngestReady(job)),
        ("kill", Input::Kill),
        ("prompt failed", Input::PromptFailed { job, message: message() }),
        ("prompt sent", Input::PromptSent(job)),
        ("shutdown", Input::Shutdown { signal: "SIGTERM" }),
        ("same again", Input::Start(binding(1))),
        ("another", Input::Start(binding(2))),
        ("turn completed", ended(TurnEnd::Completed)),
        ("turn failed", ended(TurnEnd::Failed { message: message() })),
        ("turn fatal", ended(TurnEnd::Fatal { error: message() })),
        ("turn interrupted", ended(TurnEnd::Interrupted)),
        ("turn rejected", ended(TurnEnd::Rejected { message: message() })),
        ("tick", Input::Tick),
    ]
}

/// Nothing happens for as long as any phase may last; how long the agent may run is not decided here.
fn too_late(bench: &mut Bench) -> Vec<String> {
    for _ in 0..40 {
        let Some(at) = bench.job.next_deadline() else { break };
        bench.now = at;
        let mut said = bench.say(Input::Tick);
        said.retain(|what| !what.starts_with("RestartEvents"));
        if !said.is_empty() {
            return said;
        }
    }
    Vec::new()
}

/// What is said, without the number of the job and the words of events.
fn short(said: &[String]) -> String {
    let one = |line: &String| {
        let mut words = line.split(' ');
        match (words.next().unwrap(), words.nth(1)) {
            ("Emit", Some(kind)) => kind.to_owned(),
            (name, _) => name.to_owned(),
        }
    };
    said.iter().map(one).collect::<Vec<_>>().join(" ")
}

fn table() -> String {
    let mut lines = Vec::new();
    for (phase, make) in PHASES {
        lines.push(format!("{phase}:"));
        for (name, input) in inputs(JobId(1)) {
            let said = short(&make().say(input));
            if !said.is_empty() {
                lines.push(format!("  {name:<19} {said}"));
            }
        }
        let said = short(&too_late(&mut make()));
        lines.push(format!("  {:<19} {said}", "too late").trim_end().to_owned());
    }
    lines.join("\n")
}

#[test]
fn every_input_in_every_phase_does_what_the_table_says() {
    assert_eq!(table(), include_str!("table.txt").trim_end(), "\n{}\n", table());
}

/// After any two inputs in any phase, also about a job of another number, the machine can be brought to an end, and each job says at most
/// one last thing.
#[test]
fn any_two_inputs_in_any_phase_leave_a_machine_that_ends() {
    let all = || inputs(JobId(1)).into_iter().chain(inputs(JobId(7)));
    for (phase, make) in PHASES {
        for (first, one) in all() {
            for (second, other) in all() {
                let mut bench = make();
                let mut said = bench.say(one.clone());
                said.extend(bench.say(other));
                for _ in 0..10 {
                    said.extend(bench.say(Input::Abort));
                    said.extend(too_late(&mut bench));
                    for job in [JobId(1), JobId(2)] {
                        said.extend(bench.say(Input::IngestDrained(job)));
                    }
                }
                let label = format!("{phase}: {first}, {second}: {said:?}");
                assert!(bench.job.active().is_none() && bench.job.next_deadline().is_none(), "{label}");
                for job in ["1", "2"] {
                    let last = ["complete", "error", "interrupted"].map(|kind| format!("Emit {job} {kind}"));
                    let count = said.iter().filter(|line| last.iter().any(|last| line.starts_with(last))).count();
                    assert!(count <= 1, "{label}");
                }
            }
        }
    }
}
