-- How a worker writes back: see claim.sql for the way both touch the queue.

create or replace function actions_private.complete(
  ids text[], tokens uuid[], statuses actions_private.final_status[], outcomes text[], http_statuses integer[], durations_ms double precision[], phases text[], errors text[], error_codes text[],
  responses_sha256 bytea[], overrides boolean[], note_ids text[], note_events text[], note_details text[],
  reply_channels text[], reply_payloads text[]
) returns text[]
language plpgsql volatile security definer
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
    returning q.id, q.event_id, q.project_id, q.trigger, q.action_id, q.action_version, q.test, q.enqueued_at, q.claimed_at, q.worker, q.canary into one;
    if found then
      insert into actions_private.invocations
        (id, event_id, project_id, trigger, action_id, action_version, test, status, outcome, http_status, duration_ms, phases, queue_ms, error,
         error_code, response_sha256, overrode, enqueued_at, finished_at, worker, canary)
      values (one.id, one.event_id, one.project_id, one.trigger, one.action_id, one.action_version, one.test, statuses[1], outcomes[1]::json,
        http_statuses[1], durations_ms[1], complete.phases[1]::json, date_part('epoch', one.claimed_at - one.enqueued_at) * 1000, errors[1],
        error_codes[1], responses_sha256[1], overrides[1], one.enqueued_at, clock_timestamp(), one.worker, one.canary);
      ended_ids := ids;
    end if;
  else
    -- Of the arrays only two are joined, the rest is looked up by place.
    with ended as (
      delete from actions_private.queue as q
      using unnest(ids, tokens) with ordinality as g (id, token, n)
      where q.id = any (complete.ids) and q.id = g.id and q.claim_token = g.token
      returning g.n, q.id, q.event_id, q.project_id, q.trigger, q.action_id, q.action_version, q.test, q.enqueued_at, q.claimed_at, q.worker, q.canary
    ), kept as (
      insert into actions_private.invocations as i
        (id, event_id, project_id, trigger, action_id, action_version, test, status, outcome, http_status, duration_ms, phases, queue_ms, error,
         error_code, response_sha256, overrode, enqueued_at, finished_at, worker, canary)
      select e.id, e.event_id, e.project_id, e.trigger, e.action_id, e.action_version, e.test, statuses[e.n], outcomes[e.n]::json,
        http_statuses[e.n], durations_ms[e.n], complete.phases[e.n]::json, date_part('epoch', e.claimed_at - e.enqueued_at) * 1000, errors[e.n],
        error_codes[e.n], responses_sha256[e.n], overrides[e.n], e.enqueued_at, clock_timestamp(), e.worker, e.canary
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
    where n.id = any (ended_ids) and i.id = any (ended_ids) and n.event <> 'action.break_glass_used'
    group by i.project_id, i.action_id, n.event
    order by i.action_id, n.event
    on conflict (action_id, event, minute) where minute is not null do update set count = l.count + excluded.count;
    -- Somebody passed whom nobody judged: each is told by itself.
    insert into actions_private.audit_log (project_id, action_id, event, actor, details)
    select i.project_id, i.action_id, n.event, 'fleet', n.details::json
    from unnest(note_ids, note_events, note_details) as n (id, event, details)
    join actions_private.invocations as i on i.id = n.id
    where n.id = any (ended_ids) and i.id = any (ended_ids) and n.event = 'action.break_glass_used';
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
