-- What workers do to the queue, each in one statement for many invocations.
--
-- Both touch a handful of rows by their key, in a table that is empty now and long in a
-- minute, and that says it is empty after each vacuum. A plan for an empty table reads all of
-- it, and everything in it that is dead. So the planner has no way but the key: it may not
-- scan, and each statement names its rows as an array, never by a join alone, whose order
-- would be the planner's to choose.

create type actions_private.claimed as (
  id text, event_id text, project_id text, project_revision bigint, trigger text, action_id text, action_version integer, test boolean,
  event text, reply_to text, enqueued_at timestamptz, remaining_ms double precision, queue_ms double precision, claimed_unix double precision,
  killed_reason text, secret_version integer, secret_key_id text, previous_secret_version integer, previous_secret_key_id text, secret_seen boolean
);
comment on type actions_private.claimed is
  'What a worker needs to know of an invocation. Example: select (null::actions_private.claimed).remaining_ms;';

create function actions_private.claim(
  token uuid, most integer, full_actions text[], tight_actions text[], rooms integer[], room_per_action integer,
  worker text, look_back_ms integer, least_left_ms integer, says_awake boolean, fair_among integer default null
) returns setof actions_private.claimed
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan set jit = off
set enable_seqscan = off set enable_bitmapscan = off
as $$
#variable_conflict use_column
declare
  -- Entries of invocations that ended long ago gather at the front of the index until
  -- vacuum comes; most looks start behind them.
  at constant timestamptz := clock_timestamp();
  -- The completion's synchronous commit covers this one; nothing but a claim is in its transaction.
  quick constant text := set_config('synchronous_commit', 'off', true);
  since constant text := coalesce('inv_' || actions_private.id_time(at - look_back_ms * interval '1 millisecond'), '');
  -- What has less time left is nobody's to answer any more: its waiter gives up and ends it. When
  -- the fleet is behind, these are the oldest, and whoever took them first would answer nobody.
  alive constant timestamptz := coalesce(at + least_left_ms * interval '1 millisecond', '-infinity');
  -- Where the rows are. They are locked, so they stay there.
  taken tid[];
