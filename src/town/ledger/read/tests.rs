use super::*;
use crate::town::route::TownRoute;
use crate::town::table::TABLE;
use crate::town::table::Target;
use serde_json::Value;
use serde_json::json;
use town_core::message::bead::BeadChanges;
use town_core::message::call::AgentCall;
use town_core::message::call::BeadCall;
use town_core::message::call::TalkCall;
use town_core::message::call::WorkCall;

/// What `path?query` with `body` asks, if `agent` is known to ask.
fn asks(method: &str, path: &str, agent: &str, body: &[u8]) -> Result<Ask, TownError> {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let query = query.split('&').filter_map(|pair| pair.split_once('='));
    let query = Query(query.map(|(key, value)| (key.into(), value.into())).collect());
    let route = TownRoute::parse(method, &path.split('/').collect::<Vec<_>>()).unwrap();
    let Target::Ledger(op) = route.target else { panic!("{path} is not for the ledger") };
    let caller = Caller::Inside(AgentId::parse(agent).ok());
    Asked { op, guard: route.guard, ids: &route.ids, caller: &caller, query: &query, body }.read()
}

fn calls(method: &str, path: &str, body: Value) -> Vec<Call> {
    match asks(method, path, "a1", body.to_string().as_bytes()).unwrap_or_else(|error| panic!("{path}: {error:?}")) {
        Ask::Town(calls) => calls,
        other => panic!("{other:?}"),
    }
}

fn call(method: &str, path: &str, body: Value) -> Call {
    calls(method, path, body).pop().unwrap()
}

/// Status, text, and the field that is wrong.
fn refusal(method: &str, path: &str, body: Value) -> (u16, String, &'static str) {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let error = asks(method, path, "a1", body.as_bytes()).unwrap_err();
    let field = if let TownError::Invalid { field, .. } = &error { field } else { "-" };
    (error.status(), error.to_string(), field)
}

fn wrong(field: &'static str) -> (u16, String, &'static str) {
    (400, "Invalid request body".into(), field)
}

fn rig() -> RigId {
    RigId::parse("r").unwrap()
}

fn agent(id: &str) -> AgentId {
    AgentId::parse(id).unwrap()
}

fn bead(id: &str) -> BeadId {
    BeadId::parse(id).unwrap()
}

const RIG: &str = "towns/t/rigs/r";
const TOOLS: &str = "mayor/t/tools";

#[test]
fn every_row_of_the_ledger_reads_its_ids_before_its_body() {
    // All that any body needs.
    let body = json!({
        "action": "RESTART", "agent_id": "a1", "bead_id": "b", "bead_ids": ["b"], "beads": [{"bead_id": "b"}], "body": "x",
        "branch": "b", "agent_name": "n", "saved_at": "now", "convoyId": "c", "convoy_title": "t", "feedback": "f",
        "formula": [{"title": "t", "instructions": "i"}], "from_agent_id": "a1", "identity": "i", "merge_mode": "review-and-merge",
        "message": "m", "name": "n", "nonce": "n", "nudge_id": "n", "rig_id": "r", "role": "polecat", "subject": "s",
        "summary": "s", "target_agent_id": "a1", "tasks": [{"title": "t"}], "title": "t", "to_agent_id": "a2",
        "triage_request_bead_id": "b", "type": "issue"
    });
    for (method, pattern, _, target) in TABLE.iter().filter(|(.., target)| matches!(target, Target::Ledger(_))) {
        let path = pattern.replace(['{', '}'], "");
        let mut body = body.clone();
        body["status"] = json!(if path.ends_with("completed") { "completed" } else { "failed" });
        if path.ends_with("review-queue/bead/complete") {
            body["status"] = json!("merged");
        }
        if path.ends_with("ui-action") {
            body["action"] = json!({"type": "navigate", "page": "beads"});
        }
        let asked = asks(method, &path.replace("{agent}", "a1"), "", body.to_string().as_bytes());
        let as_agent = asks(method, &path, "a1", body.to_string().as_bytes());
        assert!(asked.is_ok() || as_agent.is_ok(), "{method} {path} {target:?}: {asked:?}");
    }
}

#[test]
fn a_new_bead_gets_the_rig_of_its_path_and_the_agent_that_asks() {
    let all = json!({"type": "issue", "title": "t", "body": "b", "priority": "high", "labels": ["l"], "metadata": {"k": 1},
        "assignee_agent_id": "a2", "convoy_id": "c"});
    let Call::Bead(BeadCall::Create(new)) = call("POST", "towns/t/rigs/r/beads", all) else { panic!() };
    assert_eq!((new.rig, new.assignee, new.convoy), (Some(rig()), Some(agent("a2")), Some(bead("c"))));
    assert_eq!((new.title.as_str(), new.created_by.as_deref(), new.priority), ("t", Some("a1"), Priority::High));
    assert_eq!((new.labels, new.metadata.get("k")), (vec!["l".to_owned()], Some(&json!(1))));
    for (field, bad) in [("type", json!("task")), ("title", json!("")), ("priority", json!(1)), ("labels", json!("l"))]
    {
        let mut body = json!({"type": "issue", "title": "t"});
        body[field] = bad;
        assert_eq!(refusal("POST", "towns/t/rigs/r/beads", body), wrong(field));
    }
    assert_eq!(refusal("POST", "towns/t/rigs/r/beads", Value::Null), wrong(""));
}

