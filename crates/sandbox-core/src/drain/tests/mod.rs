mod folders;

use super::*;

const LIMITS: DrainLimits = DrainLimits {
    notify_ms: 10,
    nudge_ms: 10,
    wait_ms: 1_000,
    freeze_ms: 20,
    save_ms: 50,
    save_all_ms: 200,
    close_ms: 10,
    total_ms: 2_000,
    saves_at_once: 2,
};

fn id(name: &str) -> AgentId {
    AgentId::parse(name).unwrap()
}

fn member(name: &str, standing: Standing) -> Member {
    Member { id: id(name), kind: Kind::Worker, standing, worktree: Some(format!("/{name}")) }
}

fn pushed() -> Receipt {
    Receipt { branch: "b".into(), commit: Some("c".into()), pushed: true, reason: None }
}

/// Plays the shell: answers each output at once, as told, and keeps what it was asked to do.
struct Shell {
    drain: Drain,
    now_ms: i64,
    done: Vec<Output>,
    /// Outputs that get no answer.
    silent: fn(&Output) -> bool,
    /// Agents that cannot be frozen.
    loose: Vec<&'static str>,
    /// Worktrees.
    on_disk: Vec<&'static str>,
}

impl Shell {
    fn new(silent: fn(&Output) -> bool) -> Self {
        Self { drain: Drain::new(LIMITS), now_ms: 0, done: vec![], silent, loose: vec![], on_disk: vec![] }
    }

    fn tell(&mut self, input: Input) {
        let mut outputs = std::collections::VecDeque::from(self.drain.receive(self.now_ms, input));
        while let Some(output) = outputs.pop_front() {
            let answer = self.answer(&output).filter(|_| !(self.silent)(&output));
            self.done.push(output);
            outputs.extend(answer.into_iter().flat_map(|input| self.drain.receive(self.now_ms, input)));
        }
    }

    fn answer(&self, output: &Output) -> Option<Input> {
        Some(match output {
            Output::ClearRegistry => Input::Cleared,
            Output::Freeze(agent) => {
                let outcome = if self.loose.contains(&agent.as_str()) { Err("it runs".into()) } else { Ok(()) };
                Input::Frozen { agent: agent.clone(), outcome }
            }
            Output::Notify => Input::Notified,
            Output::Find => Input::Found(self.on_disk.iter().map(|path| (*path).to_owned()).collect()),
            Output::Nudge(agent) => Input::Nudged(agent.clone()),
            Output::Report(agent) => Input::Reported(agent.clone()),
            Output::Save(agent) => Input::Saved { agent: agent.clone(), receipt: pushed() },
            Output::SaveFolder(folder) => Input::FolderSaved { folder: folder.clone(), receipt: pushed() },
            Output::Tell { agent, .. } => Input::Told(agent.clone()),
            Output::AbandonFolder(_)
            | Output::LogFolder { .. }
            | Output::Abandon(_)
            | Output::Entered(_)
            | Output::Log { .. }
            | Output::Over => return None,
        })
    }

    /// SIGTERM, and after the nudges everybody is as before.
    fn terminate(&mut self, members: &[Member]) {
        self.tell(Input::Terminate(members.to_vec()));
        self.tell(Input::Members(members.to_vec()));
    }

    /// Lets time pass to the next deadline, until the drain is over.
    fn run_out(&mut self) {
        while let Some(at) = self.drain.next_deadline() {
            self.now_ms = self.now_ms.max(at);
            self.tell(Input::Tick);
        }
    }

    fn at(&self, wanted: &Output) -> usize {
        self.done.iter().position(|output| output == wanted).unwrap_or_else(|| panic!("{wanted:?}: {:?}", self.done))
    }

    fn did(&self, wanted: &Output) -> bool {
        self.done.contains(wanted)
    }

    fn receipt_of(&self, name: &str) -> Receipt {
        let of = |output: &Output| match output {
            Output::Log { agent, receipt } if *agent == id(name) => Some(receipt.clone()),
            _ => None,
        };
        self.done.iter().find_map(of).unwrap()
    }
}

fn answers_all(_: &Output) -> bool {
    false
}

