//! Candidates, break-glass and versions, for people. Rows come as the JSON text that PostgreSQL wrote. Called
//! by `ctl` and `console`.

use super::control::{many, one};
use super::params::params;
use super::{Database, StoreError, scalars};

/// Begins one.
pub const STAGE: &str = "-- stage candidate: a change is tried
select row_to_json(c)::text from actions.stage_candidate($1, $2::json, $3, $4, $5) as c";
/// Makes it the current version.
pub const PROMOTE: &str = "-- promote candidate: it is the current version now
select row_to_json(c)::text from actions.promote_candidate($1, $2) as c";
/// Ends it.
pub const WITHDRAW: &str = "-- withdraw candidate: the current version stays
select row_to_json(c)::text from actions.withdraw_candidate($1, $2) as c";
/// Those of an action.
pub const OF: &str = "-- candidates: of an action, newest first
select row_to_json(c)::text from actions.candidates as c where c.action_id = $1 order by c.started_at desc limit 100";
/// What differed lately.
pub const DIFFERENCES: &str = "-- differences: the newest results of a candidate that differ
select row_to_json(r)::text
from actions.candidate_results as r
where r.action_id = $1 and r.version = $2 and r.differs <> '{}'
order by r.at desc
limit 50";
/// What candidates made of one invocation.
pub const RESULTS: &str = "-- results: what candidates made of an invocation
select row_to_json(r)::text from actions.candidate_results as r where r.invocation_id = $1 order by r.version";
/// Which events meet a condition; raises where it is none.
pub const MET: &str = "-- met: which events meet a condition
select array(select actions_private.is_met(e.event::json, $2) from unnest($1::text[]) with ordinality as e (event, n) order by e.n)
from (select) as always cross join lateral actions_private.refuse_condition($2) as checked";
/// A version of an action.
pub const VERSION: &str = "-- version: of an action, current or not
select row_to_json(v)::text from actions.versions as v where v.action_id = $1 and v.version = $2";
/// Whom no failure locks out.
pub const BREAK_GLASS: &str = "-- break-glass: the users of a project
select u from actions.break_glass($1) as u order by u";
/// Says whom.
pub const SET_BREAK_GLASS: &str = "-- set break-glass: the users of a project
select actions.set_break_glass($1, $2, $3)::text";
/// Erases what was recorded.
pub const FORGET_EVENTS: &str = "-- forget events: all that was recorded of an action
select actions.forget_events($1, $2)";

/// Begins to try a change; its row.
pub async fn stage(database: &Database, action: &str, changes: &str, mode: &str, percent: i32, actor: &str) -> Result<String, StoreError> {
    one(database, STAGE, params![action, changes, mode, percent, actor]).await
}

/// Makes the running candidate the current version; its row.
pub async fn promote(database: &Database, action: &str, actor: &str) -> Result<String, StoreError> {
    one(database, PROMOTE, params![action, actor]).await
}

/// Ends the running candidate; its row.
pub async fn withdraw(database: &Database, action: &str, actor: &str) -> Result<String, StoreError> {
    one(database, WITHDRAW, params![action, actor]).await
}

/// Everything that was tried of an action, newest first.
pub async fn of(database: &Database, action: &str) -> Result<Vec<String>, StoreError> {
    many(database, OF, params![action]).await
}

/// The newest results of a candidate that differ.
pub async fn differences(database: &Database, action: &str, version: i32) -> Result<Vec<String>, StoreError> {
    many(database, DIFFERENCES, params![action, version]).await
}

/// What candidates made of an invocation.
pub async fn results(database: &Database, invocation: &str) -> Result<Vec<String>, StoreError> {
    many(database, RESULTS, params![invocation]).await
}

/// Which of these events meet a condition.
pub async fn met(database: &Database, events: &[String], condition: &str) -> Result<Vec<bool>, StoreError> {
    database.row(MET, params![events, condition]).await?.try_get(0).map_err(Into::into)
}

/// A version of an action, if there is such a one.
pub async fn version(database: &Database, action: &str, version: i32) -> Result<Option<String>, StoreError> {
    Ok(many(database, VERSION, params![action, version]).await?.pop())
}

/// The users whom no failure locks out.
pub async fn break_glass(database: &Database, project: &str) -> Result<Vec<String>, StoreError> {
    scalars(&database.rows(BREAK_GLASS, params![project]).await?)
}

/// Says whom no failure locks out.
pub async fn set_break_glass(database: &Database, project: &str, users: &[String], actor: &str) -> Result<(), StoreError> {
    database.execute(SET_BREAK_GLASS, params![project, users, actor]).await
}

/// Erases what was recorded of an action; how many events.
pub async fn forget_events(database: &Database, action: &str, actor: &str) -> Result<i64, StoreError> {
    database.row(FORGET_EVENTS, params![action, actor]).await?.try_get(0).map_err(Into::into)
}
