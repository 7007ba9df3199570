-- When an epoch of the server began: what somebody asked before, and the database knows no more, a crash forgot.

alter table actions_private.server_epoch add column began_at timestamptz not null default clock_timestamp();
comment on column actions_private.server_epoch.began_at is
  'When this epoch began: whoever asked before it and heard no answer may not ask again.';
