//! Migrations: each runs once, in order, atomically.

use crate::Database;
use crate::DatabaseError;
use crate::execute;
use crate::transaction;

/// One step of a schema. Once released it never changes; a later step corrects it.
pub struct Migration {
    /// From 1, without gaps.
    pub version: i64,
    /// One statement each.
    pub statements: &'static [&'static str],
}

/// Brings the schema up to the last of `migrations`. Costs one read where nothing is to be done.
pub fn migrate(database: &dyn Database, migrations: &[Migration]) -> Result<(), DatabaseError> {
    let applied = applied_version(database)?;
    if migrations.iter().all(|migration| migration.version <= applied) {
        return Ok(());
    }
    transaction(database, || {
        execute(database, "CREATE TABLE IF NOT EXISTS migration (version INTEGER PRIMARY KEY)", &[])?;
        for migration in migrations.iter().filter(|migration| migration.version > applied) {
            for statement in migration.statements {
                execute(database, statement, &[])?;
            }
            execute(database, "INSERT INTO migration (version) VALUES (?)", &[migration.version.into()])?;
        }
        Ok(())
    })
}

fn applied_version(database: &dyn Database) -> Result<i64, DatabaseError> {
    let known = database.query("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'migration'", &[])?;
    if known.is_empty() {
        return Ok(0);
    }
    let rows = database.query("SELECT COALESCE(MAX(version), 0) FROM migration", &[])?;
    rows.first().map_or(Ok(0), |row| row.get(0))
}
