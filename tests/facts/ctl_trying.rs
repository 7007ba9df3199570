//! `actionsctl candidate`, `replay`, `break-glass`, `apply` and `export`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use authio_actions_testkit::endpoint::Reply;
use authio_actions_testkit::stack::ROOT_KEY;
use serde_json::{Value, json};

use crate::operator::{Operator, text};
use crate::support::{answering, by_path, invoke_event, until};

#[tokio::test(flavor = "multi_thread")]
async fn a_candidate_is_staged_shown_promoted_and_withdrawn() {
    let stack = answering(Reply::json("{}")).await;
    stack.project("p").await;
    let action = stack.action("p", "pre_token_mint", &stack.endpoint.url("/"), "").await;
    let operator = Operator::of(&stack).await;
    let staged = operator
        .json(&[
            "candidate",
            "stage",
            &action,
            "--url",
            &stack.endpoint.url("/v2"),
            "--mode",
            "canary",
            "--percent",
            "5",
            "--actor",
            "ada@acme.com",
        ])
        .await;
    assert_eq!((&staged["state"], &staged["mode"], &staged["percent"]), (&json!("running"), &json!("canary"), &json!(5)));
    let again = operator.run(&["candidate", "stage", &action, "--timeout-ms", "900"]).await;
    assert!(again.status.code() == Some(2) && String::from_utf8_lossy(&again.stderr).contains("has a candidate that runs"));
    assert!(text(&operator.run(&["candidate", "show", &action]).await).contains("in canary mode for 5 % of the people"));
    assert_eq!(operator.json(&["candidate", "promote", &action]).await["state"], "promoted");
    assert_eq!(operator.json(&["action", "show", &action]).await["version"], 2);
    operator.json(&["candidate", "stage", &action, "--condition", "$.user.id == \"x\""]).await;
    assert_eq!(operator.json(&["candidate", "withdraw", &action]).await["reason"], "withdrawn by hand");
    let shown = operator.json(&["candidate", "show", &action]).await;
    assert_eq!(shown.as_array().unwrap().len(), 2);
    assert_eq!(operator.run(&["candidate", "stage", &action]).await.status.code(), Some(2), "nothing to change");
}

