-- Which release the schema is of, and which releases of the programs it serves.

-- The list of applied files is made by `actionsctl migrate` before it applies the first.
create or replace function actions.schema_version() returns bigint
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
  return (select max(version) from actions_private.migrations);
end
$$;
comment on function actions.schema_version() is
  'The number of the last file of tables that was applied; a program refuses an older one than its own. Example: select actions.schema_version();';

create or replace function actions.oldest_program() returns text
language sql stable security definer set search_path = pg_catalog, pg_temp
begin atomic
  select s.oldest_program from actions_private.settings as s;
end;
comment on function actions.oldest_program() is
  'The oldest release whose programs this schema still serves. Example: select actions.oldest_program();';
