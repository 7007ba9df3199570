-- What control planes call: projects, their people, and the life of an action.
--
-- Every change of an action goes through these functions and leaves one audit event
-- with the actor and the row before and after.

create view actions.actions as
select a.id as action_id, a.project_id, a.trigger, v.name, v.endpoint_url, v.timeout_ms, v.fail_mode, v.on_killed,
  v.require_response_signature, a.enabled, a.killed_at, a.killed_reason, a.secret_version, a.secret_sha256,
  a.previous_secret_until, a.version, a.created_at, a.updated_at, a.secret_key_id, a.previous_secret_version,
  a.previous_secret_key_id, a.counting_since, a.secret_seen_at, v.check_every_s
from actions_private.actions as a
join actions_private.action_versions as v on v.action_id = a.id and v.version = a.version
where a.deleted_at is null;
comment on view actions.actions is
  'Every action that is not deleted, with its current configuration. Example: select name, endpoint_url, enabled, killed_reason from actions.actions where project_id = ''proj_acme_prod'';';
comment on column actions.actions.secret_seen_at is
  'When an answer signed with the current secret last arrived, to the minute; null if none has. Then requests carry its signature alone.';
comment on column actions.actions.check_every_s is
  'Seconds between two test events that the fleet sends by itself; 0 sends none.';

create view actions.projects as
select p.id as project_id, p.name, p.roles_action_override, p.role_slugs, p.created_at, p.updated_at
from actions_private.projects as p;
comment on view actions.projects is
  'Every project with its role slugs; its people are read with actions.project_members. Example: select project_id, name, role_slugs from actions.projects where project_id = ''proj_acme_prod'';';

-- Where no actor is given, the login stands for it.
create function actions_private.write_project_audit(project_id text, event text, before json, after json, actor text) returns void
language sql volatile
begin atomic
  insert into actions_private.audit_log (project_id, event, actor, details)
  select $1, $2, coalesce($5, session_user), pg_catalog.json_build_object('before', before, 'after', after)
  where before::text is distinct from after::text;
end;
comment on function actions_private.write_project_audit(text, text, json, json, text) is
  'One audit event of a project, unless nothing changed. Example: select actions_private.write_project_audit(''proj_acme_prod'', ''project.updated'', ''{}'', ''{"name":"Acme"}'', ''ada@acme.com'');';

create function actions.upsert_project(project_id text, name text, roles_action_override boolean default false, actor text default null) returns void
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

create function actions_private.known_project(project_id text) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
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

create function actions.set_project_roles(project_id text, slugs text[], actor text default null) returns void
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

create function actions_private.members_of(project_id text) returns json
language sql stable
begin atomic
  select coalesce(pg_catalog.json_agg(pg_catalog.json_build_object('email', m.email, 'role', m.role) order by m.email collate "C"), '[]')
  from actions_private.project_members as m where m.project_id = $1;
end;
comment on function actions_private.members_of(text) is
  'The people of a project as set_project_members takes them. Example: select actions_private.members_of(''proj_acme_prod'');';

-- What a mailbox is. The mailer's rule (src/smtp/mailbox.rs) is the same: what is taken here can be
-- sent to. The letters beyond ASCII are those that IDNA keeps as they are, so that the length of a
-- label's ASCII form is known without IDNA's tables.
create function actions_private.punycode_length(label text) returns integer
language plpgsql immutable strict set search_path = pg_catalog, pg_temp
as $$
declare
  points constant integer[] := array(
    select ascii(t.letter) from unnest(string_to_array(lower(label collate "C"), null)) with ordinality as t (letter, place) order by t.place);
  basic constant integer := (select count(*) from unnest(points) as p where p < 128);
  handled integer := basic;
  length integer := basic + sign(basic);
  n integer := 128;
  delta bigint := 0;
  bias integer := 72;
  next integer;
  point integer;
  q bigint;
  k integer;
  t integer;
begin
  -- As in section 6.3 of RFC 3492, with digits counted instead of written.
  while handled < cardinality(points) loop
    next := (select min(p) from unnest(points) as p where p >= n);
    delta := delta + (next - n) * (handled + 1)::bigint;
    n := next;
    foreach point in array points loop
      delta := delta + (point < n)::integer;
      if point = n then
        q := delta;
        k := 36;
        loop
          t := least(greatest(k - bias, 1), 26);
          length := length + 1;
          exit when q < t;
          q := (q - t) / (36 - t);
          k := k + 36;
        end loop;
        delta := delta / case when handled = basic then 700 else 2 end;
        delta := delta + delta / (handled + 1);
        k := 0;
        while delta > 455 loop
          delta := delta / 35;
          k := k + 36;
        end loop;
        bias := k + 36 * delta / (delta + 38);
        delta := 0;
        handled := handled + 1;
      end if;
    end loop;
    delta := delta + 1;
    n := n + 1;
  end loop;
  return length;
