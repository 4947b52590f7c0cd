//! The directory: which sessions a user (or an organisation) has. The rules of `UserDO`.
//!
//! Entries are written by owed effects of the session objects, so every call is idempotent.

use crate::holdings;
use database::Database;
use database::DatabaseError;
use database::Migration;
use database::Row;
use database::execute;
use serde::Deserialize;
use serde::Serialize;

/// The schema of `UserDO`.
pub const MIGRATIONS: &[Migration] = &[
    Migration {
        version: 1,
        statements: &["CREATE TABLE session (
            id TEXT PRIMARY KEY, kilo_session TEXT NOT NULL, title TEXT NOT NULL, created_on_platform TEXT NOT NULL,
            organization TEXT, created_at INTEGER NOT NULL
        ) WITHOUT ROWID"],
    },
    holdings::MIGRATION,
    holdings::changes::MIGRATION,
    Migration {
        version: 4,
        statements: &[
            "ALTER TABLE session ADD COLUMN user TEXT",
            // A page costs its own rows, and not those of everybody.
            "CREATE INDEX session_newest ON session (created_at DESC, id)",
            "CREATE INDEX session_of_user ON session (user, created_at DESC, id)",
        ],
    },
];

/// The most entries in one page of a listing.
pub const PAGE_MAX: i64 = 100;

/// One session of the directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// `agent_…`
    pub cloud_agent_session_id: String,
    /// `ses_…`
    pub kilo_session_id: String,
    /// For a person.
    pub title: String,
    /// `cloud-agent`, unless the caller named another.
    pub created_on_platform: String,
    /// The organisation that it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub organization_id: Option<String>,
    /// Whose it is: nobody else reaches it, in an organisation either. Entries of the first versions do not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_id: Option<String>,
    /// Milliseconds.
    pub created_at: i64,
}

/// A page of the directory, newest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Page {
    /// The entries.
    pub sessions: Vec<Entry>,
    /// Where the next page begins, if there is one.
    pub next_cursor: Option<String>,
}

/// What is asked of the directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Call {
    /// Adds or repeats an entry.
    Add { entry: Entry },
    /// Lists, newest first: all of them, or those of one user.
    List { cursor: Option<String>, limit: i64, user: Option<String> },
    /// Whether the session is listed here.
    Owns { session: String },
    /// Removes an entry; one that is not there is fine.
    Remove { session: String },
}

/// What the directory answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// It is so now.
    Done,
    /// To [`Call::Owns`].
    Owned { entry: Option<Entry> },
    /// To [`Call::List`].
    Page { page: Page },
}

/// Answers one call, as one transaction.
pub fn receive(db: &dyn Database, call: &Call) -> Result<Answer, DatabaseError> {
    database::transaction(db, || match call {
        Call::Add { entry } => add(db, entry),
        Call::List { cursor, limit, user } => list(db, cursor.as_deref(), *limit, user.as_deref()),
        Call::Owns { session } => Ok(Answer::Owned { entry: find(db, session)? }),
        Call::Remove { session } => {
            execute(db, "DELETE FROM session WHERE id = ?", &[session.as_str().into()])?;
            Ok(Answer::Done)
        }
    })
}

fn add(db: &dyn Database, entry: &Entry) -> Result<Answer, DatabaseError> {
    execute(
        db,
        "INSERT INTO session (id, kilo_session, title, created_on_platform, organization, created_at, user) VALUES (?, ?, ?, ?, ?, ?, ?)
         ON CONFLICT (id) DO NOTHING",
        &[
            entry.cloud_agent_session_id.as_str().into(),
            entry.kilo_session_id.as_str().into(),
            entry.title.as_str().into(),
            entry.created_on_platform.as_str().into(),
            entry.organization_id.clone().into(),
            entry.created_at.into(),
            entry.user_id.clone().into(),
        ],
    )?;
    Ok(Answer::Done)
}

fn find(db: &dyn Database, session: &str) -> Result<Option<Entry>, DatabaseError> {
    db.query(&format!("{COLUMNS} WHERE id = ?"), &[session.into()])?.first().map(read).transpose()
}

/// The cursor is `<created_at>.<id>` of the last entry that was seen: stable while new sessions arrive.
fn list(db: &dyn Database, cursor: Option<&str>, limit: i64, user: Option<&str>) -> Result<Answer, DatabaseError> {
    let limit = limit.clamp(1, PAGE_MAX);
    let (at, id) = cursor
        .and_then(|cursor| cursor.split_once('.'))
        .and_then(|(at, id)| Some((at.parse::<i64>().ok()?, id)))
        .unwrap_or((database::INTEGER_MAX, ""));
    let mut parameters = vec![at.into(), id.into(), limit.saturating_add(1).into()];
    parameters.extend(user.map(Into::into));
    let rows = db.query(&listing(user.is_some()), &parameters)?;
    let mut sessions = rows.iter().map(read).collect::<Result<Vec<_>, _>>()?;
    let more = i64::try_from(sessions.len()).is_ok_and(|n| n > limit);
    sessions.truncate(usize::try_from(limit).unwrap_or(1));
    let next_cursor =
        sessions.last().filter(|_| more).map(|last| format!("{}.{}", last.created_at, last.cloud_agent_session_id));
    Ok(Answer::Page { page: Page { sessions, next_cursor } })
}

