//! Work in worktrees that the newest start of no agent names is saved too, when the container is told to end.

use crate::stage::FAST;
use crate::stage::Stage;
use crate::support::until_async;
use serde_json::json;

/// An agent at rest that has left `a.txt` on its branch, in no commit.
async fn with_work_left() -> Stage {
    let stage = Stage::new().await;
    stage.start("a", "write a.txt left").await;
    stage.wait_for_event("a", "session.idle").await;
    stage
}

#[tokio::test]
async fn work_of_a_start_before_is_saved_though_the_newest_one_failed() {
    let mut stage = with_work_left().await;
    let mut again = stage.request("a", "polecat", "write b.txt b");
    again["startPoint"] = json!("..");
    assert_eq!(stage.post("/agents/start", again).await.0, 400);
    assert_eq!(stage.status("a").await["status"], "failed");
    assert_eq!(stage.evict(), Some(0));
    assert_eq!(stage.on_remote("gt/a", "a.txt").as_deref(), Some("left"));
    let receipts = stage.worker.calls("a/eviction-context");
    assert_eq!((receipts.len(), &receipts[0].body["pushed"]), (1, &json!(true)));
}

#[tokio::test]
async fn an_agent_that_went_on_to_another_branch_has_left_its_work_on_the_first_one() {
    let mut stage = with_work_left().await;
    let mut elsewhere = stage.request("a", "polecat", "write b.txt b");
    elsewhere["branch"] = json!("gt/a-2");
    assert_eq!(stage.post("/agents/start", elsewhere).await.0, 201);
    stage.wait_for_file("a-2", "b.txt").await;
    assert_eq!(stage.evict(), Some(0));
    assert_eq!(stage.on_remote("gt/a", "a.txt").as_deref(), Some("left"));
    assert_eq!(stage.on_remote("gt/a-2", "b.txt").as_deref(), Some("b"));
    let saved = stage.logged("work_saved");
    let of_folder: Vec<_> = saved.iter().filter(|line| line["folder"].is_string()).collect();
    assert_eq!((of_folder.len(), &of_folder[0]["branch"], &of_folder[0]["pushed"]), (1, &json!("gt/a"), &json!(true)));
}

#[tokio::test]
async fn a_process_that_ends_before_it_knows_its_agents_saves_their_work_and_leaves_them_to_the_next_container() {
    let stage = Stage::new().await;
    stage.start("a", "write a.txt a\nstubborn\nwork b.txt").await;
    stage.start("c", "write c.txt c\nsh git add -A && git commit -q -m c && git push -q origin HEAD").await;
    stage.wait_for_file("a", "b.txt").await;
    stage.wait_for_event("c", "session.idle").await;
    let both = async || {
        let registry = stage.worker.town.lock().unwrap().registry.clone();
        (registry.as_array().map(Vec::len) == Some(2)).then_some(registry)
    };
    let registry = until_async("both to be on the list", both).await;

    stage.worker.town.lock().unwrap().silent = vec!["container-registry"];
    let mut stage = stage.restarted(FAST).await;
    assert_eq!(stage.evict(), Some(0));
    assert_eq!(stage.on_remote("gt/a", "a.txt").as_deref(), Some("a"));
    assert!(stage.on_remote("gt/a", "b.txt").is_some());
    assert_eq!(stage.logged("nothing_to_save").len(), 1, "the other one had pushed everything");
    assert_eq!(stage.worker.town.lock().unwrap().registry, registry);

    stage.worker.town.lock().unwrap().silent = vec![];
    let stage = stage.replaced().await;
    for agent in ["a", "c"] {
        stage.wait_for_status(agent, "running").await;
    }
    assert_eq!(std::fs::read_to_string(stage.worktree("a").join("a.txt")).unwrap(), "a");
}

#[tokio::test]
async fn a_worktree_in_which_something_still_runs_is_left_alone() {
    let mut stage = with_work_left().await;
    let mut elsewhere = stage.request("a", "polecat", "write b.txt b");
    elsewhere["branch"] = json!("gt/a-2");
    assert_eq!(stage.post("/agents/start", elsewhere).await.0, 201);
    let mut other = std::process::Command::new("sleep").arg("600").current_dir(stage.worktree("a")).spawn().unwrap();
    assert_eq!(stage.evict(), Some(0));
    other.kill().unwrap();
    other.wait().unwrap();
    assert_eq!(stage.on_remote("gt/a", "a.txt"), None);
    let lost = stage.logged("work_not_pushed");
    assert_eq!((lost.len(), &lost[0]["reason"]), (1, &json!("something is still running in it")));
}
