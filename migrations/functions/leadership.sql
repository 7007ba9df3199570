-- One janitor leads, by a lease with an epoch. Each statement proves the leadership itself:
-- a janitor that was paused and replaced finds that its epoch is over and does nothing.

create or replace function actions_private.take_lead(janitor text, lease interval) returns bigint
language sql volatile
begin atomic
  -- Taking it from another starts a new epoch. Whoever renews late keeps his: nobody led meanwhile.
  update actions_private.leadership as l
  set epoch = l.epoch + case when l.holder is not distinct from janitor then 0 else 1 end,
    holder = janitor,
    expires_at = pg_catalog.clock_timestamp() + lease
  where l.holder is not distinct from janitor or l.expires_at <= pg_catalog.clock_timestamp()
  returning l.epoch;
end;
comment on function actions_private.take_lead(text, interval) is
  'Takes or keeps the lead; returns the epoch, or null while another leads. Example: select actions_private.take_lead(''janitor-1'', ''3 seconds'');';

create or replace function actions_private.leads(epoch bigint) returns boolean
language sql volatile
begin atomic
  select exists (select from actions_private.leadership as l where l.epoch = leads.epoch and l.expires_at > pg_catalog.clock_timestamp() for share);
end;
comment on function actions_private.leads(bigint) is
  'Whether this epoch still leads; holds it for the rest of the transaction. Example: select actions_private.leads(7);';
