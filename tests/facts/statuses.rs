//! Each status and its mover, each fail mode.

use authio_actions_testkit::endpoint::Reply;
use serde_json::{Value, json};
use sqlx::Row;

use crate::support::{answering, by_path, enqueue, invoke, invoke_event, until};

fn reply_for(path: &str) -> Reply {
    match path {
        "/allow" => Reply::json(r#"{"decision":"allow"}"#),
        "/deny" => Reply::json(r#"{"decision":"deny","deny_code":"fraud_review","deny_reason":"score 92"}"#),
        "/close" => Reply::Close,
        "/redirect" => Reply::with_status(302, "").and_header("location", "/allow"),
        "/503" => Reply::with_status(503, "overloaded"),
        "/html" => Reply::json("<html>"),
        "/forged" => Reply::json("{}").and_header("authio-response-signature", format!("t=1,v1={}", "0".repeat(64))),
        "/malformed" => Reply::json("{}").and_header("authio-response-signature", "garbage"),
        _ => Reply::Hang,
    }
}

/// Every way to end, with both fail modes: path, status, decision when open, decision when closed.
#[tokio::test(flavor = "multi_thread")]
async fn each_end_has_its_status_and_follows_the_fail_mode() {
    let stack = by_path(reply_for).await;
    let _worker = stack.worker(&[]).await;
    let refused = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let cases = [
        (stack.endpoint.url("/allow"), "ok", "allow", "allow"),
        (stack.endpoint.url("/deny"), "rejected", "deny", "deny"),
        (stack.endpoint.url("/hang"), "timeout", "allow", "deny"),
        (stack.endpoint.url("/close"), "network_error", "allow", "deny"),
        (format!("https://hooks.acme.test:{}/", refused.port()), "network_error", "allow", "deny"),
        (format!("https://127.0.0.1:{}/allow", stack.endpoint.address.port()), "network_error", "allow", "deny"),
        ("https://169.254.169.254/".to_owned(), "ssrf_blocked", "allow", "deny"),
        ("https://api.authio.com/".to_owned(), "ssrf_blocked", "allow", "deny"),
        (stack.endpoint.url("/redirect"), "http_error", "allow", "deny"),
        (stack.endpoint.url("/503"), "http_error", "allow", "deny"),
        (stack.endpoint.url("/html"), "invalid_response", "allow", "deny"),
        (stack.endpoint.url("/malformed"), "invalid_response", "allow", "deny"),
        (stack.endpoint.url("/forged"), "invalid_signature", "allow", "deny"),
    ];
    for (at, (url, status, open, closed)) in cases.into_iter().enumerate() {
        for (fail_mode, decision) in [("open", open), ("closed", closed)] {
            let project = format!("p{at}_{fail_mode}");
            stack.project(&project).await;
            stack.action(&project, "post_authenticate", &url, &format!("timeout_ms => 400, fail_mode => '{fail_mode}'")).await;
            let state = invoke(&stack, &project, "post_authenticate").await;
            let outcome = state.outcome();
            assert_eq!((state.status.as_str(), outcome["decision"].as_str()), (status, Some(decision)), "{url} {fail_mode}: {outcome}");
            assert_eq!(outcome["status"], status);
            match (status, decision) {
                ("ok", _) => assert_eq!(outcome["source"], "verdict"),
                ("rejected", _) => assert_eq!(outcome["code"], "fraud_review"),
                (_, "allow") => assert_eq!(outcome["source"], "fail_open"),
                _ => assert_eq!((&outcome["source"], &outcome["code"]), (&json!("fail_closed"), &json!("action_unreachable"))),
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_row_tells_what_happened() {
    let stack = by_path(reply_for).await;
    let _worker = stack.worker(&[]).await;
    stack.project("p").await;
    let action = stack.action("p", "pre_register", &stack.endpoint.url("/503"), "").await;
    let state = invoke(&stack, "p", "pre_register").await;
    let row = sqlx::query("select * from actions.recent($1)").bind(&action).fetch_one(&stack.ops).await.unwrap();
    assert_eq!(row.get::<String, _>("invocation_id"), state.id());
    assert_eq!(row.get::<i32, _>("http_status"), 503);
    assert!(row.get::<f64, _>("duration_ms") > 0.0 && row.get::<f64, _>("queue_ms") >= 0.0);
    assert!(row.get::<String, _>("error").contains("HTTP 503"));
    // printf overloaded | sha256sum
    assert_eq!(row.get::<String, _>("response_sha256"), "23b17b289036cd30c2589d4a240da953b6df4c997d701f59e7732571757e5d02");
    assert!(row.get::<String, _>("worker").starts_with("worker-"));
    assert!(!row.get::<bool, _>("overrode") && !row.get::<bool, _>("test"));
}

#[tokio::test(flavor = "multi_thread")]
async fn informational_triggers_never_deny() {
    let stack = by_path(reply_for).await;
    let _worker = stack.worker(&[]).await;
    for (trigger, path) in [("post_token_mint", "/deny"), ("post_register", "/503")] {
        stack.project(trigger).await;
        stack.action(trigger, trigger, &stack.endpoint.url(path), "fail_mode => 'closed'").await;
        let state = invoke(&stack, trigger, trigger).await;
        assert_eq!(state.outcome()["decision"], "allow", "{:?}", state.outcome);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn roles_and_claims_arrive_on_pre_token_mint_and_everything_else_is_told() {
    let stack = answering(Reply::json(
        r#"{"decision":"allow","override_roles":["billing_admin","auditor","root","auditor"],"override_permissions":["b","a"],
            "override_claims":{"employee_id":12345678901234567890123,"sub":"x"},"append_audit":{"n":1.10},"deny_code":"unused"}"#,
    ))
    .await;
    let _worker = stack.worker(&[]).await;
    stack.project("p").await;
    let action = stack.action("p", "pre_token_mint", &stack.endpoint.url("/"), "").await;
    let state = invoke(&stack, "p", "pre_token_mint").await;
    let text: String =
        sqlx::query_scalar("select outcome::text from actions.result($1)").bind(state.id()).fetch_one(&stack.core).await.unwrap();
    assert!(text.contains(r#""claims":{"employee_id":12345678901234567890123}"#) && text.contains(r#""audit":{"n":1.10}"#), "{text}");
    let outcome = state.outcome();
    assert_eq!(outcome["roles"], json!(["auditor", "billing_admin"]));
    assert_eq!(outcome["permissions"], json!(["a", "b"]));
    let dropped: Vec<&Value> = outcome["dropped"].as_array().unwrap().iter().map(|one| &one["field"]).collect();
    assert_eq!(dropped, [&json!("deny_code"), &json!("override_claims"), &json!("override_roles")]);
    let audit = sqlx::query(
        "select project_id, details from actions.audit_log where action_id = $1 and event = 'action.override_unknown_roles_dropped'",
    );
    let audit = audit.bind(&action).fetch_one(&stack.ops).await.unwrap();
    assert_eq!(audit.get::<Value, _>("details")["values"], json!(["root"]));
    assert!(sqlx::query_scalar::<_, bool>("select overrode from actions.recent($1)").bind(&action).fetch_one(&stack.ops).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_project_counts_for_the_next_event() {
    let stack = answering(Reply::json(r#"{"override_roles":["new_role"]}"#)).await;
    let _worker = stack.worker(&[]).await;
    stack.project("p").await;
    stack.action("p", "pre_token_mint", &stack.endpoint.url("/"), "").await;
    assert_eq!(invoke(&stack, "p", "pre_token_mint").await.outcome()["roles"], Value::Null);
    sqlx::query("select actions.set_project_roles('p', array['new_role'])").execute(&stack.admin).await.unwrap();
    assert_eq!(invoke(&stack, "p", "pre_token_mint").await.outcome()["roles"], json!(["new_role"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_action_is_skipped_or_denies_at_once() {
    let stack = by_path(reply_for).await;
    let owner = stack.database.owner().await;
    for (project, on_killed, decision) in [("skips", "skip", "allow"), ("denies", "deny", "deny")] {
        stack.project(project).await;
        let action = stack.action(project, "pre_register", &stack.endpoint.url("/allow"), &format!("on_killed => '{on_killed}'")).await;
        sqlx::query("update actions_private.actions set killed_at = now(), killed_reason = 'test' where id = $1")
            .bind(&action)
            .execute(&owner)
            .await
            .unwrap();
        let state = enqueue(&stack.core, project, "pre_register", "{}").await;
        assert_eq!((state.status.as_str(), state.wait_ms), ("killed", 0));
        assert_eq!((&state.outcome()["decision"], &state.outcome()["source"]), (&json!(decision), &json!("killed")));
        let logged: String = sqlx::query_scalar("select status from actions.recent($1)").bind(&action).fetch_one(&stack.ops).await.unwrap();
        assert_eq!(logged, "killed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invocation_queued_before_the_kill_is_not_sent() {
    let stack = by_path(reply_for).await;
    let owner = stack.database.owner().await;
    stack.project("p").await;
    let action = stack.action("p", "pre_register", &stack.endpoint.url("/allow"), "timeout_ms => 5000").await;
    let state = enqueue(&stack.core, "p", "pre_register", "{}").await;
    sqlx::query("update actions_private.actions set killed_at = now(), killed_reason = 'test' where id = $1")
        .bind(&action)
        .execute(&owner)
        .await
        .unwrap();
    let _worker = stack.worker(&[]).await;
    until(
        &stack.ops,
        "killed",
        &format!("select status = 'killed' from actions.recent_invocations where invocation_id = '{}'", state.id()),
    )
    .await;
    assert_eq!(stack.endpoint.requests().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_queue_used_up_is_expired_and_not_the_endpoints_timeout() {
    let stack = by_path(reply_for).await;
    let owner = stack.database.owner().await;
    stack.project("p").await;
    stack.action("p", "pre_register", &stack.endpoint.url("/hang"), "timeout_ms => 2000, fail_mode => 'closed'").await;
    let cut_short = enqueue(&stack.core, "p", "pre_register", "{}").await;
    let spent = enqueue(&stack.core, "p", "pre_register", "{}").await;
    // Held back until the worker is there, then released with what a slow queue leaves.
    sqlx::query("update actions_private.queue set claim_token = gen_random_uuid(), claimed_at = now(), worker = 'held'")
        .execute(&owner)
        .await
        .unwrap();
    let _worker = stack.worker(&[]).await;
    let release = "update actions_private.queue set claim_token = null, claimed_at = null, worker = null,
        deadline_at = clock_timestamp() + case when id = $1 then interval '1500 ms' else interval '60 ms' end";
    sqlx::query(release).bind(cut_short.id()).execute(&owner).await.unwrap();
    sqlx::query("notify actions_queue").execute(&owner).await.unwrap();
    for state in [&cut_short, &spent] {
        until(
            &stack.ops,
            "expired",
            &format!("select status = 'expired' from actions.recent_invocations where invocation_id = '{}'", state.id()),
        )
        .await;
    }
    let errors: Vec<String> = sqlx::query_scalar("select error from actions.recent_invocations order by invocation_id <> $1")
        .bind(cut_short.id())
        .fetch_all(&stack.ops)
        .await
        .unwrap();
    assert!(errors[0].contains("the queue used up part") && errors[1].contains("nothing was left"), "{errors:?}");
    assert_eq!(stack.endpoint.requests().len(), 1, "without a budget nothing is sent");
}

#[tokio::test(flavor = "multi_thread")]
async fn strange_answers_harm_nobody_else() {
    let stack = by_path(|path| {
        let padded = |length: usize| format!(r#"{{"decision":"deny","pad":"{}"}}"#, "x".repeat(length - 28));
        match path {
            "/nul" => {
                Reply::json(r#"{"decision":"deny","deny_code":"a\u0000b","deny_reason":"\ud800","override_claims":{"\u0000":"\u0000"}}"#)
            }
            "/nul_claims" => Reply::json(r#"{"override_claims":{"k\u0000":"v\u0000\udc00"},"append_audit":{"a":"\u0000"}}"#),
            "/utf8" => Reply::json(&b"{\"decision\":\"deny\xff\"}"[..]),
            "/numbers" => Reply::json(format!(r#"{{"override_claims":{{"n":1e{0},"m":{0}}}}}"#, "9".repeat(9000))),
            "/65536" => Reply::json(padded(65_536)),
            "/65537" => Reply::json(padded(65_537)),
            _ => Reply::json("{}"),
        }
    })
    .await;
    let _worker = stack.worker(&[]).await;
    let cases = [
        ("/nul", "rejected"),
        ("/nul_claims", "ok"),
        ("/utf8", "invalid_response"),
        ("/numbers", "ok"),
        ("/65536", "rejected"),
        ("/65537", "invalid_response"),
        ("/plain", "ok"),
    ];
    for (path, _) in cases {
        stack.project(path).await;
        stack.action(path, "pre_token_mint", &stack.endpoint.url(path), "").await;
    }
    // All at once, so that they share claims and write-backs.
    let all = cases.map(|(path, _)| invoke_event(&stack, path, "pre_token_mint", "{}"));
    for (state, (path, status)) in futures_util::future::join_all(all).await.iter().zip(cases) {
        assert_eq!(state.status, status, "{path}: {:?}", state.outcome);
    }
    let decided: i64 =
        sqlx::query_scalar("select count(*) from actions.recent_invocations where deny_code is not null and decision = 'deny'")
            .fetch_one(&stack.ops)
            .await
            .unwrap();
    assert_eq!(decided, 2, "the view reads what was stored");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mistake_that_comes_with_every_event_is_one_audit_row_a_minute_with_a_count() {
    let slugs: Vec<String> = (0..200).map(|n| format!("nobody_{n:03}_{}", "x".repeat(200))).collect();
    let verdict = serde_json::json!({"override_roles": slugs}).to_string();
    let stack = answering(Reply::json(verdict)).await;
    stack.project("p").await;
    stack.action("p", "pre_token_mint", &stack.endpoint.url("/"), "").await;
    let mut workers = [stack.worker(&[]).await, stack.worker(&[]).await];
    let requests = serde_json::Value::from(vec![serde_json::json!({"project_id": "p", "trigger": "pre_token_mint", "event": {}}); 60]);
    // Twice, so that each worker has a first one and others.
    for _ in 0..2 {
        sqlx::query("select * from actions.enqueue_many($1::json, null)").bind(requests.to_string()).execute(&stack.core).await.unwrap();
    }
    until(&stack.ops, "all are decided", "select count(*) = 120 and bool_and(status = 'ok') from actions.recent_invocations").await;
    for worker in &mut workers {
        assert!(worker.drained().await.success());
    }
    // A minute may have ended in between.
    let rows: Vec<(i32, String)> =
        sqlx::query_as("select count, details::text from actions.audit_log where event = 'action.override_unknown_roles_dropped'")
            .fetch_all(&stack.ops)
            .await
            .unwrap();
    assert!(
        rows.len() <= 2 && rows.iter().map(|(count, _)| count).sum::<i32>() == 120,
        "{}: {:?}",
        rows.len(),
        rows.iter().map(|row| row.0).collect::<Vec<_>>()
    );
    let details: serde_json::Value = serde_json::from_str(&rows[0].1).unwrap();
    assert_eq!((details["values"].as_array().unwrap().len(), &details["values_total"]), (50, &serde_json::json!(200)));
    assert!(rows.iter().all(|(_, details)| details.len() < 8192));
}
