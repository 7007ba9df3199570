-- Two schemas, and the types of their functions.
--
-- `actions`          the interface: functions and views, kept stable like a library's API
-- `actions_private`  the tables: touched by the functions of `actions` and by src/store, by nobody else

create schema if not exists actions_private;
comment on schema actions_private is
  'Tables of authio-actions. Nobody''s interface: use the functions and views of schema actions.';

create schema actions;
comment on schema actions is
  'The SQL interface of authio-actions. Start here: select * from actions.enqueue(''proj_acme_prod'', ''pre_token_mint'', ''{"user":{"id":"user_1"}}'');';

create type actions_private.final_status as enum
  ('ok', 'rejected', 'timeout', 'network_error', 'ssrf_blocked', 'http_error', 'invalid_response', 'invalid_signature', 'killed', 'expired');
comment on type actions_private.final_status is
  'How an invocation ended. Example: select ''expired''::actions_private.final_status;';

create type actions.answer as (
  invocation_id text,
  event_id      text,
  action_id     text,
  status        text,
  outcome       json,
  wait_ms       integer
);
comment on type actions.answer is
  'The row with which enqueue, result and abandon answer. Example: select (null::actions.answer).status;';
comment on column actions.answer.invocation_id is 'Null when there is no action to call.';
comment on column actions.answer.event_id is 'The given one, or a new one.';
comment on column actions.answer.action_id is 'Null when there is no action to call.';
comment on column actions.answer.status is 'queued, running, or a final status.';
comment on column actions.answer.outcome is 'What auth-core must do; null while undecided.';
comment on column actions.answer.wait_ms is 'Milliseconds to wait before abandoning; 0 when the outcome is here.';

create type actions_private.claimed as (
  id text, event_id text, project_id text, project_revision bigint, trigger text, action_id text, action_version integer, test boolean,
  event text, reply_to text, enqueued_at timestamptz, remaining_ms double precision, queue_ms double precision, claimed_unix double precision,
  killed_reason text, secret_version integer, secret_key_id text, previous_secret_version integer, previous_secret_key_id text, secret_seen boolean
);
comment on type actions_private.claimed is
  'What a worker needs to know of an invocation. Example: select (null::actions_private.claimed).remaining_ms;';

-- What refuses changes of rows that are written once stands in functions/refusals.sql; here only so
-- that triggers can name it.
create function actions_private.refuse_change() returns trigger language plpgsql as 'begin return null; end';
