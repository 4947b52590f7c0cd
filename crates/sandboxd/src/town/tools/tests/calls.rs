//! Each tool: the call that it makes.

use super::*;

/// Tool, what the model gives, and the call: method, path, body.
type Row = (&'static str, Value, &'static str, &'static str, Value);

fn rig_rows() -> Vec<Row> {
    const R: &str = "/api/towns/t1/rigs/r1";
    let own = |verb: &str| -> &'static str { format!("{R}/agents/a1/{verb}").leak() };
    let rig = |path: &str| -> &'static str { format!("{R}/{path}").leak() };
    let mail = json!({ "to_agent_id": "a2", "subject": "s", "body": "b" });
    vec![
        ("prime", json!({}), "GET", own("prime"), Value::Null),
        ("bead_status", json!({ "bead_id": "b1" }), "GET", rig("beads/b1"), Value::Null),
        ("bead_close", json!({ "bead_id": "b1" }), "POST", rig("beads/b1/close"), json!({ "agent_id": "a1" })),
        (
            "done",
            json!({ "branch": "gt/a/1", "pr_url": "https://x/1", "summary": "did" }),
            "POST",
            own("done"),
            json!({ "bead_id": "b7", "branch": "gt/a/1", "pr_url": "https://x/1", "summary": "did" }),
        ),
        (
            "done",
            json!({ "branch": "b", "pr_url": null }),
            "POST",
            own("done"),
            json!({ "bead_id": "b7", "branch": "b" }),
        ),
        ("done", json!({ "branch": null }), "POST", own("done"), json!({ "bead_id": "b7", "branch": "gt/a/1" })),
        (
            "done",
            json!({ "summary": "s" }),
            "POST",
            own("done"),
            json!({ "bead_id": "b7", "branch": "gt/a/1", "summary": "s" }),
        ),
        (
            "mail_send",
            mail,
            "POST",
            rig("mail"),
            json!({ "from_agent_id": "a1", "to_agent_id": "a2", "subject": "s", "body": "b" }),
        ),
        ("mail_check", json!({}), "GET", own("mail"), Value::Null),
        (
            "escalate",
            json!({ "title": "t", "body": "b", "priority": "high", "metadata": { "a": 1 } }),
            "POST",
            rig("escalations"),
            json!({ "title": "t", "body": "b", "priority": "high", "metadata": { "a": 1 } }),
        ),
        ("checkpoint", json!({ "data": "{\"a\":1}" }), "POST", own("checkpoint"), json!({ "data": { "a": 1 } })),
        ("mol_current", json!({}), "GET", own("molecule/current"), Value::Null),
        ("mol_advance", json!({ "summary": "s" }), "POST", own("molecule/advance"), json!({ "summary": "s" })),
        (
            "nudge",
            json!({ "target_agent_id": "a2", "message": "m", "mode": "immediate" }),
            "POST",
            rig("nudge"),
            json!({ "target_agent_id": "a2", "message": "m", "mode": "immediate" }),
        ),
        ("status", json!({ "message": "m" }), "POST", own("status"), json!({ "message": "m" })),
    ]
}

fn mayor_rows() -> Vec<Row> {
    let tools = |path: &str| -> &'static str { format!("/api/mayor/t1/tools/{path}").leak() };
    let same = json!({ "rig_id": "r2", "title": "t", "body": "b", "metadata": { "a": 1 }, "labels": ["l"] });
    let batch = json!({
        "rig_id": "r2", "convoy_title": "c", "tasks": [{ "title": "t" }, { "title": "u", "depends_on": [0] }],
        "merge_mode": "review-then-land", "parallel": false, "staged": true
    });
    vec![
        ("sling", same.clone(), "POST", tools("sling"), same),
        ("sling_batch", batch.clone(), "POST", tools("sling-batch"), batch),
        ("list_rigs", json!({}), "GET", tools("rigs"), Value::Null),
        (
            "list_beads",
            json!({ "rig_id": "r2", "status": "in_progress", "type": "issue", "limit": 5, "offset": 10 }),
            "GET",
            tools("rigs/r2/beads?status=in_progress&type=issue&limit=5&offset=10"),
            Value::Null,
        ),
        ("list_agents", json!({ "rig_id": "r2" }), "GET", tools("rigs/r2/agents"), Value::Null),
        ("list_convoys", json!({}), "GET", tools("convoys"), Value::Null),
        ("convoy_status", json!({ "convoy_id": "c1" }), "GET", tools("convoys/c1"), Value::Null),
        ("convoy_start", json!({ "convoy_id": "c1" }), "POST", tools("convoys/c1/start"), json!({})),
        ("convoy_close", json!({ "convoy_id": "c1" }), "POST", tools("convoys/c1/close"), json!({})),
        (
            "convoy_update",
            json!({ "convoy_id": "c1", "merge_mode": "review-and-merge", "feature_branch": "f" }),
            "PATCH",
            tools("convoys/c1"),
            json!({ "merge_mode": "review-and-merge", "feature_branch": "f" }),
        ),
        (
            "convoy_add_bead",
            json!({ "convoy_id": "c1", "bead_id": "b1", "depends_on": ["b0"] }),
            "POST",
            tools("convoys/c1/add-bead"),
            json!({ "bead_id": "b1", "depends_on": ["b0"] }),
        ),
        (
            "convoy_remove_bead",
            json!({ "convoy_id": "c1", "bead_id": "b1" }),
            "POST",
            tools("convoys/c1/remove-bead"),
            json!({ "bead_id": "b1" }),
        ),
        (
            "mail_send",
            json!({ "rig_id": "r2", "to_agent_id": "a2", "subject": "s", "body": "b" }),
            "POST",
            tools("mail"),
            json!({ "rig_id": "r2", "from_agent_id": "a1", "to_agent_id": "a2", "subject": "s", "body": "b" }),
        ),
        (
            "nudge",
            json!({ "rig_id": "r2", "target_agent_id": "a2", "message": "m" }),
            "POST",
            "/api/towns/t1/rigs/r2/nudge",
            json!({ "target_agent_id": "a2", "message": "m" }),
        ),
        (
            "bead_update",
            json!({
                "rig_id": "r2", "bead_id": "b1", "title": "t", "body": "b", "priority": "low", "labels": ["l"],
                "status": "open", "metadata": {}, "new_rig_id": "r3", "parent_bead_id": "b0", "depends_on": ["b2"]
            }),
            "PATCH",
            tools("rigs/r2/beads/b1"),
            json!({
                "title": "t", "body": "b", "priority": "low", "labels": ["l"], "status": "open", "metadata": {},
                "rig_id": "r3", "parent_bead_id": "b0", "depends_on": ["b2"]
            }),
        ),
        (
            "bead_reassign",
            json!({ "rig_id": "r2", "bead_id": "b1", "agent_id": "a2" }),
            "POST",
            tools("rigs/r2/beads/b1/reassign"),
            json!({ "agent_id": "a2" }),
        ),
        (
            "bead_delete",
            json!({ "rig_id": "r2", "bead_ids": ["b1", "b2"] }),
            "POST",
            tools("rigs/r2/beads/bulk-delete"),
            json!({ "bead_ids": ["b1", "b2"] }),
        ),
        (
            "agent_reset",
            json!({ "rig_id": "r2", "agent_id": "a2" }),
            "POST",
            tools("rigs/r2/agents/a2/reset"),
            json!({}),
        ),
        (
            "escalation_acknowledge",
            json!({ "escalation_id": "e1" }),
            "POST",
            tools("escalations/e1/acknowledge"),
            json!({}),
        ),
        (
            "ui_action",
            json!({ "action_json": "{\"type\":\"navigate\",\"page\":\"beads\"}" }),
            "POST",
            tools("ui-action"),
            json!({ "action": { "type": "navigate", "page": "beads" } }),
        ),
    ]
}

async fn check(stage: &Stage, role: &Role, rows: &[Row]) {
    for (tool, arguments, method, path, body) in rows {
        let (said, is_error) = stage.call(role, tool, arguments.clone()).await;
        assert!(!is_error, "{tool}: {said}");
        assert_eq!(serde_json::from_str::<Value>(&said).unwrap(), json!({ "asked": path }), "{tool}");
        let expected = Called {
            method: (*method).to_owned(),
            path: (*path).to_owned(),
            bearer: "container-token".to_owned(),
            agent: "a1".to_owned(),
            rig: "r1".to_owned(),
            body: body.clone(),
        };
        assert_eq!(stage.calls(), [expected], "{tool}");
    }
}

#[tokio::test]
async fn each_tool_makes_its_call() {
    let stage = Stage::new().await;
    let (mut rows, mayors) = (rig_rows(), mayor_rows());
    check(&stage, &Role::Polecat, &rows).await;
    check(&stage, &Role::Mayor, &mayors).await;
    let feedback = json!({ "feedback": "f", "files": ["a.rs"] });
    let changes =
        ("request_changes", feedback.clone(), "POST", "/api/towns/t1/rigs/r1/agents/a1/request-changes", feedback);
    check(&stage, &Role::Refinery, std::slice::from_ref(&changes)).await;
    let decision = json!({ "triage_request_bead_id": "b1", "action": "RESTART", "resolution_notes": "n" });
    let resolved = ("triage_resolve", decision.clone(), "POST", "/api/towns/t1/rigs/r1/triage/resolve", decision);
    check(&stage, &triage(), std::slice::from_ref(&resolved)).await;

    // And there is none that was not checked.
    rows.extend([changes, resolved]);
    for (role, rows) in [(Role::Polecat, &rows), (Role::Refinery, &rows), (triage(), &rows), (Role::Mayor, &mayors)] {
        for tool in tools_of(&role) {
            assert!(rows.iter().any(|row| row.0 == tool.name), "{}", tool.name);
        }
    }
}

#[tokio::test]
async fn an_agent_ends_its_work_on_the_bead_that_it_was_started_for_and_on_none_without() {
    let stage = Stage::new().await;
    let done = async |bead: Option<&str>| {
        let bead = bead.map(|bead| BeadId::parse(bead).unwrap());
        let server =
            stage.tools.admit(&place(), &Role::Polecat, Work { bead, ..stage.work() }, stage.address)["gt"].take();
        let call = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call",
            "params": { "name": "done", "arguments": {} } });
        let request = stage.client.post(server["url"].as_str().unwrap()).json(&call);
        request.header("authorization", server["headers"]["Authorization"].as_str().unwrap()).send().await.unwrap();
        stage.calls().remove(0).body
    };
    assert_eq!(done(Some("b8")).await, json!({ "bead_id": "b8", "branch": "gt/a/1" }));
    assert_eq!(done(None).await, json!({ "branch": "gt/a/1" }));
}

