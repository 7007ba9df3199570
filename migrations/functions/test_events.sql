-- Made-up events on the real path, by hand and by the clock.

create or replace function actions_private.sample_event(trigger text) returns json
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

create or replace function actions_private.enqueue_test(action actions.actions, reply_to text)
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
    select actions_private.new_id('inv_') as id, action.timeout_ms + s.queue_allowance_ms as wait_ms
    from actions_private.settings as s
  ), queued as (
    insert into actions_private.queue
      (id, project_id, trigger, action_id, action_version, test, event, reply_to, server_epoch, enqueued_at, deadline_at)
    select a.id, action.project_id, action.trigger, action.action_id, action.version, true,
      actions_private.sample_event(action.trigger), enqueue_test.reply_to, actions_private.current_server_epoch(), at, at + a.wait_ms * interval '1 millisecond'
    from asked as a
  )
  select a.id, 'evt_' || substr(a.id, 5), action.action_id, 'queued', null::json, a.wait_ms from asked as a;
end
$$;
comment on function actions_private.enqueue_test(actions.actions, text) is
  'Queues a made-up event for an action, whatever its switches say. Example: select t.* from actions.actions as a, actions_private.enqueue_test(a, ''dashboard_1'') as t limit 1;';

create or replace function actions.send_test_event(action_id text, reply_to text default null)
returns setof actions.answer
language sql volatile security definer set search_path = pg_catalog, pg_temp
begin atomic
  select t.* from actions_private.lock_action($1) as a, actions_private.enqueue_test(a, $2) as t;
end;
comment on function actions.send_test_event(text, text) is
  'Sends a made-up event with metadata.test = true on the real path, also to a disabled or killed action. Example: select * from actions.send_test_event(''action_01JD3X6G8Q7N9V8R2M4T6W8Y0B'', ''dashboard_1'');';

create or replace function actions_private.send_checks(epoch bigint) returns integer
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  action actions.actions;
  sent text;
  count integer := 0;
begin
  if not actions_private.leads(epoch) then
    return 0;
  end if;
  for action in
    select a.*
    from actions_private.action_versions as v
    join actions.actions as a on a.action_id = v.action_id and a.version = v.version
    left join actions_private.checks as c on c.action_id = v.action_id
    where v.check_every_s > 0 and a.enabled
      and (c.sent_at is null or c.sent_at <= clock_timestamp() - v.check_every_s * interval '1 second')
    order by c.sent_at nulls first
    limit 500
  loop
    select t.invocation_id into sent from actions_private.enqueue_test(action, null) as t;
    insert into actions_private.checks as c (action_id, sent_at, invocation_id) values (action.action_id, clock_timestamp(), sent)
    on conflict (action_id) do update
      set sent_at = excluded.sent_at, invocation_id = excluded.invocation_id, previous_invocation_id = c.invocation_id;
    count := count + 1;
  end loop;
  return count;
end
$$;
comment on function actions_private.send_checks(bigint) is
  'Sends a test event to every action whose check_every_s is over, also to killed ones; returns how many. Example: select actions_private.send_checks(7);';
