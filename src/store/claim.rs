//! Taking the oldest invocations from the queue.

use std::time::Duration;

use time::OffsetDateTime;
use tokio::time::Instant;
use tokio_postgres::Row;
use uuid::Uuid;

use super::params::params;
use super::pool::LONG_ANSWER;
use super::{Database, StoreError};
use crate::domain::{TraceParent, Trigger};

/// One statement: lock the head of the queue, keep what the bulkheads have room for, mark it
/// ours, and read everything the call needs. It commits asynchronously: the completion's
/// synchronous commit covers it.
pub const CLAIM: &str = "-- claim: the oldest queued invocations, no more of an action than its bulkhead has room for
select id, event_id, project_id, project_revision, trigger, action_id, action_version, test, event, reply_to, enqueued_at, remaining_ms,
  queue_ms, claimed_unix, killed_reason, secret_version, secret_key_id, previous_secret_version, previous_secret_key_id, secret_seen, canary, shadow_version, trace_parent
from actions_private.claim($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)";

/// A claim that takes longer comes from a server that is away; what it took all the same expires.
const PATIENCE: Duration = Duration::from_secs(3);

/// An invocation that is ours to send, with the token that proves it.
#[derive(Debug, Clone)]
pub struct Claim {
    /// `inv_…`
    pub id: String,
    /// Proof of the claim; every write-back names it.
    pub token: Uuid,
    /// `evt_…`
    pub event_id: String,
    /// The project.
    pub project_id: String,
    /// The project's revision when it was claimed.
    pub project_revision: i64,
    /// The moment.
    pub trigger: Trigger,
    /// The action.
    pub action_id: String,
    /// The version of the action it runs under.
    pub action_version: i32,
    /// A test event.
    pub test: bool,
    /// The event, a JSON object as auth-core wrote it.
    pub event: String,
    /// Where the waiter listens.
    pub reply_to: Option<String>,
    /// When auth-core reported it.
    pub enqueued_at: OffsetDateTime,
    /// What was left until its deadline when it was claimed; may be negative.
    pub remaining_ms: f64,
    /// What it waited in the queue.
    pub queue_ms: f64,
    /// PostgreSQL's clock at the claim, in seconds since 1970.
    pub claimed_unix: f64,
    /// When its row arrived here.
    pub received: Instant,
    /// Why the action was killed, if it is.
    pub killed_reason: Option<String>,
    /// Which secrets sign.
    pub secrets: SecretVersions,
    /// A candidate decides.
    pub canary: bool,
    /// The candidate that gets the event, too, once it is decided.
    pub shadow_version: Option<i32>,
    /// The trace that it belongs to.
    pub trace_parent: Option<TraceParent>,
}

/// Which secrets an action has at the moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretVersions {
    /// The current secret's version.
    pub current: i32,
    /// Its root key, once a holder of root keys has recorded it.
    pub current_key: Option<String>,
    /// The previous secret's version, while a rotation overlaps.
    pub previous: Option<i32>,
    /// Its root key.
    pub previous_key: Option<String>,
    /// An answer signed with the current one has arrived: the endpoint has it, so the previous
    /// one no longer signs. Answers may still come under either.
    pub is_seen: bool,
}

/// How much to claim, and what to leave out.
#[derive(Debug, Clone, Default)]
pub struct Room {
    /// The most invocations to take.
    pub limit: usize,
    /// The most of one action that is not in `tight`.
    pub per_action: usize,
    /// What actions that are in flight already may still have.
    pub tight: Vec<(String, usize)>,
}

/// How far back to look, and what the worker does next.
#[derive(Debug, Clone, Copy)]
pub struct Look {
    /// Only at invocations enqueued within this time; `None` looks at the whole queue.
    pub back: Option<Duration>,
    /// Only at invocations that have so much time left; `None` looks also at those that have none.
    pub least_left: Option<Duration>,
    /// Tells those who enqueue that this worker claims again by itself within milliseconds, or
    /// that it does so no more; `None` where nothing changed.
    pub says_awake: Option<bool>,
    /// In turns among the projects of the oldest and of so many of the newest: where more waits than
    /// one claim takes, a project's burst would hold up all others. `None` takes just the oldest.
    pub fair_among: Option<i32>,
}

/// Claims for `worker` what there is room for; the oldest first.
pub async fn claim(database: &Database, worker: &str, room: &Room, look: Look) -> Result<Vec<Claim>, StoreError> {
    let token = Uuid::new_v4();
    let (full, tight): (Vec<_>, Vec<_>) = room.tight.iter().partition(|(_, room)| *room == 0);
    let full: Vec<&str> = full.iter().map(|(action, _)| action.as_str()).collect();
    let count = |count: usize| i32::try_from(count).unwrap_or(i32::MAX);
    let milliseconds = |duration: Duration| i32::try_from(duration.as_millis()).unwrap_or(i32::MAX);
    let (actions, rooms): (Vec<&str>, Vec<i32>) = tight.iter().map(|(action, room)| (action.as_str(), count(*room))).unzip();
    // The first look goes through the whole queue, and all that vacuum could not clean up yet.
    let limit = if look.back.is_none() { LONG_ANSWER } else { PATIENCE };
    let rows = database
        .rows_within(
            limit,
            CLAIM,
            params![
                token,
                count(room.limit),
                full,
                actions,
                rooms,
                count(room.per_action),
                worker,
                look.back.map(milliseconds),
                look.least_left.map(milliseconds),
                look.says_awake,
                look.fair_among
            ],
        )
        .await?;
    let received = Instant::now();
    let mut claims: Vec<Claim> = rows.iter().map(|row| read(row, token, received)).collect::<Result<_, StoreError>>()?;
    claims.sort_unstable_by(|a, b| a.id.cmp(&b.id));
    Ok(claims)
}

/// By position: a name would be looked for among twenty, for each of them.
fn read(row: &Row, token: Uuid, received: Instant) -> Result<Claim, StoreError> {
    let trigger: &str = row.try_get(4)?;
    Ok(Claim {
        id: row.try_get(0)?,
        token,
        event_id: row.try_get(1)?,
        project_id: row.try_get(2)?,
        project_revision: row.try_get(3)?,
        trigger: trigger.parse().map_err(StoreError::unreadable)?,
        action_id: row.try_get(5)?,
        action_version: row.try_get(6)?,
        test: row.try_get(7)?,
        event: row.try_get(8)?,
        reply_to: row.try_get(9)?,
        enqueued_at: row.try_get(10)?,
        remaining_ms: row.try_get(11)?,
        queue_ms: row.try_get(12)?,
        claimed_unix: row.try_get(13)?,
        received,
        killed_reason: row.try_get(14)?,
        secrets: SecretVersions {
            current: row.try_get(15)?,
            current_key: row.try_get(16)?,
            previous: row.try_get(17)?,
            previous_key: row.try_get(18)?,
            is_seen: row.try_get(19)?,
        },
        canary: row.try_get(20)?,
        shadow_version: row.try_get(21)?,
        trace_parent: row.try_get::<_, Option<&str>>(22)?.and_then(TraceParent::parse),
    })
}

impl Claim {
    /// The time until the deadline at the moment of the claim.
    pub fn remaining(&self) -> Duration {
        Duration::from_secs_f64((self.remaining_ms / 1000.0).clamp(0.0, 3600.0))
    }
}
