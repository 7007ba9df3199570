//! What a worker keeps of candidates, events and verdicts once an outcome was told. Called by `fleet` and `ctl`.

use time::OffsetDateTime;

use super::params::params;
use super::{Database, StoreError};

/// Results of candidates, and how often one was passed over.
pub const KEEP_RESULTS: &str = "-- keep results: what candidates made of events
select actions_private.keep_candidate_results($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)::text";
/// Events, encrypted.
pub const KEEP_EVENTS: &str = "-- keep events: as they were sent, encrypted
select actions_private.keep_events($1, $2, $3, $4, $5)::text";
/// What verdicts gave to people, encrypted.
pub const KEEP_LAST_KNOWN: &str = "-- keep last known: what verdicts gave to people, encrypted
select actions_private.keep_last_known($1, $2, $3, $4, $5)::text";
/// What the last verdict gave a person.
pub const LAST_KNOWN: &str = "-- last known: what the last verdict gave a person
select age_ms, person, key_id, sealed from actions_private.last_known_of($1, $2, $3)";
/// Recorded events, newest first.
pub const RECORDED: &str = "-- recorded: the newest events of an action
select event_id, key_id, sealed from actions_private.recorded_of($1, $2)";

/// What a candidate made of an event.
#[derive(Debug, Clone)]
pub struct CandidateResult {
    /// The invocation that brought the event.
    pub invocation_id: String,
    /// The action.
    pub action_id: String,
    /// The candidate.
    pub version: i32,
    /// How its call ended.
    pub status: &'static str,
    /// Its outcome, JSON.
    pub outcome: String,
    /// The call alone.
    pub duration_ms: Option<f64>,
    /// The parts that differ from what was decided.
    pub differs: Vec<&'static str>,
    /// What was decided was a deny.
    pub was_denied: bool,
}

/// A candidate that was passed over.
#[derive(Debug, Clone)]
pub struct Skipped {
    /// The action.
    pub action_id: String,
    /// The candidate.
    pub version: i32,
    /// How often.
    pub count: i64,
}

/// Something encrypted, of an action.
#[derive(Debug, Clone)]
pub struct Sealed {
    /// The action.
    pub action_id: String,
    /// The root key under which it is sealed.
    pub key_id: String,
    /// The ciphertext with its nonce.
    pub bytes: Vec<u8>,
}

/// An event to be kept.
#[derive(Debug, Clone)]
pub struct RecordedEvent {
    /// `evt_…`
    pub event_id: String,
    /// Bytes of the request that was sent.
    pub size: usize,
    /// The event, and what became of it.
    pub sealed: Sealed,
}

/// What a verdict gave a person.
#[derive(Debug, Clone)]
pub struct LastKnown {
    /// The person's name in the table.
    pub person: Vec<u8>,
    /// When the verdict came.
    pub at: OffsetDateTime,
    /// Roles, permissions and claims.
    pub sealed: Sealed,
}

/// Keeps and counts results.
pub async fn keep_results(database: &Database, results: &[CandidateResult], skipped: &[Skipped]) -> Result<(), StoreError> {
    let differs: Vec<String> = results.iter().map(|result| result.differs.join(",")).collect();
    let of = |value: fn(&CandidateResult) -> &str| results.iter().map(value).collect::<Vec<&str>>();
    database
        .execute(
            KEEP_RESULTS,
            params![
                of(|result| &result.invocation_id),
                of(|result| &result.action_id),
                results.iter().map(|result| result.version).collect::<Vec<_>>(),
                of(|result| result.status),
                of(|result| &result.outcome),
                results.iter().map(|result| result.duration_ms).collect::<Vec<_>>(),
                differs,
                results.iter().map(|result| result.was_denied).collect::<Vec<_>>(),
                skipped.iter().map(|one| one.action_id.as_str()).collect::<Vec<_>>(),
                skipped.iter().map(|one| one.version).collect::<Vec<_>>(),
                skipped.iter().map(|one| one.count).collect::<Vec<_>>(),
            ],
        )
        .await
}

/// Keeps events; the oldest beyond what an action keeps go.
pub async fn keep_events(database: &Database, events: &[RecordedEvent]) -> Result<(), StoreError> {
    let sizes: Vec<i32> = events.iter().map(|event| i32::try_from(event.size).unwrap_or(i32::MAX)).collect();
    let sealed = || events.iter().map(|event| &event.sealed);
    database
        .execute(
            KEEP_EVENTS,
            params![
                sealed().map(|sealed| sealed.action_id.as_str()).collect::<Vec<_>>(),
                events.iter().map(|event| event.event_id.as_str()).collect::<Vec<_>>(),
                sizes,
                sealed().map(|sealed| sealed.key_id.as_str()).collect::<Vec<_>>(),
                sealed().map(|sealed| sealed.bytes.as_slice()).collect::<Vec<_>>(),
            ],
        )
        .await
}

/// Keeps what verdicts gave to people.
pub async fn keep_last_known(database: &Database, people: &[LastKnown]) -> Result<(), StoreError> {
    let sealed = || people.iter().map(|person| &person.sealed);
    database
        .execute(
            KEEP_LAST_KNOWN,
            params![
                sealed().map(|sealed| sealed.action_id.as_str()).collect::<Vec<_>>(),
                people.iter().map(|person| person.person.as_slice()).collect::<Vec<_>>(),
                people.iter().map(|person| person.at).collect::<Vec<_>>(),
                sealed().map(|sealed| sealed.key_id.as_str()).collect::<Vec<_>>(),
                sealed().map(|sealed| sealed.bytes.as_slice()).collect::<Vec<_>>(),
            ],
        )
        .await
}

/// What was found of a person.
#[derive(Debug, Clone)]
pub struct Found {
    /// How old it is.
    pub age_ms: f64,
    /// Under which name.
    pub person: Vec<u8>,
    /// The root key.
    pub key_id: String,
    /// The ciphertext.
    pub sealed: Vec<u8>,
}

/// What the last verdict gave a person, under any of the names that the root keys give.
pub async fn last_known(database: &Database, action: &str, names: &[Vec<u8>], at_most_s: i32) -> Result<Option<Found>, StoreError> {
    let names: Vec<&[u8]> = names.iter().map(Vec::as_slice).collect();
    let rows = database.rows(LAST_KNOWN, params![action, names, at_most_s]).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    Ok(Some(Found { age_ms: row.try_get(0)?, person: row.try_get(1)?, key_id: row.try_get(2)?, sealed: row.try_get(3)? }))
}

/// A recorded event as the database has it.
#[derive(Debug, Clone)]
pub struct Encrypted {
    /// `evt_…`
    pub event_id: String,
    /// The root key under which it is sealed.
    pub key_id: String,
    /// The ciphertext with its nonce.
    pub sealed: Vec<u8>,
}

/// The newest recorded events of an action, the newest first.
pub async fn recorded(database: &Database, action: &str, most: i32) -> Result<Vec<Encrypted>, StoreError> {
    let rows = database.rows(RECORDED, params![action, most]).await?;
    rows.iter().map(|row| Ok(Encrypted { event_id: row.try_get(0)?, key_id: row.try_get(1)?, sealed: row.try_get(2)? })).collect()
}