#[test]
fn an_empty_container_only_says_goodbye() {
    let mut shell = Shell::new(answers_all);
    shell.tell(Input::Terminate(vec![]));
    let phases = [Phase::Notifying, Phase::Nudging, Phase::Waiting, Phase::Freezing, Phase::Saving, Phase::Closing];
    let entered: Vec<Output> = phases.into_iter().chain([Phase::Over]).map(Output::Entered).collect();
    let own: Vec<Output> = shell.done.iter().filter(|output| !entered.contains(output)).cloned().collect();
    assert_eq!(own, [Output::Notify, Output::Find, Output::ClearRegistry, Output::Over]);
    assert_eq!((shell.drain.phase(), shell.drain.next_deadline()), (Phase::Over, None));
}

#[test]
fn agents_are_nudged_waited_for_frozen_saved_and_only_then_reported() {
    let mut shell = Shell::new(answers_all);
    shell.tell(Input::Terminate(vec![member("a", Standing::Working), member("b", Standing::Idle)]));
    assert_eq!(shell.drain.phase(), Phase::Waiting);
    assert!(shell.did(&Output::Nudge(id("a"))) && shell.did(&Output::Nudge(id("b"))));

    shell.tell(Input::Members(vec![member("a", Standing::AtRest), member("b", Standing::Idle)]));
    assert_eq!(shell.drain.phase(), Phase::Waiting, "who was idle a moment ago is waited for");
    shell.tell(Input::Members(vec![member("a", Standing::AtRest), member("b", Standing::AtRest)]));
    assert_eq!(shell.drain.phase(), Phase::Over);

    let frozen = shell.at(&Output::Freeze(id("a"))).max(shell.at(&Output::Freeze(id("b"))));
    let saved = shell.at(&Output::Save(id("a")));
    let told = shell.at(&Output::Tell { agent: id("a"), receipt: pushed() });
    assert!(frozen < saved && saved < told && told < shell.at(&Output::Report(id("a"))));
    assert!(shell.at(&Output::Report(id("b"))) < shell.at(&Output::ClearRegistry));
}

#[test]
fn a_second_signal_changes_nothing() {
    let mut shell = Shell::new(answers_all);
    shell.tell(Input::Terminate(vec![member("a", Standing::Working)]));
    let before = shell.done.len();
    shell.tell(Input::Terminate(vec![member("a", Standing::Working), member("b", Standing::Working)]));
    assert_eq!(shell.done.len(), before);
}

#[test]
fn a_town_that_does_not_answer_delays_only() {
    let mut shell = Shell::new(|output| {
        matches!(output, Output::Notify | Output::Tell { .. } | Output::Report(_) | Output::ClearRegistry)
    });
    shell.tell(Input::Terminate(vec![member("a", Standing::AtRest)]));
    assert_eq!(shell.drain.next_deadline(), Some(10));
    shell.run_out();
    assert!(shell.did(&Output::Save(id("a"))) && shell.did(&Output::Over));
    assert!(shell.now_ms <= LIMITS.total_ms);
}

#[test]
fn who_never_finishes_is_frozen_at_the_end_of_the_wait() {
    let mut shell = Shell::new(answers_all);
    shell.tell(Input::Terminate(vec![member("a", Standing::Working)]));
    shell.now_ms = LIMITS.wait_ms - 1;
    shell.tell(Input::Tick);
    assert_eq!(shell.drain.phase(), Phase::Waiting);
    shell.run_out();
    assert_eq!((shell.now_ms, shell.drain.phase()), (LIMITS.wait_ms, Phase::Over));
    assert!(shell.did(&Output::Save(id("a"))));
}

#[test]
fn who_starts_counts_as_active_and_is_nudged_when_it_runs() {
    let mut shell = Shell::new(answers_all);
    shell.tell(Input::Terminate(vec![member("a", Standing::Starting)]));
    assert_eq!(shell.drain.phase(), Phase::Waiting);
    assert!(!shell.did(&Output::Nudge(id("a"))));
    shell.tell(Input::Members(vec![member("a", Standing::Working)]));
    assert!(shell.did(&Output::Nudge(id("a"))));
    shell.tell(Input::Members(vec![member("a", Standing::AtRest)]));
    assert_eq!(shell.drain.phase(), Phase::Over);
    assert_eq!(shell.done.iter().filter(|output| **output == Output::Nudge(id("a"))).count(), 1);
}

