-- JSON that PostgreSQL keeps but refuses to look into.

-- PostgreSQL keeps \u0000 and half surrogate pairs in a json value, but refuses to look
-- inside a value that has them. Where it must look, these escapes wear a mask.
create or replace function actions_private.mask_escapes(document text, mask text) returns text
language sql immutable parallel safe
return case when document ~ '\\u(0000|[dD][89a-fA-F])' then
  pg_catalog.regexp_replace(document, '((?:^|[^\\])(?:\\\\)*)\\u(?=0000|[dD][89a-fA-F])', '\1' || mask, 'g')
else document end;
comment on function actions_private.mask_escapes(text, text) is
  'Replaces the \u of escapes that json functions refuse; unmask takes it back. Example: select actions_private.mask_escapes(''{"a":"\u0000"}'', ''MASK'');';

-- A function with a parsed body, because a backslash in a text means two things: which one, says a
-- setting of the session, where the text is parsed when it is run.
create or replace function actions_private.unmask(document text, mask text) returns text
language sql immutable parallel safe
return pg_catalog.replace(document, mask, '\u');
comment on function actions_private.unmask(text, text) is
  'Takes back what mask_escapes did. Example: select actions_private.unmask(''{"a":"MASK0000"}'', ''MASK'');';
