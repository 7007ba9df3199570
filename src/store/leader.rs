//! What the leading janitor does; every write proves the leadership by its epoch.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use time::OffsetDateTime;
use tokio_postgres::Row;

use super::connection::Connection;
use super::notify::{NOTIFY_WITH_COMMIT, Reply, notify, notify_on};
use super::params::params;
use super::pool::{ANSWER, LONG_ANSWER};
use super::{Database, StoreError};
use crate::config::Config;

/// The epoch, or null while another janitor leads; the one clock; and what the outbox holds.
pub const TAKE_LEAD: &str = "-- take lead: take or keep it
select actions_private.take_lead($1, $2 * interval '1 millisecond'), clock_timestamp(), m.waiting, m.is_due
from (
  select count(*) as waiting, coalesce(bool_or(next_attempt_at <= clock_timestamp()), false) as is_due
  from actions_private.mail_outbox
  where sent_at is null and refused_at is null
) as m";

/// A janitor that leaves in order lets the next one lead at once.
pub const GIVE_UP_LEAD: &str = "-- give up lead: let another one lead now
update actions_private.leadership set expires_at = clock_timestamp() where epoch = $1 and holder = $2";

/// Ends what nobody ended in time, and what was queued for an action that is killed by now.
pub const END_OVERDUE: &str = "-- end overdue: past their deadline, or queued for a killed action
select 'expired' as status, e.invocation_id, e.reply_to, e.outcome::text as outcome from actions_private.end_past_deadline($1, $2) as e
union all
select 'killed', k.invocation_id, k.reply_to, k.outcome::text from actions_private.end_queued_of_killed($1, $2) as k";

/// Shares the leader's configuration with SQL functions and views.
pub const PUBLISH_SETTINGS: &str = "-- publish settings: what SQL functions must know of the configuration
update actions_private.settings
set queue_allowance_ms = $1, window_s = $2, error_ratio = $3, timeout_ratio = $4, consecutive_5xx = $5, min_samples = $6
where actions_private.leads($7)";

/// What finished in the last seconds, added up for each action and second: the kill-switch
/// reads the same seconds again until they can no longer change, so nothing counts twice.
pub const RECENT_SECONDS: &str = "-- recent seconds: what the kill-switch counts
select * from actions_private.recent_seconds($1)";

/// The exact figures of a few actions, and what a mail says about them.
pub const SWITCHES: &str = "-- switches: exact figures before a trip
select h.action_id, h.calls, h.errors, h.timeouts, h.error_ratio, h.timeout_ratio, h.consecutive_5xx, a.counting_since, a.name, a.trigger,
  a.project_id, a.on_killed
from actions_private.kill_figures as h
join actions.actions as a on a.action_id = h.action_id
where h.action_id = any ($1) and a.killed_at is null and a.enabled";

/// Kills by hand whose mails are not written yet, with the figures that a mail tells.
pub const UNWRITTEN: &str = "-- unwritten: mails of kills by hand
select m.ids, coalesce(a.killed_reason, 'by hand') as reason, a.id as action_id, a.project_id, v.name, a.trigger, v.on_killed, a.counting_since,
  coalesce(h.calls, 0) as calls, coalesce(h.errors, 0) as errors, coalesce(h.timeouts, 0) as timeouts, coalesce(h.error_ratio, 0) as error_ratio,
  coalesce(h.timeout_ratio, 0) as timeout_ratio, coalesce(h.consecutive_5xx, 0) as consecutive_5xx
from (
  select o.action_id, array_agg(o.id) as ids from actions_private.mail_outbox as o where o.text_body is null group by o.action_id limit 20
) as m
join actions_private.actions as a on a.id = m.action_id
join actions_private.action_versions as v on v.action_id = a.id and v.version = a.version
left join lateral (select f.* from actions_private.kill_figures as f where f.action_id = a.id offset 0) as h on true";

/// Writes them, if this janitor leads.
pub const WRITE_MAILS: &str = "-- write mails: of a kill by hand
update actions_private.mail_outbox as m set subject = $3, text_body = $4, html_body = $5
where m.id = any ($2) and m.text_body is null and actions_private.leads($1)";

