//! What the programs of each release send is answered by the present schema as they expect it.
//!
//! `tests/facts/released/RELEASE.json` lists it: the role, the statement, and the columns of its answer.
//! The file of the release that is being made is written anew with:
//!
//!   WRITE_RELEASED=1 ops/test released::
//!
//! `tests/facts/released/tables.sha256` lists the files of tables that were released. A release adds its
//! new ones: sha256sum migrations/tables/* > tests/facts/released/tables.sha256

use std::path::PathBuf;

use authio_actions::store::{QUERIES, schema};
use authio_actions_testkit::database::Database;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use sqlx::{Column, Executor, PgPool, TypeInfo};

use crate::support::programs;

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Sent {
    role: String,
    sql: String,
    /// Name and type of each column.
    answer: Vec<(String, String)>,
}

fn home() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/facts/released"))
}

fn read(path: &PathBuf) -> Vec<Sent> {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// The columns with which the present schema answers, for a role that may ask.
async fn answer(database: &Database, role: &str, sql: &str) -> Result<Vec<(String, String)>, sqlx::Error> {
    let login: PgPool = database.login(role.strip_prefix("actions_").unwrap()).await;
    let described = login.describe(sql).await?;
    login.close().await;
    Ok(described.columns().iter().map(|column| (column.name().to_owned(), column.type_info().name().to_owned())).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_statements_of_each_release_are_answered_in_the_columns_that_it_knows() {
    let database = Database::create(&programs().join("actionsctl")).await;
    let mut faults = Vec::new();
    for file in std::fs::read_dir(home()).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        for sent in read(&path) {
            match answer(&database, &sent.role, &sent.sql).await {
                Ok(columns) if columns == sent.answer => {}
                Ok(columns) => faults.push(format!("{}: {}\n  {:?}\n  is now {columns:?}", path.display(), sent.sql, sent.answer)),
                Err(error) => faults.push(format!("{}: {}: {error}\n  {}", path.display(), sent.role, sent.sql)),
            }
        }
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_list_of_this_release_is_what_its_programs_send() {
    let database = Database::create(&programs().join("actionsctl")).await;
    let mut all: Vec<Sent> = Vec::new();
    for (role, sql) in QUERIES.iter().chain(&[("actions_worker", schema::VERSION)]) {
        let answer = answer(&database, role, sql).await.unwrap_or_else(|error| panic!("{role}: {error}\n{sql}"));
        all.push(Sent { role: (*role).to_owned(), sql: (*sql).to_owned(), answer });
    }
    all.sort_by(|one, other| (&one.sql, &one.role).cmp(&(&other.sql, &other.role)));
    let path = home().join(format!("{}.json", schema::RELEASE));
    if std::env::var_os("WRITE_RELEASED").is_some() {
        std::fs::write(&path, serde_json::to_string_pretty(&all).unwrap() + "\n").unwrap();
    }
    assert!(read(&path) == all, "a statement changed: write {} anew, see this file's head", path.display());
}

#[test]
fn the_tables_of_a_release_never_change() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let list = std::fs::read_to_string(home().join("tables.sha256")).unwrap();
    assert!(list.lines().count() >= 4, "{list}");
    for line in list.lines() {
        let (wanted, name) = line.split_once("  ").unwrap();
        let text = std::fs::read(root.join(name)).unwrap_or_else(|error| panic!("{name} was released: {error}"));
        assert_eq!(hex::encode(Sha256::digest(text)), wanted, "{name} was released; add a file with the next number instead");
    }
}
