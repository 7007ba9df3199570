//! Usage, configuration and schema: errors that say what to do.

use std::os::unix::ffi::OsStrExt;
use std::process::Output;

use authio_actions_testkit::database::Database;
use authio_actions_testkit::endpoint::Reply;
use authio_actions_testkit::scrape;
use authio_actions_testkit::stack::ROOT_KEY;
use tokio::process::Command;

use crate::support::{answering, invoke, programs, repeat};

/// Arguments, variables, and words that the error must hold.
type Case<'a> = (&'a [&'a str], &'a [(&'a str, &'a str)], &'a [&'a str]);

const PROGRAMS: [&str; 3] = ["actions-worker", "actions-janitor", "actionsctl"];

async fn run(program: &str, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(programs().join(program));
    command.args(arguments).env_clear().envs(variables.iter().copied()).output().await.unwrap()
}

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[tokio::test]
async fn every_program_tells_its_version_and_how_to_use_it() {
    for program in PROGRAMS {
        let version = run(program, &["--version"], &[]).await;
        assert_eq!(String::from_utf8_lossy(&version.stdout), format!("{program} {}\n", env!("CARGO_PKG_VERSION")));
        let help = run(program, &["--help"], &[]).await;
        let text = String::from_utf8_lossy(&help.stdout).into_owned();
        assert!(help.status.success() && text.contains("--config") && text.contains("ACTIONS_"), "{text}");
        assert_eq!(run(program, &["--nonsense"], &[]).await.status.code(), Some(2), "{program}");
    }
}

#[tokio::test]
async fn wrong_configuration_is_status_2_and_names_key_given_and_accepted() {
    let file = std::env::temp_dir().join(format!("authio-actions-{}.toml", uuid::Uuid::new_v4().simple()));
    std::fs::write(&file, "[worker]\nmax_in_flight = \"many\"\n").unwrap();
    let path = file.to_str().unwrap().to_owned();
    let with_secrets = ["[secrets]\nroot_keys = \"k1:hunter2\n", "database = \"postgres://u:hunter2@127.0.0.1:1/d\"\n"].map(|text| {
        let path = std::env::temp_dir().join(format!("authio-actions-{}.toml", uuid::Uuid::new_v4().simple()));
        std::fs::write(&path, text).unwrap();
        path
    });
    let [unclosed, no_table] = with_secrets.each_ref().map(|path| path.to_str().unwrap());
    let cases: [Case<'_>; 8] = [
        (&[], &[], &["database.url", "missing", "ACTIONS_DATABASE__URL"]),
        (&[], &[("ACTIONS_DATABASE__URL", "nonsense")], &["database.url", "postgres://"]),
        (&[], &[("ACTIONS_DATABASE__ULR", "x")], &["database.ulr", "unknown key", "listen_url"]),
        (&["--config", &path], &[], &["worker.max_in_flight", "many"]),
        (&["--config", unclosed], &[], &["the file", "line 2", "TOML"]),
        (&["--config", no_table], &[], &["database", "a text where a table belongs", "url, listen_url"]),
        (&["--config", "absent.toml"], &[], &["--config", "absent.toml"]),
        (
            &[],
            &[("ACTIONS_DATABASE__URL", "postgres://u:hunter2@127.0.0.1:1/d"), ("ACTIONS_SECRETS__ROOT_KEYS", "k1:hunter2")],
            &["secrets.root_keys", "64 lower-case hex"],
        ),
    ];
    for (arguments, variables, words) in cases {
        for program in ["actions-worker", "actions-janitor"] {
            let output = run(program, arguments, variables).await;
            let text = told(&output);
            assert_eq!(output.status.code(), Some(2), "{program} {variables:?}: {text}");
            assert!(words.iter().all(|word| text.contains(word)) && !text.contains("hunter2"), "{program} {variables:?}: {text}");
        }
    }
    std::fs::remove_file(file).unwrap();
    with_secrets.iter().for_each(|path| std::fs::remove_file(path).unwrap());
}

#[tokio::test]
async fn a_variable_that_is_no_text_is_not_passed_over() {
    let value = std::ffi::OsStr::from_bytes(b"postgres://\xff");
    let output = Command::new(programs().join("actions-worker")).env_clear().env("ACTIONS_DATABASE__URL", value).output().await.unwrap();
    assert!(
        output.status.code() == Some(2) && told(&output).contains("ACTIONS_DATABASE__URL: bytes that are not UTF-8"),
        "{}",
        told(&output)
    );
}

