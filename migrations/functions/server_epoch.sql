-- Which epoch of the server this is: a new one begins after a crash or a promotion, because then nobody knows what was sent.

create or replace function actions_private.current_server_epoch() returns uuid
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  this_server constant bigint := (select c.system_identifier from pg_control_system() as c);
  this_database constant oid := (select d.oid from pg_database as d where d.datname = current_database());
  server_epoch uuid;
begin
  select l.id into server_epoch from actions_private.server_epoch as l where l.server = this_server and l.database = this_database;
  if not found then
    delete from actions_private.server_epoch as l where l.server <> this_server or l.database <> this_database;
    insert into actions_private.server_epoch (server, database) values (this_server, this_database) on conflict do nothing;
    select l.id into server_epoch from actions_private.server_epoch as l;
  end if;
  return server_epoch;
end
$$;
comment on function actions_private.current_server_epoch() is
  'The present server epoch of this database; begins one after a crash and in a copy. Every worker asks before it claims, and with each heartbeat. Example: select actions_private.current_server_epoch();';
