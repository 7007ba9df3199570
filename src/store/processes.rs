//! Heartbeats of workers and janitors.

use super::params::params;
use super::{Database, StoreError};

/// The first beat makes the row, later ones keep it fresh. The server epoch is looked after with it: in a
/// copy of the database nothing that was queued before may be sent.
pub const BEAT: &str = "-- beat: this process is alive
insert into actions_private.processes as p (id, kind, host, pid, version, in_flight)
select $1, $2, $3, $4, $5, $6
from (select set_config('synchronous_commit', 'off', true)) as quick
on conflict (id) do update set in_flight = excluded.in_flight, seen_at = now()
returning (select count(*) from actions_private.processes as o where o.kind = 'worker' and o.id <> $1 and o.seen_at > now() - interval '12 seconds'),
  actions_private.notify_queue_usage(), actions_private.current_server_epoch()";

/// A process that leaves in order.
pub const LEAVE: &str = "-- leave: this process is gone
delete from actions_private.processes where id = $1";

/// Rows of processes that died: kept for an hour, for people who look for them.
pub const FORGET_SILENT: &str = "-- forget: processes that fell silent an hour ago
delete from actions_private.processes where seen_at < now() - interval '1 hour'";

/// A process as the fleet's view shows it.
#[derive(Debug, Clone)]
pub struct Process {
    /// Unique: kind, host, pid and a random part.
    pub id: String,
    /// `worker` or `janitor`.
    pub kind: &'static str,
    host: String,
}

/// What a heartbeat learns.
#[derive(Debug, Clone, Copy)]
pub struct Surroundings {
    /// Workers that live, beside this process.
    pub other_workers: i64,
    /// How full the server's queue of notifications is, 0 to 1.
    pub notify_queue_usage: f64,
}

impl Process {
    /// This process, with a new id.
    pub fn this(kind: &'static str) -> Self {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname")
            .or_else(|_| std::env::var("HOSTNAME"))
            .map_or_else(|_| "unknown".to_owned(), |name| name.trim().to_owned());
        let random = uuid::Uuid::new_v4().simple().to_string();
        Self { id: format!("{kind}-{host}-{}-{}", std::process::id(), &random[..6]), kind, host }
    }

    /// Reports that this process is alive and holds `in_flight` calls.
    pub async fn beat(&self, database: &Database, in_flight: usize) -> Result<Surroundings, StoreError> {
        let pid = std::process::id().cast_signed();
        let in_flight = i32::try_from(in_flight).unwrap_or(i32::MAX);
        let row = database.row(BEAT, params![self.id, self.kind, self.host, pid, env!("CARGO_PKG_VERSION"), in_flight]).await?;
        Ok(Surroundings { other_workers: row.try_get(0)?, notify_queue_usage: row.try_get(1)? })
    }

    /// Removes this process from the view.
    pub async fn leave(&self, database: &Database) -> Result<(), StoreError> {
        database.execute(LEAVE, params![self.id]).await
    }
}

/// Forgets processes that died long ago.
pub async fn forget_silent(database: &Database) -> Result<(), StoreError> {
    database.execute(FORGET_SILENT, params![]).await
}
