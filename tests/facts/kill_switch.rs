//! When an action is killed, and what a kill does.

use authio_actions_lab::endpoint::Reply;
use authio_actions_lab::stack::Stack;
use serde_json::Value;
use sqlx::{PgPool, Row};

use crate::support::{answering, ask, enqueue, heard, result, until};

const FAST: &[(&str, &str)] = &[("ACTIONS_KILL_SWITCH__TICK_MS", "50"), ("ACTIONS_DASHBOARD__URL", "https://dash.example")];

/// Writes finished calls into the history, as workers would: `age` before now, one after the other.
async fn history(owner: &PgPool, action: &str, status: &str, count: i32, age: &str) {
    let http_status = if status == "http_error" { "503" } else { "null" };
    let sql = format!(
        "insert into actions_private.invocations
           (id, event_id, project_id, trigger, action_id, action_version, test, status, outcome, http_status, enqueued_at, finished_at)
         select actions_private.new_id('inv_'), actions_private.new_id('evt_'), 'p', 'pre_register', $1, 1, false, '{status}', '{{}}', {http_status},
           clock_timestamp(), clock_timestamp() - '{age}'::interval + n * interval '1 microsecond'
         from generate_series(1, {count}) as n"
    );
    sqlx::query(&sql).bind(action).execute(owner).await.unwrap();
}

async fn killed_action() -> (Stack, PgPool, String) {
    let stack = answering(Reply::json("{}")).await;
    let owner = stack.database.owner().await;
    stack.project("p").await;
    let members = r#"[{"email":"o@acme.com","role":"owner"},{"email":"a@acme.com","role":"admin"},{"email":"m@acme.com","role":"member"}]"#;
    sqlx::query("select actions.set_project_members('p', $1::json)").bind(members).execute(&stack.admin).await.unwrap();
    let action = stack.action("p", "pre_register", &stack.endpoint.url("/"), "").await;
    // The history may be older than the action.
    sqlx::query("update actions_private.actions set counting_since = now() - interval '1 day'").execute(&owner).await.unwrap();
    (stack, owner, action)
}

async fn is_killed(stack: &Stack) {
    until(&stack.ops, "killed", "select killed_at is not null from actions.actions").await;
}

/// Two looks of the leader after now have come and gone.
async fn looked_twice(owner: &PgPool) {
    let lease: String = sqlx::query_scalar("select expires_at::text from actions_private.leadership").fetch_one(owner).await.unwrap();
    until(owner, "a look", &format!("select expires_at > '{lease}'::timestamptz + interval '120 ms' from actions_private.leadership"))
        .await;
}

