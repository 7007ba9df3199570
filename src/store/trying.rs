//! What the leading janitor does for candidates, killed actions that take themselves back, warnings and
//! alerts; every write proves the leadership by its epoch. Called by `janitor`.

use super::params::params;
use super::pool::LONG_ANSWER;
use super::{Database, StoreError, scalars};

/// Candidates that decide for some people.
pub const CANARIES: &str = "-- canaries: what they did, and what the current version did
select action_id, version, calls, errors, denies, other_calls, other_errors, other_denies from actions_private.canaries()";
/// One goes.
pub const WITHDRAW_CANARY: &str = "-- withdraw canary: with an audit event and mails
select actions_private.withdraw_canary($1, $2, $3, $4)";
/// Killed actions that may take themselves back.
pub const PROBE: &str = "-- probe: test events to killed actions, and the end of kills
select actions_private.probe($1, $2)";
/// Close to a kill.
pub const WARN: &str = "-- warn: owners and admins, at most once an hour
select actions_private.warn($1, $2, $3, $4::json)";
/// What is past its time.
pub const FORGET_TRIALS: &str = "-- forget trials: recorded events, last known roles and results of candidates
select coalesce((select actions_private.forget_trials($2) where actions_private.leads($1)), 0)";
/// What happened that operators hear of.
pub const ALARMING: &str = "-- alarming: audit events after one, that operators hear of
select l.id, l.event, l.project_id, l.action_id, coalesce(l.details ->> 'reason', '') as reason, coalesce(l.actor, '') as actor
from actions_private.audit_log as l
where l.id > $1 and l.event in ('action.killed', 'action.candidate_withdrawn')
order by l.id
limit 100";
/// Where a new leader begins: what happened within the last minute it tells again rather than not at all.
pub const LOOKED_UP_TO: &str = "-- looked up to: the last audit event that is older than a minute
select l.id from actions_private.audit_log as l where l.at < clock_timestamp() - interval '1 minute' order by l.id desc limit 1";
/// The fleet as a whole.
pub const FLEET_HEALTH: &str = "-- fleet health: in a word, with its reasons
select f.status, coalesce(f.why, ''), f.kills_held from actions.fleet_health as f";

/// A candidate that decides for some people, and the version that decides for the others.
#[derive(Debug, Clone)]
pub struct Canary {
    /// The action.
    pub action_id: String,
    /// The candidate.
    pub version: i32,
    /// Its calls since it started.
    pub calls: i64,
    /// Those that failed.
    pub errors: i64,
    /// Those that denied.
    pub denies: i64,
    /// Calls of the current version since then.
    pub other_calls: i64,
    /// Those that failed.
    pub other_errors: i64,
    /// Those that denied.
    pub other_denies: i64,
}

/// Candidates that decide for some people and have enough calls to be judged.
pub async fn canaries(database: &Database) -> Result<Vec<Canary>, StoreError> {
    let rows = database.rows(CANARIES, params![]).await?;
    rows.iter()
        .map(|row| {
            Ok(Canary {
                action_id: row.try_get(0)?,
                version: row.try_get(1)?,
                calls: row.try_get(2)?,
                errors: row.try_get(3)?,
                denies: row.try_get(4)?,
                other_calls: row.try_get(5)?,
                other_errors: row.try_get(6)?,
                other_denies: row.try_get(7)?,
            })
        })
        .collect()
}

/// Withdraws one; false where it runs no more.
pub async fn withdraw_canary(database: &Database, epoch: i64, canary: &Canary, why: &str) -> Result<bool, StoreError> {
    Ok(database.row(WITHDRAW_CANARY, params![epoch, canary.action_id, canary.version, why]).await?.try_get(0)?)
}

/// Sends test events to killed actions, and takes back kills; returns how many.
pub async fn probe(database: &Database, epoch: i64, every_s: u32) -> Result<i32, StoreError> {
    Ok(database.row(PROBE, params![epoch, i32::try_from(every_s).unwrap_or(i32::MAX)]).await?.try_get(0)?)
}

/// Warns of a kill; false where that was done within the hour.
pub async fn warn(database: &Database, epoch: i64, action: &str, why: &str, figures: &str) -> Result<bool, StoreError> {
    Ok(database.row(WARN, params![epoch, action, why, figures]).await?.try_get(0)?)
}

/// Deletes what is past its time, some thousand rows of each kind; returns how many.
pub async fn forget(database: &Database, epoch: i64, candidate_days: u32) -> Result<i64, StoreError> {
    let days = i32::try_from(candidate_days).unwrap_or(i32::MAX);
    Ok(database.row_within(LONG_ANSWER, FORGET_TRIALS, params![epoch, days]).await?.try_get(0)?)
}

/// An audit event that operators hear of.
#[derive(Debug, Clone)]
pub struct Alarming {
    /// Its place in the log.
    pub id: i64,
    /// `action.killed`, `action.candidate_withdrawn`.
    pub event: String,
    /// The project.
    pub project_id: String,
    /// The action.
    pub action_id: Option<String>,
    /// Why.
    pub reason: String,
    /// By whom.
    pub actor: String,
}

/// What happened after an event.
pub async fn alarming(database: &Database, after: i64) -> Result<Vec<Alarming>, StoreError> {
    let rows = database.rows(ALARMING, params![after]).await?;
    rows.iter()
        .map(|row| {
            Ok(Alarming {
                id: row.try_get(0)?,
                event: row.try_get(1)?,
                project_id: row.try_get(2)?,
                action_id: row.try_get(3)?,
                reason: row.try_get(4)?,
                actor: row.try_get(5)?,
            })
        })
        .collect()
}

/// The last event that another leader must have told.
pub async fn looked_up_to(database: &Database) -> Result<i64, StoreError> {
    Ok(scalars(&database.rows(LOOKED_UP_TO, params![]).await?)?.pop().unwrap_or_default())
}

/// The fleet in a word, why, and whether kills are held.
pub async fn fleet_health(database: &Database) -> Result<(String, String, bool), StoreError> {
    let row = database.row(FLEET_HEALTH, params![]).await?;
    Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?))
}
