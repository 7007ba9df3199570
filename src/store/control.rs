//! What control planes and operators ask of the SQL interface. Rows come as the JSON text
//! that PostgreSQL wrote, so that no number changes on its way to a screen.

use std::time::Duration;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::params::{Param, params};
use super::pool::LONG_ANSWER;
use super::{Database, StoreError, scalars};

/// A new action.
pub const CREATE: &str = "-- create action: bind an endpoint to a trigger
select row_to_json(a)::text from actions.create_action($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) as a";
/// Changes of its configuration.
pub const UPDATE: &str = "-- update action: another version of its configuration
select row_to_json(a)::text from actions.update_action($1, $2::json, $3) as a";
/// A kill by a person.
pub const KILL: &str = "-- kill action: by hand
select row_to_json(a)::text from actions.kill_action($1, $2, $3) as a";
/// One in place of another.
pub const SWAP: &str = "-- swap action: one in place of another
select row_to_json(a)::text from actions.swap_action($1, $2, $3) as a";
/// On or off.
pub const SET_ENABLED: &str = "-- set enabled: on or off
select row_to_json(a)::text from actions.set_enabled($1, $2, $3) as a";
/// After a kill.
pub const REENABLE: &str = "-- reenable action: take back a kill
select row_to_json(a)::text from actions.reenable_action($1, $2) as a";
/// For good.
pub const DELETE: &str = "-- delete action: for good
select row_to_json(a)::text from actions.delete_action($1, $2) as a";
/// A new secret.
pub const ROTATE_SECRET: &str = "-- rotate secret: the previous one counts until the overlap ends
select row_to_json(a)::text from actions.rotate_secret($1, $2, $3 * interval '1 second') as a";
/// The end of an overlap.
pub const FINISH_ROTATION: &str = "-- finish rotation: the previous secret counts no more
select row_to_json(a)::text from actions.finish_rotation($1, $2) as a";
/// One action, as it is.
pub const SHOW: &str = "-- show action: as it is
select row_to_json(a)::text from actions.actions as a where a.action_id = $1";
/// Actions by project.
pub const LIST: &str = "-- list actions: all, or a project's
select row_to_json(a)::text from actions.actions as a
where $1::text is null or a.project_id = $1
order by a.project_id, a.trigger, a.created_at";
/// What a holder of root keys found.
pub const RECORD_SECRET: &str = "-- record secret: its key and fingerprint, if nobody has yet
select actions.record_secret($1, $2, $3, $4)";
/// A made-up event.
pub const SEND_TEST: &str = "-- send test event: on the real path
select invocation_id, wait_ms from actions.send_test_event($1)";
/// What became of an invocation.
pub const OUTCOME: &str = "-- outcome: what became of an invocation
select outcome::text from actions.result($1)";
/// Every time that an action's secret was shown again.
pub const NOTE_REVEALED: &str = "-- note secret revealed: an audit event
select actions.note_secret_revealed($1, $2)::text";
/// Invocations, newest first.
pub const INVOCATIONS: &str = "-- invocations: the newest
select row_to_json(i)::text
from actions.find_invocations($1, $2, $3, coalesce($4, now() - $5 * interval '1 second'), $6) as i";
/// The invocations of an event.
pub const OF_EVENT: &str = "-- invocations of an event: by the id that customers see
select row_to_json(i)::text from actions.by_event($1) as i";
/// One invocation.
pub const INVOCATION: &str = "-- invocation: one
select row_to_json(i)::text from actions.recent_invocations as i where i.invocation_id = $1";
/// How long an invocation took, once it is decided.
pub const MEASURED: &str = "-- measured: how long an invocation took
select json_build_object('status', i.status, 'duration_ms', i.duration_ms,
  'whole_ms', extract(epoch from i.finished_at - i.enqueued_at) * 1000)::text
