-- What auth-core calls to report an event: enqueue, enqueue_many.

-- Before there were traces, both had an argument fewer; who prepared a call of them then has the new ones.
drop function if exists actions.enqueue_many(text[], text[], json[], text[], text, uuid);
drop function if exists actions.enqueue(text, text, json, text, text);

create or replace function actions_private.as_trace_parent(given text) returns text
language sql immutable strict parallel safe set search_path = pg_catalog, pg_temp
begin atomic
  select case when given ~ '^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}($|-)' then left(given, 200) end;
end;
comment on function actions_private.as_trace_parent(text) is
  'A W3C traceparent, or null for what has not its form: a trace is never a reason to refuse an event. Example: select actions_private.as_trace_parent(''00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01'');';

create or replace function actions.enqueue_many(
  project_ids text[], triggers text[], events json[], event_ids text[], reply_to text, request_id uuid default null,
  trace_parents text[] default null
) returns setof actions.answer
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
-- One plan for every size: making one costs more than running it. And by keys alone: the tables
-- may have been small when it was made.
set plan_cache_mode = force_generic_plan set jit = off
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
as $$
#variable_conflict use_column
declare
  at constant timestamptz := clock_timestamp();
  stamp constant text := actions_private.id_time(at);
  parents constant text[] := case when array_ndims(trace_parents) = 1 then trace_parents[1:cardinality(project_ids)] end;
  -- Strong randomness takes longer than all the rest of an id: once for all, and each row's own from it.
  seed constant bigint := uuid_hash_extended(coalesce(request_id, gen_random_uuid()), 1);
  server_epoch uuid;
  are_plain boolean;
  are_alive boolean;
  is_any_alive boolean;
  -- Of some action a condition or a canary says where an event goes.
  is_any_routed boolean;
  unmet boolean[];
  canaries boolean[];
  must_call boolean := statement_timestamp() > now() + interval '5 milliseconds';
  names text[];
  action_ids text[];
  versions integer[];
  waits_ms integer[];
  -- For each request the invocation that it became before, where it is a repetition.
  repeated text[];
  answers actions.answer[];