#[test]
fn the_mayor_is_not_waited_for_and_has_no_bead_to_tell_of() {
    let mut shell = Shell::new(answers_all);
    let mayor = Member { kind: Kind::Mayor, worktree: Some("/m".into()), ..member("m", Standing::Working) };
    let triage = Member { kind: Kind::Triage, ..member("t", Standing::AtRest) };
    shell.terminate(&[mayor, triage]);
    assert_eq!(shell.drain.phase(), Phase::Over);
    for name in ["m", "t"] {
        assert!(shell.did(&Output::Freeze(id(name))) && shell.did(&Output::Save(id(name))));
        assert!(!shell.did(&Output::Nudge(id(name))) && !shell.did(&Output::Report(id(name))));
    }
}

#[test]
fn what_could_not_be_frozen_is_never_saved_nor_is_anything_in_the_same_worktree() {
    let mut shell = Shell::new(answers_all);
    shell.loose = vec!["a"];
    let beside = Member { worktree: Some("/a".into()), ..member("b", Standing::AtRest) };
    shell.terminate(&[member("a", Standing::AtRest), beside, member("c", Standing::AtRest)]);
    assert!(!shell.did(&Output::Save(id("a"))) && !shell.did(&Output::Save(id("b"))));
    assert!(shell.did(&Output::Save(id("c"))));
    assert_eq!(shell.receipt_of("a"), Receipt::without("it runs"));
    assert!(shell.receipt_of("b").reason.unwrap().contains("same worktree"));
    assert!(shell.did(&Output::Report(id("a"))), "its bead is free all the same: the container ends");
}

#[test]
fn a_freeze_that_does_not_come_back_counts_as_failed() {
    let mut shell = Shell::new(|output| *output == Output::Freeze(id("a")));
    shell.terminate(&[member("a", Standing::AtRest), member("b", Standing::AtRest)]);
    assert_eq!(shell.drain.phase(), Phase::Freezing);
    assert!(!shell.did(&Output::Save(id("b"))), "nothing is saved before all are frozen or given up");
    shell.run_out();
    assert!(!shell.did(&Output::Save(id("a"))) && shell.did(&Output::Save(id("b"))));
    assert!(shell.now_ms <= LIMITS.freeze_ms);
}

#[test]
fn saves_are_bounded_in_number_and_in_time() {
    let mut shell = Shell::new(|output| matches!(output, Output::Save(agent) if agent.as_str() != "d"));
    let members = ["a", "b", "c", "d"].map(|name| member(name, Standing::AtRest));
    shell.terminate(&members);
    let saves = |shell: &Shell| shell.done.iter().filter(|output| matches!(output, Output::Save(_))).count();
    assert_eq!(saves(&shell), 2);
    shell.now_ms = LIMITS.save_ms;
    shell.tell(Input::Tick);
    assert!(shell.did(&Output::Abandon(id("a"))));
    assert_eq!(saves(&shell), 4);
    assert_eq!(shell.receipt_of("d"), pushed());
    shell.run_out();
    assert_eq!(shell.receipt_of("c"), Receipt::without("could not be saved in time"));
    assert!(shell.now_ms <= LIMITS.save_all_ms && shell.did(&Output::Over));
}

#[test]
fn agents_in_one_worktree_are_saved_one_after_the_other_and_who_was_live_first() {
    let mut shell = Shell::new(|output| matches!(output, Output::Save(_)));
    let beside = |name: &str, standing| Member { worktree: Some("/shared".into()), ..member(name, standing) };
    shell.terminate(&[
        beside("ended", Standing::Ended),
        member("gone", Standing::Ended),
        beside("a", Standing::AtRest),
        beside("b", Standing::AtRest),
        member("c", Standing::AtRest),
    ]);
    let saves = |shell: &Shell| -> Vec<String> {
        let of = |output: &Output| match output {
            Output::Save(agent) => Some(agent.as_str().to_owned()),
            _ => None,
        };
        shell.done.iter().filter_map(of).collect()
    };
    let mut saved = |name: &str| {
        shell.tell(Input::Saved { agent: id(name), receipt: pushed() });
        saves(&shell)
    };
    assert_eq!(saved("nobody"), ["a", "c"], "b waits for a, though there was a place when c began");
    assert_eq!(saved("c"), ["a", "c", "gone"]);
    assert_eq!(saved("a"), ["a", "c", "gone", "b"]);
    assert_eq!(saved("gone"), ["a", "c", "gone", "b"]);
    assert_eq!(saved("b"), ["a", "c", "gone", "b", "ended"]);
    saved("ended");
    assert_eq!(shell.drain.phase(), Phase::Over);
}

