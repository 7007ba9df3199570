-- Waking workers, as long as the server can notify.

-- One session that listens within a long transaction keeps the queue of notifications from being
-- cleaned up, and a full one fails every transaction that notifies. Long before, nothing is notified
-- any more: workers and waiters then ask by themselves.
create or replace function actions_private.notify_queue_usage() returns double precision
language sql volatile parallel safe
return pg_catalog.pg_notification_queue_usage();
comment on function actions_private.notify_queue_usage() is
  'How full the server''s queue of notifications is, 0 to 1. Example: select actions_private.notify_queue_usage();';

create or replace function actions_private.may_notify() returns boolean
language plpgsql volatile parallel safe
as $$
begin
  return actions_private.notify_queue_usage() < 0.5;
end
$$;
comment on function actions_private.may_notify() is
  'Whether the server''s queue of notifications has room. Example: select actions_private.may_notify();';

-- A notification takes a lock that the whole server shares, so whoever enqueues calls nobody
-- while a worker is awake, who looks again by itself. In a long transaction nobody knows when
-- this commits, so it calls; in a short one the worker's next looks find it, which it takes
-- also when it falls asleep.
-- A call names one worker, the same for the same project as long as the fleet stays the same:
-- if all came at once, each but one would come for nothing. The others look a little later.
create or replace function actions_private.call_a_worker(project_id text, at timestamptz) returns void
language plpgsql
as $$
declare
  worker text;
begin
  if not actions_private.may_notify() then
    return; -- workers see that, too, and look by themselves
  end if;
  select p.id into worker
  from actions_private.processes as p
  where p.kind = 'worker' and p.seen_at > at - interval '12 seconds'
  order by p.awake_until > at desc, hashtextextended(p.id, hashtext(call_a_worker.project_id))
  limit 1;
  perform pg_notify('actions_queue', coalesce(worker, ''));
end
$$;
comment on function actions_private.call_a_worker(text, timestamptz) is
  'Notifies one worker, or all where none is known. For functions whose search_path is pinned. Example: select actions_private.call_a_worker(''proj_acme_prod'', now());';
