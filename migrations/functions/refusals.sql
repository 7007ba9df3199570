-- How a function says what was wrong: SQLSTATE 22023 with message, detail and hint.

create or replace function actions_private.refuse_change() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  raise exception '% rows never change', tg_table_name
    using errcode = '55000', hint = 'Add a new row instead.';
end
$$;
comment on function actions_private.refuse_change() is
  'Trigger body of tables whose rows are written once. Example: select ''actions_private.refuse_change''::regproc;';

create or replace function actions_private.refuse(message text, detail text, hint text) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  raise exception using errcode = '22023', message = refuse.message, detail = refuse.detail, hint = refuse.hint;
end
$$;
comment on function actions_private.refuse(text, text, text) is
  'Raises SQLSTATE 22023. Example: select actions_private.refuse(''timeout_ms is 7'', ''Accepted is 100 to 5000.'', ''Choose a timeout in that range.'');';

create or replace function actions_private.refuse_unstorable(name text, document json) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  perform document::jsonb;
exception when untranslatable_character or invalid_text_representation then
  perform actions_private.refuse(name || ' holds ' || chr(92) || 'u0000 or half of a surrogate pair',
    'Accepted is JSON whose strings PostgreSQL can store as text.', 'Leave the character out.');
end
$$;
comment on function actions_private.refuse_unstorable(text, json) is
  'Raises if a string of a JSON value cannot be a text. Example: select actions_private.refuse_unstorable(''changes'', ''{}'');';
