-- Identifiers are a prefix and 26 Crockford base-32 characters of a UUIDv7.
--
-- Laid out in base 32, a UUIDv7 falls into two parts without a remainder:
--
--   10 characters   48 bits   milliseconds since 1970, so ids sort by time
--   16 characters   80 bits   4 version, 12 random, 2 variant, 62 random
--
-- That sorting is used: history is partitioned by ranges of the id itself.
-- Wherever ids are compared the collation is "C", which sorts them by bytes.

create function actions_private.id_time(at timestamptz) returns text
language sql immutable parallel safe
return (
  select pg_catalog.string_agg(
    pg_catalog.substr('0123456789ABCDEFGHJKMNPQRSTVWXYZ', ((ms >> shift) & 31)::integer + 1, 1), '' order by shift desc)
  from (select pg_catalog.floor(extract(epoch from at) * 1000)::bigint as ms) as clock,
       pg_catalog.unnest(array[45, 40, 35, 30, 25, 20, 15, 10, 5, 0]) as shift
);
comment on function actions_private.id_time(timestamptz) is
  'The first 10 characters of every id made in the millisecond of at. Example: select actions_private.id_time(now());';

-- gen_random_uuid() is the strong randomness at hand. In base 64 its characters
-- 1-8 and 13-20 hold none of the UUIDv4''s own fixed bits: 16 random characters of
-- 64 kinds, and translate() halves (or more) the kinds without favouring any.
create function actions_private.id_random() returns text
language sql volatile parallel safe
return (
  select
    -- version 0111 and one random bit
    pg_catalog.translate(pg_catalog.substr(r, 1, 1), a, pg_catalog.repeat('EF', 32))
    || pg_catalog.translate(pg_catalog.substr(r, 2, 2), a, pg_catalog.repeat('0123456789ABCDEFGHJKMNPQRSTVWXYZ', 2))
    -- one random bit, variant 10, two random bits
    || pg_catalog.translate(pg_catalog.substr(r, 4, 1), a, pg_catalog.repeat('89ABRSTV', 8))
    || pg_catalog.translate(pg_catalog.substr(r, 5, 12), a, pg_catalog.repeat('0123456789ABCDEFGHJKMNPQRSTVWXYZ', 2))
  from (
    select pg_catalog.substr(e, 1, 8) || pg_catalog.substr(e, 13, 8) as r,
           'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/' as a
    from (select pg_catalog.encode(pg_catalog.uuid_send(pg_catalog.gen_random_uuid()), 'base64') as e) as strong
  ) as letters
);
comment on function actions_private.id_random() is
  'The last 16 characters of a new id. Example: select actions_private.id_random();';

create function actions_private.new_id(prefix text) returns text
language sql volatile parallel safe
return prefix || actions_private.id_time(pg_catalog.clock_timestamp()) || actions_private.id_random();
comment on function actions_private.new_id(text) is
  'A new identifier. Example: select actions_private.new_id(''action_'');';
