//! What the platform keeps of a Durable Object: its tables and its alarm (spec/platform.md; design 2).
//!
//! | Rule of the platform | Here |
//! | --- | --- |
//! | A turn's writes become durable together, or not at all | [`Storage::turn`] with [`Fate::CrashBefore`] |
//! | Nothing leaves before the write is durable (output gate); what was about to leave may be lost with the object | [`Fate::CrashAfter`] |
//! | A statement may fail: a full disk, a failing host | [`Fate::Statement`] |
//! | The alarm is part of the storage, is set with the write, and is cleared when it rings | [`Storage::set_alarm`], [`Storage::ring`] |
//! | An alarm rings at least once: an object that was lost while it rang hears it again | [`Storage::ring_again`] |
//! | It may ring twice, and what the first call has set is there in the second | [`ALARM_DOUBLED`] |

use crate::run::Fault;
use crate::run::Run;
use database::Database;
use database::DatabaseError;
use database::NativeDatabase;
use database::Row;
use database::Value;
use std::cell::Cell;

/// An object is lost before its write is durable.
const CRASH_BEFORE_WRITE: Fault = Fault { name: "crash-before-write", per_million: 1_000 };
/// An object is lost between its write and its outputs.
const CRASH_AFTER_WRITE: Fault = Fault { name: "crash-after-write", per_million: 1_000 };
/// A statement fails.
const STATEMENT_FAILS: Fault = Fault { name: "statement-fails", per_million: 600 };
/// The clock of the machine on which an object comes up is wrong, by up to two seconds.
const CLOCK_SKEWED: Fault = Fault { name: "clock-skewed", per_million: 50_000 };
/// An alarm rings twice.
pub const ALARM_DOUBLED: Fault = Fault { name: "alarm-doubled", per_million: 20_000 };

/// How a turn goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// As it should.
    Kept,
    /// The object is lost before the write is durable: neither is there anything written, nor does anything leave.
    CrashBefore,
    /// The object is lost after the write and before its outputs were performed.
    CrashAfter,
    /// The statement with this number, from 0, fails.
    Statement(u32),
}

impl Run {
    /// How the next turn of an object goes. A statement that fails is one of the first `statements`.
    pub fn fate(&mut self, statements: u64) -> Fate {
        if self.fault(CRASH_BEFORE_WRITE) {
            Fate::CrashBefore
        } else if self.fault(CRASH_AFTER_WRITE) {
            Fate::CrashAfter
        } else if self.fault(STATEMENT_FAILS) {
            let number = self.random.below("statement", statements);
            Fate::Statement(u32::try_from(number).unwrap_or(0))
        } else {
            Fate::Kept
        }
    }

    /// How wrong the clock of the machine is on which an object comes up.
    pub fn skew(&mut self) -> i64 {
        if self.fault(CLOCK_SKEWED) { self.random.between("skew", -2_000, 2_000) } else { 0 }
    }

    /// When an alarm that is set for `at` rings: a little later, or much; never before its time on the clock that its object reads.
    pub fn rings_at(&mut self, now: i64, at: i64, late: Fault) -> i64 {
        let after = if self.fault(late) {
            self.random.between("alarm-late", 1_000, 120_000)
        } else {
            self.random.between("alarm", 1, 30)
        };
        at.max(now) + after
    }
}

/// Why a turn came to nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// The object is lost.
    Crashed,
    /// The core gave up, and its transaction was undone.
    Failed(String),
}

/// The tables and the alarm of one object.
pub struct Storage {
    /// The tables.
    pub db: NativeDatabase,
    alarm: Option<i64>,
    /// Counts the changes of the alarm: what was arranged for an older one is over.
    pub version: u64,
    failing: Cell<Option<u32>>,
}

impl Storage {
    /// An object that was never there.
    pub fn new() -> Result<Self, DatabaseError> {
        Ok(Self { db: NativeDatabase::in_memory()?, alarm: None, version: 0, failing: Cell::new(None) })
    }

