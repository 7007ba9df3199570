-- Invocations by day, which outlive the invocations.

create or replace function actions_private.count_next() returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  since timestamptz := (select c.at from actions_private.counted_until as c for update);
  -- Nothing lives for longer than a few seconds, but what waits while the fleet is away is not decided yet.
  settled constant timestamptz := least(
    clock_timestamp() - interval '5 minutes',
    (select actions_private.id_moment(q.id) from actions_private.queue as q order by q.id limit 1));
  -- Views add up the rest themselves, so it is short; whoever is far behind takes longer steps.
  a_while constant interval := case when settled - since < interval '1 hour' then interval '1 minute' else interval '10 minutes' end;
  -- Nothing happened before.
  next constant timestamptz := coalesce((
    select actions_private.id_moment(i.id) from actions_private.invocations as i
    where i.id >= coalesce((select c.next_id from actions_private.counted_until as c), '') order by i.id limit 1), settled);
begin
  since := greatest(since, date_bin(a_while, least(next, settled), '2000-01-01 00:00:00+00'));
  if since + a_while > settled then
    update actions_private.counted_until as c set at = since, next_id = 'inv_' || actions_private.id_time(since);
    return false;
  end if;
  insert into actions_private.daily_counts as d (day, project_id, action_id, trigger, status, test, invocations, called, duration_ms)
  select (since at time zone 'UTC')::date, i.project_id, i.action_id, i.trigger, i.status, i.test, count(*), count(i.duration_ms), coalesce(sum(i.duration_ms), 0)
  from actions_private.invocations as i
  where i.id >= 'inv_' || actions_private.id_time(since) and i.id < 'inv_' || actions_private.id_time(since + a_while)
  group by i.project_id, i.action_id, i.trigger, i.status, i.test
  on conflict (action_id, day, status, test) do update
    set invocations = d.invocations + excluded.invocations, called = d.called + excluded.called, duration_ms = d.duration_ms + excluded.duration_ms;
  insert into actions_private.traffic as t (minute, statuses, called, call_p50_ms, call_p99_ms, overhead_p50_ms, overhead_p99_ms)
  select since,
    (select coalesce(json_object_agg(s.status, s.invocations order by s.status), '{}') from (
      select i.status, count(*) as invocations from actions_private.invocations as i
      where i.id >= 'inv_' || actions_private.id_time(since) and i.id < 'inv_' || actions_private.id_time(since + a_while) and not i.test
      group by i.status) as s),
    q.*
  from (
    select count(*), percentile_cont(0.5) within group (order by c.call_ms), percentile_cont(0.99) within group (order by c.call_ms),
      percentile_cont(0.5) within group (order by c.whole_ms - c.call_ms), percentile_cont(0.99) within group (order by c.whole_ms - c.call_ms)
    from (
      select i.duration_ms as call_ms, extract(epoch from i.finished_at - i.enqueued_at)::double precision * 1000 as whole_ms
      from actions_private.invocations as i
      where i.id >= 'inv_' || actions_private.id_time(since) and i.id < 'inv_' || actions_private.id_time(since + a_while)
        and not i.test and i.duration_ms is not null
      order by i.id
      limit 20000) as c
  ) as q
  on conflict (minute) do nothing;
  delete from actions_private.traffic as t where t.minute < since - interval '8 days';
  update actions_private.counted_until as c set at = since + a_while, next_id = 'inv_' || actions_private.id_time(since + a_while);
  return true;
end
$$;
comment on function actions_private.count_next() is
  'Adds up the next minutes that are over; false where there are none yet. Example: select actions_private.count_next();';

create or replace view actions.daily_counts as
select day, project_id, action_id, trigger, status, test, sum(invocations)::bigint as invocations, sum(duration_ms) / nullif(sum(called), 0) as mean_duration_ms
from (
  select d.* from actions_private.daily_counts as d
  union all
  -- What was not added up yet: the last minutes, in the two parts that have an index by action and
  -- moment each; whatever was enqueued since then also ended since then, give or take clocks. Of a
  -- range the planner expects little, where of a lower bound alone it expects a third of the history.
  select (i.enqueued_at at time zone 'UTC')::date, i.project_id, i.action_id, i.trigger, i.status::text, i.test, 1, (i.duration_ms is not null)::integer,
    coalesce(i.duration_ms, 0)
  from actions_private.invocations as i
  where i.id >= coalesce((select c.next_id from actions_private.counted_until as c), '')
    and i.finished_at between coalesce((select c.at - interval '1 minute' from actions_private.counted_until as c), '-infinity') and 'infinity' and not i.test and i.status not in ('killed', 'expired')
  union all
  select (i.enqueued_at at time zone 'UTC')::date, i.project_id, i.action_id, i.trigger, i.status::text, i.test, 1, (i.duration_ms is not null)::integer,
    coalesce(i.duration_ms, 0)
  from actions_private.invocations as i
  where i.id >= coalesce((select c.next_id from actions_private.counted_until as c), '')
    and i.finished_at between coalesce((select c.at - interval '1 minute' from actions_private.counted_until as c), '-infinity') and 'infinity' and (i.test or i.status in ('killed', 'expired'))
) as counts
group by day, project_id, action_id, trigger, status, test;
comment on view actions.daily_counts is
  'Invocations by day (UTC), action and status, also of days whose invocations are past the retention. Example: select day, status, invocations from actions.daily_counts where action_id = ''action_01JD3X6G8Q7N9V8R2M4T6W8Y0B'' order by day desc;';

create or replace view actions.traffic as
select t.minute, t.statuses, t.called, t.call_p50_ms, t.call_p99_ms, t.overhead_p50_ms, t.overhead_p99_ms
from actions_private.traffic as t;
comment on view actions.traffic is
  'What the fleet did in each minute of the last eight days: how many invocations ended with which status, without tests, and how long calls and everything else took. A minute is there five minutes after it is over. Example: select minute, called, call_p99_ms, overhead_p99_ms from actions.traffic order by minute desc limit 60;';