from actions.recent_invocations as i
where i.invocation_id = $1 and i.finished_at is not null";
/// What finished from a moment on, oldest first.
pub const FINISHED: &str = "-- finished: what ended from a moment on
select row_to_json(i)::text from actions.recent_invocations as i
where i.finished_at >= coalesce($1, now() - $2 * interval '1 second') and ($3::text is null or i.action_id = $3)
order by i.finished_at, i.invocation_id
limit $4";

/// A moment from which on something is wanted. How long ago is counted by PostgreSQL's clock.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub enum Since {
    #[default]
    Always,
    Ago(Duration),
    At(OffsetDateTime),
}

/// Ten years, in seconds: nothing is kept as long.
const FARTHEST_S: u64 = 3_650 * 86_400;

impl Since {
    /// Reads `2h` ago, or a moment of RFC 3339; else what is accepted.
    pub fn read(text: &str) -> Result<Self, String> {
        let refused = || "accepted are 30m, 2h and 7d, up to 3650d, or a moment such as 2026-11-26T08:00:00Z (RFC 3339)".to_owned();
        if let Ok(moment) = OffsetDateTime::parse(text, &Rfc3339) {
            return Ok(Self::At(moment));
        }
        let unit = match text.chars().last() {
            Some('m') => 60,
            Some('h') => 3_600,
            Some('d') => 86_400,
            _ => return Err(refused()),
        };
        let number = &text[..text.len() - 1];
        if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(refused());
        }
        let seconds = number.parse::<u64>().ok().and_then(|number| number.checked_mul(unit)).filter(|seconds| *seconds <= FARTHEST_S);
        seconds.map(|seconds| Self::Ago(Duration::from_secs(seconds))).ok_or_else(refused)
    }

    pub(super) fn at(self) -> Option<OffsetDateTime> {
        if let Self::At(moment) = self { Some(moment) } else { None }
    }

    pub(super) fn seconds_ago(self) -> Option<f64> {
        if let Self::Ago(duration) = self { Some(duration.as_secs_f64()) } else { None }
    }
}

/// The JSON text of the only row.
pub(super) async fn one(database: &Database, sql: &'static str, params: &[Param<'_>]) -> Result<String, StoreError> {
    Ok(database.row_within(LONG_ANSWER, sql, params).await?.try_get(0)?)
}

/// The JSON text of each row.
pub(super) async fn many(database: &Database, sql: &'static str, params: &[Param<'_>]) -> Result<Vec<String>, StoreError> {
    scalars(&database.rows_within(LONG_ANSWER, sql, params).await?)
}

/// What a new action is made of.
#[derive(Debug)]
pub struct NewAction<'a> {
    pub project_id: &'a str,
    pub trigger: &'a str,
    pub endpoint_url: &'a str,
    pub name: &'a str,
    pub timeout_ms: i32,
    pub fail_mode: &'a str,
    pub on_killed: &'a str,
    pub require_response_signature: bool,
    pub enabled: bool,
    pub condition: Option<&'a str>,
}

/// Makes an action; its row.
pub async fn create(database: &Database, new: &NewAction<'_>, actor: &str) -> Result<String, StoreError> {
    one(
        database,
        CREATE,
        params![
            new.project_id,
            new.trigger,
            new.endpoint_url,
            new.name,
            new.timeout_ms,
            new.fail_mode,
            new.on_killed,
            new.require_response_signature,
            actor,
            new.enabled,
            new.condition
        ],
    )
    .await
}

/// Changes an action; `changes` is a JSON object. Its row.
pub async fn update(database: &Database, action: &str, changes: &str, actor: &str) -> Result<String, StoreError> {
    one(database, UPDATE, params![action, changes, actor]).await
}

/// Switches an action on or off; its row.
pub async fn set_enabled(database: &Database, action: &str, enabled: bool, actor: &str) -> Result<String, StoreError> {
    one(database, SET_ENABLED, params![action, enabled, actor]).await
}

/// Kills an action by hand; its row.
pub async fn kill(database: &Database, action: &str, reason: &str, actor: &str) -> Result<String, StoreError> {
    one(database, KILL, params![action, reason, actor]).await
}

