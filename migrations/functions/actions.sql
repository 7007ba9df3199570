-- What control planes call for actions: create, update, enable, delete.

-- A function with a parsed body: what a backslash means does not depend on the session.
create or replace function actions_private.is_endpoint_url(endpoint_url text) returns boolean
language sql immutable parallel safe
return pg_catalog.length(endpoint_url) <= 2048 and endpoint_url ~* '^https://[^/?#@\\[:space:][:cntrl:]]+([/?#][^[:space:][:cntrl:]]*)?$';
comment on function actions_private.is_endpoint_url(text) is
  'True for an https URL without user-info and white space. Example: select actions_private.is_endpoint_url(''https://hooks.acme.com/authio'');';

-- The rules of a configuration, the same for a new action and for a change. The address
-- rules are not here: they run in the worker, at every call.
drop function if exists actions_private.check_configuration(text, text, integer, text, text, boolean, integer);
create or replace function actions_private.check_configuration(version actions_private.action_versions, trigger text)
returns void language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  name constant text := version.name;
  endpoint_url constant text := version.endpoint_url;
  timeout_ms constant integer := version.timeout_ms;
  fail_mode constant text := version.fail_mode;
  on_killed constant text := version.on_killed;
  require_response_signature constant boolean := version.require_response_signature;
  check_every_s constant integer := version.check_every_s;
begin
  if name is null or length(name) not between 1 and 200 then
    perform actions_private.refuse(format('name is %s', coalesce(quote_literal(left(name, 210)), 'null')),
      'Accepted is a text of 1 to 200 characters.', 'Name the action as people should see it.');
  end if;
  if not coalesce(actions_private.is_endpoint_url(endpoint_url), false) then
    perform actions_private.refuse(format('endpoint_url is %s', coalesce(quote_literal(left(endpoint_url, 200)), 'null')),
      'Accepted is an https:// URL of up to 2048 characters without user-info (user:password@) and white space.',
      'actionsctl check-url tells what the fleet would say to a URL.');
  end if;
  if timeout_ms is null or timeout_ms not between 100 and 5000 then
    perform actions_private.refuse(format('timeout_ms is %s', coalesce(timeout_ms::text, 'null')),
      'Accepted is 100 to 5000 (milliseconds).', 'The default is 2000.');
  end if;
  if fail_mode is null or fail_mode not in ('open', 'closed') then
    perform actions_private.refuse(format('fail_mode is %s', coalesce(quote_literal(left(fail_mode, 100)), 'null')),
      'Accepted is open or closed.', 'open lets people in when the endpoint fails, closed keeps them out.');
  end if;
  if on_killed is null or on_killed not in ('skip', 'deny') then
    perform actions_private.refuse(format('on_killed is %s', coalesce(quote_literal(left(on_killed, 100)), 'null')),
      'Accepted is skip or deny.', 'skip treats a killed action as if it did not exist; deny is for compliance gates.');
  end if;
  if require_response_signature is null then
    perform actions_private.refuse('require_response_signature is null', 'Accepted is true or false.', 'The default is false.');
  end if;
  if check_every_s is null or check_every_s <> 0 and check_every_s not between 10 and 86400 then
    perform actions_private.refuse(format('check_every_s is %s', coalesce(check_every_s::text, 'null')),
      'Accepted is 10 to 86400 (seconds), or 0 for no checks.', 'Each check is a real call with metadata.test = true.');
  end if;
  perform actions_private.refuse_condition(version.condition);
  if version.record_events is null or version.record_events not between 0 and 1000 then
    perform actions_private.refuse(format('record_events is %s', coalesce(version.record_events::text, 'null')),
      'Accepted is 1 to 1000 (events), or 0 to keep none.', 'What is kept is encrypted, and sent again by: actionsctl replay');
  end if;
  if version.record_hours is null or version.record_hours not between 1 and 168 then
    perform actions_private.refuse(format('record_hours is %s', coalesce(version.record_hours::text, 'null')), 'Accepted is 1 to 168 (hours).', 'The default is 24.');
  end if;
  if version.last_known_s is null or version.last_known_s not between 0 and 86400 then
    perform actions_private.refuse(format('last_known_s is %s', coalesce(version.last_known_s::text, 'null')),
      'Accepted is 1 to 86400 (seconds), or 0 to apply nothing.', 'A failure then leaves the token as it is.');
  end if;
  if version.last_known_s > 0 and trigger <> 'pre_token_mint' then
    perform actions_private.refuse(format('last_known_s is %s on %s', version.last_known_s, trigger),
      'Accepted is 0 on every trigger but pre_token_mint.', 'Only there a verdict has roles, permissions and claims.');
  end if;
  if version.recovery is null or version.recovery not in ('manual', 'probe') then
    perform actions_private.refuse(format('recovery is %s', coalesce(quote_literal(left(version.recovery, 100)), 'null')),
      'Accepted is manual or probe.', 'probe sends test events to a killed action, and takes the kill back after five in a row that end ok.');
  end if;