begin
  if not actions_private.is_reply_to(reply_to) then
    perform actions_private.refuse_reply_to(reply_to);
  end if;
  if request_id is not null then
    -- Who comes second waits here for the first to commit.
    insert into actions_private.enqueue_requests as r (id, at) values (request_id, at) on conflict do nothing;
    if not found then
      return query select e.* from actions_private.answer_again(request_id, project_ids, triggers, event_ids) as e;
      return;
    end if;
  end if;
  select bool_and(r.is_plain), bool_and(r.is_alive), bool_or(r.is_alive),
    must_call or not exists (select from actions_private.processes as p where p.awake_until > at), (select l.id from actions_private.server_epoch as l),
    array_agg(r.name), array_agg(r.action_id), array_agg(r.version), array_agg(r.wait_ms), bool_or(r.is_routed)
  into are_plain, are_alive, is_any_alive, must_call, server_epoch, names, action_ids, versions, waits_ms, is_any_routed
  from (
    select stamp || actions_private.id_tail(least(r.n, 4095), hashint8extended(r.n, seed)) as name,
      a.id as action_id, a.version, a.timeout_ms + (select s.queue_allowance_ms from actions_private.settings as s) as wait_ms,
      a.id is not null and a.killed_at is null as is_alive, a.condition is not null or a.canary_percent is not null as is_routed,
      ((a.id is not null or actions_private.are_names(r.project_id, r.trigger)) and actions_private.is_plain(as_text.body, r.event_id)) is true as is_plain
    from unnest(project_ids, triggers, events, event_ids) with ordinality as r (project_id, trigger, event, event_id, n)
    cross join lateral (select r.event::text as body offset 0) as as_text
    left join actions_private.actions as a on a.project_id = r.project_id and a.trigger = r.trigger and a.enabled and a.deleted_at is null
    order by r.n
  ) as r;
  server_epoch := coalesce(server_epoch, actions_private.current_server_epoch());
  if not are_plain then
    perform actions_private.check_request(r.project_id, r.trigger, r.event, r.event_id)
    from unnest(project_ids, triggers, events, event_ids) as r (project_id, trigger, event, event_id);
  end if;

  if is_any_routed then
    select array_agg(d.is_unmet order by d.n), array_agg(d.is_canary order by d.n),
      array_agg(case when d.is_canary then d.canary_version else d.version end order by d.n),
      array_agg(case when d.is_canary then (
        select v.timeout_ms from actions_private.action_versions as v where v.action_id = d.action_id and v.version = d.canary_version
      ) + d.wait_ms - d.timeout_ms else d.wait_ms end order by d.n)
    into unmet, canaries, versions, waits_ms
    from (
      select r.n, r.version, r.wait_ms, r.action_id, a.timeout_ms, a.canary_version, not actions_private.is_met(r.event, a.condition) as is_unmet,
        case when a.canary_percent is null then false
          else actions_private.side_of(r.event, coalesce(r.event_id, 'evt_' || r.name)) < a.canary_percent end as is_canary
      from unnest(events, event_ids, names, action_ids, versions, waits_ms) with ordinality as r (event, event_id, name, action_id, version, wait_ms, n)
      left join actions_private.actions as a on a.id = r.action_id
    ) as d;
    are_alive := false;
  end if;
  if event_ids is not null then
    repeated := actions_private.take_event_keys(project_ids, triggers, event_ids,
      case when unmet is null then action_ids else array(select case when not r.is_unmet then r.id end from unnest(action_ids, unmet) with ordinality as r (id, is_unmet, n) order by r.n) end,
      names, at);
  end if;

  -- Nearly always there is an action to call for each event.
  if are_alive and repeated is null then
    return query
    insert into actions_private.queue as q
      (id, event_id, project_id, trigger, action_id, action_version, test, event, reply_to, server_epoch, enqueued_at, deadline_at, trace_parent)
    select 'inv_' || r.name, r.event_id, r.project_id, r.trigger, r.action_id, r.version, false, r.event,
      enqueue_many.reply_to, server_epoch, at, at + r.wait_ms * interval '1 millisecond',
      actions_private.as_trace_parent(r.trace_parent)
    from unnest(project_ids, triggers, events, event_ids, names, action_ids, versions, waits_ms, parents)
      as r (project_id, trigger, event, event_id, name, action_id, version, wait_ms, trace_parent)
    returning q.id, coalesce(q.event_id, 'evt_' || substr(q.id, 5)), q.action_id, 'queued', null::json, round(date_part('epoch', q.deadline_at - q.enqueued_at) * 1000)::integer;
    if must_call then
      perform actions_private.call_a_worker(project_ids[1], at);
    end if;
    return;
  end if;

  with routed as materialized (
    select r.n, r.project_id, r.trigger, r.event, r.event_id, 'evt_' || r.name as made_event_id, r.action_id, r.version, r.wait_ms,
      case when not r.is_unmet then a.killed_at end as killed_at, r.is_canary,
      case when r.action_id is not null and not r.is_unmet then 'inv_' || r.name end as invocation_id,
      case
        when r.action_id is null then json_build_object('decision', 'allow', 'source', 'no_action', 'status', 'ok')
        when r.is_unmet then json_build_object('decision', 'allow', 'source', 'condition', 'status', 'ok')
        when a.killed_at is not null then
          actions_private.outcome_without_verdict('killed', r.trigger, v.fail_mode, v.on_killed, 'the action was killed: ' || a.killed_reason)
      end as outcome, actions_private.as_trace_parent(r.trace_parent) as trace_parent
    from (
      select r.n, r.project_id, r.trigger, r.event, r.event_id, r.name, r.action_id, r.version, r.wait_ms, r.repeated, r.trace_parent,
        coalesce(r.is_unmet, false) as is_unmet, coalesce(r.is_canary, false) as is_canary
      from unnest(project_ids, triggers, events, event_ids, names, action_ids, versions, waits_ms, repeated, unmet, canaries,
          parents) with ordinality
        as r (project_id, trigger, event, event_id, name, action_id, version, wait_ms, repeated, is_unmet, is_canary, trace_parent, n)
    ) as r
    left join (
      actions_private.actions as a
      join actions_private.action_versions as v on v.action_id = a.id
    ) on a.id = r.action_id and v.version = r.version
    where r.repeated is null
  ), broken_glass as materialized (
    select g.n, g.user_id
    from (
      select r.n, actions_private.breaks_glass(r.project_id, r.event) as user_id from routed as r where r.killed_at is not null and r.outcome ->> 'decision' = 'deny'
    ) as g
    where g.user_id is not null
  ), noted as (
    insert into actions_private.audit_log (project_id, action_id, event, actor, details)
    select r.project_id, r.action_id, 'action.break_glass_used', 'fleet',
      json_build_object('invocation_id', r.invocation_id, 'event_id', coalesce(r.event_id, r.made_event_id), 'user_id', g.user_id)
    from routed as r
    join broken_glass as g on g.n = r.n
  ), decided as (
    select r.*, case when g.n is null then r.outcome else actions_private.outcome_of_broken_glass('killed') end as final_outcome
    from routed as r
    left join broken_glass as g on g.n = r.n
  ), queued as (
    insert into actions_private.queue
      (id, event_id, project_id, trigger, action_id, action_version, test, event, reply_to, server_epoch, enqueued_at, deadline_at, canary, trace_parent)
    select r.invocation_id, r.event_id, r.project_id, r.trigger, r.action_id, r.version, false, r.event, enqueue_many.reply_to,
      server_epoch, at, at + r.wait_ms * interval '1 millisecond', nullif(r.is_canary, false), r.trace_parent
    from routed as r
    where r.outcome is null
    returning id
  ), skipped as (
    insert into actions_private.invocations
      (id, event_id, project_id, trigger, action_id, action_version, test, status, outcome, error, error_code, enqueued_at, finished_at)
    select r.invocation_id, r.event_id, r.project_id, r.trigger, r.action_id, r.version, false, 'killed', r.final_outcome, 'the action was killed', 'killed', at, at
    from decided as r
    where r.killed_at is not null
  )
  select array_agg((r.invocation_id, coalesce(r.event_id, r.made_event_id), r.action_id,
    case when r.outcome is null then 'queued' when r.killed_at is not null then 'killed' else 'ok' end,
    r.final_outcome, case when r.outcome is null then r.wait_ms else 0 end)::actions.answer order by r.n)
  into answers
  from decided as r;
  if repeated is null then
    return query select a.* from unnest(answers) as a;
  else
    -- What was reported before is answered as it is now.
    return query
    select e.*
    from (
      select r.n, row_number() over (partition by r.repeated is null order by r.n) as nth, r.repeated
      from unnest(repeated) with ordinality as r (repeated, n)
    ) as asked
    cross join lateral (
      select a.* from unnest(answers[asked.nth:asked.nth]) as a where asked.repeated is null
      union all
      select k.* from actions.results(array[asked.repeated]) as k where asked.repeated is not null
    ) as e
    order by asked.n;
  end if;
  if is_any_alive and must_call then
    perform actions_private.call_a_worker(project_ids[1], at);
  end if;
