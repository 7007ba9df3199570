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
-- No column repeats what another says, or what is so of nearly every row; and what can be wrong is a type, not a CHECK: PostgreSQL
-- reads and plans a CHECK anew in every statement that writes, which was a tenth of an event.
--
-- Why two tables: `queue` holds only what is alive, so claiming stays fast however
-- long the history is; the history is only ever appended to; and the event, which is
-- full of personal data, is gone as soon as its outcome stands.

-- The fleet claims without waiting for the disk, so a crash of the server may forget that an
-- event was sent. It also empties unlogged tables, as does the promotion of a standby: after
-- either the one row here is gone and another epoch begins. Nobody claims what was enqueued
-- in an earlier epoch; it ends as expired, and no event is sent twice. An orderly restart
-- keeps both the row and every claim.
--
-- A dump, a template or a logical replica copies the rows of the queue, whose events the original
-- sends. So an epoch also names the server and the database in which it began, and in any other
-- another one begins.
create unlogged table actions_private.server_epoch (
  only_row boolean not null primary key default true,
  id       uuid    not null default gen_random_uuid(),
  server   bigint  not null,
  database oid     not null,
  constraint there_is_only_one_row check (only_row)
);
comment on table actions_private.server_epoch is
  'One row, which a crash of the server erases: what was enqueued before may have been sent already.';
comment on column actions_private.server_epoch.server is
  'The system identifier of the server in which this epoch began.';
comment on column actions_private.server_epoch.database is
  'The database in which this epoch began.';

create table actions_private.queue (
  id               text        collate "C" not null primary key,
  event_id         text        collate "C",
  project_id       text        not null,
  trigger          text        not null,
  action_id        text        collate "C" not null,
  action_version   integer     not null,
  test             boolean     not null,
  event            json        not null,
  reply_to         text,
  server_epoch     uuid        not null,
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
comment on column actions_private.queue.event_id is
  'The id that auth-core gave the event. Null where the fleet made it: then it is the invocation''s with another prefix.';
comment on column actions_private.queue.deadline_at is
  'enqueued_at + the action''s timeout_ms + the queue allowance. After it the fleet has failed, not the endpoint.';
comment on column actions_private.queue.server_epoch is
  'The server''s epoch in which it was enqueued. In a later one nobody knows whether it was sent, so nobody sends it.';
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

create table actions_private.invocations (
  id               text             collate "C" not null primary key,
  event_id         text             collate "C",
  project_id       text             not null,
  trigger          text             not null,
  action_id        text             collate "C" not null,
  action_version   integer          not null,
  test             boolean          not null,
  status           actions_private.final_status not null,
  outcome          json,
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
comment on column actions_private.invocations.event_id is
  'As in the queue: null where the fleet made it.';
comment on column actions_private.invocations.outcome is
  'Null for the outcome of nearly all: a verdict that allows and says nothing else.';
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

-- Ids that the fleet made for events cost no entry.
create index by_given_event on actions_private.invocations (event_id) where event_id is not null;

-- The net under the partitions: if nobody made them ahead, nothing is lost.
create table actions_private.invocations_default partition of actions_private.invocations default;

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
) with (fillfactor = 80);

 -- a day's row changes with every minute of it
create index counts_by_project on actions_private.daily_counts (project_id, day);
create index counts_by_day on actions_private.daily_counts (day);
comment on table actions_private.daily_counts is
  'Invocations by day (UTC), action and status; kept when the invocations themselves are dropped.';
comment on column actions_private.daily_counts.called is
  'Of them, those with a call, whose time is in duration_ms.';

-- What the programs and the SQL functions must agree on; the leading janitor publishes its configuration here.
create table actions_private.settings (
  only_row             boolean          not null primary key default true,
  queue_allowance_ms   integer          not null default 500,
  window_s             integer          not null default 300,
  error_ratio          double precision not null default 0.5,
  timeout_ratio        double precision not null default 0.5,
  consecutive_5xx      integer          not null default 100,
  min_samples          integer          not null default 20,
  oldest_program       text             not null default '0.1.0',
  constraint there_is_only_one_row check (only_row),
  constraint queue_allowance_is_not_negative check (queue_allowance_ms >= 0)
);
comment on table actions_private.settings is
  'One row: the configuration that SQL functions and views share with the programs.';
comment on column actions_private.settings.oldest_program is
  'The oldest release whose programs this schema still serves; older ones refuse to start.';

insert into actions_private.settings default values;
