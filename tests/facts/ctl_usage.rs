//! `actionsctl`'s words: help, completions, what is accepted; `check-url` and `config show`.

use std::process::Stdio;

use serde_json::Value;
use tokio::process::Command;

use crate::operator::{Operator, text};
use crate::support::programs;

/// Somebody without any configuration.
fn anybody() -> Operator {
    Operator { environment: Vec::new() }
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
        for word in ["set-members", "audit", "pre_token_mint", "invalid_signature", "closed", "skip"] {
            assert!(script.contains(word), "{shell}: {word}");
        }
        assert!(script.contains("rotate-secret") && script.contains("--check-every-s") | script.contains("check-every-s"), "{shell}");
    }
    let wrong = complete("cmd").await;
    assert!(wrong.status.code() == Some(2) && text(&wrong).contains("bash"), "{}", text(&wrong));
}

#[tokio::test]
async fn every_command_has_an_example_and_enumerated_arguments_list_their_words() {
    let help = async |arguments: &[&str]| text(&anybody().run(&[arguments, &["--help"]].concat()).await);
    for command in [
        "project list",
        "project show",
        "project upsert",
        "project set-roles",
        "project set-members",
        "audit list",
        "fleet",
        "config show",
        "action create",
        "action list",
        "action show",
        "action update",
        "action rotate-secret",
        "action finish-rotation",
        "action secret",
        "action delete",
        "invocations list",
        "invocations show",
        "invocations tail",
        "check-url",
        "try",
        "doctor",
        "migrate",
        "bench",
        "sign",
        "verify",
        "completions",
    ] {
        let text = help(&command.split(' ').collect::<Vec<_>>()).await;
        assert!(
            text.contains("Example") && text.contains(&format!("actionsctl {}", command.split(' ').next().unwrap())),
            "{command}: {text}"
        );
    }
    let create = help(&["action", "create"]).await;
    for words in ["pre_authenticate, post_authenticate, pre_token_mint", "open, closed", "skip, deny"] {
        assert!(create.contains(words), "{words}: {create}");
    }
    assert!(help(&["invocations", "list"]).await.contains("ssrf_blocked"));
    let wrong = anybody().run(&["try", "--url", "https://a.example/", "--secret", "s", "--trigger", "sometimes"]).await;
    assert!(wrong.status.code() == Some(2) && text(&wrong).contains("pre_token_mint"), "{}", text(&wrong));
}

#[tokio::test]
async fn check_url_fails_only_where_it_is_asked_to() {
    let check = async |arguments: &[&str]| anybody().run(&[&["check-url", "--no-dns"], arguments].concat()).await.status.code();
    let (good, bad, invalid) = ("https://hooks.acme.com/", "https://10.0.0.7/", "ftp://hooks.acme.com/");
    assert_eq!(check(&[good, bad, invalid]).await, Some(0));
    assert_eq!(check(&["--fail", good]).await, Some(0));
    assert_eq!(check(&["--fail", good, bad]).await, Some(1));
    assert_eq!(check(&["--fail", invalid]).await, Some(1));
}

#[tokio::test]
async fn the_configuration_is_shown_with_its_layers_and_without_its_secrets() {
    let operator = anybody()
        .with("ACTIONS_DATABASE__URL", "postgres://u:hunter2@127.0.0.1:1/d")
        .with("ACTIONS_SMTP__URL", "smtp://m:hunter2@127.0.0.1:1")
        .with("ACTIONS_SECRETS__ROOT_KEYS", &format!("k1:{}", "ab".repeat(32)));
    let rows = operator.json(&["config", "show"]).await;
    let of = |key: &str| rows.as_array().unwrap().iter().find(|row| row["key"] == key).cloned().unwrap();
    assert_eq!(
        (&of("database.url")["value"], &of("database.url")["origin"]),
        (&"postgres://u:<hidden>@127.0.0.1:1/d".into(), &"environment ACTIONS_DATABASE__URL".into())
    );
    assert_eq!(of("secrets.root_keys")["value"], "k1:<hidden>");
    assert_eq!((&of("worker.poll_ms")["value"], &of("worker.poll_ms")["origin"]), (&1000.into(), &"default".into()));
    assert_eq!((&of("database.listen_url")["value"], &of("database.listen_url")["origin"]), (&Value::Null, &"not set".into()));
    let shown = text(&operator.run(&["config", "show"]).await);
    assert!(shown.contains("[worker]") && shown.contains("(default)") && !shown.contains("hunter2") && !shown.contains("abab"), "{shown}");
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
