-- What the leading janitor does to the database. Each duty proves the leadership itself:
-- a janitor that was paused and replaced finds that its epoch is over and does nothing.

create function actions_private.take_lead(janitor text, lease interval) returns bigint
language sql volatile
begin atomic
  -- Taking it from another starts a new epoch. Whoever renews late keeps his: nobody led meanwhile.
  update actions_private.leadership as l
  set epoch = l.epoch + case when l.holder is not distinct from janitor then 0 else 1 end,
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

-- Asked at every tick. No planner can know how few rows the last seconds are: whatever it guesses,
-- it must go by the index, or it reads the whole day, in parallel, every second. Of the actions it
-- reads those that were enabled again, by an index of their own: what was before does not count.
create function actions_private.recent_seconds(look_back_ms double precision) returns table (
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

create function actions_private.customers_of(action_ids text[]) returns table (action_id text, host text, project_id text)
language sql stable security definer set search_path = pg_catalog, pg_temp
begin atomic
  select a.id, lower(substring(v.endpoint_url from '://([[][^]]*[]]|[^/:?#]+)') collate "C"), a.project_id
  from actions_private.actions as a
  join actions_private.action_versions as v on v.action_id = a.id and v.version = a.version
  where a.id = any (action_ids);
end;
comment on function actions_private.customers_of(text[]) is
  'The host that each of these actions calls, and its project. Example: select * from actions_private.customers_of(array[''action_01JD3X6G8Q7N9V8R2M4T6W8Y0B'']);';

create function actions_private.hold_kills(epoch bigint, since timestamptz, why text) returns boolean
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

create function actions_private.free_kills(epoch bigint) returns boolean
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

create function actions_private.kill_action(
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
  where m.project_id = after.project_id and lower(m.role collate "C") in ('owner', 'admin'); -- a Turkish I would not become i
  return true;
end
$$;
comment on function actions_private.kill_action(bigint, text, timestamptz, text, json, text, text, text) is
  'Trips the kill-switch of an action: switch, audit event and mails; false if there was nothing to kill. Example: select actions_private.kill_action(7, ''action_01JD3X6G8Q7N9V8R2M4T6W8Y0B'', now(), ''100 consecutive 5xx responses'', ''{}'', ''subject'', ''text'', ''html'');';

create function actions_private.end_queued_of_killed(epoch bigint, look_back_ms integer) returns table (invocation_id text, reply_to text, outcome json)
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

create function actions_private.end_past_deadline(epoch bigint, look_back_ms integer) returns table (invocation_id text, reply_to text, outcome json)
language plpgsql set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
  at constant timestamptz := clock_timestamp();
  -- The shortest timeout is 100 ms, so younger invocations cannot be past their deadline.
  young constant text := 'inv_' || actions_private.id_time(at - interval '100 milliseconds');
  since constant text := coalesce('inv_' || actions_private.id_time(at - look_back_ms * interval '1 millisecond'), '');
  -- At its deadline a waiter ends it itself. When many do, the fleet is behind, and it is no help
  -- to hold their rows meanwhile.
  overdue constant timestamptz := at - interval '250 milliseconds';
begin
  if not actions_private.leads(epoch) then
    return;
  end if;
  return query
  select e.invocation_id, e.reply_to, e.outcome from actions_private.end_without_verdict(array(
    select q.id
    from actions_private.queue as q
    where q.id >= since and q.id < young and q.deadline_at < overdue
    order by q.id
    limit 5000
    for update of q skip locked
  ), 'expired', 'deadline_passed', 'the deadline passed before the fleet had a result') as e;
end
$$;
comment on function actions_private.end_past_deadline(bigint, integer) is
  'Ends what nobody ended in time; look_back_ms null looks at the whole queue, and so at everything that vacuum has not cleaned up. Example: select * from actions_private.end_past_deadline(7, null);';

create function actions_private.end_overlaps(epoch bigint) returns integer
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

create function actions_private.send_checks(epoch bigint) returns integer
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