#[test]
fn what_is_still_being_told_when_the_time_for_saving_is_over_is_awaited() {
    let mut shell = Shell::new(|output| matches!(output, Output::Tell { .. } | Output::Report(_)));
    shell.terminate(&[member("a", Standing::AtRest), member("b", Standing::AtRest)]);
    shell.now_ms = LIMITS.save_all_ms;
    shell.tell(Input::Tick);
    assert!(shell.did(&Output::ClearRegistry));
    assert_eq!(shell.drain.phase(), Phase::Closing);
    for name in ["a", "b"] {
        shell.tell(Input::Told(id(name)));
        assert!(shell.did(&Output::Report(id(name))));
    }
    shell.tell(Input::Reported(id("a")));
    assert_eq!(shell.drain.phase(), Phase::Closing);
    shell.tell(Input::Reported(id("b")));
    assert_eq!((shell.drain.phase(), shell.drain.next_deadline()), (Phase::Over, None));

    let mut shell = Shell::new(|output| matches!(output, Output::Tell { .. }));
    shell.terminate(&[member("a", Standing::AtRest)]);
    shell.run_out();
    assert_eq!(shell.now_ms, LIMITS.save_all_ms + LIMITS.close_ms, "but not for ever");
}

#[test]
fn everybody_has_a_receipt_when_the_time_for_saving_is_over() {
    let mut shell = Shell::new(|output| matches!(output, Output::Save(_)));
    let members: Vec<Member> = (0..20).map(|n| member(&format!("a{n}"), Standing::AtRest)).collect();
    shell.terminate(&members);
    shell.run_out();
    for n in 0..20 {
        assert!(shell.receipt_of(&format!("a{n}")).reason.unwrap().contains("in time"));
    }
    assert!(shell.now_ms <= LIMITS.total_ms);
}

#[test]
fn who_ended_by_itself_is_saved_and_told_of_only_if_it_left_something() {
    let mut shell = Shell::new(answers_all);
    shell.tell(Input::Terminate(vec![member("a", Standing::Ended)]));
    assert!(!shell.did(&Output::Freeze(id("a"))) && !shell.did(&Output::Report(id("a"))));
    assert!(shell.did(&Output::Save(id("a"))) && shell.did(&Output::Tell { agent: id("a"), receipt: pushed() }));

    let mut shell = Shell::new(|output| matches!(output, Output::Save(_)));
    shell.tell(Input::Terminate(vec![member("a", Standing::Ended)]));
    shell.tell(Input::Saved { agent: id("a"), receipt: Receipt::nothing("b") });
    assert!(shell.did(&Output::Over) && !shell.done.iter().any(|output| matches!(output, Output::Tell { .. })));
}

#[test]
fn the_whole_ends_in_time_whatever_hangs() {
    type Silent = fn(&Output) -> bool;
    let hanging: [Silent; 8] = [
        |output| matches!(output, Output::Notify),
        |output| matches!(output, Output::Nudge(_)),
        |output| matches!(output, Output::Freeze(_)),
        |output| matches!(output, Output::Save(_)),
        |output| matches!(output, Output::Tell { .. }),
        |output| matches!(output, Output::Report(_)),
        |output| matches!(output, Output::ClearRegistry),
        |_| true,
    ];
    for silent in hanging {
        let mut shell = Shell::new(silent);
        shell.tell(Input::Terminate(vec![member("a", Standing::Working), member("b", Standing::AtRest)]));
        shell.run_out();
        assert_eq!(shell.drain.phase(), Phase::Over);
        assert!(shell.now_ms <= LIMITS.total_ms, "{}", shell.now_ms);
    }
}

/// Found by the simulation: an agent had been stopped before, and what it had started could not be. Its worktree was saved all the same.
#[test]
fn the_worktree_of_an_ended_agent_whose_processes_still_run_is_not_saved() {
    let mut shell = Shell::new(answers_all);
    shell.terminate(&[member("left", Standing::Loose), member("clean", Standing::Ended)]);
    shell.run_out();
    assert!(!shell.did(&Output::Freeze(id("left"))) && !shell.did(&Output::Save(id("left"))));
    assert!(shell.did(&Output::Save(id("clean"))) && !shell.receipt_of("left").pushed);
}
