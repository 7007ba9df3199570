-- What the leading janitor does to the database. Each duty proves the leadership itself:
-- a janitor that was paused and replaced finds that its epoch is over and does nothing.

create function actions_private.take_lead(janitor text, lease interval) returns bigint
language sql volatile
begin atomic
  -- Keeping the lease keeps the epoch; taking it from another starts a new one.
  update actions_private.leadership as l
  set epoch = l.epoch + case when l.holder is not distinct from janitor and l.expires_at > pg_catalog.clock_timestamp() then 0 else 1 end,
    holder = janitor,
    expires_at = pg_catalog.clock_timestamp() + lease
  where l.holder is not distinct from janitor or l.expires_at <= pg_catalog.clock_timestamp()
  returning l.epoch;
end;
comment on function actions_private.take_lead(text, interval) is
  'Takes or keeps the lead; returns the epoch, or null while another leads. Example: select actions_private.take_lead(''janitor-1'', ''3 seconds'');';

create function actions_private.leads(epoch bigint) returns boolean
language sql volatile
begin atomic
  select exists (select from actions_private.leadership as l where l.epoch = leads.epoch and l.expires_at > pg_catalog.clock_timestamp() for share);
end;
comment on function actions_private.leads(bigint) is
  'Whether this epoch still leads; holds it for the rest of the transaction. Example: select actions_private.leads(7);';

create function actions_private.kill_action(
  epoch bigint, action_id text, counting_since timestamptz, reason text, figures json, subject text, text_body text, html_body text
) returns boolean
language plpgsql set search_path = pg_catalog, pg_temp
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
  -- Re-enabled, disabled or deleted since it was judged: that judgement is about another life.
  update actions_private.actions as a
  set killed_at = clock_timestamp(), killed_reason = reason, updated_at = clock_timestamp()
  where a.id = $2 and a.killed_at is null and a.enabled and a.deleted_at is null and a.counting_since = $3;
  if not found then
    return false;
  end if;
  select a.* into after from actions.actions as a where a.action_id = $2;
  insert into actions_private.audit_log (project_id, action_id, event, actor, details)
  values (after.project_id, $2, 'action.killed', 'system',
    json_build_object('reason', reason, 'figures', figures, 'before', before, 'after', after));
  insert into actions_private.mail_outbox (project_id, action_id, recipient, subject, text_body, html_body)
  select m.project_id, $2, m.email, subject, text_body, html_body
  from actions_private.project_members as m
  where m.project_id = after.project_id and lower(m.role) in ('owner', 'admin');
  return true;
end
$$;
comment on function actions_private.kill_action(bigint, text, timestamptz, text, json, text, text, text) is
  'Trips the kill-switch of an action: switch, audit event and mails; false if there was nothing to kill. Example: select actions_private.kill_action(7, ''action_01JD3X6G8Q7N9V8R2M4T6W8Y0B'', now(), ''100 consecutive 5xx responses'', ''{}'', ''subject'', ''text'', ''html'');';

create function actions_private.end_queued_of_killed(epoch bigint) returns table (invocation_id text, reply_to text, outcome json)
language plpgsql set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
begin
  if not actions_private.leads(epoch) then
    return;
  end if;
  return query
  select e.* from actions_private.end_without_verdict(array(
    select q.id
    from actions_private.queue as q
    join actions_private.actions as a on a.id = q.action_id
    where q.status = 'queued' and a.killed_at is not null and not q.test
    for update of q skip locked
  ), 'killed', 'the action was killed before this invocation was sent') as e;
end
$$;
comment on function actions_private.end_queued_of_killed(bigint) is
  'Ends what is queued for killed actions. Example: select * from actions_private.end_queued_of_killed(7);';

create function actions_private.end_past_deadline(epoch bigint) returns table (invocation_id text, reply_to text, outcome json)
language plpgsql set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
  -- The shortest timeout is 100 ms, so younger invocations cannot be past their deadline.
  young constant text := 'inv_' || actions_private.id_time(clock_timestamp() - interval '100 milliseconds');
begin
  if not actions_private.leads(epoch) then
    return;
  end if;
  return query
  select e.* from actions_private.end_without_verdict(array(
    select q.id
    from actions_private.queue as q
    where q.id < young and q.deadline_at < clock_timestamp()
    order by q.id
    limit 5000
    for update of q skip locked
  ), 'expired', 'the deadline passed before the fleet had a result') as e;
end
$$;
comment on function actions_private.end_past_deadline(bigint) is
  'Ends what nobody ended in time. Example: select * from actions_private.end_past_deadline(7);';
