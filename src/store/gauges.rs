//! What the leading janitor's metrics tell of the whole fleet: what waits, and what ended without
//! a worker.

use time::OffsetDateTime;

use super::params::params;
use super::{Database, StoreError};
use crate::domain::{ErrorCode, Status, Trigger};

/// What waits, among what can still be sent in time: the index is walked no further back than that,
/// because vacuum may have left much at its old end.
pub const QUEUE: &str = "-- queue: what waits to be claimed
select count(*), coalesce(extract(epoch from clock_timestamp() - min(q.enqueued_at)), 0)::double precision,
  actions_private.notify_queue_usage(), clock_timestamp(),
  (select coalesce(max(pg_wal_lsn_diff(pg_current_wal_lsn(), coalesce(s.confirmed_flush_lsn, s.restart_lsn))), 0)::bigint from pg_replication_slots as s)
from actions_private.queue as q
where q.claim_token is null and q.id >= 'inv_' || actions_private.id_time(clock_timestamp() - interval '15 seconds')";

/// Workers count what they write. The rest was ended by a waiter, by the janitor, or when it was
/// enqueued for a killed action.
pub const ENDED_BY_OTHERS: &str = "-- ended by others: than workers, between two moments
select i.trigger, i.status::text, i.error_code, count(*)
from actions_private.invocations as i
where i.finished_at >= $1 and i.finished_at < $2 and i.status in ('killed', 'expired')
  and (i.error_code in ('abandoned', 'deadline_passed') or i.status = 'killed' and i.worker is null)
group by i.trigger, i.status, i.error_code";

/// What waits at a moment.
#[derive(Debug, Clone, Copy)]
pub struct Queue {
    /// Invocations that nobody has claimed.
    pub queued: i64,
    /// How long the oldest of them has waited, in seconds.
    pub oldest_s: f64,
    /// How full the server's queue of notifications is, 0 to 1.
    pub notify_queue_usage: f64,
    /// Bytes of write-ahead log that the slowest replication slot has still to read; 0 without one.
    pub replication_lag_bytes: i64,
    /// PostgreSQL's time.
    pub at: OffsetDateTime,
}

/// Looks at the queue.
pub async fn queue(database: &Database) -> Result<Queue, StoreError> {
    let row = database.row(QUEUE, params![]).await?;
    Ok(Queue {
        queued: row.try_get(0)?,
        oldest_s: row.try_get(1)?,
        notify_queue_usage: row.try_get(2)?,
        at: row.try_get(3)?,
        replication_lag_bytes: row.try_get(4)?,
    })
}

/// Invocations that ended without a worker.
#[derive(Debug, Clone)]
pub struct Ended {
    /// The moment of the auth event.
    pub trigger: Trigger,
    /// `killed` or `expired`.
    pub status: Status,
    /// The stable word.
    pub error_code: ErrorCode,
    /// How many.
    pub count: u64,
}

/// What ended without a worker from one moment until just before another.
pub async fn ended_by_others(database: &Database, from: OffsetDateTime, until: OffsetDateTime) -> Result<Vec<Ended>, StoreError> {
    let rows = database.rows(ENDED_BY_OTHERS, params![from, until]).await?;
    rows.iter()
        .map(|row| {
            Ok(Ended {
                trigger: row.try_get::<_, &str>(0)?.parse().map_err(StoreError::unreadable)?,
                status: row.try_get::<_, &str>(1)?.parse().map_err(StoreError::unreadable)?,
                error_code: row.try_get::<_, &str>(2)?.parse().map_err(StoreError::unreadable)?,
                count: row.try_get::<_, i64>(3)?.unsigned_abs(),
            })
        })
        .collect()
}
