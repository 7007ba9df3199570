-- What control planes call for projects: their roles and their people.

-- Where no actor is given, the login stands for it.
create or replace function actions_private.write_project_audit(project_id text, event text, before json, after json, actor text) returns void
language sql volatile
begin atomic
  insert into actions_private.audit_log (project_id, event, actor, details)
  select $1, $2, coalesce($5, session_user), pg_catalog.json_build_object('before', before, 'after', after)
  where before::text is distinct from after::text;
end;
comment on function actions_private.write_project_audit(text, text, json, json, text) is
  'One audit event of a project, unless nothing changed. Example: select actions_private.write_project_audit(''proj_acme_prod'', ''project.updated'', ''{}'', ''{"name":"Acme"}'', ''ada@acme.com'');';

create or replace function actions.upsert_project(project_id text, name text, roles_action_override boolean default false, actor text default null) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  before record;
begin
  if project_id is null or length(project_id) not between 1 and 255 then
    perform actions_private.refuse(format('project_id is %s', coalesce(quote_literal(left(project_id, 100)), 'null')),
      'Accepted is a text of 1 to 255 characters.', 'Pass the id under which auth-core knows the project.');
  end if;
  if name is null or name = '' then
    perform actions_private.refuse(format('name is %s', coalesce(quote_literal(name), 'null')),
      'Accepted is a text that is not empty.', 'Pass the name that people know the project by.');
  end if;
  if roles_action_override is null then
    perform actions_private.refuse('roles_action_override is null', 'Accepted is true or false.',
      'Pass true to let verdicts replace roles and permissions.');
  end if;
  perform actions_private.refuse_erased(project_id);
  select p.name, p.roles_action_override into before
  from actions_private.projects as p where p.id = upsert_project.project_id for no key update;
  insert into actions_private.projects as p (id, name, roles_action_override)
  values (upsert_project.project_id, upsert_project.name, upsert_project.roles_action_override)
  on conflict (id) do update
    set name = excluded.name, roles_action_override = excluded.roles_action_override, revision = p.revision + 1, updated_at = now();
  perform actions_private.write_project_audit(project_id, case when before.name is null then 'project.created' else 'project.updated' end,
    case when before.name is not null then json_build_object('name', before.name, 'roles_action_override', before.roles_action_override) end,
    json_build_object('name', name, 'roles_action_override', roles_action_override), actor);
end
$$;
comment on function actions.upsert_project(text, text, boolean, text) is
  'Makes a project known or changes it. Example: select actions.upsert_project(''proj_acme_prod'', ''Acme'', true, ''ada@acme.com'');';

create or replace function actions_private.known_project(project_id text) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  perform actions_private.refuse_erased(project_id);
  -- Whoever changes something of a project does so alone.
  perform from actions_private.projects as p where p.id = known_project.project_id for no key update;
  if not found then
    perform actions_private.refuse(format('project_id is %s', coalesce(quote_literal(left(project_id, 100)), 'null')),
      'Accepted is the id of a known project.', 'Make it known first with actions.upsert_project.');
  end if;
end
$$;
comment on function actions_private.known_project(text) is
  'Locks a project for a change; raises if there is none. Example: select actions_private.known_project(''proj_acme_prod'');';

create or replace function actions.set_project_roles(project_id text, slugs text[], actor text default null) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  before json;
  after constant text[] := array(select distinct slug collate "C" from unnest(slugs) as slug order by slug collate "C");
begin
  perform actions_private.known_project(project_id);
  if slugs is null or array_position(slugs, null) is not null or array_position(slugs, '') is not null then
    perform actions_private.refuse(
      case when slugs is null then 'slugs is null' else 'slugs holds a null or an empty text' end,
      'Accepted is an array of role slugs; an empty array means the project has no roles.',
      'Pass every role slug of the project.');
  end if;
  before := (select to_json(p.role_slugs) from actions_private.projects as p where p.id = set_project_roles.project_id);
  update actions_private.projects as p
  set role_slugs = after, revision = revision + 1, updated_at = now()
  where p.id = set_project_roles.project_id;
  perform actions_private.write_project_audit(project_id, 'project.roles_set', before, to_json(after), actor);
end
$$;
comment on function actions.set_project_roles(text, text[], text) is
  'Sets every role slug of a project; others are dropped from verdicts. Example: select actions.set_project_roles(''proj_acme_prod'', array[''member'', ''billing_admin'']);';

create or replace function actions_private.members_of(project_id text) returns json
language sql stable
begin atomic
  select coalesce(pg_catalog.json_agg(pg_catalog.json_build_object('email', m.email, 'role', m.role) order by m.email collate "C"), '[]')
  from actions_private.project_members as m where m.project_id = $1;
