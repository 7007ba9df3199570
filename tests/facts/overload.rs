//! When more comes than the fleet can do, it answers as many as it can, and the others end
//! without costing it much.

use std::sync::Arc;
use std::time::Duration;

use authio_actions::store::claim::{Look, Room, claim};
use authio_actions_testkit::endpoint::Reply;
use authio_actions_testkit::process::Program;
use authio_actions_testkit::scrape;
use authio_actions_testkit::stack::Stack;
use sqlx::PgPool;
use tokio::sync::Semaphore;

use crate::support::{abandon, answering, ask, enqueue, programs, store, until};

async fn stage() -> (Stack, PgPool) {
    let stack = answering(Reply::json("{}")).await;
    stack.project("p").await;
    stack.action("p", "pre_register", &stack.endpoint.url("/"), "timeout_ms => 5000").await;
    let owner = stack.database.owner().await;
    (stack, owner)
}

/// So many events in one statement, with nobody waiting.
async fn enqueue_many(owner: &PgPool, count: i32) {
    let many = "select count(*) from actions.enqueue_many(array_fill('p'::text, array[$1]), array_fill('pre_register'::text, array[$1]),
        array_fill('{}'::json, array[$1]), null, null)";
    sqlx::query(many).bind(count).execute(owner).await.unwrap();
}

async fn is_due_in(owner: &PgPool, id: &str, milliseconds: i32) {
    let due = "update actions_private.queue set deadline_at = clock_timestamp() + $2 * interval '1 millisecond' where id = $1";
    sqlx::query(due).bind(id).bind(milliseconds).execute(owner).await.unwrap();
}

#[tokio::test]
async fn what_has_no_time_left_is_passed_by_except_by_far_looks() {
    let (stack, owner) = stage().await;
    let database = store(&stack.database.url("worker"));
    let states = [enqueue(&stack.core, "p", "pre_register", "{}").await, enqueue(&stack.core, "p", "pre_register", "{}").await];
    let [late, in_time] = [0, 1].map(|n| states[n].id().to_owned());
    is_due_in(&owner, &late, 100).await;

    let free = Room { limit: 1, per_action: 100, tight: Vec::new() };
    let cramped = Room { limit: 1, per_action: 1, tight: vec![("action_of_another".to_owned(), 1)] };
    let near =
        Look { back: Some(Duration::from_secs(60)), least_left: Some(Duration::from_millis(200)), says_awake: None, fair_among: None };
    let far = Look { back: None, least_left: None, says_awake: None, fair_among: None };
    for room in [free, cramped] {
        for (look, expected) in [(near, &in_time), (far, &late)] {
            let claims = claim(&database, "worker-facts", &room, look).await.unwrap();
            assert_eq!(claims.iter().map(|claim| &claim.id).collect::<Vec<_>>(), [expected]);
        }
        sqlx::query("update actions_private.queue set claim_token = null").execute(&owner).await.unwrap();
    }
}

