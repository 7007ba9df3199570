-- What is kept for a time, a few thousand rows at a time.

create or replace function actions_private.forget_old(audit_days integer, mail_days integer, counts_days integer, most integer default 5000) returns bigint
language plpgsql security definer set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_custom_plan set jit = off
as $$
declare
  gone bigint;
  sum bigint := 0;
begin
  if least(audit_days, mail_days, counts_days) is null or least(audit_days, mail_days, counts_days) < 1 then
    perform actions_private.refuse('a retention is less than a day', 'Accepted are 1 or more days each.', 'See retention.* of the janitor''s configuration.');
  end if;
  delete from actions_private.audit_log as l
  where l.id = any (array(
    select c.id from actions_private.audit_log as c where c.at < now() - audit_days * interval '1 day' order by c.at limit most));
  get diagnostics gone = row_count;
  sum := sum + gone;
  -- What was not sent yet waits for as long as it takes.
  delete from actions_private.mail_outbox as m
  where m.id = any (array(
    select c.id from actions_private.mail_outbox as c
    where coalesce(c.sent_at, c.refused_at) < now() - mail_days * interval '1 day' order by c.id limit most));
  get diagnostics gone = row_count;
  sum := sum + gone;
  delete from actions_private.daily_counts as d
  where d.ctid = any (array(
    select c.ctid from actions_private.daily_counts as c where c.day < (now() at time zone 'UTC')::date - counts_days order by c.day limit most));
  get diagnostics gone = row_count;
  return sum + gone;
end
$$;
comment on function actions_private.forget_old(integer, integer, integer, integer) is
  'Deletes audit events, mails that were sent or given up, and daily counts that are older than so many days; returns how many. Example: select actions_private.forget_old(400, 30, 1825);';
