//! Ending invocations: fenced by the claim token, many in one durable statement.

use std::collections::HashSet;

use uuid::Uuid;

use super::{Database, StoreError};
use crate::domain::Status;

/// Whoever deletes the row from the queue decides; a row that is gone or carries another
/// token stays out of every part of the statement. Commits synchronously: the write-ahead
/// log is sequential, so this makes the claim and the enqueue before it durable, too.
pub const COMPLETE: &str = "-- complete: move what is still ours from the queue into the history
with given as (
  select *
  from unnest($1::text[], $2::uuid[], $3::text[], $4::text[], $5::integer[], $6::double precision[], $7::text[], $8::bytea[], $9::boolean[])
    as g (id, token, status, outcome, http_status, duration_ms, error, response_sha256, overrode)
), ended as (
  delete from actions_private.queue as q
  using given as g
  where q.id = g.id and q.claim_token = g.token and q.status = 'running'
  returning q.id, q.event_id, q.project_id, q.trigger, q.action_id, q.action_version, q.test, q.enqueued_at, q.claimed_at, q.worker,
    g.status, g.outcome, g.http_status, g.duration_ms, g.error, g.response_sha256, g.overrode
), kept as (
  insert into actions_private.invocations
    (id, event_id, project_id, trigger, action_id, action_version, test, status, outcome, http_status, duration_ms, queue_ms, error,
     response_sha256, overrode, enqueued_at, finished_at, worker)
  select e.id, e.event_id, e.project_id, e.trigger, e.action_id, e.action_version, e.test, e.status, e.outcome::json, e.http_status, e.duration_ms,
    extract(epoch from e.claimed_at - e.enqueued_at)::double precision * 1000, e.error, e.response_sha256, e.overrode, e.enqueued_at,
    clock_timestamp(), e.worker
  from ended as e
), noted as (
  insert into actions_private.audit_log (project_id, action_id, event, actor, details)
  select e.project_id, e.action_id, n.event, 'fleet', n.details::json
  from unnest($10::text[], $11::text[], $12::text[]) as n (id, event, details)
  join ended as e on e.id = n.id
)
select id from ended";

/// Which of our invocations are in the history already: asked when an answer to COMPLETE got lost.
pub const LANDED: &str = "-- landed: which of these are decided
select id from actions_private.invocations where id = any ($1)";

/// What to write about one invocation.
#[derive(Debug, Clone)]
pub struct Ending {
    /// The invocation.
    pub id: String,
    /// The proof that it is ours.
    pub token: Uuid,
    /// How it ended.
    pub status: Status,
    /// The outcome as JSON.
    pub outcome: String,
    /// The endpoint's status code.
    pub http_status: Option<i32>,
    /// The call alone, in milliseconds.
    pub duration_ms: Option<f64>,
    /// What went wrong.
    pub error: Option<String>,
    /// SHA-256 of the response body.
    pub response_sha256: Option<Vec<u8>>,
    /// The verdict's overrides were honoured.
    pub overrode: bool,
    /// Audit events: name and details as JSON.
    pub notes: Vec<(String, String)>,
}

/// Ends those that are still ours and returns their ids. One that is missing was ended by
/// somebody else: abandoned by its waiter, or expired.
pub async fn complete(database: &Database, endings: &[Ending]) -> Result<HashSet<String>, StoreError> {
    fn column<'a, T>(endings: &'a [Ending], value: impl Fn(&'a Ending) -> T) -> Vec<T> {
        endings.iter().map(value).collect()
    }
    let notes = || {
        endings
            .iter()
            .flat_map(|ending| ending.notes.iter().map(move |(event, details)| (ending.id.as_str(), event.as_str(), details.as_str())))
    };
    let ids = database
        .run(async |connection| {
            sqlx::query_scalar::<_, String>(COMPLETE)
                .bind(column(endings, |e| e.id.as_str()))
                .bind(column(endings, |e| e.token))
                .bind(column(endings, |e| e.status.as_str()))
                .bind(column(endings, |e| e.outcome.as_str()))
                .bind(column(endings, |e| e.http_status))
                .bind(column(endings, |e| e.duration_ms))
                .bind(column(endings, |e| e.error.as_deref()))
                .bind(column(endings, |e| e.response_sha256.as_deref()))
                .bind(column(endings, |e| e.overrode))
                .bind(notes().map(|(id, _, _)| id).collect::<Vec<_>>())
                .bind(notes().map(|(_, event, _)| event).collect::<Vec<_>>())
                .bind(notes().map(|(_, _, details)| details).collect::<Vec<_>>())
                .fetch_all(connection)
                .await
        })
        .await?;
    Ok(ids.into_iter().collect())
}

/// Which of these are decided, by whomever.
pub async fn landed(database: &Database, ids: &[&str]) -> Result<HashSet<String>, StoreError> {
    let ids = database.run(async |connection| sqlx::query_scalar::<_, String>(LANDED).bind(ids).fetch_all(connection).await).await?;
    Ok(ids.into_iter().collect())
}
