//! Does a long history slow down whoever looks at it, a janitor that has just started, or the fleet? The
//! last is measured in turn with an empty one.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sqlx::PgPool;

use crate::findings::Findings;
use crate::janitor;
use crate::load::{Load, steady};
use crate::pages;
use crate::report::{line, median};
use crate::stand::{PROJECT, Stand};
use crate::ways::client::Fleet;

/// Beside the one that is busy.
const ACTIONS: i32 = 20_000;
/// What operators ask for one action.
const LOOKS: [&str; 8] = [
    "actions.recent($1)",
    "actions.find_invocations(project_id => (select project_id from actions.actions where action_id = $1))",
    "actions.action_health where action_id = $1",
    "actions.daily_counts where action_id = $1",
    "actions.audit_log where action_id = $1",
    "actions.actions where action_id = $1",
    "actions.by_event((select event_id from actions.recent($1, 1)))",
    "actions.recent_invocations where invocation_id = (select invocation_id from actions.recent($1, 1))",
];
/// What they ask of the whole.
const WHOLE: [&str; 8] = [
    "actions.queue_health",
    "actions.fleet_health",
    "actions.fleet",
    "actions.latency",
    "actions.check_health",
    "actions.mails",
    "actions.find_invocations()",
    "actions.find_invocations(status => 'expired', since => now() - interval '1 hour')",
];

/// Finished rows spread evenly over the last days, as a month of work leaves them: half of them of one
/// action, the others of all the others.
const FILL: &str = "insert into actions_private.invocations
    (id, event_id, project_id, trigger, action_id, action_version, test, status, outcome, http_status, duration_ms, queue_ms,
     overrode, enqueued_at, finished_at, worker)
  select 'inv_' || name, 'evt_' || name, a.project_id, a.trigger, a.id, 1, false, 'ok',
    '{\"decision\":\"allow\",\"source\":\"verdict\",\"status\":\"ok\"}', 200, 12.5, 0.8, false, at, at, 'worker-past'
  from generate_series($1::bigint, $2::bigint) as n
  join actions_private.actions as a on a.project_id = case when n % 2 = 0 or $3 = 0 then 'bench' else 'many_' || 1 + (n / 2) % greatest($3, 1) end
  cross join lateral (select now() - interval '2 hours' - n * $4 * interval '1 second' as at) as moment
  cross join lateral (select actions_private.id_time(at) || upper(lpad(to_hex(n), 16, '0')) as name) as named";

pub async fn run(rows: u64, lasting: Duration, repetitions: usize, results: &Path) {
    let (empty, full) = (Stand::start().await, Stand::start().await);
    janitor::many_actions(&full.owner, ACTIONS).await;
    let started = Instant::now();
    fill(&full.owner, rows, ACTIONS).await;
    line(&format!("{rows} finished rows written in {:.0} s", started.elapsed().as_secs_f64()));
    let mut findings = Findings::default();
    looks(&full, &mut findings).await;
    fresh_janitor(&full, lasting, &mut findings).await;
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
    findings.at_least("rate with a long history over without", median(&rates[1]) / median(&rates[0]), 0.95, "x");
    findings.at_most("errors", errors as f64, 0.0, "");
    empty.end(&mut programs).await;
    full.end(&mut others).await;
    findings.save(results, "history");
}

