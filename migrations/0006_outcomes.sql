-- Outcomes: the row that tells them, those that need no verdict, the one way to end an invocation
-- without a worker, and what auth-core calls to ask for one or to give up: result, results, abandon.

create type actions.answer as (
  invocation_id text,
  event_id      text,
  action_id     text,
  status        text,
  outcome       json,
  wait_ms       integer
);
comment on type actions.answer is
  'The row with which enqueue, result and abandon answer. Example: select (null::actions.answer).status;';
comment on column actions.answer.invocation_id is 'Null when there is no action to call.';
comment on column actions.answer.event_id is 'The given one, or a new one.';
comment on column actions.answer.action_id is 'Null when there is no action to call.';
comment on column actions.answer.status is 'queued, running, or a final status.';
comment on column actions.answer.outcome is 'What auth-core must do; null while undecided.';
comment on column actions.answer.wait_ms is 'Milliseconds to wait before abandoning; 0 when the outcome is here.';

create function actions_private.refuse(message text, detail text, hint text) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  raise exception using errcode = '22023', message = refuse.message, detail = refuse.detail, hint = refuse.hint;
end
$$;
comment on function actions_private.refuse(text, text, text) is
  'Raises SQLSTATE 22023. Example: select actions_private.refuse(''timeout_ms is 7'', ''Accepted is 100 to 5000.'', ''Choose a timeout in that range.'');';

create function actions_private.refuse_unstorable(name text, document json) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  perform document::jsonb;
exception when untranslatable_character or invalid_text_representation then
  perform actions_private.refuse(name || ' holds ' || chr(92) || 'u0000 or half of a surrogate pair',
    'Accepted is JSON whose strings PostgreSQL can store as text.', 'Leave the character out.');
end
$$;
comment on function actions_private.refuse_unstorable(text, json) is
  'Raises if a string of a JSON value cannot be a text. Example: select actions_private.refuse_unstorable(''changes'', ''{}'');';

create function actions_private.can_deny(trigger text) returns boolean
language sql immutable parallel safe
return trigger in ('pre_authenticate', 'post_authenticate', 'pre_token_mint', 'pre_register');
comment on function actions_private.can_deny(text) is
  'Informational triggers never deny. Example: select actions_private.can_deny(''post_register'');';

-- The same rule as Outcome::without_verdict in src/domain/outcome.rs; a test compares
-- the two on every combination.
create function actions_private.outcome_without_verdict(
  status text, trigger text, fail_mode text, on_killed text, reason text
) returns json
-- An expression without a query, and no more immutable than what it calls: so it is expanded in place.
language sql stable parallel safe
return case
  when actions_private.can_deny(trigger) and case when status = 'killed' then on_killed = 'deny' else fail_mode = 'closed' end then
    pg_catalog.json_build_object(
      'decision', 'deny', 'source', case when status = 'killed' then 'killed' else 'fail_' || fail_mode end, 'status', status,
      'code', case when status = 'killed' then 'action_killed' else 'action_unreachable' end, 'reason', reason)
  else
    pg_catalog.json_build_object(
      'decision', 'allow', 'source', case when status = 'killed' then 'killed' else 'fail_' || fail_mode end, 'status', status)
end;
comment on function actions_private.outcome_without_verdict(text, text, text, text, text) is
  'What auth-core must do when no verdict decides. Example: select actions_private.outcome_without_verdict(''expired'', ''pre_register'', ''closed'', ''skip'', ''no worker answered in time'');';

-- By the key alone, however empty the queue says it is: see claim.
create function actions_private.end_without_verdict(ids text[], status text, error_code text, reason text)
returns table (invocation_id text, event_id text, action_id text, reply_to text, outcome json)
language sql volatile set search_path = pg_catalog, pg_temp
set enable_seqscan = off set enable_bitmapscan = off set jit = off
begin atomic
  with ended as (
    delete from actions_private.queue as q
    where q.id = any (end_without_verdict.ids)
    returning q.*
  ), kept as (
    insert into actions_private.invocations
      (id, event_id, project_id, trigger, action_id, action_version, test, status, outcome, queue_ms, error, error_code, enqueued_at, finished_at, worker)
    select e.id, e.event_id, e.project_id, e.trigger, e.action_id, e.action_version, e.test, end_without_verdict.status::actions_private.final_status,
      actions_private.outcome_without_verdict(end_without_verdict.status, e.trigger, v.fail_mode, v.on_killed, end_without_verdict.reason),
      extract(epoch from e.claimed_at - e.enqueued_at) * 1000, end_without_verdict.reason, end_without_verdict.error_code, e.enqueued_at, pg_catalog.clock_timestamp(), e.worker
    from ended as e
    join actions_private.action_versions as v on v.action_id = e.action_id and v.version = e.action_version
    returning id, outcome
  )
  select e.id, e.event_id, e.action_id, e.reply_to, k.outcome from ended as e join kept as k on k.id = e.id;
end;
comment on function actions_private.end_without_verdict(text[], text, text, text) is
  'Ends those of the invocations that are not decided yet, and returns just these. Example: select * from actions_private.end_without_verdict(array[''inv_01JD3X6G8Q7N9V8R2M4T6W8Y0B''], ''expired'', ''abandoned'', ''no worker answered in time'');';

create function actions.results(invocation_ids text[])
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
    select q.event_id, q.action_id, case when q.claim_token is null then 'queued' else 'running' end, null::json,
      greatest(0, ceil(extract(epoch from q.deadline_at - clock_timestamp()) * 1000))::integer
    from actions_private.queue as q where q.id = asked.id
    union all
    select i.event_id, i.action_id, i.status::text, i.outcome, 0
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

create function actions.result(invocation_id text)
returns setof actions.answer
language sql volatile security definer set search_path = pg_catalog, pg_temp
begin atomic
  select * from actions.results(array[$1]);
end;
comment on function actions.result(text) is
  'The present state of one invocation; outcome is null while it is undecided. Example: select * from actions.result(''inv_01JD3X6G8Q7N9V8R2M4T6W8Y0B'');';

create function actions.abandon_many(invocation_ids text[])
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

create function actions.abandon(invocation_id text)
returns setof actions.answer
language sql volatile security definer set search_path = pg_catalog, pg_temp
begin atomic
  select * from actions.abandon_many(array[$1]);
end;
comment on function actions.abandon(text) is
  'Stops waiting: ends the invocation as expired unless its result got there first, and returns the one final outcome. Example: select * from actions.abandon(''inv_01JD3X6G8Q7N9V8R2M4T6W8Y0B'');';
