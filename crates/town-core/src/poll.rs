//! Pull requests that cannot be read (spec/town.md 8.4): each poll that brings no state is a strike, and after some in a row the review fails, so that
//! none is asked about for ever. What may pass by itself has more patience.

use crate::Step;
use crate::bead::FailureReason;
use crate::error::Fault;
use crate::message::call::ReviewResult;
use crate::store;
use protocol::id::BeadId;
use protocol::town::bead::Bead;
use serde_json::json;

const FAILED: &str = "pr_poll_failed";

/// What kept a poll from its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strike {
    /// It is no matter of time.
    Lasting,
    /// The host is overloaded, or cannot be reached.
    Transient,
}

impl Strike {
    /// Where a merge request keeps them, and how many in a row end a review.
    fn bound(self) -> (&'static str, i64) {
        match self {
            Self::Lasting => ("poll_non_transient_count", 3),
            Self::Transient => ("poll_transient_count", 10),
        }
    }
}

impl Step<'_> {
    /// A poll ended in an error.
    pub fn poll_failed(&mut self, review: &BeadId, strike: Strike, error: &str) -> Result<(), Fault> {
        let Some(found) = store::bead::find(self.db, review)?.filter(|bead| !bead.status.is_terminal()) else {
            return Ok(());
        };
        let (name, most) = strike.bound();
        let strikes = strikes(&found, strike).saturating_add(1);
        if strikes < most {
            return Ok(store::bead::merge_metadata(self.db, review, &json!({ name: strikes }))?);
        }
        let told = json!({ name: strikes, "failureReason": FAILED, "failureMessage": error });
        store::bead::merge_metadata(self.db, review, &told)?;
        let message = format!("The pull request cannot be read: {error}");
        let reason = FailureReason { code: FAILED, message: message.clone(), source: "scheduler" };
        self.decide_review(review, ReviewResult::Failed, &message, None, Some(reason))
    }

    /// A poll was answered: what failed before counts no more.
    pub fn poll_answered(&mut self, review: &BeadId) -> Result<(), Fault> {
        let Some(found) = store::bead::find(self.db, review)? else { return Ok(()) };
        for strike in [Strike::Lasting, Strike::Transient].into_iter().filter(|strike| strikes(&found, *strike) > 0) {
            store::bead::merge_metadata(self.db, review, &json!({ strike.bound().0: null }))?;
        }
        Ok(())
    }
}

fn strikes(review: &Bead, strike: Strike) -> i64 {
    review.metadata.get(strike.bound().0).and_then(serde_json::Value::as_i64).unwrap_or_default()
}
