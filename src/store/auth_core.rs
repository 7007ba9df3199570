//! What auth-core asks: the SQL interface, as any client would call it.

use std::time::Duration;

use serde_json::value::RawValue;
use tokio_postgres::Row;
use uuid::Uuid;

use super::params::params;
use super::{Database, StoreError};
use crate::domain::{Outcome, new_event_id};

/// Many events at once. Asynchronous commit: a completion's synchronous one covers it, and
/// the waiter of a row lost in a crash learns of it at its deadline.
pub const ENQUEUE_MANY: &str = "-- enqueue many: gathered events in one statement
select e.invocation_id, e.event_id, e.action_id, e.status, e.outcome::text as outcome, e.wait_ms,
  (select set_config('synchronous_commit', 'off', true)) as quick
from actions.enqueue_many($1, $2, $3::text[]::json[], $4, $5, $6, $7) with ordinality as e
order by e.ordinality";

/// One event by itself.
pub const ENQUEUE: &str = "-- enqueue: one event by itself
select e.invocation_id, e.event_id, e.action_id, e.status, e.outcome::text as outcome, e.wait_ms,
  set_config('synchronous_commit', 'off', true) as quick
from actions.enqueue($1, $2, $3::text::json, $5, $4, $6) as e";

/// What a crash of the server changes.
pub const EPOCH: &str = "-- epoch: between two crashes of the server
select actions.server_epoch()";

/// Events whose answer got lost, once more: known ones are answered again, and what a crash may have
/// forgotten is refused.
pub const ENQUEUE_AGAIN: &str = "-- enqueue again: the answer got lost
select e.invocation_id, e.event_id, e.action_id, e.status, e.outcome::text as outcome, e.wait_ms,
  (select set_config('synchronous_commit', 'off', true)) as quick
from actions.enqueue_again($1, $2, $3::text[]::json[], $4, $5, $6, $7, $8) with ordinality as e
order by e.ordinality";

/// The present state of invocations.
pub const RESULTS: &str = "-- results: what became of these
select invocation_id, event_id, action_id, status, outcome::text as outcome, wait_ms
from actions.results($1)";

/// The end of waiting.
pub const ABANDON: &str = "-- abandon: stop waiting, and learn the final outcomes
select invocation_id, event_id, action_id, status, outcome::text as outcome, wait_ms
from actions.abandon_many($1)";

/// An answer to an enqueue that takes longer comes from a server that is away.
const PATIENCE: Duration = Duration::from_secs(3);
/// Others who wait cannot ask meanwhile. Not shorter: a server that is only overloaded takes its
/// second for hundreds of endings, and would go on with each that nobody listens to any more.
const LONG_PATIENCE: Duration = Duration::from_secs(5);

/// The row with which every function of the interface answers.
#[derive(Debug, Clone)]
pub struct State {
    /// `None` when there was nothing to call.
    pub invocation_id: Option<String>,
    /// `evt_…`
    pub event_id: String,
    /// `None` when there was nothing to call.
    pub action_id: Option<String>,
    /// `queued`, `running` or final.
    pub status: String,
    /// Final once it is there.
    pub outcome: Option<Outcome>,
    /// How long to wait, in milliseconds.
    pub wait_ms: i32,
}

/// One request of [`enqueue_many`].
#[derive(Debug, Clone)]
pub struct Request {
    /// The project.
    pub project_id: String,
    /// The moment.
    pub trigger: &'static str,
    /// The event, a JSON object.
    pub event: Box<RawValue>,
    /// `evt_…`, where it has one already: the same one again is the same invocation.
    pub event_id: Option<String>,
    /// The W3C `traceparent` that it belongs to; one that is not valid is passed over.
    pub trace_parent: Option<String>,
}

/// What is enqueued together, and may be sent again as a whole because its answer got lost.
#[derive(Debug)]
pub struct Batch {
    /// The events, in order.
    pub requests: Vec<Request>,
    id: Uuid,
    /// A single event has a short way of its own, which knows it by its id.
    event_id: String,
}

impl Batch {
    /// A batch that was not sent yet.
    pub fn new(requests: Vec<Request>) -> Self {
        let event_id = requests.first().and_then(|first| first.event_id.clone()).unwrap_or_else(new_event_id);
        Self { requests, id: Uuid::new_v4(), event_id }
    }