end
$$;
comment on function actions_private.check_configuration(actions_private.action_versions, text) is
  'Raises what is wrong with an action''s configuration for a trigger. Example: select actions_private.check_configuration(v, ''pre_register'') from actions_private.action_versions as v limit 1;';

create or replace function actions_private.write_audit(before actions.actions, after actions.actions, event text, actor text) returns void
language sql volatile
begin atomic
  insert into actions_private.audit_log (project_id, action_id, event, actor, details)
  values (coalesce((after).project_id, (before).project_id), coalesce((after).action_id, (before).action_id), event, actor,
    pg_catalog.json_build_object('before', before, 'after', after, 'changed', (
      select coalesce(pg_catalog.json_object_agg(n.key, pg_catalog.json_build_array(o.value, n.value) order by n.key), '{}')
      from pg_catalog.jsonb_each(pg_catalog.to_jsonb(after)) as n
      join pg_catalog.jsonb_each(pg_catalog.to_jsonb(before)) as o on o.key = n.key and o.value is distinct from n.value
      -- Secrets are seen at any moment, and by nobody who changes something.
      where n.key not in ('updated_at', 'secret_seen_at'))));
end;
comment on function actions_private.write_audit(actions.actions, actions.actions, text, text) is
  'One audit event with the action before and after, and what differs. Example: select actions_private.write_audit(a, a, ''action.updated'', ''ada@acme.com'') from actions.actions as a where action_id = ''action_01JD3X6G8Q7N9V8R2M4T6W8Y0B'';';

create or replace function actions_private.lock_action(action_id text) returns actions.actions
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  found_row actions.actions;
begin
  -- The project first, like everybody who changes something of it: no two wait for each other, and
  -- two who enable an action for the same trigger do so one after the other.
  perform from actions_private.projects as p
  where p.id = (select a.project_id from actions_private.actions as a where a.id = lock_action.action_id) for no key update;
  perform from actions_private.actions as a where a.id = lock_action.action_id and a.deleted_at is null for update;
  select * into found_row from actions.actions as a where a.action_id = lock_action.action_id;
  if not found then
    perform actions_private.refuse(format('action_id is %s', coalesce(quote_literal(left(action_id, 100)), 'null')),
      'Accepted is the id of an action that is not deleted.', 'List them with: select action_id, name from actions.actions;');
  end if;
  return found_row;
end
$$;
comment on function actions_private.lock_action(text) is
  'Locks an action and its project for a change and returns the action as it was. Example: select * from actions_private.lock_action(''action_01JD3X6G8Q7N9V8R2M4T6W8Y0B'');';

create or replace function actions_private.refuse_second_action(project_id text, trigger text, but_not text) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  other text;
begin
  select a.id into other from actions_private.actions as a
  where a.project_id = refuse_second_action.project_id and a.trigger = refuse_second_action.trigger
    and a.enabled and a.deleted_at is null and a.id is distinct from but_not;
  if found then
    perform actions_private.refuse(
      format('project %s has the enabled action %s for %s already', project_id, other, trigger),
      'Accepted is one enabled action per project and trigger.',
      format('Disable it first: select actions.set_enabled(%L, false, ''you'');', other));
  end if;
end
$$;
comment on function actions_private.refuse_second_action(text, text, text) is
  'Raises if another enabled action holds the trigger; for callers that hold the project''s lock. Example: select actions_private.refuse_second_action(''proj_acme_prod'', ''pre_register'', null);';

-- Two functions that take the same call would be none.
drop function if exists actions.create_action(text, text, text, text, integer, text, text, boolean, text, boolean);
create or replace function actions.create_action(
  project_id text, trigger text, endpoint_url text, name text, timeout_ms integer default 2000, fail_mode text default 'open',
  on_killed text default 'skip', require_response_signature boolean default false, actor text default null, enabled boolean default true,
  condition text default null, record_events integer default 0, record_hours integer default 24, last_known_s integer default 0, recovery text default 'manual'
) returns actions.actions
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  new_id constant text := actions_private.new_id('action_');
  first actions_private.action_versions;
  after actions.actions;
