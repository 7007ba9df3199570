-- Trying before trusting: conditions, recorded events, last known roles, candidates, break-glass, probes.

alter table actions_private.action_versions
  add column condition     text,
  add column record_events integer not null default 0,
  add column record_hours  integer not null default 24,
  add column last_known_s  integer not null default 0,
  add column recovery      text    not null default 'manual',
  add constraint condition_is_not_long check (length(condition) between 1 and 1000),
  add constraint record_events_is_0_to_1000 check (record_events between 0 and 1000),
  add constraint record_hours_is_an_hour_to_a_week check (record_hours between 1 and 168),
  add constraint last_known_is_up_to_a_day check (last_known_s between 0 and 86400),
  add constraint recovery_is_manual_or_probe check (recovery in ('manual', 'probe'));
comment on column actions_private.action_versions.condition is
  'A jsonpath predicate over the event; what does not meet it is not sent. Null sends every event.';
comment on column actions_private.action_versions.record_events is
  'How many of the newest events are kept, encrypted, to be sent again to something new; 0 keeps none.';
comment on column actions_private.action_versions.record_hours is
  'How long a recorded event is kept.';
comment on column actions_private.action_versions.last_known_s is
  'How old the roles, permissions and claims of a person''s last verdict may be, in seconds, where an endpoint fails; 0 applies none.';
comment on column actions_private.action_versions.recovery is
  'Who takes a kill back: somebody (manual), or five test events in a row that end ok (probe).';

-- Each event needs these, so they stand here, too.
alter table actions_private.actions
  add column condition       text,
  add column canary_version  integer,
  add column canary_percent  integer,
  add column shadow_version  integer,
  add column shadow_percent  integer,
  add column killed_by_hand  boolean not null default false,
  add constraint one_candidate_at_a_time check (canary_version is null or shadow_version is null),
  add constraint a_canary_has_its_percent check ((canary_version is null) = (canary_percent is null)),
  add constraint a_shadow_has_its_percent check ((shadow_version is null) = (shadow_percent is null));
comment on column actions_private.actions.condition is
  'That of its version.';
comment on column actions_private.actions.canary_version is
  'The candidate that decides for some of the events; null where there is none.';
comment on column actions_private.actions.shadow_version is
  'The candidate that receives some of the events after they were decided; null where there is none.';
comment on column actions_private.actions.killed_by_hand is
  'Somebody killed it, so nothing but somebody takes it back.';

alter table actions_private.queue add column canary boolean;
alter table actions_private.invocations add column canary boolean;
alter table actions_private.queue add column trace_parent text;
comment on column actions_private.queue.trace_parent is
  'The W3C traceparent of who reported the event; null where there was none, or no valid one.';
comment on column actions_private.queue.canary is
  'True where a candidate decides; null is no.';
comment on column actions_private.invocations.canary is
  'True where a candidate decided; null is no. The kill-switch does not count it.';

create table actions_private.candidates (
  action_id    text        collate "C" not null,
  version      integer     not null,
  mode         text        not null,
  percent      integer     not null,
  state        text        not null default 'running',
  reason       text,
  started_at   timestamptz not null default clock_timestamp(),
  started_by   text,
  ended_at     timestamptz,
  calls        bigint      not null default 0,
  errors       bigint      not null default 0,
  denies       bigint      not null default 0,
  same         bigint      not null default 0,
  differs      bigint      not null default 0,
  would_deny   bigint      not null default 0,
  would_allow  bigint      not null default 0,
  skipped      bigint      not null default 0,
  primary key (action_id, version),
  foreign key (action_id, version) references actions_private.action_versions (action_id, version) deferrable initially deferred,
  constraint mode_is_shadow_or_canary check (mode in ('shadow', 'canary')),
  constraint percent_is_1_to_100 check (percent between 1 and 100),
  constraint state_is_known check (state in ('running', 'promoted', 'withdrawn')),
  constraint what_runs_has_no_end check ((state = 'running') = (ended_at is null))
) with (fillfactor = 50);
create unique index one_running_candidate on actions_private.candidates (action_id) where state = 'running';
comment on table actions_private.candidates is
  'Versions that are tried before they are trusted, with what was counted since they started.';

create table actions_private.candidate_results (
  invocation_id text             collate "C" not null,
  action_id     text             collate "C" not null,
  version       integer          not null,
  at            timestamptz      not null default clock_timestamp(),
  status        text             not null,
  decision      text             not null,
  outcome       json             not null,
  duration_ms   double precision,
  differs       text[]           not null default '{}',
  primary key (action_id, version, invocation_id)
);
create index candidate_results_by_time on actions_private.candidate_results (at);
create index candidate_results_by_invocation on actions_private.candidate_results (invocation_id);
create index candidate_results_newest on actions_private.candidate_results (action_id, version, at);
comment on table actions_private.candidate_results is
  'What a candidate made of an event. Of a shadow it decided nothing.';

create table actions_private.recorded_events (
  event_id    text        collate "C" not null,
  action_id   text        collate "C" not null,
  recorded_at timestamptz not null default clock_timestamp(),
  expires_at  timestamptz not null,
  bytes       integer     not null,
  key_id      text        not null,
  sealed      bytea       not null,
  primary key (action_id, event_id)
);
create index recorded_events_newest on actions_private.recorded_events (action_id, recorded_at);
create index recorded_events_by_end on actions_private.recorded_events (expires_at);
comment on table actions_private.recorded_events is
  'Events as they were sent, with what became of them: AES-256-GCM under a key of the action, made from the root key.';

create table actions_private.last_known (
  action_id text        collate "C" not null,
  person    bytea       not null,
  at        timestamptz not null,
  key_id    text        not null,
  sealed    bytea       not null,
  primary key (action_id, person)
) with (fillfactor = 80);
create index last_known_by_time on actions_private.last_known (at);
comment on table actions_private.last_known is
  'Roles, permissions and claims of the last verdict for a person in an organisation, encrypted; person is an HMAC of both.';

alter table actions_private.projects add column break_glass text[] not null default '{}';
comment on column actions_private.projects.break_glass is
  'Ids of users whom no failure locks out. A verdict still does.';
-- A project's own mail is about no action.
alter table actions_private.mail_outbox alter column action_id drop not null;

create table actions_private.probes (
  action_id     text        collate "C" not null primary key,
  killed_at     timestamptz not null,
  sent_at       timestamptz not null,
  invocation_id text        collate "C" not null,
  is_counted    boolean     not null default false,
  oks           integer     not null default 0
);
comment on table actions_private.probes is
  'Test events to killed actions that take themselves back, one row an action: the last one, and how many ended ok in a row.';
