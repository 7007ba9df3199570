//! The SQL interface for auth-core.

use authio_actions_testkit::endpoint::Reply;
use serde_json::json;
use sqlx::Row;

use crate::support::{abandon, answering, ask, enqueue, heard, refusal, result};

#[tokio::test(flavor = "multi_thread")]
async fn without_an_action_the_outcome_is_final_at_once() {
    let stack = answering(Reply::json("{}")).await;
    for project in ["unknown", "known"] {
        let state = enqueue(&stack.core, project, "pre_register", "{}").await;
        assert_eq!((state.invocation_id, state.action_id, state.wait_ms), (None, None, 0));
        assert_eq!(state.outcome.unwrap(), json!({"decision": "allow", "source": "no_action", "status": "ok"}));
        assert!(state.event_id.starts_with("evt_") && state.event_id.len() == 30);
        stack.project("known").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_an_action_it_is_queued_and_says_how_long_to_wait() {
    let stack = answering(Reply::json("{}")).await;
    stack.project("p").await;
    let action = stack.action("p", "pre_register", &stack.endpoint.url("/"), "timeout_ms => 700").await;
    let event_id = "evt_01JD3X6G8Q7N9V8R2M4T6W8Y0B";
    let state = ask(&stack.core, "actions.enqueue($1, $2, '{}', null, $3)", &["p", "pre_register", event_id]).await.unwrap().remove(0);
    assert_eq!((state.status.as_str(), state.wait_ms, state.event_id.as_str()), ("queued", 1200, event_id));
    assert_eq!(state.action_id, Some(action));
    assert!(state.outcome.is_none() && state.id().starts_with("inv_"));
    let again = result(&stack.core, state.id()).await;
    assert_eq!((again.status.as_str(), again.outcome, again.event_id.as_str()), ("queued", None, event_id));
}

#[tokio::test(flavor = "multi_thread")]
async fn enqueue_many_answers_in_order_and_keeps_every_event_as_it_was_written() {
    let stack = answering(Reply::json("{}")).await;
    stack.project("p").await;
    stack.action("p", "pre_register", &stack.endpoint.url("/"), "").await;
    let requests = r#"[
        {"project_id":"p","trigger":"pre_register","event":{"n": 1.0e400, "nul":"\\\u0000x\u0000\u0000", "half":"\ud800", "pair":"\ud83d\ude00", "dup":1, "dup":2}},
        {"project_id":"none","trigger":"pre_register","event":{}},
        {"project_id":"p","trigger":"pre_register","event":{"second":true},"event_id":"evt_01JD3X6G8Q7N9V8R2M4T6W8Y0B"}]"#;
    let states = ask(&stack.core, "actions.enqueue_many($1::json, 'me')", &[requests]).await.unwrap();
    let statuses: Vec<&str> = states.iter().map(|state| state.status.as_str()).collect();
    assert_eq!(statuses, ["queued", "ok", "queued"]);
    assert_eq!(states[2].event_id, "evt_01JD3X6G8Q7N9V8R2M4T6W8Y0B");
    let owner = stack.database.owner().await;
    let events: Vec<String> =
        sqlx::query_scalar("select event::text from actions_private.queue order by id").fetch_all(&owner).await.unwrap();
    assert_eq!(
        events,
        [
            r#"{"n": 1.0e400, "nul":"\\\u0000x\u0000\u0000", "half":"\ud800", "pair":"\ud83d\ude00", "dup":1, "dup":2}"#,
            r#"{"second":true}"#
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn enqueue_many_answers_each_of_a_thousand_queued_events_at_its_place_with_its_action() {
    let stack = answering(Reply::json("{}")).await;
    let mut actions = Vec::new();
    for project in ["even", "odd"] {
        stack.project(project).await;
        actions.push(stack.action(project, "pre_register", &stack.endpoint.url("/"), "").await);
    }
    let request = |n: usize| json!({"project_id": (["even", "odd"][n % 2]), "trigger": "pre_register", "event": {"metadata": {"n": n}}});
    let requests = serde_json::Value::from_iter((0..1500).map(request)).to_string();
    let states = ask(&stack.core, "actions.enqueue_many($1::json, null)", &[&requests]).await.unwrap();
    assert!(states.iter().enumerate().all(|(n, state)| state.action_id.as_ref() == Some(&actions[n % 2])));
    let ids: Vec<&str> = states.iter().map(|state| state.id()).collect();
    let stored = "select (q.event->'metadata'->>'n')::integer, q.action_id
        from unnest($1::text[]) with ordinality as asked (id, n) join actions_private.queue as q on q.id = asked.id order by asked.n";
    let stored: Vec<(i32, String)> = sqlx::query_as(stored).bind(ids).fetch_all(&stack.database.owner().await).await.unwrap();
    let wanted: Vec<(i32, String)> = (0..1500).map(|n| (n, actions[n as usize % 2].clone())).collect();
    assert_eq!(stored, wanted);
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_arguments_are_refused_with_message_detail_and_hint_and_write_nothing() {
    let stack = answering(Reply::json("{}")).await;
    stack.project("p").await;
    stack.action("p", "pre_register", &stack.endpoint.url("/"), "").await;
    let long = format!("'{{\"a\":\"{}\"}}'", "x".repeat(1_048_576));
    let cases = [
        ("actions.enqueue(null, 'pre_register', '{}')", "project_id is null"),
        ("actions.enqueue('', 'pre_register', '{}')", "project_id has 0 characters"),
        ("actions.enqueue('p', 'pre_registr', '{}')", "trigger is 'pre_registr'"),
        ("actions.enqueue('p', null, '{}')", "trigger is null"),
        ("actions.enqueue('p', 'pre_register', null)", "event is null"),
        ("actions.enqueue('p', 'pre_register', '[]')", "event is a JSON array"),
        ("actions.enqueue('p', 'pre_register', '{\"event_id\":1}')", "event has the key event_id"),
        ("actions.enqueue('p', 'pre_register', '{\"project\":null}')", "event has the key project"),
        ("actions.enqueue('p', 'pre_register', '{\"x\":\"\\u0000\",\"occurred_at\":1}')", "event has the key occurred_at"),
        ("actions.enqueue('p', 'pre_register', '{\"\\u0074rigger\":1}')", "event has the key trigger"),
        ("actions.enqueue('p', 'pre_register', '{}', null, 'evt_1')", "event_id is 'evt_1'"),
        ("actions.enqueue('p', 'pre_register', '{}', '')", "reply_to has 0 bytes"),
        ("actions.enqueue('p', 'pre_register', '{}', 'actions_queue')", "the fleet's own channel"),
        (&format!("actions.enqueue('p', 'pre_register', '{{}}', '{}')", "x".repeat(64)), "reply_to has 64 bytes"),
        (&format!("actions.enqueue('p', 'pre_register', {long})"), "event has 10485"),
        ("actions.enqueue_many('{}', 'me')", "requests is a JSON object"),
        ("actions.enqueue_many(null, 'me')", "requests is null"),
        (
            "actions.enqueue_many('[{\"project_id\":\"p\",\"trigger\":\"pre_register\",\"event\":{}}, 7]', 'me')",
            "element 2 of requests is a JSON number",
        ),
        (
            "actions.enqueue_many('[{\"project_id\":\"p\",\"trigger\":\"pre_register\",\"event\":{}}, {\"project_id\":\"p\"}]', 'me')",
            "trigger is null",
        ),
        ("actions.result('inv_1')", "invocation_id is 'inv_1'"),
        ("actions.result(null)", "invocation_id is null"),
        ("actions.results(null)", "invocation_ids is null"),
        ("actions.abandon('inv_1')", "invocation_id is 'inv_1'"),
    ];
    let owner = stack.database.owner().await;
    let rows = async || -> i64 { sqlx::query_scalar("select count(*) from actions_private.queue").fetch_one(&owner).await.unwrap() };
    // An event in order goes another way, as soon as one was there before.
    for _ in 0..2 {
        let state = enqueue(&stack.core, "p", "pre_register", "{}").await;
        assert_eq!((state.status.as_str(), state.wait_ms, state.outcome.is_none()), ("queued", 2500, true));
        assert_eq!((&state.id()[..4], state.id()[4..].len(), &state.event_id[4..]), ("inv_", 26, &state.id()[4..]));
    }
    let before = rows().await;
    for (call, fault) in cases {
        let [code, message, detail, hint] = refusal(&stack.core, &format!("select * from {call}")).await;
        assert_eq!(code, "22023", "{call}: {message}");
        assert!(message.contains(fault), "{call}: {message}");
        assert!(!detail.is_empty() && !hint.is_empty(), "{call}: detail {detail:?}, hint {hint:?}");
    }
    assert_eq!((before, rows().await), (2, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn abandoning_decides_by_fail_mode_and_every_asker_gets_the_same_outcome() {
    let stack = answering(Reply::json("{}")).await;
    for (project, fail_mode, decision) in [("opens", "open", "allow"), ("closes", "closed", "deny")] {
        stack.project(project).await;
        stack.action(project, "pre_register", &stack.endpoint.url("/"), &format!("fail_mode => '{fail_mode}'")).await;
        let queued = enqueue(&stack.core, project, "pre_register", "{}").await;
        let first = abandon(&stack.core, queued.id()).await;
        assert_eq!((first.status.as_str(), first.outcome()["decision"].as_str()), ("expired", Some(decision)));
        assert_eq!(abandon(&stack.core, queued.id()).await.outcome, first.outcome);
        assert_eq!(result(&stack.core, queued.id()).await.outcome, first.outcome);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_too_big_for_a_notification_arrives_all_the_same() {
    let claims = format!(r#"{{"override_claims":{{"big":"{}"}}}}"#, "x".repeat(20_000));
    let stack = answering(Reply::json(claims)).await;
    let _worker = stack.worker(&[]).await;
    stack.project("p").await;
    stack.action("p", "pre_token_mint", &stack.endpoint.url("/"), "").await;
    let mut listener = sqlx::postgres::PgListener::connect(&stack.database.url("core")).await.unwrap();
    listener.listen("big_waiter").await.unwrap();
    let state = ask(&stack.core, "actions.enqueue('p', 'pre_token_mint', '{}', 'big_waiter')", &[]).await.unwrap().remove(0);
    let element = heard(&mut listener, state.id()).await;
    assert_eq!((element.status.as_str(), element.outcome.is_none()), ("ok", true));
    assert_eq!(result(&stack.core, state.id()).await.outcome()["claims"]["big"].as_str().unwrap().len(), 20_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_test_event_takes_the_real_path_even_of_a_disabled_or_killed_action() {
    let stack = answering(Reply::json("{}")).await;
    let _worker = stack.worker(&[]).await;
    let owner = stack.database.owner().await;
    stack.project("p").await;
    let action = stack.action("p", "pre_token_mint", &stack.endpoint.url("/"), "").await;
    for sabotage in [
        "select 1",
        "select actions.set_enabled($1, false)",
        "update actions_private.actions set killed_at = now(), killed_reason = 'x' where id = $1",
    ] {
        let query = sqlx::query(sabotage);
        let query = if sabotage.contains("$1") { query.bind(&action) } else { query };
        query.execute(&owner).await.unwrap();
        let mut listener = sqlx::postgres::PgListener::connect(&stack.database.url("core")).await.unwrap();
        listener.listen("tester").await.unwrap();
        let state = ask(&stack.admin, "actions.send_test_event($1, 'tester')", &[&action]).await.unwrap().remove(0);
        assert_eq!((state.status.as_str(), state.wait_ms), ("queued", 2500));
        assert_eq!(heard(&mut listener, state.id()).await.status, "ok", "{sabotage}");
    }
    assert_eq!(stack.endpoint.requests()[2].json()["metadata"]["test"], true);
    let row = sqlx::query("select bool_and(test), count(*) from actions.recent($1)").bind(&action).fetch_one(&stack.ops).await.unwrap();
    assert_eq!((row.get::<bool, _>(0), row.get::<i64, _>(1)), (true, 3));
    let calls: i64 = sqlx::query_scalar("select calls from actions.action_health").fetch_one(&stack.ops).await.unwrap();
    assert_eq!(calls, 0, "tests never count");
}

#[tokio::test(flavor = "multi_thread")]
async fn names_may_be_escaped_in_every_way_of_json_that_is_a_text() {
    let stack = answering(Reply::json("{}")).await;
    stack.project("p\u{1f600}").await;
    stack.action("p\u{1f600}", "pre_register", &stack.endpoint.url("/"), "").await;
    let many = |project: &str| {
        format!(r#"actions.enqueue_many('[{{"project_id":"{project}","trigger":"\u0070re_register","event":{{}}}}]', null)"#)
    };
    for spelling in ["p\u{1f600}", r"p\ud83d\ude00", r"\u0070\uD83D\uDE00"] {
        let state = ask(&stack.core, &many(spelling), &[]).await.unwrap().remove(0);
        assert_eq!(state.status, "queued", "{spelling}");
    }
    for spelling in [r"p\u0000", r"p\ud83d", r"p\ude00\ud83d"] {
        let [code, message, detail, hint] = refusal(&stack.core, &format!("select from {}", many(spelling))).await;
        assert!(code == "22023" && message.contains("a name in requests"), "{spelling}: {code} {message}");
        assert!(!detail.is_empty() && !hint.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_text_can_hold_and_what_is_no_mailbox_is_refused_by_the_control_plane() {
    let stack = answering(Reply::json("{}")).await;
    stack.project("p").await;
    let action = stack.action("p", "pre_register", &stack.endpoint.url("/"), "").await;
    for (call, fault) in [
        (format!(r#"actions.update_action('{action}', '{{"name":"a\u0000"}}')"#), "changes holds"),
        (format!(r#"actions.update_action('{action}', '{{"name":"\udead"}}')"#), "changes holds"),
        (r#"actions.set_project_members('p', '[{"email":"a\u0000@b.c","role":"owner"}]')"#.to_owned(), "members holds"),
        (r#"actions.set_project_members('p', '[{"email":["a@b.c"],"role":"owner"}]')"#.to_owned(), "members[0]"),
        (r#"actions.set_project_members('p', '[{"email":"a@b.c","role":{"x":1}}]')"#.to_owned(), "members[0]"),
        (r#"actions.set_project_members('p', '[{"email":"a@b.c"}]')"#.to_owned(), "members[0]"),
        (r#"actions.set_project_members('p', '[7]')"#.to_owned(), "members[0]"),
    ] {
        let [code, message, detail, hint] = refusal(&stack.admin, &format!("select from {call}")).await;
        assert!(code == "22023" && message.contains(fault), "{call}: {code} {message}");
        assert!(!detail.is_empty() && !hint.is_empty());
    }
    let emoji = format!(r#"select name from actions.update_action('{action}', '{{"name":"\ud83d\ude00"}}')"#);
    assert_eq!(sqlx::query_scalar::<_, String>(&emoji).fetch_one(&stack.admin).await.unwrap(), "\u{1f600}");
}
