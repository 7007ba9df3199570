//! Somebody whom no failure locks out still passes, is told of, and is denied by a verdict alone.

use authio_actions_testkit::endpoint::Reply;
use serde_json::{Value, json};

use crate::support::{abandon, by_path, enqueue, invoke_event, refusal};

// Nothing that stands beside an id hides it.
const BROKEN: &str = r#"{"user":{"id":"user_\u0031","age":1e400},"request":{"user_agent":"\u0000 \ud800"}}"#;

#[tokio::test(flavor = "multi_thread")]
async fn no_failure_denies_them_and_each_use_is_told() {
    let stack = by_path(|path| if path == "/deny" { Reply::json(r#"{"decision":"deny"}"#) } else { Reply::with_status(503, "") }).await;
    for project in ["p", "q"] {
        stack.project(project).await;
    }
    let closed = "fail_mode => 'closed', on_killed => 'deny'";
    let action = stack.action("p", "pre_register", &stack.endpoint.url("/down"), closed).await;
    stack.action("p", "pre_authenticate", &stack.endpoint.url("/deny"), closed).await;
    let set = "select actions.set_break_glass('p', array['user_1', 'user_2', 'user_1'], 'ada@acme.com')";
    sqlx::query(
        r#"select actions.set_project_members('p', '[{"email":"ada@acme.com","role":"owner"},{"email":"bob@acme.com","role":"admin"}]')"#,
    )
    .execute(&stack.admin)
    .await
    .unwrap();
    sqlx::query(set).execute(&stack.admin).await.unwrap();
    // By the waiter, before anybody works.
    let waiting = enqueue(&stack.core, "p", "pre_register", BROKEN).await;
    let passed = |status: &str| json!({"decision": "allow", "source": "break_glass", "status": status});
    assert_eq!(abandon(&stack.core, waiting.id()).await.outcome(), &passed("expired"));
    let _worker = stack.worker(&[]).await;
    assert_eq!(invoke_event(&stack, "p", "pre_register", BROKEN).await.outcome(), &passed("http_error"));
    assert_eq!(invoke_event(&stack, "p", "pre_register", BROKEN).await.outcome(), &passed("http_error"));
    let other = invoke_event(&stack, "p", "pre_register", r#"{"user":{"id":"user_3"}}"#).await;
    assert_eq!(other.outcome()["source"], "fail_closed");
    let denied = invoke_event(&stack, "p", "pre_authenticate", BROKEN).await;
    assert_eq!((&denied.outcome()["decision"], &denied.outcome()["source"]), (&json!("deny"), &json!("verdict")));
    sqlx::query("select actions.kill_action($1, 'why')").bind(&action).execute(&stack.admin).await.unwrap();
    let killed = enqueue(&stack.core, "p", "pre_register", BROKEN).await;
    assert_eq!((killed.outcome(), killed.status.as_str()), (&passed("killed"), "killed"));
    assert_eq!(enqueue(&stack.core, "p", "pre_register", "{}").await.outcome()["decision"], "deny");
    let used: Vec<Value> = sqlx::query_scalar("select details from actions.audit_log where event = 'action.break_glass_used' order by at")
        .fetch_all(&stack.ops)
        .await
        .unwrap();
    assert_eq!(used.len(), 4, "each by itself: {used:?}");
    assert!(used.iter().all(|one| one["user_id"] == "user_1" && one["invocation_id"].as_str().unwrap().starts_with("inv_")), "{used:?}");
    // The change is told to owners.
    let mails: Vec<(String, String)> =
        sqlx::query_as("select recipient, text_body from actions_private.mail_outbox where action_id is null")
            .fetch_all(&stack.database.owner().await)
            .await
            .unwrap();
    assert_eq!(mails.len(), 1);
    assert!(mails[0].0 == "ada@acme.com" && mails[0].1.contains("user_1, user_2"), "{mails:?}");
    let set: (Value, String) = sqlx::query_as("select details, actor from actions.audit_log where event = 'project.break_glass_set'")
        .fetch_one(&stack.ops)
        .await
        .unwrap();
    assert_eq!((&set.0["after"], set.1.as_str()), (&json!(["user_1", "user_2"]), "ada@acme.com"));
}

#[tokio::test(flavor = "multi_thread")]
async fn at_most_twenty_ids_that_are_something() {
    let stack = by_path(|_| Reply::json("{}")).await;
    stack.project("p").await;
    let ids = |count: usize| format!("array[{}]", (0..count).map(|n| format!("'u{n}'")).collect::<Vec<_>>().join(", "));
    for (ids, message) in [
        (ids(21), "21 ids"),
        ("null".to_owned(), "user_ids is null"),
        ("array['']".to_owned(), "empty"),
        ("array[null]".to_owned(), "null or an empty"),
    ] {
        let [code, said, ..] = refusal(&stack.admin, &format!("select actions.set_break_glass('p', {ids}, 'ada')")).await;
        assert!(code == "22023" && said.contains(message), "{said}");
    }
    sqlx::query(&format!("select actions.set_break_glass('p', {}, 'ada')", ids(20))).execute(&stack.admin).await.unwrap();
    let known: i64 = sqlx::query_scalar("select count(*) from actions.break_glass('p')").fetch_one(&stack.admin).await.unwrap();
    assert_eq!(known, 20);
    sqlx::query("select actions.set_break_glass('p', '{}', 'ada')").execute(&stack.admin).await.unwrap();
}
