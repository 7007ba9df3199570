-- Rotating a secret without downtime, and trying an action without a person waiting.
--
-- A secret is derived from a root key, the action's id and a version; what happens here
-- is only that the version grows. Until the overlap ends both versions count.

create or replace function actions.rotate_secret(action_id text, actor text default null, overlap interval default '24 hours') returns actions.actions
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  before constant actions.actions := actions_private.lock_action(action_id);
  after actions.actions;
begin
  if overlap is null or overlap < interval '0' or overlap > interval '30 days' then
    perform actions_private.refuse(format('overlap is %s', coalesce(overlap::text, 'null')),
      'Accepted is 0 to 30 days.', 'The default is 24 hours; 0 ends the previous secret at once.');
  end if;
  update actions_private.actions as a
  set secret_version = a.secret_version + 1, secret_key_id = null, secret_sha256 = null, secret_seen_at = null,
    previous_secret_version = case when overlap > interval '0' then a.secret_version end,
    previous_secret_key_id = case when overlap > interval '0' then a.secret_key_id end,
    previous_secret_until = case when overlap > interval '0' then clock_timestamp() + overlap end,
    updated_at = now()
  where a.id = before.action_id;
  select * into after from actions.actions as a where a.action_id = before.action_id;
  perform actions_private.write_audit(before, after, 'action.secret_rotated', actor);
  perform pg_notify('actions_queue', 'secrets') where actions_private.may_notify();
  return after;
end
$$;
comment on function actions.rotate_secret(text, text, interval) is
  'Gives an action a new secret; requests carry signatures of both until the overlap ends or an answer signed with the new one arrives. Within an overlap the secret before the previous one stops counting at once. Example: select * from actions.rotate_secret(''action_01JD3X6G8Q7N9V8R2M4T6W8Y0B'', ''ada@acme.com'', ''24 hours'');';

create or replace function actions.finish_rotation(action_id text, actor text default null) returns actions.actions
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  before constant actions.actions := actions_private.lock_action(action_id);
  after actions.actions;
begin
  if before.previous_secret_version is null then
    return before; -- the overlap has ended by itself, or there was none
  end if;
  update actions_private.actions as a
  set previous_secret_version = null, previous_secret_key_id = null, previous_secret_until = null, updated_at = now()
  where a.id = before.action_id;
  select * into after from actions.actions as a where a.action_id = before.action_id;
  perform actions_private.write_audit(before, after, 'action.rotation_finished', actor);
  return after;
end
$$;
comment on function actions.finish_rotation(text, text) is
  'Ends the overlap of a rotation: only the new secret counts from here on. Example: select * from actions.finish_rotation(''action_01JD3X6G8Q7N9V8R2M4T6W8Y0B'', ''ada@acme.com'');';

create or replace function actions.record_secret(action_id text, secret_version integer, key_id text, sha256 text) returns text
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
  before constant actions.actions := actions_private.lock_action(action_id);
begin
  if key_id is null or key_id !~ '^[A-Za-z0-9_-]{1,64}$' or sha256 is null or sha256 !~ '^[0-9a-f]{64}$' then
    perform actions_private.refuse('key_id or sha256 has a wrong form',
      'Accepted are a root key''s id and 64 lower-case hex characters.', 'actionsctl action secret records both by itself.');
  end if;
  if secret_version is distinct from before.secret_version then
    perform actions_private.refuse(format('secret_version is %s', coalesce(secret_version::text, 'null')),
      format('Accepted is the current version, %s.', before.secret_version), 'Look at the action again: it was rotated meanwhile.');
  end if;
  -- The first holder of root keys decides which key it is.
  update actions_private.actions as a
  set secret_key_id = key_id, secret_sha256 = sha256,
    previous_secret_key_id = case when a.previous_secret_version is not null then coalesce(a.previous_secret_key_id, key_id) end
  where a.id = before.action_id and a.secret_key_id is null;
  return (select a.secret_key_id from actions_private.actions as a where a.id = before.action_id);
end
$$;
comment on function actions.record_secret(text, integer, text, text) is
  'Records which root key derives a new secret, and its fingerprint, unless somebody has; returns the key that counts. Example: select actions.record_secret(''action_01JD3X6G8Q7N9V8R2M4T6W8Y0B'', 1, ''k1'', encode(sha256(''asec_''), ''hex''));';

-- No lock: whoever reads a secret holds up nobody who changes the action.
create or replace function actions.note_secret_revealed(action_id text, actor text default null) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  insert into actions_private.audit_log (project_id, action_id, event, actor, details)
  select a.project_id, a.action_id, 'action.secret_revealed', note_secret_revealed.actor,
    json_build_object('secret_version', a.secret_version, 'secret_key_id', a.secret_key_id)
  from actions.actions as a where a.action_id = note_secret_revealed.action_id;
  if not found then
    perform actions_private.refuse(format('action_id is %s', coalesce(quote_literal(left(action_id, 100)), 'null')),
      'Accepted is the id of an action that is not deleted.', 'List them with: select action_id, name from actions.actions;');
  end if;
end
$$;
comment on function actions.note_secret_revealed(text, text) is
  'Writes the audit event action.secret_revealed; whoever shows a signing secret again calls it first. Example: select actions.note_secret_revealed(''action_01JD3X6G8Q7N9V8R2M4T6W8Y0B'', ''ada@acme.com'');';

create or replace function actions_private.end_overlaps(epoch bigint) returns integer
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  ended text;
  before actions.actions;
  after actions.actions;
  count integer := 0;
begin
  if not actions_private.leads(epoch) then
    return 0;
  end if;
  for ended in
    select a.id from actions_private.actions as a where a.previous_secret_until <= clock_timestamp() and a.deleted_at is null
    limit 100 for update skip locked
  loop
    select a.* into before from actions.actions as a where a.action_id = ended;
    update actions_private.actions as a
    set previous_secret_version = null, previous_secret_key_id = null, previous_secret_until = null, updated_at = clock_timestamp()
    where a.id = ended;
    select a.* into after from actions.actions as a where a.action_id = ended;
    perform actions_private.write_audit(before, after, 'action.rotation_finished', 'system');
    count := count + 1;
  end loop;
  return count;
end
$$;
comment on function actions_private.end_overlaps(bigint) is
  'Writes down that rotations whose time is over are finished; returns how many. Workers stop signing with the previous secret by themselves. Example: select actions_private.end_overlaps(7);';
