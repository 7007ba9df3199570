-- Versions that are tried before they are trusted: in the shadow of the current one, or for some of the people.

create or replace view actions.candidates as
select c.action_id, c.version, c.mode, c.percent, c.state, c.reason, c.started_at, c.ended_at,
  c.calls, c.errors, c.same, c.differs, c.would_deny, c.would_allow, c.skipped, q.p50_ms, q.p99_ms, c.denies, c.started_by
from actions_private.candidates as c
left join lateral (
  select percentile_cont(0.5) within group (order by n.duration_ms) as p50_ms, percentile_cont(0.99) within group (order by n.duration_ms) as p99_ms
  from (
    select r.duration_ms from actions_private.candidate_results as r
    where r.action_id = c.action_id and r.version = c.version and r.duration_ms is not null order by r.at desc limit 1000) as n
) as q on true;
comment on view actions.candidates is
  'Every version that was tried, with what came of it since it started; the quantiles are those of its last 1,000 calls. Example: select version, mode, state, calls, differs, would_deny from actions.candidates where action_id = ''action_01JD3X6G8Q7N9V8R2M4T6W8Y0B'' order by started_at desc;';

create or replace view actions.candidate_results as
select r.invocation_id, r.action_id, r.version, r.status, r.decision, r.outcome, r.duration_ms, r.differs, r.at
from actions_private.candidate_results as r;
comment on view actions.candidate_results is
  'What a candidate made of each event; of a shadow it decided nothing. Example: select invocation_id, decision, differs from actions.candidate_results where action_id = ''action_01JD3X6G8Q7N9V8R2M4T6W8Y0B'' and differs <> ''{}'' order by at desc limit 20;';

-- For callers that hold the action's lock.
create or replace function actions_private.end_candidate(action_id text, state text, reason text, actor text) returns actions.candidates
language plpgsql set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
  ended actions.candidates;
begin
  update actions_private.candidates as c set state = end_candidate.state, reason = end_candidate.reason, ended_at = clock_timestamp()
  where c.action_id = end_candidate.action_id and c.state = 'running';
  if not found then
    return null;
  end if;
  update actions_private.actions as a set canary_version = null, canary_percent = null, shadow_version = null, shadow_percent = null
  where a.id = end_candidate.action_id;
  select * into ended from actions.candidates as c where c.action_id = end_candidate.action_id order by c.ended_at desc nulls last limit 1;
  insert into actions_private.audit_log (project_id, action_id, event, actor, details)
  select a.project_id, a.id, 'action.candidate_' || state, coalesce(actor, session_user), json_build_object('reason', reason, 'candidate', ended)
  from actions_private.actions as a where a.id = end_candidate.action_id;
  return ended;
end
$$;
comment on function actions_private.end_candidate(text, text, text, text) is
  'Ends the candidate that runs, if one does; null if none. Example: select actions_private.end_candidate(''action_01JD3X6G8Q7N9V8R2M4T6W8Y0B'', ''withdrawn'', ''the action was updated'', ''ada@acme.com'');';

create or replace function actions_private.withdraw_running(action_id text, reason text, actor text) returns void
language sql volatile
begin atomic
  select actions_private.end_candidate(c.action_id, 'withdrawn', withdraw_running.reason, withdraw_running.actor)
  from actions_private.candidates as c where c.action_id = withdraw_running.action_id and c.state = 'running';
end;
comment on function actions_private.withdraw_running(text, text, text) is
  'Withdraws the candidate that runs, if one does. Example: select actions_private.withdraw_running(''action_01JD3X6G8Q7N9V8R2M4T6W8Y0B'', ''the action was updated'', ''ada@acme.com'');';

create or replace function actions_private.refuse_without_candidate(action_id text) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
begin
  if not exists (select from actions_private.candidates as c where c.action_id = refuse_without_candidate.action_id and c.state = 'running') then
    perform actions_private.refuse(format('action %s has no candidate that runs', action_id), 'Accepted is an action with a running candidate.',
      'Stage one first with actions.stage_candidate; actions.candidates shows those that ended.');
  end if;
end
$$;
comment on function actions_private.refuse_without_candidate(text) is
  'Raises where no candidate runs. Example: select actions_private.refuse_without_candidate(''action_01JD3X6G8Q7N9V8R2M4T6W8Y0B'');';

create or replace function actions.stage_candidate(
  action_id text, changes json, mode text default 'shadow', percent integer default 100, actor text default null
) returns actions.candidates
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
  before constant actions.actions := actions_private.lock_action(action_id);
  base actions_private.action_versions;
  staged actions.candidates;
