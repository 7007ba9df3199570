//! How results reach their waiters: by a notification that is believed, or by asking.

use std::sync::Arc;
use std::time::Duration;

use authio_actions::client::{Client, Options};
use authio_actions::domain::{Decision, Status, Trigger};
use authio_actions_testkit::endpoint::Reply;
use authio_actions_testkit::scrape;
use authio_actions_testkit::server::Server;
use authio_actions_testkit::stack::Stack;
use serde_json::{Value, json};
use sqlx::Executor;
use sqlx::postgres::PgListener;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::support::{answering, ask, heard, programs, refusal, until};

/// A stack whose endpoint denies, once it is let.
async fn held_denial() -> (Stack, Arc<Semaphore>) {
    let gate = Arc::new(Semaphore::new(0));
    let held = Arc::clone(&gate);
    let stack = Stack::start(&programs(), move |_| {
        let held = Arc::clone(&held);
        async move {
            held.acquire().await.unwrap().forget();
            Reply::json(r#"{"decision":"deny"}"#)
        }
    })
    .await;
    stack.project("p").await;
    stack.action("p", "pre_register", &stack.endpoint.url("/"), "timeout_ms => 5000").await;
    (stack, gate)
}

#[tokio::test(flavor = "multi_thread")]
async fn each_element_carries_the_waiters_token_and_none_where_none_was_given() {
    let stack = answering(Reply::json("{}")).await;
    stack.project("p").await;
    stack.action("p", "pre_register", &stack.endpoint.url("/"), "").await;
    let _worker = stack.worker(&[]).await;
    let mut listener = PgListener::connect(&stack.database.url("core")).await.unwrap();
    listener.listen_all(["with_token", "without/slash"]).await.unwrap();
    let longest = "x".repeat(63);
    for (reply_to, token) in [("with_token/5f0cK2w9", Some("5f0cK2w9")), ("without/slash/12345678", Some("12345678"))] {
        let state = ask(&stack.core, "actions.enqueue('p', 'pre_register', '{}', $1)", &[reply_to]).await.unwrap().remove(0);
        let element = heard(&mut listener, state.id()).await;
        assert_eq!((element.token.as_deref(), element.status.as_str()), (token, "ok"));
    }
    for accepted in [longest.as_str(), &format!("{longest}/12345678901234567890123456789012")] {
        ask(&stack.core, "actions.enqueue('p', 'pre_register', '{}', $1)", &[accepted]).await.unwrap();
    }
    for (refused, word) in [
        ("a/1234567", "token of 7 characters"),
        ("a/123456789012345678901234567890123", "token of 33 characters"),
        ("a/1234567-", "token"),
        ("a/", "token of 0"),
        ("/12345678", "0 bytes"),
        ("actions_queue/12345678", "the fleet's own channel"),
        (&format!("{longest}x/12345678"), "64 bytes"),
    ] {
        let [code, message, detail, hint] =
            refusal(&stack.core, &format!("select actions.enqueue('p', 'pre_register', '{{}}', '{refused}')")).await;
        assert!(
            code == "22023" && message.contains(word) && detail.contains("<channel>/<token>") && !hint.is_empty(),
            "{refused}: {message}"
        );
        let many = format!("select actions.enqueue_many('[]'::json, '{refused}')");
        assert_eq!(refusal(&stack.core, &many).await[0], "22023", "{refused}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_allow_is_not_believed() {
    let (stack, gate) = held_denial().await;
    let _worker = stack.worker(&[]).await;
    let client = Client::connect(&Options::new(&stack.database.url("core"))).await.unwrap();
    let waiter = tokio::spawn(async move { client.invoke("p", Trigger::PreRegister, &json!({})).await.unwrap() });
    until(&stack.ops, "it runs", "select bool_or(status = 'running') from actions.recent_invocations").await;
    // Whoever may connect to the database sees the channel's name, and the invocation's.
    let owner = stack.database.owner().await;
    let (channel, id): (String, String) =
        sqlx::query_as("select split_part(reply_to, '/', 1), id from actions_private.queue").fetch_one(&owner).await.unwrap();
    let forged = json!([{"id": id, "status": "ok", "outcome": {"decision": "allow", "source": "verdict", "status": "ok"}}]).to_string();
    let with_a_guess = forged.replace("\"status\"", "\"token\":\"0123456789abcdef0123456789abcdef\",\"status\"");
    for payload in [forged, with_a_guess] {
        sqlx::query("select pg_notify($1, $2)").bind(&channel).bind(payload).execute(&stack.ops).await.unwrap();
    }
    gate.add_permits(1);
    let answer = waiter.await.unwrap();
    assert_eq!((answer.outcome.decision, answer.outcome.status), (Decision::Deny, Status::Rejected));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_whose_notification_was_lost_reaches_its_waiter_within_a_quarter_of_a_second() {
    let (stack, gate) = held_denial().await;
    let _worker = stack.worker(&[]).await;
    let client = Client::connect(&Options::new(&stack.database.url("core"))).await.unwrap();
    let waiter = tokio::spawn(async move { (client.invoke("p", Trigger::PreRegister, &json!({})).await.unwrap(), Instant::now()) });
    until(&stack.ops, "it runs", "select bool_or(status = 'running') from actions.recent_invocations").await;
    // The reply goes where nobody listens.
    let owner = stack.database.owner().await;
    owner.execute("update actions_private.queue set reply_to = 'nobody'").await.unwrap();
    let _ = &gate;
    sqlx::query("select actions_private.end_without_verdict(array(select id from actions_private.queue), 'expired', 'abandoned', 'test')")
        .execute(&owner)
        .await
        .unwrap();
    let ended = Instant::now();
    let (answer, at) = waiter.await.unwrap();
    assert_eq!(answer.outcome.status, Status::Expired);
    assert!(at - ended < Duration::from_millis(250), "{:?}", at - ended);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_half_full_queue_of_notifications_costs_no_event_and_a_result_a_quarter_of_a_second() {
    let stack = answering(Reply::json(r#"{"decision":"deny"}"#)).await;
    stack.project("p").await;
    let action = stack.action("p", "pre_register", &stack.endpoint.url("/"), "timeout_ms => 5000").await;
    let owner = stack.database.owner().await;
    let fill = async |share: f64| {
        let sql = format!(
            "create or replace function actions_private.notify_queue_usage() returns double precision language sql volatile parallel safe return {share}"
        );
        owner.execute(sql.as_str()).await.unwrap();
    };
    fill(0.39).await;
    let address = scrape::free_address();
    let mut worker = stack.worker(&[("ACTIONS_METRICS__LISTEN", &address)]).await;
    let client = Client::connect(&Options::new(&stack.database.url("core"))).await.unwrap();
    // Nearly there: workers look by themselves before anybody stops to notify.
    fill(0.45).await;
    worker.logged("queue of notifications fills").await;
    fill(0.5).await;
    let mut everything = PgListener::connect(&stack.database.url("core")).await.unwrap();
    everything.listen_all(["actions_queue", "me"]).await.unwrap();
    let mut took = Vec::new();
    for _ in 0..10 {
        let began = Instant::now();
        let answer = client.invoke("p", Trigger::PreRegister, &json!({})).await.unwrap();
        assert_eq!(answer.outcome.status, Status::Rejected);
        took.push(began.elapsed());
    }
    // Most of them: a busy machine may hold one up.
    took.sort();
    assert!(took[5] < Duration::from_millis(400), "{took:?}");
    for sql in ["select actions.rotate_secret($1)", "select actions.send_test_event($1, 'me')"] {
        sqlx::query(sql).bind(&action).execute(&stack.admin).await.unwrap();
    }
    until(&stack.ops, "the test ended", "select bool_or(test and finished_at is not null) from actions.recent_invocations").await;
    sqlx::query("select pg_notify('me', 'the first thing heard')").execute(&owner).await.unwrap();
    assert_eq!(everything.recv().await.unwrap().payload(), "the first thing heard");
    assert!(scrape::value(&address, "actions_notify_queue_usage").await >= 0.45);
    let told: f64 = sqlx::query_scalar("select notify_queue_usage from actions.queue_health").fetch_one(&stack.ops).await.unwrap();
    assert!((0.0..0.1).contains(&told), "the server's own word");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_short_of_connections_costs_no_waiter_his_result() {
    let server = Server::start();
    let database = authio_actions_testkit::database::Database::create_on(server.url(), &programs().join("actionsctl")).await;
    let stack = Stack::on(database, &programs(), |_| std::future::ready(Reply::json("{}"))).await;
    stack.project("p").await;
    stack.action("p", "pre_register", &stack.endpoint.url("/"), "timeout_ms => 5000").await;
    let owner = stack.database.owner().await;
    // One that listens, and one for all the rest.
    owner.execute("alter role test_worker connection limit 2").await.unwrap();
    let mut listener = PgListener::connect(&stack.database.url("core")).await.unwrap();
    listener.listen("short_of_connections").await.unwrap();
    let _worker = stack.worker(&[]).await;
    let requests = Value::from(vec![json!({"project_id": "p", "trigger": "pre_register", "event": {}}); 100]).to_string();
    let states = ask(&stack.core, "actions.enqueue_many($1::json, 'short_of_connections')", &[&requests]).await.unwrap();
    let mut missing: std::collections::HashSet<String> = states.iter().map(|state| state.id().to_owned()).collect();
    let hearing = async {
        while !missing.is_empty() {
            let notification = listener.recv().await.unwrap();
            for element in serde_json::from_str::<Vec<crate::support::Element>>(notification.payload()).unwrap() {
                assert_eq!(element.status, "ok");
                missing.remove(&element.id);
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(15), hearing).await.expect("every waiter is told");
}
