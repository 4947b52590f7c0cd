//! The town family's part of the HTTP surface, below `/api` (spec/town.md 2.2 to 2.6).
//!
//! | Method, path | Guard |
//! | --- | --- |
//! | `POST /api/towns/{town}/container-eviction`, `…/container-ready`, `GET …/drain-status` | C |
//! | `POST /api/towns/{town}/rigs/{rig}/agents/{agent}/heartbeat` | A |
//! | all of [`NOT_BUILT`] | not built yet: 501 |

use crate::route::Refusal;
use protocol::id::AgentId;
use protocol::id::RigId;
use protocol::id::TownId;

/// A known path with the right method.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TownRoute {
    ContainerEviction {
        town: TownId,
    },
    ContainerReady {
        town: TownId,
    },
    DrainStatus {
        town: TownId,
    },
    Heartbeat {
        town: TownId,
        rig: RigId,
        agent: AgentId,
    },
    /// Known, but not there yet.
    NotBuilt,
}

impl TownRoute {
    /// Finds the route of a request by the segments of its path behind `/api`.
    pub fn parse(method: &str, segments: &[&str]) -> Result<Self, Refusal> {
        let only = |allowed: &str, route| if method == allowed { Ok(route) } else { Err(Refusal::MethodNotAllowed) };
        let town = |text: &str| TownId::parse(text).map_err(|_| Refusal::NotFound);
        match segments {
            ["towns", id, "container-eviction"] => only("POST", Self::ContainerEviction { town: town(id)? }),
            ["towns", id, "container-ready"] => only("POST", Self::ContainerReady { town: town(id)? }),
            ["towns", id, "drain-status"] => only("GET", Self::DrainStatus { town: town(id)? }),
            ["towns", id, "rigs", rig, "agents", agent, "heartbeat"] => {
                let rig = RigId::parse(rig).map_err(|_| Refusal::NotFound)?;
                let agent = AgentId::parse(agent).map_err(|_| Refusal::NotFound)?;
                only("POST", Self::Heartbeat { town: town(id)?, rig, agent })
            }
            _ => not_built(method, segments),
        }
    }
}

fn not_built(method: &str, segments: &[&str]) -> Result<TownRoute, Refusal> {
    let mut known = NOT_BUILT.iter().filter(|(_, pattern)| matches(pattern, segments)).peekable();
    if known.peek().is_none() {
        return Err(Refusal::NotFound);
    }
    let allowed = known.any(|(methods, _)| methods.split(' ').any(|allowed| allowed == method));
    if allowed { Ok(TownRoute::NotBuilt) } else { Err(Refusal::MethodNotAllowed) }
}

/// `*` stands for one segment that is not empty.
fn matches(pattern: &str, segments: &[&str]) -> bool {
    pattern.split('/').count() == segments.len()
        && pattern
            .split('/')
            .zip(segments)
            .all(|(wanted, found)| wanted == *found || (wanted == "*" && !found.is_empty()))
}