#[tokio::test]
async fn what_a_model_gives_wrongly_is_told_and_not_sent() {
    let stage = Stage::new().await;
    for (role, tool, arguments, wrong) in [
        (Role::Polecat, "bead_close", json!({}), "bead_id is missing"),
        (Role::Polecat, "done", json!({ "branch": 7 }), "branch must be a string"),
        (Role::Polecat, "done", json!({ "branch": "b", "force": true }), "force is no input of this tool"),
        (Role::Polecat, "done", json!({ "bead_id": "b1" }), "bead_id is no input of this tool"),
        (Role::Polecat, "bead_status", json!({ "bead_id": "../../other" }), "bead_id must be an id"),
        (Role::Polecat, "bead_status", json!({ "bead_id": "{agent}" }), "bead_id must be an id"),
        (Role::Polecat, "checkpoint", json!({ "data": "{" }), "data is not JSON"),
        (Role::Polecat, "escalate", json!({ "title": "t", "priority": "now" }), "priority must be one of low, medium"),
        (Role::Polecat, "escalate", json!({ "title": "t", "metadata": [] }), "metadata must be an object"),
        (Role::Mayor, "list_beads", json!({ "rig_id": "r", "limit": -1 }), "limit must be a whole number"),
        (Role::Mayor, "bead_delete", json!({ "rig_id": "r", "bead_ids": [1] }), "bead_ids must be a list of strings"),
        (
            Role::Mayor,
            "sling_batch",
            json!({ "rig_id": "r", "convoy_title": "c", "tasks": ["t"] }),
            "tasks must be a list of tasks",
        ),
    ] {
        let (said, is_error) = stage.call(&role, tool, arguments).await;
        assert!(is_error && said.contains(wrong), "{tool}: {said}");
    }
    assert!(stage.calls().is_empty());
}

