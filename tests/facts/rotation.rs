//! Secrets that change while people sign in.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use authio_actions::client::{Client, Options};
use authio_actions::domain::Trigger;
use authio_actions_testkit::endpoint::{Received, Reply};
use authio_actions_testkit::receiver;
use authio_actions_testkit::stack::{ROOT_KEY, Stack};
use serde_json::json;
use sqlx::Row;
use tokio::sync::watch;

use crate::support::{answering, invoke, programs, until};

const FAST: &[(&str, &str)] = &[("ACTIONS_KILL_SWITCH__TICK_MS", "50")];
const AT_ONCE: usize = 16;

#[tokio::test(flavor = "multi_thread")]
async fn under_load_a_receiver_that_reads_the_last_signature_refuses_nothing_before_and_after_it_switches() {
    let secret = Arc::new(Mutex::new(String::new()));
    let (refused, passed) = (Arc::new(watch::Sender::new(0)), Arc::new(watch::Sender::new(0)));
    let (known, bad, good) = (Arc::clone(&secret), Arc::clone(&refused), Arc::clone(&passed));
    let stack = Stack::start(&programs(), move |request: Received| {
        let fits = receiver::verify_last(&known.lock().unwrap(), request.header("authio-signature"), &request.body);
        if fits { &good } else { &bad }.send_modify(|count| *count += 1);
        std::future::ready(Reply::json("{}"))
    })
    .await;
    stack.project("p").await;
    let action = stack.action("p", "pre_register", &stack.endpoint.url("/"), "").await;
    let [old, new] = [1, 2].map(|version| receiver::secret(ROOT_KEY, &action, version));
    *secret.lock().unwrap() = old;
    let _workers = [stack.worker(&[]).await, stack.worker(&[]).await];
    let client = Client::connect(&Options::new(&stack.database.url("core"))).await.unwrap();
    let change = async |sql: &str| {
        sqlx::query(sql).bind(&action).execute(&stack.admin).await.unwrap();
    };
    // While the receiver has the old secret: before the rotation, in the middle of it, in the overlap.
    load(&client, async || {
        enough(&passed, 200).await;
        change("select actions.rotate_secret($1)").await;
        enough(&passed, 200).await;
    })
    .await;
    // It switches when the overlap ends, with nothing in flight in between, as its owner would time it.
    change("select actions.finish_rotation($1)").await;
    *secret.lock().unwrap() = new;
    load(&client, async || enough(&passed, 200).await).await;
    assert_eq!(*refused.borrow(), 0, "of {}", *passed.borrow());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_switches_in_the_overlap_refuses_at_most_one_call_of_each_worker() {
    const CALLS: usize = 40;
    let secret = Arc::new(Mutex::new(String::new()));
    let refused = Arc::new(AtomicUsize::new(0));
    let (known, bad) = (Arc::clone(&secret), Arc::clone(&refused));
    let stack = Stack::start(&programs(), move |request: Received| {
        let fits = receiver::verify_last(&known.lock().unwrap(), request.header("authio-signature"), &request.body);
        if !fits {
            bad.fetch_add(1, Ordering::SeqCst);
        }
        std::future::ready(if fits { Reply::json("{}") } else { Reply::with_status(401, "{}") })
    })
    .await;
    stack.project("p").await;
    let action = stack.action("p", "pre_register", &stack.endpoint.url("/"), "").await;
    let [old, new] = [1, 2].map(|version| receiver::secret(ROOT_KEY, &action, version));
    let _workers = [stack.worker(&[]).await, stack.worker(&[]).await];
    *secret.lock().unwrap() = old.clone();
    assert_eq!(invoke(&stack, "p", "pre_register").await.status, "ok");
    sqlx::query("select actions.rotate_secret($1)").bind(&action).execute(&stack.admin).await.unwrap();
    // It has the old one, switches, is rolled back and switches again.
    for (present, most) in [(&old, 0), (&new, 2), (&old, 2), (&new, 2)] {
        *secret.lock().unwrap() = present.clone();
        let before = refused.load(Ordering::SeqCst);
        for _ in 0..CALLS {
            invoke(&stack, "p", "pre_register").await;
        }
        let cost = refused.load(Ordering::SeqCst) - before;
        assert!(cost <= most, "{cost} of {CALLS} were refused");
    }
    let error: String = sqlx::query_scalar("select error from actions.recent_invocations where http_status = 401 limit 1")
        .fetch_one(&stack.ops)
        .await
        .unwrap();
    assert!(error.contains("the next call has the two signatures in the other order"), "{error}");
}

/// Sign-ins from all sides for as long as `during` takes.
async fn load(client: &Client, during: impl AsyncFnOnce()) {
    let over = Arc::new(AtomicBool::new(false));
    let callers: Vec<_> = (0..AT_ONCE)
        .map(|_| {
            let (client, over) = (client.clone(), Arc::clone(&over));
            tokio::spawn(async move {
                while !over.load(Ordering::SeqCst) {
                    client.invoke("p", Trigger::PreRegister, &json!({"user": {"id": "user_1"}})).await.unwrap();
                }
            })
        })
        .collect();
    during().await;
    over.store(true, Ordering::SeqCst);
    for caller in callers {
        caller.await.unwrap();
    }
}

/// Waits for so many more.
async fn enough(count: &watch::Sender<usize>, more: usize) {
    let mut counting = count.subscribe();
    let goal = *count.borrow() + more;
    let waiting = counting.wait_for(|count| *count >= goal);
    tokio::time::timeout(Duration::from_secs(30), waiting).await.expect("the fleet stands still").unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_signed_with_the_new_secret_tells_that_the_endpoint_has_it() {
    let signing = Arc::new(Mutex::new(String::new()));
    let known = Arc::clone(&signing);
    let stack = Stack::start(&programs(), move |_: Received| {
        let signature = receiver::sign(&known.lock().unwrap(), receiver::now(), b"{}");
        std::future::ready(Reply::json("{}").and_header("authio-response-signature", signature))
    })
    .await;
    stack.project("p").await;
    let action = stack.action("p", "pre_register", &stack.endpoint.url("/"), "").await;
    let [old, new] = [1, 2].map(|version| receiver::secret(ROOT_KEY, &action, version));
    *signing.lock().unwrap() = old;
    let _worker = stack.worker(&[]).await;
    let seen = "select secret_seen_at is not null from actions.actions";
    assert_eq!(invoke(&stack, "p", "pre_register").await.status, "ok");
    until(&stack.ops, "the first secret is seen", seen).await;
    sqlx::query("select actions.rotate_secret($1)").bind(&action).execute(&stack.admin).await.unwrap();
    for _ in 0..3 {
        assert_eq!(invoke(&stack, "p", "pre_register").await.status, "ok", "an answer under the previous secret");
    }
    assert!(!sqlx::query_scalar::<_, bool>(seen).fetch_one(&stack.ops).await.unwrap(), "which says nothing of the new one");
    let signatures = || stack.endpoint.requests().last().unwrap().header("authio-signature").matches("v1=").count();
    assert_eq!(signatures(), 2);
    *signing.lock().unwrap() = new;
    assert_eq!(invoke(&stack, "p", "pre_register").await.status, "ok");
    until(&stack.ops, "the new secret is seen", seen).await;
    assert_eq!(invoke(&stack, "p", "pre_register").await.status, "ok");
    assert_eq!(signatures(), 1, "the endpoint has switched, and may read only the last signature");
    // An instance that has not switched may still answer under the previous secret.
    *signing.lock().unwrap() = receiver::secret(ROOT_KEY, &action, 1);
    assert_eq!(invoke(&stack, "p", "pre_register").await.status, "ok");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_overlap_ends_by_itself_and_that_is_written_down_once() {
    let stack = answering(Reply::json("{}")).await;
    stack.project("p").await;
    let action = stack.action("p", "pre_register", &stack.endpoint.url("/"), "").await;
    let _janitors = [stack.janitor(FAST).await, stack.janitor(FAST).await];
    sqlx::query("select actions.rotate_secret($1, 'ada', '24 hours')").bind(&action).execute(&stack.admin).await.unwrap();
    let owner = stack.database.owner().await;
    // Time passes.
    sqlx::query("update actions_private.actions set previous_secret_until = now() - interval '1 second'").execute(&owner).await.unwrap();
    until(&stack.ops, "the overlap ended", "select previous_secret_until is null from actions.actions").await;
    let rows = sqlx::query(
        "select actor, details->'changed' ? 'previous_secret_version' from (
          select actor, details::jsonb as details from actions.audit_log where event = 'action.rotation_finished') as l",
    )
    .fetch_all(&stack.ops)
    .await
    .unwrap();
    assert_eq!(rows.iter().map(|row| (row.get::<String, _>(0), row.get::<bool, _>(1))).collect::<Vec<_>>(), [("system".to_owned(), true)]);
    let _worker = stack.worker(&[]).await;
    assert_eq!(invoke(&stack, "p", "pre_register").await.status, "ok");
    assert_eq!(stack.endpoint.requests()[0].header("authio-signature").matches("v1=").count(), 1);
}
