//! Ending invocations: fenced by the claim token, many in one durable statement.

use std::collections::HashSet;

use uuid::Uuid;

use super::notify::{Reply, pack};
use super::params::params;
use super::{Database, StoreError, scalars};
use crate::domain::{ErrorCode, Status};

/// Commits synchronously: the write-ahead log is sequential, so this makes the claim and the
/// enqueue before it durable, too.
pub const COMPLETE: &str = "-- complete: move what is still ours from the queue into the history
select actions_private.complete($1, $2, $3::text[]::actions_private.final_status[], $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)";

/// Which of our invocations are in the history already: asked when an answer to COMPLETE got lost.
pub const LANDED: &str = "-- landed: which of these are decided
select id from actions_private.invocations where id = any ($1)";

/// What nearly every outcome is: it is not written, and `outcome_of` of the schema reads it back.
const PLAIN_ALLOW: &str = r#"{"decision":"allow","source":"verdict","status":"ok"}"#;

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
    /// Milliseconds by phase, a JSON object.
    pub phases: Option<String>,
    /// What went wrong.
    pub error: Option<String>,
    /// The stable word for it.
    pub error_code: Option<ErrorCode>,
    /// SHA-256 of the response body.
    pub response_sha256: Option<Vec<u8>>,
    /// The verdict's overrides were honoured.
    pub overrode: bool,
    /// Audit events: name and details as JSON.
    pub notes: Vec<(&'static str, String)>,
}

/// Ends those that are still ours and returns their ids. One that is missing was ended by
/// somebody else: abandoned by its waiter, or expired. If none is missing, `replies` go out
/// with the commit; else nobody was told.
pub async fn complete(database: &Database, endings: &[Ending], replies: &[Reply]) -> Result<HashSet<String>, StoreError> {
    fn column<'a, T>(endings: &'a [Ending], value: impl Fn(&'a Ending) -> T) -> Vec<T> {
        endings.iter().map(value).collect()
    }
    let notes = || {
        endings.iter().flat_map(|ending| ending.notes.iter().map(move |(event, details)| (ending.id.as_str(), *event, details.as_str())))
    };
    let (channels, payloads) = pack(replies);
    let ids: Vec<String> = database
        .row(
            COMPLETE,
            params![
                column(endings, |e| e.id.as_str()),
                column(endings, |e| e.token),
                column(endings, |e| e.status.as_str()),
                column(endings, written_outcome),
                column(endings, |e| e.http_status),
                column(endings, |e| e.duration_ms),
                column(endings, |e| e.phases.as_deref()),
                column(endings, |e| e.error.as_deref()),
                column(endings, |e| e.error_code.map(ErrorCode::as_str)),
                column(endings, |e| e.response_sha256.as_deref()),
                column(endings, |e| e.overrode),
                notes().map(|(id, _, _)| id).collect::<Vec<_>>(),
                notes().map(|(_, event, _)| event).collect::<Vec<_>>(),
                notes().map(|(_, _, details)| details).collect::<Vec<_>>(),
                channels,
                payloads,
            ],
        )
        .await?
        .try_get(0)?;
    Ok(ids.into_iter().collect())
}

/// The outcome as it is written: of a verdict that allows and says nothing else, nothing.
fn written_outcome(ending: &Ending) -> Option<&str> {
    let is_plain = ending.status == Status::Ok && ending.outcome == PLAIN_ALLOW;
    (!is_plain).then_some(ending.outcome.as_str())
}

/// Which of these are decided, by whomever.
pub async fn landed(database: &Database, ids: &[&str]) -> Result<HashSet<String>, StoreError> {
    Ok(scalars::<String>(&database.rows(LANDED, params![ids]).await?)?.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Decision, Outcome, Source};

    fn ending(status: Status, outcome: &str) -> Ending {
        Ending {
            id: String::new(),
            token: Uuid::nil(),
            status,
            outcome: outcome.to_owned(),
            http_status: None,
            duration_ms: None,
            phases: None,
            error: None,
            error_code: None,
            response_sha256: None,
            overrode: false,
            notes: Vec::new(),
        }
    }

    #[test]
    fn only_the_plain_allow_of_a_verdict_is_not_written() {
        let plain = serde_json::to_string(&Outcome::plain(Decision::Allow, Source::Verdict, Status::Ok)).unwrap();
        assert_eq!(written_outcome(&ending(Status::Ok, &plain)), None);
        let deny = serde_json::to_string(&Outcome::plain(Decision::Deny, Source::Verdict, Status::Rejected)).unwrap();
        for (status, outcome) in [(Status::Rejected, deny.as_str()), (Status::Rejected, &plain), (Status::Ok, r#"{"decision":"allow"}"#)] {
            assert_eq!(written_outcome(&ending(status, outcome)), Some(outcome));
        }
    }
}
