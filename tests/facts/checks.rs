//! Test events that the fleet sends by itself, and what they tell.

use authio_actions_testkit::endpoint::Reply;
use authio_actions_testkit::stack::Stack;
use sqlx::Row;

use crate::support::{by_path, refusal, until};

const FAST: &[(&str, &str)] = &[("ACTIONS_KILL_SWITCH__TICK_MS", "50")];

/// Projects named like the paths that their actions call, all of them checked.
async fn checked(stack: &Stack, paths: &[&str]) {
    for path in paths {
        stack.project(path).await;
        let action = stack.action(path, "pre_register", &stack.endpoint.url(&format!("/{path}")), "").await;
        sqlx::query("select actions.update_action($1, '{\"check_every_s\": 10}', 'ada')").bind(action).execute(&stack.admin).await.unwrap();
    }
}

/// Each action's diagnosis, by project.
async fn diagnoses(stack: &Stack) -> Vec<(String, String)> {
    let rows =
        sqlx::query("select project_id, diagnosis from actions.check_health order by project_id").fetch_all(&stack.ops).await.unwrap();
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

fn failing_where(bad: &'static [&'static str]) -> impl Fn(&str) -> Reply + Send + Sync + 'static {
    move |path| if bad.contains(&&path[1..]) { Reply::with_status(503, "{}") } else { Reply::json("{}") }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_action_that_opted_in_is_sent_test_events_by_one_janitor_and_its_health_stands_beside_the_real_one() {
    let stack = by_path(failing_where(&["bad"])).await;
    checked(&stack, &["bad", "good"]).await;
    stack.project("unchecked").await;
    stack.action("unchecked", "pre_register", &stack.endpoint.url("/unchecked"), "").await;
    let _programs = [stack.worker(&[]).await, stack.janitor(FAST).await, stack.janitor(FAST).await];
    let finished = "select count(*) = 2 from actions.recent_invocations where test and finished_at is not null";
    until(&stack.ops, "both were checked", finished).await;
    // Ten seconds pass for one of them.
    let owner = stack.database.owner().await;
    sqlx::query("update actions_private.checks set sent_at = sent_at - interval '10 s' where action_id in (select action_id from actions.actions where project_id = 'good')")
        .execute(&owner)
        .await
        .unwrap();
    until(&stack.ops, "it was checked again", &finished.replace("= 2", ">= 3")).await;
    let paths: Vec<String> = stack.endpoint.requests().iter().map(|request| request.path.clone()).collect();
    assert!(paths.iter().filter(|path| *path == "/good").count() >= 2, "{paths:?}");
    assert!(!paths.contains(&"/unchecked".to_owned()), "{paths:?}");
    assert!(stack.endpoint.requests().iter().all(|request| request.json()["metadata"]["test"] == true));
    assert_eq!(diagnoses(&stack).await, [("bad", "endpoint"), ("good", "well")].map(|(a, b)| (a.to_owned(), b.to_owned())));
    let health = "select project_id, calls, last_check_status, check_diagnosis from actions.action_health order by project_id";
    let rows = sqlx::query(health).fetch_all(&stack.ops).await.unwrap();
    let rows: Vec<(String, i64, Option<String>, Option<String>)> =
        rows.iter().map(|row| (row.get(0), row.get(1), row.get(2), row.get(3))).collect();
    let row = |project: &str, told: Option<(&str, &str)>| {
        (project.to_owned(), 0, told.map(|(status, _)| status.to_owned()), told.map(|(_, diagnosis)| diagnosis.to_owned()))
    };
    assert_eq!(rows, [row("bad", Some(("http_error", "endpoint"))), row("good", Some(("ok", "well"))), row("unchecked", None)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_for_most_is_told_apart_from_one_customers_failure() {
    let stack = by_path(failing_where(&["a", "b", "c"])).await;
    checked(&stack, &["a", "b", "c", "d"]).await;
    let _worker = stack.worker(&[]).await;
    let mut janitor = stack.janitor(FAST).await;
    janitor.logged("the fault is ours").await;
    until(&stack.ops, "the one that is well is known", "select diagnosis = 'well' from actions.check_health where project_id = 'd'").await;
    let wanted = [("a", "fleet"), ("b", "fleet"), ("c", "fleet"), ("d", "well")];
    assert_eq!(diagnoses(&stack).await, wanted.map(|(project, diagnosis)| (project.to_owned(), diagnosis.to_owned())));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_that_no_worker_took_blames_the_fleet() {
    let stack = by_path(failing_where(&[])).await;
    checked(&stack, &["alone"]).await;
    let mut janitor = stack.janitor(FAST).await;
    janitor.logged("the fault is ours").await;
    assert_eq!(diagnoses(&stack).await, [("alone".to_owned(), "fleet".to_owned())]);
}

#[tokio::test(flavor = "multi_thread")]
async fn how_often_is_10_seconds_to_a_day_or_never() {
    let stack = by_path(failing_where(&[])).await;
    checked(&stack, &["p"]).await;
    for given in ["9", "86401", "\"10\"", "1.5"] {
        let change = format!("select actions.update_action((select action_id from actions.actions), '{{\"check_every_s\": {given}}}')");
        let [code, message, ..] = refusal(&stack.admin, &change).await;
        assert!(code == "22023" && message.contains("check_every_s"), "{given}: {message}");
    }
}
