-- The group roles, one a kind of program. Applied by every migrate, because a database that was
-- restored elsewhere finds none. Roles belong to the whole cluster, so another database may have
-- made them already.

do $$
declare
  role_name text;
begin
  foreach role_name in array array['actions_core', 'actions_worker', 'actions_janitor', 'actions_admin', 'actions_ops', 'actions_console'] loop
    if not exists (select from pg_catalog.pg_roles where rolname = role_name) then
      begin
        execute format('create role %I nologin', role_name);
      exception when duplicate_object or unique_violation then
        null; -- a migration of another database was faster
      end;
    end if;
  end loop;
end
$$;
