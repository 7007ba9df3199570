-- What may be wrong with a request to enqueue.

create or replace function actions_private.check_request(project_id text, trigger text, event json, event_id text) returns void
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
declare
  envelope_key text;
begin
  if project_id is null or length(project_id) not between 1 and 255 then
    perform actions_private.refuse(
      case when project_id is null then 'project_id is null' else format('project_id has %s characters', length(project_id)) end,
      'Accepted is a text of 1 to 255 characters.', 'Pass the project in which the auth event happens.');
  end if;
  if trigger is null or trigger not in
    ('pre_authenticate', 'post_authenticate', 'pre_token_mint', 'post_token_mint', 'pre_register', 'post_register')
  then
    perform actions_private.refuse(
      format('trigger is %s', coalesce(quote_literal(left(trigger, 100)), 'null')),
      'Accepted is pre_authenticate, post_authenticate, pre_token_mint, post_token_mint, pre_register or post_register.',
      'Pass the moment of the auth event at which you are.');
  end if;
  if not actions_private.is_event_id(event_id) then
    perform actions_private.refuse(
      format('event_id is %L', left(event_id, 100)),
      'Accepted is evt_ and 26 upper-case Crockford base-32 characters of a UUIDv7.',
      'Leave event_id out to have one made.');
  end if;
  if event is null or json_typeof(event) <> 'object' then
    perform actions_private.refuse(
      format('event is %s', case when event is null then 'null' else 'a JSON ' || json_typeof(event) end),
      'Accepted is a JSON object with any of user, session, token, request, metadata.',
      'Pass {} when there is nothing to tell.');
  end if;
  if octet_length(event::text) > 1048576 then
    perform actions_private.refuse(
      format('event has %s bytes', octet_length(event::text)),
      'Accepted is up to 1048576 bytes of JSON.', 'Send identifiers instead of whole documents.');
  end if;
  select key into envelope_key
  from json_object_keys(actions_private.mask_escapes(event::text, '')::json) as key
  where key in ('event_id', 'trigger', 'occurred_at', 'project') limit 1;
  if found then
    perform actions_private.refuse(
      format('event has the key %I', envelope_key),
      'The keys event_id, trigger, occurred_at and project belong to the envelope, which the fleet writes.',
      case when envelope_key = 'event_id' then 'Pass it as the argument event_id.' else 'Leave the key out.' end);
  end if;
end
$$;
comment on function actions_private.check_request(text, text, json, text) is
  'Raises what is wrong with one request to enqueue. Example: select actions_private.check_request(''proj_acme_prod'', ''pre_register'', ''{}'', null);';

-- The cheap look at a request, expanded in place: at its event, and at its project and trigger
-- where no action was found, which would prove that they are right. What it does not pass at sight
-- goes to check_request, which says what is wrong or finds that nothing is: a backslash may spell
-- an envelope key, and a quoted word need not be a key.
create or replace function actions_private.is_plain(body text, event_id text) returns boolean
language sql immutable parallel safe
return (event_id is null or actions_private.is_event_id(event_id))
  and pg_catalog.starts_with(body, '{')
  and pg_catalog.octet_length(body) <= 1048576
  and pg_catalog.strpos(body, '\') = 0
  and pg_catalog.strpos(body, '"event_id"') = 0 and pg_catalog.strpos(body, '"trigger"') = 0
  and pg_catalog.strpos(body, '"occurred_at"') = 0 and pg_catalog.strpos(body, '"project"') = 0;
comment on function actions_private.is_plain(text, text) is
  'True where nothing can be wrong with the event of a request. Example: select actions_private.is_plain(''{}'', null);';

create or replace function actions_private.are_names(project_id text, trigger text) returns boolean
language sql immutable parallel safe
return pg_catalog.length(project_id) between 1 and 255
  and trigger in ('pre_authenticate', 'post_authenticate', 'pre_token_mint', 'post_token_mint', 'pre_register', 'post_register');
comment on function actions_private.are_names(text, text) is
  'True where a project and a trigger may have these names. Example: select actions_private.are_names(''proj_acme_prod'', ''pre_register'');';

-- Anybody who may connect to the database may notify any channel, so a waiter may demand that each
-- result carries a token that only it and the fleet know: channel/token.
create or replace function actions_private.is_reply_to(reply_to text) returns boolean
language sql immutable parallel safe
return case when pg_catalog.strpos(reply_to, '/') = 0
  then pg_catalog.octet_length(reply_to) between 1 and 63 and reply_to <> 'actions_queue'
  else reply_to ~ '^.+/[0-9A-Za-z]{8,32}$' collate "C" and pg_catalog.octet_length(pg_catalog.regexp_replace(reply_to, '/[0-9A-Za-z]*$' collate "C", '')) <= 63
    and not pg_catalog.starts_with(reply_to, 'actions_queue/')
end;
comment on function actions_private.is_reply_to(text) is
  'True for <channel> and <channel>/<token>. Example: select actions_private.is_reply_to(''auth_core_7/5f0cK2w9'');';

create or replace function actions_private.refuse_reply_to(reply_to text) returns void
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
declare
  channel constant text := regexp_replace(reply_to, '/[^/]*$', '');
begin
  perform actions_private.refuse(
    case when channel = 'actions_queue' then 'reply_to is the fleet''s own channel actions_queue'
         when octet_length(channel) not between 1 and 63 then format('the channel of reply_to has %s bytes', octet_length(channel))
         else format('reply_to has a token of %s characters that is not 8 to 32 letters and digits', length(reply_to) - length(channel) - 1) end,
    'Accepted is a channel name of 1 to 63 bytes of your own choice, or <channel>/<token> with a token of 8 to 32 of 0-9A-Za-z.',
    'LISTEN on a channel of your process and pass its name with a random token; or pass null and ask actions.result.');
end
$$;
comment on function actions_private.refuse_reply_to(text) is
  'Raises what is wrong with a reply channel. Example: select actions_private.refuse_reply_to(''actions_queue'');';
