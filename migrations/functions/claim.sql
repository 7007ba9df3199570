-- What workers do to the queue, each in one statement for many invocations.
--
-- Both touch a handful of rows by their key, in a table that is empty now and long in a
-- minute, and that says it is empty after each vacuum. A plan for an empty table reads all of
-- it, and everything in it that is dead. So the planner has no way but the key: it may not
-- scan, and each statement names its rows as an array, never by a join alone, whose order
-- would be the planner's to choose.

-- Not among the tables: the function of the release before returns the type as it was, until both change at once.
do $$
begin
  if not exists (select from pg_attribute where attrelid = 'actions_private.claimed'::regclass and attname = 'trace_parent') then
    alter type actions_private.claimed add attribute canary boolean, add attribute shadow_version integer, add attribute trace_parent text;
  end if;
end
$$;

create or replace function actions_private.claim(
  token uuid, most integer, full_actions text[], tight_actions text[], rooms integer[], room_per_action integer,
  worker text, look_back_ms integer, least_left_ms integer, says_awake boolean, fair_among integer default null
) returns setof actions_private.claimed
language plpgsql volatile security definer
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
        where q.claim_token is null and q.id >= since and q.deadline_at > alive and q.server_epoch = (select l.id from actions_private.server_epoch as l) and q.action_id <> all (full_actions)
        order by q.id
        limit most
      ), newest as materialized (
        select q.ctid, q.id, q.action_id, q.project_id
        from actions_private.queue as q
        where q.claim_token is null and q.id >= since and q.deadline_at > alive and q.server_epoch = (select l.id from actions_private.server_epoch as l) and q.action_id <> all (full_actions)
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
      where q.claim_token is null and q.id >= since and q.deadline_at > alive and q.server_epoch = (select l.id from actions_private.server_epoch as l)
      order by q.id
      limit most
      for update skip locked);
  else
    taken := array(
      with head as materialized (
        select q.ctid, q.id, q.action_id
        from actions_private.queue as q
        where q.claim_token is null and q.id >= since and q.deadline_at > alive and q.server_epoch = (select l.id from actions_private.server_epoch as l) and q.action_id <> all (full_actions)
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
        q.reply_to, q.enqueued_at, q.deadline_at, q.claimed_at, q.canary, q.trace_parent
    )
    select c.id, coalesce(c.event_id, 'evt_' || substr(c.id, 5)), c.project_id, a.project_revision, c.trigger, c.action_id, c.action_version, c.test, c.event::text,
      c.reply_to, c.enqueued_at, date_part('epoch', c.deadline_at - c.claimed_at) * 1000,
      date_part('epoch', c.claimed_at - c.enqueued_at) * 1000, date_part('epoch', c.claimed_at),
      case when not c.test then a.killed_reason end, a.secret_version, a.secret_key_id,
      case when a.previous_secret_until > c.claimed_at then a.previous_secret_version end, a.previous_secret_key_id,
      a.secret_seen_at is not null, c.canary is true,
      -- Null and something else is not known without the something else, which would look into each event.
      case when a.shadow_version is null or c.test then null when (a.shadow_percent = 100 or actions_private.side_of(c.event, coalesce(c.event_id, 'evt_' || substr(c.id, 5))) < a.shadow_percent) then a.shadow_version end,
      c.trace_parent
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
