-- The life of an invocation: one event, sent or to be sent to one action.
--
--                 actions_private.queue                  actions_private.invocations
--            ┌──────────────────────────────┐           ┌─────────────────────────────┐
--   enqueue ─┼─▶ queued ── claim ─▶ running ─┼─ complete ▶ ok, rejected, timeout, …     │
--            │     │  │  (worker)      │    │  (worker) │                             │
--            │     │  └────────────────┴────┼─ abandon ─▶ expired                      │
--            │     │  (waiter, or janitor)  │           │                             │
--            │     └────────────────────────┼─ kill ────▶ killed                       │
--            └──────────────────────────────┘  (janitor)└─────────────────────────────┘
--   enqueue of a killed action ────────────────────────▶ killed
--
-- An invocation is in exactly one of the two tables. Ending it deletes the row from
-- `queue` and inserts one into `invocations` in one statement: whoever deletes the
-- row decides, and nobody can decide twice.
--
-- No column repeats what another says, and what can be wrong is a type, not a CHECK: PostgreSQL
-- reads and plans a CHECK anew in every statement that writes, which was a tenth of an event.
--
-- Why two tables: `queue` holds only what is alive, so claiming stays fast however
-- long the history is; the history is only ever appended to; and the event, which is
-- full of personal data, is gone as soon as its outcome stands.

-- The fleet claims without waiting for the disk, so a crash of the server may forget that an
-- event was sent. It also empties unlogged tables, as does the promotion of a standby: after
-- either the one row here is gone and another life begins. Nobody claims what was enqueued
-- in an earlier life; it ends as expired, and no event is sent twice. An orderly restart
-- keeps both the row and every claim.
--
-- A dump, a template or a logical replica copies the rows of the queue, whose events the original
-- sends. So a life also names the server and the database in which it began, and in any other
-- another one begins.
create unlogged table actions_private.life (
  only_row boolean not null primary key default true,
  id       uuid    not null default gen_random_uuid(),
  server   bigint  not null,
  database oid     not null,
  constraint there_is_only_one_row check (only_row)
);
comment on table actions_private.life is
  'One row, which a crash of the server erases: what was enqueued before may have been sent already.';
comment on column actions_private.life.server is
  'The system identifier of the server in which this life began.';
comment on column actions_private.life.database is
  'The database in which this life began.';

create function actions_private.current_life() returns uuid
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  this_server constant bigint := (select c.system_identifier from pg_control_system() as c);
  this_database constant oid := (select d.oid from pg_database as d where d.datname = current_database());
  life uuid;
begin
  select l.id into life from actions_private.life as l where l.server = this_server and l.database = this_database;
  if not found then
    delete from actions_private.life as l where l.server <> this_server or l.database <> this_database;
    insert into actions_private.life (server, database) values (this_server, this_database) on conflict do nothing;
    select l.id into life from actions_private.life as l;
  end if;
  return life;
end
$$;
comment on function actions_private.current_life() is
  'The present life of this database; begins one after a crash and in a copy. Every worker asks before it claims, and with each heartbeat. Example: select actions_private.current_life();';

create table actions_private.queue (
  id               text        collate "C" not null primary key,
  event_id         text        collate "C" not null,
  project_id       text        not null,
  trigger          text        not null,
  action_id        text        collate "C" not null,
  action_version   integer     not null,
  test             boolean     not null,
  event            json        not null,
  reply_to         text,
  life             uuid        not null default actions_private.current_life(),
  enqueued_at      timestamptz not null,
  deadline_at      timestamptz not null,
  claim_token      uuid,
  claimed_at       timestamptz,
  worker           text
) with (
  -- Claiming is a HOT update: no index names the columns it changes, and each page has
  -- room for the second version of its rows, which is longer by token and worker.
  fillfactor = 40,
  autovacuum_vacuum_threshold = 1000,
  autovacuum_vacuum_scale_factor = 0,
  autovacuum_vacuum_insert_threshold = -1,
  autovacuum_vacuum_cost_delay = 0,
  -- Nobody plans by its statistics, and new ones make every cached plan anew.
  autovacuum_analyze_threshold = 2147483647,
  -- Giving pages back at the table's end takes an exclusive lock while people wait.
  vacuum_truncate = false
);
comment on table actions_private.queue is
  'Invocations that are not decided yet: queued without a claim_token, running with one.';