/// What operators wait for, each asked three times, of actions of every kind.
async fn looks(stand: &Stand, findings: &mut Findings) {
    let owner = &stand.owner;
    let id = async |project: &str| -> String {
        let of = "select id from actions_private.actions where project_id = $1";
        sqlx::query_scalar(of).bind(project).fetch_one(owner).await.expect("an action")
    };
    let actions =
        [("busy", id(PROJECT).await), ("idle", id("many_1").await), ("killed", id("many_2").await), ("re-enabled", id("many_3").await)];
    let kill = "update actions_private.actions set killed_at = now(), killed_reason = 'error rate' where id = any ($1)";
    sqlx::query(kill).bind([&actions[2].1, &actions[3].1].map(String::as_str).as_slice()).execute(owner).await.expect("kills");
    sqlx::query("select actions.reenable_action($1, 'bench')").bind(&actions[3].1).execute(&stand.admin).await.expect("enabled again");
    let ops = stand.database.login("ops").await;
    let mut longest = 0.0_f64;
    for (kind, id) in &actions {
        let mut of_kind = (0.0_f64, "");
        for look in LOOKS {
            let took = ask(&ops, look, Some(id)).await;
            if took > of_kind.0 {
                of_kind = (took, look);
            }
        }
        line(&format!("{kind:<11}{:>7.1} ms at most, for {}", of_kind.0, of_kind.1.split(' ').next().unwrap_or_default()));
        longest = longest.max(of_kind.0);
    }
    for look in WHOLE {
        let took = ask(&ops, look, None).await;
        line(&format!("{took:>18.1} ms {look}"));
        longest = longest.max(took);
    }
    findings.at_most("the longest look", longest, 100.0, "ms");
    pages::measure(stand, [(PROJECT, &actions[0].1), ("many_1", &actions[1].1)], findings).await;
}

/// The longest of three times, in milliseconds.
async fn ask(ops: &PgPool, look: &str, id: Option<&str>) -> f64 {
    let sql = format!("select count(*) from (select * from {look}) as found");
    let mut longest = 0.0_f64;
    for _ in 0..3 {
        let asked = Instant::now();
        let query = sqlx::query_scalar::<_, i64>(&sql);
        id.map_or(query, |id| sqlx::query_scalar(&sql).bind(id)).fetch_one(ops).await.expect(look);
        longest = longest.max(asked.elapsed().as_secs_f64() * 1000.0);
    }
    longest
}

/// A janitor starts where there is much to look at, and has its hands full.
async fn fresh_janitor(stand: &Stand, lasting: Duration, findings: &mut Findings) {
    let epoch = async || -> i64 {
        sqlx::query_scalar("select epoch from actions_private.leadership").fetch_one(&stand.owner).await.expect("the lead")
    };
    let before = epoch().await;
    let finishing = tokio::spawn(janitor::finish(stand.owner.clone()));
    let started = Instant::now();
    let (leader, port) = janitor::leading(stand).await;
    line(&format!("a fresh janitor leads after {:.0} ms", started.elapsed().as_secs_f64() * 1000.0));
    let measured = janitor::measure(stand, leader.id(), port, lasting).await;
    measured.tell("a fresh janitor");
    findings.at_most("a tick of a fresh janitor, on the average", measured.mean_ms, 100.0, "ms");
    findings.at_most("epochs that it took", (epoch().await - before) as f64, 1.0, "");
    finishing.abort();
    stand.end(&mut [leader]).await;
}

/// Writes finished rows of the last 29 days: half of them of one action, the others of `many` others.
pub async fn fill(owner: &PgPool, rows: u64, many: i32) {
    const CHUNK: u64 = 250_000;
    let step = 29.0 * 86_400.0 / rows as f64;
    sqlx::query("select actions_private.make_partition((now() at time zone 'UTC')::date - n) from generate_series(1, 30) as n")
        .execute(owner)
        .await
        .expect("partitions");
    for first in (1..=rows).step_by(CHUNK as usize) {
        let last = rows.min(first + CHUNK - 1);
        let fill = sqlx::query(FILL).bind(first.cast_signed()).bind(last.cast_signed()).bind(many).bind(step);
        fill.execute(owner).await.expect("history");
        line(&format!("  {last} of {rows}"));
    }
    while sqlx::query_scalar("select actions_private.count_next()").fetch_one(owner).await.expect("days that are added up") {}
    sqlx::query("vacuum (analyze) actions_private.invocations").execute(owner).await.expect("vacuum");
}