#[tokio::test(flavor = "multi_thread")]
async fn recorded_events_are_sent_again_byte_for_byte_and_compared() {
    let denies = Arc::new(AtomicBool::new(false));
    let switch = Arc::clone(&denies);
    let stack = by_path(move |path| match path {
        "/down" => Reply::with_status(503, ""),
        _ if switch.load(Ordering::Relaxed) => Reply::json(r#"{"decision":"deny","deny_code":"no"}"#),
        _ => Reply::json("{}"),
    })
    .await;
    stack.project("p").await;
    let action = stack.action("p", "pre_token_mint", &stack.endpoint.url("/"), "record_events => 10").await;
    let operator = Operator::of(&stack).await;
    let nothing = operator.run(&["replay", &action, "--version", "1"]).await;
    assert!(nothing.status.success() && String::from_utf8_lossy(&nothing.stderr).contains("nothing is recorded"), "{}", text(&nothing));
    let _worker = stack.worker(&[]).await;
    for n in 0..3 {
        invoke_event(&stack, "p", "pre_token_mint", &json!({"user": {"id": format!("user_{n}")}, "n": 1.5}).to_string()).await;
    }
    until(&stack.ops, "three are kept", "select count(*) = 3 from actions.recorded_events").await;
    let same = operator.run(&["replay", &action, "--version", "1", "--json"]).await;
    assert!(same.status.success(), "{}", String::from_utf8_lossy(&same.stderr));
    let lines: Vec<Value> = text(&same).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 3);
    let side = json!({"status": "ok", "decision": "allow"});
    assert!(
        lines.iter().all(|line| line["then"] == side && line["now"] == side && line["differs"] == json!([]) && line["ms"].is_f64()),
        "{lines:?}"
    );
    let requests = stack.endpoint.requests();
    assert_eq!(requests.len(), 6);
    for (first, again) in requests[..3].iter().zip(&requests[3..]) {
        assert_eq!((&first.body, again.header("authio-mode")), (&again.body, "replay"));
        assert_ne!(first.header("authio-signature"), "");
    }
    // The root key was changed meanwhile: old events stay readable for whoever keeps the old one, too.
    let keys = format!("k2:{},k1:{ROOT_KEY}", "a".repeat(64));
    let rotated = Operator::of(&stack).await.with("ACTIONS_SECRETS__ROOT_KEYS", &keys);
    assert!(rotated.run(&["replay", &action, "--version", "1"]).await.status.success());
    let forgot = Operator::of(&stack).await.with("ACTIONS_SECRETS__ROOT_KEYS", &format!("k2:{}", "a".repeat(64)));
    let unread = forgot.run(&["replay", &action, "--url", &stack.endpoint.url("/"), "--secret", "asec_x"]).await;
    assert!(unread.status.code() == Some(1) && String::from_utf8_lossy(&unread.stderr).contains("its root key \"k1\""), "{unread:?}");
    denies.store(true, Ordering::Relaxed);
    let differs = operator.run(&["replay", &action, "--version", "1", "--last", "2", "--json"]).await;
    assert_eq!(differs.status.code(), Some(1));
    let first: Value = serde_json::from_str(text(&differs).lines().next().unwrap()).unwrap();
    assert_eq!((&first["now"]["decision"], &first["differs"]), (&json!("deny"), &json!(["decision", "code"])));
    let down = stack.endpoint.url("/down");
    let secret = format!("asec_{}", "5".repeat(64));
    let failed = operator.run(&["replay", &action, "--url", &down, "--secret", &secret]).await;
    assert!(failed.status.code() == Some(1) && text(&failed).contains("3 failed that had not failed then"), "{}", text(&failed));
    for (arguments, said) in [
        (vec!["replay", &action, "--url", &down], "needs the endpoint's secret"),
        (vec!["replay", &action, "--version", "9"], "the action has no such version"),
        (vec!["replay", "action_x", "--version", "1"], "there is no action"),
        (vec!["replay", &action], "--version"),
    ] {
        let wrong = operator.run(&arguments).await;
        assert!(
            wrong.status.code() == Some(2) && String::from_utf8_lossy(&wrong.stderr).contains(said),
            "{arguments:?}: {}",
            String::from_utf8_lossy(&wrong.stderr)
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn break_glass_is_set_shown_and_ended() {
    let stack = answering(Reply::json("{}")).await;
    stack.project("p").await;
    let operator = Operator::of(&stack).await;
    let set = operator.json(&["break-glass", "set", "p", "user_2", "user_1"]).await;
    assert_eq!(set, json!({"project_id": "p", "user_ids": ["user_1", "user_2"]}));
    assert_eq!(text(&operator.run(&["break-glass", "show", "p"]).await), "user_1\nuser_2\n");
    assert_eq!(operator.json(&["break-glass", "set", "p", "--none"]).await["user_ids"], json!([]));
    assert_eq!(operator.run(&["break-glass", "show", "q"]).await.status.code(), Some(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_project_is_written_down_and_made_so_again_and_nothing_more() {
    let stack = answering(Reply::json("{}")).await;
    stack.project("p").await;
    let operator = Operator::of(&stack).await;
    sqlx::query(r#"select actions.set_project_members('p', '[{"email":"ada@acme.com","role":"owner"}]')"#)
        .execute(&stack.admin)
        .await
        .unwrap();
    stack
        .action(
            "p",
            "pre_register",
            &stack.endpoint.url("/"),
            "condition => '$.user.id starts with \"u\"', record_events => 5, check_every_s => 0"
                .replace(", check_every_s => 0", "")
                .as_str(),
        )
        .await;
    let dir = std::env::temp_dir().join(format!("authio-actions-apply-{}", uuid::Uuid::new_v4().simple()));
    std::fs::create_dir(&dir).unwrap();
    let file = |name: &str, content: &str| {
        let path = dir.join(name);
        std::fs::write(&path, content).unwrap();
        path.display().to_string()
    };
    let audited = async || -> i64 { sqlx::query_scalar("select count(*) from actions.audit_log").fetch_one(&stack.ops).await.unwrap() };
    for format in ["toml", "yaml"] {
        let exported = text(&operator.run(&["export", "--project", "p", "--format", format]).await);
        assert!(exported.contains("starts with") && !exported.contains("secret"), "{exported}");
        let path = file(&format!("p.{format}"), &exported);
        let before = audited().await;
        for arguments in [vec!["apply", &path, "--dry-run"], vec!["apply", &path], vec!["apply", &path, "--prune"]] {
            let applied = operator.run(&arguments).await;
            assert!(applied.status.success() && text(&applied).contains("as described"), "{format}: {}", text(&applied));
        }
        assert_eq!(audited().await, before, "nothing was changed");
    }
    let wanted = r#"
[[projects]]
project_id = "p"
name = "Acme & Co"
role_slugs = ["member", "owner"]
members = [{ email = "bob@acme.com", role = "admin" }]
[[projects.actions]]
trigger = "pre_token_mint"
name = "Roles"
endpoint_url = "https://hooks.acme.com/roles"
fail_mode = "closed"
check_every_s = 60
[[projects.actions]]
trigger = "pre_register"
name = "Sample"
endpoint_url = "https://hooks.acme.com/gate"
condition = ""

[[projects]]
project_id = "new"
name = "New"
"#;
    let path = file("wanted.toml", wanted);
    let dry = operator.run(&["apply", &path, "--dry-run"]).await;
    assert_eq!(dry.status.code(), Some(3), "{}", text(&dry));
    for line in [
        "~ name: \"Acme\" -> \"Acme & Co\"",
        "- member ada@acme.com owner",
        "+ member bob@acme.com admin",
        "+ action pre_token_mint \"Roles\"",
        "condition",
        "+ project \"New\"",
    ] {
        assert!(text(&dry).contains(line), "{line}: {}", text(&dry));
    }
    let unchanged: i64 = sqlx::query_scalar("select count(*) from actions.actions").fetch_one(&stack.ops).await.unwrap();
    assert_eq!(unchanged, 1);
    assert!(operator.run(&["apply", &path, "--actor", "ada@acme.com"]).await.status.success());
    assert!(text(&operator.run(&["apply", &path]).await).contains("project p: as described"));
    let rows: Vec<(String, String, String, i32, Option<String>)> =
        sqlx::query_as("select name, endpoint_url, fail_mode, check_every_s, condition from actions.actions order by name")
            .fetch_all(&stack.ops)
            .await
            .unwrap();
    assert_eq!(rows[0], ("Roles".to_owned(), "https://hooks.acme.com/roles".to_owned(), "closed".to_owned(), 60, None));
    assert_eq!((rows[1].1.as_str(), rows[1].2.as_str(), &rows[1].4), ("https://hooks.acme.com/gate", "open", &None));
    // All or nothing in a project, and pruning within the projects that are named.
    let wrong = file(
        "wrong.yaml",
        "projects:\n- project_id: p\n  name: Other\n  actions:\n  - {trigger: pre_token_mint, name: Roles, endpoint_url: 'http://plain'}\n",
    );
    let refused = operator.run(&["apply", &wrong]).await;
    assert!(refused.status.code() == Some(2) && String::from_utf8_lossy(&refused.stderr).contains("endpoint_url"), "{refused:?}");
    let name: String = sqlx::query_scalar("select name from actions.projects where project_id = 'p'").fetch_one(&stack.ops).await.unwrap();
    assert_eq!(name, "Acme & Co");
    let other = stack.action("new", "pre_register", &stack.endpoint.url("/"), "").await;
    let only = file("only.yaml", "projects:\n- project_id: p\n  actions: []\n");
    assert!(operator.run(&["apply", &only, "--prune"]).await.status.success());
    let left: Vec<String> = sqlx::query_scalar("select action_id from actions.actions").fetch_all(&stack.ops).await.unwrap();
    assert_eq!(left, [other]);
    for (name, content, said) in [
        ("a.json", "{}", "accepted are .toml, .yaml and .yml"),
        ("a.toml", "[[projects]]\nproject_id = \"p\"\ncolour = \"red\"", "colour"),
        ("b.toml", "[[projects]]\nproject_id = \"p\"\n[[projects]]\nproject_id = \"p\"", "described twice"),
        ("c.yaml", "projects: 5", "c.yaml"),
        ("d.toml", "[[projects]]\nproject_id = \"z\"", "is new and has no name"),
    ] {
        let wrong = operator.run(&["apply", &file(name, content)]).await;
        assert!(wrong.status.code() == Some(2) && String::from_utf8_lossy(&wrong.stderr).contains(said), "{name}: {wrong:?}");
    }
    std::fs::remove_dir_all(&dir).unwrap();
}
