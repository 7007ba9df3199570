-- What operators read. Tables behind these views may change, the views keep their columns.

-- Not a WITH: what has one is planned by itself, and could not be read in the order of an index.
create view actions.recent_invocations as
select id as invocation_id, event_id, action_id, project_id, trigger, status, outcome ->> 'decision' as decision, http_status,
  duration_ms, queue_ms, error, encode(response_sha256, 'hex') as response_sha256, overrode, test,
  outcome ->> 'code' as deny_code, outcome ->> 'reason' as deny_reason, outcome -> 'dropped' as dropped,
  enqueued_at, finished_at, worker, action_version, outcome, phases, error_code
from (
  select q.id, q.event_id, q.action_id, q.project_id, q.trigger, case when q.claim_token is null then 'queued' else 'running' end as status, null::json as outcome, null::integer as http_status,
    null::double precision as duration_ms, extract(epoch from q.claimed_at - q.enqueued_at)::double precision * 1000 as queue_ms,
    null::text as error, null::text collate "C" as error_code, null::bytea as response_sha256, false as overrode, q.test, q.enqueued_at, null::timestamptz as finished_at,
    q.worker, q.action_version, null::json as phases
  from actions_private.queue as q
  union all
  select i.id, i.event_id, i.action_id, i.project_id, i.trigger, i.status::text, i.outcome, i.http_status,
    i.duration_ms, i.queue_ms, i.error, i.error_code, i.response_sha256, i.overrode, i.test, i.enqueued_at, i.finished_at,
    i.worker, i.action_version, i.phases
  from actions_private.invocations as i
) as both_lives;
comment on view actions.recent_invocations is
  'Every invocation within the retention, decided or not. By its id it is found at once; actions.recent, find_invocations and by_event find those of an action, a project or an event as fast. Example: select status, http_status, duration_ms, error from actions.recent_invocations where invocation_id = ''inv_01JD3X6G8Q7N9V8R2M4T6W8Y0B'';';

-- The newest of a project or an action by its indexes, in as many steps as there are rows asked for,
-- however long the history is.
create function actions.find_invocations(
  action_id text default null, project_id text default null, status text default null, since timestamptz default null, n integer default 100
) returns setof actions.recent_invocations
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_custom_plan set jit = off
as $$
#variable_conflict use_variable
declare
  -- Ids begin with the moment of their making, and the history is partitioned by them.
  least_id constant text := case when since is null then 'inv_' else 'inv_' || actions_private.id_time(greatest(since, 'epoch')) end;
  action_ids text[];
begin
  if n is null or n not between 1 and 10000 then
    perform actions_private.refuse(format('n is %s', coalesce(n::text, 'null')), 'Accepted is 1 to 10000.', 'The default is 100.');
  end if;
  if status is not null and status not in ('queued', 'running') and status <> all (enum_range(null::actions_private.final_status)::text[]) then
    perform actions_private.refuse(format('status is %L', left(status, 100)),
      format('Accepted is queued, running, %s.', array_to_string(enum_range(null::actions_private.final_status), ', ')),
      'Leave it out for all of them.');
  end if;
  if action_id is null and project_id is null then
    return query
    select r.* from actions.recent_invocations as r
    where r.invocation_id >= least_id and (status is null or r.status = find_invocations.status)
    order by r.invocation_id desc
    limit n;
    return;
  end if;
  action_ids := array(
    select a.id from actions_private.actions as a
    where (action_id is null or a.id = action_id) and (project_id is null or a.project_id = find_invocations.project_id));
  -- Of each kind no more than n are looked at. The ids come first: a row is wide. An equation would
  -- let the planner walk by time and hope to meet the action soon; a range, ordered by the action
  -- too, leaves it no index but the action's.
  return query
  select r.*
  from (
    select q.id from actions_private.queue as q where q.action_id = any (action_ids) and q.id >= least_id
    union all
    select c.id
    from unnest(action_ids) as wanted (action_id)
    cross join lateral (
      select i.id, i.finished_at from actions_private.invocations as i
      where i.action_id between wanted.action_id and wanted.action_id and not i.test and i.status not in ('killed', 'expired')
        and i.id >= least_id and (status is null or i.status::text = status)
      order by i.action_id desc, i.finished_at desc
      limit n
    ) as c
    union all
    select o.id
    from unnest(action_ids) as wanted (action_id)
    cross join lateral (
      select i.id, i.finished_at from actions_private.invocations as i
      where i.action_id between wanted.action_id and wanted.action_id and (i.test or i.status in ('killed', 'expired'))
        and i.id >= least_id and (status is null or i.status::text = status)
      order by i.action_id desc, i.finished_at desc
      limit n
    ) as o
  ) as newest
  cross join lateral (select * from actions.recent_invocations as r where r.invocation_id = newest.id offset 0) as r
  where status is null or r.status = find_invocations.status
  order by coalesce(r.finished_at, 'infinity') desc, r.invocation_id desc
  limit n;
