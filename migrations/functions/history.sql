-- What operators read of single invocations. Views keep their columns, whatever tables become.

-- Whoever looks runs the functions of a view with rights of his own, so event ids and outcomes that are
-- not written (see outcome_of) are spelled out. Not a WITH: what has one is planned by itself, and
-- could not be read in the order of an index.
create or replace view actions.recent_invocations as
select id as invocation_id, event_id, action_id, project_id, trigger, status, outcome ->> 'decision' as decision, http_status,
  duration_ms, queue_ms, error, encode(response_sha256, 'hex') as response_sha256, overrode, test,
  outcome ->> 'code' as deny_code, outcome ->> 'reason' as deny_reason, outcome -> 'dropped' as dropped,
  enqueued_at, finished_at, worker, action_version, outcome, phases, error_code, canary
from (
  select q.id, coalesce(q.event_id, 'evt_' || substr(q.id, 5)) as event_id, q.action_id, q.project_id, q.trigger, case when q.claim_token is null then 'queued' else 'running' end as status, null::json as outcome, null::integer as http_status,
    null::double precision as duration_ms, extract(epoch from q.claimed_at - q.enqueued_at)::double precision * 1000 as queue_ms,
    null::text as error, null::text collate "C" as error_code, null::bytea as response_sha256, false as overrode, q.test, q.enqueued_at, null::timestamptz as finished_at,
    q.worker, q.action_version, null::json as phases, q.canary is true as canary
  from actions_private.queue as q
  union all
  select i.id, coalesce(i.event_id, 'evt_' || substr(i.id, 5)), i.action_id, i.project_id, i.trigger, i.status::text, coalesce(i.outcome, case when i.status = 'ok' then '{"decision":"allow","source":"verdict","status":"ok"}'::json end), i.http_status,
    i.duration_ms, i.queue_ms, i.error, i.error_code, i.response_sha256, i.overrode, i.test, i.enqueued_at, i.finished_at,
    i.worker, i.action_version, i.phases, i.canary is true
  from actions_private.invocations as i
) as both_lives;
comment on view actions.recent_invocations is
  'Every invocation within the retention, decided or not. By its id it is found at once; actions.recent, find_invocations and by_event find those of an action, a project or an event as fast. Example: select status, http_status, duration_ms, error from actions.recent_invocations where invocation_id = ''inv_01JD3X6G8Q7N9V8R2M4T6W8Y0B'';';

-- The newest of a project or an action by its indexes, in as many steps as there are rows asked for,
-- however long the history is.
create or replace function actions.find_invocations(
  action_id text default null, project_id text default null, status text default null, since timestamptz default null, n integer default 100
) returns setof actions.recent_invocations
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_custom_plan set jit = off
as $$
#variable_conflict use_variable
declare
  -- Ids begin with the moment of their making, and the history is partitioned by them.
  least_id constant text := case when since is null then 'inv_' else 'inv_' || actions_private.id_time(greatest(since, 'epoch')) end;
  -- Nothing ends before it is enqueued, give or take clocks. The indexes of actions go by this.
  least_end constant timestamptz := coalesce(since, '-infinity') - interval '1 minute';
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
  -- let the planner walk by time and hope to meet the action soon; an array, ordered by the action
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
      where i.action_id = any (array[wanted.action_id]) and not i.test and i.status not in ('killed', 'expired')
        and i.finished_at >= least_end and i.id >= least_id and (status is null or i.status::text = status)
      order by i.action_id desc, i.finished_at desc
      limit n
    ) as c
    union all
    select o.id
    from unnest(action_ids) as wanted (action_id)
    cross join lateral (
      select i.id, i.finished_at from actions_private.invocations as i
      where i.action_id = any (array[wanted.action_id]) and (i.test or i.status in ('killed', 'expired'))
        and i.finished_at >= least_end and i.id >= least_id and (status is null or i.status::text = status)
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

create or replace function actions.recent(action_id text, n integer default 100) returns setof actions.recent_invocations
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
create or replace function actions.by_event(event_id text) returns setof actions.recent_invocations
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
    where i.event_id = by_event.event_id
  ) as found (id)
  cross join lateral (select * from actions.recent_invocations as r where r.invocation_id = found.id offset 0) as r
  where r.event_id = by_event.event_id
  order by r.invocation_id desc;
