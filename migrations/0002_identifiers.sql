-- Identifiers are a prefix and 26 Crockford base-32 characters of a UUIDv7.
--
-- Laid out in base 32, a UUIDv7 falls into two parts without a remainder:
--
--   10 characters   48 bits   milliseconds since 1970, so ids sort by time
--   16 characters   80 bits   4 version, 11 counter, 1 random, 2 variant, 62 random
--
-- The counter keeps the order of events that one statement enqueues.
--
-- That sorting is used: history is partitioned by ranges of the id itself.
-- Wherever ids are compared the collation is "C", which sorts them by bytes.

-- Two of these are made for each enqueued event, so they are written for speed: functions
-- whose body is one expression are expanded in place, and the others keep to PL/pgSQL's
-- simple expressions.
create function actions_private.id_time(at timestamptz) returns text
language plpgsql immutable parallel safe set search_path = pg_catalog, pg_temp
as $$
declare
  ms constant bigint := floor(extract(epoch from at) * 1000);
begin
  return
    substr('0123456789ABCDEFGHJKMNPQRSTVWXYZ', ((ms >> 45) & 31)::integer + 1, 1) || substr('0123456789ABCDEFGHJKMNPQRSTVWXYZ', ((ms >> 40) & 31)::integer + 1, 1) ||
    substr('0123456789ABCDEFGHJKMNPQRSTVWXYZ', ((ms >> 35) & 31)::integer + 1, 1) || substr('0123456789ABCDEFGHJKMNPQRSTVWXYZ', ((ms >> 30) & 31)::integer + 1, 1) ||
    substr('0123456789ABCDEFGHJKMNPQRSTVWXYZ', ((ms >> 25) & 31)::integer + 1, 1) || substr('0123456789ABCDEFGHJKMNPQRSTVWXYZ', ((ms >> 20) & 31)::integer + 1, 1) ||
    substr('0123456789ABCDEFGHJKMNPQRSTVWXYZ', ((ms >> 15) & 31)::integer + 1, 1) || substr('0123456789ABCDEFGHJKMNPQRSTVWXYZ', ((ms >> 10) & 31)::integer + 1, 1) ||
    substr('0123456789ABCDEFGHJKMNPQRSTVWXYZ', ((ms >> 5) & 31)::integer + 1, 1) || substr('0123456789ABCDEFGHJKMNPQRSTVWXYZ', (ms & 31)::integer + 1, 1);
end
$$;
comment on function actions_private.id_time(timestamptz) is
  'The first 10 characters of every id made in the millisecond of at. Example: select actions_private.id_time(now());';

create function actions_private.id_tail(counter bigint, a bigint, b bigint) returns text
language sql immutable parallel safe
return
  -- version 0111 and the counter's 11 bits
  pg_catalog.substr('EF', ((counter >> 10) & 1)::integer + 1, 1)
  || pg_catalog.substr('0123456789ABCDEFGHJKMNPQRSTVWXYZ', ((counter >> 5) & 31)::integer + 1, 1) || pg_catalog.substr('0123456789ABCDEFGHJKMNPQRSTVWXYZ', (counter & 31)::integer + 1, 1)
  -- one random bit, variant 10, two random bits
  || pg_catalog.substr('89ABRSTV', (a & 7)::integer + 1, 1)
  || pg_catalog.substr('0123456789ABCDEFGHJKMNPQRSTVWXYZ', (b & 31)::integer + 1, 1) || pg_catalog.substr('0123456789ABCDEFGHJKMNPQRSTVWXYZ', ((b >> 5) & 31)::integer + 1, 1)
  || pg_catalog.substr('0123456789ABCDEFGHJKMNPQRSTVWXYZ', ((b >> 10) & 31)::integer + 1, 1) || pg_catalog.substr('0123456789ABCDEFGHJKMNPQRSTVWXYZ', ((b >> 15) & 31)::integer + 1, 1)
  || pg_catalog.substr('0123456789ABCDEFGHJKMNPQRSTVWXYZ', ((b >> 20) & 31)::integer + 1, 1) || pg_catalog.substr('0123456789ABCDEFGHJKMNPQRSTVWXYZ', ((b >> 25) & 31)::integer + 1, 1)
  || pg_catalog.substr('0123456789ABCDEFGHJKMNPQRSTVWXYZ', ((b >> 30) & 31)::integer + 1, 1) || pg_catalog.substr('0123456789ABCDEFGHJKMNPQRSTVWXYZ', ((b >> 35) & 31)::integer + 1, 1)
  || pg_catalog.substr('0123456789ABCDEFGHJKMNPQRSTVWXYZ', ((b >> 40) & 31)::integer + 1, 1) || pg_catalog.substr('0123456789ABCDEFGHJKMNPQRSTVWXYZ', ((b >> 45) & 31)::integer + 1, 1)
  || pg_catalog.substr('0123456789ABCDEFGHJKMNPQRSTVWXYZ', ((b >> 50) & 31)::integer + 1, 1) || pg_catalog.substr('0123456789ABCDEFGHJKMNPQRSTVWXYZ', ((b >> 55) & 31)::integer + 1, 1);
comment on function actions_private.id_tail(bigint, bigint, bigint) is
  'The last 16 characters of an id: a counter up to 2047, and 63 of 128 random bits. Example: select actions_private.id_tail(0, 1, 2);';

-- gen_random_uuid() is the strong randomness at hand: 122 bits, from which two
-- differently seeded hashes take 64 each.
create function actions_private.id_random() returns text
language plpgsql volatile parallel safe set search_path = pg_catalog, pg_temp
as $$
declare
  seed constant uuid := gen_random_uuid();
  a constant bigint := uuid_hash_extended(seed, 1);
begin
  return actions_private.id_tail((a >> 8) & 2047, a, uuid_hash_extended(seed, 2));
end
$$;
comment on function actions_private.id_random() is
  'The last 16 characters of a new id. Example: select actions_private.id_random();';

create function actions_private.new_id(prefix text) returns text
language sql volatile parallel safe
return prefix || actions_private.id_time(pg_catalog.clock_timestamp()) || actions_private.id_random();
comment on function actions_private.new_id(text) is
  'A new identifier. Example: select actions_private.new_id(''action_'');';
