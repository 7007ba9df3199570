//! Whose fault it is when calls to many customers fail at once: nobody is killed for the fleet's own network.

use authio_actions_testkit::endpoint::Reply;
use authio_actions_testkit::name_server::{Answer, NameServer};
use authio_actions_testkit::scrape;
use authio_actions_testkit::stack::Stack;
use sqlx::PgPool;

use crate::support::{answering, until};

const FAST: (&str, &str) = ("ACTIONS_KILL_SWITCH__TICK_MS", "50");
const TRIGGERS: [&str; 6] = ["pre_authenticate", "post_authenticate", "pre_token_mint", "post_token_mint", "pre_register", "post_register"];

/// Five projects with six actions each, every one on a host of its own.
async fn thirty(stack: &Stack, port: &str) -> Vec<String> {
    let mut actions = Vec::new();
    for project in 0..5 {
        let name = format!("p{project}");
        stack.project(&name).await;
        for (n, trigger) in TRIGGERS.iter().enumerate() {
            actions.push(stack.action(&name, trigger, &format!("https://h{project}{n}.test:{port}/"), "timeout_ms => 5000").await);
        }
    }
    actions
}

/// Writes calls of an action into the history as workers would, ended `ago`.
async fn ended(owner: &PgPool, action: &str, status: &str, calls: i32, ago: &str) {
    let sql = format!(
        "insert into actions_private.invocations
           (id, event_id, project_id, trigger, action_id, action_version, test, status, outcome, http_status, enqueued_at, finished_at)
         select actions_private.new_id('inv_'), actions_private.new_id('evt_'), a.project_id, a.trigger, a.id, 1, false, '{status}', '{{}}',
           {}, clock_timestamp(), clock_timestamp() - '{ago}'::interval
         from actions_private.actions as a, generate_series(1, {calls}) where a.id = $1",
        if status == "http_error" { "503" } else { "null" }
    );
    sqlx::query(&sql).bind(action).execute(owner).await.unwrap();
}

/// The fleet's past is longer than the test's.
async fn age(owner: &PgPool) {
    sqlx::query("update actions_private.actions set counting_since = now() - interval '1 hour', created_at = now() - interval '1 hour'")
        .execute(owner)
        .await
        .unwrap();
}

async fn killed(stack: &Stack) -> Vec<String> {
    sqlx::query_scalar("select action_id from actions.actions where killed_at is not null order by action_id")
        .fetch_all(&stack.ops)
        .await
        .unwrap()
}

const HELD: &str = "select kills_held from actions.fleet_health";