end;
comment on function actions_private.members_of(text) is
  'The people of a project as set_project_members takes them. Example: select actions_private.members_of(''proj_acme_prod'');';

create or replace function actions.set_project_members(project_id text, members json, actor text default null) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  before json;
begin
  perform actions_private.known_project(project_id);
  perform actions_private.refuse_unstorable('members', members);
  perform actions_private.refuse_wrong_member(members);
  before := actions_private.members_of(project_id);
  delete from actions_private.project_members as m where m.project_id = set_project_members.project_id;
  -- One mailbox, one mail: how its name is capitalised does not make it another. Under "C", because
  -- elsewhere i is not the small letter of I.
  insert into actions_private.project_members (project_id, email, role)
  select distinct on (lower(m ->> 'email' collate "C")) set_project_members.project_id, m ->> 'email', m ->> 'role'
  from json_array_elements(members) with ordinality as t (m, n)
  order by lower(m ->> 'email' collate "C"), n desc;
  perform actions_private.write_project_audit(project_id, 'project.members_set', before, actions_private.members_of(project_id), actor);
end
$$;
comment on function actions.set_project_members(text, json, text) is
  'Sets the people of a project; owners and admins get mail when an action is killed. Example: select actions.set_project_members(''proj_acme_prod'', ''[{"email":"ada@acme.com","role":"owner"}]'');';

-- A function and not a view: who may look at projects need not see their people's addresses.
create or replace function actions.project_members(project_id text) returns table (email text, role text)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
  if not exists (select from actions_private.projects as p where p.id = project_members.project_id) then
    perform actions_private.refuse(format('project_id is %s', coalesce(quote_literal(left(project_id, 100)), 'null')),
      'Accepted is the id of a known project.', 'List them with: select project_id, name from actions.projects;');
  end if;
  return query
  select m.email, m.role from actions_private.project_members as m
  where m.project_id = project_members.project_id order by m.email collate "C";
end
$$;
comment on function actions.project_members(text) is
  'The people of a project, for control planes alone. Example: select email, role from actions.project_members(''proj_acme_prod'');';

create or replace function actions.set_break_glass(project_id text, user_ids text[], actor text default null) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
  before text[];
  after constant text[] := array(select distinct u.id collate "C" from unnest(user_ids) as u (id) order by u.id collate "C");
begin
  perform actions_private.known_project(project_id);
  if user_ids is null or array_position(user_ids, null) is not null or array_position(user_ids, '') is not null or cardinality(after) > 20 then
    perform actions_private.refuse(
      case when user_ids is null then 'user_ids is null' when cardinality(after) > 20 then format('user_ids has %s ids', cardinality(after)) else 'user_ids holds a null or an empty text' end,
      'Accepted is an array of at most 20 ids of users; an empty array ends break-glass.', 'Pass the ids as events have them in user.id.');
  end if;
  if exists (select from unnest(after) as u (id) where length(u.id) > 255) then
    perform actions_private.refuse('user_ids holds an id of more than 255 characters', 'Accepted are ids of 1 to 255 characters.', 'Pass the ids as events have them in user.id.');
  end if;
  select p.break_glass into before from actions_private.projects as p where p.id = project_id;
  if before = after then
    return;
  end if;
  update actions_private.projects as p set break_glass = after, revision = revision + 1, updated_at = now() where p.id = project_id;
  perform actions_private.write_project_audit(project_id, 'project.break_glass_set', to_json(before), to_json(after), actor);
  perform actions_private.write_mail(project_id, null, 'Break-glass was changed',
    format('Whom no failure of an action locks out of project %s was changed by %s.

Now: %s.
Before: %s.

A verdict still denies them; each use is in the audit log.',
      project_id, coalesce(actor, session_user), coalesce(nullif(array_to_string(after, ', '), ''), 'nobody'), coalesce(nullif(array_to_string(before, ', '), ''), 'nobody')), true);
end
$$;
comment on function actions.set_break_glass(text, text[], text) is
  'Says whom no failure of an action may lock out, at most 20 users: where fail_closed, a kill or an expiry would deny them they pass. Example: select actions.set_break_glass(''proj_acme_prod'', array[''user_1''], ''ada@acme.com'');';

create or replace function actions.break_glass(project_id text) returns setof text
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
  if not exists (select from actions_private.projects as p where p.id = break_glass.project_id) then
    perform actions_private.refuse(format('project_id is %s', coalesce(quote_literal(left(project_id, 100)), 'null')),
      'Accepted is the id of a known project.', 'List them with: select project_id, name from actions.projects;');
  end if;
  return query select u.id from actions_private.projects as p, unnest(p.break_glass) as u (id) where p.id = break_glass.project_id;
end
$$;
comment on function actions.break_glass(text) is
  'The users whom no failure locks out, for control planes alone. Example: select * from actions.break_glass(''proj_acme_prod'');';
