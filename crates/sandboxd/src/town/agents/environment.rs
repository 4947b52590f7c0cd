//! What an agent server of the town, and whatever its agent starts, may know (spec/town.md 6.9).
//!
//! The town's own variables come first: they cannot replace ours. The container's token and the model's key for other uses are nowhere
//! in it; the token of the git host is, because the agent pushes.

use super::shared::Shared;
use crate::session::config::Author;
use crate::session::config::Model;
use crate::session::git::GitUrl;
use crate::session::kilo::environment::Environment;
use crate::session::kilo::environment::PROVIDER;
use crate::session::kilo::environment::SWITCHES;
use crate::session::kilo::environment::chosen;
use crate::session::kilo::environment::of_model;
use crate::session::kilo::environment::of_provider;
use crate::session::redact::Redactor;
use crate::session::redact::secrets_of_tools;
use crate::town::git::Credential;
use crate::town::git::InvalidName;
use crate::town::git::RigRepo;
use crate::town::git::Tokens;
use crate::town::live::is_free;
use protocol::id::AgentId;
use protocol::id::RigId;
use protocol::sandbox::Secret;
use protocol::town::container::StartAgent;
use serde_json::Value;
use serde_json::json;
use std::collections::BTreeMap;
use std::path::Path;
use std::path::PathBuf;

/// Variables that a start brings for the container itself. They change while agents run, so nothing keeps those of a start.
pub const TOKENS: [&str; 7] = [
    "GIT_TOKEN",
    "GITHUB_TOKEN",
    "GITHUB_CLI_PAT",
    "GITLAB_TOKEN",
    "KILOCODE_TOKEN",
    "GASTOWN_CONTAINER_TOKEN",
    "GASTOWN_SESSION_TOKEN",
];
/// Gives git the token that is in the environment.
const HELPER: &str = "!f() { test \"$1\" = get && \
    printf 'username=%s\\npassword=%s\\n' \"$GASTOWN_GIT_USER\" \"$GASTOWN_GIT_TOKEN\"; }; f";

/// The agent's home: its conversation, its caches, and what sandboxd keeps beside them.
pub fn home(root: &Path, agent: &AgentId) -> PathBuf {
    root.join("home/agents").join(agent.as_str())
}

/// Who an agent's commits are by.
pub fn author(shared: &Shared, request: &StartAgent) -> Author {
    let named = |name: &str| shared.live.variable(&request.env_vars, name);
    Author {
        name: named("GASTOWN_GIT_AUTHOR_NAME").unwrap_or_else(|| format!("{} (gastown)", request.name)),
        email: named("GASTOWN_GIT_AUTHOR_EMAIL").unwrap_or_else(|| format!("{}@gastown.local", slug(&request.name))),
    }
}

/// Who a commit is by that no agent made: a merge, the first one of an empty repository, work that nobody owns any more.
pub fn town_author(shared: &Shared, own: &BTreeMap<String, String>) -> Author {
    let named = |name: &str| shared.live.variable(own, name);
    Author {
        name: named("GASTOWN_GIT_AUTHOR_NAME").unwrap_or_else(|| "Gastown".to_owned()),
        email: named("GASTOWN_GIT_AUTHOR_EMAIL").unwrap_or_else(|| "gastown@kilo.ai".to_owned()),
    }
}

/// The repository of a rig, with what its host is shown now.
pub fn repo(
    shared: &Shared,
    rig: &RigId,
    url: &str,
    default_branch: &str,
    own: &BTreeMap<String, String>,
    author: Author,
) -> Result<RigRepo, InvalidName> {
    let tokens = Tokens::read(|name| shared.live.variable(own, name));
    RigRepo::parse(rig.clone(), url, default_branch, &tokens, author, shared.config.allow_loopback)
}

/// The model that an agent talks to: the container's own, unless the start names another one of the same provider.
pub fn model(shared: &Shared, request: &StartAgent) -> Option<Model> {
    shared.config.model.as_ref().map(|own| chosen(own, &request.model))
}