/// Thirty customers are called while the network fails in one way; nobody is killed.
async fn spared(answer: fn() -> Answer, status: &str, is_held: bool) {
    let names = NameServer::start(move |_| answer()).await;
    let stack = answering(Reply::json("{}")).await;
    let closed = scrape::free_address();
    thirty(&stack, closed.rsplit(':').next().unwrap()).await;
    let metrics = scrape::free_address();
    let _janitor = stack.janitor(&[FAST, ("ACTIONS_METRICS__LISTEN", &metrics)]).await;
    let _worker = stack.worker(&[("ACTIONS_EGRESS__RESOLVE", "{}"), ("ACTIONS_EGRESS__DNS_SERVERS", &names.setting())]).await;
    // Not all at once: a busy machine would not come to most of them in time.
    for round in 1..=5 {
        sqlx::query(
            "select actions.enqueue_many(array_agg(a.project_id), array_agg(a.trigger), array_agg('{}'::json), null, null)
             from actions_private.actions as a, generate_series(1, 5)",
        )
        .execute(&stack.database.owner().await)
        .await
        .unwrap();
        let ended = format!("select count(*) = {} from actions.recent_invocations where finished_at is not null", 150 * round);
        until(&stack.ops, "all ended", &ended).await;
    }
    let failed: i64 = sqlx::query_scalar("select count(*) from actions.recent_invocations where status = $1")
        .bind(status)
        .fetch_one(&stack.ops)
        .await
        .unwrap();
    assert!(failed > 600, "{failed}");
    if is_held {
        until(&stack.ops, "held", HELD).await;
        let (status, why): (String, String) =
            sqlx::query_as("select status, why from actions.fleet_health").fetch_one(&stack.ops).await.unwrap();
        assert!(
            status == "degraded" && why.contains("kills are held since") && why.contains("calls did not reach their endpoint"),
            "{status}: {why}"
        );
        assert_eq!(scrape::value(&metrics, "actions_kills_held").await, 1.0);
    }
    until(&stack.ops, "all is counted", "select bool_and(calls = 0) from actions.action_health").await;
    assert_eq!(killed(&stack).await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_killed_where_every_connection_is_refused() {
    spared(|| Answer::Addresses(vec![[127, 0, 0, 1].into()], 60), "network_error", true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_killed_where_no_name_exists_any_more() {
    spared(|| Answer::Nobody, "network_error", true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_killed_where_every_name_server_fails() {
    spared(|| Answer::Failure, "network_error", true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_killed_where_the_resolver_is_silent() {
    spared(|| Answer::Silence, "expired", false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_really_broken_is_killed_before_during_and_after_and_what_failed_meanwhile_never_counts() {
    let stack = answering(Reply::json("{}")).await;
    let owner = stack.database.owner().await;
    let actions = thirty(&stack, "443").await;
    age(&owner).await;
    let [before, during, after] = [&actions[0], &actions[1], &actions[2]];
    for action in &actions {
        ended(&owner, action, "ok", 5, "100 s").await;
        // Long ago enough to be over soon, and bad enough for a kill.
        ended(&owner, action, "network_error", 25, "26 s").await;
    }
    ended(&owner, before, "network_error", 60, "90 s").await;
    let mut janitor = stack.janitor(&[FAST]).await;
    until(&stack.ops, "the one that was broken before", "select count(*) = 1 from actions.actions where killed_at is not null").await;
    until(&stack.ops, "held", HELD).await;
    ended(&owner, during, "http_error", 100, "0 s").await;
    until(&stack.ops, "the one that answers 5xx", "select count(*) = 2 from actions.actions where killed_at is not null").await;
    until(&stack.ops, "free", &HELD.replace("kills_held", "not kills_held")).await;
    janitor.logged("kills are free again").await;
    for action in &actions[3..] {
        ended(&owner, action, "ok", 2, "0 s").await;
    }
    ended(&owner, after, "network_error", 20, "0 s").await;
    until(&stack.ops, "the one that fails now", "select count(*) = 3 from actions.actions where killed_at is not null").await;
    let mut broken = [before.clone(), during.clone(), after.clone()];
    broken.sort();
    assert_eq!(killed(&stack).await, broken);
    let reason: String = sqlx::query_scalar("select killed_reason from actions.actions where action_id = $1")
        .bind(after)
        .fetch_one(&stack.ops)
        .await
        .unwrap();
    assert!(reason.contains("20 of 25 calls"), "nothing of the outage: {reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_actions_of_one_host_or_of_one_project_are_their_customers_fault() {
    let stack = answering(Reply::json("{}")).await;
    let owner = stack.database.owner().await;
    stack.project("one").await;
    let mut actions = Vec::new();
    for (n, trigger) in TRIGGERS.iter().enumerate() {
        actions.push(stack.action("one", trigger, &format!("https://own{n}.test/"), "").await);
        let project = format!("shares{n}");
        stack.project(&project).await;
        actions.push(stack.action(&project, "pre_register", "https://shared.test/", "").await);
    }
    age(&owner).await;
    let of_one_project: Vec<_> = actions.iter().step_by(2).collect();
    let of_one_host: Vec<_> = actions.iter().skip(1).step_by(2).collect();
    let _janitor = stack.janitor(&[FAST]).await;
    for (failing, wanted) in [(of_one_project, 6), (of_one_host, 12)] {
        for action in &failing {
            ended(&owner, action, "network_error", 25, "0 s").await;
        }
        until(&stack.ops, "killed", &format!("select count(*) = {wanted} from actions.actions where killed_at is not null")).await;
    }
    let held: i64 = sqlx::query_scalar("select count(*) from actions_private.kill_holds").fetch_one(&owner).await.unwrap();
    assert_eq!(held, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_customer_fails_for_long_does_not_hide_an_outage() {
    let stack = answering(Reply::json("{}")).await;
    let owner = stack.database.owner().await;
    let actions = thirty(&stack, "443").await;
    age(&owner).await;
    let (own, others) = actions.split_at(6);
    let (newcomer, others) = others.split_last().unwrap();
    // All of the first project fails, and is most of what is called; then everything does.
    for action in own {
        ended(&owner, action, "network_error", 60, "15 s").await;
    }
    for action in others {
        ended(&owner, action, "ok", 10, "15 s").await;
    }
    for action in own.iter().chain(others) {
        ended(&owner, action, "network_error", 4, "0 s").await;
    }
    ended(&owner, newcomer, "network_error", 25, "0 s").await;
    let _janitor = stack.janitor(&[FAST]).await;
    until(&stack.ops, "held", HELD).await;
    until(&stack.ops, "its own fault", "select count(*) >= 6 from actions.actions where killed_at is not null").await;
    let mut own = own.to_vec();
    own.sort();
    assert_eq!(killed(&stack).await, own, "not the newcomer, who has failed only since everything does");
}

#[tokio::test(flavor = "multi_thread")]
async fn fleet_health_is_one_row_that_says_what_is_wrong() {
    let stack = answering(Reply::json("{}")).await;
    let health = async || -> (String, Option<String>) {
        sqlx::query_as("select status, why from actions.fleet_health").fetch_one(&stack.ops).await.unwrap()
    };
    let (status, why) = health().await;
    assert_eq!((status.as_str(), why.as_deref()), ("down", Some("no worker is alive; no janitor is alive")));
    let mut worker = stack.worker(&[]).await;
    let mut janitor = stack.janitor(&[FAST]).await;
    janitor.logged("leading").await;
    let is_well = "select status = 'well' and why is null and workers_alive = 1 and janitors_alive = 1 and leader like '%'
        and not kills_held and checks_diagnosis = 'unknown' and default_partition_rows = 0 and mails_waiting = 0 from actions.fleet_health";
    until(&stack.ops, "well", is_well).await;
    let owner = stack.database.owner().await;
    sqlx::query("update actions_private.leadership set holder = null, expires_at = now() + interval '1 hour'")
        .execute(&owner)
        .await
        .unwrap();
    until(&stack.ops, "no leader", "select status = 'degraded' and why = 'no janitor leads' from actions.fleet_health").await;
    assert!(worker.drained().await.success());
    let (status, why) = health().await;
    assert_eq!((status.as_str(), why.as_deref()), ("down", Some("no worker is alive; no janitor leads")));
}
