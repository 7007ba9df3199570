-- How the fleet, the queue and each action are.

-- What the checks of the actions that opted in tell. Where most of them fail at once it is not
-- the customers; nor where the fleet had no time for one and none is well.
create or replace view actions.check_health as
with checked as (
  select a.id as action_id, a.project_id, v.check_every_s, c.sent_at as last_check_at, i.id as invocation_id, i.status::text, i.error,
    i.status not in ('ok', 'rejected') as fails
  from actions_private.action_versions as v
  join actions_private.actions as a on a.id = v.action_id and a.version = v.version
  left join actions_private.checks as c on c.action_id = a.id
  -- The last may still run: then the one before it tells.
  left join lateral (
    select * from actions_private.invocations as i where i.id in (c.invocation_id, c.previous_invocation_id) order by i.id desc limit 1
  ) as i on true
  where v.check_every_s > 0 and a.enabled and a.deleted_at is null
)
select action_id, project_id, check_every_s, last_check_at, invocation_id as last_check_invocation_id, status as last_check_status,
  error as last_check_error,
  case
    when fails is null then 'unknown'
    when not fails then 'well'
    when count(*) filter (where fails) over () > 2 and 2 * count(*) filter (where fails) over () > count(fails) over () then 'fleet'
    when status = 'expired' and count(*) filter (where not fails) over () = 0 then 'fleet'
    else 'endpoint'
  end as diagnosis
from checked;
comment on view actions.check_health is
  'How the test events of actions with check_every_s fare, and whose fault a failure is: well, endpoint, fleet (more than two and most of all fail, or the fleet had no time and none is well), unknown. Example: select action_id, last_check_status, diagnosis from actions.check_health where diagnosis <> ''well'';';

create or replace view actions.action_health as
select f.*, c.last_check_at, c.last_check_status, c.diagnosis as check_diagnosis
from actions_private.kill_figures as f
left join actions.check_health as c on c.action_id = f.action_id;
comment on view actions.action_health is
  'Counts and ratios of the kill-switch''s window for each action, how many more bad calls trip it, and what its test events say. Example: select action_id, calls, error_ratio, errors_until_trip from actions.action_health order by error_ratio desc;';

create or replace view actions.queue_health as
select count(*) filter (where q.claim_token is null) as queued,
  count(*) filter (where q.claim_token is not null) as running,
  count(*) filter (where q.deadline_at < clock_timestamp()) as past_deadline,
  coalesce(extract(epoch from clock_timestamp() - min(q.enqueued_at) filter (where q.claim_token is null)) * 1000, 0)::double precision as oldest_queued_ms,
  (select count(*) from actions_private.invocations as i where i.finished_at > now() - interval '1 minute') as finished_last_minute,
  (select count(*) from actions_private.invocations as i where i.finished_at > now() - interval '1 minute' and i.status = 'expired') as expired_last_minute,
  (select count(*) from actions_private.mail_outbox as m where m.sent_at is null and m.refused_at is null) as mails_waiting,
  (select count(*) from actions_private.mail_outbox as m where m.refused_at is not null) as mails_refused,
  pg_catalog.pg_notification_queue_usage() as notify_queue_usage
from actions_private.queue as q;
comment on view actions.queue_health is
  'One row: what waits, for how long, and what the last minute did. Example: select queued, oldest_queued_ms, expired_last_minute from actions.queue_health;';

create or replace view actions.mails as
select m.id as mail_id, m.project_id, m.action_id, m.subject, m.created_at, m.attempts, m.next_attempt_at, m.sent_at, m.refused_at, m.last_error,
  substring(m.recipient from '[^@]*$') as recipient_domain
from actions_private.mail_outbox as m;
comment on view actions.mails is
  'Mails that wait, were sent, or were given up. Of the recipient only the domain is shown, because a mailbox is a person''s data. Example: select mail_id, recipient_domain, refused_at, last_error from actions.mails where refused_at is not null order by refused_at desc;';
comment on column actions.mails.next_attempt_at is
  'When it is tried again, unless it was sent or given up.';
comment on column actions.mails.refused_at is
  'When it was given up, because the mail server went on refusing it; null while it is tried. See last_error.';

create or replace view actions.latency as
select i.trigger, count(*) as calls,
  percentile_cont(0.5) within group (order by i.duration_ms) as duration_p50_ms,
  percentile_cont(0.99) within group (order by i.duration_ms) as duration_p99_ms,
  percentile_cont(0.5) within group (order by i.queue_ms) as queue_p50_ms,
  percentile_cont(0.99) within group (order by i.queue_ms) as queue_p99_ms,
  percentile_cont(0.5) within group (order by extract(epoch from i.finished_at - i.enqueued_at) * 1000 - i.duration_ms) as overhead_p50_ms,
  percentile_cont(0.99) within group (order by extract(epoch from i.finished_at - i.enqueued_at) * 1000 - i.duration_ms) as overhead_p99_ms
from actions_private.invocations as i
where i.finished_at > now() - interval '5 minutes' and i.duration_ms is not null
group by i.trigger;
comment on view actions.latency is
  'Five minutes of calls for each trigger: the call alone, the wait before it, and all that the fleet adds. Example: select trigger, duration_p99_ms, overhead_p99_ms from actions.latency;';

