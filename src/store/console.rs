//! What the console asks for itself: who is signed in, who may what, and what its pages list. What it
//! changes it changes by the functions of `control` and `projects`. Called by `console`.
//!
//! Rows come as the JSON text that PostgreSQL wrote.

use uuid::Uuid;

use super::control::{Since, many, one};
use super::params::params;
use super::{Database, StoreError};

/// A person comes in.
pub const SIGN_IN: &str = "-- sign in: for twelve hours
insert into actions_private.console_sessions (token_sha256, email, is_operator, project_id, role, expires_at)
values ($1, $2, $3, $4, $5, clock_timestamp() + interval '12 hours')";
/// Who comes with a cookie.
pub const SESSION: &str = "-- session: who is signed in with this cookie
select s.email, s.is_operator, s.project_id, s.role
from actions_private.console_sessions as s
where s.token_sha256 = $1 and s.expires_at > clock_timestamp()";
/// A person leaves.
pub const SIGN_OUT: &str = "-- sign out: the cookie opens nothing any more
delete from actions_private.console_sessions where token_sha256 = $1";
/// What ended by itself.
pub const FORGET_ENDED: &str = "-- forget ended: sessions and used links that are over
with links as (delete from actions_private.console_links_used where expires_at < clock_timestamp() - interval '1 hour')
delete from actions_private.console_sessions where expires_at < clock_timestamp()";
/// A portal link opens once, whichever console it is shown to.
pub const USE_LINK: &str = "-- use link: true for the first to use it before its end, which is at most a day ahead
with used as (
  insert into actions_private.console_links_used (id, expires_at)
  select $1, to_timestamp($2)
  where to_timestamp($2) > clock_timestamp() and to_timestamp($2) <= clock_timestamp() + interval '1 day 1 minute'
  on conflict do nothing
  returning 1)
