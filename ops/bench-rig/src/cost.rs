//! What a run cost: CPU time from the kernel, commits, log bytes and dead rows from PostgreSQL.

use std::path::Path;

use sqlx::{PgPool, Row};

/// Clock ticks of /proc are hundredths of a second on every Linux.
const TICK_S: f64 = 0.01;

/// Counters at one moment.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counters {
    pub postgres_s: f64,
    pub worker_s: f64,
    pub client_s: f64,
    pub endpoint_s: f64,
    pub wal_bytes: f64,
    pub commits: f64,
    pub dead_rows: f64,
}

/// Whom to look at.
pub struct Meter {
    pub owner: PgPool,
    pub postmaster: u32,
    pub workers: Vec<u32>,
    pub endpoint: u32,
}

/// The process that every server process descends from.
pub async fn postmaster(owner: &PgPool) -> u32 {
    let backend: i32 = sqlx::query_scalar("select pg_backend_pid()").fetch_one(owner).await.expect("the server");
    field(backend.unsigned_abs(), 1) as u32
}

impl Meter {
    pub async fn read(&self) -> Counters {
        let row = sqlx::query(
            "select pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::float8 as wal,
               (select xact_commit::float8 from pg_stat_database where datname = current_database()) as commits,
               (select coalesce(sum(n_dead_tup), 0)::float8 from pg_stat_user_tables) as dead",
        )
        .fetch_one(&self.owner)
        .await
        .expect("the server's counters");
        Counters {
            postgres_s: cpu_of_postgres(self.postmaster),
            worker_s: self.workers.iter().map(|pid| cpu(*pid)).sum(),
            client_s: cpu(std::process::id()),
            endpoint_s: cpu(self.endpoint),
            wal_bytes: row.get("wal"),
            commits: row.get("commits"),
            dead_rows: row.get("dead"),
        }
    }
}

/// A process's resident memory in MiB, and the most it ever was.
pub fn memory_mib(pid: u32) -> (f64, f64) {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let kib = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        line.split_whitespace().nth(1).and_then(|text| text.parse::<f64>().ok()).unwrap_or_default()
    };
    (kib("VmRSS:") / 1024.0, kib("VmHWM:") / 1024.0)
}

/// Field `n` of /proc/PID/stat, counted from 0 behind the name in parentheses.
fn field(pid: u32, n: usize) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields = stat.rsplit_once(") ").map_or("", |(_, fields)| fields);
    fields.split_whitespace().nth(n).and_then(|text| text.parse().ok()).unwrap_or_default()
}

/// CPU seconds that a process has used.
pub fn cpu(pid: u32) -> f64 {
    (field(pid, 11) + field(pid, 12)) * TICK_S
}

/// The server, its living processes, and those that have ended.
fn cpu_of_postgres(postmaster: u32) -> f64 {
    let ended = (field(postmaster, 13) + field(postmaster, 14)) * TICK_S;
    let processes = std::fs::read_dir(Path::new("/proc")).into_iter().flatten().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_string_lossy().parse::<u32>().ok());
    let living: f64 = pids.filter(|pid| *pid == postmaster || field(*pid, 1) as u32 == postmaster).map(cpu).sum();
    ended + living
}

/// How often a process gave up its core by itself: once for each time that it was woken.
pub fn switches(pid: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("voluntary_ctxt_switches")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|text| text.parse().ok()).unwrap_or_default()
}