comment on column actions_private.queue.deadline_at is
  'enqueued_at + the action''s timeout_ms + the queue allowance. After it the fleet has failed, not the endpoint.';
comment on column actions_private.queue.life is
  'The server''s life in which it was enqueued. In a later one nobody knows whether it was sent, so nobody sends it.';
comment on column actions_private.queue.claim_token is
  'Proof of the claim: a write-back names it, and one that names another is too late.';

-- An event that auth-core gave an id may be reported again, because the answer got lost: for ten
-- minutes the same id of the same project and trigger is the same invocation.
create table actions_private.event_keys (
  event_id      text        collate "C" not null,
  project_id    text        collate "C" not null,
  trigger       text        collate "C" not null,
  invocation_id text        collate "C" not null,
  enqueued_at   timestamptz not null,
  primary key (event_id, project_id, trigger)
) with (autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_threshold = 2147483647);
comment on table actions_private.event_keys is
  'Ids that auth-core gave its events, with the invocation that each became. Kept for ten minutes.';

-- A client that gathers events gives one id to all of a statement instead of noting each: from it and
-- the moment the ids of its invocations are made, so that the same statement again finds them.
create table actions_private.enqueue_requests (
  id uuid        not null primary key,
  at timestamptz not null
) with (autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_threshold = 2147483647);
comment on table actions_private.enqueue_requests is
  'Statements that may be sent again because their answer got lost. Kept for ten minutes.';

create type actions_private.final_status as enum
  ('ok', 'rejected', 'timeout', 'network_error', 'ssrf_blocked', 'http_error', 'invalid_response', 'invalid_signature', 'killed', 'expired');
comment on type actions_private.final_status is
  'How an invocation ended. Example: select ''expired''::actions_private.final_status;';

create table actions_private.invocations (
  id               text             collate "C" not null primary key,
  event_id         text             collate "C" not null,
  project_id       text             not null,
  trigger          text             not null,
  action_id        text             collate "C" not null,
  action_version   integer          not null,
  test             boolean          not null,
  status           actions_private.final_status not null,
  outcome          json             not null,
  http_status      integer,
  duration_ms      double precision,
  phases           json,
  queue_ms         double precision,
  error            text,
  error_code       text             collate "C",
  response_sha256  bytea,
  overrode         boolean          not null default false,
  enqueued_at      timestamptz      not null,
  finished_at      timestamptz      not null,
  worker           text
) partition by range (id);
comment on table actions_private.invocations is
  'Decided invocations, one partition a day. Written once: no role may update them.';
comment on column actions_private.invocations.duration_ms is
  'The call alone, DNS to last byte. Null where nothing was sent.';
comment on column actions_private.invocations.phases is
  'Milliseconds of the call by phase: dns, connect, tls, first_byte, body. A phase that did not happen is absent: an idle connection was used again.';
comment on column actions_private.invocations.overrode is
  'The verdict''s override_claims, override_roles or override_permissions were honoured (also where every slug turned out to be unknown).';
comment on column actions_private.invocations.error_code is
  'The stable word for the error, such as dns_no_answer; null without an error.';
comment on column actions_private.invocations.queue_ms is
  'From enqueue to claim. Null where it was never claimed.';

create trigger decided_once before update on actions_private.invocations
  for each row execute function actions_private.refuse_change();

