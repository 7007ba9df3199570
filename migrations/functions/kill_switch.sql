-- What the kill-switch counts, and what a kill does.

create or replace view actions_private.calls as
select i.id, i.action_id, i.status, i.http_status, i.enqueued_at, i.finished_at, u.is_unreached,
  -- All holds in one value, made once a statement: a look at the table for each call is what a planner
  -- fears, and then it spends seconds on compiling.
  u.is_unreached
    and coalesce(i.finished_at <@ (select range_agg(tstzrange(h.since, h.until, '[]')) from actions_private.kill_holds as h), false) as is_held
from actions_private.invocations as i
cross join lateral (
  select i.status = 'network_error' or coalesce(i.error_code in ('timeout_dns', 'timeout_connect'), false) as is_unreached
) as u
where not i.test and i.status not in ('killed', 'expired') and i.canary is not true;
comment on view actions_private.calls is
  'What the kill-switch looks at: calls of people''s events that no candidate decided. is_unreached: it may not have reached its endpoint because of a network; is_held: so it does not count, because kills were held. Example: select count(*) from actions_private.calls where is_held;';

-- The kill-switch's own view of the world, and how far each action is from a trip.
create or replace view actions_private.kill_figures as
select a.id as action_id, a.project_id, w.calls, w.errors, w.timeouts,
  coalesce(w.errors::double precision / nullif(w.calls, 0), 0) as error_ratio,
  coalesce(w.timeouts::double precision / nullif(w.calls, 0), 0) as timeout_ratio,
  streak.length as consecutive_5xx,
  a.killed_at,
  greatest(0, s.min_samples - w.calls) as calls_until_ratios_count,
  greatest(0, floor((s.error_ratio * w.calls - w.errors) / (1 - least(s.error_ratio, 0.999999))) + 1)::bigint as errors_until_trip,
  greatest(0, floor((s.timeout_ratio * w.calls - w.timeouts) / (1 - least(s.timeout_ratio, 0.999999))) + 1)::bigint as timeouts_until_trip,
  greatest(0, s.consecutive_5xx - streak.length) as consecutive_5xx_until_trip
from actions_private.actions as a
-- A planner who knows nothing of the table takes it for a long one.
cross join (select * from actions_private.settings limit 1) as s
cross join lateral (
  select count(*) as calls,
    count(*) filter (where i.status not in ('ok', 'rejected')) as errors,
    count(*) filter (where i.status = 'timeout') as timeouts
  from actions_private.calls as i
  -- Of a range the planner expects little, of a lower bound alone a third of all.
  where i.action_id = a.id
    and i.finished_at > greatest(now() - s.window_s * interval '1 second', a.counting_since - interval '1 minute')
    and i.finished_at < 'infinity' and i.enqueued_at >= a.counting_since and not i.is_held
) as w
cross join lateral (
  select count(*) as length
  from (
    select bool_and(coalesce(l.http_status >= 500 and l.status = 'http_error', false)) over (order by l.finished_at desc, l.id desc) as unbroken
    from (
      select i.id, i.finished_at, i.http_status, i.status
      from actions_private.calls as i
      -- An array, and ordered by the action too: that leaves the planner no index but the action's. The
      -- first moment bounds the walk along it, give or take clocks; the second is the rule.
      where i.action_id = any (array[a.id]) and i.finished_at >= a.counting_since - interval '1 minute' and i.finished_at < 'infinity'
        and i.enqueued_at >= a.counting_since and not i.is_held
      order by i.action_id desc, i.finished_at desc, i.id desc
      limit s.consecutive_5xx
    ) as l
  ) as newest
  where newest.unbroken
) as streak
where a.deleted_at is null;
comment on view actions_private.kill_figures is
  'Counts and ratios of the kill-switch''s window for each action. Example: select calls, errors from actions_private.kill_figures where action_id = ''action_01JD3X6G8Q7N9V8R2M4T6W8Y0B'';';

-- Asked at every tick. No planner can know how few rows the last seconds are: whatever it guesses,
-- it must go by the index, or it reads the whole day, in parallel, every second. Of the actions it
-- reads those that were enabled again, by an index of their own: what was before does not count.
create or replace function actions_private.recent_seconds(look_back_ms double precision) returns table (
  action_id text, second bigint, counting_since timestamptz, calls bigint, errors bigint, timeouts bigint,
  row_broken_at timestamptz, fives_at timestamptz[], tried bigint, unreached bigint
)
language plpgsql stable set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan set jit = off set max_parallel_workers_per_gather = 0
set enable_seqscan = off set enable_bitmapscan = off set enable_nestloop = off set enable_mergejoin = off
as $$
#variable_conflict use_column
declare
  since constant timestamptz := date_trunc('second', clock_timestamp() - look_back_ms * interval '1 millisecond');