end
$$;
comment on function actions.find_invocations(text, text, text, timestamptz, integer) is
  'The last n invocations of an action or of a project, or of all, enqueued since a moment; newest first. An argument that is null does not matter. Example: select invocation_id, status, error from actions.find_invocations(project_id => ''proj_acme_prod'', n => 20);';

create function actions.recent(action_id text, n integer default 100) returns setof actions.recent_invocations
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
begin
  if not exists (select from actions_private.actions as a where a.id = action_id) then
    perform actions_private.refuse(format('action_id is %s', coalesce(quote_literal(left(action_id, 100)), 'null')),
      'Accepted is the id of an action.', 'List them with: select action_id, name from actions.actions;');
  end if;
  return query select r.* from actions.find_invocations(action_id => action_id, n => n) as r;
end
$$;
comment on function actions.recent(text, integer) is
  'The last n invocations of an action, newest first. Example: select status, http_status, error from actions.recent(''action_01JD3X6G8Q7N9V8R2M4T6W8Y0B'', 20);';

-- An event id that the fleet made differs from the invocation's by its first letters alone, and what
-- auth-core gave has an index of its own.
create function actions.by_event(event_id text) returns setof actions.recent_invocations
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_custom_plan set jit = off
as $$
begin
  if event_id is null or not actions_private.is_event_id(event_id) then
    perform actions_private.refuse(format('event_id is %s', coalesce(quote_literal(left(event_id, 100)), 'null')),
      'Accepted is evt_ and 26 upper-case Crockford base-32 characters of a UUIDv7.',
      'Endpoints receive it as event_id; an invocation''s own id is found in actions.recent_invocations.');
  end if;
  return query
  select r.*
  from (
    select 'inv_' || substr(by_event.event_id, 5)
    union
    select k.invocation_id from actions_private.event_keys as k where k.event_id = by_event.event_id
    union
    select i.id from actions_private.invocations as i
    where i.event_id = by_event.event_id collate "C" and substr(i.event_id, 5) <> substr(i.id, 5)
  ) as found (id)
  cross join lateral (select * from actions.recent_invocations as r where r.invocation_id = found.id offset 0) as r
  where r.event_id = by_event.event_id
  order by r.invocation_id desc;
end
$$;
comment on function actions.by_event(text) is
  'The invocations of an event, by the id that customers see; none where its project had no action then. Example: select invocation_id, status, error from actions.by_event(''evt_01JD3X6G8Q7N9V8R2M4T6W8Y0B'');';

create view actions_private.calls as
select i.id, i.action_id, i.status, i.http_status, i.enqueued_at, i.finished_at, u.is_unreached,
  -- All holds in one value, made once a statement: a look at the table for each call is what a planner
  -- fears, and then it spends seconds on compiling.
  u.is_unreached
    and coalesce(i.finished_at <@ (select range_agg(tstzrange(h.since, h.until, '[]')) from actions_private.kill_holds as h), false) as is_held
