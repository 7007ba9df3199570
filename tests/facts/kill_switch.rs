//! When an action is killed, and what a kill does.

use authio_actions_testkit::endpoint::Reply;
use authio_actions_testkit::process::Program;
use authio_actions_testkit::server::Server;
use authio_actions_testkit::stack::Stack;
use serde_json::Value;
use sqlx::{PgPool, Postgres, Row, Transaction};

use crate::support::{answering, ask, enqueue, heard, result, until};

const FAST: &[(&str, &str)] = &[("ACTIONS_KILL_SWITCH__TICK_MS", "50"), ("ACTIONS_DASHBOARD__URL", "https://dash.example")];

/// Writes finished calls into the history, as workers would: `age` before now, one after the other.
async fn history(owner: &PgPool, action: &str, status: &str, count: i32, age: &str) {
    let http_status = if status == "http_error" { "503" } else { "null" };
    let sql = format!(
        "insert into actions_private.invocations
           (id, event_id, project_id, trigger, action_id, action_version, test, status, outcome, http_status, enqueued_at, finished_at)
         select actions_private.new_id('inv_'), actions_private.new_id('evt_'), a.project_id, a.trigger, a.id, 1, false, '{status}', '{{}}', {http_status},
           clock_timestamp(), clock_timestamp() - '{age}'::interval + n * interval '1 microsecond'
         from generate_series(1, {count}) as n, actions_private.actions as a where a.id = $1"
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
    until(&stack.ops, "killed", "select killed_at is not null from actions.actions where project_id = 'p'").await;
}

/// Two looks of the leader after now have come and gone: each found an action to kill, of another project.
async fn looked_twice(owner: &PgPool) {
    const DECOY: &str = "select id from actions_private.actions where project_id = 'decoy'";
    if sqlx::query(DECOY).fetch_optional(owner).await.unwrap().is_none() {
        let made = "select actions.upsert_project('decoy', 'Decoy'),
                      actions.create_action('decoy', 'pre_register', 'https://decoy.example/', 'A decoy')";
        sqlx::query(made).execute(owner).await.unwrap();
    }
    let decoy: String = sqlx::query_scalar(DECOY).fetch_one(owner).await.unwrap();
    for _ in 0..2 {
        sqlx::query("select actions.reenable_action($1, 'ada')").bind(&decoy).execute(owner).await.unwrap();
        history(owner, &decoy, "timeout", 20, "0 s").await;
        until(owner, "a look", &format!("select killed_at is not null from actions_private.actions where id = '{decoy}'")).await;
    }
}

async fn is_spared(stack: &Stack, owner: &PgPool) {
    looked_twice(owner).await;
    let killed: bool =
        sqlx::query_scalar("select killed_at is not null from actions.actions where project_id = 'p'").fetch_one(&stack.ops).await.unwrap();
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
    let reason: String =
        sqlx::query_scalar("select killed_reason from actions.actions where project_id = 'p'").fetch_one(&stack.ops).await.unwrap();
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
    let reason: String =
        sqlx::query_scalar("select killed_reason from actions.actions where project_id = 'p'").fetch_one(&stack.ops).await.unwrap();
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
async fn what_went_well_before_an_action_was_enabled_again_does_not_hide_what_fails_since() {
    let (stack, owner, action) = killed_action().await;
    let _janitor = stack.janitor(FAST).await;
    history(&owner, &action, "ok", 1000, "1 s").await;
    is_spared(&stack, &owner).await;
    for enabled in ["false", "true"] {
        sqlx::query(&format!("select actions.set_enabled($1, {enabled}, 'ada')")).bind(&action).execute(&stack.admin).await.unwrap();
    }
    history(&owner, &action, "timeout", 20, "0 s").await;
    is_killed(&stack).await;
    sqlx::query("select actions.reenable_action($1, 'ada')").bind(&action).execute(&stack.admin).await.unwrap();
    history(&owner, &action, "network_error", 20, "0 s").await;
    is_killed(&stack).await;
    let reason: String =
        sqlx::query_scalar("select killed_reason from actions.actions where project_id = 'p'").fetch_one(&stack.ops).await.unwrap();
    assert!(reason.contains("20 of 20"), "{reason}");
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

#[tokio::test(flavor = "multi_thread")]
async fn one_error_among_nineteen_or_twenty_calls_is_nothing() {
    let (stack, owner, action) = killed_action().await;
    let _janitor = stack.janitor(FAST).await;
    history(&owner, &action, "timeout", 1, "3 s").await;
    history(&owner, &action, "ok", 18, "2 s").await;
    is_spared(&stack, &owner).await;
    history(&owner, &action, "ok", 1, "1 s").await;
    is_spared(&stack, &owner).await;
}

/// Kills and mails so far.
async fn kills(owner: &PgPool) -> (i64, i64) {
    let count = "select (select count(*) from actions_private.audit_log where event = 'action.killed' and project_id = 'p'), (select count(*) from actions_private.mail_outbox)";
    let row = sqlx::query(count).fetch_one(owner).await.unwrap();
    (row.get(0), row.get(1))
}

const KILL_WAITS: &str = "select exists (
    select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock' and query like '-- kill:%')";

/// A leader whose kill stops before its mails, with the switch and the audit event written but
/// not committed; it goes on when the gate is.
async fn at_the_gate(stack: &Stack, owner: &PgPool, action: &str) -> (Program, Transaction<'static, Postgres>) {
    let mut leader = stack.janitor(FAST).await;
    leader.logged("leading").await;
    let mut gate = owner.begin().await.unwrap();
    sqlx::query("lock table actions_private.mail_outbox in share mode").execute(&mut *gate).await.unwrap();
    history(owner, action, "http_error", 100, "1 s").await;
    until(owner, "the kill waits at the gate", KILL_WAITS).await;
    (leader, gate)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_killed_in_the_middle_of_a_kill_leaves_nothing_of_it_and_the_next_one_kills_once() {
    let (stack, owner, action) = killed_action().await;
    let (mut first, gate) = at_the_gate(&stack, &owner, &action).await;
    first.kill().await;
    gate.commit().await.unwrap();
    until(&owner, "its transaction is gone", &KILL_WAITS.replace("select exists", "select not exists")).await;
    assert_eq!(kills(&owner).await, (0, 0), "nothing of it was committed");
    let _second = stack.janitor(FAST).await;
    is_killed(&stack).await;
    looked_twice(&owner).await;
    assert_eq!(kills(&owner).await, (1, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_was_paused_finds_another_in_its_place_and_kills_nobody_again() {
    let (stack, owner, action) = killed_action().await;
    let mut first = stack.janitor(FAST).await;
    first.logged("leading").await;
    first.signal("STOP").await;
    let mut second = stack.janitor(FAST).await;
    second.logged("leading").await;
    history(&owner, &action, "timeout", 20, "1 s").await;
    is_killed(&stack).await;
    first.signal("CONT").await;
    first.logged("another janitor leads now").await;
    looked_twice(&owner).await;
    assert_eq!(kills(&owner).await, (1, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_paused_in_the_middle_of_a_kill_does_not_keep_the_next_one_from_it() {
    let (stack, owner, action) = killed_action().await;
    let (mut first, gate) = at_the_gate(&stack, &owner, &action).await;
    first.signal("STOP").await;
    gate.commit().await.unwrap();
    let _second = stack.janitor(FAST).await;
    is_killed(&stack).await;
    first.signal("CONT").await;
    first.logged("another janitor leads now").await;
    looked_twice(&owner).await;
    assert_eq!(kills(&owner).await, (1, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_changing_an_action_holds_up_its_kill_and_no_other() {
    let (stack, owner, held) = killed_action().await;
    stack.project("q").await;
    let other = stack.action("q", "pre_register", &stack.endpoint.url("/"), "").await;
    let mut change = stack.admin.begin().await.unwrap();
    sqlx::query("select actions.update_action($1, '{\"timeout_ms\": 300}')").bind(&held).execute(&mut *change).await.unwrap();
    let _janitor = stack.janitor(FAST).await;
    for action in [&held, &other] {
        history(&owner, action, "timeout", 20, "1 s").await;
    }
    until(&stack.ops, "the other is killed", "select killed_at is not null from actions.actions where project_id = 'q'").await;
    change.commit().await.unwrap();
    until(&stack.ops, "and then the one that was held", "select bool_and(killed_at is not null) from actions.actions").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_of_the_database_costs_the_leader_nothing_but_the_time() {
    let server = Server::start();
    let programs = crate::support::programs();
    let database = authio_actions_testkit::database::Database::create_on(server.url(), &programs.join("actionsctl")).await;
    let stack = Stack::on(database, &programs, |_| std::future::ready(Reply::json("{}"))).await;
    stack.project("p").await;
    let action = stack.action("p", "pre_register", &stack.endpoint.url("/"), "").await;
    let mut janitor = stack.janitor(FAST).await;
    janitor.logged("leading").await;
    let owner = stack.database.owner().await;
    history(&owner, &action, "timeout", 19, "2 s").await;
    server.run("restart", "fast");
    let owner = stack.database.owner().await;
    history(&owner, &action, "timeout", 1, "1 s").await;
    let killed = "select killed_at is not null from actions_private.actions";
    until(&owner, "killed, with what was counted before", killed).await;
}
