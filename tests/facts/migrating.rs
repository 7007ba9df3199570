//! `actionsctl migrate`: once, whoever runs it, and never where an event could not be stored.

use authio_actions::store::schema::expected_version;
use authio_actions_lab::database::{Database, superuser_url};
use serde_json::Value;
use sqlx::{Connection, Executor, PgConnection};

use crate::operator::{Operator, text};
use crate::support::programs;

fn at(url: &str) -> Operator {
    Operator { environment: vec![("ACTIONS_DATABASE__URL".to_owned(), url.to_owned())] }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_cannot_hold_every_text_is_refused_and_stays_empty() {
    let mut superuser = PgConnection::connect(&superuser_url()).await.unwrap();
    for (encoding, options) in [("SQL_ASCII", ""), ("LATIN1", "lc_collate 'C' lc_ctype 'C'")] {
        let name = format!("lab_{}", uuid::Uuid::new_v4().simple());
        superuser.execute(format!("create database {name} encoding '{encoding}' {options} template template0").as_str()).await.unwrap();
        let mut url = url::Url::parse(&superuser_url()).unwrap();
        url.set_path(&name);
        let refused = at(url.as_str()).run(&["migrate"]).await;
        assert!(
            refused.status.code() == Some(1) && text(&refused).contains(encoding) && text(&refused).contains("UTF8"),
            "{}",
            text(&refused)
        );
        let mut inside = PgConnection::connect(url.as_str()).await.unwrap();
        let made: i64 =
            sqlx::query_scalar("select count(*) from pg_namespace where nspname like 'actions%'").fetch_one(&mut inside).await.unwrap();
        assert_eq!(made, 0, "{encoding}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_migrates_at_once_both_succeed_and_do_the_work_once() {
    let database = Database::create_empty().await;
    let operator = at(&database.owner_url());
    let (one, other) = tokio::join!(operator.json(&["migrate"]), operator.json(&["migrate"]));
    let mut from: Vec<i64> = [&one, &other].iter().map(|done: &&Value| done["from"].as_i64().unwrap()).collect();
    from.sort_unstable();
    assert_eq!(from, [0, expected_version()], "{one} {other}");
    assert_eq!((&one["to"], &other["to"]), (&expected_version().into(), &expected_version().into()));
    let applied: i64 =
        sqlx::query_scalar("select count(*) from actions_private.migrations").fetch_one(&database.owner().await).await.unwrap();
    assert_eq!(applied, expected_version());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_migrate_brings_back_grants_and_takes_what_public_was_given() {
    let database = Database::create(&programs().join("actionsctl")).await;
    let owner = database.owner().await;
    let may = async || -> (bool, bool, bool) {
        let sql = "select has_function_privilege('actions_core', 'actions.abandon(text)', 'execute'),
            has_table_privilege('actions_ops', 'actions.fleet', 'select'),
            exists (select from pg_class, aclexplode(relacl) where oid = 'actions.fleet'::regclass and grantee = 0)";
        sqlx::query_as(sql).fetch_one(&owner).await.unwrap()
    };
    assert_eq!(may().await, (true, true, false));
    for change in [
        "revoke execute on function actions.abandon(text) from actions_core",
        "revoke select on actions.fleet from actions_ops",
        "grant select on actions.fleet to public",
    ] {
        owner.execute(change).await.unwrap();
    }
    assert_eq!(may().await, (false, true, true), "what PUBLIC has, all have");
    let again = at(&database.owner_url()).json(&["migrate"]).await;
    assert_eq!(again["from"], again["to"]);
    assert_eq!(may().await, (true, true, false));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_owner_makes_elsewhere_is_as_open_as_before() {
    let database = Database::create_empty().await;
    let owner = database.owner().await;
    let makes = async |name: &str| -> bool {
        owner.execute(format!("create function public.{name}() returns integer language sql return 1").as_str()).await.unwrap();
        let sql = format!("select has_function_privilege('pg_monitor', 'public.{name}()', 'execute')");
        sqlx::query_scalar(&sql).fetch_one(&owner).await.unwrap()
    };
    assert!(makes("before").await, "PostgreSQL lets everybody call it");
    at(&database.owner_url()).json(&["migrate"]).await;
    assert!(makes("after").await);
    let defaults: i64 = sqlx::query_scalar("select count(*) from pg_default_acl").fetch_one(&owner).await.unwrap();
    assert_eq!(defaults, 0);
}
