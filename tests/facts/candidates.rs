//! A change is tried before it is trusted: in the shadow it decides nothing, as a canary for some people.

use authio_actions_testkit::endpoint::Reply;
use authio_actions_testkit::stack::Stack;
use serde_json::{Value, json};
use sqlx::PgPool;

use crate::support::{by_path, enqueue, invoke_event, refusal, repeat, until};

async fn one(pool: &PgPool, sql: &str) -> Value {
    sqlx::query_scalar::<_, Value>(&format!("select to_jsonb(r) from ({sql}) as r"))
        .fetch_one(pool)
        .await
        .unwrap_or_else(|error| panic!("{sql}: {error}"))
}

async fn candidate(stack: &Stack) -> Value {
    one(&stack.ops, "select * from actions.candidates order by started_at desc limit 1").await
}

async fn stage(stack: &Stack, action: &str, path: &str, mode: &str, percent: i32) {
    sqlx::query("select actions.stage_candidate($1, json_build_object('endpoint_url', $2::text), $3, $4, 'ada@acme.com')")
        .bind(action)
        .bind(stack.endpoint.url(path))
        .bind(mode)
        .bind(percent)
        .execute(&stack.admin)
        .await
        .unwrap();
}

async fn events(stack: &Stack, action: &str) -> Vec<String> {
    sqlx::query_scalar("select event from actions.audit_log where action_id = $1 and event like 'action.candidate%' order by at")
        .bind(action)
        .fetch_all(&stack.ops)
        .await
        .unwrap()
}

