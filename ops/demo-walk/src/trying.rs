//! A change is tried before it is trusted: in the shadow it would have denied, as a canary it withdraws itself.

use std::time::{Duration, Instant};

use authio_actions::client::{Client, Options};
use authio_actions::domain::{Decision, Trigger};
use authio_actions_testkit::stack::Stack;
use serde_json::{Value, json};

use crate::screen::Screen;

/// What takes longer is a surprise.
const PATIENCE: Duration = Duration::from_secs(20);

pub async fn run(stack: &Stack, screen: &Screen) {
    screen.chapter("A change is tried before it is trusted");
    let client = Client::connect(&Options::new(&stack.database.url("core"))).await.expect("auth-core's client");
    stack.project("careful").await;
    let action = stack.action("careful", "post_authenticate", &stack.endpoint.url("/ok"), "").await;
    let sign_in = async |n: usize| {
        let event = json!({"user": {"id": format!("user_{n}"), "email": format!("user_{n}@acme.com")}});
        client.invoke("careful", Trigger::PostAuthenticate, &event).await.expect("an outcome").outcome
    };

    screen.step("In the shadow: the new endpoint gets the same events afterwards");
    stage(stack, &action, "/fraud", "shadow", 100).await;
    for n in 0..10 {
        assert_eq!(sign_in(n).await.decision, Decision::Allow, "a shadow decides nothing");
    }
    let seen = until(stack, &action, |seen| seen["calls"] == 10).await;
    screen.fact("ten people", "signed in: the current version decided");
    screen.fact("candidate", &format!("{} calls, {} the same, {} would have been denied", seen["calls"], seen["same"], seen["would_deny"]));
    assert_eq!(seen["would_deny"], 10);
    sqlx::query("select actions.withdraw_candidate($1, 'ada@acme.com')").bind(&action).execute(&stack.admin).await.expect("withdrawn");
    screen.verdict(true, "nobody noticed, and Acme leaves it at that");

    screen.step("As a canary: it decides for half of the people, and fails");
    stage(stack, &action, "/down", "canary", 50).await;
    let began = Instant::now();
    let mut people = 0;
    let seen = loop {
        sign_in(people).await;
        people += 1;
        let seen = candidate(stack, &action).await;
        if seen["state"] == "withdrawn" {
            break seen;
        }
        assert!(began.elapsed() < PATIENCE, "a canary that fails goes: {seen}");
    };
    screen.fact("withdrawn", &format!("by the janitor, {:.1} s after it began", began.elapsed().as_secs_f64()));
    screen.fact("because", seen["reason"].as_str().unwrap_or_default());
    screen.verdict(true, "everybody is on the current version again, whose kill-switch never heard of it");
}

async fn stage(stack: &Stack, action: &str, path: &str, mode: &str, percent: i32) {
    let changes = json!({ "endpoint_url": stack.endpoint.url(path) }).to_string();
    let stage = "select actions.stage_candidate($1, $2::json, $3, $4, 'ada@acme.com')";
    sqlx::query(stage).bind(action).bind(changes).bind(mode).bind(percent).execute(&stack.admin).await.expect("a candidate");
}

async fn candidate(stack: &Stack, action: &str) -> Value {
    let newest = "select to_jsonb(c) from actions.candidates as c where c.action_id = $1 order by c.started_at desc limit 1";
    sqlx::query_scalar(newest).bind(action).fetch_one(&stack.ops).await.expect("a candidate")
}

async fn until(stack: &Stack, action: &str, is_there: impl Fn(&Value) -> bool) -> Value {
    let began = Instant::now();
    loop {
        let seen = candidate(stack, action).await;
        if is_there(&seen) {
            return seen;
        }
        assert!(began.elapsed() < PATIENCE, "{seen}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
