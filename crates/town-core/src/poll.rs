//! Pull requests that cannot be read (spec/town.md 8.4): each answer that will not pass by itself is a strike, and after some in a row the review
//! fails, so that none is asked about for ever.

use crate::Step;
use crate::bead::FailureReason;
use crate::error::Fault;
use crate::message::call::ReviewResult;
use crate::store;
use protocol::id::BeadId;
use protocol::town::bead::Bead;
use serde_json::json;

/// Where a merge request keeps its strikes.
const STRIKES: &str = "poll_non_transient_count";
/// How many in a row end a review.
const STRIKES_MAX: i64 = 3;
const FAILED: &str = "pr_poll_failed";

impl Step<'_> {
    /// A poll ended in an error that is no matter of time.
    pub fn poll_failed(&mut self, review: &BeadId, error: &str) -> Result<(), Fault> {
        let Some(found) = store::bead::find(self.db, review)?.filter(|bead| !bead.status.is_terminal()) else {
            return Ok(());
        };
        let strikes = strikes(&found).saturating_add(1);
        if strikes < STRIKES_MAX {
            return Ok(store::bead::merge_metadata(self.db, review, &json!({ STRIKES: strikes }))?);
        }
        let told = json!({ STRIKES: strikes, "failureReason": FAILED, "failureMessage": error });
        store::bead::merge_metadata(self.db, review, &told)?;
        let message = format!("The pull request cannot be read: {error}");
        let reason = FailureReason { code: FAILED, message: message.clone(), source: "scheduler" };
        self.decide_review(review, ReviewResult::Failed, &message, None, Some(reason))
    }

    /// A poll was answered: what failed before counts no more.
    pub fn poll_answered(&mut self, review: &BeadId) -> Result<(), Fault> {
        match store::bead::find(self.db, review)? {
            Some(found) if strikes(&found) > 0 => {
                Ok(store::bead::merge_metadata(self.db, review, &json!({ STRIKES: null }))?)
            }
            _ => Ok(()),
        }
    }
}

fn strikes(review: &Bead) -> i64 {
    review.metadata.get(STRIKES).and_then(serde_json::Value::as_i64).unwrap_or_default()
}
