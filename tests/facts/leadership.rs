//! Who leads among janitors, and what leading must not cost.

use std::time::Duration;

use authio_actions_testkit::endpoint::Reply;
use authio_actions_testkit::scrape;
use sqlx::{Executor, PgPool};
use tokio::time::Instant;

use crate::support::{answering, enqueue, repeat, until};

const FAST: &[(&str, &str)] = &[("ACTIONS_KILL_SWITCH__TICK_MS", "50")];

async fn epoch(owner: &PgPool) -> i64 {
    sqlx::query_scalar("select epoch from actions_private.leadership").fetch_one(owner).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_look_that_takes_longer_than_the_lease_costs_neither_the_lead_nor_an_epoch() {
    let stack = answering(Reply::json("{}")).await;
    stack.project("p").await;
    stack.action("p", "pre_register", &stack.endpoint.url("/"), "timeout_ms => 100").await;
    let owner = stack.database.owner().await;
    // The history cannot be read for longer than the lease of two seconds.
    let mut held = owner.begin().await.unwrap();
    held.execute("lock table actions_private.invocations in access exclusive mode").await.unwrap();
    let mut janitor = stack.janitor(FAST).await;
    janitor.logged("leading").await;
    let began = Instant::now();
    let renewed = "select expires_at > clock_timestamp() + interval '1500 milliseconds' from actions_private.leadership";
    repeat(async || began.elapsed() > Duration::from_millis(2500) && sqlx::query_scalar(renewed).fetch_one(&owner).await.unwrap()).await;
    let second = stack.janitor(FAST).await;
    assert_eq!(epoch(&owner).await, 1);
    held.commit().await.unwrap();
    enqueue(&stack.core, "p", "pre_register", "{}").await;
    until(&stack.ops, "it does its work", "select bool_and(status = 'expired') from actions.recent_invocations").await;
    assert_eq!(epoch(&owner).await, 1);
    assert_eq!((janitor.log().matches("\"leading\"").count(), second.log().matches("\"leading\"").count()), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_fails_stops_no_other() {
    let stack = answering(Reply::json("{}")).await;
    stack.project("p").await;
    stack.action("p", "pre_register", &stack.endpoint.url("/"), "timeout_ms => 100").await;
    let owner = stack.database.owner().await;
    for function in ["recent_seconds(double precision)", "send_checks(bigint)"] {
        owner.execute(format!("revoke execute on function actions_private.{function} from actions_janitor").as_str()).await.unwrap();
    }
    let mut janitor = stack.janitor(FAST).await;
    janitor.logged("a task failed").await;
    enqueue(&stack.core, "p", "pre_register", "{}").await;
    until(&stack.ops, "what is overdue is ended", "select bool_and(status = 'expired') from actions.recent_invocations").await;
    until(&owner, "settings were published", "select queue_allowance_ms = 500 from actions_private.settings").await;
    assert_eq!(epoch(&owner).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_renews_late_keeps_his_epoch_and_a_successor_begins_another() {
    let stack = answering(Reply::json("{}")).await;
    let owner = stack.database.owner().await;
    let take = async |janitor: &str| -> Option<i64> {
        let sql = "select actions_private.take_lead($1, '2 seconds')";
        sqlx::query_scalar(sql).bind(janitor).fetch_one(&owner).await.unwrap()
    };
    let late = "update actions_private.leadership set expires_at = clock_timestamp() - interval '1 hour'";
    assert_eq!((take("one").await, take("two").await), (Some(1), None));
    owner.execute(late).await.unwrap();
    assert_eq!(take("one").await, Some(1), "nobody led meanwhile");
    owner.execute(late).await.unwrap();
    assert_eq!((take("two").await, take("one").await), (Some(2), None));
    let leads: bool = sqlx::query_scalar("select actions_private.leads(1)").fetch_one(&owner).await.unwrap();
    assert!(!leads, "the first one's writes are fenced");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_of_5xx_from_before_its_time_is_found_by_a_new_leader() {
    let stack = answering(Reply::json("{}")).await;
    stack.project("p").await;
    let mut ids = Vec::new();
    for trigger in ["pre_register", "post_register", "pre_authenticate"] {
        ids.push(stack.action("p", trigger, &stack.endpoint.url("/"), "").await);
    }
    let owner = stack.database.owner().await;
    sqlx::query("update actions_private.actions set counting_since = now() - interval '2 hours'").execute(&owner).await.unwrap();
    // An hour ago, out of every window; among them what does not count.
    let history = "insert into actions_private.invocations
          (id, event_id, project_id, trigger, action_id, action_version, test, status, outcome, http_status, enqueued_at, finished_at)
        select 'inv_' || actions_private.id_time(at) || actions_private.id_random(), 'e', 'p', 'pre_register', $1, 1, false,
          s.status::actions_private.final_status, '{}', 503, at, at
        from generate_series(1, $2) as n, lateral (select now() - interval '1 hour' + n * interval '1 millisecond' as at) as t,
          unnest(array['http_error', 'expired']) as s (status)";
    for (id, length) in ids.iter().zip([100, 99, 100]) {
        sqlx::query(history).bind(id).bind(length).execute(&owner).await.unwrap();
    }
    let _janitor = stack.janitor(FAST).await;
    until(&stack.ops, "both are killed", "select count(*) = 2 from actions.actions where killed_at is not null").await;
    let spared: Vec<String> =
        sqlx::query_scalar("select action_id from actions.actions where killed_at is null").fetch_all(&stack.ops).await.unwrap();
    assert_eq!(spared, [ids[1].clone()]);
    let recent = "select count(*), count(*) filter (where status = 'expired') from actions.recent($1, 150)";
    let counts: (i64, i64) = sqlx::query_as(recent).bind(&ids[0]).fetch_one(&stack.ops).await.unwrap();
    assert_eq!(counts, (150, 75), "the newest of both kinds");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_leads_no_more_tells_nothing_of_the_fleet() {
    let stack = answering(Reply::json("{}")).await;
    let metrics = scrape::free_address();
    stack.project("p").await;
    stack.action("p", "pre_register", &stack.endpoint.url("/"), "timeout_ms => 5000").await;
    let mut janitor = stack.janitor(&[("ACTIONS_METRICS__LISTEN", &metrics), ("ACTIONS_KILL_SWITCH__TICK_MS", "50")]).await;
    enqueue(&stack.core, "p", "pre_register", "{}").await;
    repeat(async || scrape::value(&metrics, "actions_queued").await == 1.0).await;
    let owner = stack.database.owner().await;
    let another = "update actions_private.leadership set holder = 'another', epoch = epoch + 1, expires_at = now() + interval '1 hour'";
    owner.execute(another).await.unwrap();
    janitor.logged("another janitor leads now").await;
    for gauge in ["queued", "oldest_queued_seconds", "notify_queue_usage", "replication_lag_bytes", "kills_held"] {
        assert_eq!(scrape::value(&metrics, &format!("actions_{gauge}")).await, 0.0, "{gauge}");
    }
}
