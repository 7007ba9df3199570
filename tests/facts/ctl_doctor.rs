//! `actionsctl doctor`: every broken set-up has a line with its remedy.

use authio_actions::store::health;
use authio_actions_testkit::database::{Database, superuser_url};
use authio_actions_testkit::endpoint::Reply;
use authio_actions_testkit::server::Server;
use authio_actions_testkit::stack::{ROOT_KEY, Stack};
use serde_json::Value;
use sqlx::{Connection, Executor};

use crate::operator::{Operator, login, text};
use crate::support::{answering, programs, store, until};

#[tokio::test(flavor = "multi_thread")]
async fn doctor_finds_nothing_wrong_with_a_good_set_up_and_names_what_is_broken() {
    let stack = answering(Reply::json("{}")).await;
    let (_worker, _janitor) = (stack.worker(&[]).await, stack.janitor(&[]).await);
    stack.project("p").await;
    let id = stack.action("p", "pre_register", &stack.endpoint.url("/"), "").await;
    until(&stack.ops, "recorded", "select bool_and(secret_key_id is not null) from actions.actions").await;
    let operator = Operator::of(&stack).await;
    let well = operator.run(&["doctor"]).await;
    assert!(well.status.success(), "{}", text(&well));
    for check in
        ["database", "encoding", "notify", "notifications", "roles", "settings", "version", "clock", "keys", "dns", "smtp", "fleet"]
    {
        assert!(text(&well).lines().any(|line| line.contains(check)), "{check} is missing:\n{}", text(&well));
    }
    let other_key = format!("k9:{ROOT_KEY}");
    for (variable, value, check, words) in [
        ("ACTIONS_DATABASE__URL", "postgres://u@127.0.0.1:1/d", "database", "database.url"),
        ("ACTIONS_SECRETS__ROOT_KEYS", other_key.as_str(), "keys", "k1"),
        ("ACTIONS_SMTP__URL", "nonsense", "smtp", "smtp."),
        ("ACTIONS_EGRESS__RESOLVE", "{}", "dns", "none of 1 endpoints can be called"),
    ] {
        let broken = Operator::of(&stack).await.with(variable, value).with("ACTIONS_EGRESS__DNS_SERVERS", r#"["127.0.0.1:9"]"#);
        let output = broken.run(&["doctor", "--json"]).await;
        assert_eq!(output.status.code(), Some(1), "{variable}: {}", text(&output));
        let rows: Value = serde_json::from_slice(&output.stdout).unwrap();
        let row = rows.as_array().unwrap().iter().find(|row| row["check"] == check).unwrap();
        assert!(row["result"] == "failed" && row["detail"].as_str().unwrap().contains(words), "{row}");
        for named in ["database", "roles", "version", "keys", "dns", "smtp", "clock"] {
            assert!(rows.as_array().unwrap().iter().any(|row| row["check"] == named), "{variable}: {named} is missing");
        }
    }
    assert!(!id.is_empty());
}

/// Runs a statement as the owner.
async fn owner(stack: &Stack, sql: &str) {
    stack.database.owner().await.execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_tells_a_login_that_does_not_inherit_how_to_and_the_remedy_helps() {
    let stack = answering(Reply::json("{}")).await;
    let (name, url) = login(&stack, "noinherit in role actions_ops").await;
    let operator = Operator::at(&stack, &url);
    let (result, detail) = operator.doctor("roles").await;
    assert!(result == "failed" && detail.contains("actions_ops") && detail.contains("inherit"), "{detail}");
    let (_, remedy) = detail.split_once("as the owner: ").unwrap();
    owner(&stack, remedy).await;
    assert_eq!(operator.doctor("roles").await, ("ok".to_owned(), "actions_ops".to_owned()), "{remedy} for {name}");
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_finds_the_group_in_between_that_does_not_inherit() {
    let stack = answering(Reply::json("{}")).await;
    let team = format!("team_{}", uuid::Uuid::new_v4().simple());
    owner(&stack, &format!("create role {team} noinherit in role actions_ops")).await;
    let (_, url) = login(&stack, &format!("in role {team}")).await;
    let operator = Operator::at(&stack, &url);
    let (result, detail) = operator.doctor("roles").await;
    assert!(result == "failed" && detail.contains(&team), "{detail}");
    owner(&stack, detail.split_once("as the owner: ").unwrap().1).await;
    assert_eq!(operator.doctor("roles").await.0, "ok");
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_names_rights_that_are_missing_and_migrate_brings_them_back() {
    let stack = answering(Reply::json("{}")).await;
    let as_worker = || Operator { environment: stack.environment("worker", &[]) };
    assert_eq!(as_worker().doctor("roles").await, ("ok".to_owned(), "actions_worker".to_owned()));
    for (revoke, named) in [
        ("revoke delete on actions_private.processes from actions_worker", "delete on actions_private.processes"),
        ("revoke usage on schema actions_private from actions_worker", "usage on schema actions_private"),
        ("revoke execute on function actions_private.letters from actions_worker", "execute on function actions_private.letters"),
        (
            "revoke insert (project_id, action_id, event, actor, details, minute, count) on actions_private.audit_log from actions_worker",
            "insert on actions_private.audit_log",
        ),
    ] {
        owner(&stack, revoke).await;
        let (result, detail) = as_worker().doctor("roles").await;
        assert!(result == "failed" && detail.contains(named) && detail.contains("actionsctl migrate"), "{revoke}: {detail}");
        let migrate = Operator::at(&stack, &stack.database.owner_url());
        assert!(migrate.run(&["migrate"]).await.status.success());
        assert_eq!(as_worker().doctor("roles").await.0, "ok", "{revoke}");
    }
    owner(&stack, "revoke all on all tables in schema actions_private from actions_worker").await;
    let (_, detail) = as_worker().doctor("roles").await;
    assert!(detail.contains(" more; "), "the first are named, the others counted: {detail}");
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_names_each_setting_of_a_login_that_harms_and_the_remedy_helps() {
    // A server of its own, because a login's settings are every database's.
    let server = Server::start();
    let database = Database::create_on(server.url(), &programs().join("actionsctl")).await;
    let stack = Stack::on(database, &programs(), |_| std::future::ready(Reply::json("{}"))).await;
    let (core, _) = login(&stack, "in role actions_core").await;
    let (stranger, _) = login(&stack, "").await;
    let (own, url) = login(&stack, "in role actions_ops").await;
    let operator = Operator::at(&stack, &url);
    owner(&stack, &format!("alter role {stranger} set default_transaction_read_only = on")).await;
    for harmless in [
        "datestyle = 'German'",
        "intervalstyle = 'iso_8601'",
        "search_path = 'public'",
        "statement_timeout = '10s'",
        "lock_timeout = 0",
        "row_security = off",
    ] {
        owner(&stack, &format!("alter role {core} set {harmless}")).await;
    }
    let (result, detail) = operator.doctor("settings").await;
    assert_eq!(result, "ok", "{detail}");
    for (login, set, value, result) in [
        (&core, "default_transaction_isolation", "'repeatable read'", "failed"),
        (&core, "default_transaction_read_only", "on", "failed"),
        (&core, "standard_conforming_strings", "off", "failed"),
        (&core, "session_replication_role", "replica", "failed"),
        (&core, "statement_timeout", "'3s'", "warning"),
        (&own, "lock_timeout", "500", "warning"),
        (&own, "idle_session_timeout", "'9s'", "warning"),
    ] {
        owner(&stack, &format!("alter role {login} set {set} = {value}")).await;
        let (found, detail) = operator.doctor("settings").await;
        let named = [login.as_str(), set, value.trim_matches('\'')].iter().all(|word| detail.contains(word));
        assert!(found == result && named, "{set} = {value}: {found}: {detail}");
        owner(&stack, detail.rsplit_once(": ").unwrap().1).await;
        assert_eq!(operator.doctor("settings").await.0, "ok", "{detail}");
    }
    let name = stack.database.owner_url().rsplit_once('/').unwrap().1.to_owned();
    owner(&stack, &format!("alter database {name} set statement_timeout = '2s'")).await;
    let (result, detail) = operator.doctor("settings").await;
    assert!(result == "warning" && detail.ends_with(&format!("alter database {name} reset statement_timeout")), "{detail}");
    owner(&stack, &format!("alter database {name} reset statement_timeout")).await;
    let brought = Operator::at(&stack, &format!("{url}?options=-c%20lock_timeout%3D700"));
    let (result, detail) = brought.doctor("settings").await;
    assert!(result == "warning" && detail.contains("this session has lock_timeout = 700"), "{detail}");
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_fails_in_a_database_that_cannot_hold_every_text() {
    let stack = answering(Reply::json("{}")).await;
    for (encoding, options) in [("SQL_ASCII", ""), ("LATIN1", "lc_collate 'C' lc_ctype 'C'")] {
        let url = database(encoding, options).await;
        let (result, detail) = Operator::at(&stack, &url).doctor("encoding").await;
        assert!(result == "failed" && detail.contains(encoding) && detail.contains("encoding 'UTF8'"), "{detail}");
    }
    assert_eq!(Operator::of(&stack).await.doctor("encoding").await, ("ok".to_owned(), "UTF8".to_owned()));
}

/// The URL of an empty database with another encoding.
async fn database(encoding: &str, options: &str) -> String {
    let mut superuser = sqlx::PgConnection::connect(&superuser_url()).await.unwrap();
    let name = format!("test_{}", uuid::Uuid::new_v4().simple());
    superuser.execute(format!("create database {name} encoding '{encoding}' {options} template template0").as_str()).await.unwrap();
    let mut url = url::Url::parse(&superuser_url()).unwrap();
    url.set_path(&name);
    url.to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_listening_session_in_a_transaction_holds_up_is_measured_and_its_process_named() {
    // A server of its own, because all databases share the queue of notifications.
    let server = Server::start();
    let session = async |name: &str| {
        let mut named = url::Url::parse(server.url()).unwrap();
        named.set_query(Some(&format!("application_name={name}")));
        let mut session = sqlx::PgConnection::connect(named.as_str()).await.unwrap();
        session.execute("listen anything").await.unwrap();
        session.execute("begin; select 1").await.unwrap();
        session
    };
    let mut listening = session("forgetful").await;
    let _younger = session("younger").await;
    let pid: i32 = sqlx::query_scalar("select pg_backend_pid()").fetch_one(&mut listening).await.unwrap();
    let mut other = sqlx::PgConnection::connect(server.url()).await.unwrap();
    other.execute("select pg_notify('anything', n || repeat('x', 7900)) from generate_series(1, 200) as n").await.unwrap();
    let store = store(server.url());
    let held = health::notifications(&store).await.unwrap();
    let oldest = held.oldest.unwrap();
    assert!(held.usage > 0.0 && (oldest.pid, oldest.application.as_str()) == (pid, "forgetful"), "{} {oldest:?}", held.usage);
    other.execute(format!("select pg_terminate_backend({pid}, 10000)").as_str()).await.unwrap();
    let next = health::notifications(&store).await.unwrap().oldest.unwrap();
    assert_eq!(next.application, "younger", "the remedy helps");
}