#[tokio::test]
async fn each_example_is_a_configuration_with_which_its_program_gets_as_far_as_its_database() {
    let temporary = |name: &str| std::env::temp_dir().join(format!("authio-actions-{}-{name}", uuid::Uuid::new_v4().simple()));
    let keys = temporary("root_keys");
    std::fs::write(&keys, format!("k1:{ROOT_KEY}\n")).unwrap();
    let mut examples = 0;
    // What is secret does not stand in them.
    let url = ("ACTIONS_DATABASE__URL", "postgres://somebody@127.0.0.1:1/authio");
    let root_keys = ("ACTIONS_SECRETS__ROOT_KEYS_FILE", keys.to_str().unwrap());
    for (program, arguments, variables) in [
        ("actions-worker", &[][..], &[url, root_keys][..]),
        ("actions-janitor", &[], &[url]),
        ("actions-console", &[], &[url, root_keys]),
        ("actionsctl", &["action", "list"], &[url, root_keys]),
    ] {
        let example = format!("{}/config/{}.example.toml", env!("CARGO_MANIFEST_DIR"), program.trim_start_matches("actions-"));
        let arguments = [&["--config", &example], arguments].concat();
        let output = run(program, &arguments, variables).await;
        assert!(output.status.code() == Some(1) && told(&output).contains("not reachable"), "{example}: {}", told(&output));
        examples += 1;
    }
    std::fs::remove_file(keys).unwrap();
    let there = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/config")).unwrap();
    let there = there.filter(|file| file.as_ref().unwrap().path().to_string_lossy().ends_with(".example.toml")).count();
    assert_eq!(there, examples, "each example has its program here");
}

#[tokio::test]
async fn a_database_that_is_away_is_status_1() {
    let keys = format!("k1:{ROOT_KEY}");
    let variables = [("ACTIONS_DATABASE__URL", "postgres://u:hunter2@127.0.0.1:1/d"), ("ACTIONS_SECRETS__ROOT_KEYS", keys.as_str())];
    for program in ["actions-worker", "actions-janitor"] {
        let output = run(program, &[], &variables).await;
        let text = told(&output);
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.contains("not reachable") && !text.contains("hunter2"), "{text}");
    }
}

#[tokio::test]
async fn a_database_without_or_with_other_migrations_says_what_to_do() {
    let database = Database::create_empty().await;
    let url = database.owner_url();
    let keys = format!("k1:{ROOT_KEY}");
    let variables = [("ACTIONS_DATABASE__URL", url.as_str()), ("ACTIONS_SECRETS__ROOT_KEYS", keys.as_str())];
    let expect = async |words: &str| {
        for program in ["actions-worker", "actions-janitor"] {
            let output = run(program, &[], &variables).await;
            assert_eq!(output.status.code(), Some(1));
            assert!(told(&output).contains(words), "{program}: {}", told(&output));
        }
    };
    expect("run: actionsctl migrate").await;
    let migrated = run("actionsctl", &["migrate"], &variables).await;
    assert!(migrated.status.success(), "{}", told(&migrated));
    let owner = database.owner().await;
    sqlx::query("delete from actions_private.migrations where version = (select max(version) from actions_private.migrations)")
        .execute(&owner)
        .await
        .unwrap();
    expect("run: actionsctl migrate").await;
    sqlx::query("insert into actions_private.migrations (version, name, checksum) values (9999, 'of the future', '')")
        .execute(&owner)
        .await
        .unwrap();
    let refused = run("actionsctl", &["migrate"], &variables).await;
    assert!(refused.status.code() == Some(1) && told(&refused).contains("newer"), "{}", told(&refused));
    // A newer schema is no hindrance, unless it says so.
    sqlx::query("update actions_private.settings set oldest_program = '99.0.0'").execute(&owner).await.unwrap();
    expect("serves programs from release 99.0.0 on").await;
}

