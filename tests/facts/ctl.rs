//! `actionsctl`, as operators and customers use it.

use std::process::{Output, Stdio};

use authio_actions_lab::endpoint::Reply;
use authio_actions_lab::stack::{ROOT_KEY, Stack};
use serde_json::Value;
use tokio::process::Command;

use crate::support::{answering, by_path, programs, until};

/// A login that may do what control planes and operators may.
async fn operator(stack: &Stack) -> String {
    let owner = stack.database.owner().await;
    let name = format!("operator_{}", uuid::Uuid::new_v4().simple());
    let password = stack.database.url("ops").split([':', '@']).nth(2).unwrap().to_owned();
    let login = format!("create role {name} login password '{password}' in role actions_admin, actions_ops");
    sqlx::query(&login).execute(&owner).await.unwrap();
    stack.database.url("ops").replace("lab_ops", &name)
}

struct Operator {
    environment: Vec<(String, String)>,
}

impl Operator {
    async fn of(stack: &Stack) -> Self {
        let url = operator(stack).await;
        Self { environment: stack.environment("ops", &[("ACTIONS_DATABASE__URL", &url)]) }
    }

    fn with(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    async fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(programs().join("actionsctl"));
        command.args(arguments).env_clear().envs(self.environment.iter().cloned()).stdin(Stdio::null()).output().await.unwrap()
    }

