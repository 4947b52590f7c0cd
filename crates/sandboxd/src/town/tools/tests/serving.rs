//! Who may call, and what the protocol answers.

use super::*;

#[tokio::test]
async fn a_role_sees_its_tools_and_no_others() {
    let stage = Stage::new().await;
    let mut names = Vec::new();
    for role in [Role::Polecat, Role::Refinery, triage(), Role::Mayor] {
        let answer = stage.ask(&role, "tools/list", json!({})).await;
        let list = answer["result"]["tools"].as_array().unwrap().clone();
        for tool in &list {
            assert_eq!(tool["inputSchema"]["type"], "object", "{tool}");
            assert!(tool["description"].as_str().is_some_and(|about| about.len() > 10), "{tool}");
        }
        names.push(list.iter().map(|tool| tool["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>());
    }
    let has = |role: usize, tool: &str| names[role].iter().any(|name| name == tool);
    assert_eq!([0, 1, 2, 3].map(|role| has(role, "request_changes")), [false, true, false, false]);
    assert_eq!([0, 1, 2, 3].map(|role| has(role, "triage_resolve")), [false, false, true, false]);
    assert_eq!([0, 1, 2, 3].map(|role| has(role, "sling")), [false, false, false, true]);
    assert_eq!([0, 1, 2, 3].map(|role| has(role, "done")), [true, true, true, false]);

    let answer = stage.ask(&Role::Polecat, "tools/call", json!({ "name": "sling", "arguments": {} })).await;
    assert_eq!(answer["error"]["message"], "there is no tool sling");
    assert!(stage.calls().is_empty());
}

#[tokio::test]
async fn a_schema_says_what_must_be_given() {
    let stage = Stage::new().await;
    let answer = stage.ask(&Role::Polecat, "tools/list", json!({})).await;
    let escalate =
        answer["result"]["tools"].as_array().unwrap().iter().find(|tool| tool["name"] == "escalate").cloned();
    let schema = &escalate.unwrap()["inputSchema"];
    assert_eq!(schema["required"], json!(["title"]));
    assert_eq!(schema["properties"]["body"]["type"], "string");
    assert_eq!(schema["additionalProperties"], false);
}

#[tokio::test]
async fn the_protocol_is_spoken() {
    let stage = Stage::new().await;
    let hello =
        json!({ "protocolVersion": "2025-03-26", "capabilities": {}, "clientInfo": { "name": "c", "version": "1" } });
    let answer = stage.ask(&Role::Polecat, "initialize", hello).await;
    assert_eq!(answer["result"]["protocolVersion"], "2025-03-26");
    assert_eq!(answer["result"]["capabilities"], json!({ "tools": {} }));
    assert_eq!(stage.ask(&Role::Polecat, "ping", json!({})).await["result"], json!({}));
    let unknown = stage.ask(&Role::Polecat, "resources/list", json!({})).await;
    assert_eq!(unknown["error"]["code"], -32601);

    let (url, authorization) = stage.admit(&Role::Polecat);
    let post = |body: &'static str| {
        stage
            .client
            .post(&url)
            .header("authorization", &authorization)
            .header("content-type", "application/json")
            .body(body)
    };
    let notified = post(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#).send().await.unwrap();
    assert_eq!((notified.status(), notified.bytes().await.unwrap().len()), (StatusCode::ACCEPTED, 0));
    assert_eq!(post("{").send().await.unwrap().status(), StatusCode::BAD_REQUEST);
    let listening = stage.client.get(&url).header("authorization", &authorization).send().await.unwrap();
    assert_eq!(listening.status(), StatusCode::METHOD_NOT_ALLOWED, "there is nothing that the server begins itself");
}

#[tokio::test]
async fn only_the_agent_itself_may_call_and_only_while_it_runs() {
    let stage = Stage::new().await;
    let (url, authorization) = stage.admit(&Role::Polecat);
    let status = async |url: &str, authorization: &str| {
        let ping = json!({ "jsonrpc": "2.0", "id": 1, "method": "ping" });
        let call = stage.client.post(url).header("authorization", authorization).json(&ping);
        call.send().await.unwrap().status()
    };
    assert_eq!(status(&url, &authorization).await, StatusCode::OK);
    assert_eq!(stage.admit(&Role::Polecat), (url.clone(), authorization.clone()), "the same until it is forgotten");
    let other = Place { agent: AgentId::parse("a2").unwrap(), ..place() };
    let other = stage.tools.admit(&other, &Role::Mayor, stage.work(), stage.address);
    let others = other["gt"]["headers"]["Authorization"].as_str().unwrap();
    for (url, authorization) in [
        (url.as_str(), others),
        (&url, "Bearer sandbox-token"),
        (&url, "Bearer container-token"),
        (&url, "Bearer "),
        (&url.replace("/a1", "/nobody"), &authorization),
        (&url.replace("/a1", "/a1%2F"), &authorization),
    ] {
        assert_eq!(status(url, authorization).await, StatusCode::UNAUTHORIZED, "{url} {authorization}");
    }
    assert_ne!(stage.admit(&Role::Mayor).1, authorization, "a role is not taken over");
    stage.tools.forget(&place().agent);
    assert_eq!(status(&url, &authorization).await, StatusCode::UNAUTHORIZED);
}