begin
  return query
  select i.action_id, floor(date_part('epoch', i.finished_at))::bigint as second, a.counting_since,
    count(*) filter (where not i.is_held),
    count(*) filter (where not i.is_held and i.status not in ('ok', 'rejected')),
    count(*) filter (where not i.is_held and i.status = 'timeout'),
    max(i.finished_at) filter (where not i.is_held and (i.status = 'http_error' and i.http_status >= 500) is not true),
    array_agg(i.finished_at) filter (where i.status = 'http_error' and i.http_status >= 500),
    count(*),
    count(*) filter (where i.is_unreached)
  from actions_private.calls as i
  left join actions_private.actions as a on a.id = i.action_id and a.counting_since > a.created_at
  where i.finished_at >= since and (a.id is null or i.enqueued_at >= a.counting_since)
  group by i.action_id, second, a.counting_since;
end
$$;
comment on function actions_private.recent_seconds(double precision) is
  'What finished in the last look_back_ms, and before in the same second, for each action and second: what the kill-switch counts. counting_since is null unless the action was enabled again. Example: select action_id, calls, errors from actions_private.recent_seconds(4000);';

create or replace function actions_private.customers_of(action_ids text[]) returns table (action_id text, host text, project_id text)
language sql stable security definer set search_path = pg_catalog, pg_temp
begin atomic
  select a.id, lower(substring(v.endpoint_url from '://([[][^]]*[]]|[^/:?#]+)') collate "C"), a.project_id
  from actions_private.actions as a
  join actions_private.action_versions as v on v.action_id = a.id and v.version = a.version
  where a.id = any (action_ids);
end;
comment on function actions_private.customers_of(text[]) is
  'The host that each of these actions calls, and its project. Example: select * from actions_private.customers_of(array[''action_01JD3X6G8Q7N9V8R2M4T6W8Y0B'']);';

create or replace function actions_private.hold_kills(epoch bigint, since timestamptz, why text) returns boolean
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  if not actions_private.leads(epoch) then
    return false;
  end if;
  insert into actions_private.kill_holds as h (since, why) values (hold_kills.since, hold_kills.why)
  on conflict on constraint kill_holds_pkey do update set until = null;
  return true;
end
$$;
comment on function actions_private.hold_kills(bigint, timestamptz, text) is
  'From since on, calls that do not reach their endpoint do not count, until free_kills. Example: select actions_private.hold_kills(7, now(), ''most calls fail'');';

create or replace function actions_private.free_kills(epoch bigint) returns boolean
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  if not actions_private.leads(epoch) then
    return false;
  end if;
  update actions_private.kill_holds as h set until = greatest(h.since, clock_timestamp()) where h.until is null;
  return found;
end
$$;
comment on function actions_private.free_kills(bigint) is
  'Ends what hold_kills began; what happened meanwhile stays uncounted. Example: select actions_private.free_kills(7);';

create or replace function actions_private.to_be_told(project_id text) returns table (email text)
language sql stable
begin atomic
  select m.email from actions_private.project_members as m
  where m.project_id = to_be_told.project_id and lower(m.role collate "C") in ('owner', 'admin'); -- a Turkish I would not become i
end;
comment on function actions_private.to_be_told(text) is
  'The people of a project who are told of a kill: its owners and admins. Example: select email from actions_private.to_be_told(''proj_acme_prod'');';

create or replace function actions_private.kill_action(
  epoch bigint, action_id text, counting_since timestamptz, reason text, figures json, subject text, text_body text, html_body text
) returns boolean
language plpgsql set search_path = pg_catalog, pg_temp
-- Somebody who is changing the action must not hold up the kill of the next one.
set lock_timeout = '500ms'
as $$
#variable_conflict use_variable
declare
  before actions.actions;
  after actions.actions;