#[test]
fn listings_are_filtered_and_paged() {
    let list =
        call("GET", &format!("{RIG}/beads?status=open&type=issue&limit=5&offset=2&assignee_agent_id=a2"), json!({}));
    let Call::Bead(BeadCall::List { rig: of, status, kind, assignee, limit, offset }) = list else { panic!() };
    assert_eq!((of, assignee, limit, offset), (Some(rig()), Some(agent("a2")), 5, 2));
    assert!(status.is_some() && kind.is_some());
    let text = |query: &str| refusal("GET", &format!("{RIG}/{query}"), json!({})).1;
    assert_eq!(text("beads?limit=-1"), "limit and offset must be non-negative integers");
    assert_eq!(text("beads?offset=x"), "limit and offset must be non-negative integers");
    assert_eq!(text("beads?status=done"), "Invalid status or type filter");
    assert_eq!(text("agents?role=clown"), "Invalid role or status filter");
    let events = call("GET", &format!("{RIG}/events?since=2026-01-01T00:00:00Z&bead_id=b"), json!({}));
    let since = protocol::time::parse_iso8601("2026-01-01T00:00:00Z");
    assert_eq!(events, Call::Bead(BeadCall::Events { bead: Some(bead("b")), since, limit: 100 }));
}

#[test]
fn nobody_acts_for_another_agent() {
    for (method, path, body, text) in [
        (
            "PATCH",
            "beads/b/status",
            json!({"status": "closed", "agent_id": "a2"}),
            "agent_id does not match authenticated agent",
        ),
        ("POST", "beads/b/close", json!({"agent_id": "a2"}), "agent_id does not match authenticated agent"),
        (
            "POST",
            "review-queue",
            json!({"agent_id": "a2", "bead_id": "b", "branch": "x"}),
            "agent_id does not match authenticated agent",
        ),
        (
            "POST",
            "mail",
            json!({"from_agent_id": "a2", "to_agent_id": "a1", "subject": "s", "body": "b"}),
            "from_agent_id does not match authenticated agent",
        ),
    ] {
        assert_eq!(refusal(method, &format!("{RIG}/{path}"), body.clone()), (403, text.into(), "-"));
        assert!(
            asks(method, &format!("{RIG}/{path}"), "", body.to_string().as_bytes()).is_ok(),
            "nobody in particular may"
        );
    }
    let notes = json!({"triage_request_bead_id": "b", "action": "restart"});
    let nobody = asks("POST", "towns/t/rigs/r/triage/resolve", "", notes.to_string().as_bytes()).unwrap_err();
    assert_eq!((nobody.status(), nobody.to_string()), (401, "Agent authentication required".into()));
}

#[test]
fn a_receipt_of_an_eviction_may_be_short_or_long() {
    let path = "towns/t/rigs/r/agents/a1/eviction-context";
    let mut body = json!({"branch": "b", "agent_name": "Toast", "saved_at": "now"});
    let read = |body| match call("POST", path, body) {
        Call::Agent(AgentCall::EvictionContext { bead, receipt, .. }) => (bead, receipt),
        other => panic!("{other:?}"),
    };
    let (bead, receipt) = read(body.clone());
    assert_eq!((bead, receipt.commit, receipt.pushed, receipt.reason), (None, None, None, None));
    for (field, value) in
        [("bead_id", json!("b1")), ("commit", json!(null)), ("pushed", json!(false)), ("reason", json!("no network"))]
    {
        body[field] = value;
    }
    let (bead, receipt) = read(body);
    assert_eq!(bead.unwrap().as_str(), "b1");
    assert_eq!((receipt.commit, receipt.pushed, receipt.reason), (None, Some(false), Some("no network".into())));
    assert_eq!(refusal("POST", path, json!({"branch": "b"})), wrong("agent_name"));
}

#[test]
fn a_formula_is_a_list_or_has_one() {
    let step = json!({"title": "t", "instructions": "i"});
    for formula in [json!([step]), json!({"steps": [step]})] {
        let made = call("POST", "towns/t/rigs/r/molecules", json!({"bead_id": "b", "formula": formula}));
        let Call::Work(WorkCall::CreateMolecule { steps, .. }) = made else { panic!() };
        assert_eq!(steps.len(), 1);
    }
    for formula in [json!([]), json!({}), json!([{"title": "t"}])] {
        let body = json!({"bead_id": "b", "formula": formula});
        assert_eq!(refusal("POST", "towns/t/rigs/r/molecules", body), wrong("formula"));
    }
}