    fn columns(&self) -> Columns<'_> {
        let is_single = self.requests.len() == 1;
        let event_ids: Vec<Option<&str>> = match is_single {
            true => vec![Some(&self.event_id)],
            false => self.requests.iter().map(|request| request.event_id.as_deref()).collect(),
        };
        let trace_parents: Vec<Option<&str>> = self.requests.iter().map(|request| request.trace_parent.as_deref()).collect();
        Columns {
            projects: self.requests.iter().map(|request| request.project_id.as_str()).collect(),
            triggers: self.requests.iter().map(|request| request.trigger).collect(),
            events: self.requests.iter().map(|request| request.event.get()).collect(),
            event_ids: event_ids.iter().any(Option::is_some).then_some(event_ids),
            request_id: (!is_single).then_some(self.id),
            trace_parents: trace_parents.iter().any(Option::is_some).then_some(trace_parents),
        }
    }
}

/// A batch as the arrays that the interface takes.
struct Columns<'a> {
    projects: Vec<&'a str>,
    triggers: Vec<&'static str>,
    events: Vec<&'a str>,
    event_ids: Option<Vec<Option<&'a str>>>,
    request_id: Option<Uuid>,
    trace_parents: Option<Vec<Option<&'a str>>>,
}

/// The present epoch of the server: another one after a crash or a promotion.
pub async fn server_epoch(database: &Database) -> Result<Uuid, StoreError> {
    Ok(database.row_within(PATIENCE, EPOCH, params![]).await?.try_get(0)?)
}

/// Enqueues all or, on an error, none; one row for each, in order.
pub async fn enqueue_many(database: &Database, batch: &Batch, reply_to: &str) -> Result<Vec<State>, StoreError> {
    let Batch { requests, id, event_id } = batch;
    if let [Request { project_id, trigger, event, trace_parent, .. }] = requests.as_slice() {
        let event = event.get();
        let params = params![project_id, trigger, event, event_id, reply_to, trace_parent];
        return states(&database.rows_within(PATIENCE, ENQUEUE, params).await?);
    }
    let Columns { projects, triggers, events, event_ids, trace_parents, .. } = batch.columns();
    let params = params![projects, triggers, events, event_ids, reply_to, id, trace_parents];
    states(&database.rows_within(PATIENCE, ENQUEUE_MANY, params).await?)
}

/// The same after an answer got lost: what the database knows is the same invocations. If it is not in the
/// `epoch` any more that it was in before that, whatever it does not know is refused (08007).
pub async fn enqueue_again(database: &Database, batch: &Batch, reply_to: &str, epoch: Uuid) -> Result<Vec<State>, StoreError> {
    let Columns { projects, triggers, events, event_ids, request_id, trace_parents } = batch.columns();
    let params = params![projects, triggers, events, event_ids, reply_to, request_id, epoch, trace_parents];
    states(&database.rows_within(PATIENCE, ENQUEUE_AGAIN, params).await?)
}

/// What became of these; an unknown one is missing, and an error where all are unknown.
pub async fn results(database: &Database, ids: &[String]) -> Result<Vec<State>, StoreError> {
    states(&database.rows_within(LONG_PATIENCE, RESULTS, params![ids]).await?)
}

/// Stops waiting and returns the final states, in the order of the ids, without unknown ones.
pub async fn abandon(database: &Database, ids: &[String]) -> Result<Vec<State>, StoreError> {
    states(&database.rows_within(LONG_PATIENCE, ABANDON, params![ids]).await?)
}

fn states(rows: &[Row]) -> Result<Vec<State>, StoreError> {
    rows.iter().map(state).collect::<Result<_, _>>()
}

fn state(row: &Row) -> Result<State, StoreError> {
    let outcome = row.try_get::<_, Option<&str>>(4)?;
    let outcome = outcome.map(serde_json::from_str).transpose().map_err(StoreError::unreadable)?;
    Ok(State {
        invocation_id: row.try_get(0)?,
        event_id: row.try_get(1)?,
        action_id: row.try_get(2)?,
        status: row.try_get(3)?,
        outcome,
        wait_ms: row.try_get(5)?,
    })
}