end
$$;
comment on function actions_private.punycode_length(text) is
  'How long a label is in Punycode (RFC 3492), without the prefix xn--. Example: select actions_private.punycode_length(''bücher'');';

create function actions_private.mailbox_fault(mailbox text) returns text
language plpgsql immutable strict set search_path = pg_catalog, pg_temp
as $$
declare
  local constant text := substring(mailbox from '^(.*)@[^@]*$');
  domain constant text := substring(mailbox from '@([^@]*)$');
  label text;
  label_length integer;
  ascii_length integer := length(local);
  -- Without a backslash: what that means in a text depends on the session.
  beyond_ascii constant text := '[^' || chr(1) || '-' || chr(127) || ']';
  left_to_right constant text := 'a-zA-Z0-9ß-öø-ÿά-ώа-џա-ֆა-ჰぁ-ゖァ-ヺ㐀-䶿一-鿿가-힣'
    || 'āăąćĉċčďđēĕėęěĝğġģĥħĩīĭįıĵķĸĺļľłńņňŋōŏőœŕŗřśŝşšţťŧũūŭůűųŵŷźżžơưșțґạảấầẩẫậắằẳẵặẹẻẽếềểễệỉịọỏốồổỗộớờởỡợụủứừửữựỳỵỷỹ々ー';
  right_to_left constant text := 'א-תؠ-ؿف-يپچڈڑژکگںھہیے';
begin
  if length(mailbox) > 254 then
    return 'has more than 254 characters in its ASCII form';
  elsif mailbox ~ ('[' || chr(1) || '-' || chr(31) || chr(127) || '-' || chr(159) || ']') then
    return 'holds a control character';
  elsif domain is null then
    return 'has no @';
  elsif local = '' or domain = '' then
    return 'has nothing before or behind the @';
  elsif local ~ beyond_ascii then
    return 'has letters beyond ASCII before the @, which many mail servers cannot deliver';
  elsif local !~ '^[a-zA-Z0-9!#$%&''*+/=?^_`{|}~-]+([.][a-zA-Z0-9!#$%&''*+/=?^_`{|}~-]+)*$' then
    return 'has more than letters, digits, inner dots and !#$%&''*+-/=?^_`{|}~ before the @';
  elsif length(local) > 64 then
    return 'has more than 64 characters before the @';
  elsif starts_with(domain, '[') or domain ~ '(^|[.])[0-9]+$' then
    return 'has an IP address or a number where the domain belongs';
  end if;
  foreach label in array string_to_array(domain, '.') loop
    if label ~ beyond_ascii then
      if label !~ ('^[' || right_to_left || ']+$')
        and (label !~ ('^[' || left_to_right || '-]+$') or label ~ '^-|-$|^..--') then
        return 'has a domain label with a letter that is not taken as it is: give the label in its ASCII form, xn--…';
      end if;
      label_length := 4 + actions_private.punycode_length(label);
    elsif label !~ '^[a-zA-Z0-9]([a-zA-Z0-9-]*[a-zA-Z0-9])?$' then
      return 'has a domain label of other than letters, digits and inner hyphens';
    else
      label_length := length(label);
    end if;
    if label_length > 63 then
      return 'has a domain label of more than 63 characters in its ASCII form';
    end if;
    ascii_length := ascii_length + 1 + label_length;
  end loop;
  return case when ascii_length > 254 then 'has more than 254 characters in its ASCII form' end;
end
$$;
comment on function actions_private.mailbox_fault(text) is
  'What is wrong with a mailbox, as a sentence that it begins; null where mail can be sent to it. Example: select actions_private.mailbox_fault(''Ada <ada@acme.com>'');';

create function actions_private.is_mailbox(mailbox text) returns boolean
language sql immutable
return mailbox is not null and actions_private.mailbox_fault(mailbox) is null;
comment on function actions_private.is_mailbox(text) is
  'Whether mail can be sent to it: name@domain, the name in ASCII, the domain in ASCII or internationalised. Example: select actions_private.is_mailbox(''ada@bücher.example'');';