begin
  if fair_among is not null then
    -- More waits than one claim takes. One project's burst stands in front of all the others, so each
    -- project has its first, then each its second, and so on. What others bring while a burst waits is
    -- among the newest; `fair_among` says how many of these are looked at. Nothing is locked but what
    -- is taken.
    taken := array(
      with oldest as materialized (
        select q.ctid, q.id, q.action_id, q.project_id
        from actions_private.queue as q
        where q.claim_token is null and q.id >= since and q.deadline_at > alive and q.life = (select l.id from actions_private.life as l) and q.action_id <> all (full_actions)
        order by q.id
        limit most
      ), newest as materialized (
        select q.ctid, q.id, q.action_id, q.project_id
        from actions_private.queue as q
        where q.claim_token is null and q.id >= since and q.deadline_at > alive and q.life = (select l.id from actions_private.life as l) and q.action_id <> all (full_actions)
        order by q.id desc
        limit fair_among
      ), numbered as (
        select c.ctid, c.id, c.action_id, row_number() over (partition by c.action_id order by c.id) as n, row_number() over (partition by c.project_id order by c.id) as turn
        from (select * from oldest union all select w.* from newest as w where w.id > (select max(o.id) from oldest as o)) as c
      ), chosen as materialized (
        select n.ctid
        from numbered as n
        left join unnest(tight_actions, rooms) as tight (action_id, room) on tight.action_id = n.action_id
        where n.n <= coalesce(tight.room, room_per_action)
        order by n.turn, n.id
        limit most
      )
      select q.ctid
      from actions_private.queue as q
      where q.ctid = any (array(select c.ctid from chosen as c)) and q.claim_token is null
      for update skip locked);
  elsif full_actions = '{}' and tight_actions = '{}' and room_per_action >= most then
    taken := array(
      select q.ctid
      from actions_private.queue as q
      where q.claim_token is null and q.id >= since and q.deadline_at > alive and q.life = (select l.id from actions_private.life as l)
      order by q.id
      limit most
      for update skip locked);
  else
    taken := array(
      with head as materialized (
        select q.ctid, q.id, q.action_id
        from actions_private.queue as q
        where q.claim_token is null and q.id >= since and q.deadline_at > alive and q.life = (select l.id from actions_private.life as l) and q.action_id <> all (full_actions)
        order by q.id
        limit most
        for update skip locked
      ), numbered as (
        select h.ctid, h.action_id, row_number() over (partition by h.action_id order by h.id) as n
        from head as h
      )
      select n.ctid
      from numbered as n
      left join unnest(tight_actions, rooms) as tight (action_id, room) on tight.action_id = n.action_id
      where n.n <= coalesce(tight.room, room_per_action));
  end if;

  if cardinality(taken) > 0 then
    return query
    with claimed as (
      update actions_private.queue as q
      set claim_token = claim.token, claimed_at = clock_timestamp(), worker = claim.worker
      where q.ctid = any (taken)
      returning q.id, q.event_id, q.project_id, q.trigger, q.action_id, q.action_version, q.test, q.event,
        q.reply_to, q.enqueued_at, q.deadline_at, q.claimed_at
    )
    select c.id, c.event_id, c.project_id, a.project_revision, c.trigger, c.action_id, c.action_version, c.test, c.event::text,
      c.reply_to, c.enqueued_at, date_part('epoch', c.deadline_at - c.claimed_at) * 1000,
      date_part('epoch', c.claimed_at - c.enqueued_at) * 1000, date_part('epoch', c.claimed_at),
      case when not c.test then a.killed_reason end, a.secret_version, a.secret_key_id,
      case when a.previous_secret_until > c.claimed_at then a.previous_secret_version end, a.previous_secret_key_id,
      a.secret_seen_at is not null
    from claimed as c
    -- However few actions the planner believes there are, it goes from the invocations to them.
    cross join lateral (select * from actions_private.actions as a where a.id = c.action_id offset 0) as a;
  end if;

  if says_awake is not null then
    update actions_private.processes as p
    set awake_until = case when says_awake then clock_timestamp() + interval '250 milliseconds' else '-infinity' end
    where p.id = claim.worker;
  end if;
end
$$;
comment on function actions_private.claim(uuid, integer, text[], text[], integer[], integer, text, integer, integer, boolean, integer) is
  'Takes the oldest queued invocations for a worker, in no order; with fair_among in turns among the projects of the oldest and of so many of the newest: at most `most`, none of full_actions, of tight_actions at most their rooms, of others room_per_action. look_back_ms null looks at the whole queue, least_left_ms null also at what has no time left. says_awake true promises for 250 ms that the worker claims again by itself, false takes that back, null says nothing. Example: select id, remaining_ms from actions_private.claim(gen_random_uuid(), 64, ''{}'', ''{}'', ''{}'', 1024, ''worker-1'', null, null, null);';

create function actions_private.complete(
  ids text[], tokens uuid[], statuses actions_private.final_status[], outcomes text[], http_statuses integer[], durations_ms double precision[], phases text[], errors text[], error_codes text[],
  responses_sha256 bytea[], overrides boolean[], note_ids text[], note_events text[], note_details text[],
  reply_channels text[], reply_payloads text[]
) returns text[]
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan set jit = off
set enable_seqscan = off set enable_bitmapscan = off set enable_nestloop = off set enable_mergejoin = off
as $$
declare
  ended_ids text[] := '{}';
  one record;
