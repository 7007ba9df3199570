-- Which events an action is called for, and which of them a candidate gets.

create or replace function actions_private.refuse_condition(condition text) returns void
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
declare
  accepted constant text := 'Accepted is a jsonpath predicate of 1 to 1000 characters, or null for every event.';
  example constant text := 'Example: $.user.email like_regex "@acme[.]com$"';
begin
  if condition is null then
    return;
  end if;
  if condition ~ '^[[:space:]]*$' or length(condition) > 1000 then
    perform actions_private.refuse(
      case when length(condition) > 1000 then format('condition has %s characters', length(condition)) else 'condition is empty' end, accepted, example);
  end if;
  begin
    perform condition::jsonpath;
  exception when others then
    perform actions_private.refuse(format('condition is %L: %s', left(condition, 200), sqlerrm), accepted, example);
  end;
end
$$;
comment on function actions_private.refuse_condition(text) is
  'Raises what is wrong with a condition. Example: select actions_private.refuse_condition(''$.user.email_verified == true'');';

-- A gate is never skipped by accident: whatever is not plainly false counts as met, an event that jsonb
-- cannot hold, too.
create or replace function actions_private.is_met(event json, condition text) returns boolean
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
begin
  if condition is null then
    return true;
  end if;
  return coalesce(jsonb_path_match(event::text::jsonb, condition::jsonpath), true);
exception when others then
  return true;
end
$$;
comment on function actions_private.is_met(json, text) is
  'Whether an event meets a condition; true where that cannot be said. Example: select actions_private.is_met(''{"user":{"email":"a@acme.com"}}'', ''$.user.email like_regex "@acme[.]com$"'');';

create or replace function actions_private.side_of(event json, event_id text) returns integer
language sql immutable parallel safe
return ((hashtextextended(coalesce(actions_private.user_of(event), event_id), 0) & 9223372036854775807) % 100)::integer;
comment on function actions_private.side_of(json, text) is
  'A number from 0 to 99 that is the same for a person whenever he comes: below a candidate''s percent he is on its side. Example: select actions_private.side_of(''{"user":{"id":"user_1"}}'', ''evt_01JD3X6G8Q7N9V8R2M4T6W8Y0B'');';