from actions_private.invocations as i
cross join lateral (
  select i.status = 'network_error' or coalesce(i.error_code in ('timeout_dns', 'timeout_connect'), false) as is_unreached
) as u
where not i.test and i.status not in ('killed', 'expired');
comment on view actions_private.calls is
  'What the kill-switch looks at: calls of people''s events. is_unreached: it may not have reached its endpoint because of a network; is_held: so it does not count, because kills were held. Example: select count(*) from actions_private.calls where is_held;';

-- The kill-switch's own view of the world, and how far each action is from a trip.
create view actions_private.kill_figures as
select a.id as action_id, a.project_id, w.calls, w.errors, w.timeouts,
  coalesce(w.errors::double precision / nullif(w.calls, 0), 0) as error_ratio,
  coalesce(w.timeouts::double precision / nullif(w.calls, 0), 0) as timeout_ratio,
  streak.length as consecutive_5xx,
  a.killed_at,
  greatest(0, s.min_samples - w.calls) as calls_until_ratios_count,
  greatest(0, floor((s.error_ratio * w.calls - w.errors) / (1 - least(s.error_ratio, 0.999999))) + 1)::bigint as errors_until_trip,
  greatest(0, floor((s.timeout_ratio * w.calls - w.timeouts) / (1 - least(s.timeout_ratio, 0.999999))) + 1)::bigint as timeouts_until_trip,
  greatest(0, s.consecutive_5xx - streak.length) as consecutive_5xx_until_trip
from actions_private.actions as a
-- A planner who knows nothing of the table takes it for a long one.
cross join (select * from actions_private.settings limit 1) as s
cross join lateral (
  select count(*) as calls,
    count(*) filter (where i.status not in ('ok', 'rejected')) as errors,
    count(*) filter (where i.status = 'timeout') as timeouts
  from actions_private.calls as i
  where i.action_id = a.id and i.finished_at > greatest(now() - s.window_s * interval '1 second', a.counting_since - interval '1 minute')
    and i.enqueued_at >= a.counting_since and not i.is_held
) as w
cross join lateral (
  select count(*) as length
  from (
    select bool_and(coalesce(l.http_status >= 500 and l.status = 'http_error', false)) over (order by l.finished_at desc, l.id desc) as unbroken
    from (
      select i.id, i.finished_at, i.http_status, i.status
      from actions_private.calls as i
      -- A range, ordered by the action too, leaves the planner no index but the action's. The first
      -- moment bounds the walk along it, give or take clocks; the second is the rule.
      where i.action_id between a.id and a.id and i.finished_at >= a.counting_since - interval '1 minute' and i.enqueued_at >= a.counting_since
        and not i.is_held
      order by i.action_id desc, i.finished_at desc, i.id desc
      limit s.consecutive_5xx
    ) as l
  ) as newest
  where newest.unbroken
) as streak
where a.deleted_at is null;
comment on view actions_private.kill_figures is
  'Counts and ratios of the kill-switch''s window for each action. Example: select calls, errors from actions_private.kill_figures where action_id = ''action_01JD3X6G8Q7N9V8R2M4T6W8Y0B'';';

-- What the checks of the actions that opted in tell. Where most of them fail at once it is not
-- the customers; nor where the fleet had no time for one and none is well.
create view actions.check_health as
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

create view actions.action_health as
select f.*, c.last_check_at, c.last_check_status, c.diagnosis as check_diagnosis
from actions_private.kill_figures as f
left join actions.check_health as c on c.action_id = f.action_id;
comment on view actions.action_health is
  'Counts and ratios of the kill-switch''s window for each action, how many more bad calls trip it, and what its test events say. Example: select action_id, calls, error_ratio, errors_until_trip from actions.action_health order by error_ratio desc;';

create view actions.queue_health as
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

