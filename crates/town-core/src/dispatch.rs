//! Dispatch: from a hooked agent to one that runs in the container (spec/town.md 4.6, 6.3).
//!
//! The ledger changes first, in the same turn as the debt: the bead is in progress, the agent works, both count one try. Then the container is
//! asked. Nothing is dispatched while the container is being replaced.

use crate::Step;
use crate::error::Fault;
use crate::message::effect::Effect;
use crate::prompt;
use crate::store;
use object_core::owed::Owed;
use protocol::id::AgentId;
use protocol::id::BeadId;
use protocol::id::RigId;
use protocol::town::agent::Agent;
use protocol::town::agent::AgentStatus;
use protocol::town::agent::Role;
use protocol::town::bead::Bead;
use protocol::town::bead::BeadStatus;
use protocol::town::bead::BeadType;
use protocol::town::bead::label;
use protocol::town::config::TownConfig;
use protocol::town::container::StartAgent;
use protocol::town::container::StartRig;

/// Unless the town names others.
const DEFAULT_MODEL: &str = "anthropic/claude-sonnet-4.6";
const DEFAULT_SMALL_MODEL: &str = "anthropic/claude-haiku-4.5";

/// Where a bead keeps the branch on which it is worked.
pub const WORK_BRANCH: &str = "work_branch";
/// So much of its bead's id ends the name of a branch.
const BEAD_PART: usize = 8;

impl Step<'_> {
    /// Gives a hooked bead to the container.
    pub fn dispatch(&mut self, agent: &AgentId, bead: &BeadId) -> Result<(), Fault> {
        self.set_status(bead, BeadStatus::InProgress, agent.as_str(), None)?;
        store::bead::count_dispatch(self.db, self.now, bead)?;
        store::bead::touch(self.db, self.now, bead)?;
        store::agent::dispatched(self.db, self.now, agent)?;
        self.keep_branch(agent, bead)?;
        // A start ends what runs under its name; a stop that is still owed would end the new run.
        let stop = Effect::Stop { agent: agent.clone(), reason: String::new() };
        Owed::<Effect>::settle(self.db, &stop.key())?;
        self.owe(&Effect::Start { agent: agent.clone(), bead: Some(bead.clone()), prompt: None })
    }

    /// A bead keeps the branch of the first agent that has it: whatever one pushed, its successor goes on with, also if it was killed
    /// before it could say so.
    fn keep_branch(&mut self, agent: &AgentId, bead: &BeadId) -> Result<(), Fault> {
        let found = self.bead(bead)?;
        if found.kind != BeadType::Issue || found.text(WORK_BRANCH).is_some() {
            return Ok(());
        }
        let (branch, _) = branch_of(&self.agent(agent)?.agent, &found);
        Ok(store::bead::merge_metadata(self.db, bead, &serde_json::json!({ WORK_BRANCH: branch }))?)
    }

    /// What waited for a bead that is over now, and for nothing else, goes on at once if its agent is there.
    pub fn dispatch_unblocked(&mut self, ended: &BeadId) -> Result<(), Fault> {
        for waiting in store::dependency::blocked_by(self.db, ended)? {
            let Some(holder) = store::agent::hooked_to(self.db, &waiting)? else { continue };
            let bead = self.bead(&waiting)?;
            let is_ready = holder.agent.status == AgentStatus::Idle
                && bead.status == BeadStatus::Open
                && bead.kind == BeadType::Issue
                && bead.dispatch_attempts < self.limits.dispatch_attempts_max
                && !bead.has_label(label::HELD);
            if is_ready && !store::dependency::is_blocked_by_review(self.db, &waiting)? && !self.is_draining()? {
                self.dispatch(&holder.agent.id, &waiting)?;
            }
        }
        Ok(())
    }

    /// The body of `POST /agents/start`; None if there is nothing to start any more, or nowhere.
    pub fn start_plan(
        &self,
        agent: &AgentId,
        bead: Option<&BeadId>,
        prompt: Option<&str>,
    ) -> Result<Option<StartAgent>, Fault> {
        let Some(row) = store::agent::find(self.db, agent)? else { return Ok(None) };
        let agent = row.agent;
        if agent.status != AgentStatus::Working || agent.current_hook_bead_id.as_ref() != bead {
            return Ok(None);
        }
        let Some(bead) = bead else { return self.mayor_plan(agent, prompt).map(Some) };
        let Some(bead) = store::bead::find(self.db, bead)? else { return Ok(None) };
        let rig = match bead.rig_id.as_ref().or(agent.rig_id.as_ref()) {
            Some(rig) => store::town::rig(self.db, rig)?,
            None => None,
        };
        let Some(rig) = rig else { return Ok(None) };
        let town = self.town()?;
        let review = store::review::find(self.db, &bead.bead_id)?;
        let is_batch = bead.has_label(label::TRIAGE);
        let (branch, start_point) = match &review {
            Some(review) => (review.branch.clone(), None),
            None => match bead.text("branch").filter(|_| bead.labels.iter().any(|label| label.starts_with("gt:"))) {
                Some(branch) => (branch.to_owned(), None),
                None => branch_of(&agent, &bead),
            },
        };
        let plan = StartAgent {
            prompt: prompt.map_or_else(|| words(&agent, &bead), str::to_owned),
            system_prompt: Some(prompt::system(&agent.role, is_batch, &town.config, &rig, review.as_ref())),
            model: model(&town.config, &agent.role),
            small_model: Some(town.config.small_model.clone().unwrap_or_else(|| DEFAULT_SMALL_MODEL.into())),
            agent_id: agent.id,
            bead_id: Some(bead.bead_id),
            rig_id: rig.id,
            town_id: town.id.clone(),
            role: if is_batch { Role::Other("triage".into()) } else { agent.role },
            name: agent.name,
            identity: agent.identity,
            git_url: rig.git_url,
            branch,
            default_branch: rig.default_branch,
            start_point,
            target_branch: review.map(|review| review.target_branch),
            env_vars: town.config.env_vars.clone(),
            lightweight: is_batch,
            rigs: vec![],
        };
        Ok(Some(plan))
    }

    fn mayor_plan(&self, mayor: Agent, prompt: Option<&str>) -> Result<StartAgent, Fault> {
        let town = self.town()?;
        let rigs = store::town::rigs(self.db)?;
        let first = rigs.first();
        let rig_id = RigId::parse(&format!("mayor-{}", town.id))
            .map_err(|error| crate::error::Refusal::Invalid { what: error.message.to_owned() })?;
        Ok(StartAgent {
            prompt: prompt.unwrap_or_default().to_owned(),
            system_prompt: Some(prompt::mayor(&town.config)),
            model: model(&town.config, &mayor.role),
            small_model: Some(town.config.small_model.clone().unwrap_or_else(|| DEFAULT_SMALL_MODEL.into())),
            agent_id: mayor.id,
            bead_id: None,
            rig_id,
            town_id: town.id.clone(),
            role: Role::Mayor,
            name: mayor.name,
            identity: mayor.identity,
            git_url: first.map_or_else(String::new, |rig| rig.git_url.clone()),
            branch: "main".into(),
            default_branch: first.map_or_else(|| "main".into(), |rig| rig.default_branch.clone()),
            start_point: None,
            target_branch: None,
            env_vars: town.config.env_vars.clone(),
            lightweight: true,
            rigs: rigs
                .into_iter()
                .map(|rig| StartRig { rig_id: rig.id, git_url: rig.git_url, default_branch: rig.default_branch })
                .collect(),
        })
    }
}

