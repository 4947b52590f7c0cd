//! What `updateSession` may change, and when: spec/session.md 2.7, 11.2, 11.3.

use super::*;
use protocol::id::BranchName;
use protocol::trpc::parse_update_session;

const ADMITS: Admits = Admits { loopback: false, callback_url: crate::callback::check_url };

fn update(world: &mut World, fields: Value) -> Result<(), String> {
    let mut input = json!({"cloudAgentSessionId": SESSION});
    input.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    let changes = parse_update_session(&input, ADMITS).unwrap().changes;
    let reply = world.call(Call::Update(changes));
    world.reply(reply).unwrap().map(drop).map_err(|error| error.message)
}

fn full() -> Value {
    json!({
        "variant": "high", "upstreamBranch": "topic", "appendSystemPrompt": "be brief", "gitToken": "t",
        "envVars": {"A": "1"}, "setupCommands": ["true"], "mcpServers": {"s": {"type": "local", "command": ["x"]}},
    })
}

#[test]
fn null_clears_scalars_and_empty_clears_collections() {
    let mut world = World::prepared(full());
    let scalars = json!({"variant": null, "upstreamBranch": null, "appendSystemPrompt": null, "gitToken": null});
    update(&mut world, scalars).unwrap();
    update(&mut world, json!({"envVars": {}, "setupCommands": [], "mcpServers": {}})).unwrap();
    let view = world.view();
    for count in ["envVarCount", "setupCommandCount", "mcpServerCount"] {
        assert_eq!(view[count], 0, "{count}");
    }
    world.call(Call::Initiate);
    let work = world.asked_work();
    let (plan, turn) = (work.workspace, work.turn.unwrap());
    assert_eq!((plan.upstream_branch, plan.append_system_prompt, plan.git_token), (None, None, None));
    assert!(plan.env.is_empty() && plan.setup_commands.is_empty());
    assert_eq!(turn.variant, None);
}

#[test]
fn what_is_set_reaches_the_container_and_what_is_absent_is_kept() {
    let mut world = World::prepared(full());
    update(&mut world, json!({"envVars": {"B": "2", "C": "3"}, "mode": "plan", "autoCommit": true})).unwrap();
    let view = world.view();
    assert_eq!(
        (&view["envVarCount"], &view["setupCommandCount"], &view["mode"]),
        (&json!(2), &json!(1), &json!("plan"))
    );
    world.call(Call::Initiate);
    let work = world.asked_work();
    let env: Vec<_> = work.workspace.env.iter().map(|(name, value)| (name.as_str(), value.expose())).collect();
    assert_eq!(env, [("B", "2"), ("C", "3")]);
    let turn = work.turn.unwrap();
    assert_eq!((turn.agent.as_str(), turn.auto_commit, turn.variant.as_deref()), ("plan", true, Some("high")));
}

#[test]
fn another_upstream_branch_takes_the_place_of_the_one_that_was_prepared() {
    let mut world = World::prepared(full());
    update(&mut world, json!({"upstreamBranch": "topic", "model": "other"})).unwrap();
    assert_eq!(world.view()["upstreamBranch"], "session/x", "it is the same");
    update(&mut world, json!({"upstreamBranch": "release"})).unwrap();
    assert_eq!(world.view()["upstreamBranch"], "release");
    world.call(Call::Initiate);
    let plan = world.asked_work().workspace;
    assert_eq!((plan.upstream_branch.as_ref().map(BranchName::as_str), plan.last_branch), (Some("release"), None));
}

#[test]
fn before_preparation_and_after_initiation_nothing_is_changed() {
    let mut world = World::new();
    world.register(json!({"variant": "high"}));
    assert_eq!(update(&mut world, json!({"variant": "low"})), Err("Session has not been prepared".into()));
    world.done("directory/add");
    let work = world.asked_work();
    world.finish_work(&work, 1);
    world.call(Call::Initiate);
    assert_eq!(update(&mut world, json!({"variant": "low"})), Err("Session has already been initiated".into()));
    assert_eq!(update(&mut world, json!({})), Err("Session has already been initiated".into()));
    assert_eq!(world.view()["variant"], "high");
}

#[test]
fn after_initiation_the_callback_alone_may_change_and_the_next_end_goes_there() {
    let (mut world, execution, _) = World::running();
    let both = json!({"callbackTarget": {"url": "https://hook.example/x"}, "variant": "low"});
    assert_eq!(update(&mut world, both), Err("Session has already been initiated".into()));
    update(&mut world, json!({"callbackTarget": {"url": "https://hook.example/x"}})).unwrap();
    world.complete(&execution);
    let told = world.alarm().into_iter().any(
        |output| matches!(output, Output::Perform { effect: Effect::Callback(post), .. } if post.target.url == "https://hook.example/x"),
    );
    assert!(told);
}

#[test]
fn each_update_moves_the_version() {
    let mut world = World::prepared(json!({}));
    let before = world.view();
    world.pass(10);
    update(&mut world, json!({"model": "n"})).unwrap();
    let after = world.view();
    assert_eq!((&after["version"], &after["timestamp"]), (&json!(world.now), &json!(world.now)));
    assert!(before["version"].as_i64() < after["version"].as_i64());
    assert_eq!(after["preparedAt"], before["preparedAt"], "prepared once");
}

#[test]
fn custom_mode_and_its_system_prompt_come_and_go_together() {
    let mut world = World::prepared(json!({}));
    let named =
        Err(r#"[{"code":"custom","path":["appendSystemPrompt"],"message":"Required when mode is custom"}]"#.into());
    let prompt = json!({"appendSystemPrompt": "be brief"});
    assert_eq!(update(&mut world, json!({"mode": "custom"})), named);
    assert_eq!(update(&mut world, json!({"mode": "custom", "appendSystemPrompt": " \n"})), named);
    assert_eq!(world.view()["mode"], "code", "nothing of a refused update is kept");
    update(&mut world, prompt).unwrap();
    update(&mut world, json!({"mode": "custom"})).unwrap();
    for without in [Value::Null, json!("")] {
        assert_eq!(update(&mut world, json!({"appendSystemPrompt": without})), named);
    }
    update(&mut world, json!({"appendSystemPrompt": null, "mode": "plan"})).unwrap();
}