/// Actions in a row of 5xx, some at a time: a new leader goes through all of them beside its ticks.
pub const STREAKS: &str = "-- streaks: who of the next actions is in a row of 5xx
select a.id, coalesce(h.consecutive_5xx, 0), a.counting_since
from (
  select n.id, n.counting_since, n.killed_at from actions_private.actions as n
  where n.id > $1 and n.deleted_at is null order by n.id limit $2
) as a
left join lateral (select f.consecutive_5xx from actions_private.kill_figures as f where f.action_id = a.id and a.killed_at is null offset 0) as h on true
order by a.id";

/// Since when kills are held, if they are.
pub const HELD: &str = "-- held: since when kills are held
select since from actions_private.kill_holds where until is null";

/// Hosts and projects behind some actions.
pub const CUSTOMERS: &str = "-- customers: hosts and projects of actions
select action_id, host, project_id from actions_private.customers_of($1)";

/// Holds kills.
pub const HOLD_KILLS: &str = "-- hold kills: the fleet's own network fails
select actions_private.hold_kills($1, $2, $3)";

/// Frees them.
pub const FREE_KILLS: &str = "-- free kills: it is over
select actions_private.free_kills($1)";

/// A kill is several statements, and holds the lead meanwhile: a janitor that is paused in the
/// middle of it must not keep the next one from leading.
pub const BOUNDS: &str = "-- bounds: of a kill's transaction
select set_config('idle_in_transaction_session_timeout', '2s', true)";

/// Switch, audit event and mails.
pub const KILL: &str = "-- kill: trip the kill-switch
select actions_private.kill_action($1, $2, $3, $4, $5::json, $6, $7, $8)";

/// What waits to be sent.
#[derive(Debug, Clone, Copy)]
pub struct Mails {
    pub waiting: i64,
    /// At least one may be tried now.
    pub is_due: bool,
}

/// Takes or keeps the lead for `lease`: the epoch, `None` while another leads; PostgreSQL's
/// time; and what the outbox holds.
pub async fn take_lead(database: &Database, janitor: &str, lease: Duration) -> Result<(Option<i64>, OffsetDateTime, Mails), StoreError> {
    let lease_ms = lease.as_secs_f64() * 1000.0;
    let row = database.row(TAKE_LEAD, params![janitor, lease_ms]).await?;
    Ok((row.try_get(0)?, row.try_get(1)?, Mails { waiting: row.try_get(2)?, is_due: row.try_get(3)? }))
}

/// Lets another janitor lead at once.
pub async fn give_up_lead(database: &Database, epoch: i64, janitor: &str) -> Result<(), StoreError> {
    database.execute(GIVE_UP_LEAD, params![epoch, janitor]).await
}

/// Ends what is overdue and tells the waiters; returns how many expired. Looks at what was
/// enqueued within `look_back`.
pub async fn end_overdue(database: &Database, epoch: i64, look_back: Duration) -> Result<usize, StoreError> {
    let look_back = milliseconds(look_back);
    let rows = database.rows(END_OVERDUE, params![epoch, look_back]).await?;
    // Whoever is not told, because this process dies right here, asks at its own deadline.
    notify(database, &replies(&rows)?).await?;
    Ok(rows.iter().filter(|row| row.get::<_, &str>("status") == "expired").count())
}

fn milliseconds(duration: Duration) -> i32 {
    i32::try_from(duration.as_millis()).unwrap_or(i32::MAX)
}

/// What to tell the waiters of rows with status, `invocation_id`, `reply_to` and outcome.
pub(super) fn replies(rows: &[Row]) -> Result<Vec<Reply>, StoreError> {
    let reply = |row: &Row| -> Result<Option<Reply>, StoreError> {
        let Some(reply_to) = row.try_get("reply_to")? else { return Ok(None) };
        let status = if row.try_get::<_, &str>("status")? == "killed" { "killed" } else { "expired" };
        Ok(Some(Reply { reply_to, id: row.try_get("invocation_id")?, status, outcome: row.try_get("outcome")? }))
    };
    rows.iter().filter_map(|row| reply(row).transpose()).collect()
}