#[tokio::test]
async fn an_expired_token_is_exchanged_once_and_the_call_repeated() {
    let stage = Stage::new().await;
    let expired = json!({ "success": false, "error": "Token expired" });
    stage.will_answer(401, expired.clone());
    stage.will_answer(200, json!({ "success": true, "data": { "token": "fresh-token" } }));
    let (said, is_error) = stage.call(&Role::Polecat, "status", json!({ "message": "m" })).await;
    assert!(!is_error, "{said}");
    let made: Vec<(String, String)> = stage.calls().into_iter().map(|call| (call.path, call.bearer)).collect();
    let status = "/api/towns/t1/rigs/r1/agents/a1/status".to_owned();
    let refresh = "/api/towns/t1/refresh-container-token".to_owned();
    let old = || "container-token".to_owned();
    assert_eq!(made, [(status.clone(), old()), (refresh, old()), (status, "fresh-token".to_owned())]);

    // Once: a town that does not want the new one either has said so.
    stage.will_answer(401, expired.clone());
    stage.will_answer(200, json!({ "success": true, "data": { "token": "third-token" } }));
    stage.will_answer(401, expired);
    let said = stage.call(&Role::Polecat, "status", json!({ "message": "m" })).await;
    assert_eq!(said, ("Token expired (401)".to_owned(), true));
    assert_eq!(stage.calls().len(), 3);
}

#[tokio::test]
async fn what_the_town_refuses_is_told_in_its_words() {
    let stage = Stage::new().await;
    stage.will_answer(403, json!({ "success": false, "error": "agent_id does not match authenticated agent" }));
    let said = stage.call(&Role::Polecat, "bead_close", json!({ "bead_id": "b1" })).await;
    assert_eq!(said, ("agent_id does not match authenticated agent (403)".to_owned(), true));
    stage.will_answer(404, json!({ "success": false, "error": "No active molecule for this agent" }));
    let said = stage.call(&Role::Polecat, "mol_current", json!({})).await;
    assert_eq!(said, ("Your bead follows no molecule.".to_owned(), false));
}
