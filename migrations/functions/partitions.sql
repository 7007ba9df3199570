-- The history, a partition a day: made ahead, dropped when it is old.

create or replace function actions_private.make_partition(day date) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp
-- Behind whoever waits for a lock on the history, every worker would wait, too.
set lock_timeout = '500ms'
as $$
declare
  partition constant text := 'invocations_' || to_char(day, 'YYYYMMDD');
  lower_id constant text := 'inv_' || actions_private.id_time(day::timestamp at time zone 'UTC');
  upper_id constant text := 'inv_' || actions_private.id_time((day + 1)::timestamp at time zone 'UTC');
begin
  perform pg_advisory_xact_lock(hashtext('actions_private.invocations partitions'));
  if to_regclass('actions_private.' || partition) is not null then
    return false;
  end if;
  execute format('create table actions_private.%I (like actions_private.invocations including all)', partition);
  -- A day that fills is analyzed again every few seconds. The usual sample, 30,000 rows, takes
  -- half a second of a core each time, and people wait behind it.
  execute format('alter table actions_private.%I %s', partition, (
    select string_agg(format('alter %I set statistics 10', a.attname), ', ')
    from pg_attribute as a where a.attrelid = 'actions_private.invocations'::regclass and a.attnum > 0 and not a.attisdropped));
  -- Rows of this day that the net caught move into their own partition.
  execute format(
    'with caught as (delete from actions_private.invocations_default where id >= %L and id < %L returning *)
     insert into actions_private.%I select * from caught', lower_id, upper_id, partition);
  execute format(
    'alter table actions_private.invocations attach partition actions_private.%I for values from (%L) to (%L)',
    partition, lower_id, upper_id);
  return true;
end
$$;
comment on function actions_private.make_partition(date) is
  'Makes the partition of a day (UTC), with what the default partition holds of it; false if it is there. Example: select actions_private.make_partition(current_date);';

-- The days ahead come first: a day that cannot be made because of what the net caught must not keep
-- the next ones from being there in time.
create or replace function actions_private.days_to_make(days_ahead integer, keep_days integer) returns setof date
language sql stable security definer set search_path = pg_catalog, pg_temp
begin atomic
  select d.day
  from (
    select ahead.n as turn, (now() at time zone 'UTC')::date + ahead.n as day from generate_series(0, days_ahead) as ahead (n)
    union
    select 1000000, (actions_private.id_moment(i.id) at time zone 'UTC')::date
    from (select c.id from actions_private.invocations_default as c order by c.id desc limit 100000) as i
    where i.id >= 'inv_' || actions_private.id_time(now() - keep_days * interval '1 day') and i.id < 'inv_' || actions_private.id_time(now())
  ) as d
  where to_regclass('actions_private.invocations_' || to_char(d.day, 'YYYYMMDD')) is null
  group by d.day
  order by min(d.turn), d.day;
end;
comment on function actions_private.days_to_make(integer, integer) is
  'Days whose partition is missing: from today to days_ahead days from now, then those of which the default partition holds rows that are kept. Example: select * from actions_private.days_to_make(7, 30);';

create or replace function actions_private.sweep_default(keep_days integer) returns bigint
language sql volatile security definer set search_path = pg_catalog, pg_temp
begin atomic
  with gone as (
    delete from actions_private.invocations_default as d
    where d.ctid = any (array(
      select i.ctid from actions_private.invocations_default as i
      where keep_days >= 1
        and i.id < 'inv_' || actions_private.id_time(now() - keep_days * interval '1 day')
        and i.id < (select c.next_id from actions_private.counted_until as c)
      order by i.id limit 10000))
    returning 1
  )
  select count(*) from gone;
end;
comment on function actions_private.sweep_default(integer) is
  'Deletes up to 10,000 rows of the default partition that are past the retention and added up; returns how many. Example: select actions_private.sweep_default(30);';

create or replace function actions_private.drop_partitions(keep_days integer) returns integer
language plpgsql security definer set search_path = pg_catalog, pg_temp
set lock_timeout = '500ms'
as $$
declare
  -- What was not added up yet is never dropped.
  oldest constant text := 'invocations_' || to_char(least(
    (now() at time zone 'UTC')::date - keep_days, coalesce((select (c.at at time zone 'UTC')::date from actions_private.counted_until as c), date '0001-01-01')), 'YYYYMMDD');
  partition text;
  dropped integer := 0;
begin
  if keep_days is null or keep_days < 1 then
    raise exception 'keep_days is %, accepted is 1 or more', coalesce(keep_days::text, 'null')
      using errcode = '22023', hint = 'Set retention.days to the whole days of history to keep.';
  end if;
  for partition in
    select c.relname
    from pg_inherits as i
    join pg_class as c on c.oid = i.inhrelid
    where i.inhparent = 'actions_private.invocations'::regclass
      and c.relname ~ '^invocations_[0-9]{8}$' and c.relname < oldest
  loop
    execute format('drop table actions_private.%I', partition);
    dropped := dropped + 1;
  end loop;
  return dropped;
end
$$;
comment on function actions_private.drop_partitions(integer) is
  'Drops partitions whose whole day is more than keep_days days ago; returns how many. Example: select actions_private.drop_partitions(30);';
