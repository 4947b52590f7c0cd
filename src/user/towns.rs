//! The towns and rigs of a user, over HTTP (spec/town.md 2.5). The Worker has checked that the caller is the user.
//!
//! What is made or removed is written here, with what is owed to the town for it, and then told to the town.

use super::UserDO;
use crate::http;
use crate::object::failed;
use crate::object::now_ms;
use crate::town::Body;
use crate::town::TownError;
use crate::town::caller::CALLER_HEADER;
use crate::town::caller::Caller;
use crate::town::fail;
use crate::town::route::TownRoute;
use crate::town::table::Target;
use crate::town::table::UserOp;
use object_core::holdings;
use object_core::holdings::Answer;
use object_core::holdings::Call;
use object_core::holdings::Rig;
use object_core::holdings::Town;
use object_core::holdings::changes;
use object_core::holdings::changes::Settled;
use protocol::id::RigId;
use protocol::id::TownId;
use protocol::town::Success;
use serde::Serialize;
use serde_json::json;
use worker::Request;
use worker::Response;
use worker::Url;

/// The id of what a request makes: drawn by the Worker, which needs it too.
pub const NEW_ID_HEADER: &str = "x-holdfast-new-id";

/// The longest name of a town or rig, in characters.
const NAME_MAX: usize = 64;
/// The longest URL of a repository, in bytes.
const URL_MAX: usize = 2_048;

impl UserDO {
    /// Answers one request that the Worker let through.
    pub async fn towns(&self, mut request: Request) -> worker::Result<Response> {
        let body = request.bytes().await?;
        match self.answer(&request, &body).await {
            Ok(response) => Ok(response),
            Err(error) => fail(&error),
        }
    }

    async fn answer(&self, request: &Request, body: &[u8]) -> Result<Response, TownError> {
        let call = read(request, body)?;
        let answer = holdings::receive(&self.db, now_ms(), &call).map_err(failed)?;
        if let (Some((key, refusal)), Answer::Done | Answer::Rig(_) | Answer::Town(_)) = (change(&call), &answer)
            && self.tell_now(&key).await? == Settled::TakenBack
        {
            return Err(TownError::Refused { status: 500, text: refusal.into() });
        }
        let made = if matches!(call, Call::AddRig { .. } | Call::AddTown(_)) { 201 } else { 200 };
        match answer {
            Answer::Done => said(200, &json!({"deleted": true})),
            Answer::Full => {
                Err(TownError::Refused { status: 409, text: format!("At most {} of them", holdings::HOLDINGS_MAX) })
            }
            Answer::Rig(rig) => said(made, &rig),
            Answer::RigNotFound => Err(TownError::NotFound("Rig not found")),
            Answer::Rigs(rigs) => said(200, &rigs),
            Answer::Town(town) => said(made, &town),
            Answer::TownNotFound => Err(TownError::NotFound("Town not found")),
            Answer::Towns(towns) => said(200, &towns),
        }
    }
}

fn read(request: &Request, body: &[u8]) -> Result<Call, TownError> {
    let headers = request.headers();
    let path = request.path();
    let segments: Vec<&str> = path.trim_start_matches("/api/").split('/').collect();
    let route = TownRoute::parse(request.method().as_ref(), &segments).map_err(|_| TownError::NotFound("Not found"))?;
    let Target::User(op) = route.target else { return Err(TownError::NotFound("Not found")) };
    let caller = headers.get(CALLER_HEADER)?.as_deref().and_then(Caller::parse);
    let user = route.ids.user()?;
    if caller.as_ref().and_then(Caller::user_id) != Some(user) {
        return Err(TownError::Forbidden("Forbidden"));
    }
    let new_id = headers.get(NEW_ID_HEADER)?.unwrap_or_default();
    Ok(match op {
        UserOp::CreateRig => {
            let body = Body::parse(body)?;
            let kilocode_token = body.text_or_none("kilocode_token")?;
            Call::AddRig { rig: new_rig(&body, &new_id, now_ms())?, kilocode_token }
        }
        UserOp::CreateTown => {
            let name = Body::parse(body)?.short_text("name", NAME_MAX)?;
            Call::AddTown(new_town(name, &new_id, user.as_str(), now_ms())?)
        }
        UserOp::DeleteRig => Call::RemoveRig(route.ids.rig()?.clone()),
        UserOp::DeleteTown => Call::RemoveTown(route.ids.town()?.clone()),
        UserOp::Rig => Call::Rig(route.ids.rig()?.clone()),
        UserOp::Rigs => Call::Rigs(route.ids.town()?.clone()),
        UserOp::Town => Call::Town(route.ids.town()?.clone()),
        UserOp::Towns => Call::Towns,
    })
}

