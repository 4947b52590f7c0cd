//! Work that is handed out: sling, dispatch and its outcomes, rigs, configuration.

use super::world::World;
use super::world::effects;
use super::world::notices;
use super::world::rig;
use super::world::starts;
use crate::error::Refusal;
use crate::message::Answer;
use crate::message::Call;
use crate::message::Input;
use crate::message::Notice;
use crate::message::call::AgentCall;
use crate::message::call::TownCall;
use crate::message::call::WorkCall;
use crate::message::effect::Effect;
use crate::message::effect::Outcome;
use object_core::time::MINUTE;
use object_core::time::SECOND;
use protocol::id::AgentId;
use protocol::town::agent::AgentStatus;
use protocol::town::bead::BeadStatus;
use protocol::town::config::TownConfig;
use serde_json::Value;
use serde_json::json;

fn outcome(world: &mut World, agent: &AgentId, outcome: Outcome) {
    world.started_as(agent, outcome);
}

#[test]
fn sling_makes_hooks_and_dispatches_in_one_call() {
    let mut world = World::new();
    let (bead, agent) = world.sling("Fix it");
    assert_eq!((bead.status, bead.dispatch_attempts), (BeadStatus::InProgress, 1));
    assert_eq!(
        (agent.status.clone(), agent.current_hook_bead_id.clone()),
        (AgentStatus::Working, Some(bead.bead_id.clone()))
    );
    let start = starts(&world.outputs);
    let [start] = &start[..] else { panic!("{start:?}") };
    assert_eq!((start.agent_id.clone(), start.prompt.as_str()), (agent.id.clone(), "Fix it"));
    assert_eq!(start.branch, format!("gt/toast/{}", &bead.bead_id.as_str()[..8]));
    assert_eq!((start.default_branch.as_str(), start.start_point.as_deref()), ("main", None));
    assert_eq!(start.model, "anthropic/claude-sonnet-4.6");
    assert!(start.system_prompt.as_ref().unwrap().contains("gt_done"));
    let unknown = WorkCall::Sling {
        rig: rig("nowhere"),
        title: "x".into(),
        body: None,
        priority: bead.priority,
        labels: vec![],
        metadata: serde_json::Map::new(),
    };
    assert_eq!(world.refused(Call::Work(unknown)), Refusal::RigNotFound { rig: rig("nowhere") });
}

#[test]
fn a_start_is_owed_until_its_outcome_is_known() {
    let mut world = World::new();
    let (_, agent) = world.sling("a");
    assert_eq!(starts(&world.run(MINUTE)), []);
    world.evict();
    assert_eq!(starts(&world.run(16 * SECOND)).len(), 1, "the first try was never answered");
    outcome(&mut world, &agent.id, Outcome::Done);
    assert_eq!(world.agent(&agent.id).dispatch_attempts, 0);
    assert_eq!(starts(&world.run(MINUTE)), []);
    outcome(&mut world, &agent.id, Outcome::Done);
}

#[test]
fn a_start_that_certainly_failed_leaves_the_bead_and_frees_the_agent_to_try_again() {
    let mut world = World::new();
    let (bead, agent) = world.sling("a");
    outcome(&mut world, &agent.id, Outcome::Failed { reason: "no".into() });
    assert!(matches!(&notices(&world.outputs)[..], [Notice::EffectDropped { .. }]));
    assert_eq!(world.agent(&agent.id).status, AgentStatus::Idle);
    assert_eq!(world.status(&bead.bead_id), BeadStatus::InProgress, "not rolled back");
    let (bead, agent) = world.sling("b");
    outcome(&mut world, &agent.id, Outcome::Unknown { reason: "timeout".into() });
    assert_eq!(world.agent(&agent.id).status, AgentStatus::Working, "the container may have taken it");
    assert_eq!(world.status(&bead.bead_id), BeadStatus::InProgress);
}