begin
  perform actions_private.known_project(project_id);
  perform actions_private.check_request(project_id, trigger, '{}', null);
  first := row(new_id, 1, name, endpoint_url, timeout_ms, fail_mode, on_killed, require_response_signature, 0, now(), actor,
    condition, record_events, record_hours, last_known_s, recovery)::actions_private.action_versions;
  perform actions_private.check_configuration(first, trigger);
  if enabled is null then
    perform actions_private.refuse('enabled is null', 'Accepted is true or false.', 'False prepares an action beside the live one; see actions.swap_action.');
  end if;
  if enabled then
    perform actions_private.refuse_second_action(project_id, trigger, null);
  end if;
  insert into actions_private.actions (id, project_id, project_revision, trigger, version, timeout_ms, enabled, condition)
  select new_id, p.id, p.revision, create_action.trigger, 1, create_action.timeout_ms, create_action.enabled, create_action.condition
  from actions_private.projects as p
  where p.id = create_action.project_id;
  insert into actions_private.action_versions select first.*;
  select * into after from actions.actions as a where a.action_id = new_id;
  perform actions_private.write_audit(null, after, 'action.created', actor);
  -- Only a holder of the root keys can fingerprint the new secret: one of the workers does.
  perform pg_notify('actions_queue', 'secrets') where actions_private.may_notify();
  return after;
end
$$;
comment on function actions.create_action(text, text, text, text, integer, text, text, boolean, text, boolean, text, integer, integer, integer, text) is
  'Binds a customer''s endpoint to a trigger of a project; with enabled false beside the live one, see swap_action. actionsctl action secret shows its signing secret. Example: select * from actions.create_action(''proj_acme_prod'', ''pre_token_mint'', ''https://hooks.acme.com/authio'', ''Roles from Acme'');';

-- The version that an action would have with some changes: checked, and not written.
create or replace function actions_private.changed_version(before actions.actions, changes json, actor text) returns actions_private.action_versions
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  keys constant text := 'name, endpoint_url, timeout_ms, fail_mode, on_killed, require_response_signature, check_every_s, condition, record_events, record_hours, last_known_s, recovery';
  newest constant integer := (select max(v.version) from actions_private.action_versions as v where v.action_id = before.action_id);
  wrong record;
  base actions_private.action_versions;
begin
  perform actions_private.refuse_unstorable('changes', changes);
  if changes is null or json_typeof(changes) <> 'object' then
    perform actions_private.refuse(
      format('changes is %s', case when changes is null then 'null' else 'a JSON ' || json_typeof(changes) end),
      format('Accepted is a JSON object with any of %s; or version, to restore an earlier one.', keys), 'Example: {"timeout_ms": 3000}');
  end if;
  select c.key, json_typeof(c.value) as kind, k.kind as accepted into wrong
  from json_each(changes) as c
  left join (values ('name', 'string'), ('endpoint_url', 'string'), ('timeout_ms', 'number'), ('fail_mode', 'string'),
    ('on_killed', 'string'), ('require_response_signature', 'boolean'), ('check_every_s', 'number'), ('version', 'number'),
    ('condition', 'string'), ('record_events', 'number'), ('record_hours', 'number'), ('last_known_s', 'number'), ('recovery', 'string')) as k (key, kind) on k.key = c.key
  where (k.kind is distinct from json_typeof(c.value) or k.kind = 'number' and c.value::text !~ '^[0-9]{1,9}$')
    and not (c.key = 'condition' and json_typeof(c.value) = 'null') limit 1;
  if found then
    perform actions_private.refuse(
      case when wrong.accepted is null then format('changes has the key %I', wrong.key)
           else format('%s is %s', wrong.key, coalesce(changes ->> wrong.key, 'null')) end,
      case when wrong.accepted is null then format('Accepted are %s and version.', keys)
           else format('Accepted is a JSON %s%s.', wrong.accepted, case wrong.accepted when 'number' then ' without fraction' else '' end) end,
      case when wrong.key = 'enabled' then 'Use actions.set_enabled.' else 'Nothing was changed.' end);
  end if;
  select * into base from actions_private.action_versions as v
  where v.action_id = before.action_id and v.version = coalesce((changes ->> 'version')::integer, before.version);
  if not found then
    perform actions_private.refuse(format('version is %s', changes ->> 'version'),
      format('Accepted is 1 to %s.', newest), 'The audit log tells what each change made.');
  end if;
  base.name := coalesce(changes ->> 'name', base.name);
  base.endpoint_url := coalesce(changes ->> 'endpoint_url', base.endpoint_url);
  base.timeout_ms := coalesce((changes ->> 'timeout_ms')::integer, base.timeout_ms);
  base.fail_mode := coalesce(changes ->> 'fail_mode', base.fail_mode);
  base.on_killed := coalesce(changes ->> 'on_killed', base.on_killed);
  base.require_response_signature := coalesce((changes ->> 'require_response_signature')::boolean, base.require_response_signature);
  base.check_every_s := coalesce((changes ->> 'check_every_s')::integer, base.check_every_s);
  base.record_events := coalesce((changes ->> 'record_events')::integer, base.record_events);
  base.record_hours := coalesce((changes ->> 'record_hours')::integer, base.record_hours);
  base.last_known_s := coalesce((changes ->> 'last_known_s')::integer, base.last_known_s);
  base.recovery := coalesce(changes ->> 'recovery', base.recovery);
  if exists (select from json_object_keys(changes) as k (key) where k.key = 'condition') then
    base.condition := changes ->> 'condition';
  end if;
  perform actions_private.check_configuration(base, before.trigger);
  base.version := newest + 1;
  base.created_at := now();
  base.created_by := actor;
  return base;
