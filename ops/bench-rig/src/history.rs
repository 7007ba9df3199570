//! Does a long history slow the fleet down? Two databases, one empty, measured in turn.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sqlx::PgPool;

use crate::findings::Findings;
use crate::load::{Load, steady};
use crate::report::{line, median};
use crate::stand::Stand;
use crate::ways::client::Fleet;

/// Finished rows spread evenly over the last days, as a month of work leaves them.
const FILL: &str = "insert into actions_private.invocations
    (id, event_id, project_id, trigger, action_id, action_version, test, status, outcome, http_status, duration_ms, queue_ms,
     overrode, enqueued_at, finished_at, worker)
  select 'inv_' || actions_private.id_time(at) || upper(lpad(to_hex(n), 16, '0')), 'evt_' || n, a.project_id, a.trigger, a.id, 1, false, 'ok',
    '{\"decision\":\"allow\",\"source\":\"verdict\",\"status\":\"ok\"}', 200, 12.5, 0.8, false, at, at, 'worker-past'
  from generate_series($1::bigint, $2::bigint) as n
  join actions_private.actions as a on a.project_id = 'bench'
  cross join lateral (select now() - interval '1 hour' - n * interval '100 milliseconds' as at) as moment";

pub async fn run(rows: u64, lasting: Duration, repetitions: usize, results: &Path) {
    let (empty, full) = (Stand::start().await, Stand::start().await);
    let started = Instant::now();
    fill(&full.owner, rows).await;
    line(&format!("{rows} finished rows written in {:.0} s", started.elapsed().as_secs_f64()));
    let mut programs = [empty.janitor().await, empty.worker(&[]).await];
    let mut others = [full.janitor().await, full.worker(&[]).await];
    let mut rates = [Vec::new(), Vec::new()];
    let mut errors = 0;
    for (n, stand) in [&empty, &full].into_iter().cycle().take(2 * repetitions).enumerate() {
        let fleet = Arc::new(Fleet::connect(&stand.database.url("core")).await);
        steady(&fleet, Load::Closed(64), lasting / 5).await;
        let measured = steady(&fleet, Load::Closed(64), lasting).await;
        let name = if n % 2 == 0 { "empty history" } else { "long history" };
        line(&format!("{name:<14}{:>8.0} /s  p99 {:>6.2} ms  {} errors", measured.rate(), measured.ms(0.99), measured.errors));
        rates[n % 2].push(measured.rate());
        errors += measured.errors;
    }
    let mut findings = Findings::default();
    findings.at_least("rate with a long history over without", median(&rates[1]) / median(&rates[0]), 0.95, "x");
    findings.at_most("errors", errors as f64, 0.0, "");
    findings.save(results, "history");
    empty.end(&mut programs).await;
    full.end(&mut others).await;
}

/// Writes finished rows of the last days.
pub async fn fill(owner: &PgPool, rows: u64) {
    const CHUNK: u64 = 250_000;
    for first in (1..=rows).step_by(CHUNK as usize) {
        let last = rows.min(first + CHUNK - 1);
        sqlx::query(FILL).bind(first.cast_signed()).bind(last.cast_signed()).execute(owner).await.expect("history");
        line(&format!("  {last} of {rows}"));
    }
    sqlx::query("vacuum (analyze) actions_private.invocations").execute(owner).await.expect("vacuum");
}