-- Each row is in one of these two: what the kill-switch counts, and what it does not. So a streak is
-- found in as many steps as it is long, however many were not sent meanwhile.
create index counted_by_action on actions_private.invocations (action_id, finished_at) where not test and status not in ('killed', 'expired');
create index others_by_action on actions_private.invocations (action_id, finished_at) where test or status in ('killed', 'expired');
-- The last seconds, which the janitor reads at every tick, and the last minutes of the views.
-- Not BRIN: what vacuum has not summarised yet is read whole, and under load that is minutes.
create index by_time on actions_private.invocations (finished_at);
-- Few rows, unless the fleet is behind: what no worker counted, and what the fleet had no time for.
create index ended_without_verdict on actions_private.invocations (finished_at) where status in ('killed', 'expired');
-- An id that the fleet made for an event repeats the invocation's; so only ids from outside cost an entry.
create index by_given_event on actions_private.invocations (event_id) where substr(event_id, 5) <> substr(id, 5);

-- The net under the partitions: if nobody made them ahead, nothing is lost.
create table actions_private.invocations_default partition of actions_private.invocations default;

create function actions_private.make_partition(day date) returns boolean
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

create function actions_private.id_moment(id text) returns timestamptz
language sql immutable parallel safe
return pg_catalog.to_timestamp((
  select pg_catalog.sum((pg_catalog.strpos('0123456789ABCDEFGHJKMNPQRSTVWXYZ', pg_catalog.substr(pg_catalog.right(id, 26), place, 1)) - 1)
    * (32::numeric ^ (10 - place)))
  from pg_catalog.generate_series(1, 10) as place)::double precision / 1000);
comment on function actions_private.id_moment(text) is
  'When an id was made; the reverse of id_time. Example: select actions_private.id_moment(''inv_01JD3X6G8Q7N9V8R2M4T6W8Y0B'');';

-- The days ahead come first: a day that cannot be made because of what the net caught must not keep
-- the next ones from being there in time.
create function actions_private.days_to_make(days_ahead integer, keep_days integer) returns setof date
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

-- Minutes that are over are added up, long before their day is dropped.
create table actions_private.counted_until (
  only_row boolean     not null primary key default true,
  at       timestamptz,
  next_id  text        collate "C",
  constraint there_is_only_one_row check (only_row)
);
comment on table actions_private.counted_until is
  'One row: up to which moment invocations are added up in daily_counts, and the least id after it. Its lock makes counting happen once.';
insert into actions_private.counted_until default values;

create table actions_private.daily_counts (
  day         date             not null,
  project_id  text             not null,
  action_id   text             collate "C" not null,
  trigger     text             not null,
  status      text             not null,
  test        boolean          not null,
  invocations bigint           not null,
  called      bigint           not null,
  duration_ms double precision not null,
  primary key (action_id, day, status, test)
) with (fillfactor = 80); -- a day's row changes with every minute of it
create index counts_by_project on actions_private.daily_counts (project_id, day);
create index counts_by_day on actions_private.daily_counts (day);
comment on table actions_private.daily_counts is
  'Invocations by day (UTC), action and status; kept when the invocations themselves are dropped.';
comment on column actions_private.daily_counts.called is
  'Of them, those with a call, whose time is in duration_ms.';

create function actions_private.count_next() returns boolean
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
  update actions_private.counted_until as c set at = since + a_while, next_id = 'inv_' || actions_private.id_time(since + a_while);
  return true;
end
$$;
comment on function actions_private.count_next() is
  'Adds up the next minutes that are over; false where there are none yet. Example: select actions_private.count_next();';

create function actions_private.sweep_default(keep_days integer) returns bigint
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

create function actions_private.drop_partitions(keep_days integer) returns integer
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

select actions_private.make_partition((now() at time zone 'UTC')::date + n) from generate_series(0, 7) as n;

-- What the programs and the SQL functions must agree on; the leading janitor publishes its configuration here.
create table actions_private.settings (
  only_row             boolean          not null primary key default true,
  queue_allowance_ms   integer          not null default 500,
  window_s             integer          not null default 300,
  error_ratio          double precision not null default 0.5,
  timeout_ratio        double precision not null default 0.5,
  consecutive_5xx      integer          not null default 100,
  min_samples          integer          not null default 20,
  constraint there_is_only_one_row check (only_row),
  constraint queue_allowance_is_not_negative check (queue_allowance_ms >= 0)
);
comment on table actions_private.settings is
  'One row: the configuration that SQL functions and views share with the programs.';
insert into actions_private.settings default values;
