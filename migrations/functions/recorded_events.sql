-- What is kept of events and verdicts, as ciphertext that only a holder of the root keys can read.

create or replace view actions.recorded_events as
select e.event_id, e.action_id, e.recorded_at, e.expires_at, e.bytes
from actions_private.recorded_events as e
where e.expires_at > now();
comment on view actions.recorded_events is
  'Events that were kept to be sent again (record_events). What they say is encrypted. Example: select event_id, recorded_at, bytes from actions.recorded_events where action_id = ''action_01JD3X6G8Q7N9V8R2M4T6W8Y0B'' order by recorded_at desc;';

-- One after the other: two who keep events at once would each keep as many as there may be.
create or replace function actions_private.lock_recorded(action_id text) returns void
language sql volatile set search_path = pg_catalog, pg_temp
begin atomic
  select pg_advisory_xact_lock(hashtextextended(lock_recorded.action_id, 5));
end;
comment on function actions_private.lock_recorded(text) is
  'Waits for whoever else keeps or trims recorded events of an action. Example: select actions_private.lock_recorded(''action_01JD3X6G8Q7N9V8R2M4T6W8Y0B'');';

create or replace function actions_private.trim_recorded(action_id text) returns void
language sql volatile set search_path = pg_catalog, pg_temp
begin atomic
  select actions_private.lock_recorded(trim_recorded.action_id);
  delete from actions_private.recorded_events as e
  where e.action_id = trim_recorded.action_id and e.event_id not in (
    select n.event_id
    from (
      select r.event_id, row_number() over (order by r.recorded_at desc, r.event_id desc) as n from actions_private.recorded_events as r
      where r.action_id = trim_recorded.action_id and r.expires_at > now()) as n
    join actions_private.actions as a on a.id = trim_recorded.action_id
    join actions_private.action_versions as v on v.action_id = a.id and v.version = a.version
    where n.n <= v.record_events);
end;
comment on function actions_private.trim_recorded(text) is
  'Keeps of an action''s recorded events as many as its version says. Example: select actions_private.trim_recorded(''action_01JD3X6G8Q7N9V8R2M4T6W8Y0B'');';

create or replace function actions.forget_events(action_id text, actor text default null) returns bigint
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
  action constant actions.actions := actions_private.lock_action(action_id);
  gone bigint;
begin
  delete from actions_private.recorded_events as e where e.action_id = action.action_id;
  get diagnostics gone = row_count;
  insert into actions_private.audit_log (project_id, action_id, event, actor, details)
  values (action.project_id, action.action_id, 'action.events_forgotten', coalesce(actor, session_user), json_build_object('events', gone));
  return gone;
end
$$;
comment on function actions.forget_events(text, text) is
  'Erases what was recorded of an action; returns how many events. New ones are recorded until record_events is 0. Example: select actions.forget_events(''action_01JD3X6G8Q7N9V8R2M4T6W8Y0B'', ''ada@acme.com'');';

create or replace function actions_private.keep_events(action_ids text[], event_ids text[], bytes integer[], key_ids text[], sealed bytea[]) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  perform actions_private.lock_recorded(t.id) from (select distinct u.id from unnest(action_ids) as u (id) order by u.id) as t;
  -- An action that was deleted or records no more keeps nothing.
  insert into actions_private.recorded_events as e (action_id, event_id, expires_at, bytes, key_id, sealed)
  select g.action_id, g.event_id, clock_timestamp() + v.record_hours * interval '1 hour', g.bytes, g.key_id, g.sealed
  from unnest(action_ids, event_ids, bytes, key_ids, sealed) as g (action_id, event_id, bytes, key_id, sealed)
  join actions_private.actions as a on a.id = g.action_id and a.deleted_at is null
  join actions_private.action_versions as v on v.action_id = a.id and v.version = a.version
  where v.record_events > 0
  order by g.action_id, g.event_id
  on conflict on constraint recorded_events_pkey do nothing;
  perform actions_private.trim_recorded(g.action_id) from (select distinct t.id as action_id from unnest(action_ids) as t (id) order by t.id) as g;
