//! The environment and the configuration of the agent server.
//!
//! It holds what the agent must have and nothing else: the model's key is in the configuration only, and the container's
//! token, the ingest secret and the git token are nowhere in it.

use crate::session::config::Config;
use crate::session::config::Model;
use crate::session::paths::SessionPaths;
use crate::session::reap;
use protocol::sandbox::Permissions;
use protocol::sandbox::WorkspacePlan;
use serde_json::Value;
use serde_json::json;

/// The name under which the agent server knows the configured provider.
pub const PROVIDER: &str = "holdfast";

/// Names and values.
pub type Environment = Vec<(String, String)>;

/// Without these the server calls home, updates itself, or asks (spec/kilo.md 3).
pub const SWITCHES: [(&str, &str); 9] = [
    ("KILO_DISABLE_AUTOUPDATE", "1"),
    ("KILO_DISABLE_CODEBASE_INDEXING", "vscode-no-workspace"),
    ("KILO_DISABLE_DEFAULT_PLUGINS", "1"),
    ("KILO_DISABLE_LSP_DOWNLOAD", "1"),
    ("KILO_DISABLE_MODELS_FETCH", "1"),
    ("KILO_DISABLE_PRESENCE", "1"),
    ("KILO_DISABLE_SESSION_INGEST", "1"),
    ("KILO_DISABLE_SHARE", "1"),
    ("KILO_TELEMETRY_LEVEL", "off"),
];

/// What setup commands get. The caller's own variables come first: they cannot replace ours.
pub fn for_setup(config: &Config, paths: &SessionPaths, plan: &WorkspacePlan) -> Environment {
    let home = paths.home.to_string_lossy();
    let mut environment: Environment =
        plan.env.iter().map(|(name, value)| (name.clone(), value.expose().to_owned())).collect();
    for (name, value) in [
        ("PATH", config.path.as_str()),
        ("HOME", home.as_ref()),
        ("SESSION_HOME", home.as_ref()),
        ("SESSION_ID", plan.session_id.as_str()),
        ("LANG", "C.UTF-8"),
        (reap::MARK, plan.session_id.as_str()),
    ] {
        environment.push((name.to_owned(), value.to_owned()));
    }
    environment
}

/// What the agent server gets.
pub fn for_agent(config: &Config, model: &Model, paths: &SessionPaths, plan: &WorkspacePlan) -> Environment {
    let mut environment = for_setup(config, paths, plan);
    environment.extend(SWITCHES.map(|(name, value)| (name.to_owned(), value.to_owned())));
    environment.push(("KILO_CONFIG_CONTENT".to_owned(), configuration(model, plan).to_string()));
    environment
}

/// Everything is allowed, unless a person wants to be asked: then the agent's own rules hold (spec/kilo.md 6). No snapshots, because a slow one asks
/// a question that blocks.
fn configuration(model: &Model, plan: &WorkspacePlan) -> Value {
    let mut configuration = of_model(model);
    if let Some(sections) = configuration.as_object_mut() {
        if plan.permissions == Permissions::Allow {
            sections.insert("permission".to_owned(), json!({ "*": "allow" }));
        }
        if let Some(servers) = &plan.mcp_servers {
            sections.insert("mcp".to_owned(), servers.clone());
        }
        if let Some(prompt) = &plan.append_system_prompt {
            sections.insert("agent".to_owned(), json!({ "custom": { "prompt": prompt } }));
        }
    }
    configuration
}

/// The model that `wanted` names, if it is one of our provider; else `own`. A name means what it says only as `holdfast/<name>`: callers send those of other providers
/// too, which are not ours to give.
pub fn chosen(own: &Model, wanted: &str) -> Model {
    of_provider(wanted).map_or_else(|| own.clone(), |name| Model { name: name.to_owned(), ..own.clone() })
}

/// The name that a model has at the provider, if it is one of it.
pub fn of_provider(model: &str) -> Option<&str> {
    model.strip_prefix(PROVIDER)?.strip_prefix('/').filter(|name| !name.is_empty())
}

