-- Ending what is past its deadline.

create or replace function actions_private.end_past_deadline(epoch bigint, look_back_ms integer) returns table (invocation_id text, reply_to text, outcome json)
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