create or replace view actions.fleet as
select p.id as process_id, p.kind, p.host, p.pid, p.version, p.in_flight, p.started_at, p.seen_at as heartbeat_at,
  p.seen_at > clock_timestamp() - interval '15 seconds' as alive,
  p.kind = 'janitor' and l.holder is not distinct from p.id and l.expires_at > clock_timestamp() as leads
from actions_private.processes as p
cross join actions_private.leadership as l;
comment on view actions.fleet is
  'Workers and janitors that reported themselves. Example: select kind, host, version, in_flight, heartbeat_at, leads from actions.fleet where alive;';

-- What PostgreSQL shows of a session it shows to that session's role, and to those who may read statistics.
create or replace function actions.oldest_snapshot_s() returns double precision
language sql stable security definer set search_path = pg_catalog, pg_temp
begin atomic
  select coalesce(extract(epoch from clock_timestamp() - min(x.since)), 0)::double precision
  from (
    select s.xact_start as since from pg_stat_activity as s where s.datname = current_database() and s.backend_xmin is not null
      and s.backend_type <> 'autovacuum worker' -- nobody waits for its snapshot
    union all
    select t.prepared from pg_prepared_xacts as t where t.database = current_database()
  ) as x;
end;
comment on function actions.oldest_snapshot_s() is
  'Age in seconds of the oldest transaction that keeps vacuum from cleaning up, as far as the owner of the schema may see. Example: select actions.oldest_snapshot_s();';

create or replace view actions.fleet_health as
with seen as (
  select
    (select count(*) from actions.fleet as f where f.alive and f.kind = 'worker') as workers_alive,
    (select count(*) from actions.fleet as f where f.alive and f.kind = 'janitor') as janitors_alive,
    (select l.holder from actions_private.leadership as l where l.expires_at > clock_timestamp()) as leader,
    q.oldest_queued_ms, q.expired_last_minute, q.finished_last_minute, q.mails_waiting, q.notify_queue_usage,
    h.since as held_since, h.why as held_because,
    (select case when bool_or(c.diagnosis = 'fleet') then 'fleet' when bool_or(c.diagnosis = 'endpoint') then 'endpoint'
       when bool_or(c.diagnosis = 'well') then 'well' else 'unknown' end from actions.check_health as c) as checks_diagnosis,
    actions.oldest_snapshot_s() as oldest_snapshot_s,
    (select count(*) from (select from actions_private.invocations_default limit 100000) as d) as default_partition_rows,
    (select m.last_error from actions_private.mail_outbox as m where m.sent_at is null and m.refused_at is null and m.last_error is not null
     order by m.id desc limit 1) as last_mail_error
  from actions.queue_health as q
  left join actions_private.kill_holds as h on h.until is null
), judged as (
  select s.*, array_remove(array[
    case when s.workers_alive = 0 then 'no worker is alive' end
  ], null) as is_down,
  array_remove(array[
    case when s.janitors_alive = 0 then 'no janitor is alive' when s.leader is null then 'no janitor leads' end,
    case when s.held_since is not null then format('kills are held since %s: %s', to_char(s.held_since at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'), s.held_because) end,
    case when s.checks_diagnosis = 'fleet' then 'the test events of most actions fail: see actions.check_health' end,
    case when s.oldest_queued_ms > 1000 then format('the oldest invocation waits for %s ms', round(s.oldest_queued_ms)) end,
    case when s.expired_last_minute >= 5 and 100 * s.expired_last_minute > s.finished_last_minute
      then format('%s of %s invocations of the last minute expired', s.expired_last_minute, s.finished_last_minute) end,
    case when s.notify_queue_usage >= 0.25 then format('the queue of notifications is %s %% full: see actionsctl doctor', round(100 * s.notify_queue_usage)) end,
    case when s.oldest_snapshot_s > 600 then format('a transaction is open for %s s, and vacuum waits for it', round(s.oldest_snapshot_s)) end,
    case when s.default_partition_rows > 0 then 'the default partition holds rows: the partition of their day could not be made' end,
    case when s.last_mail_error is not null then format('mails wait: %s', s.last_mail_error) end
  ], null) as is_degraded
  from seen as s
)
select workers_alive, janitors_alive, leader, oldest_queued_ms, expired_last_minute, held_since is not null as kills_held, checks_diagnosis,
  notify_queue_usage, oldest_snapshot_s, default_partition_rows, mails_waiting, last_mail_error,
  case when is_down <> '{}' then 'down' when is_degraded <> '{}' then 'degraded' else 'well' end as status,
  nullif(array_to_string(is_down || is_degraded, '; '), '') as why
from judged;
comment on view actions.fleet_health is
  'One row: how the fleet as a whole is, and why it is not well. Example: select status, why from actions.fleet_health;';
comment on column actions.fleet_health.kills_held is
  'Calls to unrelated customers fail at once: nobody is killed for calls that do not reach their endpoint.';
comment on column actions.fleet_health.status is
  'well, degraded, or down where nothing is called; why says the reasons.';

create or replace view actions.audit_log as
select at, project_id, action_id, event, actor, details, count, login
from actions_private.audit_log;
comment on view actions.audit_log is
  'What was changed, killed or dropped, by whom and why. Example: select at, event, actor, details from actions.audit_log where action_id = ''action_01JD3X6G8Q7N9V8R2M4T6W8Y0B'' order by at desc;';