begin
  if mode is null or mode not in ('shadow', 'canary') then
    perform actions_private.refuse(format('mode is %s', coalesce(quote_literal(left(mode, 100)), 'null')), 'Accepted is shadow or canary.',
      'A shadow decides nothing; a canary decides for percent of the people.');
  end if;
  if percent is null or percent not between 1 and 100 then
    perform actions_private.refuse(format('percent is %s', coalesce(percent::text, 'null')), 'Accepted is 1 to 100.', 'The default is 100.');
  end if;
  if exists (select from actions_private.candidates as c where c.action_id = before.action_id and c.state = 'running') then
    perform actions_private.refuse(format('action %s has a candidate that runs', before.action_id), 'Accepted is one at a time.',
      format('Promote or withdraw it first: select actions.withdraw_candidate(%L, ''you'');', before.action_id));
  end if;
  if not before.enabled then
    perform actions_private.refuse(format('action %s is disabled', before.action_id), 'Accepted is an enabled action: a candidate needs its events.',
      'Enable it first with actions.set_enabled, or change it with actions.update_action.');
  end if;
  base := actions_private.changed_version(before, changes, actor);
  insert into actions_private.action_versions select base.*;
  insert into actions_private.candidates (action_id, version, mode, percent, started_by) values (before.action_id, base.version, mode, percent, actor);
  update actions_private.actions as a
  set canary_version = case when mode = 'canary' then base.version end, canary_percent = case when mode = 'canary' then percent end,
    shadow_version = case when mode = 'shadow' then base.version end, shadow_percent = case when mode = 'shadow' then percent end
  where a.id = before.action_id;
  select * into staged from actions.candidates as c where c.action_id = before.action_id and c.version = base.version;
  insert into actions_private.audit_log (project_id, action_id, event, actor, details)
  values (before.project_id, before.action_id, 'action.candidate_staged', coalesce(actor, session_user),
    json_build_object('candidate', staged, 'changes', changes));
  return staged;
end
$$;
comment on function actions.stage_candidate(text, json, text, integer, text) is
  'Tries changes of an action before they are trusted: shadow sends percent of the events to them as well, and they decide nothing; canary lets them decide for percent of the people. Example: select * from actions.stage_candidate(''action_01JD3X6G8Q7N9V8R2M4T6W8Y0B'', ''{"endpoint_url": "https://hooks.acme.com/v2"}'', ''shadow'', 100, ''ada@acme.com'');';

create or replace function actions.promote_candidate(action_id text, actor text default null) returns actions.candidates
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  before constant actions.actions := actions_private.lock_action(action_id);
  promoted actions.candidates;
begin
  perform actions_private.refuse_without_candidate(before.action_id);
  promoted := actions_private.end_candidate(before.action_id, 'promoted', null, actor);
  perform actions_private.use_version(before.action_id, promoted.version);
  perform actions_private.trim_recorded(before.action_id);
  return promoted;
end
$$;
comment on function actions.promote_candidate(text, text) is
  'Makes the running candidate the action''s current version. Example: select * from actions.promote_candidate(''action_01JD3X6G8Q7N9V8R2M4T6W8Y0B'', ''ada@acme.com'');';

create or replace function actions.withdraw_candidate(action_id text, actor text default null) returns actions.candidates
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  before constant actions.actions := actions_private.lock_action(action_id);
begin
  perform actions_private.refuse_without_candidate(before.action_id);
  return actions_private.end_candidate(before.action_id, 'withdrawn', 'withdrawn by hand', actor);
end
$$;
comment on function actions.withdraw_candidate(text, text) is
  'Ends the running candidate; the current version stays as it is. Example: select * from actions.withdraw_candidate(''action_01JD3X6G8Q7N9V8R2M4T6W8Y0B'', ''ada@acme.com'');';

