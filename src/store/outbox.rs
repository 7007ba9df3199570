//! Mail that waits to be sent. Whoever takes one holds it for a minute; what is not reported
//! as sent by then is taken again. What the mail server goes on refusing is given up: it stays,
//! with its reason, for operators to see.

use super::params::params;
use super::{Database, StoreError};

/// Due mails, the oldest first, for the leading janitor alone.
pub const TAKE_MAILS: &str = "-- take mails: due ones, held for a minute
with due as materialized (
  select m.id
  from actions_private.mail_outbox as m
  where m.sent_at is null and m.refused_at is null and m.text_body is not null and m.next_attempt_at <= clock_timestamp() and actions_private.leads($1)
  order by m.next_attempt_at
  limit $2
  for update skip locked
)
update actions_private.mail_outbox as m
set attempts = m.attempts + 1, next_attempt_at = clock_timestamp() + interval '1 minute'
from due
where m.id = due.id
returning m.id, m.action_id, m.recipient, m.subject, m.text_body, m.html_body, m.attempts, extract(epoch from m.created_at)::bigint as created_unix";

/// Still held by this attempt: a janitor that was paused finds that another has it.
pub const HOLD: &str = "-- hold mail: for another minute, if this attempt still has it
update actions_private.mail_outbox
set next_attempt_at = clock_timestamp() + interval '1 minute'
where id = $1 and attempts = $2 and sent_at is null and refused_at is null and actions_private.leads($3)
returning id";

/// It is on its way. True of whichever attempt says so.
pub const MAIL_SENT: &str = "-- mail sent: the mail server took it
update actions_private.mail_outbox set sent_at = clock_timestamp(), refused_at = null, last_error = null where id = $1 and sent_at is null";

/// Try again: after 5 s, 10 s, 20 s … 10 minutes where that may pass by itself; after 10, 20, 40 …
/// 640 minutes what was refused for good, because a person must mend the mailbox or the mail server.
/// What goes on being refused is given up. The first refusal starts the clock, not the kill: who
/// could not be asked for days has refused nothing.
pub const MAIL_FAILED: &str = "-- mail failed: try again later, or give it up after 8 refusals or 24 h, or 3 days of refusals for the moment
update actions_private.mail_outbox as m
set last_error = $4, refusals = n.refusals, refused_since = n.refused_since,
  next_attempt_at = n.at + case when $3 = 'refused' then 300 * 2 ^ n.refusals else least(5 * 2 ^ least(m.attempts - 1, 10), 600) end * interval '1 second',
  refused_at = case
    when $3 = 'refused' and (n.refusals >= 8 or n.at >= n.refused_since + interval '24 hours')
      or $3 = 'deferred' and n.at >= n.refused_since + interval '3 days' then n.at
  end
from (
  select o.id, o.refusals + ($3 = 'refused')::integer as refusals, clock_timestamp() as at,
    case when $3 <> 'unavailable' then coalesce(o.refused_since, clock_timestamp()) end as refused_since
  from actions_private.mail_outbox as o
  where o.id = $1
) as n
where m.id = n.id and m.attempts = $2 and m.sent_at is null and m.refused_at is null
returning m.refused_at is not null";

/// Why an attempt failed, as far as it matters to when the next one comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// The mail server will never take it.
    Refused,
    /// The mail server does not take it for the moment.
    Deferred,
    /// The mail server is away, or refuses us: never a reason to give up a mail.
    Unavailable,
}

impl Failure {
    fn as_str(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Deferred => "deferred",
            Self::Unavailable => "unavailable",
        }
    }
}

/// A mail to be sent.
#[derive(Debug, Clone)]
pub struct Waiting {
    pub id: i64,
    pub action_id: String,
    pub recipient: String,
    pub subject: String,
    pub text: String,
    pub html: String,
    /// This one included.
    pub attempts: i32,
    /// Seconds since 1970; part of its Message-ID.
    pub created_unix: i64,
}

/// Takes due mails; none if the lead is lost.
pub async fn take(database: &Database, epoch: i64, most: i32) -> Result<Vec<Waiting>, StoreError> {
    let rows = database.rows(TAKE_MAILS, params![epoch, most]).await?;
    rows.iter()
        .map(|row| {
            Ok(Waiting {
                id: row.try_get("id")?,
                action_id: row.try_get("action_id")?,
                recipient: row.try_get("recipient")?,
                subject: row.try_get("subject")?,
                text: row.try_get("text_body")?,
                html: row.try_get("html_body")?,
                attempts: row.try_get("attempts")?,
                created_unix: row.try_get("created_unix")?,
            })
        })
        .collect::<Result<_, StoreError>>()
}

/// Holds a mail for another minute; false where it is not this attempt's any more.
pub async fn hold(database: &Database, epoch: i64, mail: &Waiting) -> Result<bool, StoreError> {
    let held = database.rows(HOLD, params![mail.id, mail.attempts, epoch]).await?;
    Ok(held.len() == 1)
}

/// Reports a mail as sent.
pub async fn sent(database: &Database, id: i64) -> Result<(), StoreError> {
    database.execute(MAIL_SENT, params![id]).await
}

/// Reports an attempt that failed. The mail becomes due again after a while, unless it is given up,
/// which is true.
pub async fn failed(database: &Database, mail: &Waiting, failure: Failure, error: &str) -> Result<bool, StoreError> {
    let rows = database.rows(MAIL_FAILED, params![mail.id, mail.attempts, failure.as_str(), error]).await?;
    Ok(rows.first().map(|row| row.try_get(0)).transpose()?.unwrap_or(false))
}
