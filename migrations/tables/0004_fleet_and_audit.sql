-- Who is running, who leads, what changed, and the mail to be sent.

create table actions_private.processes (
  id         text        not null primary key,
  kind       text        not null,
  host       text        not null,
  pid        integer     not null,
  version    text        not null,
  in_flight  integer     not null default 0,
  started_at timestamptz not null default now(),
  seen_at    timestamptz not null default now(),
  awake_until timestamptz not null default '-infinity',
  constraint kind_is_known check (kind in ('worker', 'janitor')),
  constraint in_flight_is_not_negative check (in_flight >= 0)
) with (fillfactor = 50);
comment on table actions_private.processes is
  'Heartbeats. A process deletes its row when it leaves in order; the janitor removes those that fell silent.';
comment on column actions_private.processes.awake_until is
  'Until then this worker looks at the queue again by itself, so enqueue need not notify.';

-- For whoever enqueues, not for the few rows: a busy worker leaves a dead one several times a second,
-- and a reader's snapshot keeps them all. Who asks by time walks over the last seconds' only.
create index awake_workers on actions_private.processes (awake_until);
create index lately_seen on actions_private.processes (seen_at);

-- A lease, not a lock: it outlives a lost connection by seconds only, and the epoch
-- fences whatever a paused leader still writes when it wakes up.
create table actions_private.leadership (
  only_row   boolean     not null primary key default true,
  holder     text,
  epoch      bigint      not null default 0,
  expires_at timestamptz not null default '-infinity',
  constraint there_is_only_one_row check (only_row)
);
comment on table actions_private.leadership is
  'One row: which janitor leads. Every statement of the leader names its epoch.';

insert into actions_private.leadership default values;

-- While calls to unrelated customers fail at once, the fault is the fleet's, and nobody is killed for it.
create table actions_private.kill_holds (
  since timestamptz not null primary key,
  until timestamptz,
  why   text        not null,
  constraint it_ends_after_it_began check (until >= since)
);
comment on table actions_private.kill_holds is
  'Times in which the fleet''s own network failed: calls that did not reach their endpoint then never count. until is null while it lasts.';
create unique index one_hold_at_a_time on actions_private.kill_holds ((true)) where until is null;

create table actions_private.audit_log (
  id         bigint      generated always as identity primary key,
  at         timestamptz not null default clock_timestamp(),
  project_id text        not null,
  action_id  text        collate "C",
  event      text        not null,
  actor      text,
  login      text        not null default session_user,
  details    json        not null default '{}',
  -- What an endpoint causes with every event is one row an action, kind and minute.
  minute     timestamptz,
  count      integer     not null default 1,
  constraint count_is_positive check (count > 0)
);
comment on table actions_private.audit_log is
  'What was changed or dropped, by whom and why. Append only.';
create index audit_by_action on actions_private.audit_log (action_id, at);
create index audit_by_project on actions_private.audit_log (project_id, at);
create index audit_by_time on actions_private.audit_log (at);
comment on column actions_private.audit_log.actor is
  'Who did it, as the caller says.';
comment on column actions_private.audit_log.login is
  'The database login that did it, as the server says.';
comment on column actions_private.audit_log.count is
  'How often it happened within the minute; the details are of the first time.';
create unique index one_note_a_minute on actions_private.audit_log (action_id, event, minute) where minute is not null;

create trigger audit_is_append_only before update on actions_private.audit_log
  for each row
  when (old.minute is null or new.count < old.count or to_jsonb(old) - 'count' is distinct from to_jsonb(new) - 'count')
  execute function actions_private.refuse_change();

create table actions_private.mail_outbox (
  id              bigint      generated always as identity primary key,
  project_id      text        not null,
  action_id       text        collate "C" not null,
  recipient       text        not null,
  subject         text        not null,
  text_body       text,
  html_body       text,
  created_at      timestamptz not null default clock_timestamp(),
  attempts        integer     not null default 0,
  next_attempt_at timestamptz not null default clock_timestamp(),
  sent_at         timestamptz,
  refusals        integer     not null default 0,
  refused_since   timestamptz,
  refused_at      timestamptz,
  last_error      text,
  constraint both_bodies_or_none check ((text_body is null) = (html_body is null)),
  constraint sent_or_refused_but_not_both check (sent_at is null or refused_at is null),
  constraint last_error_is_short_and_one_line check (length(last_error) <= 500 and last_error !~ '[\r\n]')
);
comment on table actions_private.mail_outbox is
  'Mail that must be sent, written in the transaction of what it reports.';
comment on column actions_private.mail_outbox.text_body is
  'Null where the kill was by hand and a janitor has yet to write it.';
comment on column actions_private.mail_outbox.attempts is
  'How often it was taken to be sent, whatever came of it.';
comment on column actions_private.mail_outbox.refusals is
  'How many attempts the mail server refused for good. A mail server that is away, or refuses us, does not count.';
comment on column actions_private.mail_outbox.refused_since is
  'When the mail server began to refuse it, for good or for the moment; null after an attempt that did not get so far.';
comment on column actions_private.mail_outbox.refused_at is
  'When it was given up: refused for good 8 times or for 24 hours, or for the moment for 3 days. It is not tried again.';
comment on column actions_private.mail_outbox.last_error is
  'What came of the last attempt that failed, without the names of people.';
create index unsent_mail on actions_private.mail_outbox (next_attempt_at) where sent_at is null and refused_at is null;
create index unwritten_mail on actions_private.mail_outbox (id) where text_body is null;
create index mail_by_project on actions_private.mail_outbox (project_id);
create index refused_mail on actions_private.mail_outbox (id) where refused_at is not null;

-- Checks that nobody asks for one by one: an action opts in by check_every_s. Without a foreign
-- key, which would wait for whoever is changing the action.
create table actions_private.checks (
  action_id              text        collate "C" not null primary key,
  sent_at                timestamptz not null,
  invocation_id          text        collate "C" not null,
  previous_invocation_id text        collate "C"
);
comment on table actions_private.checks is
  'The last two test events that the janitor sent to an action that opted in: the last may still run.';

-- Erasing a project takes many small steps. In the end this row is all that names it.
create table actions_private.erasures (
  id          bigint      generated always as identity primary key,
  project_id  text        not null,
  asked_at    timestamptz not null default clock_timestamp(),
  asked_by    text,
  login       text        not null default session_user,
  done_at     timestamptz,
  rows_erased bigint      not null default 0
);
comment on table actions_private.erasures is
  'Projects that were to be erased, and how far that is.';
create unique index one_erasure_at_a_time on actions_private.erasures (project_id) where done_at is null;
