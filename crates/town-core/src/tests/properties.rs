//! What holds after any sequence of inputs: hooks are one-to-one, terminal beads stay so, counters equal a recount, nothing is started in a drain.

use super::world::World;
use super::world::rig;
use crate::message::Call;
use crate::message::Input;
use crate::message::Output;
use crate::message::call::AgentCall;
use crate::message::call::BeadCall;
use crate::message::call::ReviewResult;
use crate::message::call::TalkCall;
use crate::message::call::WorkCall;
use crate::message::container::ContainerAnswer;
use crate::message::container::ContainerCall;
use crate::message::container::ContainerInput;
use crate::message::container::ContainerOutput;
use crate::message::effect::Effect;
use crate::message::effect::Outcome;
use crate::message::effect::PullRequestState;
use database::Database;
use object_core::time::SECOND;
use proptest::prelude::*;
use protocol::id::AgentId;
use protocol::id::BeadId;
use protocol::town::Heartbeat;
use protocol::town::bead::BeadStatus;
use protocol::town::bead::Priority;
use protocol::town::container::ContainerAgentStatus;
use protocol::town::convoy::MergeMode;
use serde_json::Map;
use std::collections::BTreeMap;

/// A world under random inputs, and what it must not forget.
struct Fuzz {
    world: World,
    terminal: BTreeMap<String, String>,
    performed: Vec<(String, Effect)>,
    nonce: Option<String>,
}

impl Fuzz {
    fn ids(&self, sql: &str) -> Vec<String> {
        let rows = self.world.db.query(sql, &[]).unwrap();
        rows.iter().map(|row| row.get(0).unwrap()).collect()
    }

    fn pick(&self, sql: &str, n: u8) -> Option<String> {
        let ids = self.ids(sql);
        ids.get(usize::from(n) % ids.len().max(1)).cloned()
    }

    fn agent(&self, n: u8) -> Option<AgentId> {
        self.pick("SELECT bead_id FROM agent_metadata ORDER BY rowid", n).and_then(|id| AgentId::parse(&id).ok())
    }

    fn bead(&self, kind: &str, n: u8) -> Option<BeadId> {
        let sql = format!("SELECT bead_id FROM beads WHERE type = '{kind}' ORDER BY rowid");
        self.pick(&sql, n).and_then(|id| BeadId::parse(&id).ok())
    }

    /// The call or other input that three numbers stand for; None if there is nothing that it could be about.
    fn input(&mut self, op: u8, n: u8, m: u8) -> Option<Input> {
        let (agent, issue) = (self.agent(n), self.bead("issue", m));
        let call = match op {
            0 => Call::Work(WorkCall::Sling {
                rig: rig("r1"),
                title: "s".into(),
                body: None,
                priority: Priority::Low,
                labels: vec![],
                metadata: Map::new(),
            }),
            1 => {
                let mode = if n.is_multiple_of(2) { MergeMode::ReviewAndMerge } else { MergeMode::ReviewThenLand };
                self.world.convoy_call("c", &[&[], &[0], &[0]], Some(mode), m.is_multiple_of(4))
            }
            2 => Call::Agent(AgentCall::Done {
                agent: agent?,
                bead: None,
                branch: "b".into(),
                pr_url: m.is_multiple_of(3).then(|| "https://github.com/o/r/pull/1".to_owned()),
                summary: None,
            }),
            3 => {
                let reason = m.is_multiple_of(2).then(|| "container eviction".to_owned());
                Call::Agent(AgentCall::Completed { agent, bead: None, success: !m.is_multiple_of(5), reason })
            }
            4 => Call::Bead(BeadCall::SetStatus {
                bead: issue?,
                status: [BeadStatus::Closed, BeadStatus::Failed, BeadStatus::Open, BeadStatus::InProgress]
                    [usize::from(n % 4)],
                agent: "user".into(),
            }),
            5 => Call::Agent(AgentCall::Hook { agent: agent?, bead: issue? }),
            6 => Call::Agent(AgentCall::Unhook { agent: agent? }),
            7 => Call::Work(WorkCall::CompleteReview {
                entry: self.bead("merge_request", m)?,
                status: [ReviewResult::Merged, ReviewResult::Failed, ReviewResult::Conflict][usize::from(n % 3)],
                message: String::new(),
                commit: None,
            }),
            8 => Call::Work(WorkCall::SubmitReview {
                agent: agent?,
                bead: issue?,
                branch: "b".into(),
                pr_url: None,
                summary: None,
            }),
            9 => Call::Bead(BeadCall::Delete { beads: vec![issue?] }),
            10 => Call::Agent(AgentCall::Delete { agent: agent? }),
            11..=13 => {
                let call = self.container_call(op, agent)?;
                return Some(Input::Container(ContainerInput::Call(call)));
            }
            14 => Call::Work(WorkCall::CloseConvoy { convoy: self.bead("convoy", m)? }),
            15 => Call::Talk(TalkCall::Escalate {
                title: "e".into(),
                body: None,
                severity: Priority::High,
                metadata: Map::new(),
                rig: None,
                agent,
            }),
            16 => Call::Agent(AgentCall::RequestChanges { agent: agent?, feedback: "f".into(), files: vec![] }),
            17 => {
                return Some(Input::Observed {
                    agent: agent?,
                    status: ContainerAgentStatus::Exited,
                    exit_reason: None,
                });
            }
            18 => {
                let (key, effect) = self.performed.get(usize::from(n) % self.performed.len().max(1))?.clone();
                let outcome = match (effect, m % 4) {
                    (Effect::Poll { .. }, 0) => Outcome::PullRequest(PullRequestState::Merged),
                    (Effect::Poll { .. }, 1) => Outcome::PullRequest(PullRequestState::Closed),
                    (_, 0 | 1) => Outcome::Done,
                    (_, 2) => Outcome::Draining,
                    _ if n.is_multiple_of(2) => Outcome::Full,
                    _ => Outcome::Failed { reason: "no".into() },
                };
                return Some(Input::Outcome { key, outcome });
            }
            _ => {
                self.world.now += i64::from(n) * i64::from(m) * SECOND / 16;
                return Some(Input::Tick);
            }
        };
        Some(Input::Call(call))
    }

