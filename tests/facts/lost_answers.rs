//! Connections to the database that are lost between two statements, or with an answer.

use std::time::Duration;

use authio_actions::client::{Client, Options};
use authio_actions::domain::{Status, Trigger};
use authio_actions_testkit::endpoint::Reply;
use authio_actions_testkit::line::Line;
use authio_actions_testkit::stack::Stack;
use serde_json::json;
use tokio::time::Instant;

use crate::support::answering;

async fn stage() -> (Stack, Line) {
    let stack = answering(Reply::json("{}")).await;
    stack.project("p").await;
    stack.action("p", "pre_register", &stack.endpoint.url("/"), "timeout_ms => 2000").await;
    let line = Line::to(&stack.database.url("core")).await;
    (stack, line)
}

/// One event and how long it took.
async fn invoke(client: &Client) -> Duration {
    let began = Instant::now();
    let answer = client.invoke("p", Trigger::PreRegister, &json!({})).await.unwrap();
    assert_eq!(answer.outcome.status, Status::Ok);
    began.elapsed()
}

/// Longer than a connection may be idle before it is asked whether it still answers.
async fn a_quiet_time() {
    let mut pause = tokio::time::interval_at(Instant::now() + Duration::from_millis(2200), Duration::from_secs(1));
    pause.tick().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_event_after_a_balancer_reset_the_idle_connections_is_answered_at_once() {
    let (stack, line) = stage().await;
    let _worker = stack.worker(&[]).await;
    let client = Client::connect(&Options::new(&line.url(&stack.database.url("core")))).await.unwrap();
    invoke(&client).await;
    line.reset();
    let took = invoke(&client).await;
    assert!(took < Duration::from_millis(500), "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_event_after_a_firewall_forgot_the_idle_connections_is_answered_soon() {
    let (stack, line) = stage().await;
    let _worker = stack.worker(&[]).await;
    let client = Client::connect(&Options::new(&line.url(&stack.database.url("core")))).await.unwrap();
    invoke(&client).await;
    a_quiet_time().await;
    line.die();
    // The connection that listens is as dead as the others, so the result is asked for.
    let took = invoke(&client).await;
    assert!(took < Duration::from_millis(700), "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_whose_answer_was_lost_is_reported_again_and_sent_once() {
    let (stack, line) = stage().await;
    let _worker = stack.worker(&[]).await;
    let client = Client::connect(&Options::new(&line.url(&stack.database.url("core")))).await.unwrap();
    invoke(&client).await;
    for n in 0..5 {
        // What the client sends arrives, and the answer does not come back.
        line.swallow_next_answer();
        invoke(&client).await;
        assert_eq!(stack.endpoint.requests().len(), n + 2, "sent once");
    }
    // Many at once, whose statements are shared.
    line.swallow_next_answer();
    let barrier = std::sync::Arc::new(tokio::sync::Barrier::new(40));
    let events: Vec<_> = (0..40)
        .map(|_| {
            let (client, barrier) = (client.clone(), std::sync::Arc::clone(&barrier));
            tokio::spawn(async move {
                barrier.wait().await;
                invoke(&client).await
            })
        })
        .collect();
    for event in events {
        event.await.unwrap();
    }
    let rows: i64 = sqlx::query_scalar("select count(*) from actions.recent_invocations").fetch_one(&stack.ops).await.unwrap();
    assert_eq!((rows, stack.endpoint.requests().len()), (46, 46));
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_are_kept_alive_and_closed_at_their_age() {
    let (stack, _) = stage().await;
    let owner = stack.database.owner().await;
    let mut options = Options::new(&stack.database.url("core"));
    options.max_connection_age_s = 1;
    let client = Client::connect(&options).await.unwrap();
    let pids = async || -> Vec<i32> {
        let sql = "select pid from pg_stat_activity where application_name = 'auth-core actions client' and datname = current_database()
            and query not like '%listen%' order by 1";
        sqlx::query_scalar(sql).fetch_all(&owner).await.unwrap()
    };
    let _worker = stack.worker(&[]).await;
    invoke(&client).await;
    let before = pids().await;
    a_quiet_time().await;
    invoke(&client).await;
    let after = pids().await;
    assert!(before.iter().all(|pid| !after.contains(pid)), "opened anew: {before:?} {after:?}");
    // Linux shows which sockets of this process have a keepalive timer: 02 in the timer column.
    let tcp = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let port: u16 = url::Url::parse(&stack.database.url("core")).unwrap().port().unwrap();
    let to_server = format!("0100007F:{port:04X} 01");
    let timers: Vec<&str> = tcp.lines().filter(|line| line.contains(&to_server)).collect();
    assert!(timers.iter().any(|line| line.split_whitespace().nth(5).is_some_and(|timer| timer.starts_with("02"))), "{timers:?}");
}
