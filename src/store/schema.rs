//! The schema that this program brings, and whether the database's is one that it can work with.
//!
//! Called by each program when it starts. Tables, types and indexes stand in numbered files that are
//! applied once and never change (`migrations/tables`); functions and views in files that are replaced
//! as a whole when their text changed (`migrations/functions`). A program works with the schema of its
//! own release and of the next: so the schema goes first, and programs follow one at a time.

use include_dir::{Dir, include_dir};
use sha2::{Digest, Sha256};

use super::params::params;
use super::{Database, StoreError};

static FILES: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/migrations");

/// The files of functions and views, each after those that it builds on.
pub const FUNCTIONS: [&str; 32] = [
    "refusals",
    "identifiers",
    "json_escapes",
    "server_epoch",
    "outcomes",
    "conditions",
    "results",
    "notifications",
    "request_checks",
    "idempotency",
    "enqueue",
    "claim",
    "complete",
    "configuration",
    "erasure",
    "mailboxes",
    "projects",
    "actions",
    "candidates",
    "recorded_events",
    "secrets",
    "test_events",
    "partitions",
    "history",
    "daily_counts",
    "leadership",
    "kill_switch",
    "probes",
    "expiry",
    "retention",
    "health",
    "version",
];

/// The release of this program.
pub const RELEASE: &str = env!("CARGO_PKG_VERSION");

/// A numbered file: `0003_invocations.sql` is version 3, named `invocations`.
pub(super) struct Tables {
    pub(super) version: i64,
    pub(super) name: String,
    pub(super) sql: &'static str,
}

/// A file that is replaced as a whole.
pub(super) struct Functions {
    pub(super) name: &'static str,
    pub(super) sql: &'static str,
}

pub(super) fn checksum(sql: &str) -> Vec<u8> {
    Sha256::digest(sql.as_bytes()).to_vec()
}

pub(super) fn tables() -> Vec<Tables> {
    let files = FILES.get_dir("tables").into_iter().flat_map(Dir::files);
    let mut all: Vec<Tables> = files
        .filter_map(|file| {
            let (version, name) = file.path().file_stem()?.to_str()?.split_once('_')?;
            Some(Tables { version: version.parse().ok()?, name: name.replace('_', " "), sql: file.contents_utf8()? })
        })
        .collect();
    all.sort_unstable_by_key(|file| file.version);
    all
}

pub(super) fn functions() -> impl Iterator<Item = Functions> {
    FUNCTIONS.iter().map(|name| Functions { name, sql: text(&format!("functions/{name}.sql")) })
}

/// The text of a file.
pub(super) fn text(path: &str) -> &'static str {
    FILES.get_file(path).and_then(|file| file.contents_utf8()).unwrap_or_default()
}

/// The version of the schema that this program brings: the number of its last file of tables.
pub fn expected_version() -> i64 {
    tables().last().map_or(0, |file| file.version)
}

/// Which schema the database has, and whom it serves.
pub const VERSION: &str = "-- schema version: the last file of tables, and the oldest program that it serves
select actions.schema_version(), actions.oldest_program()";

/// What a database says of its schema: its version, and the oldest release that it serves.
pub async fn version(database: &Database) -> Result<(Option<i64>, String), StoreError> {
    let row = database.row(VERSION, params![]).await?;
    Ok((row.try_get(0)?, row.try_get(1)?))
}

/// Refuses a schema that is older than this program's, or that has left this release behind.
pub async fn check(database: &Database) -> Result<(), StoreError> {
    let expected = expected_version();
    let advice = match version(database).await {
        Ok((Some(version), oldest)) if version >= expected => {
            if !is_newer(&oldest) {
                return Ok(());
            }
            format!("the database's schema serves programs from release {oldest} on, this is {RELEASE}; install the programs of that release or a later one")
        }
        Ok((version, _)) => format!(
            "the database has schema version {}, this program needs {expected} or later; run: actionsctl migrate",
            version.unwrap_or_default()
        ),
        // Undefined function, schema or table: nothing was migrated here, or before the first release.
        Err(StoreError::Refused { code, .. }) if ["42883", "3F000", "42P01"].contains(&code.as_str()) => {
            "the database has no schema of authio-actions; run: actionsctl migrate".to_owned()
        }
        Err(StoreError::Refused { code, .. }) if code == "42501" => {
            "this login has no role of authio-actions; run as the database's owner: grant actions_worker (or _janitor, _core, _admin, _ops, _console) to your login".to_owned()
        }
        Err(error) => return Err(error),
    };
    Err(StoreError::Schema(advice))
}

/// Whether a release is newer than this program's.
pub(super) fn is_newer(release: &str) -> bool {
    number(release) > number(RELEASE)
}

/// A release such as `0.12.3`, to be compared; what is no number counts as 0.
fn number(release: &str) -> [u64; 3] {
    let mut parts = release.split('.').map(|part| part.parse().unwrap_or(0));
    std::array::from_fn(|_| parts.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_compared_by_their_numbers() {
        assert!(number("0.10.0") > number("0.9.12") && number("1.0.0") > number("0.99.0") && number("0.1.0") == number("0.1"));
    }

    #[test]
    fn every_file_of_functions_has_its_place_in_the_order() {
        let mut files: Vec<&str> =
            FILES.get_dir("functions").unwrap().files().filter_map(|file| file.path().file_stem()?.to_str()).collect();
        let mut listed = FUNCTIONS.to_vec();
        files.sort_unstable();
        listed.sort_unstable();
        assert_eq!(files, listed);
    }

    #[test]
    fn files_of_tables_are_numbered_without_a_gap() {
        let numbers: Vec<i64> = tables().iter().map(|file| file.version).collect();
        assert_eq!(numbers, (1..=expected_version()).collect::<Vec<_>>());
    }
}
