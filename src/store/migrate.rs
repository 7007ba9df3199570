//! Bringing a database's schema to this program's, while people sign in.
//!
//! Called by `actionsctl migrate`. Each step is a transaction that waits for locks only for a moment:
//! whoever waits for a lock on a table makes everybody behind him wait, too. A step that got none is
//! tried again. Interrupted at any moment, the next run finds what is missing.

use std::time::Duration;

use super::StoreError;
use super::connection::Connection;
use super::params::params;
use super::schema::{self, checksum};
use super::settings::Settings;
use crate::config;

/// Pause before a step that got no lock is tried again.
const PAUSE: Duration = Duration::from_millis(300);

/// What migrating did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Migrated {
    /// The version before; 0 for an empty database.
    pub from: i64,
    /// The version now.
    pub to: i64,
}

/// What migrating would do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The version now; 0 for an empty database.
    pub from: i64,
    /// The version that this program brings.
    pub to: i64,
    /// Files of tables to apply: number and name.
    pub tables: Vec<(i64, String)>,
    /// Files of functions and views whose text changed. If any did, all are replaced.
    pub functions: Vec<&'static str>,
}

/// What is told on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step<'a> {
    /// A file of tables is applied: its number and name.
    Tables(i64, &'a str),
    /// Functions and views are replaced: how many files of them.
    Functions(usize),
    /// Somebody holds a lock that this step needs.
    Waiting(&'a str),
}

/// One migrate at a time, whoever runs it: taken before anything is looked at or made.
pub const LOCK: &str = "-- lock: one migrate at a time
select pg_try_advisory_lock(hashtext('authio-actions migrate'))";

/// What text the database can hold, and what was applied to it.
pub const ENCODING: &str = "-- encoding: of the database
select pg_encoding_to_char(encoding)::text from pg_database where datname = current_database()";

/// Whether anything was migrated here.
pub const IS_THERE: &str = "-- is there: the list of what was applied
select to_regclass('actions_private.migrations') is not null";

/// Whether what was migrated is older than the first release: there is no list of functions.
pub const IS_UNRELEASED: &str = "-- is unreleased: tables without the list of functions
select to_regclass('actions_private.replaced_files') is null and exists (select from actions_private.migrations)";

/// The files of tables that the database has.
pub const APPLIED: &str = "-- applied: files of tables and their wording
select version, checksum from actions_private.migrations order by version";

/// The files of functions that the database has.
pub const REPLACED: &str = "-- replaced: files of functions and their wording
select name, checksum, release from actions_private.replaced_files";

/// Whether the history has a partition already.
pub const HAS_PARTITIONS: &str = "-- has partitions: beside the default one
select count(*) > 1 from pg_inherits where inhparent = 'actions_private.invocations'::regclass";

/// The lists live beside the private tables.
const HOME: &str = "create schema if not exists actions_private;
create table if not exists actions_private.migrations (
  version    bigint      not null primary key,
  name       text        not null,
  checksum   bytea       not null,
  applied_at timestamptz not null default now()
);
comment on table actions_private.migrations is 'Which numbered files of tables were applied, and their SHA-256.';
create table if not exists actions_private.replaced_files (
  name        text        not null primary key,
  checksum    bytea       not null,
  release     text        not null,
  replaced_at timestamptz not null default now()
);
comment on table actions_private.replaced_files is
  'The text of functions and views that is in force: the SHA-256 of each file, and the release that brought it.'";

/// The first days; from then on the janitor makes them ahead.
const FIRST_PARTITIONS: &str =
    "select actions_private.make_partition((now() at time zone 'UTC')::date + n) from generate_series(0, 7) as n";

/// What the database has of our files.
struct Found {
    from: i64,
    missing: Vec<schema::Tables>,
    changed: Vec<&'static str>,
}

/// What [`migrate`] would do; changes nothing.
pub async fn plan(config: &config::Database) -> Result<Plan, StoreError> {
    let mut connection = connect(config).await?;
    let is_there = connection.query(IS_THERE, params![]).await?.first().is_some_and(|row| row.get(0));
    let found = if is_there { look(&mut connection).await? } else { nothing() };
    Ok(Plan {
        from: found.from,
        to: schema::expected_version(),
        tables: found.missing.into_iter().map(|file| (file.version, file.name)).collect(),
        functions: found.changed,
    })
}

/// Applies what is missing, with at most `patience` of waiting for a lock at a time, and tells of each step.
pub async fn migrate(config: &config::Database, patience: Duration, mut tell: impl FnMut(Step<'_>)) -> Result<Migrated, StoreError> {
    let mut connection = connect(config).await?;
    let to = schema::expected_version();
    while !connection.query(LOCK, params![]).await?.first().is_some_and(|row| row.get(0)) {
        tell(Step::Waiting("another migrate"));
        tokio::time::sleep(PAUSE).await;
    }
    let mut steps = Steps { connection, patience };
    let is_there = steps.connection.query(IS_THERE, params![]).await?.first().is_some_and(|row| row.get(0));
    if is_there {
        refuse_unreleased(&mut steps.connection).await?;
    }
    steps.run("the lists of what was applied", HOME, &mut tell).await?;
    let Found { from, missing, changed } = look(&mut steps.connection).await?;
    steps.run("roles", schema::text("roles.sql"), &mut tell).await?;
    for file in &missing {
        tell(Step::Tables(file.version, &file.name));
        let note = format!(
            "insert into actions_private.migrations (version, name, checksum) values ({}, '{}', '\\x{}')",
            file.version,
            file.name,
            hex::encode(checksum(file.sql))
        );
        steps.run(&file.name, &format!("{};\n{note}", file.sql), &mut tell).await?;
    }
    if !changed.is_empty() {
        tell(Step::Functions(changed.len()));
        let mut script = String::new();
        for file in schema::functions() {
            script.push_str(file.sql);
            script.push_str(&format!(
                ";\ninsert into actions_private.replaced_files (name, checksum, release) values ('{}', '\\x{}', '{}')
                 on conflict (name) do update set checksum = excluded.checksum, release = excluded.release, replaced_at = now();\n",
                file.name,
                hex::encode(checksum(file.sql)),
                schema::RELEASE
            ));
        }
        // PostgreSQL lets everybody call a new function, so rights come in the same transaction.
        script.push_str(schema::text("grants.sql"));
        steps.run("functions, views and grants", &script, &mut tell).await?;
    } else {
        steps.run("grants", schema::text("grants.sql"), &mut tell).await?;
    }
    if !steps.connection.query(HAS_PARTITIONS, params![]).await?.first().is_some_and(|row| row.get(0)) {
        steps.run("the first partitions", FIRST_PARTITIONS, &mut tell).await?;
    }
    Ok(Migrated { from, to })
}

/// A direct connection, because a session's lock and settings are kept across statements.
async fn connect(config: &config::Database) -> Result<Connection, StoreError> {
    let refused = |error: config::ConfigError| StoreError::Schema(error.to_string());
    let (key, url) = match &config.listen_url {
        Some(url) => ("database.listen_url", url),
        None => ("database.url", config.url().map_err(refused)?),
    };
    let settings = Settings::read(key, url, "actionsctl migrate").map_err(refused)?;
    let mut connection = Connection::open(&settings).await?;
    let encoding: String = connection.query(ENCODING, params![]).await?.first().map(|row| row.try_get(0)).transpose()?.unwrap_or_default();
    if encoding != "UTF8" {
        return Err(StoreError::Schema(format!(
            "the database is encoded in {encoding}, which cannot hold every event; accepted is UTF8: \
             create database … encoding 'UTF8' template template0"
        )));
    }
    Ok(connection)
}

fn nothing() -> Found {
    Found { from: 0, missing: schema::tables(), changed: schema::FUNCTIONS.to_vec() }
}

async fn look(connection: &mut Connection) -> Result<Found, StoreError> {
    refuse_unreleased(connection).await?;
    let applied = connection.query(APPLIED, params![]).await?;
    let mut missing = Vec::new();
    for file in schema::tables() {
        match applied.iter().find(|row| row.get::<_, i64>(0) == file.version) {
            None => missing.push(file),
            Some(row) if row.try_get::<_, Vec<u8>>(1)? == checksum(file.sql) => {}
            Some(_) => {
                return Err(StoreError::Schema(format!(
                    "file {} of the tables was applied in another wording; this database was made by other programs than these",
                    file.version
                )));
            }
        }
    }
    let from = applied.last().map(|row| row.try_get(0)).transpose()?.unwrap_or_default();
    let replaced = connection.query(REPLACED, params![]).await?;
    let is_same = |file: &schema::Functions| {
        replaced.iter().any(|row| row.get::<_, &str>(0) == file.name && row.get::<_, Vec<u8>>(1) == checksum(file.sql))
    };
    let newer = replaced.iter().map(|row| row.get::<_, &str>(2)).find(|release| schema::is_newer(release));
    if newer.is_some() || from > schema::expected_version() {
        return Err(StoreError::Schema(format!(
            "the database has schema version {from} of release {}, newer than this program's {} of {}; migrate with the programs of that release",
            newer.unwrap_or("unknown"),
            schema::expected_version(),
            schema::RELEASE
        )));
    }
    let changed = schema::functions().filter(|file| !is_same(file)).map(|file| file.name).collect();
    Ok(Found { from, missing, changed })
}

/// What was made before the first release has another layout, and no way leads from it to here.
async fn refuse_unreleased(connection: &mut Connection) -> Result<(), StoreError> {
    if connection.query(IS_UNRELEASED, params![]).await?.first().is_some_and(|row| row.get(0)) {
        return Err(StoreError::Schema(
            "this database was made before release 0.1.0, by programs that were never released, and is not brought to it; \
             make a new database and your projects and actions in it"
                .to_owned(),
        ));
    }
    Ok(())
}

/// One step after the other, each a transaction.
struct Steps {
    connection: Connection,
    patience: Duration,
}

impl Steps {
    /// All of a script or nothing of it, as often as it takes to get the locks.
    async fn run(&mut self, what: &str, script: &str, tell: &mut impl FnMut(Step<'_>)) -> Result<(), StoreError> {
        let script = format!("begin;\nset local lock_timeout = {};\n{script};\ncommit", self.patience.as_millis());
        loop {
            match self.connection.batch(&script).await {
                Ok(()) => return Ok(()),
                Err(error) => {
                    self.connection.batch("rollback").await?;
                    if !is_in_the_way(&error) {
                        return Err(error);
                    }
                    tell(Step::Waiting(what));
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }
}

/// Somebody holds a lock, or changed the same row of the catalogue.
fn is_in_the_way(error: &StoreError) -> bool {
    match error {
        StoreError::Refused { code, message, .. } => {
            ["55P03", "40P01", "40001"].contains(&code.as_str()) || message.contains("concurrently updated")
        }
        _ => false,
    }
}