    fn container_call(&self, op: u8, agent: Option<AgentId>) -> Option<ContainerCall> {
        Some(match op {
            11 => ContainerCall::Eviction { instance: None },
            12 => ContainerCall::Ready { instance: None, nonce: self.nonce.clone()? },
            _ => ContainerCall::Heartbeat { agent: agent?, body: Heartbeat::default(), rig: rig("r1") },
        })
    }

    fn step(&mut self, op: u8, n: u8, m: u8) {
        let Some(input) = self.input(op, n, m) else { return };
        for output in self.world.take(input) {
            match output {
                Output::Perform { key, effect, .. } => {
                    let draining = self.world.count("SELECT COUNT(*) FROM drain") > 0;
                    let starts = matches!(effect, Effect::Start { .. });
                    assert!(!(starts && draining), "started into a drain");
                    self.performed.push((key, effect));
                }
                Output::Container(ContainerOutput::Answer(ContainerAnswer::Eviction { nonce })) => {
                    self.nonce = Some(nonce);
                }
                _ => {}
            }
        }
        self.check();
    }

    fn check(&mut self) {
        let hooks = "SELECT COUNT(*) - COUNT(DISTINCT current_hook_bead_id) FROM agent_metadata WHERE current_hook_bead_id IS NOT NULL";
        assert_eq!(self.world.count(hooks), 0, "hooks are one-to-one");
        let rows = self.world.db.query("SELECT bead_id, status, type FROM beads", &[]).unwrap();
        let mut seen = BTreeMap::new();
        for row in rows {
            let (id, status, kind): (String, String, String) =
                (row.get(0).unwrap(), row.get(1).unwrap(), row.get(2).unwrap());
            if let Some(before) = self.terminal.get(&id) {
                let settled = kind == "merge_request" && before == "failed" && status == "closed";
                assert!(*before == status || settled, "{kind} {id} was {before} and is {status}");
            }
            if status == "closed" || status == "failed" {
                seen.insert(id, status);
            }
        }
        self.terminal = seen;
        let orphans = "SELECT COUNT(*) FROM agent_metadata a WHERE NOT EXISTS (SELECT 1 FROM beads b WHERE b.bead_id = a.bead_id)";
        assert_eq!(self.world.count(orphans), 0);
    }

    /// After a tick every counter is what a recount gives.
    fn counters(&mut self) {
        self.world.tick();
        let rows = self.world.db.query(
            "SELECT b.bead_id, c.closed_beads, c.total_beads FROM beads b JOIN convoy_metadata c ON c.bead_id = b.bead_id
             WHERE b.status = 'open'",
            &[],
        );
        for row in rows.unwrap() {
            let convoy: String = row.get(0).unwrap();
            assert_eq!(self.recount(&convoy), (row.get(1).unwrap(), row.get(2).unwrap()), "the counter of a convoy");
        }
    }

    /// How many issues of a convoy are over, and how many there are: counted by hand, and not as the rules do it.
    fn recount(&self, convoy: &str) -> (i64, i64) {
        let tracking = "SELECT b.bead_id, b.status FROM bead_dependencies d JOIN beads b ON b.bead_id = d.bead_id
            WHERE d.depends_on_bead_id = ? AND d.dependency_type = 'tracks' AND b.type = ?";
        let tracked = |by: &str, of: &str| {
            let rows = self.world.db.query(tracking, &[of.into(), by.into()]).unwrap();
            rows.iter().map(|row| (row.get(0).unwrap(), row.get(1).unwrap())).collect::<Vec<(String, String)>>()
        };
        let is_over = |status: &str| matches!(status, "closed" | "failed");
        let issues = tracked("issue", convoy);
        let over = issues.iter().filter(|(id, status)| {
            is_over(status) && tracked("merge_request", id).iter().all(|(_, status)| is_over(status))
        });
        (over.count().try_into().unwrap(), issues.len().try_into().unwrap())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn the_ledger_stays_sound_under_any_inputs(steps in prop::collection::vec((0_u8..26, any::<u8>(), any::<u8>()), 1..60)) {
        let mut fuzz = Fuzz { world: World::new(), terminal: BTreeMap::new(), performed: vec![], nonce: None };
        for (op, n, m) in steps {
            fuzz.step(op, n, m);
        }
        fuzz.counters();
    }
}
