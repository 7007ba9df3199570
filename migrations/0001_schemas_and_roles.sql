-- The house and who may enter it.
--
-- `actions`          the interface: functions and views, kept stable like a library's API
-- `actions_private`  the tables: touched by the functions of `actions` and by src/store, by nobody else
--
-- Roles belong to the whole cluster, so another database may have made them already.

create schema if not exists actions_private;
comment on schema actions_private is
  'Tables of authio-actions. Nobody''s interface: use the functions and views of schema actions.';

create schema actions;
comment on schema actions is
  'The SQL interface of authio-actions. Start here: select * from actions.enqueue(''proj_acme_prod'', ''pre_token_mint'', ''{"user":{"id":"user_1"}}'');';

do $$
declare
  role_name text;
begin
  foreach role_name in array array['actions_core', 'actions_worker', 'actions_janitor', 'actions_admin', 'actions_ops'] loop
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
