//! Telling towns what was made and removed here. The rules are `object_core::holdings::changes`.

use super::UserDO;
use crate::log;
use crate::object::ask_status;
use crate::object::failed;
use crate::object::now_ms;
use crate::town::caller::CALLER_HEADER;
use crate::town::caller::Caller;
use futures_util::future::join_all;
use object_core::holdings::changes;
use object_core::holdings::changes::Change;
use object_core::holdings::changes::Settled;
use object_core::holdings::changes::Told;
use object_core::time::SECOND;
use protocol::id::UserId;
use serde_json::json;
use worker::Method;
use worker::Request;
use worker::RequestInit;

/// How long a town may take to answer: it asks nobody.
const TOWN_MS: i64 = 8 * SECOND;

impl UserDO {
    /// Tells the town of the change that was just written, so that whoever asked for it finds it there. If the town does not answer, the alarm tells it.
    pub async fn tell_now(&self, key: &str) -> worker::Result<Settled> {
        let change = changes::take_now(&self.db, now_ms(), key).map_err(failed)?;
        self.set_alarm()?;
        match change {
            Some(change) => self.tell(change).await,
            None => Ok(Settled::Done),
        }
    }

    /// Tells all that is due.
    pub async fn tell_what_is_due(&self) -> worker::Result<()> {
        let due = changes::take_due(&self.db, now_ms()).map_err(failed)?;
        self.set_alarm()?;
        join_all(due.into_iter().map(|change| self.tell(change))).await.into_iter().try_for_each(|told| told.map(drop))
    }

    fn set_alarm(&self) -> worker::Result<()> {
        self.alarm.set(changes::next_try(&self.db).map_err(failed)?);
        Ok(())
    }

    async fn tell(&self, change: Change) -> worker::Result<Settled> {
        let told = match self.told(&change).await {
            Ok(200) => Told::Done,
            Ok(status) if (400..500).contains(&status) => {
                log::info("change_refused", &[("key", &change.key()), ("status", &status.to_string())]);
                Told::Refused
            }
            Ok(status) => self.unknown(&change, &format!("the town answered {status}")),
            Err(error) => self.unknown(&change, &error.to_string()),
        };
        let settled = changes::settle(&self.db, &change, told).map_err(failed)?;
        self.set_alarm()?;
        Ok(settled)
    }

    fn unknown(&self, change: &Change, reason: &str) -> Told {
        log::error("change_not_told", &[("key", &change.key()), ("error", reason)]);
        Told::Unknown
    }

    /// The status of the town's answer.
    async fn told(&self, change: &Change) -> worker::Result<u16> {
        let mut init = RequestInit::new();
        let path = match change {
            Change::AddRig { rig, name, git_url, default_branch, kilocode_token, .. } => {
                let mut body = json!({"name": name, "git_url": git_url, "default_branch": default_branch});
                if let (Some(token), Some(fields)) = (kilocode_token, body.as_object_mut()) {
                    fields.insert("kilocode_token".into(), token.as_str().into());
                }
                init.with_method(Method::Put).with_body(Some(body.to_string().into()));
                format!("/rigs/{rig}")
            }
            Change::EndTown { .. } => {
                init.with_method(Method::Delete);
                "/town".to_owned()
            }
            Change::MakeTown { .. } => {
                init.with_method(Method::Put);
                "/town".to_owned()
            }
            Change::RemoveRig { rig, .. } => {
                init.with_method(Method::Delete);
                format!("/rigs/{rig}")
            }
        };
        let user = self.owner.strip_prefix("user:").and_then(|user| UserId::parse(user).ok());
        let user = user.ok_or_else(|| worker::Error::RustError("only a user has towns".into()))?;
        init.headers.set(CALLER_HEADER, &Caller::User(user).header())?;
        let request = Request::new_with_init(&format!("http://town{path}"), &init)?;
        ask_status(&self.env, "TOWN", change.town().as_str(), request, TOWN_MS).await
    }
}
