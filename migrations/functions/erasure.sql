-- Erasing a project: its configuration at once out of use, then every row that names it or its
-- people, a few thousand at a time.

create or replace view actions.erasures as
select e.project_id, e.asked_at, e.done_at, e.rows_erased
from actions_private.erasures as e;
comment on view actions.erasures is
  'Projects that were to be erased, and how far that is. Example: select project_id, rows_erased, done_at from actions.erasures where done_at is null;';

create or replace function actions_private.refuse_erased(project_id text) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  if exists (select from actions_private.erasures as e where e.project_id = refuse_erased.project_id and e.done_at is null) then
    perform actions_private.refuse(format('project_id is %L, which is being erased', left(project_id, 100)),
      'Accepted is a project that is not.', 'Wait until done_at is there: select project_id, done_at from actions.erasures;');
  end if;
end
$$;
comment on function actions_private.refuse_erased(text) is
  'Raises if a project is being erased. Example: select actions_private.refuse_erased(''proj_acme_prod'');';

create or replace function actions.delete_project(project_id text, actor text default null) returns setof actions.erasures
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
begin
  -- Asked again while it goes on, it is the same erasure.
  if not exists (select from actions_private.erasures as e where e.project_id = project_id and e.done_at is null) then
    perform actions_private.known_project(project_id);
    update actions_private.actions as a set deleted_at = coalesce(a.deleted_at, now()), enabled = false, updated_at = now()
    where a.project_id = project_id and (a.enabled or a.deleted_at is null);
    insert into actions_private.erasures (project_id, asked_by) values (project_id, actor)
    on conflict do nothing;
  end if;
  return query
  select e.* from actions.erasures as e where e.project_id = project_id and e.done_at is null;
end
$$;
comment on function actions.delete_project(text, text) is
  'Erases a project with everything that names it or its people, in the history and the audit log, too. No event of it is sent from now on; the rest is a janitor''s work, shown by actions.erasures. Cannot be undone. Example: select * from actions.delete_project(''proj_acme_prod'', ''ada@acme.com'');';

create or replace function actions_private.erase_next(epoch bigint, most integer default 2000) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp
set lock_timeout = '500ms' set plan_cache_mode = force_custom_plan set jit = off
as $$
declare
  erasure actions_private.erasures;
  action_ids text[];
  gone bigint;
begin
  if not actions_private.leads(epoch) then
    return false;
  end if;
  select * into erasure from actions_private.erasures as e where e.done_at is null order by e.id limit 1 for update skip locked;
  if not found then
    return false;
  end if;
  action_ids := array(select a.id from actions_private.actions as a where a.project_id = erasure.project_id);
  -- Who still waits gets the outcome first, and some seconds for asking. Nothing is enqueued any more.
  if erasure.asked_at > now() - interval '10 seconds'
    or exists (select from actions_private.queue as q where q.project_id = erasure.project_id)
  then
    return false;
  end if;
  -- One kind after the other; a step ends with the first that had something.
  delete from actions_private.invocations as i
  where i.id = any (array(
    select n.id
    from unnest(action_ids) as a (id)
    cross join lateral (
      (select c.id from actions_private.invocations as c
       where c.action_id = any (array[a.id]) and not c.test and c.status not in ('killed', 'expired')
       order by c.action_id, c.finished_at limit most)
      union all
      (select o.id from actions_private.invocations as o
       where o.action_id = any (array[a.id]) and (o.test or o.status in ('killed', 'expired'))
       order by o.action_id, o.finished_at limit most)
    ) as n
    limit most));
  get diagnostics gone = row_count;
  if gone = 0 then
    delete from actions_private.daily_counts as d
    where d.ctid = any (array(select c.ctid from actions_private.daily_counts as c where c.project_id = erasure.project_id limit most));
    get diagnostics gone = row_count;
  end if;
  if gone = 0 then
    delete from actions_private.mail_outbox as m
    where m.id = any (array(select c.id from actions_private.mail_outbox as c where c.project_id = erasure.project_id limit most));
    get diagnostics gone = row_count;
  end if;
  if gone = 0 then
    delete from actions_private.event_keys as k
    where k.ctid = any (array(select c.ctid from actions_private.event_keys as c where c.project_id = erasure.project_id limit most));
    get diagnostics gone = row_count;
  end if;
  if gone = 0 then
    delete from actions_private.audit_log as l
    where l.id = any (array(select c.id from actions_private.audit_log as c where c.project_id = erasure.project_id limit most));
    get diagnostics gone = row_count;
  end if;
  if gone = 0 then
    delete from actions_private.candidate_results as r
    where r.ctid = any (array(select c.ctid from actions_private.candidate_results as c where c.action_id = any (action_ids) limit most));
    get diagnostics gone = row_count;
  end if;
  if gone = 0 then
    delete from actions_private.recorded_events as r
    where r.ctid = any (array(select c.ctid from actions_private.recorded_events as c where c.action_id = any (action_ids) limit most));
    get diagnostics gone = row_count;
  end if;
  if gone = 0 then
    delete from actions_private.last_known as k
    where k.ctid = any (array(select c.ctid from actions_private.last_known as c where c.action_id = any (action_ids) limit most));
    get diagnostics gone = row_count;
  end if;
  if gone > 0 then
    update actions_private.erasures as e set rows_erased = e.rows_erased + gone where e.id = erasure.id;
    return true;
  end if;
  -- What is left is small, and refers to each other.
  with sessions as (
    delete from actions_private.console_sessions as c
    where c.project_id = erasure.project_id
      or lower(c.email collate "C") in (select lower(m.email collate "C") from actions_private.project_members as m where m.project_id = erasure.project_id)
    returning 1
  ), candidates as (
    delete from actions_private.candidates as c where c.action_id = any (action_ids) returning 1
  ), probes as (
    delete from actions_private.probes as p where p.action_id = any (action_ids) returning 1
  ), checks as (
    delete from actions_private.checks as c where c.action_id = any (action_ids) returning 1
  ), versions as (
    delete from actions_private.action_versions as v where v.action_id = any (action_ids) returning 1
  ), actions as (
    delete from actions_private.actions as a where a.project_id = erasure.project_id returning 1
  ), members as (
    delete from actions_private.project_members as m where m.project_id = erasure.project_id returning 1
  )
  select (select count(*) from sessions) + (select count(*) from checks) + (select count(*) from versions) + (select count(*) from actions) + (select count(*) from members) into gone;
  delete from actions_private.projects as p where p.id = erasure.project_id;
  update actions_private.erasures as e set rows_erased = e.rows_erased + gone + 1, done_at = clock_timestamp() where e.id = erasure.id;
  return true;
end
$$;
comment on function actions_private.erase_next(bigint, integer) is
  'The next step of an erasure: at most so many rows; false where there is nothing to erase for the moment. Example: select actions_private.erase_next(7);';