#[test]
fn a_tool_of_the_mayor_is_for_rigs_of_the_town() {
    let condition = Call::Town(TownCall::Rig { rig: rig() });
    for (method, path, body) in [
        ("POST", "sling", json!({"rig_id": "r", "title": "t"})),
        ("POST", "mail", json!({"rig_id": "r", "from_agent_id": "m", "to_agent_id": "a", "subject": "s", "body": "b"})),
        ("GET", "rigs/r/beads", json!({})),
        ("POST", "rigs/r/agents/a/reset", json!({})),
        ("POST", "ui-action", json!({"action": {"type": "highlight_bead", "beadId": "b", "rigId": "r"}})),
    ] {
        let calls = calls(method, &format!("{TOOLS}/{path}"), body);
        assert_eq!((calls.len(), calls.first()), (2, Some(&condition)), "{path}");
    }
    assert_eq!(calls("GET", "mayor/t/tools/convoys", json!({})).len(), 1);
    assert_eq!(calls("GET", "towns/t/rigs/r/beads", json!({})).len(), 1, "the guard of a rig is enough there");
    assert_eq!(refusal("POST", "mayor/t/tools/sling", json!({"title": "t"})), wrong("rig_id"));
}

#[test]
fn a_batch_says_in_which_order() {
    let batch =
        |tasks: Value, parallel| json!({"rig_id": "r", "convoy_title": "c", "tasks": tasks, "parallel": parallel});
    let (one, two) = (json!({"title": "1"}), json!({"title": "2"}));
    let path = "mayor/t/tools/sling-batch";
    for bad in [batch(json!([]), false), batch(json!([one, two]), false), batch(json!(vec![one.clone(); 51]), true)] {
        assert_eq!(refusal("POST", path, bad), wrong("tasks"));
    }
    let after = json!({"title": "2", "depends_on": [0]});
    for good in [batch(json!([one]), false), batch(json!([one, two]), true), batch(json!([one, after]), false)] {
        let Call::Work(WorkCall::SlingConvoy { tasks, .. }) = call("POST", path, good) else { panic!() };
        assert!(!tasks.is_empty());
    }
    assert_eq!(refusal("POST", path, batch(json!([{"title": "1", "depends_on": [-1]}]), true)), wrong("depends_on"));
}

#[test]
fn an_update_changes_at_least_one_field_and_null_empties_the_body() {
    let path = "mayor/t/tools/rigs/r/beads/b";
    let Call::Bead(BeadCall::Update { changes, .. }) = call("PATCH", path, json!({"body": null})) else { panic!() };
    assert_eq!(changes, BeadChanges { body: Some(None), ..BeadChanges::default() });
    assert_eq!(refusal("PATCH", path, json!({})), wrong(""));
    assert_eq!(refusal("PATCH", path, json!({"title": ""})), wrong("title"));
    assert_eq!(refusal("PATCH", path, json!({"depends_on": ["../x"]})), wrong("depends_on"));
    assert_eq!(refusal("PATCH", "mayor/t/tools/convoys/c", json!({})), wrong(""));
}

#[test]
fn what_is_asked_of_the_mayor_of_screens_and_of_nudges() {
    for action in
        [json!({"type": "dance"}), json!({"type": "navigate", "page": "moon"}), json!({"type": "open_bead_drawer"})]
    {
        assert_eq!(refusal("POST", "mayor/t/tools/ui-action", json!({"action": action})), wrong("action"));
    }
    let done = |body| call("POST", "towns/t/mayor/completed", body);
    let completed = |agent, success| Call::Agent(AgentCall::Completed { agent, bead: None, success, reason: None });
    assert_eq!(done(json!({"status": "completed"})), completed(None, true), "no agent is the mayor");
    assert_eq!(done(json!({"status": "failed", "agentId": "m"})), completed(Some(agent("m")), false));
    assert_eq!(
        refusal("POST", "towns/t/rigs/r/agents/a/completed", json!({"status": "completed", "bead_id": ""})),
        wrong("bead_id")
    );
    let nudge = call("POST", "towns/t/rigs/r/nudge", json!({"target_agent_id": "a2", "message": "m", "mode": "queue"}));
    let Call::Talk(TalkCall::Nudge { mode, source, .. }) = nudge else { panic!() };
    assert_eq!((mode.as_str(), source.as_str()), ("queue", "agent"));
    assert_eq!(asks("POST", "towns/t/mayor/configure", "", b"").unwrap(), Ask::Nothing);
}

#[test]
fn a_done_names_the_bead_of_its_run_or_none() {
    const DONE: &str = "towns/t/rigs/r/agents/a1/done";
    let done = |bead| {
        let (branch, pr_url, summary) = ("b".to_owned(), None, None);
        Call::Agent(AgentCall::Done { agent: agent("a1"), bead, branch, pr_url, summary })
    };
    assert_eq!(call("POST", DONE, json!({"branch": "b", "bead_id": "b7"})), done(Some(bead("b7"))));
    assert_eq!(call("POST", DONE, json!({"branch": "b", "bead_id": null})), done(None));
    assert_eq!(call("POST", DONE, json!({"branch": "b"})), done(None));
    assert_eq!(refusal("POST", DONE, json!({"branch": "b", "bead_id": "../b"})), wrong("bead_id"));
}
