//! `actionsctl migrate`: once, whoever runs it, and never where an event could not be stored.

use authio_actions::store::schema::expected_version;
use authio_actions_testkit::database::{Database, superuser_url};
use authio_actions_testkit::endpoint::Reply;
use serde_json::{Value, json};
use sqlx::{Connection, Executor, PgConnection};

use crate::operator::{Operator, text};
use crate::support::{answering, invoke, programs, until};

fn at(url: &str) -> Operator {
    Operator { environment: vec![("ACTIONS_DATABASE__URL".to_owned(), url.to_owned())] }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_cannot_hold_every_text_is_refused_and_stays_empty() {
    let mut superuser = PgConnection::connect(&superuser_url()).await.unwrap();
    for (encoding, options) in [("SQL_ASCII", ""), ("LATIN1", "lc_collate 'C' lc_ctype 'C'")] {
        let name = format!("test_{}", uuid::Uuid::new_v4().simple());
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

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_says_what_would_be_done_and_does_nothing() {
    let database = Database::create_empty().await;
    let operator = at(&database.owner_url());
    let plan = operator.json(&["migrate", "--plan"]).await;
    assert_eq!((&plan["from"], &plan["to"]), (&json!(0), &expected_version().into()));
    assert_eq!(plan["tables"].as_array().unwrap().len(), usize::try_from(expected_version()).unwrap());
    let made = "select count(*) from pg_namespace where nspname like 'actions%'";
    let owner = database.owner().await;
    assert_eq!(sqlx::query_scalar::<_, i64>(made).fetch_one(&owner).await.unwrap(), 0);
    operator.json(&["migrate"]).await;
    let plan = operator.json(&["migrate", "--plan"]).await;
    assert_eq!((&plan["from"], &plan["tables"], &plan["functions"]), (&expected_version().into(), &json!([]), &json!([])));
    owner.execute("update actions_private.replaced_files set checksum = '' where name = 'claim'").await.unwrap();
    assert_eq!(operator.json(&["migrate", "--plan"]).await["functions"], json!(["claim"]));
    assert!(text(&operator.run(&["migrate", "--plan"]).await).contains("claim"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_function_whose_text_changed_is_replaced_and_a_program_that_runs_serves_on() {
    let stack = answering(Reply::json("{}")).await;
    let worker = stack.worker(&[]).await;
    stack.project("p").await;
    stack.action("p", "pre_register", &stack.endpoint.url("/"), "timeout_ms => 5000").await;
    assert_eq!(invoke(&stack, "p", "pre_register").await.status, "ok");
    let owner = stack.database.owner().await;
    owner.execute("create or replace function actions.schema_version() returns bigint language sql return -1").await.unwrap();
    owner.execute("update actions_private.replaced_files set checksum = '' where name = 'version'").await.unwrap();
    at(&stack.database.owner_url()).json(&["migrate"]).await;
    let version: i64 = sqlx::query_scalar("select actions.schema_version()").fetch_one(&owner).await.unwrap();
    assert_eq!(version, expected_version());
    assert_eq!(invoke(&stack, "p", "pre_register").await.status, "ok");
    assert!(!worker.log().contains("\"ERROR\""), "{}", worker.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_that_is_held_makes_migrate_wait_in_small_portions_and_nobody_else() {
    let stack = answering(Reply::json("{}")).await;
    let _worker = stack.worker(&[]).await;
    stack.project("p").await;
    stack.action("p", "pre_register", &stack.endpoint.url("/"), "timeout_ms => 5000").await;
    let owner = stack.database.owner().await;
    owner.execute("update actions_private.replaced_files set checksum = '' where name = 'health'").await.unwrap();
    // Somebody reads a view that is replaced, in a transaction that does not end.
    let mut reader = owner.begin().await.unwrap();
    reader.execute("select count(*) from actions.queue_health").await.unwrap();
    let operator = at(&stack.database.owner_url());
    let migrating = tokio::spawn(async move { operator.run(&["migrate", "--lock-timeout-ms", "50"]).await });
    until(&owner, "it waits", "select exists (select from pg_locks where not granted and relation = 'actions.queue_health'::regclass)")
        .await;
    until(
        &owner,
        "it gives up",
        "select not exists (select from pg_locks where not granted and relation = 'actions.queue_health'::regclass)",
    )
    .await;
    for _ in 0..5 {
        assert_eq!(invoke(&stack, "p", "pre_register").await.status, "ok", "people sign in meanwhile");
    }
    assert!(!migrating.is_finished());
    reader.rollback().await.unwrap();
    let output = migrating.await.unwrap();
    assert!(output.status.success() && text(&output).contains("functions and views"), "{}", text(&output));
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(told.contains("holds a lock"), "{told}");
    let wrong = at(&stack.database.owner_url()).run(&["migrate", "--lock-timeout-ms", "0"]).await;
    assert_eq!(wrong.status.code(), Some(2), "{}", text(&wrong));
}

#[tokio::test(flavor = "multi_thread")]
async fn migrate_that_is_killed_anywhere_is_finished_by_the_next() {
    for killed_after in [5, 40, 80, 120, 200, 300] {
        let database = Database::create_empty().await;
        let operator = at(&database.owner_url());
        let mut migrating = operator.command(&["migrate"]).stdout(std::process::Stdio::null()).spawn().unwrap();
        let _ = tokio::time::timeout(std::time::Duration::from_millis(killed_after), migrating.wait()).await;
        migrating.kill().await.unwrap();
        let finished = operator.json(&["migrate"]).await;
        assert_eq!(finished["to"], expected_version(), "killed after {killed_after} ms");
        let plan = operator.json(&["migrate", "--plan"]).await;
        assert_eq!((&plan["tables"], &plan["functions"]), (&json!([]), &json!([])));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_made_before_the_first_release_is_told_so() {
    let database = Database::create(&programs().join("actionsctl")).await;
    database.owner().await.execute("drop table actions_private.replaced_files").await.unwrap();
    for arguments in [&["migrate"][..], &["migrate", "--plan"]] {
        let refused = at(&database.owner_url()).run(arguments).await;
        assert_eq!(refused.status.code(), Some(1));
        assert!(String::from_utf8_lossy(&refused.stderr).contains("never released"), "{}", String::from_utf8_lossy(&refused.stderr));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn programs_work_with_a_newer_schema_and_leave_one_that_left_them_behind() {
    let stack = answering(Reply::json("{}")).await;
    stack.project("p").await;
    stack.action("p", "pre_register", &stack.endpoint.url("/"), "timeout_ms => 5000").await;
    let owner = stack.database.owner().await;
    owner
        .execute("insert into actions_private.migrations (version, name, checksum) values (9999, 'of the next release', '')")
        .await
        .unwrap();
    let (_worker, _janitor) = (stack.worker(&[]).await, stack.janitor(&[]).await);
    assert_eq!(invoke(&stack, "p", "pre_register").await.status, "ok");
    let operator = Operator::of(&stack).await;
    assert!(operator.run(&["fleet"]).await.status.success());
    assert_eq!(operator.json(&["version"]).await["oldest_program"], "0.1.0");
    owner.execute("update actions_private.settings set oldest_program = '99.0.0'").await.unwrap();
    assert_eq!(operator.json(&["version"]).await["oldest_program"], "99.0.0");
    let left = operator.run(&["fleet"]).await;
    assert_eq!(left.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&left.stderr).contains("from release 99.0.0 on"), "{}", String::from_utf8_lossy(&left.stderr));
    let nowhere = Operator { environment: Vec::new() }.json(&["version"]).await;
    assert_eq!(nowhere, json!({"program": env!("CARGO_PKG_VERSION"), "schema": expected_version(), "oldest_program": null}));
}
