//! Worktrees of nobody.

use super::*;

fn log_of(shell: &Shell, wanted: &str) -> Option<Receipt> {
    shell.done.iter().find_map(|output| match output {
        Output::LogFolder { folder, receipt } if folder == wanted => Some(receipt.clone()),
        _ => None,
    })
}

#[test]
fn a_worktree_that_no_agent_names_is_saved_after_those_of_the_agents() {
    let mut shell = Shell::new(answers_all);
    shell.on_disk = vec!["/a", "/left"];
    shell.terminate(&[member("a", Standing::AtRest)]);
    assert!(shell.at(&Output::Save(id("a"))) < shell.at(&Output::SaveFolder("/left".into())));
    assert!(!shell.did(&Output::SaveFolder("/a".into())), "it is the agent's");
    assert_eq!(log_of(&shell, "/left"), Some(pushed()));
    assert!(shell.did(&Output::Over));
}

#[test]
fn in_a_container_without_agents_worktrees_are_saved_all_the_same_and_no_more_at_once_than_allowed() {
    let mut shell = Shell::new(|output| matches!(output, Output::SaveFolder(folder) if folder == "/1"));
    shell.on_disk = vec!["/1", "/2", "/3"];
    shell.tell(Input::Terminate(vec![]));
    assert_eq!(log_of(&shell, "/3"), Some(pushed()), "one place was left");
    assert_eq!((shell.drain.phase(), shell.drain.next_deadline()), (Phase::Saving, Some(LIMITS.save_ms)));
    shell.run_out();
    assert!(shell.did(&Output::AbandonFolder("/1".into())) && shell.did(&Output::Over));
    assert_eq!(log_of(&shell, "/1"), Some(Receipt::without("could not be saved in time")));
    let before = shell.done.len();
    shell.tell(Input::FolderSaved { folder: "/1".into(), receipt: pushed() });
    assert_eq!(shell.done.len(), before, "one receipt each");
}

#[test]
fn a_worktree_of_an_agent_that_may_still_write_is_not_saved_for_nobody() {
    let mut shell = Shell::new(answers_all);
    (shell.on_disk, shell.loose) = (vec!["/a"], vec!["a"]);
    shell.terminate(&[member("a", Standing::AtRest)]);
    assert!(!shell.did(&Output::SaveFolder("/a".into())) && shell.did(&Output::Over));
}

#[test]
fn a_disk_that_does_not_answer_delays_only() {
    let mut shell = Shell::new(|output| *output == Output::Find);
    shell.terminate(&[member("a", Standing::AtRest)]);
    assert_eq!(shell.drain.phase(), Phase::Saving);
    shell.run_out();
    assert_eq!(shell.now_ms, LIMITS.save_all_ms);
    assert!(shell.did(&Output::Over));
}

#[test]
fn what_nobody_began_to_save_has_a_receipt_too() {
    let mut shell = Shell::new(|output| matches!(output, Output::SaveFolder(_)));
    let names = ["/1", "/2", "/3", "/4", "/5", "/6", "/7", "/8", "/9"];
    shell.on_disk = names.to_vec();
    shell.tell(Input::Terminate(vec![]));
    shell.run_out();
    assert!(names.iter().all(|name| log_of(&shell, name).is_some()));
}
