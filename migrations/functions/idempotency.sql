-- Events and requests that are reported again because the answer got lost.

-- Locked in the order of the keys, so that no two statements wait for each other. Who comes second
-- waits for the first to commit, and then finds its invocation.
create or replace function actions_private.take_event_keys(
  project_ids text[], triggers text[], event_ids text[], action_ids text[], names text[], at timestamptz
) returns text[]
language plpgsql set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan set jit = off
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
as $$
declare
  given integer;
  taken integer;
begin
  with asked as (
    select distinct on (r.event_id collate "C", r.project_id collate "C", r.trigger collate "C") r.*
    from unnest(project_ids, triggers, event_ids, action_ids, names) with ordinality as r (project_id, trigger, event_id, action_id, name, n)
    -- Where there is no action nothing happens, however often.
    where r.event_id is not null and r.action_id is not null
    order by r.event_id collate "C", r.project_id collate "C", r.trigger collate "C", r.n
  ), taken as (
    insert into actions_private.event_keys as k (event_id, project_id, trigger, invocation_id, enqueued_at)
    select a.event_id, a.project_id, a.trigger, 'inv_' || a.name, at from asked as a
    on conflict (event_id, project_id, trigger) do update
      set invocation_id = excluded.invocation_id, enqueued_at = excluded.enqueued_at
      where k.enqueued_at <= at - interval '10 minutes'
    returning k.invocation_id
  )
  select (select count(*) from unnest(event_ids, action_ids) as r (event_id, action_id) where r.event_id is not null and r.action_id is not null),
    (select count(*) from taken)
  into given, taken;
  if taken = given then
    return null;
  end if;
  return array(
    select case when k.invocation_id <> 'inv_' || r.name then k.invocation_id end
    from unnest(project_ids, triggers, event_ids, action_ids, names) with ordinality as r (project_id, trigger, event_id, action_id, name, n)
    left join actions_private.event_keys as k
      on k.event_id = r.event_id and k.project_id = r.project_id and k.trigger = r.trigger and r.action_id is not null
    order by r.n);
end
$$;
comment on function actions_private.take_event_keys(text[], text[], text[], text[], text[], timestamptz) is
  'Notes the given event ids; null where all are new, else for each request the invocation that it became before. Example: select actions_private.take_event_keys(''{}'', ''{}'', ''{}'', ''{}'', ''{}'', now());';

create or replace function actions_private.forget_event_keys() returns bigint
language sql volatile security definer set search_path = pg_catalog, pg_temp
begin atomic
  with gone as (
    delete from actions_private.event_keys as k where k.enqueued_at < pg_catalog.clock_timestamp() - interval '10 minutes' returning 1
  ), also_gone as (
    delete from actions_private.enqueue_requests as r where r.at < pg_catalog.clock_timestamp() - interval '10 minutes' returning 1
  )
  select (select pg_catalog.count(*) from gone) + (select pg_catalog.count(*) from also_gone);
end;
comment on function actions_private.forget_event_keys() is
  'Forgets ids of events and requests that were given more than ten minutes ago; returns how many. Example: select actions_private.forget_event_keys();';

create or replace function actions_private.answer_again(
  request_id uuid, project_ids text[], triggers text[], event_ids text[]
) returns setof actions.answer
language plpgsql set search_path = pg_catalog, pg_temp
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off
as $$
#variable_conflict use_column
declare
  stamp constant text := (select actions_private.id_time(r.at) from actions_private.enqueue_requests as r where r.id = request_id);
  seed constant bigint := uuid_hash_extended(request_id, 1);
begin
  return query
  select f.id, e.event_id, f.action_id, coalesce(f.status, 'ok'),
    case when f.id is null then json_build_object('decision', 'allow', 'source', case when exists (
      select from actions_private.actions as a
      where a.project_id = e.project_id and a.trigger = e.trigger and a.enabled and a.deleted_at is null and a.condition is not null) then 'condition' else 'no_action' end,
      'status', 'ok') else f.outcome end, coalesce(f.wait_ms, 0)
  from (
    select r.n, r.project_id, r.trigger, coalesce(r.event_id, 'evt_' || i.name) as event_id, coalesce(k.invocation_id, 'inv_' || i.name) as id
    from unnest(project_ids, triggers, event_ids) with ordinality as r (project_id, trigger, event_id, n)
    cross join lateral (select stamp || actions_private.id_tail(least(r.n, 4095), hashint8extended(r.n, seed)) as name) as i
    left join actions_private.event_keys as k on k.event_id = r.event_id and k.project_id = r.project_id and k.trigger = r.trigger
  ) as e
  left join lateral (
    select q.id, q.action_id, case when q.claim_token is null then 'queued' else 'running' end, null::json,
      greatest(0, ceil(extract(epoch from q.deadline_at - clock_timestamp()) * 1000))::integer
    from actions_private.queue as q where q.id = e.id
    union all
    select i.id, i.action_id, i.status::text, actions_private.outcome_of(i.status, i.outcome), 0
    from actions_private.invocations as i where i.id = e.id
  ) as f (id, action_id, status, outcome, wait_ms) on true
  order by e.n;
end
$$;
comment on function actions_private.answer_again(uuid, text[], text[], text[]) is
  'What became of the events of a request that was sent before, in order. Example: select * from actions_private.answer_again(gen_random_uuid(), ''{}'', ''{}'', ''{}'');';