    async fn json(&self, arguments: &[&str]) -> Value {
        let output = self.run(&[arguments, &["--json"]].concat()).await;
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", text(&output)))
    }
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn derived(action: &str, version: i32) -> String {
    authio_actions::sign::RootKeys::parse(&format!("k1:{ROOT_KEY}")).unwrap().derive("k1", action, version).unwrap().reveal().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_life_of_an_action_from_create_to_delete() {
    let stack = answering(Reply::json("{}")).await;
    stack.project("p").await;
    let operator = Operator::of(&stack).await;
    let url = stack.endpoint.url("/");
    let create =
        ["action", "create", "--project", "p", "--trigger", "pre_register", "--url", &url, "--name", "Gate", "--fail-mode", "closed"];
    let made = operator.json(&create).await;
    let id = made["action_id"].as_str().unwrap();
    assert_eq!(made["secret"], derived(id, 1));
    assert_eq!((&made["fail_mode"], &made["timeout_ms"], &made["name"]), (&"closed".into(), &2000.into(), &"Gate".into()));
    assert_eq!(operator.json(&["action", "secret", id]).await["secret"], derived(id, 1));
    let shown = operator.json(&["action", "show", id]).await;
    assert_eq!(shown["secret_sha256"].as_str().unwrap().len(), 64, "its fingerprint is recorded without any worker");
    assert_eq!(operator.json(&["action", "list", "--project", "p"]).await.as_array().unwrap().len(), 1);
    let second = operator.run(&create).await;
    assert!(second.status.code() == Some(2) && text(&second).contains(id), "{}", text(&second));

    let updated = operator.json(&["action", "update", id, "--timeout-ms", "3000", "--on-killed", "deny"]).await;
    assert_eq!((&updated["timeout_ms"], &updated["version"]), (&3000.into(), &2.into()));
    assert_eq!(operator.json(&["action", "update", id, "--restore", "1"]).await["timeout_ms"], 2000);
    assert_eq!(operator.run(&["action", "update", id]).await.status.code(), Some(2), "nothing to change");
    assert_eq!(operator.run(&["action", "update", id, "--timeout-ms", "50"]).await.status.code(), Some(2));
    assert_eq!(operator.json(&["action", "disable", id]).await["enabled"], false);
    assert_eq!(operator.json(&["action", "enable", id]).await["enabled"], true);

    let rotated = operator.json(&["action", "rotate-secret", id]).await;
    assert_eq!(rotated["secret"], derived(id, 2));
    assert!(rotated["previous_secret_until"].is_string());
    assert!(operator.json(&["action", "finish-rotation", id]).await["previous_secret_until"].is_null());
    let owner = stack.database.owner().await;
    let kill = "update actions_private.actions set killed_at = now(), killed_reason = 'a test'";
    sqlx::query(kill).execute(&owner).await.unwrap();
    assert!(text(&operator.run(&["action", "show", id]).await).contains("a test"));
    assert!(operator.json(&["action", "reenable", id]).await["killed_at"].is_null());

    assert_eq!(operator.json(&["action", "delete", id]).await["action_id"], id);
    let gone = operator.run(&["action", "show", id]).await;
    assert!(gone.status.code() == Some(2) && text(&gone).contains("action list"), "{}", text(&gone));
    let actors: Vec<String> =
        sqlx::query_scalar("select distinct actor from actions.audit_log where action_id is not null").fetch_all(&stack.ops).await.unwrap();
    assert_eq!(actors, ["actionsctl"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_are_shown_to_who_holds_the_key_and_to_nobody_else() {
    let stack = answering(Reply::json("{}")).await;
    stack.project("p").await;
    let id = stack.action("p", "pre_register", &stack.endpoint.url("/"), "").await;
    assert_eq!(text(&Operator::of(&stack).await.run(&["action", "secret", &id]).await).trim(), derived(&id, 1));
    let other = format!("k2:{}", ROOT_KEY.replace('7', "8"));
    let without = Operator::of(&stack).await.with("ACTIONS_SECRETS__ROOT_KEYS", &other);
    let refused = without.run(&["action", "secret", &id]).await;
    assert!(refused.status.code() == Some(1) && text(&refused).contains("\"k1\""), "{}", text(&refused));
    let same_name = Operator::of(&stack).await.with("ACTIONS_SECRETS__ROOT_KEYS", &other.replace("k2", "k1"));
    let refused = same_name.run(&["action", "secret", &id]).await;
    assert!(refused.status.code() == Some(1) && text(&refused).contains("another"), "{}", text(&refused));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_test_event_tells_what_became_of_it_and_invocations_are_listed_and_shown() {
    let stack = by_path(|path| if path == "/bad" { Reply::with_status(500, "{}") } else { Reply::json(r#"{"decision":"deny"}"#) }).await;
    let _worker = stack.worker(&[]).await;
    stack.project("p").await;
    let good = stack.action("p", "pre_register", &stack.endpoint.url("/"), "").await;
    let bad = stack.action("p", "post_authenticate", &stack.endpoint.url("/bad"), "").await;
    let operator = Operator::of(&stack).await;
    let tested = operator.json(&["action", "test", &good]).await;
    assert_eq!((&tested["status"], &tested["test"], &tested["decision"]), (&"rejected".into(), &true.into(), &"deny".into()));
    let failed = operator.run(&["action", "test", &bad]).await;
    assert!(failed.status.code() == Some(1) && text(&failed).contains("http_error"), "{}", text(&failed));
    let id = tested["invocation_id"].as_str().unwrap();
    assert_eq!(operator.json(&["invocations", "show", id]).await["status"], "rejected");
    assert_eq!(operator.json(&["invocations", "list", "--action", &good]).await.as_array().unwrap().len(), 1);
    assert_eq!(operator.json(&["invocations", "list", "-n", "1"]).await[0]["status"], "http_error");
    let measured = operator.json(&["bench", &good, "--events", "12", "--at-once", "3"]).await;
    assert_eq!((&measured["events"], &measured["answered"]), (&12.into(), &12.into()));
    assert!(measured["whole"]["p50_ms"].as_f64() >= measured["call"]["p50_ms"].as_f64() && measured["call"]["p50_ms"].as_f64() > Some(0.0));
    assert_eq!(operator.run(&["bench", &bad, "--events", "1"]).await.status.code(), Some(1));
    let table = text(&operator.run(&["invocations", "list", "-n", "2"]).await);
    assert!(table.lines().count() == 3 && table.lines().all(|line| line.chars().count() <= 80), "{table}");
    assert_eq!(operator.run(&["invocations", "show", "inv_1"]).await.status.code(), Some(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn tail_follows_what_ends() {
    use tokio::io::{AsyncBufReadExt, BufReader};
    let stack = answering(Reply::json("{}")).await;
    let _worker = stack.worker(&[]).await;
    stack.project("p").await;
    let id = stack.action("p", "pre_register", &stack.endpoint.url("/"), "").await;
    let operator = Operator::of(&stack).await;
    let mut tail = Command::new(programs().join("actionsctl"))
        .args(["invocations", "tail", "--action", &id])
        .env_clear()
        .envs(operator.environment.iter().cloned())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(tail.stdout.take().unwrap()).lines();
    let following = async {
        assert!(lines.next_line().await.unwrap().unwrap().starts_with("time"));
        // The first look passes over what ended before it; so events come until one is told.
        loop {
            operator.json(&["action", "test", &id]).await;
            let told = tokio::time::timeout(std::time::Duration::from_secs(2), lines.next_line()).await;
            if let Ok(line) = told {
                return line.unwrap().unwrap();
            }
        }
    };
    let line = tokio::time::timeout(std::time::Duration::from_secs(30), following).await.unwrap();
    assert!(line.contains("ok") && line.contains("inv_"), "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn try_tells_a_verdict_and_everything_dropped_or_fails_without_a_database() {
    let stack = by_path(|path| match path {
        "/deny" => Reply::json(r#"{"decision":"deny","deny_code":"late"}"#),
        "/roles" => Reply::json(r#"{"override_roles":["a","b"],"override_claims":{"n":12345678901234567890,"sub":"x"}}"#),
        "/down" => Reply::with_status(503, "{}"),
        _ => Reply::json("{}"),
    })
    .await;
    let environment: Vec<_> = stack.environment("ops", &[]).into_iter().filter(|(name, _)| !name.contains("DATABASE")).collect();
    let customer = Operator { environment }.with("AUTHIO_ACTION_SECRET", "asec_1");
    let tried = async |path: &str, more: &[&str]| {
        let url = stack.endpoint.url(path);
        customer.run(&[&["try", "--url", &url, "--trigger", "pre_token_mint", "--json"], more].concat()).await
    };
    let allowed = tried("/roles", &["--roles", "a"]).await;
    assert_eq!(allowed.status.code(), Some(0), "{}", text(&allowed));
    assert!(text(&allowed).contains("12345678901234567890"), "numbers stay as they were written");
    let outcome: Value = serde_json::from_slice(&allowed.stdout).unwrap();
    assert_eq!(outcome["outcome"]["roles"], serde_json::json!(["a"]));
    let dropped: Vec<&str> = outcome["outcome"]["dropped"].as_array().unwrap().iter().map(|one| one["field"].as_str().unwrap()).collect();
    assert!(dropped.contains(&"override_roles"), "{dropped:?}");
    assert_eq!(outcome["dropped"], outcome["outcome"]["dropped"]);
    let all_known: Value = serde_json::from_slice(&tried("/roles", &[]).await.stdout).unwrap();
    let asked = all_known["verdict"]["override_roles"].as_array().unwrap().len();
    assert_eq!(all_known["outcome"]["roles"].as_array().unwrap().len(), asked, "{all_known}");
    let denied = tried("/deny", &[]).await;
    assert!(denied.status.success() && text(&denied).contains(r#""decision":"deny""#), "a verdict is a success: {}", text(&denied));
    assert_eq!(tried("/down", &[]).await.status.code(), Some(1));
    assert_eq!(tried("/", &["--event", "absent.json"]).await.status.code(), Some(2));
    let sent = stack.endpoint.requests();
    assert!(sent.len() == 4 && sent.iter().all(|request| request.json()["metadata"]["test"] == true));
    let secret = [&authio_actions::sign::Secret::from_text("asec_1")];
    let header = [sent[0].header("authio-signature").to_owned()];
    let now = time::OffsetDateTime::now_utc().unix_timestamp();
    let check = authio_actions::sign::verify(&header, &sent[0].body, &secret, now);
    assert!(matches!(check, authio_actions::domain::SignatureCheck::Valid { current: true }), "{check:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn try_reaches_this_machine_without_tls_and_no_other() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = vec![0; 65_536];
            let _ = stream.read(&mut request).await;
            let answer = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}";
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    let customer = Operator { environment: vec![("AUTHIO_ACTION_SECRET".to_owned(), "asec_1".to_owned())] };
    for host in ["localhost", "127.0.0.1"] {
        let url = format!("http://{host}:{port}/");
        let output = customer.run(&["try", "--url", &url, "--trigger", "pre_register"]).await;
        assert!(output.status.success(), "{}", text(&output));
    }
    for url in ["http://hooks.acme.com/", "http://10.0.0.7/", "http://localhost.evil.net/"] {
        let output = customer.run(&["try", "--url", url, "--trigger", "pre_register"]).await;
        assert_eq!(output.status.code(), Some(2), "{url}: {}", text(&output));
    }
    let output = customer.run(&["try", "--url", "https://10.0.0.7/", "--trigger", "pre_register"]).await;
    assert!(output.status.code() == Some(1) && text(&output).contains("ssrf_blocked"), "{}", text(&output));
}

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
    for check in ["database", "notify", "roles", "version", "clock", "keys", "dns", "smtp", "fleet"] {
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

#[tokio::test]
async fn check_url_says_what_a_worker_with_the_same_configuration_would() {
    let verdict = async |variables: &[(&str, &str)], arguments: &[&str]| {
        let mut operator = Operator { environment: Vec::new() };
        for (name, value) in variables {
            operator = operator.with(name, value);
        }
        let output = operator.run(&[&["check-url"], arguments].concat()).await;
        assert!(output.status.success(), "{}", text(&output));
        let line: Value = serde_json::from_slice(&output.stdout).unwrap();
        (line["verdict"].as_str().unwrap().to_owned(), line["reason"].as_str().unwrap().to_owned())
    };
    let a = "https://hooks.acme.com/a";
    // Variables, arguments, verdict.
    type Case<'a> = (&'a [(&'a str, &'a str)], &'a [&'a str], &'a str);
    let cases: [Case<'_>; 8] = [
        (&[], &["--answers", "8.8.8.8", a], "allowed"),
        (&[], &["--answers", "168.63.129.16,8.8.8.8", a], "ssrf_blocked"),
        (&[("ACTIONS_EGRESS__DENY_CIDRS", "[]")], &["--answers", "168.63.129.16", a], "allowed"),
        (&[], &["--no-dns", "https://hooks.acme.com:25/"], "ssrf_blocked"),
        (&[], &["--no-dns", "https://hooks.acme.com:8443/"], "allowed"),
        (&[("ACTIONS_EGRESS__PORTS", "[443]")], &["--no-dns", "https://hooks.acme.com:8443/"], "ssrf_blocked"),
        (&[("ACTIONS_EGRESS__NAT64_PREFIX", "64:ff9b::/96")], &["--answers", "64:ff9b::808:808", a], "allowed"),
        (&[("ACTIONS_EGRESS__NAT64_PREFIX", "64:ff9b::/96")], &["--answers", "64:ff9b::a00:7", a], "ssrf_blocked"),
    ];
    for (variables, arguments, expected) in cases {
        let (found, reason) = verdict(variables, arguments).await;
        assert_eq!(found, expected, "{variables:?} {arguments:?}: {reason}");
    }
}

#[tokio::test]
async fn a_shell_can_complete_every_command() {
    let complete = async |shell: &str| {
        Command::new(programs().join("actionsctl")).args(["completions", shell]).env_clear().stdin(Stdio::null()).output().await.unwrap()
    };
    for (shell, sign) in [("bash", "complete -F"), ("zsh", "#compdef actionsctl"), ("fish", "complete -c actionsctl")] {
        let output = complete(shell).await;
        let script = text(&output);
        assert!(output.status.success() && script.contains(sign), "{shell}: {script}");
        assert!(script.contains("rotate-secret") && script.contains("--check-every-s") | script.contains("check-every-s"), "{shell}");
    }
    let wrong = complete("cmd").await;
    assert!(wrong.status.code() == Some(2) && text(&wrong).contains("bash"), "{}", text(&wrong));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_endpoint_answers_cannot_steer_the_terminal() {
    let answer = r#"{"decision":"deny","deny_code":"\u001b[31m","deny_reason":"\u001b]0;title\u0007","append_audit":"\u001bc"}"#;
    let stack = answering(Reply::json(answer)).await;
    let customer = Operator::of(&stack).await.with("AUTHIO_ACTION_SECRET", "asec_1");
    let output = customer.run(&["try", "--url", &stack.endpoint.url("/"), "--trigger", "pre_register"]).await;
    assert!(output.status.success(), "{}", text(&output));
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(shown.contains("]0;title") && !shown.contains('\x1b') && !shown.contains('\x07'), "{shown:?}");
}