#[test]
fn an_agent_that_lost_its_work_while_it_was_started_is_stopped_when_it_runs() {
    for (ended, is_stopped) in [
        (Outcome::Done, true),
        (Outcome::Unknown { reason: "timeout".into() }, true),
        (Outcome::Failed { reason: "no".into() }, false),
    ] {
        let mut world = World::new();
        let (_, agent) = world.sling("a");
        world.done(Call::Agent(AgentCall::Reset { agent: agent.id.clone() }));
        // The stop came before the agent was there.
        let stop = format!("stop/{}", agent.id);
        world.take(Input::Outcome { key: stop.clone(), outcome: Outcome::Done });
        assert_eq!(world.owed("stop/"), Vec::<String>::new());
        outcome(&mut world, &agent.id, ended.clone());
        assert_eq!(world.owed("stop/") == [stop], is_stopped, "{ended:?}");
    }
}

#[test]
fn a_start_that_came_to_nothing_does_not_stop_the_next() {
    let mut world = World::new();
    let (_, agent) = world.sling("a");
    let late = world.owed("start/").remove(0);
    world.done(Call::Agent(AgentCall::Reset { agent: agent.id.clone() }));
    let other = world.issue("b");
    world.hook(&agent.id, &other);
    world.tick();
    assert_eq!(world.owed(&format!("start/{}", agent.id)).len(), 2);
    world.take(Input::Outcome { key: late, outcome: Outcome::Done });
    assert_eq!(world.owed("stop/"), Vec::<String>::new());
}

#[test]
fn a_start_that_a_draining_container_refused_burns_no_try() {
    let mut world = World::new();
    let (bead, agent) = world.sling("a");
    outcome(&mut world, &agent.id, Outcome::Draining);
    let found = world.bead(&bead.bead_id);
    assert_eq!((found.status, found.dispatch_attempts, found.last_dispatch_attempt_at), (BeadStatus::Open, 0, None));
    let holder = world.agent(&agent.id);
    assert_eq!((holder.status, holder.current_hook_bead_id), (AgentStatus::Idle, Some(bead.bead_id)));
    assert_eq!(starts(&world.tick_after(5 * SECOND)).len(), 1);
}

#[test]
fn a_full_container_costs_a_bead_no_try_and_is_asked_again_after_the_cooldown() {
    let mut world = World::new();
    let (bead, agent) = world.sling("a");
    for _ in 0..10 {
        outcome(&mut world, &agent.id, Outcome::Full);
        assert_eq!(notices(&world.outputs), []);
        let found = world.bead(&bead.bead_id);
        assert_eq!((found.status, found.dispatch_attempts), (BeadStatus::Open, 0));
        let holder = world.agent(&agent.id);
        assert_eq!((holder.status, holder.current_hook_bead_id), (AgentStatus::Idle, Some(bead.bead_id.clone())));
        assert_eq!(starts(&world.run(115 * SECOND)), [], "the cooldown holds");
        let again = starts(&world.run(15 * SECOND));
        assert_eq!(again.iter().map(|start| &start.agent_id).collect::<Vec<_>>(), [&agent.id]);
    }
}

#[test]
fn without_a_rig_nothing_is_started_and_the_agent_still_shows_working() {
    let mut world = World::new();
    let bead = world.issue("a");
    world.sql("DELETE FROM rigs", &[]);
    assert_eq!(starts(&world.tick()), []);
    let agent = world.bead(&bead).assignee_agent_bead_id.unwrap();
    assert_eq!(world.agent(&agent).status, AgentStatus::Working);
}

#[test]
fn a_checkpoint_is_handed_to_the_next_start() {
    let mut world = World::new();
    let (agent, bead) = (world.polecat(), world.issue("a"));
    world.hook(&agent, &bead);
    world.done(Call::Agent(AgentCall::WriteCheckpoint { agent, data: json!({"at": "step 2"}) }));
    let start = starts(&world.tick());
    assert_eq!(start[0].prompt, "a\n\nResume from checkpoint:\n{\"at\":\"step 2\"}");
}