end
$$;
comment on function actions.enqueue_many(text[], text[], json[], text[], text, uuid, text[]) is
  'The one way into the queue: one row for each event, in order, or an error and nothing written. event_ids and trace_parents may be null. The same request_id again within ten minutes answers for the same events and sends nothing twice. Example: select * from actions.enqueue_many(array[''proj_acme_prod''], array[''pre_register''], array[''{}''::json], null, ''auth_core_7'');';

create or replace function actions.enqueue(
  project_id text, trigger text, event json, reply_to text default null, event_id text default null, trace_parent text default null
) returns setof actions.answer
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
set enable_seqscan = off set enable_bitmapscan = off set jit = off
as $$
#variable_conflict use_column
declare
  at constant timestamptz := clock_timestamp();
  body constant text := event::text;
  name constant text := actions_private.id_time(at) || actions_private.id_tail(0, uuid_hash_extended(gen_random_uuid(), 1));
  action_id text;
  version integer;
  wait_ms integer;
  server_epoch uuid;
  must_call boolean := statement_timestamp() > now() + interval '5 milliseconds';
  earlier text;
begin
  -- Nearly always it is a plain event with an action to call. That takes the fewest steps here:
  -- for one event, making a statement ready costs more than running it.
  if actions_private.is_plain(body, enqueue.event_id)
    and (reply_to is null or actions_private.is_reply_to(reply_to))
  then
    select a.id, a.version, a.timeout_ms + (select s.queue_allowance_ms from actions_private.settings as s), (select l.id from actions_private.server_epoch as l),
      must_call or not exists (select from actions_private.processes as p where p.awake_until > at)
    into action_id, version, wait_ms, server_epoch, must_call
    from actions_private.actions as a
    where a.project_id = enqueue.project_id and a.trigger = enqueue.trigger and a.enabled and a.deleted_at is null and a.killed_at is null
      and a.condition is null and a.canary_percent is null;
  end if;
  if action_id is null or server_epoch is null then
    return query select e.* from actions.enqueue_many(array[$1], array[$2], array[$3], array[$5], $4, null, array[$6]) as e;
    return;
  end if;
  if event_id is not null then
    insert into actions_private.event_keys as k (event_id, project_id, trigger, invocation_id, enqueued_at)
    values ($5, $1, $2, 'inv_' || name, at)
    on conflict on constraint event_keys_pkey do update
      set invocation_id = excluded.invocation_id, enqueued_at = excluded.enqueued_at
      where k.enqueued_at <= at - interval '10 minutes';
    if not found then
      select k.invocation_id into earlier from actions_private.event_keys as k where k.event_id = $5 and k.project_id = $1 and k.trigger = $2;
      return query select r.* from actions.results(array[earlier]) as r;
      return;
    end if;
  end if;
  insert into actions_private.queue
    (id, event_id, project_id, trigger, action_id, action_version, test, event, reply_to, server_epoch, enqueued_at, deadline_at, trace_parent)
  values ('inv_' || name, $5, $1, $2, action_id, version, false, $3, $4, server_epoch, at,
    at + wait_ms * interval '1 millisecond', actions_private.as_trace_parent($6));
  return next row('inv_' || name, coalesce($5, 'evt_' || name), action_id, 'queued', null::json, wait_ms)::actions.answer;
  if must_call then
    perform actions_private.call_a_worker($1, at);
  end if;
