-- What auth-core calls to ask for an outcome, or to give up: result, results, abandon.

create or replace function actions.results(invocation_ids text[])
returns setof actions.answer
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
-- A plan cached while the queue was short must not read all of it when it is long.
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off
as $$
#variable_conflict use_column
declare
  known bigint;
begin
  if invocation_ids is null then
    perform actions_private.refuse('invocation_ids is null', 'Accepted is an array of ids.', 'Pass the ids that enqueue returned.');
  end if;
  -- One statement, one snapshot: an invocation is in exactly one of the two tables.
  return query
  select asked.id, f.event_id, f.action_id, f.status, f.outcome, f.wait_ms
  from unnest(invocation_ids) with ordinality as asked (id, n)
  join lateral (
    select coalesce(q.event_id, 'evt_' || substr(q.id, 5)), q.action_id, case when q.claim_token is null then 'queued' else 'running' end, null::json,
      greatest(0, ceil(extract(epoch from q.deadline_at - clock_timestamp()) * 1000))::integer
    from actions_private.queue as q where q.id = asked.id
    union all
    select coalesce(i.event_id, 'evt_' || substr(i.id, 5)), i.action_id, i.status::text, actions_private.outcome_of(i.status, i.outcome), 0
    from actions_private.invocations as i where i.id = asked.id
  ) as f (event_id, action_id, status, outcome, wait_ms) on true
  order by asked.n;
  -- One id that nobody knows must not cost the others their answer; one that is asked for by
  -- itself is somebody's mistake.
  get diagnostics known = row_count;
  if known = 0 and cardinality(invocation_ids) > 0 then
    perform actions_private.refuse(
      format('invocation_id is %s', coalesce(quote_literal(left(invocation_ids[1], 100)), 'null')),
      'Accepted is the id of an invocation within the retention.', 'Pass the invocation_id that enqueue returned.');
  end if;
end
$$;
comment on function actions.results(text[]) is
  'The present state of several invocations, in the order asked. An unknown one has no row; where all are unknown it is an error. Example: select * from actions.results(array[''inv_01JD3X6G8Q7N9V8R2M4T6W8Y0B'']);';

create or replace function actions.result(invocation_id text)
returns setof actions.answer
language sql volatile security definer set search_path = pg_catalog, pg_temp
begin atomic
  select * from actions.results(array[$1]);
end;
comment on function actions.result(text) is
  'The present state of one invocation; outcome is null while it is undecided. Example: select * from actions.result(''inv_01JD3X6G8Q7N9V8R2M4T6W8Y0B'');';

create or replace function actions.abandon_many(invocation_ids text[])
returns setof actions.answer
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
set enable_seqscan = off set enable_bitmapscan = off set jit = off
as $$
declare
  ended actions.answer[];
begin
  -- If a worker is ending one of them right now, this waits for it and then finds nothing to end.
  -- Locked in the order of their ids, as everybody does who ends several: no two wait for each other.
  ended := array(
    select (e.invocation_id, e.event_id, e.action_id, 'expired', e.outcome, 0)::actions.answer
    from actions_private.end_without_verdict(
      array(select q.id from actions_private.queue as q where q.id = any (invocation_ids) order by q.id for update), 'expired', 'abandoned',
      'abandoned by its waiter: no result came in time') as e);
  -- Somebody acts on this. After a crash that forgot it, a worker that still has a result could write another
  -- outcome; so it waits for the disk even where its connection does not.
  if cardinality(ended) > 0 and current_setting('synchronous_commit') = 'off' then
    perform set_config('synchronous_commit', 'on', true);
  end if;
  if cardinality(ended) = cardinality(invocation_ids) then
    return query
    select e.* from unnest(invocation_ids) with ordinality as asked (id, n) join unnest(ended) as e on e.invocation_id = asked.id order by asked.n;
  else
    return query select * from actions.results(invocation_ids);
  end if;
end
$$;
comment on function actions.abandon_many(text[]) is
  'Stops waiting for several invocations, as abandon does for one; one row for each, in order, and none for an unknown one. Example: select * from actions.abandon_many(array[''inv_01JD3X6G8Q7N9V8R2M4T6W8Y0B'']);';

create or replace function actions.abandon(invocation_id text)
returns setof actions.answer
language sql volatile security definer set search_path = pg_catalog, pg_temp
begin atomic
  select * from actions.abandon_many(array[$1]);
end;
comment on function actions.abandon(text) is
  'Stops waiting: ends the invocation as expired unless its result got there first, and returns the one final outcome. Example: select * from actions.abandon(''inv_01JD3X6G8Q7N9V8R2M4T6W8Y0B'');';