end
$$;
comment on function actions_private.keep_events(text[], text[], integer[], text[], bytea[]) is
  'Records events that were sent, and lets go of the oldest. Example: select actions_private.keep_events(''{}'', ''{}'', ''{}'', ''{}'', ''{}'');';

create or replace function actions_private.keep_last_known(action_ids text[], people bytea[], moments timestamptz[], key_ids text[], sealed bytea[]) returns void
language sql volatile security definer set search_path = pg_catalog, pg_temp
begin atomic
  insert into actions_private.last_known as k (action_id, person, at, key_id, sealed)
  select distinct on (g.action_id, g.person) g.action_id, g.person, g.at, g.key_id, g.sealed
  from unnest(action_ids, people, moments, key_ids, sealed) as g (action_id, person, at, key_id, sealed)
  join actions_private.actions as a on a.id = g.action_id and a.deleted_at is null
  order by g.action_id, g.person, g.at desc
  on conflict on constraint last_known_pkey do update set at = excluded.at, key_id = excluded.key_id, sealed = excluded.sealed
  where k.at <= excluded.at;
end;
comment on function actions_private.keep_last_known(text[], bytea[], timestamptz[], text[], bytea[]) is
  'Keeps what the last verdict gave a person. Example: select actions_private.keep_last_known(''{}'', ''{}'', ''{}'', ''{}'', ''{}'');';

create or replace function actions_private.last_known_of(action_id text, people bytea[], at_most_s integer) returns table (age_ms double precision, person bytea, key_id text, sealed bytea)
language sql stable security definer set search_path = pg_catalog, pg_temp
begin atomic
  select extract(epoch from clock_timestamp() - k.at)::double precision * 1000, k.person, k.key_id, k.sealed
  from actions_private.last_known as k
  where k.action_id = last_known_of.action_id and k.person = any (last_known_of.people) and k.at > clock_timestamp() - last_known_of.at_most_s * interval '1 second'
  order by k.at desc
  limit 1;
end;
comment on function actions_private.last_known_of(text, bytea[], integer) is
  'What the last verdict gave a person, under any of the names that the root keys give him. Example: select age_ms from actions_private.last_known_of(''action_01JD3X6G8Q7N9V8R2M4T6W8Y0B'', ''{}'', 3600);';

create or replace function actions_private.recorded_of(action_id text, n integer) returns table (event_id text, key_id text, sealed bytea)
language sql stable security definer set search_path = pg_catalog, pg_temp
begin atomic
  select e.event_id, e.key_id, e.sealed
  from actions_private.recorded_events as e
  where e.action_id = recorded_of.action_id and e.expires_at > now()
  order by e.recorded_at desc, e.event_id desc
  limit recorded_of.n;
end;
comment on function actions_private.recorded_of(text, integer) is
  'The newest recorded events of an action, the newest first. Example: select event_id from actions_private.recorded_of(''action_01JD3X6G8Q7N9V8R2M4T6W8Y0B'', 100);';

create or replace function actions_private.forget_trials(candidate_days integer, most integer default 5000) returns bigint
language plpgsql security definer set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_custom_plan set jit = off
as $$
declare
  gone bigint;
  sum bigint;
begin
  delete from actions_private.recorded_events as e
  where e.ctid = any (array(select c.ctid from actions_private.recorded_events as c where c.expires_at < now() order by c.expires_at limit most));
  get diagnostics sum = row_count;
  -- No action applies what is older than a day.
  delete from actions_private.last_known as k
  where k.ctid = any (array(select c.ctid from actions_private.last_known as c where c.at < now() - interval '1 day' order by c.at limit most));
  get diagnostics gone = row_count;
  sum := sum + gone;
  delete from actions_private.candidate_results as r
  where r.ctid = any (array(
    select c.ctid from actions_private.candidate_results as c where c.at < now() - candidate_days * interval '1 day' order by c.at limit most));
  get diagnostics gone = row_count;
  return sum + gone;
end
$$;
comment on function actions_private.forget_trials(integer, integer) is
  'Deletes recorded events and last known roles whose time is over, and results of candidates that are older than so many days; returns how many. Example: select actions_private.forget_trials(7);';