#[test]
fn what_waited_goes_on_at_once_when_the_last_blocker_is_over() {
    let mut world = World::new();
    let (convoy, beads) = world.convoy(&[&[], &[], &[0, 1]], None, false);
    let agent = world.polecat();
    world.hook(&agent, &beads[2]);
    world.close(&beads[0]);
    assert_eq!(starts(&world.outputs), []);
    world.close(&beads[1]);
    let start = starts(&world.outputs);
    assert_eq!(start.iter().map(|start| start.agent_id.clone()).collect::<Vec<_>>(), [agent]);
    assert!(
        start[0].branch.starts_with("convoy/a-convoy/") && start[0].branch.contains("/gt/a0/"),
        "{}",
        start[0].branch
    );
    let head = world.convoy_detail(&convoy).convoy.feature_branch.unwrap();
    assert_eq!(start[0].start_point, Some(format!("origin/{head}")));
}

#[test]
fn a_rig_is_changed_in_place_and_its_name_moves_only_from_a_rig_without_work() {
    let mut world = World::new();
    let add = |id: &str, name: &str| {
        Call::Town(TownCall::AddRig {
            rig: rig(id),
            name: name.into(),
            git_url: "https://example.com/x.git".into(),
            default_branch: "dev".into(),
        })
    };
    let Answer::Rig { rig: changed } = world.call(add("r1", "r1")) else { panic!() };
    assert_eq!((changed.default_branch.as_str(), changed.created_at), ("dev", world.now));
    let bead = world.issue("a");
    assert_eq!(world.refused(add("r2", "r1")), Refusal::RigNameTaken { name: "r1".into() });
    world.close(&bead);
    assert!(matches!(world.call(add("r2", "r1")), Answer::Rig { .. }));
    let Answer::Rigs { rigs } = world.call(Call::Town(TownCall::Rigs {})) else { panic!() };
    assert_eq!(rigs.into_iter().map(|rig| rig.id).collect::<Vec<_>>(), [rig("r2")]);
    world.done(Call::Town(TownCall::RemoveRig { rig: rig("r2") }));
    assert_eq!(world.refused(Call::Town(TownCall::Rig { rig: rig("r2") })), Refusal::RigNotFound { rig: rig("r2") });
}

#[test]
fn removing_a_rig_removes_its_beads() {
    let mut world = World::new();
    world.working();
    world.done(Call::Town(TownCall::RemoveRig { rig: rig("r1") }));
    assert_eq!(world.count("SELECT COUNT(*) FROM beads"), 0);
    assert_eq!(world.count("SELECT COUNT(*) FROM agent_metadata"), 0);
}