/// Shares the configuration that SQL functions need.
pub async fn publish_settings(database: &Database, epoch: i64, config: &Config) -> Result<(), StoreError> {
    let limits = &config.kill_switch;
    database
        .rows(
            PUBLISH_SETTINGS,
            params![
                config.deadline.queue_allowance_ms.cast_signed(),
                limits.window_s.cast_signed(),
                limits.error_ratio,
                limits.timeout_ratio,
                limits.consecutive_5xx.cast_signed(),
                limits.min_samples.cast_signed(),
                epoch
            ],
        )
        .await
        .map(|_| ())
}

/// What an action's calls came to in one second.
#[derive(Debug, Clone)]
pub struct Second {
    /// The action.
    pub action_id: String,
    /// Seconds since 1970.
    pub second: i64,
    /// Since when the action counts, in seconds since 1970, if it was enabled again.
    pub counting_since: Option<i64>,
    /// What they came to.
    pub counts: Counts,
}

/// What the rules of the kill-switch ask for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Calls that finished.
    pub calls: u32,
    /// Of them, errors.
    pub errors: u32,
    /// Of them, timeouts.
    pub timeouts: u32,
    /// 5xx responses after the last other result, or all of them where there was no other.
    pub row_of_5xx: u32,
    /// There was another result than 5xx.
    pub breaks_row: bool,
    /// Calls that finished, with those that do not count because kills are held.
    pub tried: u32,
    /// Of them, those that may not have reached their endpoint because of a network.
    pub unreached: u32,
}

/// The seconds that are not older than `ago`; each is whole. What left the count when an action was
/// enabled again is left out; what is killed by now is not.
pub async fn recent_seconds(database: &Database, ago: Duration) -> Result<Vec<Second>, StoreError> {
    let ago_ms = ago.as_secs_f64() * 1000.0;
    let rows = database.rows_within(LONG_ANSWER, RECENT_SECONDS, params![ago_ms]).await?;
    let count = |row: &Row, name: &str| row.try_get::<_, i64>(name).map(|count| u32::try_from(count).unwrap_or(u32::MAX));
    rows.iter()
        .map(|row| {
            let broken_at: Option<OffsetDateTime> = row.try_get("row_broken_at")?;
            let fives: Option<Vec<OffsetDateTime>> = row.try_get("fives_at")?;
            let row_of_5xx = fives.iter().flatten().filter(|at| broken_at.is_none_or(|broken| **at > broken)).count();
            let counts = Counts {
                calls: count(row, "calls")?,
                errors: count(row, "errors")?,
                timeouts: count(row, "timeouts")?,
                row_of_5xx: u32::try_from(row_of_5xx).unwrap_or(u32::MAX),
                breaks_row: broken_at.is_some(),
                tried: count(row, "tried")?,
                unreached: count(row, "unreached")?,
            };
            let counting_since = row.try_get::<_, Option<OffsetDateTime>>("counting_since")?.map(OffsetDateTime::unix_timestamp);
            Ok(Second { action_id: row.try_get("action_id")?, second: row.try_get("second")?, counting_since, counts })
        })
        .collect::<Result<_, StoreError>>()
}

/// The next `most` actions behind `after`: id, the row of 5xx in which they are, and since when they
/// count, in seconds since 1970.
pub async fn streaks(database: &Database, after: &str, most: i32) -> Result<Vec<(String, i64, i64)>, StoreError> {
    let rows = database.rows(STREAKS, params![after, most]).await?;
    rows.iter()
        .map(|row| Ok((row.try_get(0)?, row.try_get(1)?, row.try_get::<_, OffsetDateTime>(2)?.unix_timestamp())))
        .collect::<Result<_, StoreError>>()
}

/// Since when kills are held, if they are.
pub async fn held(database: &Database) -> Result<Option<OffsetDateTime>, StoreError> {
    database.rows(HELD, params![]).await?.first().map(|row| Ok(row.try_get(0)?)).transpose()
}

/// The host that each of these actions calls, and its project.
pub async fn customers(database: &Database, actions: &BTreeSet<&str>) -> Result<HashMap<String, (String, String)>, StoreError> {
    let actions: Vec<&str> = actions.iter().copied().collect();
    let rows = database.rows(CUSTOMERS, params![actions]).await?;
    rows.iter().map(|row| Ok((row.try_get(0)?, (row.try_get(1)?, row.try_get(2)?)))).collect()
}

