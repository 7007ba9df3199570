-- What workers do to the queue, each in one statement for many invocations.
--
-- Both touch a handful of rows by their key, in a table that is empty now and long in a
-- minute, and that says it is empty after each vacuum. A plan for an empty table reads all of
-- it, and everything in it that is dead. So the planner has no way but the key: it may not
-- scan, and each statement names its rows as an array, never by a join alone, whose order
-- would be the planner's to choose.

create function actions_private.claim(
  token uuid, most integer, full_actions text[], tight_actions text[], rooms integer[], room_per_action integer,
  worker text, look_back_ms integer, says_awake boolean
) returns table (
  id text, event_id text, project_id text, project_revision bigint, trigger text, action_id text, action_version integer, test boolean,
  event text, reply_to text, enqueued_at timestamptz, remaining_ms double precision, queue_ms double precision, claimed_unix double precision,
  killed_reason text, secret_version integer, secret_key_id text, previous_secret_version integer, previous_secret_key_id text, secret_seen boolean
)
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan set jit = off
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off
as $$
#variable_conflict use_column
declare
  -- Entries of invocations that ended long ago gather at the front of the index until
  -- vacuum comes; most looks start behind them.
  at constant timestamptz := clock_timestamp();
  since constant text := coalesce('inv_' || actions_private.id_time(at - look_back_ms * interval '1 millisecond'), '');
  taken text[];
begin
  if full_actions = '{}' and tight_actions = '{}' and room_per_action >= most then
    taken := array(
      select q.id
      from actions_private.queue as q
      where q.status = 'queued' and q.id >= since and q.life = (select l.id from actions_private.life as l)
      order by q.id
      limit most
      for update skip locked);
  else
    taken := array(
      with head as materialized (
        select q.id, q.action_id
        from actions_private.queue as q
        where q.status = 'queued' and q.id >= since and q.life = (select l.id from actions_private.life as l) and q.action_id <> all (full_actions)
        order by q.id
        limit most
        for update skip locked
      ), numbered as (
        select h.id, h.action_id, row_number() over (partition by h.action_id order by h.id) as n
        from head as h
      )
      select n.id
      from numbered as n
      left join unnest(tight_actions, rooms) as tight (action_id, room) on tight.action_id = n.action_id
      where n.n <= coalesce(tight.room, room_per_action)
      order by n.id);
  end if;

  if taken <> '{}' then
    return query
    with claimed as (
      update actions_private.queue as q
      set status = 'running', claim_token = claim.token, claimed_at = clock_timestamp(), worker = claim.worker
      where q.id = any (taken)
      returning q.*
    )
    select c.id, c.event_id, c.project_id, c.project_revision, c.trigger, c.action_id, c.action_version, c.test, c.event::text,
      c.reply_to, c.enqueued_at, date_part('epoch', c.deadline_at - c.claimed_at) * 1000,
      date_part('epoch', c.claimed_at - c.enqueued_at) * 1000, date_part('epoch', c.claimed_at),
      case when not c.test then a.killed_reason end, a.secret_version, a.secret_key_id,
      case when a.previous_secret_until > c.claimed_at then a.previous_secret_version end, a.previous_secret_key_id,
      a.secret_seen_at is not null
    from claimed as c
    join actions_private.actions as a on a.id = c.action_id
    order by c.id;
  end if;

  if says_awake is not null then
    update actions_private.processes as p
    set awake_until = case when says_awake then clock_timestamp() + interval '250 milliseconds' else '-infinity' end
    where p.id = claim.worker;
  end if;
end
$$;
comment on function actions_private.claim(uuid, integer, text[], text[], integer[], integer, text, integer, boolean) is
  'Takes the oldest queued invocations for a worker: at most `most`, none of full_actions, of tight_actions at most their rooms, of others room_per_action. look_back_ms null looks at the whole queue. says_awake true promises for 250 ms that the worker claims again by itself, false takes that back, null says nothing. Example: select id, remaining_ms from actions_private.claim(gen_random_uuid(), 64, ''{}'', ''{}'', ''{}'', 1024, ''worker-1'', null, null);';

create function actions_private.complete(
  ids text[], tokens uuid[], statuses text[], outcomes text[], http_statuses integer[], durations_ms double precision[], phases text[], errors text[],
  responses_sha256 bytea[], overrides boolean[], note_ids text[], note_events text[], note_details text[],
  reply_channels text[], reply_payloads text[]
) returns text[]
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan set jit = off
set enable_seqscan = off set enable_bitmapscan = off set enable_nestloop = off set enable_mergejoin = off
as $$
declare
  ended_ids text[];
begin
  -- Whoever deletes the row from the queue decides; a row that is gone or carries another
  -- token stays out of everything that follows.
  with ended as (
    delete from actions_private.queue as q
    using unnest(ids, tokens, statuses, outcomes, http_statuses, durations_ms, complete.phases, errors, responses_sha256, overrides)
      as g (id, token, status, outcome, http_status, duration_ms, phases, error, response_sha256, overrode)
    where q.id = any (complete.ids) and q.id = g.id and q.claim_token = g.token and q.status = 'running'
    returning q.id, q.event_id, q.project_id, q.trigger, q.action_id, q.action_version, q.test, q.enqueued_at, q.claimed_at, q.worker,
      g.status, g.outcome, g.http_status, g.duration_ms, g.phases, g.error, g.response_sha256, g.overrode
  ), kept as (
    insert into actions_private.invocations as i
      (id, event_id, project_id, trigger, action_id, action_version, test, status, outcome, http_status, duration_ms, phases, queue_ms, error,
       response_sha256, overrode, enqueued_at, finished_at, worker)
    select e.id, e.event_id, e.project_id, e.trigger, e.action_id, e.action_version, e.test, e.status, e.outcome::json, e.http_status, e.duration_ms,
      e.phases::json, date_part('epoch', e.claimed_at - e.enqueued_at) * 1000, e.error, e.response_sha256, e.overrode, e.enqueued_at,
      clock_timestamp(), e.worker
    from ended as e
    returning i.id
  )
  select coalesce(array_agg(k.id), '{}') into ended_ids from kept as k;

  if note_ids <> '{}' then
    insert into actions_private.audit_log (project_id, action_id, event, actor, details)
    select i.project_id, i.action_id, n.event, 'fleet', n.details::json
    from unnest(note_ids, note_events, note_details) as n (id, event, details)
    join actions_private.invocations as i on i.id = n.id
    where n.id = any (ended_ids) and i.id = any (ended_ids);
  end if;
  -- The replies tell of all the ids; where one was not ended here, the caller tells of the others.
  if reply_channels <> '{}' and cardinality(ended_ids) = cardinality(ids) then
    perform pg_notify(r.channel, r.payload) from unnest(reply_channels, reply_payloads) as r (channel, payload);
  end if;
  return ended_ids;
end
$$;
comment on function actions_private.complete(text[], uuid[], text[], text[], integer[], double precision[], text[], text[], bytea[], boolean[], text[], text[], text[], text[], text[]) is
  'Moves what is still a worker''s own from the queue into the history and returns these ids; if these are all, sends the replies with the commit. Example: select actions_private.complete(''{}'', ''{}'', ''{}'', ''{}'', ''{}'', ''{}'', ''{}'', ''{}'', ''{}'', ''{}'', ''{}'', ''{}'', ''{}'', ''{}'', ''{}'');';
