-- What auth-core calls to report an event: enqueue, enqueue_many.

-- PostgreSQL keeps \u0000 and half surrogate pairs in a json value, but refuses to look
-- inside a value that has them. Where it must look, these escapes wear a mask.
create function actions_private.mask_escapes(document text, mask text) returns text
language sql immutable parallel safe
return case when document ~ '\\u(0000|[dD][89a-fA-F])' then
  pg_catalog.regexp_replace(document, '((?:^|[^\\])(?:\\\\)*)\\u(?=0000|[dD][89a-fA-F])', '\1' || mask, 'g')
else document end;
comment on function actions_private.mask_escapes(text, text) is
  'Replaces the \u of escapes that json functions refuse; unmask takes it back. Example: select actions_private.mask_escapes(''{"a":"\u0000"}'', ''MASK'');';

-- A function with a parsed body, because a backslash in a text means two things: which one, says a
-- setting of the session, where the text is parsed when it is run.
create function actions_private.unmask(document text, mask text) returns text
language sql immutable parallel safe
return pg_catalog.replace(document, mask, '\u');
comment on function actions_private.unmask(text, text) is
  'Takes back what mask_escapes did. Example: select actions_private.unmask(''{"a":"MASK0000"}'', ''MASK'');';

create function actions_private.check_request(project_id text, trigger text, event json, event_id text) returns void
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
declare
  envelope_key text;
begin
  if project_id is null or length(project_id) not between 1 and 255 then
    perform actions_private.refuse(
      case when project_id is null then 'project_id is null' else format('project_id has %s characters', length(project_id)) end,
      'Accepted is a text of 1 to 255 characters.', 'Pass the project in which the auth event happens.');
  end if;
  if trigger is null or trigger not in
    ('pre_authenticate', 'post_authenticate', 'pre_token_mint', 'post_token_mint', 'pre_register', 'post_register')
  then
    perform actions_private.refuse(
      format('trigger is %s', coalesce(quote_literal(left(trigger, 100)), 'null')),
      'Accepted is pre_authenticate, post_authenticate, pre_token_mint, post_token_mint, pre_register or post_register.',
      'Pass the moment of the auth event at which you are.');
  end if;
  if not actions_private.is_event_id(event_id) then
    perform actions_private.refuse(
      format('event_id is %L', left(event_id, 100)),
      'Accepted is evt_ and 26 upper-case Crockford base-32 characters of a UUIDv7.',
      'Leave event_id out to have one made.');
  end if;
  if event is null or json_typeof(event) <> 'object' then
    perform actions_private.refuse(
      format('event is %s', case when event is null then 'null' else 'a JSON ' || json_typeof(event) end),
      'Accepted is a JSON object with any of user, session, token, request, metadata.',
      'Pass {} when there is nothing to tell.');
  end if;
  if octet_length(event::text) > 1048576 then
    perform actions_private.refuse(
      format('event has %s bytes', octet_length(event::text)),
      'Accepted is up to 1048576 bytes of JSON.', 'Send identifiers instead of whole documents.');
  end if;
  select key into envelope_key
  from json_object_keys(actions_private.mask_escapes(event::text, '')::json) as key
  where key in ('event_id', 'trigger', 'occurred_at', 'project') limit 1;
  if found then
    perform actions_private.refuse(
      format('event has the key %I', envelope_key),
      'The keys event_id, trigger, occurred_at and project belong to the envelope, which the fleet writes.',
      case when envelope_key = 'event_id' then 'Pass it as the argument event_id.' else 'Leave the key out.' end);
  end if;
end
$$;
comment on function actions_private.check_request(text, text, json, text) is
  'Raises what is wrong with one request to enqueue. Example: select actions_private.check_request(''proj_acme_prod'', ''pre_register'', ''{}'', null);';

create function actions_private.is_event_id(event_id text) returns boolean
language sql immutable parallel safe
return event_id ~ '^evt_[0-7][0-9A-HJKMNP-TV-Z]{25}$' collate "C";
comment on function actions_private.is_event_id(text) is
  'True for the form that every event id has. Example: select actions_private.is_event_id(''evt_01JD3X6G8Q7N9V8R2M4T6W8Y0B'');';

