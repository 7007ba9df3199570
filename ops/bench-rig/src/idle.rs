//! What the fleet takes when there is little to do: nothing, or next to it.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use authio_actions_testkit::process::Program;
use sqlx::Row;

use crate::cost::{Counters, Meter, memory_mib};
use crate::endpoint::HANG;
use crate::findings::Findings;
use crate::load::{Load, steady};
use crate::report::{line, median};
use crate::stand::{PROJECT, Stand};
use crate::ways::client::Fleet;
use crate::ways::sql::Sql;

const WORKERS: usize = 4;
const CALLS: usize = 4096;
const STARTS: usize = 5;

pub async fn run(lasting: Duration, results: &Path) {
    let mut findings = Findings::default();
    resting(&mut findings, lasting).await;
    single_events(&mut findings, lasting).await;
    starting(&mut findings).await;
    holding(&mut findings).await;
    findings.save(results, "idle");
}

/// Four workers and the janitor with nothing to do.
async fn resting(findings: &mut Findings, lasting: Duration) {
    let stand = Stand::start().await;
    // What PostgreSQL does without the fleet, autovacuum above all, is not the fleet's.
    let alone = a_second(&stand.meter(&[]).await, lasting).await;
    let mut programs = vec![stand.janitor().await];
    for _ in 0..WORKERS {
        programs.push(stand.worker(&[]).await);
    }
    let meter = stand.meter(&programs).await;
    tokio::time::sleep(Duration::from_secs(3)).await; // what starting up takes is counted elsewhere
    let resting = a_second(&meter, lasting).await;
    line(&format!("{WORKERS} workers and the janitor, idle for {} s", lasting.as_secs()));
    findings.at_most("workers and janitor, of a core", 100.0 * resting.worker_s, 1.0, "%");
    findings.at_most("PostgreSQL for them, of a core", 100.0 * (resting.postgres_s - alone.postgres_s), 1.0, "%");
    findings.at_most("statements a second", resting.commits - alone.commits, 10.0, "");
    stand.end(&mut programs).await;
}

/// What is spent in a second, on the average over `lasting`.
async fn a_second(meter: &Meter, lasting: Duration) -> Counters {
    let before = meter.read().await;
    tokio::time::sleep(lasting).await;
    let after = meter.read().await;
    let spent = |of: fn(&Counters) -> f64| (of(&after) - of(&before)) / lasting.as_secs_f64();
    Counters { worker_s: spent(|now| now.worker_s), postgres_s: spent(|now| now.postgres_s), commits: spent(|now| now.commits), ..before }
}

/// One event a second, through the gathering client, and as a statement on a connection of its own.
async fn single_events(findings: &mut Findings, lasting: Duration) {
    let stand = Stand::start().await;
    let mut programs = [stand.janitor().await, stand.worker(&[]).await];
    let gathered = Arc::new(Fleet::connect(&stand.database.url("core")).await);
    let ungathered = Arc::new(Sql::over(&stand.database.url("core"), 1).await);
    let mut p50 = [Vec::new(), Vec::new()];
    for _ in 0..3 {
        p50[0].push(steady(&gathered, Load::Open(1), lasting / 3).await.ms(0.5));
        p50[1].push(steady(&ungathered, Load::Open(1), lasting / 3).await.ms(0.5));
    }
    let [with, without] = p50.map(|all| median(&all));
    line(&format!("one event a second: p50 gathered {with:.2} ms, ungathered {without:.2} ms"));
    findings.at_most("gathering adds at 1/s, p50", with - without, 0.2, "ms");
    stand.end(&mut programs).await;
}

/// From the start of the process to the first claim, by the clock that both share.
async fn starting(findings: &mut Findings) {
    let stand = Stand::start().await;
    let mut took = Vec::new();
    for _ in 0..STARTS {
        let queued = "select invocation_id from actions.enqueue($1, 'pre_authenticate', '{}')";
        let id: String = sqlx::query_scalar(queued).bind(PROJECT).fetch_one(&stand.owner).await.expect("an event");
        let started = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_secs_f64();
        let worker = stand.worker(&[]).await;
        let claimed = "select extract(epoch from enqueued_at + queue_ms * interval '1 millisecond')::float8
            from actions_private.invocations where id = $1";
        let claimed: f64 = loop {
            if let Some(at) = sqlx::query_scalar(claimed).bind(&id).fetch_optional(&stand.owner).await.expect("the row") {
                break at;
            }
        };
        took.push((claimed - started) * 1000.0);
        stand.end(&mut [worker]).await;
    }
    findings.at_most("from start to first claim", median(&took), 200.0, "ms");
}

/// As many calls in flight as one worker holds, to four endpoints that never answer.
async fn holding(findings: &mut Findings) {
    let stand = Stand::start().await;
    let projects = ["one", "two", "three", "four"];
    for project in projects {
        stand.project(project, HANG).await;
    }
    let worker = stand.worker(&[]).await;
    let empty = memory_mib(worker.id()).0;
    for project in projects {
        let all =
            "select count(*) from actions.enqueue_many(array_fill($1::text, array[$2]), array_fill('pre_authenticate'::text, array[$2]),
            array_fill($3::json, array[$2]), null, 'nobody')";
        let each = (CALLS / projects.len()) as i32;
        sqlx::query(all).bind(project).bind(each).bind(crate::ways::EVENT).execute(&stand.owner).await.expect("events");
    }
    let (held, peak) = most_held(&stand, &worker).await;
    line(&format!("{held} calls in flight; the worker had {empty:.0} MiB before, {:.0} MiB after", memory_mib(worker.id()).0));
    findings.at_least("calls in flight at once", held as f64, CALLS as f64 * 0.95, "");
    findings.at_most("worker's memory at its peak", peak, 128.0, "MiB");
    stand.end(&mut [worker]).await;
}

/// The most calls that ran at a time until the first of them ended, and the worker's peak.
async fn most_held(stand: &Stand, worker: &Program) -> (i64, f64) {
    let mut most = 0;
    loop {
        let count = "select (select count(*) from actions_private.queue where claim_token is not null),
            (select count(*) from actions_private.invocations where project_id <> $1)";
        let row = sqlx::query(count).bind(PROJECT).fetch_one(&stand.owner).await.expect("counts");
        let (running, ended): (i64, i64) = (row.get(0), row.get(1));
        most = most.max(running);
        if ended >= CALLS as i64 {
            return (most, memory_mib(worker.id()).1);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
