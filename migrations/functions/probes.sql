-- A killed action that takes itself back, and warnings before a kill.

-- A mail in plain words; owners alone, or admins as well.
create or replace function actions_private.write_mail(project_id text, action_id text, subject text, body text, owners_alone boolean) returns void
language sql volatile set search_path = pg_catalog, pg_temp
begin atomic
  insert into actions_private.mail_outbox (project_id, action_id, recipient, subject, text_body, html_body)
  select write_mail.project_id, write_mail.action_id, m.email, regexp_replace(write_mail.subject, '[[:cntrl:]]+', ' ', 'g'), write_mail.body,
    '<p>' || replace(replace(replace(replace(replace(write_mail.body, '&', '&amp;'), '<', '&lt;'), '>', '&gt;'), E'\n\n', '</p><p>'), E'\n', '<br>') || '</p>'
  from actions_private.project_members as m
  where m.project_id = write_mail.project_id
    and (lower(m.role collate "C") = 'owner' or lower(m.role collate "C") = 'admin' and not write_mail.owners_alone);
end;
comment on function actions_private.write_mail(text, text, text, text, boolean) is
  'Puts a mail to the people of a project into the outbox. Example: select actions_private.write_mail(''proj_acme_prod'', null, ''Break-glass was changed'', ''By ada@acme.com.'', true);';

-- The third kill within an hour says that test events tell nothing of this endpoint.
create or replace function actions_private.end_probing(action actions.actions) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  after actions.actions;
  base actions_private.action_versions;
begin
  if action.recovery <> 'probe' or (
    select count(*) from actions_private.audit_log as l
    where l.action_id = action.action_id and l.event = 'action.killed' and l.actor = 'system' and l.at > clock_timestamp() - interval '1 hour') < 3
  then
    return;
  end if;
  perform actions_private.withdraw_running(action.action_id, 'the action was updated', 'system');
  base := actions_private.changed_version(action, '{"recovery": "manual"}', 'system');
  insert into actions_private.action_versions select base.*;
  perform actions_private.use_version(action.action_id, base.version);
  select * into after from actions.actions as a where a.action_id = action.action_id;
  perform actions_private.write_audit(action, after, 'action.updated', 'system');
end
$$;
comment on function actions_private.end_probing(actions.actions) is
  'Makes the recovery of an action manual that was killed three times within an hour. Example: select actions_private.end_probing(a) from actions.actions as a limit 1;';

create or replace function actions_private.probe(epoch bigint, every_s integer) returns integer
language plpgsql security definer set search_path = pg_catalog, pg_temp
set lock_timeout = '500ms'
as $$
declare
  killed record;
  before actions.actions;
  after actions.actions;
  last record;
  count integer := 0;
begin
  if not actions_private.leads(epoch) or not exists (select from actions_private.actions as a where a.killed_at is not null and not a.killed_by_hand) then
    return 0;
  end if;
  for killed in
    select a.id, a.killed_at
    from actions_private.actions as a
    join actions_private.action_versions as v on v.action_id = a.id and v.version = a.version
    where a.killed_at is not null and not a.killed_by_hand and a.enabled and a.deleted_at is null and v.recovery = 'probe'
    order by a.id
    limit 500
  loop
    select p.*, i.status::text as status into last
    from actions_private.probes as p
    left join actions_private.invocations as i on i.id = p.invocation_id
    where p.action_id = killed.id and p.killed_at = killed.killed_at;
    if found and last.status is not null and not last.is_counted then
      -- The fleet's own fault says nothing of the endpoint.
      last.oks := case last.status when 'ok' then last.oks + 1 when 'expired' then last.oks else 0 end;
      update actions_private.probes as p set oks = last.oks, is_counted = true where p.action_id = killed.id;
      if last.oks >= 5 then
        begin
          before := actions_private.lock_action(killed.id);
        exception when lock_not_available then
          update actions_private.probes as p set oks = 4, is_counted = false where p.action_id = killed.id;
          continue; -- somebody is changing it; the others do not wait
        end;
        update actions_private.actions as a
        set killed_at = null, killed_reason = null, counting_since = clock_timestamp(), updated_at = now()
        where a.id = killed.id and a.killed_at = killed.killed_at and not a.killed_by_hand;
        continue when not found;
        select * into after from actions.actions as a where a.action_id = killed.id;
        perform actions_private.write_audit(before, after, 'action.reenabled', 'system');
        perform actions_private.write_mail(after.project_id, after.action_id, format('Action "%s" is called again', after.name),
          format('The kill of "%s" (%s, project %s) was taken back: five test events in a row ended ok.

Events go to its endpoint again. It had been switched off because: %s.',
            after.name, after.trigger, after.project_id, before.killed_reason), false);
        count := count + 1;
        continue;
      end if;
    end if;
    continue when found and (last.sent_at > clock_timestamp() - every_s * interval '1 second' or last.status is null and last.sent_at > clock_timestamp() - interval '10 seconds');
    begin
      before := actions_private.lock_action(killed.id);
    exception when lock_not_available then
      continue;
    end;
    continue when before.killed_at is distinct from killed.killed_at;
    insert into actions_private.probes as p (action_id, killed_at, sent_at, invocation_id)
    select before.action_id, killed.killed_at, clock_timestamp(), t.invocation_id from actions_private.enqueue_test(before, null) as t
    on conflict (action_id) do update
      set killed_at = excluded.killed_at, sent_at = excluded.sent_at, invocation_id = excluded.invocation_id, is_counted = false,
        oks = case when p.killed_at = excluded.killed_at then p.oks else 0 end;
  end loop;
  return count;
end
$$;
comment on function actions_private.probe(bigint, integer) is
  'Sends a test event to each killed action whose recovery is probe and whose last one was every_s ago, and takes back the kill of those whose last five ended ok; returns how many. Example: select actions_private.probe(7, 30);';

create or replace function actions_private.warn(epoch bigint, action_id text, why text, figures json) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp
set lock_timeout = '500ms'
as $$
#variable_conflict use_variable
declare
  action actions.actions;
begin
  if not actions_private.leads(epoch) then
    return false;
  end if;
  select * into action from actions.actions as a where a.action_id = warn.action_id and a.enabled and a.killed_at is null;
  if not found or exists (
    select from actions_private.audit_log as l
    where l.action_id = warn.action_id and l.event = 'action.warned' and l.at > clock_timestamp() - interval '1 hour')
  then
    return false;
  end if;
  insert into actions_private.audit_log (project_id, action_id, event, actor, details)
  values (action.project_id, action_id, 'action.warned', 'system', json_build_object('reason', why, 'figures', figures));
  perform actions_private.write_mail(action.project_id, action_id, format('Action "%s" is close to being switched off', action.name),
    format('"%s" (%s, project %s) fails often: %s.

Where it goes on like this, the kill-switch takes it out of the way, and events are decided by "On killed".

Endpoint: %s',
      action.name, action.trigger, action.project_id, why, action.endpoint_url), false);
  return true;
end
$$;
comment on function actions_private.warn(bigint, text, text, json) is
  'Tells owners and admins, at most once an hour, that an action is close to a kill; false where they were told. Example: select actions_private.warn(7, ''action_01JD3X6G8Q7N9V8R2M4T6W8Y0B'', ''40 % of 200 calls failed'', ''{}'');';
