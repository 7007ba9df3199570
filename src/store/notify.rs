//! Telling waiters: as many results in one NOTIFY as fit.

use std::collections::BTreeMap;

use super::connection::Connection;
use super::params::params;
use super::pool::ANSWER;
use super::{Database, StoreError};

/// A NOTIFY takes an instance-wide lock at commit: asynchronous, it holds the lock for no flush.
/// Where a session that never cleans up has filled half of the server's queue, nothing is sent:
/// waiters that hear nothing ask.
pub const NOTIFY: &str = "-- notify: one notification a packed payload
select set_config('synchronous_commit', 'off', true), pg_notify(n.channel, n.payload)
from unnest($1::text[], $2::text[]) as n (channel, payload)
where (select actions_private.may_notify())";

/// The same within a transaction that must be on the disk before anybody hears of it.
pub const NOTIFY_WITH_COMMIT: &str = "-- notify with commit: one notification a packed payload
select pg_notify(n.channel, n.payload)
from unnest($1::text[], $2::text[]) as n (channel, payload)
where (select actions_private.may_notify())";

/// PostgreSQL accepts payloads below 8,000 bytes.
const MAX_PAYLOAD_BYTES: usize = 7_999;

/// A result for a waiter.
#[derive(Debug, Clone)]
pub struct Reply {
    /// The waiter's channel, or `channel/token`.
    pub reply_to: String,
    /// The invocation.
    pub id: String,
    /// Its status.
    pub status: &'static str,
    /// Its outcome as JSON; `None` sends the waiter to `actions.result`.
    pub outcome: Option<String>,
}

/// Packs replies into payloads, each a JSON array, in the order given for each channel.
pub fn pack(replies: &[Reply]) -> (Vec<String>, Vec<String>) {
    let mut open: BTreeMap<&str, String> = BTreeMap::new();
    let (mut channels, mut payloads) = (Vec::new(), Vec::new());
    for reply in replies {
        let (channel, token) = reply.reply_to.rsplit_once('/').unwrap_or((&reply.reply_to, ""));
        let token = if token.is_empty() { String::new() } else { format!(r#","token":"{token}""#) };
        let bare = format!(r#"{{"id":"{}"{token},"status":"{}""#, reply.id, reply.status);
        let full = reply.outcome.as_ref().map(|outcome| format!(r#"{bare},"outcome":{outcome}}}"#));
        let element = full.filter(|full| full.len() + 2 <= MAX_PAYLOAD_BYTES).unwrap_or(bare + "}");
        let payload = open.entry(channel).or_default();
        if !payload.is_empty() && payload.len() + element.len() + 2 > MAX_PAYLOAD_BYTES {
            channels.push(channel.to_owned());
            payloads.push(std::mem::take(payload) + "]");
        }
        payload.push(if payload.is_empty() { '[' } else { ',' });
        payload.push_str(&element);
    }
    for (channel, payload) in open {
        channels.push(channel.to_owned());
        payloads.push(payload + "]");
    }
    (channels, payloads)
}

/// Tells waiters; what got lost here is found by a waiter at its deadline.
pub async fn notify(database: &Database, replies: &[Reply]) -> Result<(), StoreError> {
    if replies.is_empty() {
        return Ok(());
    }
    database.run_within(ANSWER, async |connection| notify_on(connection, NOTIFY, replies).await).await
}

pub(super) async fn notify_on(connection: &mut Connection, statement: &'static str, replies: &[Reply]) -> Result<(), StoreError> {
    let (channels, payloads) = pack(replies);
    connection.query(statement, params![channels, payloads]).await.map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(channel: &str, id: usize, outcome: String) -> Reply {
        Reply { reply_to: channel.to_owned(), id: format!("inv_{id}"), status: "ok", outcome: Some(outcome) }
    }

    #[test]
    fn every_payload_is_a_json_array_below_8000_bytes_and_nothing_is_lost() {
        let replies: Vec<Reply> =
            (0..500).map(|id| reply(["a", "b"][id % 2], id, format!(r#"{{"x":"{}"}}"#, "y".repeat(id * 20)))).collect();
        let (channels, payloads) = pack(&replies);
        let mut seen = 0;
        for payload in &payloads {
            assert!(payload.len() < 8000);
            seen += serde_json::from_str::<Vec<serde_json::Value>>(payload).unwrap().len();
        }
        assert_eq!((seen, channels.len()), (500, payloads.len()));
    }

    #[test]
    fn a_waiter_that_gave_a_token_gets_it_back_with_each_element() {
        let (channels, payloads) = pack(&[reply("a/b/5f0cK2w9", 1, "{}".to_owned()), reply("a/b", 2, "{}".to_owned())]);
        assert_eq!(channels, ["a", "a/b"]);
        assert_eq!(payloads[1], r#"[{"id":"inv_1","token":"5f0cK2w9","status":"ok","outcome":{}}]"#);
    }

    #[test]
    fn a_result_too_big_for_a_payload_goes_without_its_outcome() {
        let (_, payloads) = pack(&[reply("a", 1, format!("\"{}\"", "x".repeat(8000)))]);
        assert_eq!(payloads, [r#"[{"id":"inv_1","status":"ok"}]"#]);
    }
}
