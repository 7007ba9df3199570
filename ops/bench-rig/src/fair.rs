//! Does one slow customer slow another, and does everybody get a share in order of arrival?

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use authio_actions::client::{Client, Options};
use authio_actions::domain::Trigger;
use hdrhistogram::Histogram;
use serde_json::json;
use sqlx::Row;

use crate::endpoint::HANG;
use crate::findings::Findings;
use crate::load::{Load, Way, steady};
use crate::report::{line, median};
use crate::stand::Stand;
use crate::ways::client::Fleet;

const QUICK_PROJECTS: usize = 20;
const QUICK_RATE: u32 = 5;
const HANGING_RATE: u32 = 200;
const ACTIONS: usize = 2000;
const EVENTS_OF_EACH: usize = 2;

pub async fn run(lasting: Duration, repetitions: usize, results: &Path) {
    let mut findings = Findings::default();
    beside_a_hanging_endpoint(&mut findings, lasting, repetitions).await;
    beside_a_burst(&mut findings, repetitions).await;
    in_order_of_arrival(&mut findings).await;
    findings.save(results, "fair");
}

async fn beside_a_hanging_endpoint(findings: &mut Findings, lasting: Duration, repetitions: usize) {
    let stand = Stand::start().await;
    // No janitor: its kill-switch would end the nuisance within seconds.
    let mut programs = [stand.worker(&[]).await];
    let client = Client::connect(&Options::new(&stand.database.url("core"))).await.expect("auth-core's client");
    let mut quick = Vec::new();
    for n in 0..QUICK_PROJECTS {
        let project = format!("quick_{n}");
        stand.project(&project, "/").await;
        quick.push(Arc::new(Fleet::of(client.clone(), &project)));
    }
    stand.project("hanging", HANG).await;
    let hanging = Arc::new(Hanging(client.clone()));
    let (mut without, mut with) = (Vec::new(), Vec::new());
    all(&quick, QUICK_RATE, lasting / 5).await;
    for _ in 0..repetitions {
        without.push(all(&quick, QUICK_RATE, lasting).await);
        let nuisance = tokio::spawn({
            let hanging = Arc::clone(&hanging);
            async move { steady(&hanging, Load::Open(HANGING_RATE), lasting + HANGING_START).await }
        });
        tokio::time::sleep(HANGING_START).await; // until as many hang as will at a time
        with.push(all(&quick, QUICK_RATE, lasting).await);
        let nuisance = nuisance.await.expect("the nuisance");
        line(&format!("p99 without {:.2} ms, beside {} hanging calls {:.2} ms", last(&without), nuisance.calls, last(&with)));
    }
    findings.at_most("p99 beside a hanging endpoint over without", median(&with) / median(&without), 1.5, "x");
    stand.end(&mut programs).await;
}

/// One project reports a great many events at once while others go on as ever.
async fn beside_a_burst(findings: &mut Findings, repetitions: usize) {
    let stand = Stand::start().await;
    let mut programs = [stand.worker(&[]).await, stand.worker(&[]).await];
    let client = Client::connect(&Options::new(&stand.database.url("core"))).await.expect("auth-core's client");
    let mut steadies = Vec::new();
    for n in 0..STEADY_PROJECTS {
        let project = format!("steady_{n}");
        stand.project(&project, "/").await;
        steadies.push(Arc::new(Fleet::of(client.clone(), &project)));
    }
    stand.project("rushing", "/").await;
    let (mut without, mut with) = (Vec::new(), Vec::new());
    all(&steadies, STEADY_RATE, BESIDE_A_BURST / 2).await;
    for _ in 0..repetitions {
        without.push(all(&steadies, STEADY_RATE, BESIDE_A_BURST).await);
        let core = stand.database.login("core").await;
        let burst = tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(500)).await;
            let rush = "select count(*) from actions.enqueue_many(array_fill('rushing'::text, array[$1]),
                array_fill('pre_authenticate'::text, array[$1]), array_fill('{\"user\":{\"id\":\"user_1\"}}'::json, array[$1]), null, null)";
            sqlx::query(rush).bind(BURST).execute(&core).await.expect("a burst");
        });
        with.push(all(&steadies, STEADY_RATE, BESIDE_A_BURST).await);
        burst.await.expect("the burst");
        let ended = "select count(*) from actions_private.queue";
        while sqlx::query_scalar::<_, i64>(ended).fetch_one(&stand.owner).await.expect("a count") > 0 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        line(&format!("p99 without {:.2} ms, beside a burst of {BURST} {:.2} ms", last(&without), last(&with)));
    }
    findings.at_most("p99 beside a burst over without", median(&with) / median(&without), 2.0, "x");
    stand.end(&mut programs).await;
}

