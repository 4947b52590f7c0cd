//! What the agent server says when it refuses a prompt is told, without what it knows of secrets.

use crate::stage::Stage;
use serde_json::json;

const SECRET: &str = "a-key-that-nobody-may-see";

#[tokio::test]
async fn the_agent_servers_refusal_is_told_without_secrets_nor_parts_of_them() {
    let stage = Stage::new(json!({})).await;
    // The second one is where the words are cut.
    let words = format!("no room for {SECRET} {}{SECRET}", "x".repeat(255));
    stage.agent.answer(|said| said.refusal = Some(words));
    let mut work = stage.work_with_turn(&stage.session, 1, &stage.object.url);
    work["workspace"]["env"] = json!({ "KEY": SECRET });
    let outcome = stage.outcome(&work).await;
    let message = outcome["message"].as_str().unwrap();
    assert!(
        message.contains("the agent server answered 500 Internal Server Error: no room for [redacted] x"),
        "{message}"
    );
    assert!(!message.contains("a-key"), "{message}");
    assert!(!json!(stage.object.log()).to_string().contains("a-key"));
}
