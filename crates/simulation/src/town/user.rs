//! People: who hands work out, who changes the plan, who looks on, and the host of pull requests.

use super::faults;
use super::world::Event;
use super::world::World;
use object_core::time::MINUTE;
use object_core::time::SECOND;
use protocol::id::AgentId;
use protocol::id::BeadId;
use protocol::id::RigId;
use protocol::town::agent::NudgeMode;
use protocol::town::agent::NudgePriority;
use protocol::town::bead::BeadStatus;
use protocol::town::bead::BeadType;
use protocol::town::bead::Priority;
use protocol::town::bead::label;
use protocol::town::convoy::ConvoyTask;
use protocol::town::convoy::MergeMode;
use serde_json::Map;
use town_core::message::Call;
use town_core::message::bead::BeadChanges;
use town_core::message::bead::NewBead;
use town_core::message::call::AgentCall;
use town_core::message::call::BeadCall;
use town_core::message::call::TalkCall;
use town_core::message::call::TownCall;
use town_core::message::call::WorkCall;
use town_core::message::effect::PullRequestState;

/// So much work is handed out in one run.
const SLINGS_MAX: u32 = 8;

const ACTIVE_CONVOYS: &str = "SELECT bead_id FROM beads WHERE type = 'convoy' AND status = 'open' ORDER BY rowid";
const OPEN_REVIEWS: &str =
    "SELECT bead_id FROM beads WHERE type = 'merge_request' AND status IN ('open', 'in_progress') ORDER BY rowid";
const WORK_THAT_IS_OVER: &str = "SELECT bead_id FROM beads
    WHERE type IN ('issue', 'merge_request') AND status IN ('closed', 'failed') ORDER BY rowid";

/// The town's user.
pub struct User {
    pub rig: RigId,
    pub rests: bool,
    slings: u32,
}

/// A pull request.
pub struct PullRequest {
    review: BeadId,
    branch: String,
    target: String,
    ends_at: i64,
    closes: bool,
    merged: bool,
}

impl User {
    pub fn new(rig: RigId) -> Self {
        Self { rig, rests: false, slings: 0 }
    }
}