    /// When the alarm rings.
    pub fn alarm(&self) -> Option<i64> {
        self.alarm
    }

    /// Moves the alarm.
    pub fn set_alarm(&mut self, at: Option<i64>) {
        self.alarm = at;
        self.version += 1;
    }

    /// The alarm rings: from here on it is not set.
    pub fn ring(&mut self) {
        self.set_alarm(None);
    }

    /// The object was lost while its alarm rang: it rings again, unless it was set anew meanwhile.
    pub fn ring_again(&mut self, at: i64) {
        if self.alarm.is_none() {
            self.set_alarm(Some(at));
        }
    }

    /// One turn of the object: a synchronous piece of work, with its fate.
    pub fn turn<T>(
        &self,
        fate: Fate,
        work: impl FnOnce(&dyn Database) -> Result<T, DatabaseError>,
    ) -> Result<T, Stopped> {
        let result = match fate {
            Fate::CrashBefore => database::transaction(&self.db, || {
                work(self)?;
                Err(DatabaseError::Sql("the object was lost".to_owned()))
            }),
            Fate::Statement(number) => {
                self.failing.set(Some(number));
                work(self)
            }
            Fate::CrashAfter | Fate::Kept => work(self),
        };
        self.failing.set(None);
        match (fate, result) {
            (Fate::CrashBefore, _) => Err(Stopped::Crashed),
            (_, result) => result.map_err(|error| Stopped::Failed(error.to_string())),
        }
    }
}

impl Database for Storage {
    fn query(&self, sql: &str, parameters: &[Value]) -> Result<Vec<Row>, DatabaseError> {
        match self.failing.get() {
            Some(0) => {
                self.failing.set(None);
                return Err(DatabaseError::Sql("disk I/O error".to_owned()));
            }
            Some(left) => self.failing.set(Some(left - 1)),
            None => {}
        }
        self.db.query(sql, parameters)
    }

    fn transact(&self, work: &mut dyn FnMut() -> bool) -> Result<(), DatabaseError> {
        self.db.transact(work)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use database::execute;

    fn storage() -> Storage {
        let storage = Storage::new().unwrap();
        execute(&storage.db, "CREATE TABLE t (n INTEGER)", &[]).unwrap();
        storage
    }

    fn add_two(db: &dyn Database) -> Result<(), DatabaseError> {
        database::transaction(db, || {
            execute(db, "INSERT INTO t VALUES (1)", &[])?;
            execute(db, "INSERT INTO t VALUES (2)", &[])
        })
    }

    fn rows(storage: &Storage) -> usize {
        storage.db.query("SELECT n FROM t", &[]).unwrap().len()
    }

    #[test]
    fn each_fate_leaves_what_the_platform_would_leave() {
        for (fate, result, left) in [
            (Fate::Kept, Ok(()), 2),
            (Fate::CrashAfter, Ok(()), 2),
            (Fate::CrashBefore, Err(Stopped::Crashed), 0),
            (Fate::Statement(1), Err(Stopped::Failed("sql: disk I/O error".to_owned())), 0),
            (Fate::Statement(7), Ok(()), 2),
        ] {
            let storage = storage();
            assert_eq!(storage.turn(fate, add_two), result, "{fate:?}");
            assert_eq!(rows(&storage), left, "{fate:?}");
            assert_eq!(storage.turn(Fate::Kept, add_two), Ok(()), "the next turn is whole");
        }
    }

    #[test]
    fn an_alarm_that_was_set_while_it_rang_is_not_moved_by_ringing_again() {
        let mut storage = storage();
        storage.set_alarm(Some(5));
        storage.ring();
        storage.ring_again(7);
        assert_eq!(storage.alarm(), Some(7));
        storage.ring();
        storage.set_alarm(Some(6));
        storage.ring_again(9);
        assert_eq!(storage.alarm(), Some(6));
    }
}