/// What the agent server gets. `tools` are the servers of the agent's tools, by name.
pub fn for_agent(
    shared: &Shared,
    request: &StartAgent,
    model: &Model,
    tools: Value,
    repo: Option<&RigRepo>,
) -> Environment {
    let home = home(&shared.config.root, &request.agent_id);
    let data = home.join(".local/share");
    let (home, data) = (home.to_string_lossy(), data.to_string_lossy());
    let author = author(shared, request);
    let mut environment: Environment = outside(shared, request).collect();
    for (name, value) in [
        ("PATH", shared.config.path.as_str()),
        ("HOME", &home),
        ("KILO_TEST_HOME", &home),
        ("XDG_DATA_HOME", &data),
        ("LANG", "C.UTF-8"),
        ("GASTOWN_AGENT_ID", request.agent_id.as_str()),
        ("GASTOWN_AGENT_ROLE", request.role.as_str()),
        ("GASTOWN_RIG_ID", request.rig_id.as_str()),
        ("GASTOWN_TOWN_ID", request.town_id.as_str()),
        ("GIT_AUTHOR_NAME", &author.name),
        ("GIT_AUTHOR_EMAIL", &author.email),
        ("GIT_COMMITTER_NAME", &author.name),
        ("GIT_COMMITTER_EMAIL", &author.email),
        ("GIT_TERMINAL_PROMPT", "0"),
        ("GIT_LFS_SKIP_SMUDGE", "1"),
    ] {
        environment.push((name.to_owned(), value.to_owned()));
    }
    environment.extend(SWITCHES.map(|(name, value)| (name.to_owned(), value.to_owned())));
    let credential = repo.and_then(|repo| repo.credential.as_ref());
    environment.extend(for_git_host(pat(shared, request), credential, repo.map(|repo| &repo.url)));
    let small = request.small_model.as_deref().and_then(of_provider);
    let configuration = configuration(model, small, tools);
    environment.push(("KILO_CONFIG_CONTENT".to_owned(), configuration.to_string()));
    environment
}

/// Hides from people what [`for_agent`] gives away: the agent's program may quote it when it fails.
pub fn redactor(
    shared: &Shared,
    request: &StartAgent,
    model: &Model,
    tools: &Value,
    repo: Option<&RigRepo>,
) -> Redactor {
    let pat = pat(shared, request).map(Secret);
    let token = repo.and_then(|repo| repo.credential.as_ref()).map(|credential| &credential.token);
    let of_tools = secrets_of_tools(tools);
    // A town's own variables are as secret as it takes them for.
    let own: Vec<Secret> = outside(shared, request).map(|(_, value)| Secret(value)).collect();
    Redactor::new([&model.api_key].into_iter().chain(&pat).chain(token).chain(&of_tools).chain(&own))
}

/// The variables that the start and the town give the agent. Of two with one name the later one counts, which is the town's newest.
fn outside(shared: &Shared, request: &StartAgent) -> impl Iterator<Item = (String, String)> {
    let all = request.env_vars.clone().into_iter().chain(shared.live.environment());
    all.filter(|(name, value)| is_free(name) && !TOKENS.contains(&name.as_str()) && !value.contains('\0'))
}

/// What the user gave for `gh`.
fn pat(shared: &Shared, request: &StartAgent) -> Option<String> {
    shared.live.variable(&request.env_vars, "GITHUB_CLI_PAT")
}