fn update(world: &mut World, changes: Value) -> TownConfig {
    let Value::Object(changes) = changes else { panic!() };
    match world.call(Call::Town(TownCall::UpdateConfig { changes })) {
        Answer::Config { config } => *config,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_update_of_the_configuration_is_partial_and_a_mask_keeps_the_secret() {
    let mut world = World::new();
    update(
        &mut world,
        json!({
            "git_auth": {"github_token": "ghp_0123456789abcdef", "gitlab_instance_url": "https://gitlab.example"},
            "env_vars": {"A": "secret-a", "B": "b"}, "default_model": "m1", "kilocode_token": "0123456789"
        }),
    );
    let config = update(
        &mut world,
        json!({
            "git_auth": {"github_token": "****cdef", "gitlab_token": "new"}, "env_vars": {"A": "****", "C": "c"},
            "default_model": "", "kilocode_token": "****", "refinery": {"gates": ["npm test"]}
        }),
    );
    assert_eq!(config.git_auth.github_token.as_deref(), Some("ghp_0123456789abcdef"));
    assert_eq!(config.git_auth.gitlab_token.as_deref(), Some("new"));
    assert_eq!(config.git_auth.gitlab_instance_url.as_deref(), Some("https://gitlab.example"));
    let env: Vec<_> = config.env_vars.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    assert_eq!(env, [("A", "secret-a"), ("C", "c")], "env_vars is replaced whole");
    assert_eq!((config.default_model, config.kilocode_token.as_deref()), (None, Some("0123456789")));
    assert!(config.refinery.code_review && config.refinery.gates == ["npm test"]);
    let Answer::Config { config: stored } = world.call(Call::Town(TownCall::Config {})) else { panic!() };
    assert_eq!(stored.git_auth.gitlab_token.as_deref(), Some("new"));
}

#[test]
fn a_configuration_that_cannot_be_read_is_refused_and_nothing_changes() {
    let mut world = World::new();
    for bad in [
        json!({"merge_strategy": "force"}),
        json!({"env_vars": 7}),
        json!({"max_polecats_per_rig": 51}),
        json!({"container": {"sleep_after_minutes": 4}}),
        json!({"custom_instructions": {"polecat": "x".repeat(2_001)}}),
        json!({"env_vars": {"A": "x".repeat(30 * 1024)}}),
    ] {
        let Value::Object(changes) = bad else { panic!() };
        let refusal = world.refused(Call::Town(TownCall::UpdateConfig { changes }));
        assert!(matches!(refusal, Refusal::Invalid { .. }));
    }
    let ignored = json!({"unknown": 1, "owner_user_id": "thief", "owner_type": "org"});
    assert_eq!(update(&mut world, ignored), TownConfig::default());
}

#[test]
fn changes_of_rigs_configuration_and_agents_are_owed_to_the_world() {
    let mut world = World::new();
    update(&mut world, json!({"default_model": "m"}));
    assert_eq!(effects(&world.outputs), [Effect::SyncConfig {}]);
    world.add_rig("r2");
    assert_eq!(effects(&world.outputs), [Effect::SetupRig { rig: rig("r2") }]);
    let agent = world.polecat();
    world.done(Call::Agent(AgentCall::Delete { agent: agent.clone() }));
    let stop = Effect::Stop { agent: agent.clone(), reason: "it was deleted".into() };
    assert_eq!(effects(&world.outputs), [Effect::Forget { agent: agent.clone() }, stop.clone()]);
    world.take(Input::Outcome { key: stop.key(), outcome: Outcome::NotRunning });
    world.take(Input::Outcome { key: "rig/r2".into(), outcome: Outcome::NotRunning });
    let again = effects(&world.run(MINUTE));
    let is_owed = |effect: &Effect| matches!(effect, Effect::Forget { .. } | Effect::SyncConfig {});
    assert!(again.iter().all(is_owed) && again.len() >= 2, "{again:?}");
    let told = notices(&world.run(10 * MINUTE));
    let [Notice::EffectDropped { key, .. }] = &told[..] else { panic!("given up after its tries: {told:?}") };
    assert_eq!(key, "config", "what must be forgotten is never given up");
    world.take(Input::Outcome { key: format!("forget/{agent}"), outcome: Outcome::Done });
    assert_eq!(world.alarm, None);
}

#[test]
fn while_agents_work_the_container_gets_a_fresh_token_every_hour() {
    let mut world = World::new();
    world.sql("DELETE FROM action_loop", &[]);
    let (agent, _) = world.working();
    let mut tokens = |ms: i64| {
        let mut count = 0;
        let until = world.now + ms;
        while world.now < until {
            world.beat(&agent, protocol::town::Heartbeat::default());
            let outputs = world.run(20 * SECOND);
            count += effects(&outputs).iter().filter(|effect| matches!(effect, Effect::RefreshToken {})).count();
            world.take(Input::Outcome { key: "token".into(), outcome: Outcome::Done });
        }
        count
    };
    assert_eq!((tokens(50 * MINUTE), tokens(20 * MINUTE)), (1, 1));
}
