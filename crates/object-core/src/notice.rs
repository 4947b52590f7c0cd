//! The end of a container that ran, which is owed to whom it worked for until that has heard it.
//!
//! It is written in the same transaction as the change of the [`lifecycle`] that it tells of, so a crash in between loses neither. One notice is owed at a
//! time: the newest end.

use crate::lifecycle;
use crate::lifecycle::Container;
use crate::lifecycle::Output;
use crate::lifecycle::State;
use crate::owed::Owed;
use crate::time::SECOND;
use database::Database;
use database::DatabaseError;
use database::transaction;

const KEY: &str = "ended";
/// When it is told again.
const RETRY_MS: i64 = 30 * SECOND;

/// Does `work` on the lifecycle, and owes the end of a container that ran. Returns what `work` did, and the times of the ends that are to be told now.
pub fn noting_its_end(
    db: &dyn Database,
    now: i64,
    work: impl FnOnce() -> Result<Vec<Output>, DatabaseError>,
) -> Result<(Vec<Output>, Vec<i64>), DatabaseError> {
    transaction(db, || {
        let before = lifecycle::load(db)?.filter(|known| matches!(known.state, State::Running | State::Stopping));
        let outputs = work()?;
        if let Some(before) = before {
            let is_over = |now: Container| now.instance != before.instance || now.state == State::Stopped;
            if lifecycle::load(db)?.is_none_or(is_over) {
                Owed::owe(db, now, KEY, &now, None)?;
            }
        }
        let due = Owed::<i64>::take_due(db, now, |_, _| RETRY_MS)?;
        Ok((outputs, due.into_iter().map(|debt| debt.effect).collect()))
    })
}

/// The end at `at` was heard. A newer one that took its place meanwhile stays owed.
pub fn heard(db: &dyn Database, at: i64) -> Result<(), DatabaseError> {
    if owed(db)? == Some(at) { forget(db) } else { Ok(()) }
}

/// Nobody is there any more to be told.
pub fn forget(db: &dyn Database) -> Result<(), DatabaseError> {
    Owed::<i64>::settle(db, KEY).map(drop)
}

/// The time of the end that is owed.
pub fn owed(db: &dyn Database) -> Result<Option<i64>, DatabaseError> {
    Ok(Owed::<i64>::find(db, KEY)?.map(|debt| debt.effect))
}

/// When it is told next.
pub fn next(db: &dyn Database) -> Result<Option<i64>, DatabaseError> {
    Owed::<i64>::next_retry(db)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entropy::Entropy;
    use crate::lifecycle::Input;
    use crate::lifecycle::LifecycleLimits;
    use crate::owed::OWED_TABLE;
    use database::NativeDatabase;
    use database::execute;

    const NONE: [i64; 0] = [];

    struct Object {
        db: NativeDatabase,
        entropy: Entropy,
    }

    impl Object {
        fn new() -> Self {
            let db = NativeDatabase::in_memory().unwrap();
            database::migrate(&db, lifecycle::MIGRATIONS).unwrap();
            execute(&db, OWED_TABLE, &[]).unwrap();
            Self { db, entropy: Entropy::from_seed([1; 32]) }
        }

        /// The notices that are to be told now.
        fn at(&mut self, now: i64, input: &Input) -> Vec<i64> {
            let limits = LifecycleLimits::default();
            let work = || lifecycle::receive(&self.db, &limits, now, &mut self.entropy, input);
            noting_its_end(&self.db, now, work).unwrap().1
        }

        fn instance(&self) -> String {
            lifecycle::load(&self.db).unwrap().unwrap().instance
        }

        fn runs_at(&mut self, now: i64) {
            assert_eq!(self.at(now, &Input::Want { lease: None }), NONE);
            let instance = self.instance();
            assert_eq!(self.at(now, &Input::Started { instance }), NONE);
        }

        fn ends_at(&mut self, now: i64) -> Vec<i64> {
            let instance = self.instance();
            self.at(now, &Input::Ended { instance })
        }
    }

    #[test]
    fn an_end_is_told_until_it_is_heard() {
        let mut object = Object::new();
        object.runs_at(0);
        assert_eq!((object.ends_at(5), next(&object.db).unwrap()), (vec![5], Some(5 + RETRY_MS)));
        assert_eq!(object.at(4 + RETRY_MS, &Input::Tick), NONE);
        assert_eq!(object.at(5 + RETRY_MS, &Input::Tick), [5]);
        heard(&object.db, 5).unwrap();
        assert_eq!((object.at(9 * RETRY_MS, &Input::Tick), next(&object.db).unwrap()), (vec![], None));
    }

    #[test]
    fn of_two_ends_the_newer_is_owed_and_the_older_ones_answer_does_not_settle_it() {
        let mut object = Object::new();
        object.runs_at(0);
        object.ends_at(5);
        object.runs_at(6);
        assert_eq!(object.ends_at(7), [7]);
        heard(&object.db, 5).unwrap();
        assert_eq!(owed(&object.db).unwrap(), Some(7));
        forget(&object.db).unwrap();
        assert_eq!(owed(&object.db).unwrap(), None);
    }

    #[test]
    fn one_that_never_ran_has_no_end_to_tell() {
        let mut object = Object::new();
        object.at(0, &Input::Want { lease: None });
        assert_eq!(object.ends_at(1), NONE);
    }

    #[test]
    fn where_the_work_fails_nothing_is_owed() {
        let mut object = Object::new();
        object.runs_at(0);
        let (limits, instance) = (LifecycleLimits::default(), object.instance());
        let work = || {
            lifecycle::receive(&object.db, &limits, 1, &mut object.entropy, &Input::Ended { instance })?;
            Err(DatabaseError::Sql("full".to_owned()))
        };
        assert!(noting_its_end(&object.db, 1, work).is_err());
        assert_eq!(
            (owed(&object.db).unwrap(), lifecycle::load(&object.db).unwrap().unwrap().state),
            (None, State::Running)
        );
    }
}