end
$$;
comment on function actions.by_event(text) is
  'The invocations of an event, by the id that customers see; none where its project had no action then. Example: select invocation_id, status, error from actions.by_event(''evt_01JD3X6G8Q7N9V8R2M4T6W8Y0B'');';

-- As find_invocations, with more to filter by: the newest are looked at in their indexes, narrow, and only
-- what is shown is read as a whole.
create or replace function actions_private.filtered_invocations(
  action_id text, project_id text, since timestamptz, status text, trigger text, test boolean, overrode boolean, looked_at integer, n integer
) returns setof actions.recent_invocations
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_custom_plan set jit = off
-- The planner takes a busy action for an average one, and would rather sort all that it has.
set enable_sort = off set enable_bitmapscan = off set enable_seqscan = off
as $$
#variable_conflict use_variable
declare
  least_id constant text := case when since is null then 'inv_' else 'inv_' || actions_private.id_time(greatest(since, 'epoch')) end;
  least_end constant timestamptz := coalesce(since, '-infinity') - interval '1 minute';
  action_ids constant text[] := array(
    select a.id from actions_private.actions as a
    where (action_id is not null or project_id is not null) and (action_id is null or a.id = action_id) and (project_id is null or a.project_id = filtered_invocations.project_id));
  is_all constant boolean := action_id is null and project_id is null;
begin
  return query
  select r.*
  from (
    select l.id
    from (
      select q.id, case when q.claim_token is null then 'queued' else 'running' end as status, q.trigger, q.test, false as overrode
      from actions_private.queue as q
      where q.id >= least_id and (is_all or q.action_id = any (action_ids))
      union all
      (select i.id, i.status::text, i.trigger, i.test, i.overrode from actions_private.invocations as i where is_all and i.id >= least_id order by i.id desc limit looked_at)
      union all
      select c.*
      from unnest(action_ids) as wanted (action_id)
      cross join lateral (
        select i.id, i.status::text, i.trigger, i.test, i.overrode from actions_private.invocations as i
        where i.action_id = any (array[wanted.action_id]) and not i.test and i.status not in ('killed', 'expired') and i.finished_at >= least_end and i.id >= least_id
        order by i.action_id desc, i.finished_at desc
        limit looked_at
      ) as c
      union all
      select o.*
      from unnest(action_ids) as wanted (action_id)
      cross join lateral (
        select i.id, i.status::text, i.trigger, i.test, i.overrode from actions_private.invocations as i
        where i.action_id = any (array[wanted.action_id]) and (i.test or i.status in ('killed', 'expired')) and i.finished_at >= least_end and i.id >= least_id
        order by i.action_id desc, i.finished_at desc
        limit looked_at
      ) as o
    ) as l
    where (status is null or l.status = filtered_invocations.status) and (trigger is null or l.trigger = filtered_invocations.trigger)
      and (test is null or l.test = filtered_invocations.test) and (overrode is null or l.overrode = filtered_invocations.overrode)
    order by l.id desc
    limit n
  ) as newest
  cross join lateral (select * from actions.recent_invocations as r where r.invocation_id = newest.id offset 0) as r
  order by r.invocation_id desc;
end
$$;
comment on function actions_private.filtered_invocations(text, text, timestamptz, text, text, boolean, boolean, integer, integer) is
  'The last n invocations of an action, a project or all that fit, out of the newest looked_at of each action. An argument that is null does not matter. Example: select invocation_id, status from actions_private.filtered_invocations(null, ''proj_acme_prod'', null, ''timeout'', null, false, null, 2000, 50);';
