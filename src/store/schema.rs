//! The migrations, and whether the database has those that this program was built for.
//!
//! Called by `actionsctl migrate`, and by each program when it starts. Numbered files are applied
//! once, each in a transaction of its own; roles and grants are applied every time.

use include_dir::{Dir, include_dir};
use sha2::{Digest, Sha256};

use super::connection::Connection;
use super::params::params;
use super::settings::Settings;
use super::{Database, StoreError};
use crate::config;

static FILES: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/migrations");

/// A numbered file: `0007_enqueue.sql` is version 7, named `enqueue`.
struct Migration {
    version: i64,
    name: String,
    sql: &'static str,
}

impl Migration {
    fn checksum(&self) -> Vec<u8> {
        Sha256::digest(self.sql.as_bytes()).to_vec()
    }
}

fn migrations() -> Vec<Migration> {
    let mut all: Vec<Migration> = FILES
        .files()
        .filter_map(|file| {
            let (version, name) = file.path().file_stem()?.to_str()?.split_once('_')?;
            Some(Migration { version: version.parse().ok()?, name: name.replace('_', " "), sql: file.contents_utf8()? })
        })
        .collect();
    all.sort_unstable_by_key(|migration| migration.version);
    all
}

/// A file that every migrate applies.
fn always(name: &str) -> &'static str {
    FILES.get_file(name).and_then(|file| file.contents_utf8()).unwrap_or_default()
}

/// The version this program was built for: the number of its last migration.
pub fn expected_version() -> i64 {
    migrations().last().map_or(0, |migration| migration.version)
}

/// `schema version: ` what the database has.
pub const VERSION: &str = "-- schema version: the last migration applied
select actions.schema_version()";

/// Compares the database's version with ours; a difference says what to do.
pub async fn check(database: &Database) -> Result<(), StoreError> {
    let found = database.row(VERSION, params![]).await.and_then(|row| Ok(row.try_get::<_, Option<i64>>(0)?));
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

/// One migration at a time, whoever runs it: taken before anything is looked at or made.
pub const LOCK: &str = "-- lock: one migrate at a time
select pg_advisory_lock(hashtext('authio-actions migrate'))";

/// What text the database can hold, and what was applied to it.
pub const ENCODING: &str = "-- encoding: of the database
select pg_encoding_to_char(encoding)::text from pg_database where datname = current_database()";

/// The migrations that the database has.
pub const APPLIED: &str = "-- applied: migrations and their wording
select version, checksum from actions_private.migrations order by version";

/// The list of migrations lives beside the private tables.
const HOME: &str = "create schema if not exists actions_private;
create table if not exists actions_private.migrations (
  version    bigint      not null primary key,
  name       text        not null,
  checksum   bytea       not null,
  applied_at timestamptz not null default now()
);
comment on table actions_private.migrations is 'Which numbered files were applied, and their SHA-256.';";

/// Applies what is missing, calling `before_each` with number and name of each migration.
pub async fn migrate(config: &config::Database, mut before_each: impl FnMut(i64, &str)) -> Result<Migrated, StoreError> {
    let settings = Settings::read("database.url", config.url().map_err(refused)?, "actionsctl migrate").map_err(refused)?;
    let mut connection = Connection::open(&settings).await?;
    let encoding: String = connection.query(ENCODING, params![]).await?.first().map(|row| row.try_get(0)).transpose()?.unwrap_or_default();
    if encoding != "UTF8" {
        return Err(StoreError::Schema(format!(
            "the database is encoded in {encoding}, which cannot hold every event; accepted is UTF8: \
             create database … encoding 'UTF8' template template0"
        )));
    }
    connection.query(LOCK, params![]).await?;
    connection.batch(HOME).await?;
    let applied = connection.query(APPLIED, params![]).await?;
    let from = applied.last().map(|row| row.try_get::<_, i64>(0)).transpose()?.unwrap_or_default();
    let to = expected_version();
    if from > to {
        return Err(StoreError::Schema(format!(
            "the database has schema version {from}, newer than this program's {to}; install the programs of that version"
        )));
    }
    transaction(&mut connection, always("roles.sql")).await?;
    for migration in migrations() {
        let mut known = None;
        for row in &applied {
            if row.try_get::<_, i64>(0)? == migration.version {
                known = Some(row.try_get::<_, Vec<u8>>(1)?);
            }
        }
        match known {
            Some(checksum) if checksum == migration.checksum() => {}
            Some(_) => {
                return Err(StoreError::Schema(format!(
                    "migration {} was applied in another wording; this database was made by other programs than these",
                    migration.version
                )));
            }
            None => {
                before_each(migration.version, &migration.name);
                apply(&mut connection, &migration).await?;
            }
        }
    }
    transaction(&mut connection, always("grants.sql")).await?;
    Ok(Migrated { from, to })
}

fn refused(error: config::ConfigError) -> StoreError {
    StoreError::Schema(error.to_string())
}

async fn apply(connection: &mut Connection, migration: &Migration) -> Result<(), StoreError> {
    let Migration { version, name, sql } = migration;
    let note = format!(
        "insert into actions_private.migrations (version, name, checksum) values ({version}, '{name}', '\\x{}')",
        hex::encode(migration.checksum())
    );
    transaction(connection, &format!("{sql};\n{note}")).await
}

/// All of a script or nothing of it.
async fn transaction(connection: &mut Connection, script: &str) -> Result<(), StoreError> {
    connection.batch(&format!("begin;\n{script};\ncommit")).await
}
