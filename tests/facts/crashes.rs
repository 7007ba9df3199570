//! What survives when a process or the database goes away.

use std::sync::Arc;
use std::time::{Duration, Instant};

use authio_actions::client::{Client, Options};
use authio_actions::domain::new_event_id;
use authio_actions::domain::{Source, Status, Trigger};
use authio_actions::store::{auth_core, claim, complete, notify};
use authio_actions_testkit::database::Database;
use authio_actions_testkit::endpoint::Reply;
use authio_actions_testkit::line::Line;
use authio_actions_testkit::server::Server;
use authio_actions_testkit::stack::Stack;
use serde_json::json;

use crate::support::{answering, enqueue, programs, result, until};

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_killed_in_mid_call_leaves_an_invocation_that_expires_and_a_waiter_with_an_answer() {
    let stack = answering(Reply::Hang).await;
    let mut worker = stack.worker(&[]).await;
    let _janitor = stack.janitor(&[("ACTIONS_KILL_SWITCH__TICK_MS", "100")]).await;
    stack.project("p").await;
    stack.action("p", "pre_register", &stack.endpoint.url("/"), "timeout_ms => 500, fail_mode => 'closed'").await;
    let client = Client::connect(&Options::new(&stack.database.url("core"))).await.unwrap();
    let waiter = tokio::spawn(async move { client.invoke("p", Trigger::PreRegister, &json!({})).await });
    stack.endpoint.received(1).await;
    worker.kill().await;
    let answer = waiter.await.unwrap().unwrap();
    assert_eq!((answer.outcome.status, answer.outcome.source), (Status::Expired, Source::FailClosed));
    until(&stack.ops, "the row is final", "select bool_and(status = 'expired') from actions.recent_invocations").await;
    assert_eq!(stack.endpoint.requests().len(), 1, "an event is never sent again");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_meant_for_a_dead_worker_is_claimed_by_another_long_before_it_polls() {
    let stack = answering(Reply::json("{}")).await;
    let never = [("ACTIONS_WORKER__POLL_MS", "60000")];
    let (mut dead, _alive) = (stack.worker(&never).await, stack.worker(&never).await);
    until(&stack.ops, "both are known", "select count(*) = 2 from actions.fleet").await;
    dead.kill().await;
    // Each project has its own nearest worker, so that of some is the dead one.
    for n in 0..16 {
        let project = format!("p{n}");
        stack.project(&project).await;
        stack.action(&project, "pre_register", &stack.endpoint.url("/"), "timeout_ms => 5000").await;
        enqueue(&stack.core, &project, "pre_register", "{}").await;
        // Alone in the queue: nobody comes for another event.
        until(&stack.ops, "it is served", "select bool_and(status = 'ok') from actions.recent_invocations").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_janitor_ends_what_nobody_waits_for() {
    let stack = answering(Reply::json("{}")).await;
    stack.project("p").await;
    stack.action("p", "pre_register", &stack.endpoint.url("/"), "timeout_ms => 100").await;
    let state = enqueue(&stack.core, "p", "pre_register", "{}").await;
    let _janitor = stack.janitor(&[("ACTIONS_KILL_SWITCH__TICK_MS", "50")]).await;
    until(&stack.ops, "expired", "select bool_and(status = 'expired') from actions.recent_invocations").await;
    assert_eq!(result(&stack.core, state.id()).await.outcome()["source"], "fail_open");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_leader_ends_what_passed_its_deadline_while_nobody_led() {
    let stack = answering(Reply::json("{}")).await;
    stack.project("p").await;
    stack.action("p", "pre_register", &stack.endpoint.url("/"), "timeout_ms => 100").await;
    // From too long ago for a tick's look, and too young for the one at the whole queue.
    enqueue(&stack.core, "p", "pre_register", "{}").await;
    let owner = stack.database.owner().await;
    let aged = "update actions_private.queue set id = 'inv_' || actions_private.id_time(clock_timestamp() - interval '10.5 seconds') || substr(id, 15),
        enqueued_at = clock_timestamp() - interval '10.5 seconds', deadline_at = clock_timestamp() - interval '9.4 seconds'";
    assert_eq!(sqlx::query(aged).execute(&owner).await.unwrap().rows_affected(), 1);
    let _janitor = stack.janitor(&[("ACTIONS_KILL_SWITCH__TICK_MS", "50")]).await;
    until(&stack.ops, "expired", "select bool_and(status = 'expired') from actions.recent_invocations").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_drains_finishes_what_it_holds_and_claims_nothing_more() {
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let held = Arc::clone(&gate);
    let stack = Stack::start(&programs(), move |_| {
        let held = Arc::clone(&held);
        async move {
            held.acquire().await.unwrap().forget();
            Reply::json("{}")
        }
    })
    .await;
    let mut worker = stack.worker(&[]).await;
    stack.project("p").await;
    stack.action("p", "pre_register", &stack.endpoint.url("/"), "timeout_ms => 5000").await;
    let first = enqueue(&stack.core, "p", "pre_register", "{}").await;
    until(&stack.ops, "it runs", "select bool_or(status = 'running') from actions.recent_invocations").await;
    worker.signal("TERM").await;
    worker.logged("draining").await;
    let second = enqueue(&stack.core, "p", "pre_register", "{}").await;
    gate.add_permits(2);
    assert_eq!(worker.ended().await.code(), Some(0));
    assert_eq!(result(&stack.core, first.id()).await.status, "ok");
    assert_eq!(result(&stack.core, second.id()).await.status, "queued");
    let left: i64 = sqlx::query_scalar("select count(*) from actions.fleet").fetch_one(&stack.ops).await.unwrap();
    assert_eq!(left, 0, "it signed off");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_leaves_at_once() {
    let stack = answering(Reply::Hang).await;
    let mut worker = stack.worker(&[]).await;
    stack.project("p").await;
    stack.action("p", "pre_register", &stack.endpoint.url("/"), "timeout_ms => 5000").await;
    enqueue(&stack.core, "p", "pre_register", "{}").await;
    until(&stack.ops, "it runs", "select bool_or(status = 'running') from actions.recent_invocations").await;
    worker.signal("INT").await;
    worker.logged("draining").await;
    let asked = Instant::now();
    worker.signal("INT").await;
    assert_eq!(worker.ended().await.code(), Some(1));
    assert!(asked.elapsed() < Duration::from_secs(2), "it did not wait for the call");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_of_postgresql_under_load_leaves_no_waiter_hanging_and_the_fleet_serves_again_within_3_s() {
    let server = Server::start();
    let database = Database::create_on(server.url(), &programs().join("actionsctl")).await;
    let stack = Stack::on(database, &programs(), |_| std::future::ready(Reply::json("{}"))).await;
    let _workers = [stack.worker(&[]).await, stack.worker(&[]).await];
    let _janitor = stack.janitor(&[]).await;
    stack.project("p").await;
    stack.action("p", "pre_register", &stack.endpoint.url("/"), "timeout_ms => 1000").await;
    let client = Client::connect(&Options::new(&stack.database.url("core"))).await.unwrap();
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let served = Arc::new(tokio::sync::Semaphore::new(0));
    let waiters: Vec<_> = (0..32)
        .map(|_| {
            let (client, stop, served) = (client.clone(), Arc::clone(&stop), Arc::clone(&served));
            tokio::spawn(async move {
                let (mut longest, mut pause) = (Duration::ZERO, tokio::time::interval(Duration::from_millis(10)));
                while !stop.load(std::sync::atomic::Ordering::SeqCst) {
                    let asked = Instant::now();
                    if client.invoke("p", Trigger::PreRegister, &json!({})).await.is_ok() {
                        served.add_permits(1);
                    } else {
                        pause.tick().await; // who is refused at once does not ask at once
                    }
                    longest = longest.max(asked.elapsed());
                }
                longest
            })
        })
        .collect();
    let _ = served.acquire_many(500).await.unwrap();
    let restarted = tokio::task::spawn_blocking(move || {
        server.run("restart", "immediate");
        server
    });
    let server = restarted.await.unwrap();
    let back = Instant::now();
    served.forget_permits(usize::MAX);
    let _ = served.acquire_many(64).await.unwrap();
    let took = back.elapsed();
    stop.store(true, std::sync::atomic::Ordering::SeqCst);
    for waiter in waiters {
        let longest = waiter.await.unwrap();
        assert!(longest < Duration::from_secs(7), "a waiter hung for {longest:?}");
    }
    assert!(took < Duration::from_secs(3), "64 events were served {took:?} after the restart");
    let mut sent: Vec<String> = stack.endpoint.requests().iter().map(|request| request.header("authio-event-id").to_owned()).collect();
    let all = sent.len();
    sent.sort();
    sent.dedup();
    assert_eq!(sent.len(), all, "an event was sent twice");
    drop(server);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_queued_when_postgresql_crashed_is_never_sent_and_ends_as_expired() {
    let server = Server::start();
    let database = Database::create_on(server.url(), &programs().join("actionsctl")).await;
    let stack = Stack::on(database, &programs(), |_| std::future::ready(Reply::json("{}"))).await;
    stack.project("p").await;
    stack.action("p", "pre_register", &stack.endpoint.url("/"), "timeout_ms => 5000").await;
    let event = "select invocation_id from actions.enqueue('p', 'pre_register', '{}')";
    let before: String = sqlx::query_scalar(event).fetch_one(&stack.core).await.unwrap();
    let server = tokio::task::spawn_blocking(move || {
        server.run("restart", "immediate");
        server
    });
    let server = server.await.unwrap();
    let core = stack.database.login("core").await;
    let after: String = sqlx::query_scalar(event).fetch_one(&core).await.unwrap();
    let _worker = stack.worker(&[]).await;
    until(&core, "the event of the present epoch is sent", &format!("select status = 'ok' from actions.result('{after}')")).await;
    let status: String = sqlx::query_scalar("select status from actions.abandon($1)").bind(&before).fetch_one(&core).await.unwrap();
    assert_eq!((status.as_str(), stack.endpoint.requests().len()), ("expired", 1));
    drop(server);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_a_crash_may_have_forgotten_after_it_was_sent_is_not_reported_again() {
    let server = Server::start();
    let database = Database::create_on(server.url(), &programs().join("actionsctl")).await;
    let stack = Stack::on(database, &programs(), |_| std::future::ready(Reply::Hang)).await;
    stack.project("p").await;
    stack.action("p", "pre_register", &stack.endpoint.url("/"), "timeout_ms => 5000").await;
    // What waits for no disk is in memory alone for as long as this test takes.
    let superuser = sqlx::PgPool::connect(server.url()).await.unwrap();
    sqlx::query("alter system set wal_writer_delay = '10s'").execute(&superuser).await.unwrap();
    sqlx::query("select pg_reload_conf()").execute(&superuser).await.unwrap();
    let mut worker = stack.worker(&[]).await;
    let core = stack.database.url("core");
    let line = Line::to(&core).await;
    let client = Client::connect(&Options::new(&line.url(&core))).await.unwrap();
    client.invoke("nobody", Trigger::PreRegister, &json!({})).await.unwrap();
    // The event is taken, and its answer is lost with the connection; there is no other way to the server.
    line.lead_to("postgres://127.0.0.1:1/");
    line.swallow_next_answer();
    let waiter = tokio::spawn(async move { client.invoke("p", Trigger::PreRegister, &json!({})).await });
    stack.endpoint.received(1).await;
    worker.kill().await;
    let server = tokio::task::spawn_blocking(move || {
        server.kill();
        server.run("restart", "fast");
        server
    });
    let server = server.await.unwrap();
    let _another = stack.worker(&[]).await;
    line.lead_to(&core);
    match waiter.await.unwrap() {
        Err(error) => assert!(error.to_string().contains("crashed or was replaced after this was first asked"), "{error}"),
        // Another's commit took it to the disk after all.
        Ok(answer) => assert_eq!(answer.outcome.status, Status::Expired, "{} {answer:?}", stack.endpoint.requests().len()),
    }
    assert_eq!(stack.endpoint.requests().len(), 1, "sent once");
    drop(server);
}

/// Asks again for two events; the ids of their invocations, or the SQLSTATE.
async fn again(
    core: &sqlx::PgPool,
    event_ids: Option<[&str; 2]>,
    request: Option<uuid::Uuid>,
    epoch: uuid::Uuid,
) -> Result<String, String> {
    let sql = "select string_agg(invocation_id, ' ' order by ordinality) from actions.enqueue_again(
        array['p', 'p'], array['pre_register', 'pre_register'], array['{}', '{}']::json[], $1, 'me', $2, $3) with ordinality";
    let asked = sqlx::query_scalar(sql).bind(event_ids).bind(request).bind(epoch).fetch_one(core).await;
    asked.map_err(|error| error.as_database_error().and_then(sqlx::error::DatabaseError::code).unwrap_or_default().into_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_crash_what_is_asked_again_is_answered_if_it_is_known_and_refused_if_it_is_not() {
    let server = Server::start();
    let database = Database::create_on(server.url(), &programs().join("actionsctl")).await;
    let stack = Stack::on(database, &programs(), |_| std::future::ready(Reply::json("{}"))).await;
    stack.project("p").await;
    stack.action("p", "pre_register", &stack.endpoint.url("/"), "timeout_ms => 5000").await;
    let (known, event_id) = (uuid::Uuid::new_v4(), new_event_id());
    let ids = Some([event_id.as_str(), "evt_01JD3X6G8Q7N9V8R2M4T6W8Y0B"]);
    let before: uuid::Uuid = sqlx::query_scalar("select actions.server_epoch()").fetch_one(&stack.core).await.unwrap();
    let by_request = again(&stack.core, None, Some(known), before).await.unwrap();
    let by_event = again(&stack.core, ids, None, before).await.unwrap();
    let server = tokio::task::spawn_blocking(move || {
        server.kill();
        server.run("restart", "fast");
        server
    });
    let server = server.await.unwrap();
    let core = stack.database.login("core").await;
    let forgotten = Err("08007".to_owned());
    assert_eq!(again(&core, None, Some(uuid::Uuid::new_v4()), before).await, forgotten);
    assert_eq!(again(&core, Some([&new_event_id(), &new_event_id()]), None, before).await, forgotten);
    assert_eq!(again(&core, None, Some(known), before).await, Ok(by_request));
    assert_eq!(again(&core, ids, None, before).await, Ok(by_event));
    let half = [event_id.as_str(), &new_event_id()];
    assert_eq!(again(&core, Some(half), None, before).await, forgotten, "one of them is known, and the other is not");
    assert_eq!(again(&core, Some(half), Some(uuid::Uuid::new_v4()), before).await, forgotten);
    let now: uuid::Uuid = sqlx::query_scalar("select actions.server_epoch()").fetch_one(&core).await.unwrap();
    assert_ne!(now, before);
    assert!(again(&core, None, Some(uuid::Uuid::new_v4()), now).await.is_ok(), "asked after the crash");
    drop(server);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_completion_waits_for_the_disk_and_an_sql_client_keeps_its_own_setting() {
    let stack = answering(Reply::json("{}")).await;
    stack.project("p").await;
    stack.action("p", "pre_register", &stack.endpoint.url("/"), "").await;
    let worker = stack.database.login("worker").await;
    let none = Vec::<String>::new;
    let plain = "select * from actions.enqueue('p', 'pre_register', '{}')";
    let statements = [
        ("on", &stack.core, sqlx::query(plain)),
        (
            "off",
            &stack.core,
            sqlx::query(auth_core::ENQUEUE).bind("p").bind("pre_register").bind("{}").bind(new_event_id()).bind("me").bind(None::<String>),
        ),
        (
            "off",
            &stack.core,
            sqlx::query(auth_core::ENQUEUE_MANY)
                .bind(["p"; 2])
                .bind(["pre_register"; 2])
                .bind(["{}"; 2])
                .bind([new_event_id(), new_event_id()])
                .bind("me")
                .bind(uuid::Uuid::new_v4())
                .bind(Vec::<Option<String>>::new()),
        ),
        (
            "off",
            &worker,
            sqlx::query(claim::CLAIM)
                .bind(uuid::Uuid::new_v4())
                .bind(10)
                .bind(none())
                .bind(none())
                .bind(Vec::<i32>::new())
                .bind(10)
                .bind("worker-facts")
                .bind(None::<i32>)
                .bind(None::<i32>)
                .bind(None::<bool>)
                .bind(None::<i32>),
        ),
        ("off", &worker, sqlx::query(notify::NOTIFY).bind(["me"]).bind(["[]"])),
        ("on", &worker, sqlx::query(notify::NOTIFY_WITH_COMMIT).bind(["me"]).bind(["[]"])),
        (
            "on",
            &worker,
            sqlx::query(complete::COMPLETE)
                .bind(none())
                .bind(Vec::<uuid::Uuid>::new())
                .bind(none())
                .bind(none())
                .bind(Vec::<i32>::new())
                .bind(Vec::<f64>::new())
                .bind(none())
                .bind(none())
                .bind(none())
                .bind(Vec::<Vec<u8>>::new())
                .bind(Vec::<bool>::new())
                .bind(none())
                .bind(none())
                .bind(none())
                .bind(none())
                .bind(none()),
        ),
    ];
    for (n, (expected, login, statement)) in statements.into_iter().enumerate() {
        let mut transaction = login.begin().await.unwrap();
        statement.execute(&mut *transaction).await.unwrap();
        let setting: String = sqlx::query_scalar("show synchronous_commit").fetch_one(&mut *transaction).await.unwrap();
        assert_eq!(setting, expected, "statement {n}");
        transaction.commit().await.unwrap();
        let after: String = sqlx::query_scalar("show synchronous_commit").fetch_one(login).await.unwrap();
        assert_eq!(after, "on", "after statement {n}");
    }
}