impl World<'_> {
    /// The user does something, and again after a while.
    pub fn user_acts(&mut self) {
        if self.user.rests {
            return;
        }
        let pause = self.run.random.between("user", 5 * SECOND, 4 * MINUTE);
        self.queue.push(self.now + pause, Event::UserActs);
        let call = if self.run.fault(faults::USER_MEDDLES) { self.user_meddles() } else { self.user_plans() };
        if let Some(call) = call {
            drop(self.ask_town(call));
        }
    }

    fn user_plans(&mut self) -> Option<Call> {
        let busy = self.user.slings >= SLINGS_MAX;
        match self.run.random.below("plan", 12) {
            0..=3 if !busy => Some(self.user_slings()),
            4 if !busy => {
                self.user.slings += 1;
                let new = NewBead { rig: Some(self.user.rig.clone()), ..NewBead::new(BeadType::Issue, "a task") };
                Some(Call::Bead(BeadCall::Create(new)))
            }
            5 | 6 if !busy => Some(self.user_slings_convoy()),
            7 => Some(Call::Town(TownCall::MessageMayor { message: "how is it going?".to_owned(), model: None })),
            8 => self.pick_agent().map(|agent| {
                Call::Talk(TalkCall::Nudge {
                    agent,
                    message: "go on".to_owned(),
                    mode: if self.run.random.percent("at-once", 50) {
                        NudgeMode::Immediate
                    } else {
                        NudgeMode::WaitIdle
                    },
                    priority: NudgePriority::Normal,
                    source: "user".to_owned(),
                    ttl_ms: None,
                })
            }),
            9 => {
                let (from, to) = (self.pick_agent()?, self.pick_agent()?);
                let (subject, body) = ("hello".to_owned(), "there".to_owned());
                Some(Call::Talk(TalkCall::SendMail { from, to, subject, body }))
            }
            10 => {
                let staged = self.pick("SELECT bead_id FROM convoy_metadata WHERE staged = 1 ORDER BY bead_id")?;
                Some(Call::Work(WorkCall::StartConvoy { convoy: BeadId::parse(&staged).ok()? }))
            }
            _ => Some(Call::Town(TownCall::Status {})),
        }
    }

    /// One more piece of work.
    pub fn user_slings(&mut self) -> Call {
        self.user.slings += 1;
        Call::Work(WorkCall::Sling {
            rig: self.user.rig.clone(),
            title: "a task".to_owned(),
            body: None,
            priority: Priority::Medium,
            labels: Vec::new(),
            metadata: Map::new(),
        })
    }

    fn user_slings_convoy(&mut self) -> Call {
        let count = 2 + usize::try_from(self.run.random.below("tasks", 3)).unwrap_or(0);
        self.user.slings += 2;
        let waits = self.run.random.percent("tasks-wait", 60);
        let task = |n: usize| ConvoyTask {
            title: format!("part {n}"),
            body: None,
            depends_on: if waits && n > 0 { vec![n - 1] } else { vec![] },
        };
        let land = self.run.random.percent("lands", 50);
        Call::Work(WorkCall::SlingConvoy {
            rig: self.user.rig.clone(),
            title: "a convoy".to_owned(),
            tasks: (0..count).map(task).collect(),
            merge_mode: Some(if land { MergeMode::ReviewThenLand } else { MergeMode::ReviewAndMerge }),
            staged: Some(self.run.random.percent("staged", 25)),
        })
    }

    fn user_meddles(&mut self) -> Option<Call> {
        let open = "SELECT bead_id FROM beads WHERE type = 'issue' AND status NOT IN ('closed', 'failed')
            AND labels NOT LIKE '%gt:%' ORDER BY rowid";
        let bead = self.pick(open).and_then(|bead| BeadId::parse(&bead).ok());
        let rig = self.user.rig.clone();
        Some(match self.run.random.below("meddle", 15) {
            0 => {
                let agent = "user".to_owned();
                Call::Bead(BeadCall::SetStatus { bead: bead?, status: BeadStatus::Closed, agent })
            }
            1 => {
                let agent = "user".to_owned();
                Call::Bead(BeadCall::SetStatus { bead: bead?, status: BeadStatus::Failed, agent })
            }
            2 => Call::Bead(BeadCall::Delete { beads: vec![bead?] }),
            3 => {
                let agent = self.pick_agent()?;
                Call::Bead(BeadCall::Reassign { bead: bead?, rig, agent })
            }
            4 => {
                let held = self.run.random.percent("held", 50);
                let labels = Some(if held { vec![label::HELD.to_owned()] } else { Vec::new() });
                let changes = BeadChanges { labels, ..BeadChanges::default() };
                Call::Bead(BeadCall::Update { bead: bead?, rig, changes, actor: "user".to_owned() })
            }
            5 => Call::Agent(AgentCall::Reset { agent: self.pick_agent()? }),
            6 => Call::Agent(AgentCall::Delete { agent: self.pick_agent()? }),
            7 => {
                let convoy = self.pick("SELECT bead_id FROM convoy_metadata ORDER BY bead_id")?;
                Call::Work(WorkCall::CloseConvoy { convoy: BeadId::parse(&convoy).ok()? })
            }
            8 => {
                let (title, created_by) = ("by hand".to_owned(), Some("user".to_owned()));
                Call::Work(WorkCall::CreateConvoy { title, beads: vec![bead?], created_by })
            }
            9 => {
                let convoy = BeadId::parse(&self.pick(ACTIVE_CONVOYS)?).ok()?;
                Call::Work(WorkCall::AddToConvoy { convoy, bead: bead?, depends_on: Vec::new() })
            }
            10 => {
                let convoy = BeadId::parse(&self.pick(ACTIVE_CONVOYS)?).ok()?;
                Call::Work(WorkCall::RemoveFromConvoy { convoy, bead: bead? })
            }
            11 => {
                let review = BeadId::parse(&self.pick(OPEN_REVIEWS)?).ok()?;
                Call::Bead(BeadCall::Delete { beads: vec![review] })
            }
            12 => {
                let bead = BeadId::parse(&self.pick(OPEN_REVIEWS)?).ok()?;
                let status =
                    if self.run.random.percent("review-fails", 50) { BeadStatus::Failed } else { BeadStatus::Closed };
                Call::Bead(BeadCall::SetStatus { bead, status, agent: "user".to_owned() })
            }
            13 => {
                // As one who looks at a page that is not up to date.
                let statuses = [BeadStatus::Open, BeadStatus::InProgress, BeadStatus::Closed, BeadStatus::Failed];
                let n = usize::try_from(self.run.random.below("late-status", 4)).unwrap_or(0);
                let bead = BeadId::parse(&self.pick(WORK_THAT_IS_OVER)?).ok()?;
                Call::Bead(BeadCall::SetStatus { bead, status: statuses[n], agent: "user".to_owned() })
            }
            _ => Call::Town(TownCall::EnsureMayor {}),
        })
    }

    /// The user wants nothing more: every escalation is seen.
    pub fn acknowledge_all(&mut self) {
        for escalation in self.column("SELECT bead_id FROM escalation_metadata WHERE acknowledged = 0 ORDER BY bead_id")
        {
            if let Ok(escalation) = BeadId::parse(&escalation) {
                drop(self.ask_town(Call::Talk(TalkCall::Acknowledge { escalation })));
            }
        }
    }

    fn pick_agent(&mut self) -> Option<AgentId> {
        let sql = "SELECT bead_id FROM agent_metadata WHERE role = 'polecat' ORDER BY rowid";
        AgentId::parse(&self.pick(sql)?).ok()
    }

    fn pick(&mut self, sql: &str) -> Option<String> {
        let mut found = self.column(sql);
        let n = self.run.random.below("pick", u64::try_from(found.len()).ok()?.max(1));
        (!found.is_empty()).then(|| found.swap_remove(usize::try_from(n).unwrap_or(0)))
    }

    /// A viewer comes or goes.
    pub fn viewer_acts(&mut self) {
        let pause = self.run.random.between("viewer", 30 * SECOND, 15 * MINUTE);
        if !self.user.rests {
            self.queue.push(self.now + pause, Event::ViewerActs);
        }
        if self.town.viewers > 0 && (self.user.rests || self.run.fault(faults::VIEWER_LEAVES)) {
            self.town.viewers -= 1;
            drop(self.town_turn(town_core::message::Input::Woke));
        } else if !self.user.rests && self.town.viewers < 2 {
            self.town.viewers += 1;
            drop(self.ask_town(Call::Town(TownCall::Status {})));
        }
    }

    /// A refinery opens a pull request.
    pub fn open_pull_request(&mut self, review: &BeadId, branch: &str, target: &str) -> String {
        let url = format!("https://forge.example/pull/{review}");
        let ends_at = self.now + self.run.random.between("pull-request", 30 * SECOND, 15 * MINUTE);
        let closes = self.run.fault(faults::PR_CLOSED);
        let (branch, target) = (branch.to_owned(), target.to_owned());
        let pull_request = PullRequest { review: review.clone(), branch, target, ends_at, closes, merged: false };
        self.pull_requests.entry(url.clone()).or_insert(pull_request);
        url
    }

    /// Where a pull request stands.
    pub fn forge_state(&mut self, url: &str) -> PullRequestState {
        let now = self.now;
        let Some(found) = self.pull_requests.get_mut(url) else { return PullRequestState::Open };
        if now < found.ends_at {
            return PullRequestState::Open;
        }
        if found.closes {
            return PullRequestState::Closed;
        }
        if !std::mem::replace(&mut found.merged, true) {
            let (review, branch, target) = (found.review.clone(), found.branch.clone(), found.target.clone());
            self.merge(&review, &branch, &target);
        }
        PullRequestState::Merged
    }
}
