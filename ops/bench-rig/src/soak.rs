//! The long runs: minutes at four fifths of the maximum, and a reader that holds a snapshot.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sqlx::{Connection, Executor, PgConnection, PgPool};

use crate::findings::Findings;
use crate::load::{Load, Measured, steady};
use crate::report::line;
use crate::stand::Stand;
use crate::ways::client::Fleet;

/// How long the maximum is looked for.
const SEARCH: Duration = Duration::from_secs(10);
/// The rate beside which a reader holds its snapshot.
const BESIDE_A_READER: u32 = 2000;

/// Minutes at a given load, or at four fifths of what 512 waiters reach.
pub async fn soak(minutes: u32, minute: Duration, load: Option<Load>, results: &Path) {
    let stand = Stand::start().await;
    let mut programs = [stand.janitor().await, stand.worker(&[]).await];
    let fleet = Arc::new(Fleet::connect(&stand.database.url("core")).await);
    steady(&fleet, Load::Closed(512), SEARCH / 2).await;
    let most = steady(&fleet, Load::Closed(512), SEARCH).await.rate();
    let load = load.unwrap_or(Load::Open((most * 0.8) as u32));
    line(&format!("512 waiters reach {most:.0} /s; {minutes} minutes at {load}"));
    let mut measured = Vec::new();
    let mut sizes = Vec::new();
    for n in 1..=minutes {
        measured.push(one_minute(n, &fleet, load, minute).await);
        sizes.push(queue_mib(&stand.owner).await);
        line(&format!("           the queue's table and indexes: {:.1} MiB", sizes.last().copied().unwrap_or_default()));
    }
    let mut findings = Findings::default();
    compare(&mut findings, &measured, 0.95, 1.5);
    let half = sizes.len() / 2;
    let most_of = |sizes: &[f64]| sizes.iter().copied().fold(0.0, f64::max);
    findings.at_most("queue's size, second half over first", most_of(&sizes[half..]) / most_of(&sizes[..half.max(1)]), 1.5, "x");
    findings.save(results, "soak");
    stand.end(&mut programs).await;
}

/// Minutes beside a reader that holds a snapshot, so that vacuum can clean up nothing.
pub async fn reader(minutes: u32, minute: Duration, results: &Path) {
    let stand = Stand::start().await;
    let mut programs = [stand.janitor().await, stand.worker(&[]).await];
    let fleet = Arc::new(Fleet::connect(&stand.database.url("core")).await);
    let load = Load::Open(BESIDE_A_READER);
    steady(&fleet, load, SEARCH).await;
    line("minute 1 without the reader, the others beside it");
    let mut measured = vec![one_minute(1, &fleet, load, minute).await];
    let mut reader = PgConnection::connect(&stand.database.owner_url()).await.expect("a connection");
    reader.execute("begin isolation level repeatable read; select count(*) from actions_private.queue").await.expect("a snapshot");
    for n in 1..=minutes {
        measured.push(one_minute(n + 1, &fleet, load, minute).await);
    }
    let mut findings = Findings::default();
    compare(&mut findings, &measured, 0.98, 2.0);
    findings.save(results, "reader");
    reader.close().await.expect("an orderly end");
    stand.end(&mut programs).await;
}

async fn one_minute(n: u32, fleet: &Arc<Fleet>, load: Load, minute: Duration) -> Measured {
    let measured = steady(fleet, load, minute).await;
    line(&format!(
        "minute {n:>3} {:>8.0} /s  p50 {:>7.2}  p99 {:>7.2} ms  {} errors{}",
        measured.rate(),
        measured.ms(0.5),
        measured.ms(0.99),
        measured.errors,
        measured.error.as_ref().map(|error| format!(": {error}")).unwrap_or_default()
    ));
    measured
}

/// The last minute beside the first, and the worst beside the first.
fn compare(findings: &mut Findings, measured: &[Measured], rate: f64, p99: f64) {
    let [first, .., last] = measured else { return };
    findings.at_least("last minute's rate over the first's", last.rate() / first.rate(), rate, "x");
    findings.at_most("last minute's p99 over the first's", last.ms(0.99) / first.ms(0.99), p99, "x");
    findings.at_most("errors", measured.iter().map(|minute| minute.errors as f64).sum(), 0.0, "");
}

async fn queue_mib(owner: &PgPool) -> f64 {
    let size = "select pg_total_relation_size('actions_private.queue')::float8 / 1048576";
    sqlx::query_scalar(size).fetch_one(owner).await.expect("the queue's size")
}