-- Sums first, in the order of their keys, so that no two workers wait for each other. What ended meanwhile
-- counts no more.
create or replace function actions_private.keep_candidate_results(
  ids text[], action_ids text[], versions integer[], statuses text[], outcomes text[], durations_ms double precision[], differs text[], were_denied boolean[],
  skipped_actions text[], skipped_versions integer[], skipped_counts bigint[]
) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  candidate record;
begin
  for candidate in
    select c.action_id, c.version
    from actions_private.candidates as c
    where c.state = 'running' and (c.action_id, c.version) in (
      select * from unnest(action_ids, versions) union select * from unnest(skipped_actions, skipped_versions))
    order by c.action_id, c.version
  loop
    with given as (
      select r.*
      from unnest(ids, statuses, outcomes, durations_ms, differs, were_denied, action_ids, versions)
        as r (id, status, outcome, duration_ms, differs, was_denied, action_id, version)
      where r.action_id = candidate.action_id and r.version = candidate.version
    ), kept as (
      insert into actions_private.candidate_results (invocation_id, action_id, version, status, decision, outcome, duration_ms, differs)
      select g.id, g.action_id, g.version, g.status, g.outcome::json ->> 'decision', g.outcome::json, g.duration_ms, string_to_array(g.differs, ',')
      from given as g
      on conflict do nothing
      returning invocation_id, status, decision, candidate_results.differs
    ), summed as (
      select count(*) as calls, count(*) filter (where k.status not in ('ok', 'rejected')) as errors, count(*) filter (where k.status = 'rejected') as denies,
        count(*) filter (where k.differs = '{}') as same, count(*) filter (where k.differs <> '{}') as differs,
        count(*) filter (where k.decision = 'deny' and not g.was_denied) as would_deny, count(*) filter (where k.decision = 'allow' and g.was_denied) as would_allow
      from kept as k
      join given as g on g.id = k.invocation_id
    )
    update actions_private.candidates as c
    set calls = c.calls + s.calls, errors = c.errors + s.errors, denies = c.denies + s.denies, same = c.same + s.same, differs = c.differs + s.differs,
      would_deny = c.would_deny + s.would_deny, would_allow = c.would_allow + s.would_allow,
      skipped = c.skipped + coalesce((
        select sum(m.skipped) from unnest(skipped_actions, skipped_versions, skipped_counts) as m (action_id, version, skipped)
        where m.action_id = candidate.action_id and m.version = candidate.version), 0)
    from summed as s
    where c.action_id = candidate.action_id and c.version = candidate.version and c.state = 'running';
  end loop;
end
$$;
comment on function actions_private.keep_candidate_results(text[], text[], integer[], text[], text[], double precision[], text[], boolean[], text[], integer[], bigint[]) is
  'Keeps what candidates made of events, and counts it. Example: select actions_private.keep_candidate_results(''{}'', ''{}'', ''{}'', ''{}'', ''{}'', ''{}'', ''{}'', ''{}'', ''{}'', ''{}'', ''{}'');';

-- The other side is the newest 10,000 calls of the current version, so a look costs the same however long it runs.
create or replace function actions_private.canaries() returns table (
  action_id text, version integer, project_id text, name text, calls bigint, errors bigint, denies bigint, other_calls bigint, other_errors bigint, other_denies bigint
)
language sql stable security definer set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_custom_plan set jit = off
as $$
  select c.action_id, c.version, a.project_id, v.name, c.calls, c.errors, c.denies, o.calls, o.errors, o.denies
  from actions_private.candidates as c
  join actions_private.actions as a on a.id = c.action_id
  join actions_private.action_versions as v on v.action_id = a.id and v.version = a.version
  cross join lateral (
    select count(*) as calls, count(*) filter (where n.status not in ('ok', 'rejected')) as errors, count(*) filter (where n.status = 'rejected') as denies
    from (
      select i.status
      from actions_private.invocations as i
      where i.action_id = any (array[c.action_id]) and not i.test and i.status not in ('killed', 'expired') and i.canary is not true
        and i.finished_at >= c.started_at and i.finished_at < 'infinity'
      order by i.action_id desc, i.finished_at desc
      limit 10000
    ) as n
  ) as o
  where c.state = 'running' and c.mode = 'canary' and c.calls >= 20
$$;
comment on function actions_private.canaries() is
  'Candidates that decide for some people, with what they did and what the current version did since they started. Example: select action_id, calls, errors, other_calls, other_errors from actions_private.canaries();';

create or replace function actions_private.withdraw_canary(epoch bigint, action_id text, version integer, reason text) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp
-- Somebody who is changing the action must not hold up the next one.
set lock_timeout = '500ms'
as $$
#variable_conflict use_variable
declare
  action actions.actions;
begin
  if not actions_private.leads(epoch) then
    return false;
  end if;
  action := actions_private.lock_action(action_id);
  if not exists (select from actions_private.candidates as c where c.action_id = withdraw_canary.action_id and c.version = withdraw_canary.version and c.state = 'running') then
    return false;
  end if;
  perform actions_private.end_candidate(action_id, 'withdrawn', reason, 'system');
  perform actions_private.write_mail(action.project_id, action_id, format('The candidate of action "%s" was withdrawn', action.name),
    format('Version %s of "%s" was tried for some of the people of project %s, and withdrew itself:
%s.

Everybody is on version %s again. Nothing needs to be done for them.',
      version, action.name, action.project_id, reason, action.version), false);
  return true;
end
$$;
comment on function actions_private.withdraw_canary(bigint, text, integer, text) is
  'Withdraws a canary, with an audit event and mails; false if it runs no more. Example: select actions_private.withdraw_canary(7, ''action_01JD3X6G8Q7N9V8R2M4T6W8Y0B'', 4, ''6 of 40 calls failed'');';
