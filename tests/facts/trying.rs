//! Last known roles, recorded events, kills that take themselves back, warnings and alerts.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use authio_actions_testkit::endpoint::Reply;

use authio_actions_testkit::stack::Stack;
use authio_actions_testkit::webhook::Webhook;
use serde_json::{Value, json};

use crate::support::{by_path, enqueue, invoke, invoke_event, refusal, until};

const GIVES: &str =
    r#"{"decision":"allow","override_roles":["auditor","member"],"override_permissions":["read"],"override_claims":{"limit":1.50}}"#;

/// An endpoint that can be switched off.
async fn switched(verdict: &'static str) -> (Stack, Arc<AtomicBool>) {
    let is_down = Arc::new(AtomicBool::new(false));
    let switch = Arc::clone(&is_down);
    let stack = by_path(move |path| {
        if path == "/deny" {
            Reply::json(r#"{"decision":"deny"}"#)
        } else if switch.load(Ordering::Relaxed) {
            Reply::with_status(503, "")
        } else {
            Reply::json(verdict)
        }
    })
    .await;
    stack.project("p").await;
    (stack, is_down)
}

fn event(user: &str, organization: Option<&str>) -> String {
    let mut event = json!({"user": {"id": user}, "session": {"id": "s"}});
    if let Some(organization) = organization {
        event["session"]["organization_id"] = organization.into();
    }
    event.to_string()
}

async fn count(stack: &Stack, sql: &str) -> i64 {
    sqlx::query_scalar(sql).fetch_one(&stack.database.owner().await).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_endpoint_fails_what_it_gave_the_person_last_still_applies() {
    let (stack, is_down) = switched(GIVES).await;
    let action = stack.action("p", "pre_token_mint", &stack.endpoint.url("/"), "last_known_s => 600").await;
    let _worker = stack.worker(&[]).await;
    let ask =
        async |user: &str, organization| invoke_event(&stack, "p", "pre_token_mint", &event(user, organization)).await.outcome.unwrap();
    let given = ask("user_1", Some("org_1")).await;
    ask("user_1", None).await;
    until(&stack.database.owner().await, "both are kept", "select count(*) = 2 from actions_private.last_known").await;
    is_down.store(true, Ordering::Relaxed);
    let known = ask("user_1", Some("org_1")).await;
    assert_eq!((&known["source"], &known["status"], &known["decision"]), (&json!("last_known"), &json!("http_error"), &json!("allow")));
    for field in ["roles", "permissions", "claims"] {
        assert_eq!(known[field], given[field], "{field}");
    }
    assert!(known["age_ms"].as_u64().is_some_and(|age| age < 60_000), "{known}");
    assert_eq!(ask("user_1", None).await["source"], "last_known");
    for (user, organization) in [("user_2", Some("org_1")), ("user_1", Some("org_2"))] {
        assert_eq!(ask(user, organization).await["source"], "fail_open", "{user} {organization:?}");
    }
    // A deny in between changes nothing.
    let to = async |path: &str| {
        sqlx::query("select actions.update_action($1, json_build_object('endpoint_url', $2::text))")
            .bind(&action)
            .bind(stack.endpoint.url(path))
            .execute(&stack.admin)
            .await
            .unwrap();
    };
    to("/deny").await;
    assert_eq!(ask("user_1", Some("org_1")).await["decision"], "deny");
    to("/").await;
    assert_eq!(ask("user_1", Some("org_1")).await["source"], "last_known");
    // What the project does not know or allow any more is not applied.
    sqlx::query("select actions.set_project_roles('p', array['member'])").execute(&stack.admin).await.unwrap();
    assert_eq!(ask("user_1", Some("org_1")).await["roles"], json!(["member"]));
    sqlx::query("select actions.upsert_project('p', 'Acme', false)").execute(&stack.admin).await.unwrap();
    let without = ask("user_1", Some("org_1")).await;
    assert_eq!((&without["roles"], &without["permissions"], &without["claims"]), (&Value::Null, &Value::Null, &given["claims"]));
    // Too old, or denied by fail_mode: nothing applies.
    let owner = stack.database.owner().await;
    sqlx::query("update actions_private.last_known set at = at - interval '601 seconds'").execute(&owner).await.unwrap();
    assert_eq!(ask("user_1", Some("org_1")).await["source"], "fail_open");
    let dump: String = sqlx::query_scalar("select coalesce(string_agg(k::text, ''), '') from actions_private.last_known as k")
        .fetch_one(&owner)
        .await
        .unwrap();
    assert!(!dump.contains("user_1") && !dump.contains("auditor") && !dump.contains(&hex::encode("user_1")), "{dump}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_events_of_people_are_kept_as_ciphertext_and_erased_on_request() {
    let (stack, _) = switched("{}").await;
    let action = stack.action("p", "pre_register", &stack.endpoint.url("/"), "record_events => 3, condition => '$.n < 100'").await;
    let _worker = stack.worker(&[]).await;
    for n in 0..5 {
        invoke_event(&stack, "p", "pre_register", &json!({"n": n, "user": {"id": "user_secret"}}).to_string()).await;
    }
    enqueue(&stack.core, "p", "pre_register", r#"{"n": 100}"#).await;
    sqlx::query("select actions.send_test_event($1)").bind(&action).execute(&stack.admin).await.unwrap();
    until(&stack.ops, "all ended", "select count(*) = 6 from actions.recent_invocations where finished_at is not null").await;
    until(&stack.ops, "three are kept", "select count(*) = 3 from actions.recorded_events").await;
    let newest: Vec<String> =
        sqlx::query_scalar("select event_id from actions.recent_invocations where not test order by enqueued_at desc limit 3")
            .fetch_all(&stack.ops)
            .await
            .unwrap();
    let kept: Vec<(String, i32, bool)> = sqlx::query_as(
        "select event_id, bytes, expires_at - recorded_at between interval '1439 minutes' and interval '1441 minutes' from actions.recorded_events order by recorded_at desc",
    )
    .fetch_all(&stack.ops)
    .await
    .unwrap();
    assert_eq!(kept.iter().map(|(id, ..)| id.clone()).collect::<Vec<_>>(), newest);
    for (event, bytes, in_a_day) in &kept {
        let sent = stack.endpoint.requests().iter().find(|request| request.json()["event_id"] == event.as_str()).unwrap().body.len();
        assert!(*in_a_day && usize::try_from(*bytes).unwrap() == sent, "{kept:?}");
    }
    let dump: String = sqlx::query_scalar("select string_agg(e::text, '') from actions_private.recorded_events as e")
        .fetch_one(&stack.database.owner().await)
        .await
        .unwrap();
    assert!(!dump.contains("user_secret") && !dump.contains(&hex::encode("user_secret")));
    // Lowered, it is trimmed; then erased by hand, and off.
    sqlx::query("select actions.update_action($1, '{\"record_events\": 2}')").bind(&action).execute(&stack.admin).await.unwrap();
    assert_eq!(count(&stack, "select count(*) from actions_private.recorded_events").await, 2);
    let gone: i64 =
        sqlx::query_scalar("select actions.forget_events($1, 'ada@acme.com')").bind(&action).fetch_one(&stack.admin).await.unwrap();
    assert_eq!((gone, count(&stack, "select count(*) from actions_private.recorded_events").await), (2, 0));
    assert_eq!(
        count(&stack, "select count(*) from actions_private.audit_log where event = 'action.events_forgotten' and actor = 'ada@acme.com'")
            .await,
        1
    );
    invoke_event(&stack, "p", "pre_register", r#"{"n": 1}"#).await;
    until(&stack.ops, "one is kept", "select count(*) = 1 from actions.recorded_events").await;
    sqlx::query("select actions.update_action($1, '{\"record_events\": 0}')").bind(&action).execute(&stack.admin).await.unwrap();
    assert_eq!(count(&stack, "select count(*) from actions_private.recorded_events").await, 0);
    // No program but a worker and whoever sends them again comes near.
    for role in ["core", "ops", "janitor"] {
        let login = stack.database.login(role).await;
        assert_eq!(refusal(&login, "select * from actions_private.recorded_events").await[0], "42501", "{role}");
        assert_eq!(refusal(&login, "select * from actions_private.last_known").await[0], "42501", "{role}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_action_that_probes_takes_itself_back_after_five_good_answers() {
    let (stack, is_down) = switched("{}").await;
    sqlx::query(r#"select actions.set_project_members('p', '[{"email":"ada@acme.com","role":"owner"}]')"#)
        .execute(&stack.admin)
        .await
        .unwrap();
    let action = stack.action("p", "pre_register", &stack.endpoint.url("/"), "recovery => 'probe'").await;
    let _worker = stack.worker(&[]).await;
    let _janitor = stack
        .janitor(&[
            ("ACTIONS_KILL_SWITCH__CONSECUTIVE_5XX", "2"),
            ("ACTIONS_KILL_SWITCH__PROBE_EVERY_S", "1"),
            ("ACTIONS_KILL_SWITCH__TICK_MS", "100"),
        ])
        .await;
    is_down.store(true, Ordering::Relaxed);
    for kill in 1..=3 {
        for _ in 0..2 {
            invoke(&stack, "p", "pre_register").await;
        }
        let killed = format!("select count(*) = {kill} from actions.audit_log where event = 'action.killed'");
        until(&stack.ops, "it was killed", &killed).await;
        if kill == 3 {
            break;
        }
        is_down.store(false, Ordering::Relaxed);
        until(&stack.ops, "it took itself back", "select killed_at is null from actions.actions").await;
        let oks = "select count(*) from actions_private.invocations where test and status = 'ok'";
        assert!(count(&stack, oks).await >= 5 * kill, "five in a row each time");
        is_down.store(true, Ordering::Relaxed);
    }
    // Three times within an hour: test events tell nothing of this endpoint.
    until(&stack.ops, "it is manual", "select recovery = 'manual' and killed_at is not null from actions.actions").await;
    let events: Vec<(String, String)> = sqlx::query_as(
        "select event, actor from actions.audit_log where action_id = $1 and event in ('action.reenabled', 'action.updated') order by at",
    )
    .bind(&action)
    .fetch_all(&stack.ops)
    .await
    .unwrap();
    let system = |event: &str| (event.to_owned(), "system".to_owned());
    assert_eq!(events, [system("action.reenabled"), system("action.reenabled"), system("action.updated")]);
    assert_eq!(count(&stack, "select count(*) from actions_private.mail_outbox where subject like '%is called again'").await, 2);
    // A kill by hand is nobody's to take back, also where the fleet had killed it before.
    sqlx::query("select actions.kill_action($1, 'for good')").bind(&action).execute(&stack.admin).await.unwrap();
    assert_eq!(count(&stack, "select count(*) from actions_private.actions where killed_by_hand and killed_reason = 'for good'").await, 1);
    sqlx::query("select actions.reenable_action($1)").bind(&action).execute(&stack.admin).await.unwrap();
    sqlx::query("select actions.update_action($1, '{\"recovery\": \"probe\"}')").bind(&action).execute(&stack.admin).await.unwrap();
    let before = count(&stack, "select count(*) from actions_private.invocations where test").await;
    sqlx::query("select actions.kill_action($1, 'why')").bind(&action).execute(&stack.admin).await.unwrap();
    let ticks = "select count(*) > 0 from actions_private.processes where kind = 'janitor' and seen_at > $1::timestamptz";
    let now: String = sqlx::query_scalar("select clock_timestamp()::text").fetch_one(&stack.ops).await.unwrap();
    until(&stack.database.owner().await, "the janitor went on", &ticks.replace("$1", &format!("'{now}'"))).await;
    assert_eq!(count(&stack, "select count(*) from actions_private.invocations where test").await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn seven_tenths_of_a_trip_are_told_once_and_less_is_not() {
    let (stack, is_down) = switched("{}").await;
    sqlx::query(
        r#"select actions.set_project_members('p', '[{"email":"ada@acme.com","role":"owner"},{"email":"bob@acme.com","role":"viewer"}]')"#,
    )
    .execute(&stack.admin)
    .await
    .unwrap();
    let action = stack.action("p", "pre_register", &stack.endpoint.url("/"), "").await;
    let _worker = stack.worker(&[]).await;
    let settings = [
        ("ACTIONS_KILL_SWITCH__CONSECUTIVE_5XX", "10"),
        ("ACTIONS_KILL_SWITCH__MIN_SAMPLES", "1000"),
        ("ACTIONS_KILL_SWITCH__TICK_MS", "50"),
    ];
    let _janitor = stack.janitor(&settings).await;
    is_down.store(true, Ordering::Relaxed);
    let warned = "select count(*) from actions_private.audit_log where event = 'action.warned'";
    for _ in 0..6 {
        invoke(&stack, "p", "pre_register").await;
    }
    until(&stack.ops, "six are seen", "select consecutive_5xx = 6 from actions.action_health").await;
    assert_eq!(count(&stack, warned).await, 0);
    invoke(&stack, "p", "pre_register").await;
    until(&stack.database.owner().await, "it was warned", &format!("select ({warned}) = 1")).await;
    let why: String = sqlx::query_scalar("select details ->> 'reason' from actions.audit_log where event = 'action.warned'")
        .fetch_one(&stack.ops)
        .await
        .unwrap();
    assert_eq!(why, "7 consecutive 5xx responses");
    invoke(&stack, "p", "pre_register").await;
    // Another leader, which remembers nothing.
    drop(_janitor);
    let _other = stack.janitor(&settings).await;
    until(&stack.ops, "it leads", "select bool_or(leads and alive) from actions.fleet").await;
    invoke(&stack, "p", "pre_register").await;
    invoke(&stack, "p", "pre_register").await;
    until(&stack.ops, "it was killed", "select killed_at is not null from actions.actions").await;
    assert_eq!(count(&stack, warned).await, 1, "once an hour");
    let mails: Vec<String> =
        sqlx::query_scalar("select recipient from actions_private.mail_outbox where action_id = $1 and subject like '%close to being%'")
            .bind(&action)
            .fetch_all(&stack.database.owner().await)
            .await
            .unwrap();
    assert_eq!(mails, ["ada@acme.com"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_hear_of_kills_and_withdrawn_candidates_at_their_own_webhook() {
    let (stack, is_down) = switched("{}").await;
    let mut webhook = Webhook::start(&[500, 200]).await;
    let action = stack.action("p", "pre_register", &stack.endpoint.url("/"), "").await;
    let _worker = stack.worker(&[]).await;
    let metrics = authio_actions_testkit::scrape::free_address();
    let janitor = stack
        .janitor(&[
            ("ACTIONS_ALERTS__WEBHOOK_URL", &format!("{}/services/T0KEN", webhook.url)),
            ("ACTIONS_KILL_SWITCH__CONSECUTIVE_5XX", "2"),
            ("ACTIONS_METRICS__LISTEN", &metrics),
        ])
        .await;
    until(&stack.ops, "it leads", "select bool_or(leads) from actions.fleet").await;
    is_down.store(true, Ordering::Relaxed);
    for _ in 0..2 {
        invoke(&stack, "p", "pre_register").await;
    }
    let (path, body) = webhook.next().await;
    assert_eq!(path, "/services/T0KEN");
    let text = body["text"].as_str().unwrap().to_owned();
    assert!(text.contains(&action) && text.contains("was killed (by system): 2 consecutive 5xx"), "{text}");
    // The first answer was an error: it is told again.
    assert_eq!(webhook.next().await.1["text"].as_str().unwrap(), text);
    assert!(authio_actions_testkit::scrape::value(&metrics, "actions_alerts_total{kind=\"kill\",result=\"failed\"}").await >= 1.0);
    assert!(!janitor.log().contains("T0KEN"), "the webhook is a secret");
}