/// Holds kills from `since` on; false if the lead is lost, or they are held already.
pub async fn hold_kills(database: &Database, epoch: i64, since: OffsetDateTime, why: &str) -> Result<bool, StoreError> {
    Ok(database.row(HOLD_KILLS, params![epoch, since, why]).await?.try_get(0)?)
}

/// Frees them; false if the lead is lost, or they were not held.
pub async fn free_kills(database: &Database, epoch: i64) -> Result<bool, StoreError> {
    Ok(database.row(FREE_KILLS, params![epoch]).await?.try_get(0)?)
}

/// The exact figures of an action that is neither killed nor disabled.
#[derive(Debug, Clone)]
pub struct Figures {
    pub action_id: String,
    pub project_id: String,
    pub name: String,
    pub trigger: String,
    /// What a killed action means for people, as its version says.
    pub on_killed: String,
    pub counting_since: OffsetDateTime,
    pub calls: i64,
    pub errors: i64,
    pub timeouts: i64,
    pub error_ratio: f64,
    pub timeout_ratio: f64,
    pub consecutive_5xx: i64,
}

/// Reads the exact figures of these actions.
pub async fn figures(database: &Database, actions: &[String]) -> Result<Vec<Figures>, StoreError> {
    database.rows_within(LONG_ANSWER, SWITCHES, params![actions]).await?.iter().map(read_figures).collect()
}

/// Mails of kills by hand that are not written yet: their ids, the reason and the figures.
pub async fn unwritten(database: &Database) -> Result<Vec<(Vec<i64>, String, Figures)>, StoreError> {
    let rows = database.rows_within(LONG_ANSWER, UNWRITTEN, params![]).await?;
    rows.iter().map(|row| Ok((row.try_get("ids")?, row.try_get("reason")?, read_figures(row)?))).collect()
}

/// Writes these mails.
pub async fn write_mails(database: &Database, epoch: i64, ids: &[i64], mail: &Mail) -> Result<(), StoreError> {
    database.execute(WRITE_MAILS, params![epoch, ids, mail.subject, mail.text, mail.html]).await
}

fn read_figures(row: &Row) -> Result<Figures, StoreError> {
    Ok(Figures {
        action_id: row.try_get("action_id")?,
        project_id: row.try_get("project_id")?,
        name: row.try_get("name")?,
        trigger: row.try_get("trigger")?,
        on_killed: row.try_get("on_killed")?,
        counting_since: row.try_get("counting_since")?,
        calls: row.try_get("calls")?,
        errors: row.try_get("errors")?,
        timeouts: row.try_get("timeouts")?,
        error_ratio: row.try_get("error_ratio")?,
        timeout_ratio: row.try_get("timeout_ratio")?,
        consecutive_5xx: row.try_get("consecutive_5xx")?,
    })
}

/// The mail that tells people of a kill.
#[derive(Debug, Clone)]
pub struct Mail {
    pub subject: String,
    pub text: String,
    pub html: String,
}

/// Kills an action: switch, audit event, mails, queued invocations and their waiters, all in
/// one transaction. False if the lead is lost or the action moved on since it was judged.
pub async fn kill(
    database: &Database,
    epoch: i64,
    figures: &Figures,
    reason: &str,
    mail: &Mail,
    look_back: Duration,
) -> Result<bool, StoreError> {
    let details = serde_json::json!({
        "calls": figures.calls, "errors": figures.errors, "timeouts": figures.timeouts, "error_ratio": figures.error_ratio,
        "timeout_ratio": figures.timeout_ratio, "consecutive_5xx": figures.consecutive_5xx,
    })
    .to_string();
    let killing = async |connection: &mut Connection| {
        connection.query(BOUNDS, params![]).await?;
        let Mail { subject, text, html } = mail;
        let rows =
            connection.query(KILL, params![epoch, figures.action_id, figures.counting_since, reason, details, subject, text, html]).await?;
        let killed = rows.first().map(|row| row.try_get(0)).transpose()?.unwrap_or(false);
        if killed {
            let ended = connection.query(END_OVERDUE, params![epoch, milliseconds(look_back)]).await?;
            notify_on(connection, NOTIFY_WITH_COMMIT, &replies(&ended)?).await?;
        }
        Ok(killed)
    };
    database.run_within(ANSWER, async |connection| connection.transaction(killing).await).await
}