fn replies(path: &str) -> Reply {
    match path {
        "/deny" => Reply::json(r#"{"decision":"deny","deny_code":"no"}"#),
        "/claims" => Reply::json(r#"{"decision":"allow","override_claims":{"plan":"gold"}}"#),
        "/down" => Reply::with_status(503, ""),
        "/hang" => Reply::Hang,
        _ => Reply::json(r#"{"decision":"allow"}"#),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shadow_gets_the_same_event_afterwards_and_decides_nothing() {
    let stack = by_path(replies).await;
    stack.project("p").await;
    let action = stack.action("p", "pre_token_mint", &stack.endpoint.url("/"), "").await;
    let _worker = stack.worker(&[]).await;
    stage(&stack, &action, "/deny", "shadow", 100).await;
    let event = r#"{"user":{"id":"u"},"n":1.50}"#;
    let decided = invoke_event(&stack, "p", "pre_token_mint", event).await;
    assert_eq!(decided.outcome()["decision"], "allow");
    until(&stack.ops, "it was compared", "select calls = 1 from actions.candidates").await;
    let seen = candidate(&stack).await;
    for (field, value) in [
        ("version", json!(2)),
        ("mode", json!("shadow")),
        ("state", json!("running")),
        ("errors", json!(0)),
        ("same", json!(0)),
        ("differs", json!(1)),
        ("would_deny", json!(1)),
        ("would_allow", json!(0)),
        ("skipped", json!(0)),
    ] {
        assert_eq!(seen[field], value, "{field}: {seen}");
    }
    assert!(seen["p50_ms"].as_f64().unwrap() > 0.0);
    let result = one(&stack.ops, "select * from actions.candidate_results").await;
    assert_eq!(
        (&result["decision"], &result["differs"], &result["status"]),
        (&json!("deny"), &json!(["decision", "code"]), &json!("rejected"))
    );
    assert_eq!(result["invocation_id"], decided.id());
    let requests = stack.endpoint.requests();
    assert_eq!(requests.len(), 2);
    assert_eq!((requests[0].header("authio-mode"), requests[1].header("authio-mode")), ("", "shadow"));
    assert_eq!(requests[0].body, requests[1].body, "the same bytes");
    assert_ne!(requests[1].header("authio-signature"), "");
    // Test events never go to a candidate.
    sqlx::query("select actions.send_test_event($1)").bind(&action).execute(&stack.admin).await.unwrap();
    until(&stack.ops, "it ended", "select count(*) = 2 from actions.recent_invocations where finished_at is not null").await;
    // Promoted, it decides; nothing is compared any more.
    sqlx::query("select actions.promote_candidate($1, 'ada@acme.com')").bind(&action).execute(&stack.admin).await.unwrap();
    assert_eq!(invoke_event(&stack, "p", "pre_token_mint", event).await.outcome()["decision"], "deny");
    let row = one(&stack.ops, "select version, endpoint_url from actions.actions").await;
    assert!(row["version"] == 2 && row["endpoint_url"].as_str().unwrap().ends_with("/deny"), "{row}");
    assert_eq!((&candidate(&stack).await["state"], &candidate(&stack).await["calls"]), (&json!("promoted"), &json!(1)));
    assert_eq!(events(&stack, &action).await, ["action.candidate_staged", "action.candidate_promoted"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_the_same_and_what_differs_is_counted() {
    let stack = by_path(replies).await;
    stack.project("p").await;
    let action = stack.action("p", "pre_token_mint", &stack.endpoint.url("/"), "").await;
    let _worker = stack.worker(&[]).await;
    for (path, same, differs, errors, parts) in
        [("/other", 1, 0, 0, json!([])), ("/claims", 0, 1, 0, json!(["claims"])), ("/down", 0, 1, 1, json!(["status"]))]
    {
        stage(&stack, &action, path, "shadow", 100).await;
        invoke_event(&stack, "p", "pre_token_mint", "{}").await;
        until(&stack.ops, path, "select calls = 1 from actions.candidates where state = 'running'").await;
        let seen = candidate(&stack).await;
        assert_eq!((&seen["same"], &seen["differs"], &seen["errors"]), (&json!(same), &json!(differs), &json!(errors)), "{path}: {seen}");
        let result = one(&stack.ops, "select differs from actions.candidate_results order by at desc limit 1").await;
        assert_eq!(result["differs"], parts);
        sqlx::query("select actions.withdraw_candidate($1, 'ada@acme.com')").bind(&action).execute(&stack.admin).await.unwrap();
    }
    // Its failures trip nothing.
    let errors: i64 = sqlx::query_scalar("select errors from actions.action_health").fetch_one(&stack.ops).await.unwrap();
    assert_eq!(errors, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shadow_that_hangs_has_at_most_64_places_and_delays_nobody() {
    let stack = by_path(replies).await;
    stack.project("p").await;
    let action = stack.action("p", "pre_token_mint", &stack.endpoint.url("/"), "timeout_ms => 5000").await;
    let _worker = stack.worker(&[]).await;
    stage(&stack, &action, "/hang", "shadow", 100).await;
    let events =
        "select count(*) from generate_series(1, 100) as n, actions.enqueue('p', 'pre_token_mint', json_build_object('n', n)) as e";
    sqlx::query(events).execute(&stack.core).await.unwrap();
    until(&stack.ops, "all are decided", "select count(*) = 100 from actions.recent_invocations where status = 'ok'").await;
    until(&stack.ops, "those without a place are counted", "select skipped = 36 from actions.candidates").await;
    let longest: f64 =
        sqlx::query_scalar("select max(queue_ms + duration_ms) from actions.recent_invocations").fetch_one(&stack.ops).await.unwrap();
    assert!(longest < 4000.0, "nobody waits for a shadow: {longest}");
    until(&stack.ops, "the others time out", "select calls = 64 and errors = 64 from actions.candidates").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_decides_for_its_side_and_the_same_person_stays_there() {
    let stack = by_path(replies).await;
    stack.project("p").await;
    let action = stack.action("p", "pre_token_mint", &stack.endpoint.url("/"), "").await;
    let _workers = [stack.worker(&[]).await, stack.worker(&[]).await];
    stage(&stack, &action, "/deny", "canary", 50).await;
    let mut denied = 0;
    for n in 0..20 {
        let event = json!({"user": {"id": format!("user_{n}")}}).to_string();
        let first = invoke_event(&stack, "p", "pre_token_mint", &event).await;
        let again = invoke_event(&stack, "p", "pre_token_mint", &event).await;
        assert_eq!(first.outcome()["decision"], again.outcome()["decision"], "user_{n}");
        denied += i64::from(first.outcome()["decision"] == "deny");
    }
    assert!((3..=17).contains(&denied), "{denied} of 20");
    let modes: Vec<String> = stack.endpoint.requests().iter().map(|request| request.header("authio-mode").to_owned()).collect();
    assert_eq!(modes.iter().filter(|mode| *mode == "canary").count() as i64, 2 * denied);
    let flagged: i64 = sqlx::query_scalar("select count(*) from actions.recent_invocations where canary and action_version = 2")
        .fetch_one(&stack.ops)
        .await
        .unwrap();
    assert_eq!(flagged, 2 * denied);
    until(&stack.ops, "all are counted", &format!("select calls = {} and denies = calls from actions.candidates", 2 * denied)).await;
    // Of the kill-switch none of them is any business.
    let calls: i64 = sqlx::query_scalar("select calls from actions.action_health").fetch_one(&stack.ops).await.unwrap();
    assert_eq!(calls, 40 - 2 * denied);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_that_fails_withdraws_itself_with_its_twentieth_call() {
    let stack = by_path(replies).await;
    stack.project("p").await;
    let action = stack.action("p", "pre_token_mint", &stack.endpoint.url("/"), "").await;
    sqlx::query(r#"select actions.set_project_members('p', '[{"email":"ada@acme.com","role":"owner"}]')"#)
        .execute(&stack.admin)
        .await
        .unwrap();
    let _worker = stack.worker(&[]).await;
    let _janitors = [stack.janitor(&[]).await, stack.janitor(&[]).await];
    stage(&stack, &action, "/down", "canary", 100).await;
    for n in 1..=19 {
        invoke_event(&stack, "p", "pre_token_mint", "{}").await;
        assert_eq!(candidate(&stack).await["state"], "running", "after {n}");
    }
    until(&stack.ops, "19 are counted", "select calls = 19 from actions.candidates").await;
    assert_eq!(invoke_event(&stack, "p", "pre_token_mint", "{}").await.outcome()["status"], "http_error");
    until(&stack.ops, "it was withdrawn", "select state = 'withdrawn' from actions.candidates").await;
    let seen = one(&stack.ops, "select reason, ended_at - (select max(finished_at) from actions.recent_invocations) < interval '2 seconds' as in_time from actions.candidates").await;
    assert!(seen["in_time"] == true && seen["reason"].as_str().unwrap().contains("20 of 20"), "{seen}");
    assert_eq!(invoke_event(&stack, "p", "pre_token_mint", "{}").await.outcome()["status"], "ok");
    let actors: Vec<String> = sqlx::query_scalar("select actor from actions.audit_log where event = 'action.candidate_withdrawn'")
        .fetch_all(&stack.ops)
        .await
        .unwrap();
    assert_eq!(actors, ["system"], "once, however many janitors there are");
    let mails: i64 =
        sqlx::query_scalar("select count(*) from actions.mails where subject like '%was withdrawn'").fetch_one(&stack.ops).await.unwrap();
    assert_eq!(mails, 1);
    let killed: i64 =
        sqlx::query_scalar("select count(*) from actions.actions where killed_at is not null").fetch_one(&stack.ops).await.unwrap();
    assert_eq!(killed, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_candidate_at_a_time_and_whatever_changes_the_action_withdraws_it() {
    let stack = by_path(replies).await;
    stack.project("p").await;
    let action = stack.action("p", "pre_token_mint", &stack.endpoint.url("/"), "").await;
    let refused = async |sql: &str, message: &str| {
        let [code, said, ..] = refusal(&stack.admin, &sql.replace("ACTION", &action)).await;
        assert!(code == "22023" && said.contains(message), "{sql}: {code} {said}");
    };
    refused("select actions.promote_candidate('ACTION', 'a')", "no candidate that runs").await;
    refused("select actions.withdraw_candidate('ACTION', 'a')", "no candidate that runs").await;
    refused("select actions.stage_candidate('ACTION', '{\"timeout_ms\":99}', 'shadow', 1, 'a')", "timeout_ms is 99").await;
    refused("select actions.stage_candidate('ACTION', '{}', 'ghost', 1, 'a')", "mode is 'ghost'").await;
    refused("select actions.stage_candidate('ACTION', '{}', 'shadow', 0, 'a')", "percent is 0").await;
    refused("select actions.stage_candidate('ACTION', '{}', 'shadow', 101, 'a')", "percent is 101").await;
    for (change, reason) in [
        ("select actions.update_action('ACTION', '{\"timeout_ms\":900}', 'a')", "the action was updated"),
        ("select actions.set_enabled('ACTION', false, 'a')", "the action was disabled"),
        ("select actions.delete_action('ACTION', 'a')", "the action was deleted"),
    ] {
        sqlx::query("select actions.set_enabled($1, true, 'a')").bind(&action).execute(&stack.admin).await.unwrap();
        stage(&stack, &action, "/other", "canary", 100).await;
        refused("select actions.stage_candidate('ACTION', '{}', 'shadow', 1, 'a')", "has a candidate that runs").await;
        sqlx::query(&change.replace("ACTION", &action)).execute(&stack.admin).await.unwrap();
        let seen = candidate(&stack).await;
        assert_eq!((&seen["state"], &seen["reason"]), (&json!("withdrawn"), &json!(reason)));
    }
    let versions: i64 = sqlx::query_scalar("select count(distinct version) from actions.candidates").fetch_one(&stack.ops).await.unwrap();
    assert_eq!(versions, 3, "each has a number of its own");
}

#[tokio::test(flavor = "multi_thread")]
async fn promoted_or_withdrawn_while_calls_are_in_flight_each_is_decided_once() {
    let stack = by_path(replies).await;
    stack.project("p").await;
    let action = stack.action("p", "pre_token_mint", &stack.endpoint.url("/"), "").await;
    let _workers = [stack.worker(&[]).await, stack.worker(&[]).await];
    for n in 0..4 {
        stage(&stack, &action, "/deny", if n % 2 == 0 { "canary" } else { "shadow" }, 50).await;
        let many = "select count(*) from generate_series(1, 50) as n, actions.enqueue('p', 'pre_token_mint', json_build_object('user', json_build_object('id', 'u' || n))) as e";
        let end = if n < 2 { "select actions.withdraw_candidate($1, 'a')" } else { "select actions.promote_candidate($1, 'a')" };
        let (enqueued, ended) = tokio::join!(sqlx::query(many).execute(&stack.core), async {
            // Two at once: one of them finds nothing.
            let both = tokio::join!(
                sqlx::query(end).bind(&action).execute(&stack.admin),
                sqlx::query("select actions.withdraw_candidate($1, 'b')").bind(&action).execute(&stack.admin)
            );
            i32::from(both.0.is_ok()) + i32::from(both.1.is_ok())
        });
        enqueued.unwrap();
        assert_eq!(ended, 1);
        until(
            &stack.ops,
            "all are decided",
            &format!("select count(*) = {} from actions.recent_invocations where status in ('ok', 'rejected')", 50 * (n + 1)),
        )
        .await;
    }
    let enforced = stack.endpoint.requests().iter().filter(|request| request.header("authio-mode") != "shadow").count();
    assert_eq!(enforced, 200, "each was sent once");
    let running: i64 =
        sqlx::query_scalar("select count(*) from actions.candidates where state = 'running'").fetch_one(&stack.ops).await.unwrap();
    assert_eq!(running, 0);
    enqueue(&stack.core, "p", "pre_token_mint", "{}").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_dies_with_shadow_calls_in_flight_takes_nothing_along() {
    let stack = by_path(replies).await;
    stack.project("p").await;
    let action = stack.action("p", "pre_token_mint", &stack.endpoint.url("/"), "timeout_ms => 5000").await;
    let worker = stack.worker(&[]).await;
    stage(&stack, &action, "/hang", "shadow", 100).await;
    for _ in 0..5 {
        assert_eq!(invoke_event(&stack, "p", "pre_token_mint", "{}").await.outcome()["decision"], "allow");
    }
    repeat(async || stack.endpoint.requests().len() == 10).await;
    drop(worker); // at once, with nothing written down
    let _other = stack.worker(&[]).await;
    assert_eq!(invoke_event(&stack, "p", "pre_token_mint", "{}").await.outcome()["decision"], "allow");
    let rows: i64 =
        sqlx::query_scalar("select count(*) from actions.recent_invocations where status = 'ok'").fetch_one(&stack.ops).await.unwrap();
    assert_eq!(rows, 6, "each once");
    let enforced = stack.endpoint.requests().iter().filter(|request| request.header("authio-mode").is_empty()).count();
    assert_eq!(enforced, 6);
    assert_eq!(candidate(&stack).await["state"], "running");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_for_none_of_it_pays_for_none_of_it() {
    let stack = by_path(replies).await;
    stack.project("p").await;
    stack.action("p", "pre_token_mint", &stack.endpoint.url("/"), "fail_mode => 'closed'").await;
    let _worker = stack.worker(&[]).await;
    // Whoever looks into an event, or writes something down beside its outcome, fails.
    let owner = stack.database.owner().await;
    for name in
        ["user_of", "side_of", "is_met", "breaks_glass", "keep_events", "keep_last_known", "keep_candidate_results", "last_known_of"]
    {
        let definition: String = sqlx::query_scalar(
            "select format('create or replace function %s(%s) returns %s language plpgsql as ', p.oid::regproc, pg_get_function_arguments(p.oid), pg_get_function_result(p.oid))
             from pg_proc as p where p.proname = $1 and p.pronamespace = 'actions_private'::regnamespace",
        )
        .bind(name)
        .fetch_one(&owner)
        .await
        .unwrap();
        let body = "$$ begin raise exception 'nobody asked for this'; end $$";
        sqlx::query(&format!("{definition}{body}")).execute(&owner).await.unwrap();
    }
    for event in ["{}", r#"{"user":{"id":"u"}}"#] {
        assert_eq!(invoke_event(&stack, "p", "pre_token_mint", event).await.outcome()["source"], "verdict");
    }
    let many = "select count(*) from actions.enqueue_many('[{\"project_id\":\"p\",\"trigger\":\"pre_token_mint\",\"event\":{}},{\"project_id\":\"p\",\"trigger\":\"pre_token_mint\",\"event\":{}}]', 'x')";
    sqlx::query(many).execute(&stack.core).await.unwrap();
    until(&stack.ops, "all are decided", "select count(*) = 4 from actions.recent_invocations where status = 'ok'").await;
}
