-- What control planes and operators see of projects and actions.

create or replace view actions.actions as
select a.id as action_id, a.project_id, a.trigger, v.name, v.endpoint_url, v.timeout_ms, v.fail_mode, v.on_killed,
  v.require_response_signature, a.enabled, a.killed_at, a.killed_reason, a.secret_version, a.secret_sha256,
  a.previous_secret_until, a.version, a.created_at, a.updated_at, a.secret_key_id, a.previous_secret_version,
  a.previous_secret_key_id, a.counting_since, a.secret_seen_at, v.check_every_s,
  v.condition, v.record_events, v.record_hours, v.last_known_s, v.recovery
from actions_private.actions as a
join actions_private.action_versions as v on v.action_id = a.id and v.version = a.version
where a.deleted_at is null;
comment on view actions.actions is
  'Every action that is not deleted, with its current configuration. Example: select name, endpoint_url, enabled, killed_reason from actions.actions where project_id = ''proj_acme_prod'';';
comment on column actions.actions.secret_seen_at is
  'When an answer signed with the current secret last arrived, to the minute; null if none has. Then requests carry its signature alone.';
comment on column actions.actions.condition is
  'A jsonpath predicate over the event: what does not meet it is not sent. Null sends every event.';
comment on column actions.actions.recovery is
  'manual, or probe: five test events in a row that end ok take a kill back.';
comment on column actions.actions.check_every_s is
  'Seconds between two test events that the fleet sends by itself; 0 sends none.';

create or replace view actions.versions as
select v.action_id, v.version, v.version = a.version as is_current, v.name, v.endpoint_url, v.timeout_ms, v.fail_mode, v.on_killed, v.require_response_signature,
  v.check_every_s, v.condition, v.record_events, v.record_hours, v.last_known_s, v.recovery, v.created_at, v.created_by
from actions_private.action_versions as v
join actions_private.actions as a on a.id = v.action_id
where a.deleted_at is null;
comment on view actions.versions is
  'Every version of every action that is not deleted: what it was set to, since when and by whom. Example: select version, endpoint_url, created_by from actions.versions where action_id = ''action_01JD3X6G8Q7N9V8R2M4T6W8Y0B'' order by version desc;';

create or replace view actions.projects as
select p.id as project_id, p.name, p.roles_action_override, p.role_slugs, p.created_at, p.updated_at, cardinality(p.break_glass) as break_glass_users
from actions_private.projects as p;
comment on view actions.projects is
  'Every project with its role slugs; its people are read with actions.project_members. Example: select project_id, name, role_slugs from actions.projects where project_id = ''proj_acme_prod'';';