/// What every agent server is configured with. It knows no model but those listed.
pub fn of_model(model: &Model) -> Value {
    let full_name = format!("{PROVIDER}/{}", model.name);
    let input: &[&str] = if model.sees_images { &["text", "image"] } else { &["text"] };
    json!({
        "autoupdate": false,
        "share": "disabled",
        "snapshot": false,
        "enabled_providers": [PROVIDER],
        "model": full_name,
        "small_model": full_name,
        "provider": { PROVIDER: {
            "npm": "@ai-sdk/openai-compatible",
            "name": "Holdfast",
            "options": { "baseURL": model.base_url, "apiKey": model.api_key.expose() },
            "models": { &model.name: {
                "name": model.name,
                "tool_call": true,
                "attachment": model.sees_images,
                "modalities": { "input": input, "output": ["text"] },
                "limit": { "context": 200_000, "output": 8_192 },
            } },
        } },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn plan(extra: Value) -> WorkspacePlan {
        let mut plan = json!({
            "sessionId": "agent_01234567-89ab-cdef-0123-456789abcdef",
            "kiloSessionId": "ses_0123456789abABCDEFGHIJKLMN",
            "gitUrl": "https://git.example/a",
            "gitToken": "git-token",
            "env": { "HOME": "/elsewhere", "FOO": "bar" },
        });
        plan.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        serde_json::from_value(plan).unwrap()
    }

    fn model() -> Model {
        Model {
            base_url: "http://127.0.0.1:1/v1".into(),
            api_key: protocol::sandbox::Secret("model-key".into()),
            name: "m".into(),
            sees_images: true,
        }
    }

    #[test]
    fn permissions_snapshots_and_the_provider_are_as_the_server_needs_them() {
        let configuration =
            configuration(&model(), &plan(json!({ "appendSystemPrompt": "p", "mcpServers": { "a": {} } })));
        assert_eq!(configuration["permission"], json!({ "*": "allow" }));
        assert_eq!(configuration["snapshot"], false);
        assert_eq!(configuration["model"], "holdfast/m");
        assert_eq!(configuration["provider"]["holdfast"]["models"]["m"]["tool_call"], true);
        assert_eq!(configuration["agent"]["custom"]["prompt"], "p");
        assert_eq!(configuration["mcp"], json!({ "a": {} }));
    }

    #[test]
    fn where_a_person_is_asked_the_agents_own_rules_hold() {
        let configuration = configuration(&model(), &plan(json!({ "permissions": "ask" })));
        assert_eq!(configuration.get("permission"), None);
    }

    #[test]
    fn only_a_model_of_our_provider_is_chosen_by_its_name() {
        let named = |wanted: &str| chosen(&model(), wanted).name;
        assert_eq!((named("holdfast/large"), named("holdfast/a/b")), ("large".to_owned(), "a/b".to_owned()));
        for others in ["", "scripted", "kilo/large", "holdfast", "holdfast/", "holdfast-2/large", "m"] {
            assert_eq!(named(others), "m", "{others:?}");
        }
    }

    #[test]
    fn the_server_knows_whether_the_model_takes_images() {
        for (sees_images, input) in [(true, json!(["text", "image"])), (false, json!(["text"]))] {
            let configuration = configuration(&Model { sees_images, ..model() }, &plan(json!({})));
            let known = &configuration["provider"]["holdfast"]["models"]["m"];
            assert_eq!((&known["attachment"], &known["modalities"]["input"]), (&json!(sees_images), &input));
        }
    }

    #[test]
    fn the_agent_gets_no_token_and_the_caller_replaces_nothing_of_ours() {
        let plan = plan(json!({}));
        let paths = SessionPaths::new(Path::new("/r"), &plan.session_id);
        let config = Config {
            root: "/r".into(),
            listen: "127.0.0.1:0".parse().unwrap(),
            token: Some(protocol::sandbox::Secret("sandbox-token".into())),
            allow_loopback: false,
            path: "/bin".into(),
            kilo: None,
            model: Some(model()),
            author: crate::session::config::Author { name: "n".into(), email: "e".into() },
            limits: Default::default(),
        };
        let environment = for_agent(&config, &model(), &paths, &plan);
        let of = |wanted: &str| {
            // The last one wins, as with `Command::envs`.
            environment.iter().rev().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str())
        };
        assert_eq!(of("HOME"), Some("/r/home/agent_01234567-89ab-cdef-0123-456789abcdef"));
        assert_eq!((of("FOO"), of(reap::MARK)), (Some("bar"), Some(plan.session_id.as_str())));
        for (name, value) in &environment {
            assert!(!value.contains("sandbox-token") && !value.contains("git-token"), "{name}");
            assert!(!value.contains("model-key") || name == "KILO_CONFIG_CONTENT", "{name}");
        }
    }
}