/// A worker with so many results that it cannot write, because somebody holds the history until the
/// transaction ends: calls are held until all are made, then answered at once.
async fn called_but_not_written(count: i32) -> (Stack, PgPool, Program, sqlx::Transaction<'static, sqlx::Postgres>) {
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
    stack.project("p").await;
    stack.action("p", "pre_register", &stack.endpoint.url("/"), "timeout_ms => 5000").await;
    let owner = stack.database.owner().await;
    let address = scrape::free_address();
    let worker = stack.worker(&[("ACTIONS_METRICS__LISTEN", &address)]).await;
    let mut nobody_writes = owner.begin().await.unwrap();
    sqlx::query("lock table actions_private.invocations in share row exclusive mode").execute(&mut *nobody_writes).await.unwrap();
    enqueue_many(&owner, count).await;
    stack.endpoint.received(usize::try_from(count).unwrap()).await;
    gate.add_permits(Semaphore::MAX_PERMITS / 2);
    let mut looks = tokio::time::interval(Duration::from_millis(10));
    let all_ended = async {
        while scrape::value(&address, "actions_unwritten_results").await < f64::from(count) {
            looks.tick().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), all_ended).await.expect("every call ends");
    (stack, owner, worker, nobody_writes)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_whose_results_are_not_written_leaves_the_queue_to_others() {
    let (stack, owner, _first, nobody_writes) = called_but_not_written(300).await;

    enqueue_many(&owner, 10).await;
    let _second = stack.worker(&[]).await;
    until(&owner, "all are claimed", "select bool_and(claim_token is not null) from actions_private.queue").await;
    let shares = "select count(*) from actions_private.queue group by worker order by min(id)";
    let shares: Vec<i64> = sqlx::query_scalar(shares).fetch_all(&owner).await.unwrap();
    nobody_writes.commit().await.unwrap();

    assert_eq!(shares, [300, 10]);
    until(&stack.ops, "all are written", "select count(*) = 310 from actions.recent_invocations where status = 'ok'").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_whose_results_cannot_be_written_leaves_all_the_same_and_says_so() {
    let (_stack, _owner, mut worker, _nobody_writes) = called_but_not_written(300).await;
    worker.signal("TERM").await;
    worker.logged("left without writing back everything").await;
    assert!(!worker.ended().await.success());
}

#[tokio::test]
async fn what_is_overdue_is_left_to_its_waiter_for_a_moment() {
    let (stack, owner) = stage().await;
    let state = enqueue(&stack.core, "p", "pre_register", "{}").await;
    is_due_in(&owner, state.id(), 0).await;
    let deadline: String = sqlx::query_scalar("select deadline_at::text from actions_private.queue").fetch_one(&owner).await.unwrap();
    let epoch: i64 = sqlx::query_scalar("select actions_private.take_lead('facts', '1 hour')").fetch_one(&owner).await.unwrap();
    until(&owner, "it is ended", &format!("select count(*) = 1 from actions_private.end_past_deadline({epoch}, null)")).await;
    let moment = "select extract(epoch from finished_at - $1::timestamptz)::float8 * 1000 from actions_private.invocations";
    let moment_ms: f64 = sqlx::query_scalar(moment).bind(deadline).fetch_one(&owner).await.unwrap();
    assert!(moment_ms >= 250.0, "{moment_ms} ms");
}

#[tokio::test]
async fn several_who_give_up_are_answered_in_the_order_in_which_they_ask() {
    let (stack, _) = stage().await;
    let mut ids = Vec::new();
    for _ in 0..6 {
        ids.push(enqueue(&stack.core, "p", "pre_register", "{}").await.id().to_owned());
    }
    abandon(&stack.core, &ids[1]).await;
    // All undecided; one decided before; one named twice; all decided.
    for asked in [[2, 0].as_slice(), &[4, 1, 3], &[5, 5], &[1, 0]] {
        let array = format!("{{{}}}", asked.iter().map(|n| ids[*n].as_str()).collect::<Vec<_>>().join(","));
        let states = ask(&stack.core, "actions.abandon_many($1::text[])", &[&array]).await.unwrap();
        assert_eq!(states.iter().map(|state| state.id()).collect::<Vec<_>>(), asked.iter().map(|n| ids[*n].as_str()).collect::<Vec<_>>());
        for state in states {
            assert_eq!((state.status.as_str(), state.wait_ms, state.outcome()["source"].as_str()), ("expired", 0, Some("fail_open")));
            assert!(state.event_id.starts_with("evt_") && state.action_id.is_some());
        }
    }
}

#[tokio::test]
async fn behind_a_burst_every_other_project_has_its_turn_with_the_next_claim() {
    let stack = answering(Reply::json("{}")).await;
    for project in ["burst", "early", "late", "later"] {
        stack.project(project).await;
        stack.action(project, "pre_register", &stack.endpoint.url("/"), "timeout_ms => 5000").await;
    }
    let early = enqueue(&stack.core, "early", "pre_register", "{}").await;
    let owner = stack.database.owner().await;
    let burst =
        "select count(*) from actions.enqueue_many(array_fill('burst'::text, array[500]), array_fill('pre_register'::text, array[500]),
        array_fill('{}'::json, array[500]), null, null)";
    sqlx::query(burst).execute(&owner).await.unwrap();
    let mut after = Vec::new();
    for project in ["late", "later", "later"] {
        after.push(enqueue(&stack.core, project, "pre_register", "{}").await);
    }
    let database = store(&stack.database.url("worker"));
    let look = |fair_among| Look { back: None, least_left: None, says_awake: None, fair_among };
    let room = Room { limit: 6, per_action: 100, tight: Vec::new() };
    let projects = async |fair_among| -> Vec<(String, String)> {
        let claims = claim(&database, "worker-facts", &room, look(fair_among)).await.unwrap();
        claims.into_iter().map(|claim| (claim.project_id, claim.id)).collect()
    };
    let counts = |claims: &[(String, String)], project: &str| claims.iter().filter(|(of, _)| of == project).count();
    let fair = projects(Some(10)).await;
    assert_eq!(["early", "burst", "late", "later"].map(|project| counts(&fair, project)), [1, 2, 1, 2], "{fair:?}");
    for state in after.iter().chain([&early]) {
        assert!(fair.iter().any(|(_, id)| id == state.id()));
    }
    // Of one project the oldest come first, and nothing is passed over for good.
    let rest = projects(Some(10)).await;
    assert_eq!(counts(&rest, "burst"), 6);
    let waiting: Vec<String> = sqlx::query_scalar("select id from actions_private.queue where claim_token is null order by id limit 1")
        .fetch_all(&owner)
        .await
        .unwrap();
    assert!(rest.iter().all(|(_, id)| *id < waiting[0]), "in order");
    // A bulkhead holds here, too.
    let tight = Room { limit: 6, per_action: 2, tight: Vec::new() };
    assert_eq!(claim(&database, "worker-facts", &tight, look(Some(10))).await.unwrap().len(), 2);
    assert_eq!(projects(None).await.len(), 6);
}