/// The key of what a call makes owed, and what its caller is told if the town refuses that.
fn change(call: &Call) -> Option<(String, &'static str)> {
    match call {
        Call::AddRig { rig, .. } => Some((changes::rig_key(&rig.id), "Failed to configure rig")),
        Call::AddTown(town) => Some((changes::town_key(&town.id), "Failed to create town")),
        Call::RemoveRig(rig) => Some((changes::rig_key(rig), "")),
        Call::RemoveTown(town) => Some((changes::town_key(town), "")),
        Call::Rig(_) | Call::Rigs(_) | Call::Town(_) | Call::Towns => None,
    }
}

fn said<T: Serialize>(status: u16, data: &T) -> Result<Response, TownError> {
    Ok(http::json(status, &Success::new(data))?)
}

fn new_town(name: String, id: &str, owner: &str, now: i64) -> Result<Town, TownError> {
    let (id, owner_user_id) = (TownId::parse(id)?, owner.to_owned());
    Ok(Town { id, name, owner_user_id, created_at: now, updated_at: now })
}

fn new_rig(body: &Body, id: &str, now: i64) -> Result<Rig, TownError> {
    let git_url = body.text("git_url")?;
    if git_url.len() > URL_MAX || Url::parse(&git_url).is_err() {
        return Err(TownError::invalid("git_url", format!("Expected a URL of at most {URL_MAX} bytes")));
    }
    let branch = body.text_or_none("default_branch")?.unwrap_or_else(|| "main".into());
    let branch = protocol::id::BranchName::parse(&branch);
    let branch = branch.map_err(|error| TownError::invalid("default_branch", error.message))?;
    Ok(Rig {
        id: RigId::parse(id)?,
        town_id: body.id("town_id", TownId::parse)?,
        name: body.short_text("name", NAME_MAX)?,
        git_url,
        default_branch: branch.into(),
        platform_integration_id: body.text_or_none("platform_integration_id")?,
        created_at: now,
        updated_at: now,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn rig(body: Value) -> Result<Rig, TownError> {
        new_rig(&Body::parse(body.to_string().as_bytes()).unwrap(), "r1", 0)
    }

    #[test]
    fn a_rig_is_read_and_pinned() {
        let body = json!({"town_id": "t", "name": " app ", "git_url": "https://example.com/r.git"});
        let wire = json!({"id": "r1", "town_id": "t", "name": "app", "git_url": "https://example.com/r.git",
            "default_branch": "main", "platform_integration_id": null,
            "created_at": "1970-01-01T00:00:00.000Z", "updated_at": "1970-01-01T00:00:00.000Z"});
        assert_eq!(serde_json::to_value(rig(body).unwrap()).unwrap(), wire);
    }

    #[test]
    fn what_is_wrong_with_a_rig_is_named() {
        let good =
            json!({"town_id": "t", "name": "app", "git_url": "https://example.com/r.git", "default_branch": "main"});
        for (field, bad) in [
            ("town_id", json!("../t")),
            ("name", json!("")),
            ("name", json!("x".repeat(65))),
            ("git_url", json!("not a url")),
            ("default_branch", json!("a..b")),
        ] {
            let mut body = good.clone();
            body[field] = bad;
            assert!(matches!(rig(body), Err(TownError::Invalid { field: named, .. }) if named == field), "{field}");
        }
    }
}
