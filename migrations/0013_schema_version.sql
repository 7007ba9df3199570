-- Every program compares the schema's version with its own at start. The list of applied
-- migrations is made by `actionsctl migrate` before it applies the first.
create function actions.schema_version() returns bigint
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
  return (select max(version) from actions_private.migrations);
end
$$;
comment on function actions.schema_version() is
  'The number of the last migration applied. Example: select actions.schema_version();';
