//! Does ten times the load cost more than it must, and who waits for the notification lock?

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sqlx::{PgPool, Row};

use crate::findings::Findings;
use crate::load::{Load, Measured, run as measure};
use crate::report::{line, median};
use crate::stand::Stand;
use crate::ways::bare::Bare;
use crate::ways::client::Fleet;

/// Every commit that notifies takes one lock of the whole server: it shows as a heavyweight
/// lock on an object, and the notification queue's own locks are light ones.
const SAMPLE: &str = "select count(*) filter (where wait_event_type = 'Lock' and wait_event = 'object' or wait_event like 'NotifyQueue%'),
    count(*)
  from pg_stat_activity
  where backend_type = 'client backend' and state = 'active' and pid <> pg_backend_pid()";
const SAMPLE_EVERY: Duration = Duration::from_millis(10);

pub async fn run(lasting: Duration, repetitions: usize, results: &Path) {
    let stand = Stand::start().await;
    let mut programs = [stand.janitor().await, stand.worker(&[]).await];
    let bare = Arc::new(Bare::new(&stand.endpoint));
    let fleet = Arc::new(Fleet::connect(&stand.database.url("core")).await);
    let loads = [100, 500, 1000, 5000].map(Load::Open);
    let (mut calls, mut fleets) = (vec![Vec::new(); loads.len()], vec![Vec::new(); loads.len()]);
    let samples = Arc::new(Samples::default());
    let sampling = tokio::spawn(sample(stand.owner.clone(), Arc::clone(&samples)));
    for _ in 0..repetitions {
        for (n, load) in loads.into_iter().enumerate() {
            calls[n].push(told("bare call", load, &measure(&bare, load, lasting, async || ()).await));
            fleets[n].push(told("fleet, client", load, &measure(&fleet, load, lasting, async || ()).await));
        }
    }
    let middle = |all: &[(f64, f64)], of: fn(&(f64, f64)) -> f64| median(&all.iter().map(of).collect::<Vec<_>>());
    let mut findings = Findings::default();
    for n in [0, 2] {
        let added = |of| middle(&fleets[n], of) - middle(&calls[n], of);
        findings.at_most(format!("added at {}, p50", loads[n]), added(|sample| sample.0), 1.2, "ms");
        findings.at_most(format!("added at {}, p99", loads[n]), added(|sample| sample.1), 5.0, "ms");
    }
    let p99 = |n: usize| middle(&fleets[n], |sample| sample.1);
    findings.at_most("p99 at 5000/s over p99 at 500/s", p99(3) / p99(1), 3.0, "x");
    sampling.abort();
    let [waiting, active] = [&samples.waiting, &samples.active].map(|count| count.load(Ordering::Relaxed) as f64);
    line(&format!("  {active} statements were seen at work"));
    findings.at_most("waiting for notification locks", 100.0 * waiting / active.max(1.0), 1.0, "%");
    findings.save(results, "cliff");
    stand.end(&mut programs).await;
}

/// Statements seen at work, and of them those that waited for a lock of the notifications.
#[derive(Default)]
struct Samples {
    waiting: AtomicU64,
    active: AtomicU64,
}

async fn sample(owner: PgPool, samples: Arc<Samples>) {
    let mut ticks = tokio::time::interval(SAMPLE_EVERY);
    loop {
        ticks.tick().await;
        let row = sqlx::query(SAMPLE).fetch_one(&owner).await.expect("the server's activity");
        samples.waiting.fetch_add(row.get::<i64, _>(0).unsigned_abs(), Ordering::Relaxed);
        samples.active.fetch_add(row.get::<i64, _>(1).unsigned_abs(), Ordering::Relaxed);
    }
}

/// p50 and p99 in milliseconds.
fn told(name: &str, load: Load, measured: &Measured) -> (f64, f64) {
    let (p50, p99) = (measured.ms(0.5), measured.ms(0.99));
    line(&format!("{name:<14}{:>12}  p50 {p50:>7.2}  p99 {p99:>7.2} ms  {} errors", load.to_string(), measured.errors));
    (p50, p99)
}
