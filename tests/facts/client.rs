//! The library for auth-core.

use std::sync::Arc;

use authio_actions::client::{Client, ClientError, Options};
use authio_actions::domain::{Decision, Source, Status, Trigger};
use authio_actions::store::StoreError;
use authio_actions_testkit::endpoint::{Received, Reply};
use authio_actions_testkit::stack::Stack;
use serde_json::json;
use tokio::sync::Barrier;

use crate::support::{answering, programs};

async fn client(stack: &Stack) -> Client {
    Client::connect(&Options::new(&stack.database.url("core"))).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_waiter_gets_the_outcome_of_its_own_event() {
    let stack = Stack::start(&programs(), |request: Received| async move {
        let body = request.json();
        Reply::json(
            json!({"append_audit": {"n": body["metadata"]["n"], "pad": "x".repeat(body["metadata"]["n"].as_u64().unwrap() as usize * 15)}})
                .to_string(),
        )
    })
    .await;
    let _workers = [stack.worker(&[]).await, stack.worker(&[]).await];
    stack.project("p").await;
    stack.action("p", "pre_register", &stack.endpoint.url("/"), "timeout_ms => 5000").await;
    let client = client(&stack).await;
    let barrier = Arc::new(Barrier::new(256));
    let waiters: Vec<_> = (0..256_u64)
        .map(|n| {
            let (client, barrier) = (client.clone(), Arc::clone(&barrier));
            tokio::spawn(async move {
                barrier.wait().await;
                let answer = client.invoke("p", Trigger::PreRegister, &json!({"metadata": {"n": n}})).await.unwrap();
                let audit: serde_json::Value = serde_json::from_str(answer.outcome.audit.unwrap().get()).unwrap();
                assert_eq!(audit["n"], n, "the answer of another event");
            })
        })
        .collect();
    for waiter in waiters {
        waiter.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_fleet_the_waiter_abandons_at_its_deadline() {
    let stack = answering(Reply::json("{}")).await;
    stack.project("p").await;
    stack.action("p", "pre_register", &stack.endpoint.url("/"), "timeout_ms => 100, fail_mode => 'closed'").await;
    let answer = client(&stack).await.invoke("p", Trigger::PreRegister, &json!({})).await.unwrap();
    assert_eq!((answer.outcome.decision, answer.outcome.status), (Decision::Deny, Status::Expired));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_wrong_event_among_gathered_ones_costs_nobody_else() {
    let stack = answering(Reply::json("{}")).await;
    let client = client(&stack).await;
    let barrier = Arc::new(Barrier::new(50));
    let waiters: Vec<_> = (0..50)
        .map(|n| {
            let (client, barrier) = (client.clone(), Arc::clone(&barrier));
            tokio::spawn(async move {
                let event = if n == 7 { json!({"event_id": "mine"}) } else { json!({}) };
                barrier.wait().await;
                client.invoke("p", Trigger::PreRegister, &event).await
            })
        })
        .collect();
    for (n, waiter) in waiters.into_iter().enumerate() {
        match waiter.await.unwrap() {
            Ok(answer) => assert!(n != 7 && answer.outcome.source == Source::NoAction),
            Err(ClientError::Store(StoreError::Refused { code, message, .. })) => {
                assert!(n == 7 && code == "22023" && message.contains("event_id"), "{message}")
            }
            Err(other) => panic!("{n}: {other}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_too_big_for_a_notification_reaches_its_waiter_long_before_the_deadline() {
    let stack = answering(Reply::json(format!(r#"{{"override_claims":{{"big":"{}"}}}}"#, "x".repeat(30_000)))).await;
    let _worker = stack.worker(&[]).await;
    stack.project("p").await;
    stack.action("p", "pre_token_mint", &stack.endpoint.url("/"), "timeout_ms => 5000").await;
    let client = client(&stack).await;
    let answer = client.invoke("p", Trigger::PreTokenMint, &json!({})).await.unwrap();
    assert_eq!((answer.outcome.status, answer.outcome.claims.unwrap().get().len()), (Status::Ok, 30_010));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_listening_connection_misdirects_nobody() {
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let held = Arc::clone(&gate);
    let stack = Stack::start(&programs(), move |_| {
        let held = Arc::clone(&held);
        async move {
            held.acquire().await.unwrap().forget();
            Reply::json(r#"{"decision":"deny"}"#)
        }
    })
    .await;
    let _worker = stack.worker(&[]).await;
    stack.project("p").await;
    stack.action("p", "pre_register", &stack.endpoint.url("/"), "timeout_ms => 5000").await;
    let client = client(&stack).await;
    let waiter = tokio::spawn({
        let client = client.clone();
        async move { client.invoke("p", Trigger::PreRegister, &json!({})).await.unwrap() }
    });
    crate::support::until(&stack.ops, "it runs", "select bool_or(status = 'running') from actions.recent_invocations").await;
    let owner = stack.database.owner().await;
    let cut = "select count(pg_terminate_backend(pid)) from pg_stat_activity where application_name = 'auth-core actions client' and datname = current_database()";
    assert!(sqlx::query_scalar::<_, i64>(cut).fetch_one(&owner).await.unwrap() > 0);
    gate.add_permits(1);
    assert_eq!(waiter.await.unwrap().outcome.status, Status::Rejected);
}