/// What the agent pushes with, good for its repository's host alone; and `GH_TOKEN` for `gh`, which no other host is shown.
fn for_git_host(pat: Option<String>, credential: Option<&Credential>, url: Option<&GitUrl>) -> Environment {
    let token = pat.or_else(|| credential.map(|credential| credential.token.expose().to_owned()));
    let mut environment: Environment = token.map(|token| ("GH_TOKEN".to_owned(), token)).into_iter().collect();
    if let (Some(credential), Some(origin)) = (credential, url.and_then(GitUrl::origin)) {
        for (name, value) in [
            ("GASTOWN_GIT_TOKEN", credential.token.expose()),
            ("GASTOWN_GIT_USER", credential.user),
            ("GIT_CONFIG_COUNT", "1"),
            ("GIT_CONFIG_KEY_0", &format!("credential.{origin}.helper")),
            ("GIT_CONFIG_VALUE_0", HELPER),
        ] {
            environment.push((name.to_owned(), value.to_owned()));
        }
    }
    environment
}

/// Everything is allowed, because nobody is there to ask. `small` is the model for small things, such as titles and summaries; without one it is the same.
fn configuration(model: &Model, small: Option<&str>, tools: Value) -> Value {
    let mut configuration = of_model(model);
    if let Some(name) = small.filter(|name| *name != model.name) {
        let pointer = format!("/provider/{PROVIDER}/models");
        let of_small = of_model(&Model { name: name.to_owned(), ..model.clone() });
        if let (Some(Value::Object(models)), Some(Value::Object(small))) =
            (configuration.pointer_mut(&pointer), of_small.pointer(&pointer))
        {
            models.extend(small.clone());
        }
    }
    if let Some(sections) = configuration.as_object_mut() {
        if let Some(name) = small {
            sections.insert("small_model".to_owned(), format!("{PROVIDER}/{name}").into());
        }
        sections.insert("permission".to_owned(), json!({ "*": "allow" }));
        sections.insert("mcp".to_owned(), tools);
    }
    configuration
}

/// A name as the local part of an address.
fn slug(name: &str) -> String {
    let lower = name.to_lowercase();
    let words = lower.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join("-")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::process::Command;
    use std::process::Stdio;

    /// What git itself shows `host`, as an agent runs it.
    fn shown(environment: &Environment, host: &str) -> String {
        let mut git = Command::new("git");
        git.args(["credential", "fill"]).env_clear().env("PATH", std::env::var("PATH").unwrap());
        git.env("GIT_TERMINAL_PROMPT", "0").envs(environment.iter().cloned());
        git.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut git = git.spawn().unwrap();
        git.stdin.take().unwrap().write_all(format!("protocol=https\nhost={host}\n\n").as_bytes()).unwrap();
        String::from_utf8(git.wait_with_output().unwrap().stdout).unwrap()
    }

    #[test]
    fn small_things_go_to_the_small_model_if_the_provider_has_it() {
        let model = Model {
            base_url: "http://127.0.0.1:1/v1".into(),
            api_key: Secret("key".into()),
            name: "large".into(),
            sees_images: false,
        };
        let with = configuration(&model, of_provider("holdfast/small"), json!({}));
        assert_eq!((&with["model"], &with["small_model"]), (&json!("holdfast/large"), &json!("holdfast/small")));
        let models = &with["provider"]["holdfast"]["models"];
        assert_eq!((&models["small"]["name"], &models["large"]["name"]), (&json!("small"), &json!("large")));
        let without = configuration(&model, of_provider("anthropic/other"), json!({}));
        assert_eq!(without["small_model"], "holdfast/large");
    }

    #[test]
    fn the_host_of_the_repository_is_shown_its_own_token_and_never_that_of_gh() {
        let url = GitUrl::parse("https://git.example/a.git", false).unwrap();
        let credential = Credential { token: Secret("lab-token".into()), user: "oauth2" };
        let environment = for_git_host(Some("the-pat".into()), Some(&credential), Some(&url));
        assert!(environment.contains(&("GH_TOKEN".to_owned(), "the-pat".to_owned())));
        let own = shown(&environment, "git.example");
        assert!(own.contains("username=oauth2\npassword=lab-token\n"), "{own}");
        assert_eq!(shown(&environment, "github.com"), "");
        assert!(!is_free("GASTOWN_GIT_TOKEN"), "nor can the town replace it");
    }
}
