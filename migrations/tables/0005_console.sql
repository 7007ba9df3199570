-- Who is signed in to the console. The cookie itself is nowhere: the table knows its SHA-256.

create table actions_private.console_sessions (
  token_sha256  bytea       not null primary key,
  email         text        not null,
  is_operator   boolean     not null,
  project_id    text,
  role          text,
  signed_in_at  timestamptz not null default clock_timestamp(),
  expires_at    timestamptz not null,
  constraint a_link_opens_one_project_in_one_role check ((project_id is null) = (role is null)),
  constraint an_operator_needs_no_link check (not (is_operator and project_id is not null))
);
create index console_sessions_by_end on actions_private.console_sessions (expires_at);
comment on table actions_private.console_sessions is
  'People who are signed in to the console, on whichever machine it runs. Deleted at sign-out, and some time after they end.';
comment on column actions_private.console_sessions.token_sha256 is
  'Of the cookie''s value. Who reads the table cannot make a cookie of it.';
comment on column actions_private.console_sessions.email is
  'The person, as the audit log names her; local where the console printed the link when it started.';
comment on column actions_private.console_sessions.is_operator is
  'Sees and may do everything.';
comment on column actions_private.console_sessions.project_id is
  'The only project that a portal link opened; null where membership decides, at every request.';
comment on column actions_private.console_sessions.role is
  'What the portal link grants there: owner, admin or viewer.';
comment on column actions_private.console_sessions.expires_at is
  'Twelve hours after signing in.';

create table actions_private.console_links_used (
  id          uuid        not null primary key,
  expires_at  timestamptz not null
);
comment on table actions_private.console_links_used is
  'Portal links that were used once. Kept until the link would have ended anyway.';
comment on column actions_private.console_links_used.expires_at is
  'When the link ends by itself.';

-- What the fleet did, minute by minute, so that nobody reads the history to draw a week.
create table actions_private.traffic (
  minute          timestamptz      not null primary key,
  statuses        json             not null,
  called          bigint           not null,
  call_p50_ms     double precision,
  call_p99_ms     double precision,
  overhead_p50_ms double precision,
  overhead_p99_ms double precision
);
comment on table actions_private.traffic is
  'Invocations of all projects by minute, without tests. Written with daily_counts when a minute is over, kept for eight days.';
comment on column actions_private.traffic.minute is
  'Where it begins. A fleet that is far behind adds up ten minutes in one row.';
comment on column actions_private.traffic.statuses is
  'How many ended with which status.';
comment on column actions_private.traffic.called is
  'How many were called. The quantiles are those of the first 20,000 of them.';
comment on column actions_private.traffic.overhead_p50_ms is
  'Everything between enqueue and outcome but the call itself.';
