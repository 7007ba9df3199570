-- Identifiers are a prefix and 26 Crockford base-32 characters of a UUIDv7.
--
-- Laid out in base 32, a UUIDv7 falls into two parts without a remainder:
--
--   10 characters   48 bits   milliseconds since 1970, so ids sort by time
--   16 characters   80 bits   4 version, 1 zero, 8 counter, 1 zero, 2 variant, 2 zeros, then
--                             12 times 1 zero and 4 bits: 1 counter, 11 random
--
-- The zeros let a hexadecimal number be the base-32 text: PostgreSQL writes those itself.
-- The counter keeps the order of events that one statement enqueues.
--
-- That sorting is used: history is partitioned by ranges of the id itself.
-- Wherever ids are compared the collation is "C", which sorts them by bytes.

create or replace function actions_private.letters(bits bigint, count integer) returns text
language plpgsql immutable parallel safe
as $$
declare
  name bytea := '';
begin
  for place in reverse count - 1 .. 0 loop
    name := name || pg_catalog.substr('0123456789ABCDEFGHJKMNPQRSTVWXYZ'::bytea, ((bits >> (5 * place)) & 31)::integer + 1, 1);
  end loop;
  return pg_catalog.encode(name, 'escape');
end
$$;
comment on function actions_private.letters(bigint, integer) is
  'The lowest 5 * count bits in base 32. Example: select actions_private.letters(1795000000000, 10);';

create or replace function actions_private.id_time(at timestamptz) returns text
language sql stable parallel safe
return actions_private.letters(pg_catalog.floor(pg_catalog.date_part('epoch', at) * 1000)::bigint, 10);
comment on function actions_private.id_time(timestamptz) is
  'The first 10 characters of every id made in the millisecond of at. Example: select actions_private.id_time(now());';

create or replace function actions_private.id_tail(counter bigint, bits bigint) returns text
language sql immutable parallel safe
return pg_catalog.upper(pg_catalog.to_hex(x'E008000000000000'::bigint
  | (((counter >> 4) & 255) << 52) | ((counter & 15) << 44) | (bits & x'FFFFFFFFFFF'::bigint)) collate "C");
comment on function actions_private.id_tail(bigint, bigint) is
  'The last 16 characters of an id: a counter up to 4095, and the lowest 44 of the bits. Example: select actions_private.id_tail(0, 1);';

-- gen_random_uuid() is the strong randomness at hand.
create or replace function actions_private.id_random() returns text
language sql volatile parallel safe
return actions_private.id_tail(0, pg_catalog.uuid_hash_extended(pg_catalog.gen_random_uuid(), 1));
comment on function actions_private.id_random() is
  'The last 16 characters of a new id. Example: select actions_private.id_random();';

create or replace function actions_private.new_id(prefix text) returns text
language sql volatile parallel safe
return prefix || actions_private.id_time(pg_catalog.clock_timestamp()) || actions_private.id_random();
comment on function actions_private.new_id(text) is
  'A new identifier. Example: select actions_private.new_id(''action_'');';

create or replace function actions_private.id_moment(id text) returns timestamptz
language sql immutable parallel safe
return pg_catalog.to_timestamp((
  select pg_catalog.sum((pg_catalog.strpos('0123456789ABCDEFGHJKMNPQRSTVWXYZ', pg_catalog.substr(pg_catalog.right(id, 26), place, 1)) - 1)
    * (32::numeric ^ (10 - place)))
  from pg_catalog.generate_series(1, 10) as place)::double precision / 1000);
comment on function actions_private.id_moment(text) is
  'When an id was made; the reverse of id_time. Example: select actions_private.id_moment(''inv_01JD3X6G8Q7N9V8R2M4T6W8Y0B'');';

create or replace function actions_private.is_event_id(event_id text) returns boolean
language sql immutable parallel safe
return event_id ~ '^evt_[0-7][0-9A-HJKMNP-TV-Z]{25}$' collate "C";
comment on function actions_private.is_event_id(text) is
  'True for the form that every event id has. Example: select actions_private.is_event_id(''evt_01JD3X6G8Q7N9V8R2M4T6W8Y0B'');';
