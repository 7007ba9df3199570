//! What the janitor costs where there is much to watch: 10,000 actions, 1,000 finished a second.

use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::time::Duration;

use sqlx::{Executor, PgPool};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, MissedTickBehavior, interval};

use authio_actions_testkit::process::Program;

use crate::cost::cpu;
use crate::findings::Findings;
use crate::history;
use crate::report::line;
use crate::stand::Stand;

const ACTIONS: i32 = 10_000;
const A_SECOND: i32 = 1_000;
/// What finishes together.
const AT_ONCE: i32 = 50;

/// A project each with an action that is never called: their calls are written as finished.
const MANY_ACTIONS: &str = "begin;
  insert into actions_private.projects (id, name) select 'many_' || n, 'Many' from generate_series(1, ACTIONS) as n;
  insert into actions_private.actions (id, project_id, project_revision, trigger, version, timeout_ms)
  select actions_private.new_id('action_'), 'many_' || n, 1, 'pre_register', 1, 2000 from generate_series(1, ACTIONS) as n;
  insert into actions_private.action_versions (action_id, version, name, endpoint_url, timeout_ms, fail_mode, on_killed, require_response_signature)
  select id, 1, 'Many', 'https://hooks.acme.test/', 2000, 'open', 'skip', false from actions_private.actions where project_id like 'many_%';
  commit;
  analyze actions_private.actions, actions_private.action_versions";

/// Calls of actions drawn by lot, one in twenty of them a 503.
const FINISH: &str = "insert into actions_private.invocations
    (id, event_id, project_id, trigger, action_id, action_version, test, status, outcome, http_status, duration_ms, queue_ms, enqueued_at, finished_at, worker)
  select 'inv_' || name, 'evt_' || name, 'many', 'pre_register', $2[1 + floor(random() * cardinality($2))::integer], 1, false,
    (case when bad then 'http_error' else 'ok' end)::actions_private.final_status, '{\"decision\":\"allow\",\"source\":\"verdict\",\"status\":\"ok\"}',
    case when bad then 503 else 200 end, 12.5, 0.8, now, now, 'worker-many'
  from (select substr(actions_private.new_id('inv_'), 5) as name, random() < 0.05 as bad, clock_timestamp() as now from generate_series(1, $1)) as finished";

/// Makes so many actions.
pub async fn many_actions(owner: &PgPool, count: i32) {
    owner.execute(MANY_ACTIONS.replace("ACTIONS", &count.to_string()).as_str()).await.expect("many actions");
}

pub async fn run(rows: u64, lasting: Duration, results: &Path) {
    let stand = Stand::start().await;
    many_actions(&stand.owner, ACTIONS).await;
    let (janitor, port) = leading(&stand).await;
    let finishing = tokio::spawn(finish(stand.owner.clone()));
    line(&format!("{ACTIONS} actions, {A_SECOND} finished a second, {} s to fill the overlap", lasting.as_secs() / 3));
    tokio::time::sleep(lasting / 3).await;

    let short = measure(&stand, janitor.id(), port, lasting).await;
    short.tell("with a short history");
    history::fill(&stand.owner, rows, ACTIONS).await;
    let long = measure(&stand, janitor.id(), port, lasting).await;
    long.tell(&format!("with {rows} rows more"));
    finishing.abort();

    let mut findings = Findings::default();
    findings.at_most("a tick, on the average", long.mean_ms, 50.0, "ms");
    findings.at_most("the longest tick, rounded up to a bucket", short.longest_ms.max(long.longest_ms), 50.0, "ms");
    findings.at_most("janitor and its connections, of a core", long.janitor_of_a_core + long.server_of_a_core, 2.0, "%");
    findings.at_most("a tick with a long history over a short one", long.mean_ms / short.mean_ms, 1.5, "x");
    findings.save(results, "janitor");
    stand.end(&mut [janitor]).await;
}

/// A janitor that leads, and the port of its metrics.
pub async fn leading(stand: &Stand) -> (Program, u16) {
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|free| free.local_addr()).expect("a free port").port();
    let mut janitor = stand.janitor_with(&[("ACTIONS_METRICS__LISTEN", &format!("\"127.0.0.1:{port}\""))]).await;
    janitor.logged("leading").await;
    (janitor, port)
}

