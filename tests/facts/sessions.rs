//! Logins and databases whose settings are not those of the desk, and copies of a database.

use std::process::Stdio;

use authio_actions::client::{Client, Options};
use authio_actions::domain::{Status, Trigger};
use authio_actions_testkit::certificate::Authority;
use authio_actions_testkit::database::Database;
use authio_actions_testkit::endpoint::Reply;
use authio_actions_testkit::pooler::Pooler;
use authio_actions_testkit::process::Program;
use authio_actions_testkit::scrape;
use authio_actions_testkit::server::Server;
use authio_actions_testkit::stack::Stack;
use sqlx::{Connection, Executor, PgConnection, PgPool};

use crate::support::{enqueue, invoke, programs, until};

/// Settings that somebody may give to a login or a database, and that change what SQL means.
const ODD: [(&str, &str); 11] = [
    ("standard_conforming_strings", "off"),
    ("backslash_quote", "on"),
    ("DateStyle", "SQL, DMY"),
    ("IntervalStyle", "sql_standard"),
    ("TimeZone", "Asia/Kathmandu"),
    ("search_path", "nowhere"),
    ("bytea_output", "escape"),
    ("transform_null_equals", "on"),
    ("extra_float_digits", "-5"),
    ("plan_cache_mode", "force_custom_plan"),
    ("default_transaction_deferrable", "on"),
];
/// Settings that our own connections pin, and that auth-core's login must not have.
const PINNED: [(&str, &str); 6] = [
    ("default_transaction_isolation", "serializable"),
    ("default_transaction_read_only", "on"),
    ("statement_timeout", "1"),
    ("lock_timeout", "1"),
    ("idle_in_transaction_session_timeout", "1"),
    ("idle_session_timeout", "50"),
];