create function actions_private.refuse_wrong_member(members json) returns void
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
declare
  wrong record;
begin
  if members is null or json_typeof(members) <> 'array' then
    perform actions_private.refuse(
      format('members is %s', case when members is null then 'null' else 'a JSON ' || json_typeof(members) end),
      'Accepted is a JSON array of objects {"email", "role"}.', 'Pass every member of the project; owners and admins get mail.');
  end if;
  select t.n - 1 as place, c.* into wrong
  from json_array_elements(members) with ordinality as t (m, n)
  cross join lateral (
    select case when json_typeof(m) = 'object' then m end as object, case when json_typeof(m) = 'object' then m -> 'email' end as email,
      case when json_typeof(m) = 'object' then m -> 'role' end as role
  ) as o
  cross join lateral (
    select case when o.object is null then '' when f.fault is not null then '.email' else '.role' end as field,
      left(coalesce(case when o.object is null then m when f.fault is not null then o.email else o.role end::text, 'missing'), 100) as given,
      f.fault, o.object is null or f.fault is not null or json_typeof(o.role) is distinct from 'string' or o.role #>> '{}' = '' as is_wrong
    from (
      select case when json_typeof(o.email) is distinct from 'string' then 'is no text' else actions_private.mailbox_fault(o.email #>> '{}') end as fault
    ) as f
  ) as c
  where c.is_wrong
  order by t.n
  limit 1;
  if found then
    perform actions_private.refuse(
      format('members[%s]%s is %s', wrong.place, wrong.field, wrong.given) || case when wrong.field = '.email' then ', which ' || wrong.fault else '' end,
      case wrong.field
        when '' then 'Accepted is a JSON object {"email", "role"}.'
        when '.role' then 'Accepted is a text that is not empty.'
        else 'Accepted is a mailbox such as ada@acme.com, of up to 254 characters: before the @ up to 64 ASCII characters, behind it a domain, which may be internationalised; no display name, no quotes, no IP address.'
      end,
      'Pass every member of the project; owners and admins get mail. Nothing was changed.');
  end if;
end
$$;
comment on function actions_private.refuse_wrong_member(json) is
  'Raises the first member that set_project_members does not take. Example: select actions_private.refuse_wrong_member(''[{"email":"ada@acme.com","role":"owner"}]'');';

create function actions.set_project_members(project_id text, members json, actor text default null) returns void
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
create function actions.project_members(project_id text) returns table (email text, role text)
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

-- A function with a parsed body: what a backslash means does not depend on the session.
create function actions_private.is_endpoint_url(endpoint_url text) returns boolean
language sql immutable parallel safe
return pg_catalog.length(endpoint_url) <= 2048 and endpoint_url ~* '^https://[^/?#@\\[:space:][:cntrl:]]+([/?#][^[:space:][:cntrl:]]*)?$';
comment on function actions_private.is_endpoint_url(text) is
  'True for an https URL without user-info and white space. Example: select actions_private.is_endpoint_url(''https://hooks.acme.com/authio'');';

-- The rules of a configuration, the same for a new action and for a change. The address
-- rules are not here: they run in the worker, at every call.
create function actions_private.check_configuration(name text, endpoint_url text, timeout_ms integer, fail_mode text, on_killed text, require_response_signature boolean, check_every_s integer)
returns void language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
begin
  if name is null or length(name) not between 1 and 200 then
    perform actions_private.refuse(format('name is %s', coalesce(quote_literal(left(name, 210)), 'null')),
      'Accepted is a text of 1 to 200 characters.', 'Name the action as people should see it.');
  end if;
  if not coalesce(actions_private.is_endpoint_url(endpoint_url), false) then
    perform actions_private.refuse(format('endpoint_url is %s', coalesce(quote_literal(left(endpoint_url, 200)), 'null')),
      'Accepted is an https:// URL of up to 2048 characters without user-info (user:password@) and white space.',
      'actionsctl check-url tells what the fleet would say to a URL.');
  end if;
  if timeout_ms is null or timeout_ms not between 100 and 5000 then
    perform actions_private.refuse(format('timeout_ms is %s', coalesce(timeout_ms::text, 'null')),
      'Accepted is 100 to 5000 (milliseconds).', 'The default is 2000.');
  end if;
  if fail_mode is null or fail_mode not in ('open', 'closed') then
    perform actions_private.refuse(format('fail_mode is %s', coalesce(quote_literal(left(fail_mode, 100)), 'null')),
      'Accepted is open or closed.', 'open lets people in when the endpoint fails, closed keeps them out.');
  end if;
  if on_killed is null or on_killed not in ('skip', 'deny') then
    perform actions_private.refuse(format('on_killed is %s', coalesce(quote_literal(left(on_killed, 100)), 'null')),
      'Accepted is skip or deny.', 'skip treats a killed action as if it did not exist; deny is for compliance gates.');
  end if;
  if require_response_signature is null then
    perform actions_private.refuse('require_response_signature is null', 'Accepted is true or false.', 'The default is false.');
  end if;
  if check_every_s is null or check_every_s <> 0 and check_every_s not between 10 and 86400 then
    perform actions_private.refuse(format('check_every_s is %s', coalesce(check_every_s::text, 'null')),
      'Accepted is 10 to 86400 (seconds), or 0 for no checks.', 'Each check is a real call with metadata.test = true.');
  end if;
end
$$;
comment on function actions_private.check_configuration(text, text, integer, text, text, boolean, integer) is
  'Raises what is wrong with an action''s configuration. Example: select actions_private.check_configuration(''Fraud check'', ''https://hooks.acme.com/a'', 2000, ''open'', ''skip'', false, 0);';

create function actions_private.write_audit(before actions.actions, after actions.actions, event text, actor text) returns void
language sql volatile
begin atomic
  insert into actions_private.audit_log (project_id, action_id, event, actor, details)
  values (coalesce((after).project_id, (before).project_id), coalesce((after).action_id, (before).action_id), event, actor,
    pg_catalog.json_build_object('before', before, 'after', after, 'changed', (
      select coalesce(pg_catalog.json_object_agg(n.key, pg_catalog.json_build_array(o.value, n.value) order by n.key), '{}')
      from pg_catalog.jsonb_each(pg_catalog.to_jsonb(after)) as n
      join pg_catalog.jsonb_each(pg_catalog.to_jsonb(before)) as o on o.key = n.key and o.value is distinct from n.value
      -- Secrets are seen at any moment, and by nobody who changes something.
      where n.key not in ('updated_at', 'secret_seen_at'))));
end;
comment on function actions_private.write_audit(actions.actions, actions.actions, text, text) is
  'One audit event with the action before and after, and what differs. Example: select actions_private.write_audit(a, a, ''action.updated'', ''ada@acme.com'') from actions.actions as a where action_id = ''action_01JD3X6G8Q7N9V8R2M4T6W8Y0B'';';

create function actions_private.lock_action(action_id text) returns actions.actions
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  found_row actions.actions;
begin
  -- The project first, like everybody who changes something of it: no two wait for each other, and
  -- two who enable an action for the same trigger do so one after the other.
  perform from actions_private.projects as p
  where p.id = (select a.project_id from actions_private.actions as a where a.id = lock_action.action_id) for no key update;
  perform from actions_private.actions as a where a.id = lock_action.action_id and a.deleted_at is null for update;
  select * into found_row from actions.actions as a where a.action_id = lock_action.action_id;
  if not found then
    perform actions_private.refuse(format('action_id is %s', coalesce(quote_literal(left(action_id, 100)), 'null')),
      'Accepted is the id of an action that is not deleted.', 'List them with: select action_id, name from actions.actions;');
  end if;
  return found_row;
end
$$;
comment on function actions_private.lock_action(text) is
  'Locks an action and its project for a change and returns the action as it was. Example: select * from actions_private.lock_action(''action_01JD3X6G8Q7N9V8R2M4T6W8Y0B'');';

create function actions_private.refuse_second_action(project_id text, trigger text, but_not text) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  other text;
begin
  select a.id into other from actions_private.actions as a
  where a.project_id = refuse_second_action.project_id and a.trigger = refuse_second_action.trigger
    and a.enabled and a.deleted_at is null and a.id is distinct from but_not;
  if found then
    perform actions_private.refuse(
      format('project %s has the enabled action %s for %s already', project_id, other, trigger),
      'Accepted is one enabled action per project and trigger.',
      format('Disable it first: select actions.set_enabled(%L, false, ''you'');', other));
  end if;
end
$$;
comment on function actions_private.refuse_second_action(text, text, text) is
  'Raises if another enabled action holds the trigger; for callers that hold the project''s lock. Example: select actions_private.refuse_second_action(''proj_acme_prod'', ''pre_register'', null);';

create function actions.create_action(
  project_id text, trigger text, endpoint_url text, name text, timeout_ms integer default 2000, fail_mode text default 'open',
  on_killed text default 'skip', require_response_signature boolean default false, actor text default null
) returns actions.actions
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  new_id constant text := actions_private.new_id('action_');
  after actions.actions;
begin
  perform actions_private.known_project(project_id);
  perform actions_private.check_request(project_id, trigger, '{}', null);
  perform actions_private.check_configuration(name, endpoint_url, timeout_ms, fail_mode, on_killed, require_response_signature, 0);
  perform actions_private.refuse_second_action(project_id, trigger, null);
  insert into actions_private.actions (id, project_id, project_revision, trigger, version, timeout_ms)
  select new_id, p.id, p.revision, create_action.trigger, 1, create_action.timeout_ms
  from actions_private.projects as p
  where p.id = create_action.project_id;
  insert into actions_private.action_versions
    (action_id, version, name, endpoint_url, timeout_ms, fail_mode, on_killed, require_response_signature, created_by)
  values (new_id, 1, create_action.name, create_action.endpoint_url, create_action.timeout_ms, create_action.fail_mode,
    create_action.on_killed, create_action.require_response_signature, create_action.actor);
  select * into after from actions.actions as a where a.action_id = new_id;
  perform actions_private.write_audit(null, after, 'action.created', actor);
  -- Only a holder of the root keys can fingerprint the new secret: one of the workers does.
  perform pg_notify('actions_queue', 'secrets') where actions_private.may_notify();
  return after;
end
$$;
comment on function actions.create_action(text, text, text, text, integer, text, text, boolean, text) is
  'Binds a customer''s endpoint to a trigger of a project, enabled. actionsctl action secret shows its signing secret. Example: select * from actions.create_action(''proj_acme_prod'', ''pre_token_mint'', ''https://hooks.acme.com/authio'', ''Roles from Acme'');';

create function actions.update_action(action_id text, changes json, actor text default null) returns actions.actions
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  before constant actions.actions := actions_private.lock_action(action_id);
  wrong record;
  base actions_private.action_versions;
  after actions.actions;
begin
  perform actions_private.refuse_unstorable('changes', changes);
  if changes is null or json_typeof(changes) <> 'object' then
    perform actions_private.refuse(
      format('changes is %s', case when changes is null then 'null' else 'a JSON ' || json_typeof(changes) end),
      'Accepted is a JSON object with any of name, endpoint_url, timeout_ms, fail_mode, on_killed, require_response_signature, check_every_s; or version, to restore an earlier one.',
      'Example: {"timeout_ms": 3000}');
  end if;
  select c.key, json_typeof(c.value) as kind, k.kind as accepted into wrong
  from json_each(changes) as c
  left join (values ('name', 'string'), ('endpoint_url', 'string'), ('timeout_ms', 'number'), ('fail_mode', 'string'),
    ('on_killed', 'string'), ('require_response_signature', 'boolean'), ('check_every_s', 'number'), ('version', 'number')) as k (key, kind) on k.key = c.key
  where k.kind is distinct from json_typeof(c.value) or k.kind = 'number' and c.value::text !~ '^[0-9]{1,9}$' limit 1;
  if found then
    perform actions_private.refuse(
      case when wrong.accepted is null then format('changes has the key %I', wrong.key)
           else format('%s is %s', wrong.key, coalesce(changes ->> wrong.key, 'null')) end,
      case when wrong.accepted is null
           then 'Accepted are name, endpoint_url, timeout_ms, fail_mode, on_killed, require_response_signature, check_every_s and version.'
           else format('Accepted is a JSON %s%s.', wrong.accepted, case wrong.accepted when 'number' then ' without fraction' else '' end) end,
      case when wrong.key = 'enabled' then 'Use actions.set_enabled.' else 'Nothing was changed.' end);
  end if;
  select * into base from actions_private.action_versions as v
  where v.action_id = before.action_id and v.version = coalesce((changes ->> 'version')::integer, before.version);
  if not found then
    perform actions_private.refuse(format('version is %s', changes ->> 'version'),
      format('Accepted is 1 to %s.', before.version), 'The audit log tells what each change made.');
  end if;
  base.name := coalesce(changes ->> 'name', base.name);
  base.endpoint_url := coalesce(changes ->> 'endpoint_url', base.endpoint_url);
  base.timeout_ms := coalesce((changes ->> 'timeout_ms')::integer, base.timeout_ms);
  base.fail_mode := coalesce(changes ->> 'fail_mode', base.fail_mode);
  base.on_killed := coalesce(changes ->> 'on_killed', base.on_killed);
  base.require_response_signature := coalesce((changes ->> 'require_response_signature')::boolean, base.require_response_signature);
  base.check_every_s := coalesce((changes ->> 'check_every_s')::integer, base.check_every_s);
  perform actions_private.check_configuration(
    base.name, base.endpoint_url, base.timeout_ms, base.fail_mode, base.on_killed, base.require_response_signature, base.check_every_s);
  base.version := before.version + 1;
  base.created_at := now();
  base.created_by := actor;
  insert into actions_private.action_versions select base.*;
  update actions_private.actions as a set version = base.version, timeout_ms = base.timeout_ms, updated_at = now() where a.id = before.action_id;
  select * into after from actions.actions as a where a.action_id = before.action_id;
  perform actions_private.write_audit(before, after, 'action.updated', actor);
  return after;
end
$$;
comment on function actions.update_action(text, json, text) is
  'Changes an action''s configuration by adding a version; {"version": n} restores an earlier one. Example: select * from actions.update_action(''action_01JD3X6G8Q7N9V8R2M4T6W8Y0B'', ''{"timeout_ms": 3000}'', ''ada@acme.com'');';

create function actions.set_enabled(action_id text, enabled boolean, actor text default null) returns actions.actions
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  before constant actions.actions := actions_private.lock_action(action_id);
  after actions.actions;
begin
  if enabled is null then
    perform actions_private.refuse('enabled is null', 'Accepted is true or false.', 'Nothing was changed.');
  end if;
  if enabled = before.enabled then
    return before;
  end if;
  if enabled then
    perform actions_private.refuse_second_action(before.project_id, before.trigger, before.action_id);
  end if;
  update actions_private.actions as a
  set enabled = set_enabled.enabled, updated_at = now(),
    counting_since = case when set_enabled.enabled then clock_timestamp() else a.counting_since end
  where a.id = before.action_id;
  select * into after from actions.actions as a where a.action_id = before.action_id;
  perform actions_private.write_audit(before, after, case when enabled then 'action.enabled' else 'action.disabled' end, actor);
  return after;
end
$$;
comment on function actions.set_enabled(text, boolean, text) is
  'Switches an action on or off. A kill is another matter: see actions.reenable_action. Example: select * from actions.set_enabled(''action_01JD3X6G8Q7N9V8R2M4T6W8Y0B'', false, ''ada@acme.com'');';

create function actions.reenable_action(action_id text, actor text default null) returns actions.actions
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  before constant actions.actions := actions_private.lock_action(action_id);
  after actions.actions;
begin
  if before.killed_at is null and before.enabled then
    return before;
  end if;
  perform actions_private.refuse_second_action(before.project_id, before.trigger, before.action_id);
  update actions_private.actions as a
  set killed_at = null, killed_reason = null, enabled = true, counting_since = clock_timestamp(), updated_at = now()
  where a.id = before.action_id;
  select * into after from actions.actions as a where a.action_id = before.action_id;
  perform actions_private.write_audit(before, after, 'action.reenabled', actor);
  return after;
end
$$;
comment on function actions.reenable_action(text, text) is
  'Takes back a kill and starts a fresh window. Example: select * from actions.reenable_action(''action_01JD3X6G8Q7N9V8R2M4T6W8Y0B'', ''ada@acme.com'');';

create function actions.delete_action(action_id text, actor text default null) returns actions.actions
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  before constant actions.actions := actions_private.lock_action(action_id);
  after actions.actions := before;
begin
  after.enabled := false;
  after.updated_at := now();
  update actions_private.actions as a
  set deleted_at = now(), enabled = false, updated_at = now() where a.id = before.action_id;
  perform actions_private.write_audit(before, after, 'action.deleted', actor);
  return after;
end
$$;
comment on function actions.delete_action(text, text) is
  'Deletes an action for good; its invocations stay until the retention ends, those in flight are finished. Example: select * from actions.delete_action(''action_01JD3X6G8Q7N9V8R2M4T6W8Y0B'', ''ada@acme.com'');';
