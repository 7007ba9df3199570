//! One primary after the other goes, and how soon everything serves again.

use std::collections::HashSet;
use std::io::Write;
use std::time::Duration;

use authio_actions::client::{Client, Options};
use authio_actions::domain::Trigger;
use serde_json::json;
use sqlx::PgPool;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use crate::cluster::{Cluster, End};
use crate::load::Load;
use crate::{Site, projects};

/// What does not serve by then serves never.
const PATIENCE: Duration = Duration::from_secs(30);
const WORKERS: usize = 2;
/// More than one worker may call at once.
const AT_ONCE: usize = 32;

/// How long each took from the new primary's answering until everything served.
pub async fn run(cluster: &mut Cluster, site: &mut Site, load: &Load, count: u64) -> Vec<Duration> {
    println!("  round  the primary                      away     serves again after");
    let client = Client::connect(&Options::new(&site.stack.database.url("core"))).await.expect("auth-core's client");
    let mut rounds = Vec::new();
    for n in 1..=count {
        let end = [End::Switchover, End::Crash, End::Vanish][usize::try_from(n - 1).unwrap_or_default() % 3];
        steady(load).await;
        let from = cluster.primary_name().await;
        let what = match end {
            End::Switchover => "hands over",
            End::Crash => "crashes",
            End::Vanish => "vanishes",
        };
        print!("  {n:>5}  {from} {what:<11}");
        let _ = std::io::stdout().flush();
        let (to, away) = cluster.end_primary(end).await;
        let (back, last) = serves_again(site, &client).await;
        let (_, others) = load.look();
        let others_said: String = others.iter().map(|(what, count)| format!(", {count} {what}")).collect();
        println!("to {to}  {:>6.1} s  {:>6.2} s ({last}){others_said}", away.as_secs_f64(), back.as_secs_f64());
        rounds.push(back);
        cluster.repair().await;
    }
    rounds
}

/// People sign in as ever for a second; what happened before is forgotten.
async fn steady(load: &Load) {
    let mut turns = tokio::time::interval(Duration::from_secs(1));
    turns.tick().await;
    load.look();
    turns.tick().await;
    let (mut served, others) = load.look();
    served.sort();
    let half = served.get(served.len() / 2).copied().unwrap_or_default();
    assert!(!served.is_empty() && others.is_empty(), "nothing is wrong, and {} were served, {others:?}", served.len());
    println!("         {} events a second, half of them within {:.1} ms", served.len(), half.as_secs_f64() * 1000.0);
}

/// How long until everything serves, and what took longest.
async fn serves_again(site: &mut Site, client: &Client) -> (Duration, &'static str) {
    let began = Instant::now();
    let ops = site.stack.ops.clone();
    let browser = &mut site.browser;
    let (mut worked, mut led, mut shown) = (began, began, began);
    let workers = async {
        by_each_worker(client, &ops).await;
        worked = Instant::now();
    };
    let janitors = async {
        repeat(async || {
            let leads = "select leader is not null from actions.fleet_health";
            sqlx::query_scalar(leads).fetch_one(&ops).await.unwrap_or(false)
        })
        .await;
        led = Instant::now();
    };
    let console = async {
        loop {
            if timeout(Duration::from_secs(3), browser.get("/")).await.is_ok_and(|seen| seen.status == 200) {
                break;
            }
        }
        shown = Instant::now();
    };
    timeout(PATIENCE, async { tokio::join!(workers, janitors, console) })
        .await
        .unwrap_or_else(|_| panic!("not everything serves after {PATIENCE:?}"));
    let last = [(worked, "a worker"), (led, "a janitor"), (shown, "the console")].into_iter().max_by_key(|(at, _)| *at);
    let (at, what) = last.expect("three");
    (at.duration_since(began), what)
}

/// Returns when each worker had an event since.
async fn by_each_worker(client: &Client, ops: &PgPool) {
    let mut answered_by: HashSet<String> = HashSet::new();
    repeat(async || {
        let mut asked = JoinSet::new();
        for project in projects().cycle().take(AT_ONCE) {
            let client = client.clone();
            asked.spawn(async move { client.invoke(&project, Trigger::PreRegister, &json!({})).await });
        }
        let answers = asked.join_all().await;
        let ids: Vec<String> = answers.into_iter().flatten().filter_map(|answer| answer.invocation_id).collect();
        let seen = "select distinct worker from actions.recent_invocations where invocation_id = any($1) and status = 'ok'";
        let seen: Vec<String> = sqlx::query_scalar(seen).bind(&ids).fetch_all(ops).await.unwrap_or_default();
        answered_by.extend(seen);
        answered_by.len() == WORKERS
    })
    .await;
}

async fn repeat(mut question: impl AsyncFnMut() -> bool) {
    let mut turns = tokio::time::interval(Duration::from_millis(20));
    while !question().await {
        turns.tick().await;
    }
}