select exists (select from used)";
/// What a person is in a project.
pub const ROLE: &str = "-- role: of a person in a project, by e-mail
select m.role
from actions_private.project_members as m
where m.project_id = $1 and lower(m.email collate \"C\") = lower($2 collate \"C\")";
/// The projects that somebody may see.
pub const PROJECTS: &str = "-- projects: all, one, or those of a person
select json_build_object('project_id', p.project_id, 'name', p.name, 'roles_action_override', p.roles_action_override,
  'role_slugs', p.role_slugs, 'updated_at', p.updated_at,
  'actions', (select count(*) from actions.actions as a where a.project_id = p.project_id),
  'killed', (select count(*) from actions.actions as a where a.project_id = p.project_id and a.killed_at is not null))::text
from actions.projects as p
where ($1::boolean or p.project_id = $2 or exists (
    select from actions_private.project_members as m
    where m.project_id = p.project_id and lower(m.email collate \"C\") = lower($3 collate \"C\")))
order by p.project_id
limit 500";
/// How the fleet is.
pub const FLEET: &str = "-- fleet: how it is as a whole
select json_build_object('health', (select row_to_json(f) from actions.fleet_health as f), 'queue', (select row_to_json(q) from actions.queue_health as q),
  'latency', (select coalesce(json_agg(l order by l.trigger), '[]') from actions.latency as l),
  'processes', (select coalesce(json_agg(p order by p.kind, p.host), '[]') from actions.fleet as p where p.alive))::text";
/// What the fleet did lately.
pub const TRAFFIC: &str = "-- traffic: of the last $1 seconds, in steps of $2 seconds
select json_build_object(
  'steps', (select coalesce(json_agg(s order by s.at), '[]') from (
    select date_bin($2 * interval '1 second', t.minute, '2000-01-01 00:00:00+00') as at, sum(t.invocations) / $2 as per_s,
      percentile_cont(0.5) within group (order by t.call_p50_ms) as call_p50_ms, max(t.call_p99_ms) as call_p99_ms,
      percentile_cont(0.5) within group (order by t.overhead_p50_ms) as overhead_p50_ms, max(t.overhead_p99_ms) as overhead_p99_ms
    from (
      select m.*, (select coalesce(sum(c.value::bigint), 0) from json_each_text(m.statuses) as c) as invocations
      from actions.traffic as m
      where m.minute > clock_timestamp() - $1 * interval '1 second') as t
    group by 1) as s),
  'statuses', (select coalesce(json_agg(s order by s.invocations desc), '[]') from (
    select c.key as status, sum(c.value::bigint) as invocations
    from actions.traffic as m cross join lateral json_each_text(m.statuses) as c
    where m.minute > clock_timestamp() - $1 * interval '1 second'
    group by c.key) as s))::text";
/// Mails that do not get through.
pub const FAILING_MAILS: &str = "-- failing mails: that were given up within a day, or are tried again
select row_to_json(m)::text
from actions.mails as m
where m.sent_at is null and m.last_error is not null and (m.refused_at is null or m.refused_at > now() - interval '1 day')
order by m.mail_id desc
limit 20";
/// A list of invocations.
pub const LISTED: &str = "-- listed: the newest of an action, a project or all that a person filters, out of the newest of each action
select row_to_json(i)::text
from actions_private.filtered_invocations($1, $2, coalesce($3, now() - $4 * interval '1 second'), $5, $6, $7, $8, $9, $10) as i";
/// What needs a person.
pub const ATTENTION: &str = "-- attention: killed actions and rotations that overlap, of all projects, one, or those of a person
select json_build_object('action_id', a.action_id, 'project_id', a.project_id, 'name', a.name, 'trigger', a.trigger,
  'killed_at', a.killed_at, 'killed_reason', a.killed_reason, 'previous_secret_until', a.previous_secret_until)::text
from actions.actions as a
where (a.killed_at is not null or a.previous_secret_until > now())
  and ($1::boolean or a.project_id = $2 or exists (
    select from actions_private.project_members as m
    where m.project_id = a.project_id and lower(m.email collate \"C\") = lower($3 collate \"C\")))
order by a.killed_at desc nulls last, a.previous_secret_until
limit 50";
/// Actions that are close to a kill.
pub const WARNED: &str = "-- warned: actions that came close to a kill within the hour, of all projects, one, or those of a person
select json_build_object('action_id', a.action_id, 'project_id', a.project_id, 'name', a.name, 'at', l.at, 'reason', l.details ->> 'reason')::text
from actions.audit_log as l
join actions.actions as a on a.action_id = l.action_id
where l.event = 'action.warned' and l.at > now() - interval '1 hour' and a.killed_at is null
  and ($1::boolean or a.project_id = $2 or exists (
    select from actions_private.project_members as m
    where m.project_id = a.project_id and lower(m.email collate \"C\") = lower($3 collate \"C\")))
order by l.at desc
limit 20";
/// How far an action is from a trip.
pub const HEALTH: &str = "-- health: how far an action is from a trip
select row_to_json(h)::text from actions.action_health as h where h.action_id = $1";
/// Its versions, newest first.
pub const VERSIONS: &str = "-- versions: of an action, newest first
select row_to_json(v)::text
from actions_private.action_versions as v
where v.action_id = $1 and exists (select from actions.actions as a where a.action_id = $1)
order by v.version desc
limit 200";
/// The audit log of a project.
pub const AUDIT: &str = "-- audit: of all projects, or of one, since a moment; newest first
select row_to_json(l)::text
from actions.audit_log as l
where ($1::text is null or l.project_id = $1) and ($2::text is null or l.action_id = $2)
  and l.at >= coalesce($3, now() - $4 * interval '1 second', '-infinity')
order by l.at desc
limit $5";
/// Where an id, a host name or an address leads.
pub const SEARCH: &str = "-- search: projects and actions by name, host, or a member's address, of all projects, one, or those of a person
select json_build_object('project_id', f.project_id, 'action_id', f.action_id, 'what', f.what)::text
from (
  select p.project_id, null as action_id, p.name as what from actions.projects as p where p.project_id = $1 or p.name ilike '%' || $2 || '%'
  union all
  select a.project_id, a.action_id, a.name || ', ' || a.endpoint_url from actions.actions as a
  where a.action_id = $1 or lower(a.endpoint_url) like '%' || lower($2) || '%' or a.name ilike '%' || $2 || '%'
  union all
  select m.project_id, null, 'member ' || m.email from actions_private.project_members as m where lower(m.email collate \"C\") = lower($1 collate \"C\")
) as f
where ($3::boolean or f.project_id = $4 or exists (
  select from actions_private.project_members as m
  where m.project_id = f.project_id and lower(m.email collate \"C\") = lower($5 collate \"C\")))
order by f.project_id, f.action_id nulls first
limit 50";

/// Whose cookie it is, and what it opens.
#[derive(Debug, Clone)]
pub struct Session {
    /// As the audit log names the person.
    pub email: String,
    /// Sees and may do everything.
    pub is_operator: bool,
    /// The project and role of a portal link.
    pub link: Option<(String, String)>,
}

/// Whose projects are meant.
#[derive(Debug, Clone, Copy)]
pub struct Whose<'a> {
    /// Everybody's.
    pub all: bool,
    /// Or this one.
    pub project: Option<&'a str>,
    /// Or those in which this address is a member.
    pub email: Option<&'a str>,
}

/// Signs a person in under the SHA-256 of a new cookie, and forgets who is gone.
pub async fn sign_in(database: &Database, token_sha256: &[u8], session: &Session) -> Result<(), StoreError> {
    database.execute(FORGET_ENDED, params![]).await?;
    let (project, role) = session.link.as_ref().map(|(project, role)| (project.as_str(), role.as_str())).unzip();
    database.execute(SIGN_IN, params![token_sha256, session.email, session.is_operator, project, role]).await
}

/// Who is signed in with this cookie.
pub async fn session(database: &Database, token_sha256: &[u8]) -> Result<Option<Session>, StoreError> {
    let rows = database.rows(SESSION, params![token_sha256]).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    let (project, role): (Option<String>, Option<String>) = (row.try_get(2)?, row.try_get(3)?);
    Ok(Some(Session { email: row.try_get(0)?, is_operator: row.try_get(1)?, link: project.zip(role) }))
}

/// Signs out.
pub async fn sign_out(database: &Database, token_sha256: &[u8]) -> Result<(), StoreError> {
    database.execute(SIGN_OUT, params![token_sha256]).await
}

/// Whether this is the first use of a portal link, before its end in seconds since 1970.
pub async fn use_link(database: &Database, id: Uuid, expires_unix: f64) -> Result<bool, StoreError> {
    Ok(database.row(USE_LINK, params![id, expires_unix]).await?.try_get(0)?)
}

/// What a person is in a project, if anything.
pub async fn role(database: &Database, project: &str, email: &str) -> Result<Option<String>, StoreError> {
    Ok(many(database, ROLE, params![project, email]).await?.pop())
}

/// Projects with the numbers of their actions.
pub async fn projects(database: &Database, whose: Whose<'_>) -> Result<Vec<String>, StoreError> {
    many(database, PROJECTS, params![whose.all, whose.project, whose.email]).await
}

/// How the fleet is, as one JSON object.
pub async fn fleet(database: &Database) -> Result<String, StoreError> {
    one(database, FLEET, params![]).await
}

/// Actions that need a person.
pub async fn attention(database: &Database, whose: Whose<'_>) -> Result<Vec<String>, StoreError> {
    many(database, ATTENTION, params![whose.all, whose.project, whose.email]).await
}

/// Actions that came close to a kill within the hour.
pub async fn warned(database: &Database, whose: Whose<'_>) -> Result<Vec<String>, StoreError> {
    many(database, WARNED, params![whose.all, whose.project, whose.email]).await
}

/// How far an action is from a trip.
pub async fn health(database: &Database, action: &str) -> Result<Option<String>, StoreError> {
    Ok(many(database, HEALTH, params![action]).await?.pop())
}

/// The versions of an action, newest first.
pub async fn versions(database: &Database, action: &str) -> Result<Vec<String>, StoreError> {
    many(database, VERSIONS, params![action]).await
}

/// The newest of the audit log: of all projects, of one, of one action, since a moment.
pub async fn audit(
    database: &Database,
    project: Option<&str>,
    action: Option<&str>,
    since: Since,
    most: i64,
) -> Result<Vec<String>, StoreError> {
    many(database, AUDIT, params![project, action, since.at(), since.seconds_ago(), most]).await
}

/// What the fleet did in a window, in steps, as one JSON object; both in seconds.
pub async fn traffic(database: &Database, window_s: f64, step_s: f64) -> Result<String, StoreError> {
    one(database, TRAFFIC, params![window_s, step_s]).await
}

/// Mails that do not get through.
pub async fn failing_mails(database: &Database) -> Result<Vec<String>, StoreError> {
    many(database, FAILING_MAILS, params![]).await
}

/// Which invocations a person wants to see.
#[derive(Debug, Clone, Copy, Default)]
pub struct Listed<'a> {
    /// Of this action.
    pub action: Option<&'a str>,
    /// Of this project.
    pub project: Option<&'a str>,
    /// Enqueued from here on.
    pub since: Since,
    /// `queued`, `running`, or a final status.
    pub status: Option<&'a str>,
    /// Of this trigger.
    pub trigger: Option<&'a str>,
    /// Tests alone, or none.
    pub test: Option<bool>,
    /// Those that changed roles or permissions, or those that did not.
    pub overrode: Option<bool>,
}

/// The newest `most` invocations that fit, out of the newest `looked_at`.
pub async fn listed(database: &Database, listed: &Listed<'_>, looked_at: i32, most: i32) -> Result<Vec<String>, StoreError> {
    let Listed { action, project, since, status, trigger, test, overrode } = *listed;
    many(database, LISTED, params![action, project, since.at(), since.seconds_ago(), status, trigger, test, overrode, looked_at, most])
        .await
}

/// Projects and actions by what somebody remembers of them.
pub async fn search(database: &Database, text: &str, whose: Whose<'_>) -> Result<Vec<String>, StoreError> {
    let pattern = text.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_");
    many(database, SEARCH, params![text, pattern, whose.all, whose.project, whose.email]).await
}
