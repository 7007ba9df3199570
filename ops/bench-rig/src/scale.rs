//! Many workers and many auth-core processes against one primary.

use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use authio_actions_testkit::process::Program;
use serde::{Deserialize, Serialize};
use sqlx::PgPool;
use tokio::process::Command;

use crate::cost::{Meter, switches};
use crate::findings::Findings;
use crate::load::{Load, run as measure};
use crate::report::line;
use crate::stand::Stand;
use crate::ways::client::Fleet;

/// The database's URL for a caller; on the command line everybody could read it.
const CALLER_URL: &str = "ACTIONS_BENCH_CALLER_URL";
/// Events a second of all callers together.
const RATE: u32 = 1024;

/// What a caller reports.
#[derive(Debug, Serialize, Deserialize)]
pub struct Report {
    calls: u64,
    errors: u64,
    rate: f64,
    p50_ms: f64,
    p99_ms: f64,
}

/// An auth-core process of its own.
pub async fn call(load: Load, lasting: Duration) {
    let url = std::env::var(CALLER_URL).expect("the database's URL in the environment");
    let fleet = Arc::new(Fleet::connect(&url).await);
    let measured = measure(&fleet, load, lasting, async || ()).await;
    let report = Report {
        calls: measured.calls,
        errors: measured.errors,
        rate: measured.rate(),
        p50_ms: measured.ms(0.5),
        p99_ms: measured.ms(0.99),
    };
    line(&serde_json::to_string(&report).expect("JSON"));
}

pub async fn run(lasting: Duration, results: &Path) {
    let stand = Stand::start().await;
    let mut programs = vec![stand.janitor().await];
    let mut findings = Findings::default();
    line(&format!(
        "{:>7} {:>7} {:>9} {:>8} {:>8} {:>9} {:>9} {:>10}",
        "workers", "callers", "/s", "p50 ms", "p99 ms", "server ms", "worker ms", "wake-ups"
    ));
    let mut first = None;
    for workers in [1, 2, 4, 8] {
        while programs.len() - 1 < workers {
            programs.push(stand.worker(&[]).await);
        }
        let here = one(&stand, &programs, 1, lasting).await;
        if let Some(first) = &first {
            findings_of(&mut findings, &format!("{workers} workers"), first, &here);
        }
        first.get_or_insert(here);
    }
    let first = one(&stand, &programs, 1, lasting).await;
    for callers in [4, 8, 16, 32] {
        let here = one(&stand, &programs, callers, lasting).await;
        findings_of(&mut findings, &format!("{callers} callers"), &first, &here);
    }
    findings.save(results, "scale");
    stand.end(&mut programs).await;
}

fn findings_of(findings: &mut Findings, what: &str, first: &Measured, here: &Measured) {
    findings.at_least(format!("{what}: rate over one's"), here.rate / first.rate, 0.98, "x");
    findings.at_most(format!("{what}: p50 over one's"), here.p50_ms / first.p50_ms, 1.5, "x");
}

struct Measured {
    rate: f64,
    p50_ms: f64,
}

async fn one(stand: &Stand, programs: &[Program], callers: u32, lasting: Duration) -> Measured {
    let meter: Meter = stand.meter(programs).await;
    let load = Load::Open(RATE / callers);
    let seconds = lasting.as_secs().to_string();
    let children: Vec<_> = (0..callers)
        .map(|_| {
            Command::new(std::env::current_exe().expect("this program's path"))
                .args(["caller", "--load", &format!("{}/s", RATE / callers), "--seconds", &seconds])
                .env(CALLER_URL, stand.database.url("core"))
                .stdout(Stdio::piped())
                .kill_on_drop(true)
                .spawn()
                .expect("this program starts again")
        })
        .collect();
    // Callers warm up for a fifth of the time; the middle of the rest is what is counted.
    tokio::time::sleep(lasting / 2).await;
    let (before, wakes) = (meter.read().await, wake_ups(&stand.owner).await);
    let window = lasting / 2;
    tokio::time::sleep(window).await;
    let (after, wakes_after) = (meter.read().await, wake_ups(&stand.owner).await);
    let mut reports: Vec<Report> = Vec::new();
    for child in children {
        let output = child.wait_with_output().await.expect("a caller's report");
        reports.push(serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("a caller under {load}: {error}")));
    }
    let errors: u64 = reports.iter().map(|report| report.errors).sum();
    assert!(errors == 0, "{errors} errors with {callers} callers");
    let rate: f64 = reports.iter().map(|report| report.rate).sum();
    let events = rate * window.as_secs_f64();
    let worst = |of: fn(&Report) -> f64| reports.iter().map(of).fold(0.0, f64::max);
    let mean_p50 = reports.iter().map(|report| report.p50_ms).sum::<f64>() / reports.len() as f64;
    line(&format!(
        "{:>7} {callers:>7} {rate:>9.0} {mean_p50:>8.2} {:>8.2} {:>9.3} {:>9.3} {:>10.2}",
        programs.len() - 1,
        worst(|report| report.p99_ms),
        (after.postgres_s - before.postgres_s) * 1000.0 / events,
        (after.worker_s - before.worker_s) * 1000.0 / events,
        (wakes_after - wakes) / events
    ));
    Measured { rate, p50_ms: mean_p50 }
}

/// How often the server's listening processes went to sleep and woke up.
async fn wake_ups(owner: &PgPool) -> f64 {
    let listening = "select pid from pg_stat_activity where query like 'LISTEN%' or query like '-- listen:%'";
    let pids: Vec<i32> = sqlx::query_scalar(listening).fetch_all(owner).await.expect("the server's activity");
    pids.into_iter().map(|pid| switches(pid.unsigned_abs())).sum()
}