/// Writes finished calls of the many actions, for as long as it lives.
pub async fn finish(owner: PgPool) {
    let actions: Vec<String> = sqlx::query_scalar("select id from actions_private.actions where project_id like 'many_%'")
        .fetch_all(&owner)
        .await
        .expect("actions");
    let mut every = interval(Duration::from_secs(1) * AT_ONCE.unsigned_abs() / A_SECOND.unsigned_abs());
    every.set_missed_tick_behavior(MissedTickBehavior::Burst);
    loop {
        every.tick().await;
        sqlx::query(FINISH).bind(AT_ONCE).bind(&actions).execute(&owner).await.expect("finished calls");
    }
}

pub struct Measured {
    ticks: f64,
    pub mean_ms: f64,
    pub longest_ms: f64,
    janitor_of_a_core: f64,
    server_of_a_core: f64,
    finished: i64,
}

impl Measured {
    pub fn tell(&self, when: &str) {
        line(&format!(
            "{when}: {} finished, {} ticks, {:.1} ms each, none longer than {:.0} ms;",
            self.finished, self.ticks, self.mean_ms, self.longest_ms
        ));
        line(&format!(
            "  {:.2} % of a core by the janitor and {:.2} % by the processes that serve it",
            self.janitor_of_a_core, self.server_of_a_core
        ));
    }
}

pub async fn measure(stand: &Stand, janitor: u32, port: u16, lasting: Duration) -> Measured {
    let (before, spent_before, finished_before) = (ticks(port).await, spent(&stand.owner, janitor).await, finished(&stand.owner).await);
    let started = Instant::now();
    tokio::time::sleep(lasting).await;
    let took = started.elapsed().as_secs_f64();
    let (after, spent_after, finished_after) = (ticks(port).await, spent(&stand.owner, janitor).await, finished(&stand.owner).await);
    let count = after.count - before.count;
    let in_bucket = |n: usize| after.buckets[n].1 - before.buckets[n].1;
    let longest = (0..after.buckets.len()).find(|n| in_bucket(*n) >= count).map_or(f64::INFINITY, |n| after.buckets[n].0);
    Measured {
        ticks: count,
        mean_ms: 1000.0 * (after.sum - before.sum) / count,
        longest_ms: 1000.0 * longest,
        janitor_of_a_core: 100.0 * (spent_after.0 - spent_before.0) / took,
        server_of_a_core: 100.0 * (spent_after.1 - spent_before.1) / took,
        finished: finished_after - finished_before,
    }
}

async fn finished(owner: &PgPool) -> i64 {
    let count = "select count(*) from actions_private.invocations where worker = 'worker-many'";
    sqlx::query_scalar(count).fetch_one(owner).await.expect("a count")
}

/// CPU seconds of the janitor and of the server processes that serve it.
async fn spent(owner: &PgPool, janitor: u32) -> (f64, f64) {
    let serving = "select pid from pg_stat_activity where application_name = 'actions-janitor' and datname = current_database()";
    let pids: Vec<i32> = sqlx::query_scalar(serving).fetch_all(owner).await.expect("the janitor's connections");
    (cpu(janitor), pids.iter().map(|pid| cpu(pid.unsigned_abs())).sum())
}

/// The histogram `actions_tick_seconds`.
struct Ticks {
    count: f64,
    sum: f64,
    /// Upper bound in seconds, and how many ticks took at most that.
    buckets: Vec<(f64, f64)>,
}

async fn ticks(port: u16) -> Ticks {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.expect("the janitor's metrics");
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: janitor\r\nconnection: close\r\n\r\n").await.expect("a question");
    let mut text = String::new();
    stream.read_to_string(&mut text).await.expect("an answer");
    let value = |line: &str| line.rsplit(' ').next().and_then(|value| value.parse().ok()).unwrap_or_default();
    let named = |name: &str| text.lines().find(|line| line.starts_with(name)).map_or(0.0, value);
    let bound = |line: &str| line.split('"').nth(1).and_then(|bound| bound.parse().ok()).unwrap_or(f64::INFINITY);
    let buckets = text.lines().filter(|line| line.starts_with("actions_tick_seconds_bucket")).map(|line| (bound(line), value(line)));
    Ticks { count: named("actions_tick_seconds_count"), sum: named("actions_tick_seconds_sum"), buckets: buckets.collect() }
}