const STEADY_PROJECTS: usize = 10;
const STEADY_RATE: u32 = 20;
const BURST: i32 = 20_000;
/// Some seconds more than a burst lasts.
const BESIDE_A_BURST: Duration = Duration::from_secs(6);

/// The time after which as many calls hang as ever will: their timeout.
const HANGING_START: Duration = Duration::from_secs(6);

fn last(numbers: &[f64]) -> f64 {
    numbers.last().copied().unwrap_or_default()
}

/// Everybody at their own rate at once; the p99 of all calls together.
async fn all(ways: &[Arc<Fleet>], rate: u32, lasting: Duration) -> f64 {
    let mut running = tokio::task::JoinSet::new();
    for (n, way) in ways.iter().enumerate() {
        let way = Arc::clone(way);
        running.spawn(async move {
            tokio::time::sleep(Duration::from_millis(7) * u32::try_from(n).expect("a small number")).await;
            steady(&way, Load::Open(rate), lasting).await
        });
    }
    let mut latency = Histogram::<u64>::new(3).expect("valid bounds");
    while let Some(measured) = running.join_next().await {
        let measured = measured.expect("a project");
        assert!(measured.errors == 0, "{:?}", measured.error);
        latency.add(measured.latency).expect("it grows");
    }
    latency.value_at_quantile(0.99) as f64 / 1e6
}

/// A call that times out is what is expected of it.
struct Hanging(Client);

impl Way for Hanging {
    async fn call(&self) -> Result<(), String> {
        let answer = self.0.invoke("hanging", Trigger::PreAuthenticate, &json!({})).await;
        answer.map(|_| ()).map_err(|error| error.to_string())
    }
}

/// Everything is in the queue before the worker starts; then the claims must come in the
/// order of arrival, whoever asked.
async fn in_order_of_arrival(findings: &mut Findings) {
    let stand = Stand::start().await;
    sqlx::query(
        "select actions.upsert_project('p' || n, 'Fair', false), actions.create_action('p' || n, 'pre_authenticate', $1, 'Fair', timeout_ms => 5000)
         from generate_series(1, $2) as n",
    )
    .bind(stand.endpoint.url("/"))
    .bind(ACTIONS as i64)
    .execute(&stand.admin)
    .await
    .expect("actions");
    for _ in 0..EVENTS_OF_EACH {
        let all = "select count(*) from actions.enqueue_many((select array_agg('p' || n) from generate_series(1, $1) as n),
            array_fill('pre_authenticate'::text, array[$1]), array_fill('{}'::json, array[$1]), null, 'nobody')";
        sqlx::query(all).bind(ACTIONS as i32).execute(&stand.owner).await.expect("events");
    }
    let mut programs = [stand.worker(&[]).await];
    let wanted = (ACTIONS * EVENTS_OF_EACH) as i64;
    while sqlx::query_scalar::<_, i64>("select count(*) from actions_private.invocations").fetch_one(&stand.owner).await.expect("a count")
        < wanted
    {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let order = sqlx::query(
        "with claimed as (
           select action_id, status, id, enqueued_at + queue_ms * interval '1 millisecond' as claimed_at from actions_private.invocations
         ), ranked as (
           select *, max(claimed_at) over (order by id rows unbounded preceding) as latest_before from claimed
         )
         select count(*) filter (where status = 'ok'), extract(epoch from max(latest_before - claimed_at))::float8 * 1000,
           extract(epoch from max(claimed_at) - min(claimed_at))::float8 * 1000
         from ranked",
    )
    .fetch_one(&stand.owner)
    .await
    .expect("the order");
    let (served, behind, whole): (i64, f64, f64) = (order.get(0), order.get(1), order.get(2));
    line(&format!("{served} of {wanted} events of {ACTIONS} actions served, claimed within {whole:.0} ms"));
    findings.at_least("events served in time", served as f64, wanted as f64, "");
    findings.at_most("claimed after one that came later", behind, 20.0, "ms");
    stand.end(&mut programs).await;
}
