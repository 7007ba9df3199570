//! Who decides when several could.

use std::sync::Arc;

use authio_actions::client::{Client, Options};
use authio_actions::domain::{Status, Trigger};
use authio_actions_testkit::endpoint::{Received, Reply};
use authio_actions_testkit::stack::Stack;
use serde_json::json;
use sqlx::Executor;
use tokio::sync::{Barrier, Semaphore};

use crate::support::{abandon, answering, enqueue, programs, repeat, result, until};

/// An endpoint that answers deny, but only when a permit is given.
async fn gated() -> (Stack, Arc<Semaphore>) {
    gated_with(r#"{"decision":"deny"}"#).await
}

async fn gated_with(answer: &'static str) -> (Stack, Arc<Semaphore>) {
    let gate = Arc::new(Semaphore::new(0));
    let held = Arc::clone(&gate);
    let stack = Stack::start(&programs(), move |_: Received| {
        let held = Arc::clone(&held);
        async move {
            held.acquire().await.unwrap().forget();
            Reply::json(answer)
        }
    })
    .await;
    (stack, gate)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_worker_cannot_overwrite_an_abandoned_invocation() {
    let (stack, gate) = gated().await;
    let mut worker = stack.worker(&[]).await;
    stack.project("p").await;
    stack.action("p", "pre_register", &stack.endpoint.url("/"), "timeout_ms => 5000").await;
    let state = enqueue(&stack.core, "p", "pre_register", "{}").await;
    until(&stack.ops, "it runs", "select bool_or(status = 'running') from actions.recent_invocations").await;
    let abandoned = abandon(&stack.core, state.id()).await;
    assert_eq!((abandoned.status.as_str(), abandoned.outcome()["decision"].as_str()), ("expired", Some("allow")));
    gate.add_permits(1);
    worker.logged("ended by somebody else").await;
    assert_eq!(result(&stack.core, state.id()).await.outcome, abandoned.outcome);
    let rows: i64 = sqlx::query_scalar("select count(*) from actions.recent_invocations").fetch_one(&stack.ops).await.unwrap();
    assert_eq!(rows, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_late_answer_asks_for_is_not_in_the_audit_log() {
    let (stack, gate) = gated_with(r#"{"decision":"allow","override_roles":["unknown"]}"#).await;
    let mut worker = stack.worker(&[]).await;
    stack.project("p").await;
    stack.action("p", "pre_token_mint", &stack.endpoint.url("/"), "timeout_ms => 5000").await;
    let (late, timely) = (enqueue(&stack.core, "p", "pre_token_mint", "{}").await, enqueue(&stack.core, "p", "pre_token_mint", "{}").await);
    until(&stack.ops, "both run", "select count(*) = 2 from actions.recent_invocations where status = 'running'").await;
    abandon(&stack.core, late.id()).await;
    gate.add_permits(2);
    worker.logged("ended by somebody else").await;
    until(&stack.ops, "the other ended", "select bool_or(status = 'ok') from actions.recent_invocations").await;
    assert_eq!(result(&stack.core, timely.id()).await.status, "ok");
    let noted: i64 = sqlx::query_scalar("select count(*) from actions.audit_log where event = 'action.override_unknown_roles_dropped'")
        .fetch_one(&stack.ops)
        .await
        .unwrap();
    assert_eq!(noted, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_whose_claim_was_taken_over_changes_nothing() {
    let (stack, gate) = gated().await;
    let mut worker = stack.worker(&[]).await;
    stack.project("p").await;
    stack.action("p", "pre_register", &stack.endpoint.url("/"), "timeout_ms => 5000").await;
    let state = enqueue(&stack.core, "p", "pre_register", "{}").await;
    until(&stack.ops, "it runs", "select bool_or(status = 'running') from actions.recent_invocations").await;
    let owner = stack.database.owner().await;
    sqlx::query("update actions_private.queue set claim_token = gen_random_uuid()").execute(&owner).await.unwrap();
    gate.add_permits(1);
    worker.logged("ended by somebody else").await;
    assert_eq!(result(&stack.core, state.id()).await.status, "running");
}

#[tokio::test(flavor = "multi_thread")]
async fn abandon_and_result_race_to_one_outcome() {
    let (stack, gate) = gated().await;
    let mut worker = stack.worker(&[]).await;
    stack.project("p").await;
    stack.action("p", "pre_register", &stack.endpoint.url("/"), "timeout_ms => 5000").await;
    let rounds = 40;
    let mut ids = Vec::new();
    for _ in 0..rounds {
        ids.push(enqueue(&stack.core, "p", "pre_register", "{}").await.id().to_owned());
    }
    until(&stack.ops, "all run", &format!("select count(*) = {rounds} from actions.recent_invocations where status = 'running'")).await;
    let barrier = Arc::new(Barrier::new(2));
    let opener = {
        let (gate, barrier) = (Arc::clone(&gate), Arc::clone(&barrier));
        tokio::spawn(async move {
            barrier.wait().await;
            gate.add_permits(rounds);
        })
    };
    barrier.wait().await;
    let mut seen = Vec::new();
    for id in &ids {
        seen.push(abandon(&stack.core, id).await.outcome.unwrap());
    }
    opener.await.unwrap();
    assert!(worker.drained().await.success());
    for (id, outcome) in ids.iter().zip(seen) {
        assert_eq!(result(&stack.core, id).await.outcome, Some(outcome));
    }
    let rows: i64 = sqlx::query_scalar("select count(*) from actions.recent_invocations").fetch_one(&stack.ops).await.unwrap();
    assert_eq!(rows, rounds as i64);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_workers_never_send_the_same_event_twice() {
    let (stack, gate) = gated().await;
    // Each holds half of them, so both must take part.
    let half = [("ACTIONS_WORKER__MAX_IN_FLIGHT", "200")];
    let _workers = [stack.worker(&half).await, stack.worker(&half).await];
    stack.project("p").await;
    stack.action("p", "pre_register", &stack.endpoint.url("/"), "timeout_ms => 5000").await;
    let requests: Vec<String> = (0..100).map(|_| r#"{"project_id":"p","trigger":"pre_register","event":{}}"#.to_owned()).collect();
    let requests = format!("[{}]", requests.join(","));
    let barrier = Arc::new(Barrier::new(4));
    let senders: Vec<_> = (0..4)
        .map(|_| {
            let (core, requests, barrier) = (stack.core.clone(), requests.clone(), Arc::clone(&barrier));
            tokio::spawn(async move {
                barrier.wait().await;
                sqlx::query("select * from actions.enqueue_many($1::json, null)").bind(requests).execute(&core).await.unwrap();
            })
        })
        .collect();
    for sender in senders {
        sender.await.unwrap();
    }
    stack.endpoint.received(400).await;
    gate.add_permits(400);
    until(&stack.ops, "all are decided", "select count(*) = 400 from actions.recent_invocations where status = 'rejected'").await;
    let mut sent: Vec<String> = stack.endpoint.requests().iter().map(|request| request.header("authio-event-id").to_owned()).collect();
    assert_eq!(sent.len(), 400);
    sent.sort();
    sent.dedup();
    assert_eq!(sent.len(), 400, "an event was sent twice");
    let both: i64 =
        sqlx::query_scalar("select count(distinct worker) from actions.recent_invocations").fetch_one(&stack.ops).await.unwrap();
    assert_eq!(both, 2, "both workers took part");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hanging_endpoint_takes_its_share_and_leaves_the_rest_to_others() {
    let stack =
        Stack::start(&programs(), |request: Received| async move { if request.path == "/hang" { Reply::Hang } else { Reply::json("{}") } })
            .await;
    let _worker = stack.worker(&[("ACTIONS_WORKER__MAX_IN_FLIGHT", "20"), ("ACTIONS_WORKER__MAX_IN_FLIGHT_PER_ACTION", "10")]).await;
    for (project, path) in [("slow", "/hang"), ("quick", "/")] {
        stack.project(project).await;
        stack.action(project, "pre_register", &stack.endpoint.url(path), "timeout_ms => 5000").await;
    }
    for _ in 0..30 {
        enqueue(&stack.core, "slow", "pre_register", "{}").await;
    }
    for _ in 0..30 {
        enqueue(&stack.core, "quick", "pre_register", "{}").await;
    }
    let done = "select count(*) = 30 from actions.recent_invocations where project_id = 'quick' and status = 'ok'";
    until(&stack.ops, "the quick one is served", done).await;
    let running: i64 =
        sqlx::query_scalar("select count(*) from actions.recent_invocations where status = 'running'").fetch_one(&stack.ops).await.unwrap();
    assert_eq!(running, 10, "no more than its share is sent, while the quick one was served in between");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invocation_that_somebody_holds_locked_holds_up_no_other() {
    let stack = answering(Reply::json("{}")).await;
    stack.project("p").await;
    stack.action("p", "pre_register", &stack.endpoint.url("/"), "").await;
    let held = enqueue(&stack.core, "p", "pre_register", "{}").await;
    let mut holder = stack.database.owner().await.begin().await.unwrap();
    holder.execute(format!("select from actions_private.queue where id = '{}' for update", held.id()).as_str()).await.unwrap();
    let _worker = stack.worker(&[]).await;
    let client = Client::connect(&Options::new(&stack.database.url("core"))).await.unwrap();
    let answer = client.invoke("p", Trigger::PreRegister, &json!({})).await.unwrap();
    assert_eq!((answer.outcome.status, result(&stack.core, held.id()).await.status.as_str()), (Status::Ok, "queued"));
    holder.rollback().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hanging_endpoint_takes_no_more_of_a_worker_than_its_bulkhead() {
    let stack = Stack::start(&programs(), async |request: Received| match request.path.as_str() {
        "/hang" => Reply::Hang,
        _ => Reply::json("{}"),
    })
    .await;
    stack.project("slow").await;
    stack.project("quick").await;
    stack.action("slow", "pre_register", &stack.endpoint.url("/hang"), "timeout_ms => 5000").await;
    stack.action("quick", "pre_register", &stack.endpoint.url("/"), "").await;
    for _ in 0..6 {
        enqueue(&stack.core, "slow", "pre_register", "{}").await;
    }
    let _worker = stack.worker(&[("ACTIONS_WORKER__MAX_IN_FLIGHT", "4"), ("ACTIONS_WORKER__MAX_IN_FLIGHT_PER_ACTION", "2")]).await;
    stack.endpoint.received(2).await;
    let client = Client::connect(&Options::new(&stack.database.url("core"))).await.unwrap();
    for _ in 0..4 {
        let answer = client.invoke("quick", Trigger::PreRegister, &json!({})).await.unwrap();
        assert_eq!(answer.outcome.status, Status::Ok);
    }
    let hanging = stack.endpoint.requests().iter().filter(|request| request.path == "/hang").count();
    assert_eq!(hanging, 2, "the other four wait in the queue");
}

const AWAKE: &str = "insert into actions_private.processes (id, kind, host, pid, version, awake_until)
  values ('elsewhere', 'worker', 'elsewhere', 1, '0', 'infinity')";

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_nobody_notified_of_is_found_by_polling() {
    let stack = answering(Reply::json("{}")).await;
    let _worker = stack.worker(&[]).await;
    stack.project("p").await;
    stack.action("p", "pre_register", &stack.endpoint.url("/"), "").await;
    // A worker that died a moment ago still stands there as awake.
    stack.database.owner().await.execute(AWAKE).await.unwrap();
    let client = Client::connect(&Options::new(&stack.database.url("core"))).await.unwrap();
    let answer = client.invoke("p", Trigger::PreRegister, &json!({})).await.unwrap();
    assert_eq!(answer.outcome.status, Status::Ok);
}

#[tokio::test]
async fn enqueue_notifies_unless_a_worker_is_awake_to_see_it_commit() {
    let stack = answering(Reply::json("{}")).await;
    stack.project("p").await;
    stack.action("p", "pre_register", &stack.endpoint.url("/"), "").await;
    let owner = stack.database.owner().await;
    let mut queue = sqlx::postgres::PgListener::connect(&stack.database.url("worker")).await.unwrap();
    queue.listen("actions_queue").await.unwrap();
    let enqueue = "select from actions.enqueue('p', 'pre_register', '{}')";
    let heard = async |queue: &mut sqlx::postgres::PgListener| {
        owner.execute("select pg_notify('actions_queue', 'end')").await.unwrap();
        let mut count = 0;
        while queue.recv().await.unwrap().payload() != "end" {
            count += 1;
        }
        count
    };
    // Prepared, as drivers do: only then does a statement begin later than its transaction.
    sqlx::query(enqueue).execute(&stack.core).await.unwrap();
    assert_eq!(heard(&mut queue).await, 1, "all are asleep");
    owner.execute(AWAKE).await.unwrap();
    sqlx::query(enqueue).execute(&stack.core).await.unwrap();
    stack.core.execute(enqueue).await.unwrap();
    assert_eq!(heard(&mut queue).await, 0, "one is awake");
    let mut transaction = stack.core.begin().await.unwrap();
    let is_old = "select statement_timestamp() > now() + interval '5 milliseconds'";
    repeat(async || sqlx::query_scalar::<_, bool>(is_old).fetch_one(&mut *transaction).await.unwrap()).await;
    transaction.execute(enqueue).await.unwrap();
    transaction.commit().await.unwrap();
    assert_eq!(heard(&mut queue).await, 1, "by the commit of a long transaction it may be asleep");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_waits_for_a_project_holds_none_of_its_actions_meanwhile() {
    let stack = answering(Reply::json("{}")).await;
    stack.project("p").await;
    let action = stack.action("p", "pre_register", &stack.endpoint.url("/"), "").await;
    let owner = stack.database.owner().await;
    let kill = "update actions_private.actions set killed_at = now(), killed_reason = 'x'";
    owner.execute(kill).await.unwrap();
    for change in ["set_enabled($1, false)", "set_enabled($1, true)", "reenable_action($1)"] {
        let mut holder = owner.begin().await.unwrap();
        holder.execute("select from actions_private.projects for no key update").await.unwrap();
        let (admin, action) = (stack.admin.clone(), action.clone());
        let waiter = tokio::spawn(async move {
            sqlx::query(&format!("select from actions.{change}")).bind(action).execute(&admin).await.unwrap();
        });
        let waits = "select exists (select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock')";
        until(&owner, "it waits for the project", waits).await;
        // As set_project_roles does, which renews the project's revision in each of its actions.
        holder.execute("select from actions_private.actions for update nowait").await.expect(change);
        holder.commit().await.unwrap();
        waiter.await.unwrap();
    }
}
