//! One agent session on an agent server: what is said to it, and what it said (spec/kilo.md 4).

use crate::session::kilo::client::CallError;
use crate::session::kilo::client::Client;
use crate::session::kilo::environment::PROVIDER;
use crate::session::limits;
use crate::session::redact::Redactor;
use crate::session::transfer;
use crate::session::transfer::TransferError;
use crate::town::limits::ABORT_TIMEOUT;
use crate::town::limits::CONVERSATION_TIMEOUT;
use protocol::id::KiloSessionId;
use serde::Deserialize;
use serde_json::json;
use std::path::Path;
use std::time::Duration;

/// The two halves of an export.
const PART_BYTES_MAX: u64 = limits::EXPORT_BYTES_MAX / 2;

/// A session.
#[derive(Clone, Debug)]
pub struct Talk {
    /// Its session, for the calls that every role makes.
    pub client: Client,
    http: reqwest::Client,
    base: String,
    model: String,
    /// Goes with each prompt: the server forgets it after the turn.
    system: Option<String>,
}

#[derive(Deserialize)]
struct Created {
    id: KiloSessionId,
}

impl Talk {
    /// The session `session` of the server on `port`, whose refusals tell no secrets.
    pub fn with(
        http: &reqwest::Client,
        port: u16,
        session: KiloSessionId,
        model: &str,
        system: Option<&str>,
        redactor: Redactor,
    ) -> Self {
        Self {
            client: Client::new(http.clone(), port, session, model.to_owned()).with_redactor(redactor),
            http: http.clone(),
            base: format!("http://127.0.0.1:{port}"),
            model: model.to_owned(),
            system: system.map(str::to_owned),
        }
    }

    /// Makes a session on the server. A title spares the call of the model that would find one.
    pub async fn create(http: &reqwest::Client, port: u16, title: &str) -> Result<KiloSessionId, CallError> {
        let call = http.post(format!("http://127.0.0.1:{port}/session")).timeout(limits::AGENT_CALL_TIMEOUT);
        let answer = call.json(&json!({ "title": title })).send().await?;
        let status = answer.status();
        if !status.is_success() {
            return Err(CallError::Answer { status, body: String::new() });
        }
        Ok(answer.json::<Created>().await?.id)
    }

    /// Its id.
    pub fn session(&self) -> &KiloSessionId {
        self.client.session()
    }

    /// Hands it a prompt, which it takes within `timeout`; what follows comes as events.
    pub async fn prompt(&self, text: &str, timeout: Duration) -> Result<(), CallError> {
        let mut body = json!({
            "parts": [{ "type": "text", "text": text }],
            "model": { "providerID": PROVIDER, "modelID": self.model },
        });
        if let (Some(system), Some(fields)) = (&self.system, body.as_object_mut()) {
            fields.insert("system".to_owned(), system.as_str().into());
        }
        let call = self.http.post(format!("{}/session/{}/prompt_async", self.base, self.session()));
        self.client.expect_success(call.timeout(timeout).json(&body).send().await?).await.map(drop)
    }

    /// Ends whatever it is doing. False: the server did not say that it did.
    pub async fn abort(&self) -> bool {
        matches!(tokio::time::timeout(ABORT_TIMEOUT, self.client.abort()).await, Ok(Ok(())))
    }

    /// Writes the conversation into the folder `scratch` as what `kilo export` would write: its two halves are what the server answers.
    pub async fn export(&self, scratch: &Path, target: &Path) -> Result<(), TransferError> {
        let (info, messages) = (scratch.join("info.json"), scratch.join("messages.json"));
        for (path, file) in [("", &info), ("/message", &messages)] {
            let call = self.http.get(format!("{}/session/{}{path}", self.base, self.session()));
            if !transfer::get(call.timeout(CONVERSATION_TIMEOUT), file, PART_BYTES_MAX).await? {
                return Err(std::io::Error::from(std::io::ErrorKind::NotFound).into());
            }
        }
        let target = target.to_owned();
        let joined = tokio::task::spawn_blocking(move || join(&info, &messages, &target)).await;
        Ok(joined.unwrap_or_else(|error| Err(error.into()))?)
    }
}

fn join(info: &Path, messages: &Path, target: &Path) -> std::io::Result<()> {
    use std::io::Write;
    let mut whole = std::fs::File::create(target)?;
    whole.write_all(b"{\"info\":")?;
    std::io::copy(&mut std::fs::File::open(info)?, &mut whole)?;
    whole.write_all(b",\"messages\":")?;
    std::io::copy(&mut std::fs::File::open(messages)?, &mut whole)?;
    whole.write_all(b"}")
}
