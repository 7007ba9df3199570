-- Outcomes that need no verdict, and the one way to end an invocation without a worker.

create or replace function actions_private.can_deny(trigger text) returns boolean
language sql immutable parallel safe
return trigger in ('pre_authenticate', 'post_authenticate', 'pre_token_mint', 'pre_register');
comment on function actions_private.can_deny(text) is
  'Informational triggers never deny. Example: select actions_private.can_deny(''post_register'');';

-- The same rule as Outcome::without_verdict in src/domain/outcome.rs; a test compares
-- the two on every combination.
create or replace function actions_private.outcome_without_verdict(
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

-- Null is an allow only where the status says that the verdict allowed; elsewhere it stays null, which
-- nobody takes for one.
create or replace function actions_private.outcome_of(status actions_private.final_status, outcome json) returns json
language sql immutable parallel safe
return coalesce(outcome, case when status = 'ok' then '{"decision":"allow","source":"verdict","status":"ok"}'::json end);
comment on function actions_private.outcome_of(actions_private.final_status, json) is
  'The outcome of a decided invocation, which is not written where it is the plain allow. Example: select actions_private.outcome_of(''ok'', null);';

-- What no text can hold is nobody's id; what stands elsewhere in the event must not hide one.
create or replace function actions_private.user_of(event json) returns text
language plpgsql immutable parallel safe set search_path = pg_catalog, pg_temp
as $$
declare
  mask constant text := 'authio_masked_escape_';
  id text;
begin
  begin
    return case when json_typeof(event -> 'user') = 'object' and json_typeof(event -> 'user' -> 'id') = 'string' then event -> 'user' ->> 'id' end;
  exception when others then
    event := actions_private.mask_escapes(event::text, mask)::json;
  end;
  id := case when json_typeof(event -> 'user') = 'object' and json_typeof(event -> 'user' -> 'id') = 'string' then event -> 'user' ->> 'id' end;
  return case when strpos(id, mask) = 0 then id end;
exception when others then
  return null;
end
$$;
comment on function actions_private.user_of(json) is
  'The id of the event''s user; null where it has none. Example: select actions_private.user_of(''{"user":{"id":"user_1"}}'');';

create or replace function actions_private.breaks_glass(project_id text, event json) returns text
language sql stable set search_path = pg_catalog, pg_temp
begin atomic
  select u.id
  from actions_private.projects as p
  cross join lateral (select actions_private.user_of(breaks_glass.event) as id) as u
  where p.id = breaks_glass.project_id and p.break_glass <> '{}' and u.id = any (p.break_glass);
end;
comment on function actions_private.breaks_glass(text, json) is
  'The event''s user, if no failure may lock him out; else null. Example: select actions_private.breaks_glass(''proj_acme_prod'', ''{"user":{"id":"user_1"}}'');';

create or replace function actions_private.outcome_of_broken_glass(status text) returns json
language sql stable parallel safe
return pg_catalog.json_build_object('decision', 'allow', 'source', 'break_glass', 'status', status);
comment on function actions_private.outcome_of_broken_glass(text) is
  'What a failure comes to for somebody whom none may lock out. Example: select actions_private.outcome_of_broken_glass(''expired'');';

-- By the key alone, however empty the queue says it is: see claim.
create or replace function actions_private.end_without_verdict(ids text[], status text, error_code text, reason text)
returns table (invocation_id text, event_id text, action_id text, reply_to text, outcome json)
language sql volatile set search_path = pg_catalog, pg_temp
set enable_seqscan = off set enable_bitmapscan = off set jit = off
begin atomic
  with ended as (
    delete from actions_private.queue as q
    where q.id = any (end_without_verdict.ids)
    returning q.*
  ), decided as (
    select e.*, o.outcome, case when o.outcome ->> 'decision' = 'deny' then actions_private.breaks_glass(e.project_id, e.event) end as breaks_glass
    from ended as e
    join actions_private.action_versions as v on v.action_id = e.action_id and v.version = e.action_version
    cross join lateral (
      select actions_private.outcome_without_verdict(end_without_verdict.status, e.trigger, v.fail_mode, v.on_killed, end_without_verdict.reason) as outcome
    ) as o
  ), noted as (
    insert into actions_private.audit_log (project_id, action_id, event, actor, details)
    select d.project_id, d.action_id, 'action.break_glass_used', 'fleet',
      pg_catalog.json_build_object('invocation_id', d.id, 'event_id', coalesce(d.event_id, 'evt_' || substr(d.id, 5)), 'user_id', d.breaks_glass)
    from decided as d
    where d.breaks_glass is not null
  ), kept as (
    insert into actions_private.invocations
      (id, event_id, project_id, trigger, action_id, action_version, test, status, outcome, queue_ms, error, error_code, enqueued_at, finished_at, worker, canary)
    select e.id, e.event_id, e.project_id, e.trigger, e.action_id, e.action_version, e.test, end_without_verdict.status::actions_private.final_status,
      case when e.breaks_glass is null then e.outcome else actions_private.outcome_of_broken_glass(end_without_verdict.status) end,
      extract(epoch from e.claimed_at - e.enqueued_at) * 1000, end_without_verdict.reason, end_without_verdict.error_code, e.enqueued_at, pg_catalog.clock_timestamp(), e.worker, e.canary
    from decided as e
    returning id, outcome
  )
  select e.id, coalesce(e.event_id, 'evt_' || substr(e.id, 5)), e.action_id, e.reply_to, k.outcome from ended as e join kept as k on k.id = e.id;
end;
comment on function actions_private.end_without_verdict(text[], text, text, text) is
  'Ends those of the invocations that are not decided yet, and returns just these. Example: select * from actions_private.end_without_verdict(array[''inv_01JD3X6G8Q7N9V8R2M4T6W8Y0B''], ''expired'', ''abandoned'', ''no worker answered in time'');';
