//! What the database's bad moments cost: time where it refuses, and what was in flight where it is silent.

use std::sync::Arc;
use std::time::Duration;

use authio_actions::client::{Client, Options};
use authio_actions::domain::{Status, Trigger};
use authio_actions_testkit::endpoint::Reply;
use authio_actions_testkit::line::Line;
use authio_actions_testkit::scrape;
use authio_actions_testkit::stack::Stack;
use serde_json::json;
use sqlx::Executor;
use tokio::sync::Semaphore;

use crate::support::{answering, enqueue, programs, repeat, result, until};

#[tokio::test(flavor = "multi_thread")]
async fn a_deny_outlives_a_database_that_refuses_to_write_it_for_a_moment() {
    let stack = answering(Reply::json(r#"{"decision":"deny","deny_code":"fraud"}"#)).await;
    let metrics = scrape::free_address();
    let mut worker = stack.worker(&[("ACTIONS_METRICS__LISTEN", &metrics)]).await;
    stack.project("p").await;
    stack.action("p", "pre_register", &stack.endpoint.url("/"), "timeout_ms => 5000").await;
    let owner = stack.database.owner().await;
    let refuse = async |what: &str| {
        let function =
            format!("create or replace function refuse() returns trigger language plpgsql as $$ begin {what} return new; end $$");
        owner.execute(function.as_str()).await.unwrap();
    };
    refuse("").await;
    owner
        .execute("create trigger refuse before insert on actions_private.invocations for each row execute function refuse()")
        .await
        .unwrap();
    // Read only after a failover, a deadlock, a lock that is held, a disk that fails.
    for code in ["25006", "40P01", "55P03", "58030"] {
        refuse(&format!("raise exception 'not now: {code}' using errcode = '{code}';")).await;
        let state = enqueue(&stack.core, "p", "pre_register", "{}").await;
        worker.logged(&format!("not now: {code}")).await;
        refuse("").await;
        until(&stack.ops, "none is undecided", "select count(*) = 0 from actions.recent_invocations where finished_at is null").await;
        let outcome = result(&stack.core, state.id()).await.outcome.unwrap();
        assert_eq!((&outcome["decision"], &outcome["code"]), (&json!("deny"), &json!("fraud")), "{code}: {outcome}");
    }
    assert!(scrape::value(&metrics, "actions_connections_replaced_total{reason=\"read_only\"}").await >= 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_that_changed_costs_no_outcome() {
    let stack = answering(Reply::json(r#"{"decision":"deny","deny_code":"fraud"}"#)).await;
    let metrics = scrape::free_address();
    let worker = stack.worker(&[("ACTIONS_DATABASE__MAX_CONNECTIONS", "2"), ("ACTIONS_METRICS__LISTEN", &metrics)]).await;
    stack.project("p").await;
    stack.action("p", "pre_register", &stack.endpoint.url("/"), "timeout_ms => 5000").await;
    let deny = async || {
        let id = enqueue(&stack.core, "p", "pre_register", "{}").await.id().to_owned();
        until(
            &stack.ops,
            "decided",
            &format!("select finished_at is not null from actions.recent_invocations where invocation_id = '{id}'"),
        )
        .await;
        assert_eq!(result(&stack.core, &id).await.outcome.unwrap()["code"], json!("fraud"));
    };
    // Each of its few connections has written an outcome.
    for _ in 0..20 {
        deny().await;
    }
    // What the worker has prepared returns another type now, as after an upgrade.
    stack
        .database
        .owner()
        .await
        .execute(
            "do $$
             declare
               complete constant regproc := 'actions_private.complete';
               made constant text := replace(pg_get_functiondef(complete), 'RETURNS text[]', 'RETURNS character varying[]');
             begin
               execute 'drop function ' || complete::regprocedure;
               execute made;
               execute 'grant execute on function ' || 'actions_private.complete'::regproc::regprocedure || ' to actions_worker';
             end $$",
        )
        .await
        .unwrap();
    // Sooner or later each of its connections finds that out, and no event notices.
    let found_out = repeat(async || {
        deny().await;
        worker.log().contains("cached plan must not change result type")
    });
    tokio::time::timeout(Duration::from_secs(20), found_out).await.expect("a plan that changed");
    deny().await;
    assert!(scrape::value(&metrics, "actions_connections_replaced_total{reason=\"plan_changed\"}").await >= 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_database_falls_silent_waiters_are_let_go_and_clients_and_workers_find_its_successor() {
    let gate = Arc::new(Semaphore::new(0));
    let held = Arc::clone(&gate);
    let stack = Stack::start(&programs(), move |_| {
        let held = Arc::clone(&held);
        async move {
            held.acquire().await.unwrap().forget();
            Reply::json("{}")
        }
    })
    .await;
    let line = Line::to(&stack.database.url("core")).await;
    let mut worker = stack.worker(&[("ACTIONS_DATABASE__URL", &line.url(&stack.database.url("worker")))]).await;
    stack.project("p").await;
    stack.action("p", "pre_register", &stack.endpoint.url("/"), "timeout_ms => 1000, fail_mode => 'closed'").await;
    let client = Client::connect(&Options::new(&line.url(&stack.database.url("core")))).await.unwrap();
    let waiter = tokio::spawn({
        let client = client.clone();
        async move { client.invoke("p", Trigger::PreRegister, &json!({})).await }
    });
    stack.endpoint.received(1).await;
    line.die();
    gate.add_permits(Semaphore::MAX_PERMITS / 2);
    // Its deadline, and the two seconds that the database may take to say how it ended.
    let answer = tokio::time::timeout(Duration::from_secs(10), waiter).await.expect("nobody waits for the dead").unwrap();
    assert!(!matches!(answer, Ok(answer) if answer.outcome.status == Status::Ok), "its result could not be heard");
    let served = repeat(
        async || matches!(client.invoke("p", Trigger::PreRegister, &json!({})).await, Ok(answer) if answer.outcome.status == Status::Ok),
    );
    tokio::time::timeout(Duration::from_secs(20), served).await.expect("the fleet serves again");
    assert!(worker.drained().await.success());
}
