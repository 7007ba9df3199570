-- What customers configure: projects, their people, and their actions.

create table actions_private.projects (
  id                     text        not null primary key,
  name                   text        not null,
  roles_action_override  boolean     not null default false,
  role_slugs             text[]      not null default '{}',
  revision               bigint      not null default 1,
  created_at             timestamptz not null default now(),
  updated_at             timestamptz not null default now(),
  constraint id_is_short_and_not_empty check (length(id) between 1 and 255),
  constraint actions_know_the_revision unique (id, revision)
);
comment on table actions_private.projects is
  'A customer''s project, as far as actions need to know it.';
comment on column actions_private.projects.roles_action_override is
  'Whether verdicts may replace roles and permissions in the token.';
comment on column actions_private.projects.role_slugs is
  'Every role slug of the project; a slug that is not here is dropped from a verdict.';
comment on column actions_private.projects.revision is
  'Grows with every change that matters to a verdict, so workers may cache a project until an invocation names a newer revision.';

create table actions_private.project_members (
  project_id text not null references actions_private.projects,
  email      text not null,
  role       text not null,
  primary key (project_id, email)
);
comment on table actions_private.project_members is
  'Whom to tell: owners and admins get mail when an action is killed.';

-- An action is an identity with a few switches. What it does (endpoint, timeout,
-- fail mode, …) is an immutable version that it points at: undo and audit need
-- nothing else, and an invocation records the version it ran under.
--
-- Absent on purpose: an order among several actions of one trigger, and conditions
-- on the event. The one unique index below is all that keeps them out.

create table actions_private.actions (
  id                          text        collate "C" not null primary key,
  project_id                  text        not null,
  project_revision            bigint      not null,
  trigger                     text        not null,
  version                     integer     not null,
  timeout_ms                  integer     not null,
  enabled                     boolean     not null default true,
  killed_at                   timestamptz,
  killed_reason               text,
  counting_since              timestamptz not null default now(),
  secret_version              integer     not null default 1,
  secret_key_id               text,
  secret_sha256               text,
  secret_seen_at              timestamptz,
  previous_secret_version     integer,
  previous_secret_key_id      text,
  previous_secret_until       timestamptz,
  deleted_at                  timestamptz,
  created_at                  timestamptz not null default now(),
  updated_at                  timestamptz not null default now(),
  -- Each event needs them, so they are here, too; foreign keys hold them to what they repeat.
  constraint project_revision_is_the_project_s foreign key (project_id, project_revision)
    references actions_private.projects (id, revision) on update cascade,
  constraint trigger_is_known check (trigger in
    ('pre_authenticate', 'post_authenticate', 'pre_token_mint', 'post_token_mint', 'pre_register', 'post_register')),
  constraint killed_actions_have_a_reason check ((killed_at is null) = (killed_reason is null)),
  constraint key_and_fingerprint_come_together check ((secret_key_id is null) = (secret_sha256 is null)),
  constraint an_overlap_has_an_end check ((previous_secret_version is null) = (previous_secret_until is null))
);
comment on table actions_private.actions is
  'A customer endpoint bound to one trigger of one project: its identity, its switches, and which version of its configuration is current.';
comment on column actions_private.actions.counting_since is
  'The kill-switch counts invocations enqueued from here on; enabling and re-enabling move it to now.';
comment on column actions_private.actions.secret_key_id is
  'Which root key derives the signing secret. Null until a process that holds the root keys has recorded it, which it does before it signs with it.';
comment on column actions_private.actions.secret_sha256 is
  'Fingerprint of the secret, lower-case hex. The secret itself is derived from a root key and is nowhere in this database.';
comment on column actions_private.actions.secret_seen_at is
  'When an answer signed with the current secret last arrived, to the minute: proof that the endpoint has it. From then on requests carry its signature alone, also within an overlap.';
create index by_project on actions_private.actions (project_id);
create index enabled_again on actions_private.actions (id) where counting_since > created_at;
create unique index one_enabled_action_per_trigger
  on actions_private.actions (project_id, trigger)
  where enabled and deleted_at is null;

-- Asked every few seconds by the leading janitor: which overlaps of a rotation have ended.
create index ends_of_overlaps on actions_private.actions (previous_secret_until) where previous_secret_until is not null;

create table actions_private.action_versions (
  action_id                  text        collate "C" not null references actions_private.actions deferrable initially deferred,
  version                    integer     not null,
  name                       text        not null,
  endpoint_url               text        not null,
  timeout_ms                 integer     not null,
  fail_mode                  text        not null,
  on_killed                  text        not null,
  require_response_signature boolean     not null,
  check_every_s              integer     not null default 0,
  created_at                 timestamptz not null default now(),
  created_by                 text,
  primary key (action_id, version),
  constraint actions_know_the_timeout unique (action_id, version, timeout_ms),
  constraint timeout_is_100_to_5000_ms check (timeout_ms between 100 and 5000),
  constraint fail_mode_is_open_or_closed check (fail_mode in ('open', 'closed')),
  constraint on_killed_is_skip_or_deny check (on_killed in ('skip', 'deny')),
  constraint check_every_is_off_or_10_s_to_a_day check (check_every_s = 0 or check_every_s between 10 and 86400)
);
create index checked_versions on actions_private.action_versions (action_id, version) where check_every_s > 0;
comment on table actions_private.action_versions is
  'What an action does, one immutable row a change. Rows are only ever added.';
comment on column actions_private.action_versions.check_every_s is
  'Seconds between two test events that the janitor sends by itself; 0 sends none.';

alter table actions_private.actions
  add constraint current_version_exists foreign key (id, version, timeout_ms)
  references actions_private.action_versions (action_id, version, timeout_ms) deferrable initially deferred;

create trigger versions_are_immutable before update on actions_private.action_versions
  for each row execute function actions_private.refuse_change();