end
$$;
comment on function actions.enqueue(text, text, json, text, text, text) is
  'Asks the fleet to call the project''s action for one auth event; the result comes as NOTIFY on reply_to, a channel or channel/token. An event_id makes it safe to ask again within ten minutes: the same id of the same project and trigger is the same invocation. trace_parent is a W3C traceparent: the endpoint gets one, and the fleet''s spans belong to its trace; one that is not valid is passed over. Example: select * from actions.enqueue(''proj_acme_prod'', ''pre_token_mint'', ''{"user":{"id":"user_1","email":"alice@acme.com"}}'', ''auth_core_7'');';

create or replace function actions.enqueue_many(requests json, reply_to text)
returns setof actions.answer
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  mask constant text := gen_random_uuid()::text;
  wrong record;
begin
  if requests is null or json_typeof(requests) <> 'array' then
    perform actions_private.refuse(
      format('requests is %s', case when requests is null then 'null' else 'a JSON ' || json_typeof(requests) end),
      'Accepted is a JSON array of objects {"project_id", "trigger", "event", "event_id"?, "trace_parent"?}.',
      'For a single event use actions.enqueue.');
  end if;
  requests := actions_private.mask_escapes(requests::text, mask)::json;
  select n, json_typeof(element) as kind into wrong
  from json_array_elements(requests) with ordinality as r (element, n)
  where json_typeof(element) <> 'object' limit 1;
  if found then
    perform actions_private.refuse(
      format('element %s of requests is a JSON %s', wrong.n, wrong.kind),
      'Accepted is an object {"project_id", "trigger", "event", "event_id"?, "trace_parent"?}.', 'Nothing of the array was enqueued.');
  end if;
  -- An event may hold what no text can; a name may not.
  perform actions_private.refuse_unstorable('a name in requests', actions_private.unmask(name::text, mask)::json)
  from json_to_recordset(requests) as r (project_id json, trigger json, event_id json), unnest(array[r.project_id, r.trigger, r.event_id]) as name
  where strpos(name::text, mask) > 0;
  return query
  select e.*
  from (
    select array_agg(actions_private.unmask(r.project_id::text, mask)::json #>> '{}' order by n) as project_ids,
      array_agg(actions_private.unmask(r.trigger::text, mask)::json #>> '{}' order by n) as triggers,
      array_agg(actions_private.unmask(r.event::text, mask)::json order by n) as events,
      array_agg(actions_private.unmask(r.event_id::text, mask)::json #>> '{}' order by n) as event_ids,
      array_agg(r.trace_parent #>> '{}' order by n) as trace_parents
    from rows from (json_to_recordset(requests) as (project_id json, trigger json, event json, event_id json, trace_parent json))
      with ordinality as r (project_id, trigger, event, event_id, trace_parent, n)
  ) as columns,
  actions.enqueue_many(columns.project_ids, columns.triggers, columns.events, columns.event_ids, reply_to, null, columns.trace_parents) as e;
end
$$;
comment on function actions.enqueue_many(json, text) is
  'enqueue for many events in one statement: one row for each, in order, or an error and nothing written. Example: select * from actions.enqueue_many(''[{"project_id":"proj_acme_prod","trigger":"pre_register","event":{}}]'', ''auth_core_7'');';

create or replace function actions.server_epoch() returns uuid
language sql volatile security definer set search_path = pg_catalog, pg_temp
begin atomic
  select actions_private.current_server_epoch();
end;
comment on function actions.server_epoch() is
  'The time between two crashes or promotions of the server, for enqueue_again: ask for it before the first enqueue, and again after an error. Example: select actions.server_epoch();';

create or replace function actions.enqueue_again(
  project_ids text[], triggers text[], events json[], event_ids text[], reply_to text, request_id uuid, server_epoch uuid, trace_parents text[] default null
) returns setof actions.answer
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
  -- A worker may have sent it, and a crash then have forgotten it with all that was not on disk.
  if server_epoch is distinct from actions_private.current_server_epoch()
    and not exists (select from actions_private.enqueue_requests as r where r.id = request_id)
    and exists (
      select from unnest(project_ids, triggers, event_ids) as r (project_id, trigger, event_id)
      where not exists (
        select from actions_private.event_keys as k where k.event_id = r.event_id and k.project_id = r.project_id and k.trigger = r.trigger))
  then
    raise exception using
      errcode = 'transaction_resolution_unknown',
      message = 'the server crashed or was replaced after this was first asked, and knows nothing of it',
      detail = 'An endpoint may have been asked already, so it is not asked again.',
      hint = 'Treat the event as one without an outcome; whoever signs in may try again.';
  end if;
  return query select e.* from actions.enqueue_many(project_ids, triggers, events, event_ids, reply_to, request_id, trace_parents) as e;
end
$$;
comment on function actions.enqueue_again(text[], text[], json[], text[], text, uuid, uuid, text[]) is
  'As enqueue_many, for whoever asked before and heard no answer; server_epoch is what actions.server_epoch() said before that. What the database knows is answered again; what a crash may have forgotten is an error (08007) instead of a second request to an endpoint. Example: select * from actions.enqueue_again(array[''proj_acme_prod''], array[''pre_register''], array[''{}''::json], null, ''auth_core_7'', ''0193d3c6-4e8b-7f7a-9c5e-1a2b3c4d5e6f'', ''0193d3c6-4e8b-7f7a-9c5e-1a2b3c4d5e70'');';
