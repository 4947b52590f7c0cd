//! Tells the object how far an attempt is: in order, at least once, however long the object is away.
//!
//! Each report is posted until it is answered with 2xx; only then the next one. An answer that says that nobody wants it any
//! more (404, 409, 410) ends the reporting of this attempt. A newer attempt has a reporter of its own.

use super::limits;
use crate::log;
use protocol::id::SessionId;
use protocol::sandbox::Progress;
use protocol::sandbox::ReportTo;
use reqwest::StatusCode;
use serde_json::json;
use std::time::Duration;
use std::time::Instant;
use tokio::sync::mpsc;

/// Takes the reports of one attempt.
#[derive(Clone)]
pub struct Reporter {
    queue: mpsc::Sender<Progress>,
}

impl Reporter {
    /// Starts posting to `to`. Ends when every sender is gone and the queue is empty.
    pub fn start(http: reqwest::Client, to: ReportTo, session: SessionId) -> Self {
        let (queue, reports) = mpsc::channel(limits::REPORT_QUEUE);
        tokio::spawn(post_all(http, to, session, reports));
        Self { queue }
    }

    /// Queues one report.
    pub async fn send(&self, progress: Progress) {
        // Closed: nobody wants the reports of this attempt.
        let _ = self.queue.send(progress).await;
    }
}

async fn post_all(http: reqwest::Client, to: ReportTo, session: SessionId, mut reports: mpsc::Receiver<Progress>) {
    while let Some(progress) = reports.recv().await {
        if !post(&http, &to, &session, &progress).await {
            return;
        }
    }
}

/// False if nobody wants it.
async fn post(http: &reqwest::Client, to: &ReportTo, session: &SessionId, progress: &Progress) -> bool {
    let begun = Instant::now();
    let mut pause = limits::REPORT_BACKOFF_MIN;
    loop {
        let call = http.post(&to.url).bearer_auth(to.token.expose()).timeout(limits::REPORT_TIMEOUT).json(progress);
        let trouble = match call.send().await.map(|answer| answer.status()) {
            Ok(status) if status.is_success() => return true,
            Ok(status) if is_final(status) => {
                let fields = json!({ "sessionId": session, "attempt": progress.attempt, "status": status.as_u16() });
                log::info("session", "report_unwanted", fields);
                return false;
            }
            Ok(status) => status.to_string(),
            Err(error) => error.without_url().to_string(),
        };
        log::warn(
            "session",
            "report_delayed",
            json!({ "sessionId": session, "attempt": progress.attempt, "n": progress.n, "error": trouble }),
        );
        if begun.elapsed() > limits::REPORT_LIMIT {
            return false;
        }
        tokio::time::sleep(pause).await;
        pause = next_pause(pause);
    }
}

/// No repetition would change the answer.
fn is_final(status: StatusCode) -> bool {
    status.is_client_error() && !is_passing(status)
}

/// Whether the same call could be answered better later.
pub fn is_passing(status: StatusCode) -> bool {
    let passing = [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_EARLY, StatusCode::TOO_MANY_REQUESTS];
    status.is_server_error() || passing.contains(&status)
}

fn next_pause(pause: Duration) -> Duration {
    pause.saturating_mul(2).min(limits::REPORT_BACKOFF_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_passing_refusal_is_worth_another_try() {
        for code in [400, 401, 404, 409, 410, 413] {
            assert!(is_final(StatusCode::from_u16(code).unwrap()), "{code}");
        }
        for code in [408, 425, 429, 500, 502, 503] {
            assert!(!is_final(StatusCode::from_u16(code).unwrap()), "{code}");
        }
    }

    #[test]
    fn pauses_double_up_to_their_bound() {
        let pauses = std::iter::successors(Some(limits::REPORT_BACKOFF_MIN), |pause| Some(next_pause(*pause)));
        let ms: Vec<u128> = pauses.take(7).map(|pause| pause.as_millis()).collect();
        assert_eq!(ms, [250, 500, 1000, 2000, 4000, 5000, 5000]);
    }
}
