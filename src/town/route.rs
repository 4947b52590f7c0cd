//! The town family's part of the HTTP surface, below `/api` (spec/town.md 2.2 to 2.6): what each path names, and who may ask.
//!
//! The rows are in [`super::table`]. The Worker and the objects that it forwards to read a path by the same table.

use super::error::TownError;
use super::guard::Guard;
use super::table::TABLE;
use super::table::Target;
use crate::route::Refusal;
use crate::route::percent_decode;
use protocol::id::AgentId;
use protocol::id::BeadId;
use protocol::id::RigId;
use protocol::id::TownId;
use protocol::id::UserId;

/// A known path with the right method.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TownRoute {
    pub target: Target,
    pub guard: Guard,
    pub ids: Ids,
}

/// What a path names. Each is there wherever the pattern of the route has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ids {
    pub town: Option<TownId>,
    pub rig: Option<RigId>,
    pub agent: Option<AgentId>,
    /// A bead, or what is one: a convoy, an escalation, a review.
    pub bead: Option<BeadId>,
    pub user: Option<UserId>,
}

/// What is not named where it is needed: no path of the table gets here.
const UNNAMED: TownError = TownError::NotFound("Not found");

impl Ids {
    /// The town of the path.
    pub fn town(&self) -> Result<&TownId, TownError> {
        self.town.as_ref().ok_or(UNNAMED)
    }

    /// The rig of the path.
    pub fn rig(&self) -> Result<&RigId, TownError> {
        self.rig.as_ref().ok_or(UNNAMED)
    }

    /// The agent of the path.
    pub fn agent(&self) -> Result<&AgentId, TownError> {
        self.agent.as_ref().ok_or(UNNAMED)
    }

    /// The bead of the path.
    pub fn bead(&self) -> Result<&BeadId, TownError> {
        self.bead.as_ref().ok_or(UNNAMED)
    }

    /// The user of the path.
    pub fn user(&self) -> Result<&UserId, TownError> {
        self.user.as_ref().ok_or(UNNAMED)
    }
}

impl TownRoute {
    /// Finds the route of a request by the segments of its path behind `/api`. Of two patterns that match, the first row counts.
    pub fn parse(method: &str, segments: &[&str]) -> Result<Self, Refusal> {
        let mut refusal = Refusal::NotFound;
        for (allowed, pattern, guard, target) in TABLE {
            let Some(ids) = matched(pattern, segments) else { continue };
            if *allowed == method {
                return Ok(Self { target: *target, guard: *guard, ids });
            }
            refusal = Refusal::MethodNotAllowed;
        }
        Err(refusal)
    }
}

/// What a path names, if it has this pattern.
fn matched(pattern: &str, segments: &[&str]) -> Option<Ids> {
    let mut ids = Ids::default();
    let mut wanted = pattern.split('/');
    for segment in segments {
        match wanted.next()? {
            "{town}" => ids.town = Some(TownId::parse(segment).ok()?),
            "{rig}" => ids.rig = Some(RigId::parse(segment).ok()?),
            "{agent}" => ids.agent = Some(AgentId::parse(segment).ok()?),
            "{bead}" => ids.bead = Some(BeadId::parse(segment).ok()?),
            "{user}" => ids.user = Some(UserId::parse(&percent_decode(segment)?).ok()?),
            "{any}" if !segment.is_empty() => {}
            word if word == *segment => {}
            _ => return None,
        }
    }
    wanted.next().is_none().then_some(ids)
}

#[cfg(test)]
mod tests {
    use super::super::op::AgentOp;
    use super::super::op::BeadOp;
    use super::super::op::DrainOp;
    use super::super::op::Op;
    use super::super::table::Edge;
    use super::*;

    fn parse(method: &str, path: &str) -> Result<TownRoute, Refusal> {
        TownRoute::parse(method, &path.split('/').collect::<Vec<_>>())
    }

    #[test]
    fn every_row_is_found_by_its_own_path_and_method() {
        for (method, pattern, guard, target) in TABLE {
            let path = pattern.replace(['{', '}'], "");
            let found = parse(method, &path).unwrap();
            assert_eq!((found.guard, found.target), (*guard, *target), "{method} {path}: another row comes first");
            assert_eq!(parse("TRACE", &path), Err(Refusal::MethodNotAllowed), "{path}");
        }
    }

    #[test]
    fn a_path_names_its_ids() {
        let found = parse("POST", "towns/t1/rigs/r1/agents/a1/heartbeat").unwrap();
        assert_eq!(found.target, Target::Ledger(Op::Drain(DrainOp::Heartbeat)));
        let (town, rig, agent) = (TownId::parse("t1").ok(), RigId::parse("r1").ok(), AgentId::parse("a1").ok());
        assert_eq!(found.ids, Ids { town, rig, agent, ..Ids::default() });
        let user = parse("GET", "users/oauth%2Fgoogle%3A1/towns").unwrap().ids.user;
        assert_eq!(user, UserId::parse("oauth/google:1").ok());
    }

    #[test]
    fn words_win_over_ids() {
        let target = |method, path| parse(method, path).map(|route| route.target);
        assert_eq!(
            target("POST", "towns/t/rigs/r/agents/get-or-create"),
            Ok(Target::Ledger(Op::Agent(AgentOp::GetOrCreate)))
        );
        assert_eq!(
            target("POST", "mayor/t/tools/rigs/r/beads/bulk-delete"),
            Ok(Target::Ledger(Op::Bead(BeadOp::DeleteMany)))
        );
        assert_eq!(target("GET", "towns/t/cloudflare-debug"), Ok(Target::Edge(Edge::ObjectIds)));
    }

    #[test]
    fn what_is_in_no_row_is_not_found() {
        for path in
            ["", "towns", "towns/t1", "towns//drain-status", "towns/../drain-status", "towns/t1/beads", "mayor/t1"]
        {
            assert_eq!(parse("GET", path), Err(Refusal::NotFound), "{path}");
        }
        assert_eq!(parse("GET", "towns/t1/container-ready"), Err(Refusal::MethodNotAllowed));
    }
}