end
$$;
comment on function actions_private.changed_version(actions.actions, json, text) is
  'The version that an action would have with some changes; raises what is wrong with them. Example: select (actions_private.changed_version(a, ''{"timeout_ms": 3000}'', ''ada@acme.com'')).timeout_ms from actions.actions as a limit 1;';

-- What each event needs of a version stands in the action, too.
create or replace function actions_private.use_version(action_id text, version integer) returns void
language sql volatile set search_path = pg_catalog, pg_temp
begin atomic
  update actions_private.actions as a
  set version = v.version, timeout_ms = v.timeout_ms, condition = v.condition, updated_at = now()
  from actions_private.action_versions as v
  where a.id = use_version.action_id and v.action_id = use_version.action_id and v.version = use_version.version;
end;
comment on function actions_private.use_version(text, integer) is
  'Points an action at one of its versions. Example: select actions_private.use_version(''action_01JD3X6G8Q7N9V8R2M4T6W8Y0B'', 2);';

create or replace function actions.update_action(action_id text, changes json, actor text default null) returns actions.actions
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  before constant actions.actions := actions_private.lock_action(action_id);
  base constant actions_private.action_versions := actions_private.changed_version(before, changes, actor);
  after actions.actions;
begin
  perform actions_private.withdraw_running(before.action_id, 'the action was updated', actor);
  insert into actions_private.action_versions select base.*;
  perform actions_private.use_version(before.action_id, base.version);
  perform actions_private.trim_recorded(before.action_id);
  select * into after from actions.actions as a where a.action_id = before.action_id;
  perform actions_private.write_audit(before, after, 'action.updated', actor);
  return after;
end
$$;
comment on function actions.update_action(text, json, text) is
  'Changes an action''s configuration by adding a version; {"version": n} restores an earlier one. Example: select * from actions.update_action(''action_01JD3X6G8Q7N9V8R2M4T6W8Y0B'', ''{"timeout_ms": 3000}'', ''ada@acme.com'');';

create or replace function actions.set_enabled(action_id text, enabled boolean, actor text default null) returns actions.actions
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  before constant actions.actions := actions_private.lock_action(action_id);
  after actions.actions;
begin
  if enabled is null then
    perform actions_private.refuse('enabled is null', 'Accepted is true or false.', 'Nothing was changed.');
  end if;
  if enabled = before.enabled then
    return before;
  end if;
  if enabled then
    perform actions_private.refuse_second_action(before.project_id, before.trigger, before.action_id);
  end if;
  if not enabled then
    perform actions_private.withdraw_running(before.action_id, 'the action was disabled', actor);
  end if;
  update actions_private.actions as a
  set enabled = set_enabled.enabled, updated_at = now(),
    counting_since = case when set_enabled.enabled then clock_timestamp() else a.counting_since end
  where a.id = before.action_id;
  select * into after from actions.actions as a where a.action_id = before.action_id;
  perform actions_private.write_audit(before, after, case when enabled then 'action.enabled' else 'action.disabled' end, actor);
  return after;
end
$$;
comment on function actions.set_enabled(text, boolean, text) is
  'Switches an action on or off. A kill is another matter: see actions.reenable_action. Example: select * from actions.set_enabled(''action_01JD3X6G8Q7N9V8R2M4T6W8Y0B'', false, ''ada@acme.com'');';