fn words(agent: &Agent, bead: &Bead) -> String {
    let checkpoint = agent.checkpoint.as_ref().map(|data| format!("Resume from checkpoint:\n{data}"));
    let parts = [Some(bead.title.clone()), bead.body.clone(), checkpoint];
    parts.into_iter().flatten().collect::<Vec<_>>().join("\n\n")
}

/// The branch of an agent for a bead, and where it begins. A convoy's branches are siblings of its `head`.
fn branch_of(agent: &Agent, bead: &Bead) -> (String, Option<String>) {
    let id = bead.bead_id.as_str();
    let own = format!("gt/{}/{}", agent_slug(&agent.name), id.get(..BEAD_PART).unwrap_or(id));
    let (branch, start_point) = match bead.text("feature_branch") {
        Some(head) => {
            let convoy = head.strip_suffix("/head").unwrap_or(head);
            (format!("{convoy}/{own}"), Some(format!("origin/{head}")))
        }
        None => (own, None),
    };
    (bead.text(WORK_BRANCH).map_or(branch, str::to_owned), start_point)
}

/// How the id of the bead begins that a branch was named after; None if it was not named here.
pub fn bead_of(branch: &str) -> Option<&str> {
    branch.rsplit('/').next().filter(|part| part.len() == BEAD_PART)
}

fn agent_slug(name: &str) -> String {
    let mut slug = String::new();
    for c in name.to_lowercase().chars() {
        if c.is_ascii_lowercase() || c.is_ascii_digit() {
            slug.push(c);
        } else if !slug.ends_with('-') {
            slug.push('-');
        }
    }
    let slug = slug.trim_matches('-');
    // A branch has no empty part. The bead's id keeps it apart from that of any other agent.
    if slug.is_empty() { "agent".to_owned() } else { slug.to_owned() }
}

fn model(config: &TownConfig, role: &Role) -> String {
    let own = match role {
        Role::Mayor => &config.role_models.mayor,
        Role::Refinery => &config.role_models.refinery,
        Role::Other(_) | Role::Polecat => &config.role_models.polecat,
    };
    own.clone().or_else(|| config.default_model.clone()).unwrap_or_else(|| DEFAULT_MODEL.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A branch with an empty part is none, and a bead keeps its first branch.
    #[test]
    fn a_name_without_a_letter_that_a_branch_may_have_still_names_one() {
        assert_eq!(agent_slug("Toast-polecat 7"), "toast-polecat-7");
        for name in ["Жук", "🚀", "--", ""] {
            assert_eq!(agent_slug(name), "agent", "{name}");
        }
    }
}