/// Parameters: the time and the id of the last entry that was seen, how many, and whose.
fn listing(is_of_user: bool) -> String {
    let whose = if is_of_user { "user = ?4 AND " } else { "" };
    format!(
        "{COLUMNS} WHERE {whose}created_at <= ?1 AND (created_at < ?1 OR id > ?2) ORDER BY created_at DESC, id LIMIT ?3"
    )
}

const COLUMNS: &str =
    "SELECT id, kilo_session, title, created_on_platform, organization, created_at, user FROM session";

fn read(row: &Row) -> Result<Entry, DatabaseError> {
    Ok(Entry {
        cloud_agent_session_id: row.get(0)?,
        kilo_session_id: row.get(1)?,
        title: row.get(2)?,
        created_on_platform: row.get(3)?,
        organization_id: row.get(4)?,
        created_at: row.get(5)?,
        user_id: row.get(6)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use database::NativeDatabase;

    fn entry(id: &str, created_at: i64) -> Entry {
        Entry {
            cloud_agent_session_id: id.into(),
            kilo_session_id: "ses_1".into(),
            title: "t".into(),
            created_on_platform: "cloud-agent".into(),
            organization_id: None,
            created_at,
            user_id: Some("oauth/google:1".into()),
        }
    }

    fn directory() -> NativeDatabase {
        let db = NativeDatabase::in_memory().unwrap();
        database::migrate(&db, MIGRATIONS).unwrap();
        db
    }

    fn page(db: &NativeDatabase, cursor: Option<String>, limit: i64) -> (Vec<String>, Option<String>) {
        let Answer::Page { page } = receive(db, &Call::List { cursor, limit, user: None }).unwrap() else { panic!() };
        (page.sessions.into_iter().map(|s| s.cloud_agent_session_id).collect(), page.next_cursor)
    }

    #[test]
    fn sessions_are_listed_newest_first_page_by_page() {
        let db = directory();
        for (id, at) in [("a", 1), ("b", 3), ("c", 3), ("d", 2)] {
            receive(&db, &Call::Add { entry: entry(id, at) }).unwrap();
        }
        let (first, cursor) = page(&db, None, 3);
        assert_eq!(first, ["b", "c", "d"]);
        assert_eq!(page(&db, cursor, 3), (vec!["a".into()], None));
    }

    #[test]
    fn of_a_directory_that_many_share_each_sees_only_his_own() {
        let db = directory();
        let of = |id: &str, at, user: Option<&str>| Entry { user_id: user.map(str::to_owned), ..entry(id, at) };
        for new in [of("a", 1, Some("u1")), of("b", 2, Some("u2")), of("c", 3, Some("u1")), of("d", 4, None)] {
            receive(&db, &Call::Add { entry: new }).unwrap();
        }
        let listed = |user: &str, limit| {
            let call = Call::List { cursor: None, limit, user: Some(user.to_owned()) };
            let Answer::Page { page } = receive(&db, &call).unwrap() else { panic!() };
            let ids: Vec<_> = page.sessions.into_iter().map(|s| s.cloud_agent_session_id).collect();
            (ids, page.next_cursor.is_some())
        };
        assert_eq!(listed("u1", 10), (vec!["c".to_owned(), "a".to_owned()], false));
        assert_eq!(listed("u1", 1), (vec!["c".to_owned()], true));
        assert_eq!(listed("u3", 10), (vec![], false));
    }

    #[test]
    fn a_page_is_read_from_an_index_and_sorts_nothing() {
        let db = directory();
        for (is_of_user, index) in [(false, "session_newest"), (true, "session_of_user")] {
            let mut parameters = vec![1.into(), "a".into(), 1.into()];
            parameters.extend(is_of_user.then(|| "u".into()));
            let rows = db.query(&format!("EXPLAIN QUERY PLAN {}", listing(is_of_user)), &parameters).unwrap();
            let plan: Vec<String> = rows.iter().map(|row| row.get(3).unwrap()).collect();
            assert!(
                matches!(&plan[..], [one] if one.contains(&format!("SEARCH session USING INDEX {index}"))),
                "{plan:?}"
            );
        }
    }

    #[test]
    fn adding_and_removing_are_idempotent() {
        let db = directory();
        for _ in 0..2 {
            receive(&db, &Call::Add { entry: entry("a", 1) }).unwrap();
        }
        assert_eq!(page(&db, None, 10).0, ["a"]);
        assert_eq!(
            receive(&db, &Call::Owns { session: "a".into() }).unwrap(),
            Answer::Owned { entry: Some(entry("a", 1)) }
        );
        for _ in 0..2 {
            assert_eq!(receive(&db, &Call::Remove { session: "a".into() }).unwrap(), Answer::Done);
        }
        assert_eq!(receive(&db, &Call::Owns { session: "a".into() }).unwrap(), Answer::Owned { entry: None });
    }
}
