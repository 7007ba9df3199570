//! What the leading janitor does that has no hurry.

use super::leader::replies;
use super::notify::notify;
use super::params::params;
use super::pool::LONG_ANSWER;
use super::{Database, StoreError, scalars};
use crate::config;

/// Rotations whose overlap is over, and test events of actions that opted in. What the last
/// test events say is looked at before the next ones are sent.
pub const MAINTAIN: &str = "-- maintain: whether checks blame the fleet, overlaps that ended, checks that are due
select exists (select from actions.check_health as c where c.diagnosis = 'fleet') as is_fleet_blamed,
  actions_private.end_overlaps($1) as rotations, actions_private.send_checks($1) as checks";

/// What the ticks' short looks have missed. It may walk over everything that vacuum has not
/// cleaned up, so it holds no lock meanwhile, least of all that of the lead.
pub const LEFT_BEHIND: &str = "-- left behind: long past their deadline
select q.id from actions_private.queue as q where q.deadline_at < clock_timestamp() - interval '10 seconds' order by q.id limit 1000";

/// Ends these, if this janitor leads.
pub const END_LEFT_BEHIND: &str = "-- end left behind: nobody ended them in time
select 'expired' as status, e.invocation_id, e.reply_to, e.outcome::text as outcome
from (select where actions_private.leads($1)) as lead
cross join lateral actions_private.end_without_verdict($2, 'expired', 'deadline_passed', 'the deadline passed before the fleet had a result') as e";

/// Days that need a partition: the week ahead first.
pub const DAYS_TO_MAKE: &str = "-- days to make: whose partition is missing
select d::text from actions_private.days_to_make(7, $1) as d";

/// Makes one, in a transaction of its own.
pub const MAKE_PARTITION: &str = "-- make partition: of a day
select actions_private.make_partition($1::text::date)";

/// What the default partition holds beyond the retention.
pub const SWEEP_DEFAULT: &str = "-- sweep default: rows that are past retention
select actions_private.sweep_default($1)";

/// Adds up what will be dropped one day. Any janitor may: a row that is locked makes it happen once.
pub const COUNT_NEXT: &str = "-- count next: minutes of invocations that are over
select actions_private.count_next()";

/// Drops the days past retention, if this janitor leads.
pub const DROP_PARTITIONS: &str = "-- drop partitions: past retention
select coalesce((select actions_private.drop_partitions($2) where actions_private.leads($1)), 0)";

/// Ids of events that may no longer be reported again.
pub const FORGET_EVENT_KEYS: &str = "-- forget event keys: given more than ten minutes ago
select actions_private.forget_event_keys()";

/// What is older than its retention, some thousand rows at a time, if this janitor leads.
pub const FORGET_OLD: &str = "-- forget old: audit events, mails and daily counts past retention
select coalesce((select actions_private.forget_old($2, $3, $4) where actions_private.leads($1)), 0)";

/// The next step of an erasure.
pub const ERASE_NEXT: &str = "-- erase next: a part of a project
select actions_private.erase_next($1)";

/// What was due.
#[derive(Debug, Clone, Copy)]
pub struct Done {
    /// Rotations that were written down as finished.
    pub rotations: i32,
    /// Test events that were sent.
    pub checks: i32,
    /// The checks of the actions say that the fleet is at fault, not the endpoints.
    pub is_fleet_blamed: bool,
}

/// Does what is due.
pub async fn do_due(database: &Database, epoch: i64) -> Result<Done, StoreError> {
    let row = database.row(MAINTAIN, params![epoch]).await?;
    Ok(Done { rotations: row.try_get("rotations")?, checks: row.try_get("checks")?, is_fleet_blamed: row.try_get("is_fleet_blamed")? })
}

/// Ends what is left from before there was a leader, and tells the waiters; returns how many.
pub async fn end_left_behind(database: &Database, epoch: i64, turn: &impl Fn()) -> Result<usize, StoreError> {
    let mut ended = 0;
    loop {
        let ids: Vec<String> = scalars(&database.rows_within(LONG_ANSWER, LEFT_BEHIND, params![]).await?)?;
        if ids.is_empty() {
            return Ok(ended);
        }
        let rows = database.rows_within(LONG_ANSWER, END_LEFT_BEHIND, params![epoch, ids]).await?;
        if rows.is_empty() {
            return Ok(ended); // another leads, or their results got there first
        }
        ended += rows.len();
        turn();
        notify(database, &replies(&rows)?).await?;
    }
}

/// Makes the partitions that are missing, each by itself; returns how many. One that cannot be made
/// is tried again, and keeps no other from being made.
pub async fn make_partitions(database: &Database, retention_days: u32, turn: &impl Fn()) -> Result<usize, StoreError> {
    let keep = i32::try_from(retention_days).unwrap_or(i32::MAX);
    let days: Vec<String> = scalars(&database.rows_within(LONG_ANSWER, DAYS_TO_MAKE, params![keep]).await?)?;
    let mut made = 0;
    for day in days {
        turn();
        match database.rows_within(LONG_ANSWER, MAKE_PARTITION, params![day]).await {
            Ok(_) => made += 1,
            Err(error) => tracing::warn!(%error, day, "a partition could not be made; it is tried again in a minute"),
        }
    }
    Ok(made)
}

/// Deletes what the default partition holds beyond the retention, some rows at a time; returns how many.
pub async fn sweep_default(database: &Database, retention_days: u32, turn: &impl Fn()) -> Result<i64, StoreError> {
    let keep = i32::try_from(retention_days).unwrap_or(i32::MAX);
    let mut swept = 0;
    loop {
        turn();
        let some: i64 = database.row_within(LONG_ANSWER, SWEEP_DEFAULT, params![keep]).await?.try_get(0)?;
        swept += some;
        if some == 0 {
            return Ok(swept);
        }
    }
}

/// Adds up some minutes of invocations; false where there is nothing to add up yet.
pub async fn count_next(database: &Database) -> Result<bool, StoreError> {
    Ok(database.row_within(LONG_ANSWER, COUNT_NEXT, params![]).await?.try_get(0)?)
}

/// Drops days past the retention that were added up; returns how many.
pub async fn drop_partitions(database: &Database, epoch: i64, retention_days: u32) -> Result<i32, StoreError> {
    let keep = i32::try_from(retention_days).unwrap_or(i32::MAX);
    Ok(database.row_within(LONG_ANSWER, DROP_PARTITIONS, params![epoch, keep]).await?.try_get(0)?)
}

/// Forgets ids of events that may no longer be reported again.
pub async fn forget_event_keys(database: &Database) -> Result<(), StoreError> {
    database.rows_within(LONG_ANSWER, FORGET_EVENT_KEYS, params![]).await.map(|_| ())
}

/// Deletes what is past its retention, some thousand rows of each kind; returns how many.
pub async fn forget_old(database: &Database, epoch: i64, retention: &config::Retention) -> Result<i64, StoreError> {
    let config::Retention { audit_days, mail_days, counts_days, .. } = retention;
    let [audit, mail, counts] = [audit_days, mail_days, counts_days].map(|days| i32::try_from(*days).unwrap_or(i32::MAX));
    Ok(database.row_within(LONG_ANSWER, FORGET_OLD, params![epoch, audit, mail, counts]).await?.try_get(0)?)
}

/// Erases some thousand rows of a project that is to be erased; false where there is nothing for the moment.
pub async fn erase_next(database: &Database, epoch: i64) -> Result<bool, StoreError> {
    Ok(database.row_within(LONG_ANSWER, ERASE_NEXT, params![epoch]).await?.try_get(0)?)
}