#[tokio::test(flavor = "multi_thread")]
async fn functions_rely_on_no_setting_of_the_session() {
    let server = Server::start();
    let database = Database::create_on(server.url(), &programs().join("actionsctl")).await;
    let mut superuser = PgConnection::connect(server.url()).await.unwrap();
    for role in ["core", "worker", "janitor", "admin", "ops"] {
        for (name, value) in ODD {
            superuser.execute(format!("alter role test_{role} set {name} = {value:?}").replace('"', "'").as_str()).await.unwrap();
        }
    }
    let stack = Stack::on(database, &programs(), |_| std::future::ready(Reply::json(r#"{"deny_reason":"\u0000"}"#))).await;
    stack.project("p").await;
    stack.action("p", "pre_register", &stack.endpoint.url("/"), "").await;
    let _worker = stack.worker(&[]).await;
    let _janitor = stack.janitor(&[]).await;
    let event = r#"{"user":{"name":"\u00eb \u0000 \ud83d \\"},"metadata":{"at":"2026-02-03"}}"#;
    let state = crate::support::invoke_event(&stack, "p", "pre_register", event).await;
    assert_eq!(state.status, "ok");
    let many = serde_json::json!([{"project_id": "p", "trigger": "pre_register", "event": {}}]).to_string();
    let many = many.replace("\"p\"", r#""\u0070""#).replace("{}", event);
    let states = crate::support::ask(&stack.core, "actions.enqueue_many($1::json, null)", &[&many]).await.unwrap();
    until(&stack.ops, "both are ok", "select count(*) = 2 and bool_and(status = 'ok') from actions.recent_invocations").await;
    assert!(states[0].id().starts_with("inv_"));
    let bodies: Vec<String> = stack.endpoint.requests().iter().map(|request| String::from_utf8_lossy(&request.body).into_owned()).collect();
    assert!(bodies.iter().all(|body| body.ends_with(&event[1..])), "{bodies:?}");
    for (sql, word) in [
        ("select actions.upsert_project('q', '')", "name is"),
        ("select actions.create_action('p', 'pre_token_mint', 'https://a@b/', 'A')", "endpoint_url is"),
        ("select actions.set_project_members('p', '[{\"email\":\"x\",\"role\":\"owner\"}]')", "members"),
    ] {
        let [code, message, ..] = crate::support::refusal(&stack.admin, sql).await;
        assert!(code == "22023" && message.contains(word), "{code} {message}");
    }
    for view in
        ["recent_invocations", "action_health", "queue_health", "latency", "fleet", "audit_log", "actions", "check_health", "daily_counts"]
    {
        sqlx::query(&format!("select * from actions.{view}")).fetch_all(&stack.ops).await.unwrap_or_else(|error| panic!("{view}: {error}"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn our_own_connections_pin_what_they_rely_on() {
    let server = Server::start();
    let database = Database::create_on(server.url(), &programs().join("actionsctl")).await;
    let mut superuser = PgConnection::connect(server.url()).await.unwrap();
    for role in ["worker", "janitor"] {
        for (name, value) in PINNED.iter().chain(&ODD) {
            superuser.execute(format!("alter role test_{role} set {name} = '{value}'").as_str()).await.unwrap();
        }
    }
    let stack = Stack::on(database, &programs(), |_| std::future::ready(Reply::json("{}"))).await;
    stack.project("p").await;
    let action = stack.action("p", "pre_register", &stack.endpoint.url("/"), "").await;
    let _worker = stack.worker(&[]).await;
    let mut janitor = stack.janitor(&[]).await;
    janitor.logged("leading").await;
    for _ in 0..20 {
        assert_eq!(invoke(&stack, "p", "pre_register").await.status, "ok");
    }
    sqlx::query("select actions.rotate_secret($1, 'ada', '1 second')").bind(&action).execute(&stack.admin).await.unwrap();
    until(&stack.ops, "the janitor ended the overlap", "select previous_secret_until is null from actions.actions").await;
    assert!(!janitor.log().contains("failed"), "{}", janitor.log());
}

#[tokio::test]
async fn no_function_has_a_backslash_in_a_body_that_is_parsed_when_it_runs() {
    let owner = Database::create(&programs().join("actionsctl")).await.owner().await;
    let found: Vec<String> = sqlx::query_scalar(
        "select p.proname::text from pg_proc as p where p.pronamespace::regnamespace::text in ('actions', 'actions_private')
           and p.prosqlbody is null and strpos(p.prosrc, chr(92)) > 0",
    )
    .fetch_all(&owner)
    .await
    .unwrap();
    assert_eq!(found, [""; 0]);
}

/// A program of PostgreSQL's, the newest that is installed.
fn postgres_program(name: &str) -> std::process::Command {
    let bin = std::fs::read_dir("/usr/lib/postgresql").ok().and_then(|dirs| dirs.flatten().map(|dir| dir.path().join("bin")).max());
    std::process::Command::new(bin.map_or_else(|| name.into(), |bin| bin.join(name)))
}

/// Whether `pg_dump` is new enough for the server. Of some servers there is no package with it.
async fn is_dumpable(owner: &PgPool) -> bool {
    let of_server: String = sqlx::query_scalar("show server_version").fetch_one(owner).await.unwrap();
    let said = postgres_program("pg_dump").arg("--version").output().unwrap().stdout;
    let major = |version: &str| version.split(['.', ' ', '\n']).find_map(|word| word.parse::<u32>().ok()).unwrap();
    major(&String::from_utf8(said).unwrap()) >= major(&of_server)
}

/// Copies a database as an operator would, with its logins in place.
fn dump_and_restore(from: &str, to: &str) {
    let mut dump = postgres_program("pg_dump").arg(from).stdout(Stdio::piped()).spawn().unwrap();
    let restore = postgres_program("psql")
        .args(["--quiet", "--no-psqlrc", "--set", "ON_ERROR_STOP=1", to])
        .stdin(dump.stdout.take().unwrap())
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert!(dump.wait().unwrap().success() && restore.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_copy_of_the_database_finds_in_its_queue_is_never_sent() {
    let stack = crate::support::answering(Reply::json("{}")).await;
    if !is_dumpable(&stack.database.owner().await).await {
        eprintln!("left out: pg_dump is older than the server");
        return;
    }
    stack.project("p").await;
    stack.action("p", "pre_register", &stack.endpoint.url("/"), "timeout_ms => 5000").await;
    enqueue(&stack.core, "p", "pre_register", "{}").await;
    let copies = [Database::create_empty().await, Database::create_empty().await];
    dump_and_restore(&stack.database.owner_url(), &copies[0].owner_url());
    // The same identifiers of the objects, as another server would have them.
    dump_and_restore(&stack.database.owner_url(), &copies[1].owner_url());
    let owner = copies[1].owner().await;
    owner.execute("update actions_private.server_epoch set database = (select oid from pg_database where datname = current_database()), server = server + 1").await.unwrap();
    for copy in &copies {
        let queued: i64 = sqlx::query_scalar("select count(*) from actions_private.queue").fetch_one(&copy.owner().await).await.unwrap();
        assert_eq!(queued, 1, "it was copied");
    }
    let mut workers = Vec::new();
    for copy in &copies {
        let url = copy.url("worker");
        workers.push(stack.worker(&[("ACTIONS_DATABASE__URL", &url)]).await);
        let mut janitor = stack.janitor(&[("ACTIONS_DATABASE__URL", &copy.url("janitor"))]).await;
        janitor.logged("leading").await;
        until(&copy.owner().await, "it expired there", "select bool_and(status = 'expired') from actions_private.invocations").await;
    }
    assert_eq!(stack.endpoint.requests().len(), 0);
    // The copy is a database of its own from here on.
    let core = copies[0].login("core").await;
    enqueue(&core, "p", "pre_register", "{}").await;
    until(&copies[0].owner().await, "it is served", "select bool_or(status = 'ok') from actions_private.invocations").await;
    let _original = stack.worker(&[]).await;
    until(&stack.ops, "the original is over", "select bool_and(finished_at is not null) from actions.recent_invocations").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn through_pgbouncer_in_transaction_mode_with_its_defaults_everything_works_without_prepared_statements() {
    let stack = crate::support::answering(Reply::with_status(500, "{}")).await;
    let Some(pooler) = Pooler::start(&stack.database, &["core", "worker", "janitor"]).await else {
        eprintln!("left out: PgBouncer is not installed (Debian: apt-get install pgbouncer)");
        return;
    };
    stack.project("p").await;
    stack.action("p", "pre_register", &stack.endpoint.url("/"), "timeout_ms => 5000").await;
    let [worker_url, janitor_url, core_url] = ["worker", "janitor", "core"].map(|role| stack.database.url(role));
    let through = |direct: &str| pooler.url(direct);
    let (worker_through, janitor_through) = (through(&worker_url), through(&janitor_url));
    let variables = |pooled, direct| {
        [
            ("ACTIONS_DATABASE__URL", pooled),
            ("ACTIONS_DATABASE__LISTEN_URL", direct),
            ("ACTIONS_DATABASE__PREPARED_STATEMENTS", "false"),
            ("ACTIONS_KILL_SWITCH__MIN_SAMPLES", "100"),
        ]
    };
    let mut worker = stack.worker(&variables(&worker_through, &worker_url)).await;
    let mut janitor = stack.janitor(&variables(&janitor_through, &janitor_url)).await;
    let mut options = Options::new(&through(&core_url));
    options.listen_url = Some(core_url.as_str().into());
    options.prepared_statements = false;
    let client = Client::connect(&options).await.unwrap();
    let events: Vec<_> = (0..100)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { client.invoke("p", Trigger::PreRegister, &serde_json::json!({})).await.unwrap().outcome.status })
        })
        .collect();
    for event in events {
        assert_eq!(event.await.unwrap(), Status::HttpError);
    }
    until(&stack.ops, "the kill, a transaction of several statements", "select bool_and(killed_at is not null) from actions.actions").await;
    for program in [&mut worker, &mut janitor] {
        assert!(program.drained().await.success());
        assert!(!program.log().contains("prepared statement"), "{}", program.log());
        assert!(program.log().contains("each statement is planned anew"), "it says what that costs");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn over_tls_the_server_is_the_one_that_was_meant_and_the_end_of_its_certificate_is_a_metric() {
    let server = Server::start();
    let (authority, another) = (Authority::default(), Authority::default());
    server.speak_tls(&authority, 2040).await;
    let database = Database::create_on(server.url(), &programs().join("actionsctl")).await;
    let stack = Stack::on(database, &programs(), |_| std::future::ready(Reply::json("{}"))).await;
    stack.project("p").await;
    stack.action("p", "pre_register", &stack.endpoint.url("/"), "").await;
    let files = [&authority, &another].map(|authority| {
        let file = std::env::temp_dir().join(format!("authio-actions-ca-{}.pem", uuid::Uuid::new_v4().simple()));
        std::fs::write(&file, &authority.pem).unwrap();
        file
    });
    let over_tls = |role: &str, file: &std::path::Path, host: &str| {
        let url = stack.database.url(role).replace("127.0.0.1", host);
        format!("{url}?sslmode=verify-full&sslrootcert={}", file.display())
    };
    let metrics = scrape::free_address();
    let settings = [("ACTIONS_DATABASE__URL", &*over_tls("janitor", &files[0], "127.0.0.1")), ("ACTIONS_METRICS__LISTEN", &metrics)];
    let _janitor = stack.janitor(&settings).await;
    let _worker = stack.worker(&[("ACTIONS_DATABASE__URL", &over_tls("worker", &files[0], "127.0.0.1"))]).await;
    assert_eq!(crate::support::invoke(&stack, "p", "pre_register").await.status, "ok");
    let is_private = "select bool_and(t.ssl) from pg_stat_ssl as t join pg_stat_activity as a using (pid) where a.usename in ('test_worker', 'test_janitor')";
    let is_private: bool = sqlx::query_scalar(is_private).fetch_one(&stack.database.owner().await).await.unwrap();
    assert!(is_private);
    let first_of_2040 = 2_208_988_800.0;
    crate::support::repeat(async || scrape::value(&metrics, "actions_database_certificate_expiry_seconds").await == first_of_2040).await;

    // Another authority's, and another name than the certificate has.
    for (file, host, word) in [(&files[1], "127.0.0.1", "UnknownIssuer"), (&files[0], "localhost", "not valid for name")] {
        let variables = stack.environment("worker", &[("ACTIONS_DATABASE__URL", &over_tls("worker", file, host))]);
        let mut refused = Program::start(&programs().join("actions-worker"), &[], &variables);
        assert!(!refused.ended().await.success());
        refused.logged(word).await;
    }
    for file in files {
        std::fs::remove_file(file).unwrap();
    }
}
