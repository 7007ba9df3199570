//! An action is called for the events that it is meant for, and for all where that cannot be said.

use authio_actions_testkit::endpoint::Reply;
use sqlx::PgPool;

use crate::support::{answering, ask, enqueue, invoke_event, refusal};

async fn update(admin: &PgPool, action: &str, changes: &str) {
    sqlx::query("select actions.update_action($1, $2::json)").bind(action).bind(changes).execute(admin).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_does_not_meet_the_condition_is_allowed_and_nothing_is_written() {
    let stack = answering(Reply::json(r#"{"decision":"deny"}"#)).await;
    stack.project("p").await;
    let action =
        stack.action("p", "pre_register", &stack.endpoint.url("/"), "condition => '$.user.email like_regex \"@acme[.]com$\"'").await;
    let _worker = stack.worker(&[]).await;
    let given = "evt_01JD3X6G8Q7N9V8R2M4T6W8Y0B";
    for killed in [false, true] {
        if killed {
            sqlx::query("select actions.kill_action($1, 'why')").bind(&action).execute(&stack.admin).await.unwrap();
        }
        for call in [
            "actions.enqueue('p', 'pre_register', $1::json)".to_owned(),
            format!("actions.enqueue('p', 'pre_register', $1::json, null, '{given}')"),
            "actions.enqueue_many(json_build_array(json_build_object('project_id', 'p', 'trigger', 'pre_register', 'event', $1::json)), null)".to_owned(),
        ] {
            let unmet = ask(&stack.core, &call, &[r#"{"user":{"email":"eve@other.com"}}"#]).await.unwrap().remove(0);
            assert_eq!((unmet.invocation_id.as_deref(), unmet.status.as_str(), unmet.wait_ms), (None, "ok", 0), "{call}");
            assert_eq!(unmet.outcome(), &serde_json::json!({"decision": "allow", "source": "condition", "status": "ok"}));
        }
    }
    let written: i64 = sqlx::query_scalar("select count(*) from actions.recent_invocations").fetch_one(&stack.ops).await.unwrap();
    assert_eq!(written, 0);
    sqlx::query("select actions.reenable_action($1)").bind(&action).execute(&stack.admin).await.unwrap();
    let met = invoke_event(&stack, "p", "pre_register", r#"{"user":{"email":"ada@acme.com"}}"#).await;
    assert_eq!(met.outcome()["decision"], "deny");
    assert_eq!(stack.endpoint.requests().len(), 1);
    // A test event is sent whatever the condition says.
    let test = ask(&stack.admin, "actions.send_test_event($1)", &[&action]).await.unwrap().remove(0);
    assert!(test.invocation_id.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_evaluated_counts_as_met() {
    let stack = answering(Reply::json("{}")).await;
    stack.project("p").await;
    let action = stack.action("p", "pre_register", &stack.endpoint.url("/"), "").await;
    for (condition, event, is_met) in [
        ("$.user.age > 17", r#"{"user":{"age":18}}"#, true),
        ("$.user.age > 17", r#"{"user":{"age":17}}"#, false),
        ("$.user.age > 17", r#"{"user":{"age":"old"}}"#, true),
        ("$.user.age", r#"{"user":{"age":17}}"#, true),
        ("strict $.user.age > 17", "{}", true),
        ("exists($.user.age)", "{}", false),
        ("$.user.age > $limit", r#"{"user":{"age":17}}"#, true),
        ("$.user.email == \"x\"", r#"{"user":{"email":"\u0000"}}"#, true),
        ("$.n > 1", r#"{"n":1e400000}"#, true),
        ("true == false", "{}", false),
    ] {
        let changed = sqlx::query("select actions.update_action($1, json_build_object('condition', $2::text))")
            .bind(&action)
            .bind(condition)
            .execute(&stack.admin)
            .await;
        if condition == "true == false" && changed.is_err() {
            continue; // no jsonpath everywhere
        }
        changed.unwrap();
        let state = enqueue(&stack.core, "p", "pre_register", event).await;
        assert_eq!(state.invocation_id.is_some(), is_met, "{condition} of {event}");
    }
    update(&stack.admin, &action, r#"{"condition": null}"#).await;
    let none: Option<String> = sqlx::query_scalar("select condition from actions.actions").fetch_one(&stack.ops).await.unwrap();
    assert_eq!(none, None);
    assert!(enqueue(&stack.core, "p", "pre_register", "{}").await.invocation_id.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_condition_that_postgresql_cannot_read_is_refused_when_it_is_saved() {
    let stack = answering(Reply::json("{}")).await;
    stack.project("p").await;
    let action = stack.action("p", "pre_register", &stack.endpoint.url("/"), "").await;
    let long = |length: usize| format!("$.a == \"{}\"", "x".repeat(length - 9));
    for (condition, message) in
        [("", "condition is empty"), ("  ", "condition is empty"), ("$.a ==", "condition is '$.a =='"), (&long(1001), "1001 characters")]
    {
        for sql in [
            format!("select actions.update_action('{action}', json_build_object('condition', '{condition}'))"),
            format!("select actions.create_action('p', 'post_register', 'https://a.example/', 'x', condition => '{condition}')"),
        ] {
            let [code, said, accepted, hint] = refusal(&stack.admin, &sql).await;
            assert!(code == "22023" && said.contains(message), "{code} {said}");
            assert!(accepted.contains("1 to 1000 characters") && hint.contains("like_regex"), "{accepted} {hint}");
        }
    }
    update(&stack.admin, &action, &serde_json::json!({"condition": long(1000)}).to_string()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn other_settings_are_checked_where_they_are_saved() {
    let stack = answering(Reply::json("{}")).await;
    stack.project("p").await;
    let action = stack.action("p", "pre_register", &stack.endpoint.url("/"), "").await;
    for (changes, message) in [
        (r#"{"record_events": 1001}"#, "record_events is 1001"),
        (r#"{"record_events": -1}"#, "record_events is -1"),
        (r#"{"record_hours": 0}"#, "record_hours is 0"),
        (r#"{"record_hours": 169}"#, "record_hours is 169"),
        (r#"{"last_known_s": 60}"#, "last_known_s is 60 on pre_register"),
        (r#"{"recovery": "soon"}"#, "recovery is 'soon'"),
        (r#"{"condition": 1}"#, "condition is 1"),
    ] {
        let [code, said, ..] = refusal(&stack.admin, &format!("select actions.update_action('{action}', '{changes}')")).await;
        assert!(code == "22023" && said.contains(message), "{changes}: {code} {said}");
    }
    let mint = stack
        .action(
            "p",
            "pre_token_mint",
            &stack.endpoint.url("/"),
            "record_events => 1000, record_hours => 168, last_known_s => 86400, recovery => 'probe'",
        )
        .await;
    let [code, said, ..] = refusal(&stack.admin, &format!("select actions.update_action('{mint}', '{{\"last_known_s\": 86401}}')")).await;
    assert!(code == "22023" && said.contains("last_known_s is 86401"), "{said}");
    let kept: (i32, i32, i32, String) =
        sqlx::query_as("select record_events, record_hours, last_known_s, recovery from actions.actions where action_id = $1")
            .bind(&mint)
            .fetch_one(&stack.ops)
            .await
            .unwrap();
    assert_eq!(kept, (1000, 168, 86400, "probe".to_owned()));
}