-- The cheap look at a request, expanded in place: at its event, and at its project and trigger
-- where no action was found, which would prove that they are right. What it does not pass at sight
-- goes to check_request, which says what is wrong or finds that nothing is: a backslash may spell
-- an envelope key, and a quoted word need not be a key.
create function actions_private.is_plain(body text, event_id text) returns boolean
language sql immutable parallel safe
return (event_id is null or actions_private.is_event_id(event_id))
  and pg_catalog.starts_with(body, '{')
  and pg_catalog.octet_length(body) <= 1048576
  and pg_catalog.strpos(body, '\') = 0
  and pg_catalog.strpos(body, '"event_id"') = 0 and pg_catalog.strpos(body, '"trigger"') = 0
  and pg_catalog.strpos(body, '"occurred_at"') = 0 and pg_catalog.strpos(body, '"project"') = 0;
comment on function actions_private.is_plain(text, text) is
  'True where nothing can be wrong with the event of a request. Example: select actions_private.is_plain(''{}'', null);';

create function actions_private.are_names(project_id text, trigger text) returns boolean
language sql immutable parallel safe
return pg_catalog.length(project_id) between 1 and 255
  and trigger in ('pre_authenticate', 'post_authenticate', 'pre_token_mint', 'post_token_mint', 'pre_register', 'post_register');
comment on function actions_private.are_names(text, text) is
  'True where a project and a trigger may have these names. Example: select actions_private.are_names(''proj_acme_prod'', ''pre_register'');';

-- Anybody who may connect to the database may notify any channel, so a waiter may demand that each
-- result carries a token that only it and the fleet know: channel/token.
create function actions_private.is_reply_to(reply_to text) returns boolean
language sql immutable parallel safe
return case when pg_catalog.strpos(reply_to, '/') = 0
  then pg_catalog.octet_length(reply_to) between 1 and 63 and reply_to <> 'actions_queue'
  else reply_to ~ '^.+/[0-9A-Za-z]{8,32}$' collate "C" and pg_catalog.octet_length(pg_catalog.regexp_replace(reply_to, '/[0-9A-Za-z]*$' collate "C", '')) <= 63
    and not pg_catalog.starts_with(reply_to, 'actions_queue/')
end;
comment on function actions_private.is_reply_to(text) is
  'True for <channel> and <channel>/<token>. Example: select actions_private.is_reply_to(''auth_core_7/5f0cK2w9'');';

create function actions_private.refuse_reply_to(reply_to text) returns void
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
declare
  channel constant text := regexp_replace(reply_to, '/[^/]*$', '');
begin
  perform actions_private.refuse(
    case when channel = 'actions_queue' then 'reply_to is the fleet''s own channel actions_queue'
         when octet_length(channel) not between 1 and 63 then format('the channel of reply_to has %s bytes', octet_length(channel))
         else format('reply_to has a token of %s characters that is not 8 to 32 letters and digits', length(reply_to) - length(channel) - 1) end,
    'Accepted is a channel name of 1 to 63 bytes of your own choice, or <channel>/<token> with a token of 8 to 32 of 0-9A-Za-z.',
    'LISTEN on a channel of your process and pass its name with a random token; or pass null and ask actions.result.');
end
$$;
comment on function actions_private.refuse_reply_to(text) is
  'Raises what is wrong with a reply channel. Example: select actions_private.refuse_reply_to(''actions_queue'');';

-- One session that listens within a long transaction keeps the queue of notifications from being
-- cleaned up, and a full one fails every transaction that notifies. Long before, nothing is notified
-- any more: workers and waiters then ask by themselves.
create function actions_private.notify_queue_usage() returns double precision
language sql volatile parallel safe
return pg_catalog.pg_notification_queue_usage();
comment on function actions_private.notify_queue_usage() is
  'How full the server''s queue of notifications is, 0 to 1. Example: select actions_private.notify_queue_usage();';

create function actions_private.may_notify() returns boolean
language plpgsql volatile parallel safe
as $$
begin
  return actions_private.notify_queue_usage() < 0.5;
end
$$;
comment on function actions_private.may_notify() is
  'Whether the server''s queue of notifications has room. Example: select actions_private.may_notify();';

-- A notification takes a lock that the whole server shares, so whoever enqueues calls nobody
-- while a worker is awake, who looks again by itself. In a long transaction nobody knows when
-- this commits, so it calls; in a short one the worker's next looks find it, which it takes
-- also when it falls asleep.
-- A call names one worker, the same for the same project as long as the fleet stays the same:
-- if all came at once, each but one would come for nothing. The others look a little later.
create function actions_private.call_a_worker(project_id text, at timestamptz) returns void
language plpgsql
as $$
declare
  worker text;
begin
  if not actions_private.may_notify() then
    return; -- workers see that, too, and look by themselves
  end if;
  select p.id into worker
  from actions_private.processes as p
  where p.kind = 'worker' and p.seen_at > at - interval '12 seconds'
  order by p.awake_until > at desc, hashtextextended(p.id, hashtext(call_a_worker.project_id))
  limit 1;
  perform pg_notify('actions_queue', coalesce(worker, ''));
end
$$;
comment on function actions_private.call_a_worker(text, timestamptz) is
  'Notifies one worker, or all where none is known. For functions whose search_path is pinned. Example: select actions_private.call_a_worker(''proj_acme_prod'', now());';

-- Locked in the order of the keys, so that no two statements wait for each other. Who comes second
-- waits for the first to commit, and then finds its invocation.
create function actions_private.take_event_keys(
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

create function actions_private.forget_event_keys() returns bigint
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

create function actions_private.answer_again(
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
    case when f.id is null then json_build_object('decision', 'allow', 'source', 'no_action', 'status', 'ok') else f.outcome end, coalesce(f.wait_ms, 0)
  from (
    select r.n, coalesce(r.event_id, 'evt_' || i.name) as event_id, coalesce(k.invocation_id, 'inv_' || i.name) as id
    from unnest(project_ids, triggers, event_ids) with ordinality as r (project_id, trigger, event_id, n)
    cross join lateral (select stamp || actions_private.id_tail(least(r.n, 4095), hashint8extended(r.n, seed)) as name) as i
    left join actions_private.event_keys as k on k.event_id = r.event_id and k.project_id = r.project_id and k.trigger = r.trigger
  ) as e
  left join lateral (
    select q.id, q.action_id, case when q.claim_token is null then 'queued' else 'running' end, null::json,
      greatest(0, ceil(extract(epoch from q.deadline_at - clock_timestamp()) * 1000))::integer
    from actions_private.queue as q where q.id = e.id
    union all
    select i.id, i.action_id, i.status::text, i.outcome, 0
    from actions_private.invocations as i where i.id = e.id
  ) as f (id, action_id, status, outcome, wait_ms) on true
  order by e.n;
end
$$;
comment on function actions_private.answer_again(uuid, text[], text[], text[]) is
  'What became of the events of a request that was sent before, in order. Example: select * from actions_private.answer_again(gen_random_uuid(), ''{}'', ''{}'', ''{}'');';

create function actions.enqueue_many(
  project_ids text[], triggers text[], events json[], event_ids text[], reply_to text, request_id uuid default null
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
  -- Strong randomness takes longer than all the rest of an id: once for all, and each row's own from it.
  seed constant bigint := uuid_hash_extended(coalesce(request_id, gen_random_uuid()), 1);
  life uuid;
  are_plain boolean;
  are_alive boolean;
  is_any_alive boolean;
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
    must_call or not exists (select from actions_private.processes as p where p.awake_until > at), (select l.id from actions_private.life as l),
    array_agg(r.name), array_agg(r.action_id), array_agg(r.version), array_agg(r.wait_ms)
  into are_plain, are_alive, is_any_alive, must_call, life, names, action_ids, versions, waits_ms
  from (
    select stamp || actions_private.id_tail(least(r.n, 4095), hashint8extended(r.n, seed)) as name,
      a.id as action_id, a.version, a.timeout_ms + (select s.queue_allowance_ms from actions_private.settings as s) as wait_ms,
      a.id is not null and a.killed_at is null as is_alive,
      ((a.id is not null or actions_private.are_names(r.project_id, r.trigger)) and actions_private.is_plain(as_text.body, r.event_id)) is true as is_plain
    from unnest(project_ids, triggers, events, event_ids) with ordinality as r (project_id, trigger, event, event_id, n)
    cross join lateral (select r.event::text as body offset 0) as as_text
    left join actions_private.actions as a on a.project_id = r.project_id and a.trigger = r.trigger and a.enabled and a.deleted_at is null
    order by r.n
  ) as r;
  life := coalesce(life, actions_private.current_life());
  if not are_plain then
    perform actions_private.check_request(r.project_id, r.trigger, r.event, r.event_id)
    from unnest(project_ids, triggers, events, event_ids) as r (project_id, trigger, event, event_id);
  end if;

  if event_ids is not null then
    repeated := actions_private.take_event_keys(project_ids, triggers, event_ids, action_ids, names, at);
  end if;

  -- Nearly always there is an action to call for each event.
  if are_alive and repeated is null then
    return query
    insert into actions_private.queue as q
      (id, event_id, project_id, trigger, action_id, action_version, test, event, reply_to, life, enqueued_at, deadline_at)
    select 'inv_' || r.name, coalesce(r.event_id, 'evt_' || r.name), r.project_id, r.trigger, r.action_id, r.version, false, r.event,
      enqueue_many.reply_to, life, at, at + r.wait_ms * interval '1 millisecond'
    from unnest(project_ids, triggers, events, event_ids, names, action_ids, versions, waits_ms)
      as r (project_id, trigger, event, event_id, name, action_id, version, wait_ms)
    returning q.id, q.event_id, q.action_id, 'queued', null::json, round(date_part('epoch', q.deadline_at - q.enqueued_at) * 1000)::integer;
    if must_call then
      perform actions_private.call_a_worker(project_ids[1], at);
    end if;
    return;
  end if;

  with routed as materialized (
    select r.n, r.project_id, r.trigger, r.event, coalesce(r.event_id, 'evt_' || r.name) as event_id, r.action_id, r.version, r.wait_ms,
      a.killed_at, case when r.action_id is not null then 'inv_' || r.name end as invocation_id,
      case
        when r.action_id is null then json_build_object('decision', 'allow', 'source', 'no_action', 'status', 'ok')
        when a.killed_at is not null then
          actions_private.outcome_without_verdict('killed', r.trigger, v.fail_mode, v.on_killed, 'the action was killed: ' || a.killed_reason)
      end as outcome
    from unnest(project_ids, triggers, events, event_ids, names, action_ids, versions, waits_ms, repeated) with ordinality
      as r (project_id, trigger, event, event_id, name, action_id, version, wait_ms, repeated, n)
    left join (
      actions_private.actions as a
      join actions_private.action_versions as v on v.action_id = a.id
    ) on a.id = r.action_id and v.version = r.version
    where r.repeated is null
  ), queued as (
    insert into actions_private.queue
      (id, event_id, project_id, trigger, action_id, action_version, test, event, reply_to, life, enqueued_at, deadline_at)
    select r.invocation_id, r.event_id, r.project_id, r.trigger, r.action_id, r.version, false, r.event, enqueue_many.reply_to,
      life, at, at + r.wait_ms * interval '1 millisecond'
    from routed as r
    where r.outcome is null
    returning id
  ), skipped as (
    insert into actions_private.invocations
      (id, event_id, project_id, trigger, action_id, action_version, test, status, outcome, error, error_code, enqueued_at, finished_at)
    select r.invocation_id, r.event_id, r.project_id, r.trigger, r.action_id, r.version, false, 'killed', r.outcome, 'the action was killed', 'killed', at, at
    from routed as r
    where r.killed_at is not null
  )
  select array_agg((r.invocation_id, r.event_id, r.action_id,
    case when r.outcome is null then 'queued' when r.killed_at is not null then 'killed' else 'ok' end,
    r.outcome, case when r.outcome is null then r.wait_ms else 0 end)::actions.answer order by r.n)
  into answers
  from routed as r;
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
comment on function actions.enqueue_many(text[], text[], json[], text[], text, uuid) is
  'The one way into the queue: one row for each event, in order, or an error and nothing written. event_ids may be null. The same request_id again within ten minutes answers for the same events and sends nothing twice. Example: select * from actions.enqueue_many(array[''proj_acme_prod''], array[''pre_register''], array[''{}''::json], null, ''auth_core_7'');';

create function actions.enqueue(
  project_id text, trigger text, event json, reply_to text default null, event_id text default null
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
  life uuid;
  must_call boolean := statement_timestamp() > now() + interval '5 milliseconds';
  earlier text;
begin
  -- Nearly always it is a plain event with an action to call. That takes the fewest steps here:
  -- for one event, making a statement ready costs more than running it.
  if actions_private.is_plain(body, enqueue.event_id)
    and (reply_to is null or actions_private.is_reply_to(reply_to))
  then
    select a.id, a.version, a.timeout_ms + (select s.queue_allowance_ms from actions_private.settings as s), (select l.id from actions_private.life as l),
      must_call or not exists (select from actions_private.processes as p where p.awake_until > at)
    into action_id, version, wait_ms, life, must_call
    from actions_private.actions as a
    where a.project_id = enqueue.project_id and a.trigger = enqueue.trigger and a.enabled and a.deleted_at is null and a.killed_at is null;
  end if;
  if action_id is null or life is null then
    return query select e.* from actions.enqueue_many(array[$1], array[$2], array[$3], array[$5], $4) as e;
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
    (id, event_id, project_id, trigger, action_id, action_version, test, event, reply_to, life, enqueued_at, deadline_at)
  values ('inv_' || name, coalesce($5, 'evt_' || name), $1, $2, action_id, version, false, $3, $4, life, at,
    at + wait_ms * interval '1 millisecond');
  return next row('inv_' || name, coalesce($5, 'evt_' || name), action_id, 'queued', null::json, wait_ms)::actions.answer;
  if must_call then
    perform actions_private.call_a_worker($1, at);
  end if;
end
$$;
comment on function actions.enqueue(text, text, json, text, text) is
  'Asks the fleet to call the project''s action for one auth event; the result comes as NOTIFY on reply_to, a channel or channel/token. An event_id makes it safe to ask again within ten minutes: the same id of the same project and trigger is the same invocation. Example: select * from actions.enqueue(''proj_acme_prod'', ''pre_token_mint'', ''{"user":{"id":"user_1","email":"alice@acme.com"}}'', ''auth_core_7'');';

create function actions.enqueue_many(requests json, reply_to text)
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
      'Accepted is a JSON array of objects {"project_id", "trigger", "event", "event_id"?}.',
      'For a single event use actions.enqueue.');
  end if;
  requests := actions_private.mask_escapes(requests::text, mask)::json;
  select n, json_typeof(element) as kind into wrong
  from json_array_elements(requests) with ordinality as r (element, n)
  where json_typeof(element) <> 'object' limit 1;
  if found then
    perform actions_private.refuse(
      format('element %s of requests is a JSON %s', wrong.n, wrong.kind),
      'Accepted is an object {"project_id", "trigger", "event", "event_id"?}.', 'Nothing of the array was enqueued.');
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
      array_agg(actions_private.unmask(r.event_id::text, mask)::json #>> '{}' order by n) as event_ids
    from rows from (json_to_recordset(requests) as (project_id json, trigger json, event json, event_id json))
      with ordinality as r (project_id, trigger, event, event_id, n)
  ) as columns,
  actions.enqueue_many(columns.project_ids, columns.triggers, columns.events, columns.event_ids, reply_to) as e;
end
$$;
comment on function actions.enqueue_many(json, text) is
  'enqueue for many events in one statement: one row for each, in order, or an error and nothing written. Example: select * from actions.enqueue_many(''[{"project_id":"proj_acme_prod","trigger":"pre_register","event":{}}]'', ''auth_core_7'');';
