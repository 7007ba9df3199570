-- Rotating a secret without downtime, and trying an action without a person waiting.
--
-- A secret is derived from a root key, the action's id and a version; what happens here
-- is only that the version grows. Until the overlap ends both versions count.

create function actions.rotate_secret(action_id text, actor text default null, overlap interval default '24 hours') returns actions.actions
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

create function actions.finish_rotation(action_id text, actor text default null) returns actions.actions
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

create function actions.record_secret(action_id text, secret_version integer, key_id text, sha256 text) returns text
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
create function actions.note_secret_revealed(action_id text, actor text default null) returns void
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

create function actions_private.sample_event(trigger text) returns json
language sql immutable parallel safe
return pg_catalog.json_strip_nulls(pg_catalog.json_build_object(
  'user', case when trigger = 'pre_register'
    then pg_catalog.json_build_object('email', 'test@example.com', 'email_verified', false)
    else pg_catalog.json_build_object('id', 'user_test', 'email', 'test@example.com', 'email_verified', true) end,
  'session', case when trigger in ('pre_token_mint', 'post_token_mint')
    then pg_catalog.json_build_object('id', 'sess_test', 'organization_id', 'org_test') end,
  'token', case when trigger in ('pre_token_mint', 'post_token_mint')
    then pg_catalog.json_build_object('token_type', 'user', 'roles', pg_catalog.json_build_array('member'),
      'permissions', pg_catalog.json_build_array(), 'ttl_seconds', 900) end,
  'request', pg_catalog.json_build_object('ip', '192.0.2.1', 'user_agent', 'Authio-Actions test event'),
  'metadata', pg_catalog.json_build_object('test', true)));
comment on function actions_private.sample_event(text) is
  'The made-up event of a trigger. Example: select actions_private.sample_event(''pre_token_mint'');';

create function actions_private.enqueue_test(action actions.actions, reply_to text)
returns setof actions.answer
language plpgsql set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  at constant timestamptz := clock_timestamp();
begin
  if not actions_private.is_reply_to(reply_to) then
    perform actions_private.refuse_reply_to(reply_to);
  end if;
  if actions_private.may_notify() then
    perform pg_notify('actions_queue', '');
  end if;
  return query
  with asked as (
    select actions_private.new_id('inv_') as id, actions_private.new_id('evt_') as event_id, action.timeout_ms + s.queue_allowance_ms as wait_ms
    from actions_private.settings as s
  ), queued as (
    insert into actions_private.queue
      (id, event_id, project_id, trigger, action_id, action_version, test, event, reply_to, enqueued_at, deadline_at)
    select a.id, a.event_id, action.project_id, action.trigger, action.action_id, action.version, true,
      actions_private.sample_event(action.trigger), enqueue_test.reply_to, at, at + a.wait_ms * interval '1 millisecond'
    from asked as a
  )
  select a.id, a.event_id, action.action_id, 'queued', null::json, a.wait_ms from asked as a;
end
$$;
comment on function actions_private.enqueue_test(actions.actions, text) is
  'Queues a made-up event for an action, whatever its switches say. Example: select t.* from actions.actions as a, actions_private.enqueue_test(a, ''dashboard_1'') as t limit 1;';

create function actions.send_test_event(action_id text, reply_to text default null)
returns setof actions.answer
language sql volatile security definer set search_path = pg_catalog, pg_temp
begin atomic
  select t.* from actions_private.lock_action($1) as a, actions_private.enqueue_test(a, $2) as t;
end;
-- Checks that nobody asks for one by one: an action opts in by check_every_s. Without a foreign
-- key, which would wait for whoever is changing the action.
create table actions_private.checks (
  action_id              text        collate "C" not null primary key,
  sent_at                timestamptz not null,
  invocation_id          text        collate "C" not null,
  previous_invocation_id text        collate "C"
);
comment on table actions_private.checks is
  'The last two test events that the janitor sent to an action that opted in: the last may still run.';

comment on function actions.send_test_event(text, text) is
  'Sends a made-up event with metadata.test = true on the real path, also to a disabled or killed action. Example: select * from actions.send_test_event(''action_01JD3X6G8Q7N9V8R2M4T6W8Y0B'', ''dashboard_1'');';