#[tokio::test]
async fn a_login_without_a_role_is_told_to_get_one() {
    let database = Database::create(&programs().join("actionsctl")).await;
    let owner = database.owner().await;
    let password = url::Url::parse(&database.owner_url()).unwrap().password().unwrap().to_owned();
    sqlx::query(&format!("create role stranger login password '{password}'")).execute(&owner).await.unwrap();
    let mut url = url::Url::parse(&database.owner_url()).unwrap();
    url.set_username("stranger").unwrap();
    let keys = format!("k1:{ROOT_KEY}");
    let output = run("actions-worker", &[], &[("ACTIONS_DATABASE__URL", url.as_str()), ("ACTIONS_SECRETS__ROOT_KEYS", &keys)]).await;
    assert!(output.status.code() == Some(1) && told(&output).contains("grant actions_worker"), "{}", told(&output));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_tells_the_age_of_each_loop_and_its_metrics_in_the_form_that_is_asked_for() {
    let stack = answering(Reply::with_status(500, "{}")).await;
    stack.project("p").await;
    stack.action("p", "pre_register", &stack.endpoint.url("/"), "").await;
    let (worker_at, janitor_at) = (scrape::free_address(), scrape::free_address());
    let _worker = stack.worker(&[("ACTIONS_METRICS__LISTEN", &worker_at)]).await;
    let mut janitor = stack.janitor(&[("ACTIONS_METRICS__LISTEN", &janitor_at), ("ACTIONS_KILL_SWITCH__TICK_MS", "50")]).await;
    janitor.logged("leading").await;
    for _ in 0..3 {
        assert_eq!(invoke(&stack, "p", "pre_register").await.status, "http_error");
    }
    for (address, loops) in [
        (&worker_at, &["aside", "beat", "claim", "listen", "record_secrets", "tell", "write_back"][..]),
        (&janitor_at, &["erasure", "leadership", "maintenance", "tick"]),
    ] {
        let (status, text) = scrape::get(address, "/healthz").await;
        let told: Vec<&str> = text.lines().skip(1).filter_map(|line| line.split(' ').next()).collect();
        assert_eq!((status, text.lines().next(), told.as_slice()), (200, Some("ok"), loops), "{text}");
        assert!(text.lines().skip(1).all(|line| line.split(' ').nth(1).unwrap().parse::<f64>().unwrap() < 10.0), "{text}");
    }
    for (series, value) in [
        ("actions_errors_total{code=\"http_5xx\"}", 3.0),
        ("actions_connections_total{connection=\"new\"}", 1.0),
        ("actions_connections_total{connection=\"kept\"}", 2.0),
        ("actions_phase_seconds_count{phase=\"tls\"}", 1.0),
        ("actions_unwritten_results", 0.0),
        (concat!("actions_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"}"), 1.0),
    ] {
        assert_eq!(scrape::value(&worker_at, series).await, value, "{series}");
    }
    let openmetrics = scrape::get_as(&worker_at, "/metrics", "application/openmetrics-text; version=1.0.0").await;
    assert!(openmetrics.1.ends_with("# EOF\n"), "{}", openmetrics.1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_worker_ended_stands_in_the_leaders_metrics() {
    let stack = answering(Reply::json("{}")).await;
    stack.project("p").await;
    let action = stack.action("p", "pre_register", &stack.endpoint.url("/"), "timeout_ms => 100").await;
    let address = scrape::free_address();
    let mut janitor = stack.janitor(&[("ACTIONS_METRICS__LISTEN", &address), ("ACTIONS_KILL_SWITCH__TICK_MS", "50")]).await;
    janitor.logged("leading").await;
    repeat(async || scrape::value(&address, "actions_leader").await > 0.0).await;
    // The first look only notes the moment.
    let core = &stack.core;
    let enqueue = async || crate::support::enqueue(core, "p", "pre_register", "{}").await;
    let first = enqueue().await;
    repeat(async || scrape::value(&address, "actions_queued").await > 0.0).await;
    crate::support::abandon(core, first.id()).await;
    enqueue().await; // for the janitor
    let owner = stack.database.owner().await;
    repeat(async || scrape::value(&address, "actions_errors_total{code=\"abandoned\"}").await == 1.0).await;
    repeat(async || scrape::value(&address, "actions_errors_total{code=\"deadline_passed\"}").await == 1.0).await;
    sqlx::query("update actions_private.actions set killed_at = now(), killed_reason = 'test' where id = $1")
        .bind(&action)
        .execute(&owner)
        .await
        .unwrap();
    enqueue().await;
    repeat(async || scrape::value(&address, "actions_invocations_total{trigger=\"pre_register\",status=\"killed\"}").await == 1.0).await;
    assert_eq!(scrape::value(&address, "actions_invocations_total{trigger=\"pre_register\",status=\"expired\"}").await, 2.0);
}