begin
  -- Whoever deletes the row from the queue decides; a row that is gone or carries another
  -- token stays out of everything that follows.
  if cardinality(ids) = 1 then
    -- One by itself takes the fewest steps: making a statement ready costs more than its row.
    delete from actions_private.queue as q
    where q.id = ids[1] and q.claim_token = tokens[1]
    returning q.id, q.event_id, q.project_id, q.trigger, q.action_id, q.action_version, q.test, q.enqueued_at, q.claimed_at, q.worker into one;
    if found then
      insert into actions_private.invocations
        (id, event_id, project_id, trigger, action_id, action_version, test, status, outcome, http_status, duration_ms, phases, queue_ms, error,
         error_code, response_sha256, overrode, enqueued_at, finished_at, worker)
      values (one.id, one.event_id, one.project_id, one.trigger, one.action_id, one.action_version, one.test, statuses[1], outcomes[1]::json,
        http_statuses[1], durations_ms[1], complete.phases[1]::json, date_part('epoch', one.claimed_at - one.enqueued_at) * 1000, errors[1],
        error_codes[1], responses_sha256[1], overrides[1], one.enqueued_at, clock_timestamp(), one.worker);
      ended_ids := ids;
    end if;
  else
    -- Of the arrays only two are joined, the rest is looked up by place.
    with ended as (
      delete from actions_private.queue as q
      using unnest(ids, tokens) with ordinality as g (id, token, n)
      where q.id = any (complete.ids) and q.id = g.id and q.claim_token = g.token
      returning g.n, q.id, q.event_id, q.project_id, q.trigger, q.action_id, q.action_version, q.test, q.enqueued_at, q.claimed_at, q.worker
    ), kept as (
      insert into actions_private.invocations as i
        (id, event_id, project_id, trigger, action_id, action_version, test, status, outcome, http_status, duration_ms, phases, queue_ms, error,
         error_code, response_sha256, overrode, enqueued_at, finished_at, worker)
      select e.id, e.event_id, e.project_id, e.trigger, e.action_id, e.action_version, e.test, statuses[e.n], outcomes[e.n]::json,
        http_statuses[e.n], durations_ms[e.n], complete.phases[e.n]::json, date_part('epoch', e.claimed_at - e.enqueued_at) * 1000, errors[e.n],
        error_codes[e.n], responses_sha256[e.n], overrides[e.n], e.enqueued_at, clock_timestamp(), e.worker
      from ended as e
      returning i.id
    )
    select coalesce(array_agg(k.id), '{}') into ended_ids from kept as k;
  end if;

  if note_ids <> '{}' then
    insert into actions_private.audit_log as l (project_id, action_id, event, actor, details, minute, count)
    select i.project_id, i.action_id, n.event, 'fleet', (array_agg(n.details order by n.id))[1]::json, date_trunc('minute', clock_timestamp()), count(*)
    from unnest(note_ids, note_events, note_details) as n (id, event, details)
    join actions_private.invocations as i on i.id = n.id
    where n.id = any (ended_ids) and i.id = any (ended_ids)
    group by i.project_id, i.action_id, n.event
    order by i.action_id, n.event
    on conflict (action_id, event, minute) where minute is not null do update set count = l.count + excluded.count;
  end if;
  -- The replies tell of all the ids; where one was not ended here, the caller tells of the others.
  if reply_channels <> '{}' and cardinality(ended_ids) = cardinality(ids) and actions_private.may_notify() then
    perform pg_notify(r.channel, r.payload) from unnest(reply_channels, reply_payloads) as r (channel, payload);
  end if;
  return ended_ids;
end
$$;
comment on function actions_private.complete(text[], uuid[], actions_private.final_status[], text[], integer[], double precision[], text[], text[], text[], bytea[], boolean[], text[], text[], text[], text[], text[]) is
  'Moves what is still a worker''s own from the queue into the history and returns these ids; if these are all, sends the replies with the commit. Example: select actions_private.complete(''{}'', ''{}'', ''{}'', ''{}'', ''{}'', ''{}'', ''{}'', ''{}'', ''{}'', ''{}'', ''{}'', ''{}'', ''{}'', ''{}'', ''{}'', ''{}'');';