async fn is_spared(stack: &Stack, owner: &PgPool) {
    looked_twice(owner).await;
    let killed: bool = sqlx::query_scalar("select killed_at is not null from actions.actions").fetch_one(&stack.ops).await.unwrap();
    assert!(!killed);
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_trip_strictly_above_half_of_twenty_or_more() {
    let (stack, owner, action) = killed_action().await;
    let _janitor = stack.janitor(FAST).await;
    history(&owner, &action, "network_error", 19, "3 s").await;
    is_spared(&stack, &owner).await;
    history(&owner, &action, "rejected", 19, "2 s").await;
    is_spared(&stack, &owner).await;
    history(&owner, &action, "invalid_response", 1, "1 s").await;
    is_killed(&stack).await;
    let reason: String = sqlx::query_scalar("select killed_reason from actions.actions").fetch_one(&stack.ops).await.unwrap();
    assert!(reason.contains("error rate 51 %") && reason.contains("20 of 39"), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_is_one_transaction_of_switch_audit_mails_and_waiters() {
    let (stack, owner, action) = killed_action().await;
    let mut listener = sqlx::postgres::PgListener::connect(&stack.database.url("core")).await.unwrap();
    listener.listen("waiter").await.unwrap();
    let queued = ask(&stack.core, "actions.enqueue('p', 'pre_register', '{}', 'waiter')", &[]).await.unwrap().remove(0);
    history(&owner, &action, "timeout", 20, "10 s").await;
    let _janitor = stack.janitor(FAST).await;
    assert_eq!(heard(&mut listener, queued.id()).await.status, "killed");
    assert_eq!(result(&stack.core, queued.id()).await.outcome()["source"], "killed");
    let audit = sqlx::query("select project_id, actor, details from actions.audit_log where event = 'action.killed'")
        .fetch_one(&stack.ops)
        .await
        .unwrap();
    assert_eq!((audit.get::<&str, _>(0), audit.get::<&str, _>(1)), ("p", "system"));
    assert!(audit.get::<Value, _>(2)["reason"].as_str().unwrap().contains("timeout rate 100 %"));
    let mails = sqlx::query("select recipient, subject, text_body, html_body from actions_private.mail_outbox order by recipient")
        .fetch_all(&owner)
        .await
        .unwrap();
    assert_eq!(mails.iter().map(|mail| mail.get::<&str, _>(0)).collect::<Vec<_>>(), ["a@acme.com", "o@acme.com"]);
    let text: &str = mails[0].get(2);
    let link = format!("https://dash.example/projects/p/actions/{action}");
    assert!(
        text.contains("\"Sample\"") && text.contains("timeout rate") && text.contains(&link) && mails[0].get::<&str, _>(3).contains(&link),
        "{text}"
    );
    assert_eq!(enqueue(&stack.core, "p", "pre_register", "{}").await.status, "killed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_5xx_in_a_row_trip_whenever_they_happened_and_ninety_nine_do_not() {
    let (stack, owner, action) = killed_action().await;
    history(&owner, &action, "http_error", 99, "2 hours").await;
    let _janitor = stack.janitor(FAST).await;
    is_spared(&stack, &owner).await;
    history(&owner, &action, "http_error", 1, "0 s").await;
    is_killed(&stack).await;
    let reason: String = sqlx::query_scalar("select killed_reason from actions.actions").fetch_one(&stack.ops).await.unwrap();
    assert_eq!(reason, "100 consecutive 5xx responses");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_the_fleets_fault_and_what_left_the_window_never_counts() {
    let (stack, owner, action) = killed_action().await;
    history(&owner, &action, "expired", 50, "10 s").await;
    history(&owner, &action, "killed", 50, "10 s").await;
    history(&owner, &action, "network_error", 50, "301 s").await;
    history(&owner, &action, "ok", 20, "1 s").await;
    let _janitor = stack.janitor(FAST).await;
    is_spared(&stack, &owner).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_re_enabled_action_starts_afresh() {
    let (stack, owner, action) = killed_action().await;
    history(&owner, &action, "network_error", 30, "10 s").await;
    let _janitor = stack.janitor(FAST).await;
    is_killed(&stack).await;
    sqlx::query("select actions.reenable_action($1, 'ada')").bind(&action).execute(&stack.admin).await.unwrap();
    is_spared(&stack, &owner).await;
    assert_eq!(enqueue(&stack.core, "p", "pre_register", "{}").await.status, "queued");
    let actor: String =
        sqlx::query_scalar("select actor from actions.audit_log where event = 'action.reenabled'").fetch_one(&stack.ops).await.unwrap();
    assert_eq!(actor, "ada");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_janitor_leads_and_another_takes_over_when_it_is_killed() {
    let (stack, owner, action) = killed_action().await;
    let mut first = stack.janitor(FAST).await;
    first.logged("leading").await;
    let mut second = stack.janitor(FAST).await;
    until(&stack.ops, "both report themselves", "select count(*) = 2 and count(*) filter (where leads) = 1 from actions.fleet").await;
    assert!(!second.log().contains("leading"));
    first.kill().await;
    second.logged("leading").await;
    history(&owner, &action, "timeout", 20, "1 s").await;
    is_killed(&stack).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_janitor_whose_epoch_is_over_kills_nobody() {
    let (_stack, owner, action) = killed_action().await;
    let old: i64 = sqlx::query_scalar("select actions_private.take_lead('old', '0 s')").fetch_one(&owner).await.unwrap();
    let new: i64 = sqlx::query_scalar("select actions_private.take_lead('new', '1 hour')").fetch_one(&owner).await.unwrap();
    assert!(new > old);
    let kill = "select actions_private.kill_action($1, $2, (select counting_since from actions_private.actions), 'r', '{}', 's', 't', 'h')";
    for (epoch, killed) in [(old, false), (new, true), (new, false)] {
        assert_eq!(sqlx::query_scalar::<_, bool>(kill).bind(epoch).bind(&action).fetch_one(&owner).await.unwrap(), killed);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn action_health_tells_how_far_a_trip_is() {
    let (stack, owner, action) = killed_action().await;
    history(&owner, &action, "ok", 15, "10 s").await;
    history(&owner, &action, "http_error", 5, "9 s").await;
    let row = sqlx::query("select * from actions.action_health").fetch_one(&stack.ops).await.unwrap();
    assert_eq!((row.get::<i64, _>("calls"), row.get::<i64, _>("errors"), row.get::<i64, _>("consecutive_5xx")), (20, 5, 5));
    assert_eq!(row.get::<f64, _>("error_ratio"), 0.25);
    // 15 good ones and 16 bad ones are strictly above half.
    assert_eq!((row.get::<i64, _>("errors_until_trip"), row.get::<i64, _>("consecutive_5xx_until_trip")), (11, 95));
}