/// Disables one action and enables another in its place; the row of that.
pub async fn swap(database: &Database, disable: &str, enable: &str, actor: &str) -> Result<String, StoreError> {
    one(database, SWAP, params![disable, enable, actor]).await
}

/// Takes back a kill; the action's row.
pub async fn reenable(database: &Database, action: &str, actor: &str) -> Result<String, StoreError> {
    one(database, REENABLE, params![action, actor]).await
}

/// Deletes an action for good; its row a last time.
pub async fn delete(database: &Database, action: &str, actor: &str) -> Result<String, StoreError> {
    one(database, DELETE, params![action, actor]).await
}

/// Gives an action a new secret; its row.
pub async fn rotate_secret(database: &Database, action: &str, actor: &str, overlap_s: i32) -> Result<String, StoreError> {
    one(database, ROTATE_SECRET, params![action, actor, overlap_s]).await
}

/// Ends a rotation's overlap; the action's row.
pub async fn finish_rotation(database: &Database, action: &str, actor: &str) -> Result<String, StoreError> {
    one(database, FINISH_ROTATION, params![action, actor]).await
}

/// One action's row, if there is such an action.
pub async fn show(database: &Database, action: &str) -> Result<Option<String>, StoreError> {
    Ok(many(database, SHOW, params![action]).await?.pop())
}

/// Every action's row, or those of a project.
pub async fn list(database: &Database, project: Option<&str>) -> Result<Vec<String>, StoreError> {
    many(database, LIST, params![project]).await
}

/// Records which root key derives a secret, unless that is known; the key that counts.
pub async fn record_secret(database: &Database, action: &str, version: i32, key_id: &str, sha256: &str) -> Result<String, StoreError> {
    one(database, RECORD_SECRET, params![action, version, key_id, sha256]).await
}

/// Writes down that somebody is about to see an action's secret.
pub async fn note_secret_revealed(database: &Database, action: &str, actor: &str) -> Result<(), StoreError> {
    database.execute(NOTE_REVEALED, params![action, actor]).await
}

/// Sends a made-up event: the invocation's id, and for how many milliseconds to wait.
pub async fn send_test(database: &Database, action: &str) -> Result<(String, i32), StoreError> {
    let row = database.row(SEND_TEST, params![action]).await?;
    Ok((row.try_get(0)?, row.try_get(1)?))
}

/// The outcome of an invocation as JSON text, once there is one.
pub async fn outcome(database: &Database, invocation: &str) -> Result<Option<String>, StoreError> {
    Ok(database.row(OUTCOME, params![invocation]).await?.try_get(0)?)
}

/// Which invocations to list.
#[derive(Debug, Default)]
pub struct Wanted<'a> {
    pub action: Option<&'a str>,
    pub project: Option<&'a str>,
    pub status: Option<&'a str>,
    pub since: Since,
    pub most: i32,
}

/// The newest invocations.
pub async fn invocations(database: &Database, wanted: &Wanted<'_>) -> Result<Vec<String>, StoreError> {
    let Wanted { action, project, status, since, most } = wanted;
    many(database, INVOCATIONS, params![*action, *project, *status, since.at(), since.seconds_ago(), *most]).await
}

/// The invocations of an event, newest first.
pub async fn of_event(database: &Database, event: &str) -> Result<Vec<String>, StoreError> {
    many(database, OF_EVENT, params![event]).await
}

/// One invocation, if it is within the retention.
pub async fn invocation(database: &Database, id: &str) -> Result<Option<String>, StoreError> {
    Ok(many(database, INVOCATION, params![id]).await?.pop())
}

/// How long an invocation took, once it is decided.
pub async fn measured(database: &Database, id: &str) -> Result<Option<String>, StoreError> {
    Ok(many(database, MEASURED, params![id]).await?.pop())
}

/// At most `most` of what finished from a moment on, oldest first.
pub async fn finished(database: &Database, since: Since, action: Option<&str>, most: i32) -> Result<Vec<String>, StoreError> {
    many(database, FINISHED, params![since.at(), since.seconds_ago(), action, most]).await
}
