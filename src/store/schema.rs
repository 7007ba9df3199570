//! The migrations, and whether the database has those that this program was built for.

use std::borrow::Cow;
use std::str::FromStr;

use sqlx::migrate::{Migrate, Migrator};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions, Connection};

use super::{Database, StoreError};
use crate::config::Hidden;

static MIGRATIONS: Migrator = sqlx::migrate!("./migrations");

/// The version this program was built for: the number of its last migration.
pub fn expected_version() -> i64 {
    MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or_default()
}

/// `schema version: ` what the database has.
pub const VERSION: &str = "-- schema version: the last migration applied
select actions.schema_version()";

/// Compares the database's version with ours; a difference says what to do.
pub async fn check(database: &Database) -> Result<(), StoreError> {
    let found = database.run(async |connection| sqlx::query_scalar::<_, Option<i64>>(VERSION).fetch_one(connection).await).await;
    let expected = expected_version();
    let advice = match found {
        Ok(Some(version)) if version == expected => return Ok(()),
        Ok(Some(version)) if version > expected => {
            format!("the database has schema version {version}, newer than this program's {expected}; install the programs of that version")
        }
        Ok(version) => format!(
            "the database has schema version {}, this program needs {expected}; run: actionsctl migrate",
            version.unwrap_or_default()
        ),
        // Undefined function, schema or table: nothing was migrated here.
        Err(StoreError::Refused { code, .. }) if ["42883", "3F000", "42P01"].contains(&code.as_str()) => {
            "the database has no schema of authio-actions; run: actionsctl migrate".to_owned()
        }
        Err(StoreError::Refused { code, .. }) if code == "42501" => {
            "this login has no role of authio-actions; run as the database's owner: grant actions_worker (or _janitor, _core, _admin, _ops) to your login".to_owned()
        }
        Err(error) => return Err(error),
    };
    Err(StoreError::Schema(advice))
}

/// What migrating did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Migrated {
    /// The version before; 0 for an empty database.
    pub from: i64,
    /// The version now.
    pub to: i64,
}

/// Applies what is missing, calling `before_each` with number and name of each migration.
pub async fn migrate(url: &Hidden, mut before_each: impl FnMut(i64, &str)) -> Result<Migrated, StoreError> {
    let refused = |what: String| StoreError::Schema(what);
    let options = PgConnectOptions::from_str(url.reveal()).map_err(StoreError::from)?;
    let options = options.application_name("actionsctl migrate").log_statements(log::LevelFilter::Off);
    let mut connection = PgConnection::connect_with(&options).await?;
    // The list of applied migrations lives beside the private tables.
    sqlx::raw_sql(
        "-- migrate: make a home for the list of migrations
        create schema if not exists actions_private;
        select set_config('search_path', 'actions_private', false)",
    )
    .execute(&mut connection)
    .await?;
    let describe = |error: sqlx::migrate::MigrateError| match error {
        sqlx::migrate::MigrateError::Execute(error) | sqlx::migrate::MigrateError::ExecuteMigration(error, _) => StoreError::from(error),
        other => refused(other.to_string()),
    };
    connection.lock().await.map_err(describe)?;
    connection.ensure_migrations_table().await.map_err(describe)?;
    let applied = connection.list_applied_migrations().await.map_err(describe)?;
    let from = applied.iter().map(|migration| migration.version).max().unwrap_or_default();
    if from > expected_version() {
        return Err(refused(format!(
            "the database has schema version {from}, newer than this program's {}; install the programs of that version",
            expected_version()
        )));
    }
    for migration in MIGRATIONS.iter() {
        match applied.iter().find(|known| known.version == migration.version) {
            Some(known) if known.checksum == migration.checksum => {}
            Some(_) => {
                return Err(refused(format!(
                    "migration {} was applied in another wording; this database was made by other programs than these",
                    migration.version
                )));
            }
            None => {
                before_each(migration.version, &migration.description);
                let migration = sqlx::migrate::Migration { sql: Cow::Borrowed(&migration.sql), ..migration.clone() };
                connection.apply(&migration).await.map_err(describe)?;
            }
        }
    }
    connection.unlock().await.map_err(describe)?;
    connection.close().await?;
    Ok(Migrated { from, to: expected_version() })
}