/// What the specification names and this version does not serve, by methods and path.
const NOT_BUILT: &[(&str, &str)] = &[
    // Rig-scoped (2.3).
    ("POST", "towns/*/rigs/*/agent-events"),
    ("GET POST", "towns/*/rigs/*/agents"),
    ("DELETE GET", "towns/*/rigs/*/agents/*"),
    ("POST", "towns/*/rigs/*/agents/*/checkpoint"),
    ("POST", "towns/*/rigs/*/agents/*/completed"),
    ("DELETE GET POST", "towns/*/rigs/*/agents/*/db-snapshot"),
    ("POST", "towns/*/rigs/*/agents/*/done"),
    ("GET", "towns/*/rigs/*/agents/*/events"),
    ("POST", "towns/*/rigs/*/agents/*/eviction-context"),
    ("DELETE POST", "towns/*/rigs/*/agents/*/hook"),
    ("GET", "towns/*/rigs/*/agents/*/mail"),
    ("POST", "towns/*/rigs/*/agents/*/molecule/advance"),
    ("GET", "towns/*/rigs/*/agents/*/molecule/current"),
    ("POST", "towns/*/rigs/*/agents/*/nudge-delivered"),
    ("GET", "towns/*/rigs/*/agents/*/pending-nudges"),
    ("GET", "towns/*/rigs/*/agents/*/prime"),
    ("POST", "towns/*/rigs/*/agents/*/request-changes"),
    ("POST", "towns/*/rigs/*/agents/*/status"),
    ("POST", "towns/*/rigs/*/agents/*/waiting"),
    ("POST", "towns/*/rigs/*/agents/get-or-create"),
    ("GET POST", "towns/*/rigs/*/beads"),
    ("DELETE GET", "towns/*/rigs/*/beads/*"),
    ("POST", "towns/*/rigs/*/beads/*/close"),
    ("PATCH", "towns/*/rigs/*/beads/*/status"),
    ("POST", "towns/*/rigs/*/escalations"),
    ("GET", "towns/*/rigs/*/events"),
    ("POST", "towns/*/rigs/*/mail"),
    ("POST", "towns/*/rigs/*/molecules"),
    ("POST", "towns/*/rigs/*/nudge"),
    ("POST", "towns/*/rigs/*/refresh-git-token"),
    ("POST", "towns/*/rigs/*/review-queue"),
    ("POST", "towns/*/rigs/*/review-queue/*/complete"),
    ("POST", "towns/*/rigs/*/sling"),
    ("POST", "towns/*/rigs/*/triage/resolve"),
    // Container-side (2.4).
    ("POST", "towns/*/container-events"),
    ("GET POST", "towns/*/container-registry"),
    ("GET", "towns/*/mayor-id"),
    ("POST", "towns/*/refresh-container-token"),
    // User-facing (2.5).
    ("GET", "towns/*/cloudflare-debug"),
    ("GET PATCH", "towns/*/config"),
    ("POST", "towns/*/container/agents/*/message"),
    ("GET POST", "towns/*/container/agents/*/pty"),
    ("DELETE GET PUT", "towns/*/container/agents/*/pty/*"),
    ("GET", "towns/*/container/agents/*/pty/*/connect"),
    ("GET", "towns/*/container/agents/*/status"),
    ("POST", "towns/*/container/agents/*/stop"),
    ("GET", "towns/*/container/agents/*/stream"),
    ("POST", "towns/*/container/agents/*/stream-ticket"),
    ("POST", "towns/*/container/agents/start"),
    ("GET", "towns/*/container/health"),
    ("POST", "towns/*/convoys"),
    ("POST", "towns/*/convoys/bead-closed"),
    ("GET", "towns/*/escalations"),
    ("POST", "towns/*/escalations/*/acknowledge"),
    ("POST", "towns/*/mayor/completed"),
    ("POST", "towns/*/mayor/configure"),
    ("POST", "towns/*/mayor/dashboard-context"),
    ("POST", "towns/*/mayor/destroy"),
    ("POST", "towns/*/mayor/ensure"),
    ("POST", "towns/*/mayor/message"),
    ("GET", "towns/*/mayor/status"),
    ("POST", "towns/*/mayor/ui-action"),
    ("GET", "towns/*/status/ws"),
    ("POST", "orgs/*/rigs"),
    ("DELETE GET", "orgs/*/rigs/*"),
    ("GET POST", "orgs/*/towns"),
    ("DELETE GET", "orgs/*/towns/*"),
    ("GET", "orgs/*/towns/*/rigs"),
    ("POST", "users/*/rigs"),
    ("DELETE GET", "users/*/rigs/*"),
    ("GET POST", "users/*/towns"),
    ("DELETE GET", "users/*/towns/*"),
    ("GET", "users/*/towns/*/events"),
    ("GET", "users/*/towns/*/rigs"),
    // Mayor tools (2.6).
    ("GET", "mayor/*/tools/convoys"),
    ("GET PATCH", "mayor/*/tools/convoys/*"),
    ("POST", "mayor/*/tools/convoys/*/add-bead"),
    ("POST", "mayor/*/tools/convoys/*/close"),
    ("POST", "mayor/*/tools/convoys/*/remove-bead"),
    ("POST", "mayor/*/tools/convoys/*/start"),
    ("POST", "mayor/*/tools/escalations/*/acknowledge"),
    ("POST", "mayor/*/tools/mail"),
    ("GET", "mayor/*/tools/rigs"),
    ("GET", "mayor/*/tools/rigs/*/agents"),
    ("GET", "mayor/*/tools/rigs/*/agents/*/pending-nudges"),
    ("POST", "mayor/*/tools/rigs/*/agents/*/reset"),
    ("GET", "mayor/*/tools/rigs/*/beads"),
    ("DELETE PATCH", "mayor/*/tools/rigs/*/beads/*"),
    ("POST", "mayor/*/tools/rigs/*/beads/*/reassign"),
    ("POST", "mayor/*/tools/rigs/*/beads/bulk-delete"),
    ("POST", "mayor/*/tools/rigs/*/beads/delete-by-status"),
    ("POST", "mayor/*/tools/sling"),
    ("POST", "mayor/*/tools/sling-batch"),
    ("POST", "mayor/*/tools/ui-action"),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(method: &str, path: &str) -> Result<TownRoute, Refusal> {
        TownRoute::parse(method, &path.split('/').collect::<Vec<_>>())
    }

    #[test]
    fn the_drain_routes_carry_their_ids() {
        let town = || TownId::parse("t1").unwrap();
        assert_eq!(parse("POST", "towns/t1/container-eviction"), Ok(TownRoute::ContainerEviction { town: town() }));
        assert_eq!(parse("POST", "towns/t1/container-ready"), Ok(TownRoute::ContainerReady { town: town() }));
        assert_eq!(parse("GET", "towns/t1/drain-status"), Ok(TownRoute::DrainStatus { town: town() }));
        let (rig, agent) = (RigId::parse("r1").unwrap(), AgentId::parse("a1").unwrap());
        let heartbeat = TownRoute::Heartbeat { town: town(), rig, agent };
        assert_eq!(parse("POST", "towns/t1/rigs/r1/agents/a1/heartbeat"), Ok(heartbeat));
        assert_eq!(parse("GET", "towns/t1/container-ready"), Err(Refusal::MethodNotAllowed));
        assert_eq!(parse("POST", "towns/t1/drain-status"), Err(Refusal::MethodNotAllowed));
    }

    #[test]
    fn what_is_not_built_is_known_by_method_and_path() {
        for (methods, pattern) in NOT_BUILT {
            let path = pattern.replace('*', "x");
            for method in methods.split(' ') {
                assert_eq!(parse(method, &path), Ok(TownRoute::NotBuilt), "{method} {path}");
            }
            assert_eq!(parse("TRACE", &path), Err(Refusal::MethodNotAllowed), "{path}");
        }
    }

    #[test]
    fn what_is_in_no_table_is_not_found() {
        for path in
            ["", "towns", "towns/t1", "towns//drain-status", "towns/../drain-status", "towns/t1/beads", "mayor/t1"]
        {
            assert_eq!(parse("GET", path), Err(Refusal::NotFound), "{path}");
        }
    }
}
