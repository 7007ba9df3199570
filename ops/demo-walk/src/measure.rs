//! What the fleet adds to the bare HTTPS call, measured here and now.

use std::time::{Duration, Instant};

use authio_actions::client::{Client, Options};
use authio_actions::domain::{Status, Trigger};
use authio_actions::egress::{Egress, Phases, Request};
use authio_actions::{config::Config, sign};
use authio_actions_testkit::receiver;
use authio_actions_testkit::stack::{ROOT_KEY, Stack};
use serde_json::json;

use crate::screen::Screen;

const CALLS: usize = 200;

pub async fn run(stack: &Stack, screen: &Screen) {
    screen.chapter("What the fleet adds");
    screen.step(&format!("{CALLS} calls one after the other: bare, then through the fleet"));
    stack.project("measured").await;
    let action = stack.action("measured", "pre_authenticate", &stack.endpoint.url("/ok"), "").await;
    let bare = bare(stack, &action).await;
    let fleet = fleet(stack).await;
    screen.fact("bare HTTPS call", &describe(&bare));
    screen.fact("via the fleet", &describe(&fleet));
    let added = median(&fleet).saturating_sub(median(&bare));
    screen.fact("added per call", &format!("{:.2} ms in the median", added.as_secs_f64() * 1000.0));
}

/// The same request over a kept connection, without queue, database and verdict.
async fn bare(stack: &Stack, action: &str) -> Vec<Duration> {
    let config = Config::load(None, stack.environment("core", &[]).into_iter()).expect("the worker's configuration");
    let egress = Egress::new(&config.egress).expect("the worker's rules");
    let secret = sign::Secret::from_text(&receiver::secret(ROOT_KEY, action, 1));
    let body = json!({"event_id": "evt_bare", "user": {"id": "user_alice"}}).to_string();
    let mut times = Vec::new();
    for _ in 0..CALLS {
        let mut phases = Phases::default();
        let started = Instant::now();
        let deadline = tokio::time::Instant::now() + Duration::from_secs(2);
        let target = egress.clear(&stack.endpoint.url("/ok"), deadline, &mut phases).await.expect("a permitted URL");
        let signature = sign::header(&[&secret], receiver::now(), body.as_bytes());
        let headers = [(sign::REQUEST_HEADER, signature.as_str()), ("authio-action-id", action)];
        let answer = egress
            .post("bare", &target, Request { headers: &headers, body: body.clone() }, deadline, &mut phases)
            .await
            .expect("an answer");
        assert_eq!(answer.http_status, 200);
        times.push(started.elapsed());
    }
    times
}

async fn fleet(stack: &Stack) -> Vec<Duration> {
    let client = Client::connect(&Options::new(&stack.database.url("core"))).await.expect("auth-core's client");
    let mut times = Vec::new();
    for _ in 0..CALLS {
        let started = Instant::now();
        let answer = client.invoke("measured", Trigger::PreAuthenticate, &json!({"user": {"id": "user_alice"}})).await.expect("an outcome");
        assert_eq!(answer.outcome.status, Status::Ok);
        times.push(started.elapsed());
    }
    times
}

fn at(times: &[Duration], share: f64) -> Duration {
    let mut sorted = times.to_vec();
    sorted.sort();
    sorted[((sorted.len() - 1) as f64 * share).round() as usize]
}

fn median(times: &[Duration]) -> Duration {
    at(times, 0.5)
}

fn describe(times: &[Duration]) -> String {
    let ms = |share| at(times, share).as_secs_f64() * 1000.0;
    format!("p50 {:.2} ms, p90 {:.2} ms, p99 {:.2} ms", ms(0.5), ms(0.9), ms(0.99))
}