begin
  if not actions_private.leads(epoch) then
    return false;
  end if;
  select a.* into before from actions.actions as a where a.action_id = $2;
  -- Re-enabled, disabled or deleted since it was judged: that judgement is about an earlier activation.
  update actions_private.actions as a
  set killed_at = clock_timestamp(), killed_reason = reason, killed_by_hand = false, updated_at = clock_timestamp()
  where a.id = $2 and a.killed_at is null and a.enabled and a.deleted_at is null and a.counting_since = $3;
  if not found then
    return false;
  end if;
  select a.* into after from actions.actions as a where a.action_id = $2;
  insert into actions_private.audit_log (project_id, action_id, event, actor, details)
  values (after.project_id, $2, 'action.killed', 'system',
    json_build_object('reason', reason, 'figures', figures, 'before', before, 'after', after));
  insert into actions_private.mail_outbox (project_id, action_id, recipient, subject, text_body, html_body)
  select after.project_id, $2, t.email, subject, text_body, html_body
  from actions_private.to_be_told(after.project_id) as t;
  perform actions_private.end_probing(after);
  return true;
end
$$;
comment on function actions_private.kill_action(bigint, text, timestamptz, text, json, text, text, text) is
  'Trips the kill-switch of an action: switch, audit event and mails; false if there was nothing to kill. Example: select actions_private.kill_action(7, ''action_01JD3X6G8Q7N9V8R2M4T6W8Y0B'', now(), ''100 consecutive 5xx responses'', ''{}'', ''subject'', ''text'', ''html'');';

create or replace function actions.kill_action(action_id text, reason text, actor text default null) returns actions.actions
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
  before constant actions.actions := actions_private.lock_action(action_id);
  after actions.actions;
begin
  if reason is null or length(btrim(reason)) not between 1 and 500 or reason ~ '[[:cntrl:]]' then
    perform actions_private.refuse(
      case when reason is null then 'reason is null' when btrim(reason) = '' then 'reason is empty'
        when length(btrim(reason)) > 500 then format('reason has %s characters', length(btrim(reason))) else 'reason has a control character' end,
      'Accepted is a text of 1 to 500 characters on one line.', 'Say why: the project''s owners and admins are told so by mail.');
  end if;
  -- Killed by the fleet it may take itself back; from now on nobody but somebody does.
  if (select a.killed_by_hand from actions_private.actions as a where a.id = before.action_id) then
    return before;
  end if;
  update actions_private.actions as a
  set killed_at = clock_timestamp(), killed_reason = btrim(reason), killed_by_hand = true, updated_at = clock_timestamp()
  where a.id = before.action_id;
  select * into after from actions.actions as a where a.action_id = before.action_id;
  insert into actions_private.audit_log (project_id, action_id, event, actor, details)
  values (after.project_id, after.action_id, 'action.killed', actor,
    json_build_object('reason', after.killed_reason, 'figures', null, 'before', before, 'after', after));
  -- A janitor writes the bodies before it sends them.
  insert into actions_private.mail_outbox (project_id, action_id, recipient, subject)
  select after.project_id, after.action_id, t.email, format('Action "%s" was switched off', after.name)
  from actions_private.to_be_told(after.project_id) as t;
  return after;
end
$$;
comment on function actions.kill_action(text, text, text) is
  'Kills an action by hand, as the kill-switch would: until actions.reenable_action nobody calls it. Example: select * from actions.kill_action(''action_01JD3X6G8Q7N9V8R2M4T6W8Y0B'', ''its endpoint leaks what it receives'', ''ada@acme.com'');';

create or replace function actions_private.end_queued_of_killed(epoch bigint, look_back_ms integer) returns table (invocation_id text, reply_to text, outcome json)
language plpgsql set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
  at constant timestamptz := clock_timestamp();
  since constant text := coalesce('inv_' || actions_private.id_time(at - look_back_ms * interval '1 millisecond'), '');
begin
  if not actions_private.leads(epoch) or not exists (select from actions_private.actions as a where a.killed_at is not null) then
    return;
  end if;
  return query
  select e.invocation_id, e.reply_to, e.outcome from actions_private.end_without_verdict(array(
    select q.id
    from actions_private.queue as q
    join actions_private.actions as a on a.id = q.action_id
    where q.claim_token is null and a.killed_at is not null and not q.test and q.id >= since
    for update of q skip locked
  ), 'killed', 'killed', 'the action was killed before this invocation was sent') as e;
end
$$;
comment on function actions_private.end_queued_of_killed(bigint, integer) is
  'Ends what is queued for killed actions; look_back_ms null looks at the whole queue. Example: select * from actions_private.end_queued_of_killed(7, null);';