create view actions.mails as
select m.id as mail_id, m.project_id, m.action_id, m.subject, m.created_at, m.attempts, m.next_attempt_at, m.sent_at, m.refused_at, m.last_error,
  substring(m.recipient from '[^@]*$') as recipient_domain
from actions_private.mail_outbox as m;
comment on view actions.mails is
  'Mails that wait, were sent, or were given up. Of the recipient only the domain is shown, because a mailbox is a person''s data. Example: select mail_id, recipient_domain, refused_at, last_error from actions.mails where refused_at is not null order by refused_at desc;';
comment on column actions.mails.next_attempt_at is
  'When it is tried again, unless it was sent or given up.';
comment on column actions.mails.refused_at is
  'When it was given up, because the mail server went on refusing it; null while it is tried. See last_error.';

create view actions.latency as
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

create view actions.daily_counts as
select day, project_id, action_id, trigger, status, test, sum(invocations)::bigint as invocations, sum(duration_ms) / nullif(sum(called), 0) as mean_duration_ms
from (
  select d.* from actions_private.daily_counts as d
  union all
  -- What was not added up yet: the last minutes, in the two parts that have an index by action and
  -- moment each; whatever was enqueued since then also ended since then, give or take clocks. Of a
  -- range the planner expects little, where of a lower bound alone it expects a third of the history.
  select (i.enqueued_at at time zone 'UTC')::date, i.project_id, i.action_id, i.trigger, i.status::text, i.test, 1, (i.duration_ms is not null)::integer,
    coalesce(i.duration_ms, 0)
  from actions_private.invocations as i
  where i.id >= coalesce((select c.next_id from actions_private.counted_until as c), '')
    and i.finished_at between coalesce((select c.at - interval '1 minute' from actions_private.counted_until as c), '-infinity') and 'infinity' and not i.test and i.status not in ('killed', 'expired')
  union all
  select (i.enqueued_at at time zone 'UTC')::date, i.project_id, i.action_id, i.trigger, i.status::text, i.test, 1, (i.duration_ms is not null)::integer,
    coalesce(i.duration_ms, 0)
  from actions_private.invocations as i
  where i.id >= coalesce((select c.next_id from actions_private.counted_until as c), '')
    and i.finished_at between coalesce((select c.at - interval '1 minute' from actions_private.counted_until as c), '-infinity') and 'infinity' and (i.test or i.status in ('killed', 'expired'))
) as counts
group by day, project_id, action_id, trigger, status, test;
comment on view actions.daily_counts is
  'Invocations by day (UTC), action and status, also of days whose invocations are past the retention. Example: select day, status, invocations from actions.daily_counts where action_id = ''action_01JD3X6G8Q7N9V8R2M4T6W8Y0B'' order by day desc;';

create view actions.fleet as
select p.id as process_id, p.kind, p.host, p.pid, p.version, p.in_flight, p.started_at, p.seen_at as heartbeat_at,
  p.seen_at > clock_timestamp() - interval '15 seconds' as alive,
  p.kind = 'janitor' and l.holder is not distinct from p.id and l.expires_at > clock_timestamp() as leads
from actions_private.processes as p
cross join actions_private.leadership as l;
comment on view actions.fleet is
  'Workers and janitors that reported themselves. Example: select kind, host, version, in_flight, heartbeat_at, leads from actions.fleet where alive;';

-- What PostgreSQL shows of a session it shows to that session's role, and to those who may read statistics.
create function actions.oldest_snapshot_s() returns double precision
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

create view actions.fleet_health as
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

create view actions.audit_log as
select at, project_id, action_id, event, actor, details, count
from actions_private.audit_log;
comment on view actions.audit_log is
  'What was changed, killed or dropped, by whom and why. Example: select at, event, actor, details from actions.audit_log where action_id = ''action_01JD3X6G8Q7N9V8R2M4T6W8Y0B'' order by at desc;';