create or replace function actions.swap_action(disable_id text, enable_id text, actor text default null) returns actions.actions
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  pair constant text := 'Accepted are two actions of one project and one trigger.';
  leaving actions.actions;
  coming actions.actions;
  after actions.actions;
begin
  if disable_id = enable_id then
    perform actions_private.refuse(format('disable_id and enable_id are both %L', left(disable_id, 100)), pair, 'Nothing was changed.');
  end if;
  -- Both are of one project, whose lock the first takes; those of two are refused before the second is locked.
  leaving := actions_private.lock_action(disable_id);
  select * into coming from actions.actions as a where a.action_id = enable_id;
  if coming.project_id is distinct from leaving.project_id or coming.trigger is distinct from leaving.trigger then
    if coming.action_id is not null then
      perform actions_private.refuse(
        format('disable_id is of project %s for %s, enable_id of project %s for %s', leaving.project_id, leaving.trigger, coming.project_id, coming.trigger),
        pair, 'Nothing was changed.');
    end if;
  end if;
  coming := actions_private.lock_action(enable_id);
  if coming.killed_at is not null then
    perform actions_private.refuse(format('enable_id is killed: %s', coming.killed_reason),
      'Accepted is an action that is called once it is enabled.', format('Take the kill back first: select actions.reenable_action(%L, ''you'');', enable_id));
  end if;
  if leaving.enabled then
    perform actions_private.withdraw_running(disable_id, 'the action was disabled', actor);
    update actions_private.actions as a set enabled = false, updated_at = now() where a.id = disable_id;
    select * into after from actions.actions as a where a.action_id = disable_id;
    perform actions_private.write_audit(leaving, after, 'action.disabled', actor);
  end if;
  if coming.enabled then
    return coming;
  end if;
  perform actions_private.refuse_second_action(coming.project_id, coming.trigger, enable_id);
  update actions_private.actions as a set enabled = true, counting_since = clock_timestamp(), updated_at = now() where a.id = enable_id;
  select * into after from actions.actions as a where a.action_id = enable_id;
  perform actions_private.write_audit(coming, after, 'action.enabled', actor);
  return after;
end
$$;
comment on function actions.swap_action(text, text, text) is
  'Disables one action of a trigger and enables another in its place, in one transaction; returns the one that is enabled. Example: select * from actions.swap_action(''action_01JD3X6G8Q7N9V8R2M4T6W8Y0B'', ''action_01JD3X6G8Q7N9V8R2M4T6W8Y0C'', ''ada@acme.com'');';

create or replace function actions.reenable_action(action_id text, actor text default null) returns actions.actions
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  before constant actions.actions := actions_private.lock_action(action_id);
  after actions.actions;
begin
  if before.killed_at is null and before.enabled then
    return before;
  end if;
  perform actions_private.refuse_second_action(before.project_id, before.trigger, before.action_id);
  update actions_private.actions as a
  set killed_at = null, killed_reason = null, killed_by_hand = false, enabled = true, counting_since = clock_timestamp(), updated_at = now()
  where a.id = before.action_id;
  select * into after from actions.actions as a where a.action_id = before.action_id;
  perform actions_private.write_audit(before, after, 'action.reenabled', actor);
  return after;
end
$$;
comment on function actions.reenable_action(text, text) is
  'Takes back a kill and starts a fresh window. Example: select * from actions.reenable_action(''action_01JD3X6G8Q7N9V8R2M4T6W8Y0B'', ''ada@acme.com'');';

create or replace function actions.delete_action(action_id text, actor text default null) returns actions.actions
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  before constant actions.actions := actions_private.lock_action(action_id);
  after actions.actions := before;
begin
  after.enabled := false;
  after.updated_at := now();
  perform actions_private.withdraw_running(before.action_id, 'the action was deleted', actor);
  delete from actions_private.recorded_events as e where e.action_id = before.action_id;
  delete from actions_private.last_known as k where k.action_id = before.action_id;
  update actions_private.actions as a
  set deleted_at = now(), enabled = false, updated_at = now() where a.id = before.action_id;
  perform actions_private.write_audit(before, after, 'action.deleted', actor);
  return after;
end
$$;
comment on function actions.delete_action(text, text) is
  'Deletes an action for good; its invocations stay until the retention ends, those in flight are finished. Example: select * from actions.delete_action(''action_01JD3X6G8Q7N9V8R2M4T6W8Y0B'', ''ada@acme.com'');';
