-- Identifiers are a prefix and 26 Crockford base-32 characters of a UUIDv7.
--
-- Laid out in base 32, a UUIDv7 falls into two parts without a remainder:
--
--   10 characters   48 bits   milliseconds since 1970, so ids sort by time
--   16 characters   80 bits   4 version, 1 zero, 10 counter, 1 random, 2 variant, 62 random
--
-- The counter keeps the order of events that one statement enqueues.
--
-- That sorting is used: history is partitioned by ranges of the id itself.
-- Wherever ids are compared the collation is "C", which sorts them by bytes.

-- One of these is made for each enqueued event, so they are written for speed: two characters
-- at a time, looked up in bytes, because text is walked letter by letter.
create function actions_private.pairs() returns bytea
language sql immutable parallel safe
begin atomic
  select pg_catalog.convert_to(pg_catalog.string_agg(a.letter || b.letter, '' order by a.n, b.n), 'UTF8')
  from pg_catalog.string_to_table('0 1 2 3 4 5 6 7 8 9 A B C D E F G H J K M N P Q R S T V W X Y Z', ' ') with ordinality as a (letter, n)
  cross join pg_catalog.string_to_table('0 1 2 3 4 5 6 7 8 9 A B C D E F G H J K M N P Q R S T V W X Y Z', ' ') with ordinality as b (letter, n);
end;
comment on function actions_private.pairs() is
  'All pairs of base-32 characters in order: the one for 10 bits is at twice their value. Computed once for each plan. Example: select length(actions_private.pairs());';

create function actions_private.id_ms(ms bigint) returns text
language sql immutable parallel safe
return pg_catalog.encode(
  pg_catalog.substr(actions_private.pairs(), ((ms >> 40) & 1023)::integer * 2 + 1, 2) || pg_catalog.substr(actions_private.pairs(), ((ms >> 30) & 1023)::integer * 2 + 1, 2)
  || pg_catalog.substr(actions_private.pairs(), ((ms >> 20) & 1023)::integer * 2 + 1, 2) || pg_catalog.substr(actions_private.pairs(), ((ms >> 10) & 1023)::integer * 2 + 1, 2)
  || pg_catalog.substr(actions_private.pairs(), (ms & 1023)::integer * 2 + 1, 2), 'escape');
comment on function actions_private.id_ms(bigint) is
  'The first 10 characters of every id made so many milliseconds after 1970. Example: select actions_private.id_ms(1795000000000);';

create function actions_private.id_time(at timestamptz) returns text
language sql stable parallel safe
return actions_private.id_ms(pg_catalog.floor(pg_catalog.date_part('epoch', at) * 1000)::bigint);
comment on function actions_private.id_time(timestamptz) is
  'The first 10 characters of every id made in the millisecond of at. Example: select actions_private.id_time(now());';

create function actions_private.id_tail(counter bigint, a bigint, b bigint) returns text
language sql immutable parallel safe
return pg_catalog.encode(
  -- version 0111 and the counter's first bit, which stays 0; its other ten
  'E' || pg_catalog.substr(actions_private.pairs(), (counter & 1023)::integer * 2 + 1, 2)
  -- one random bit, variant 10, two random bits
  || pg_catalog.substr('89ABRSTV'::bytea, (a & 7)::integer + 1, 1)
  || pg_catalog.substr(actions_private.pairs(), (b & 1023)::integer * 2 + 1, 2) || pg_catalog.substr(actions_private.pairs(), ((b >> 10) & 1023)::integer * 2 + 1, 2)
  || pg_catalog.substr(actions_private.pairs(), ((b >> 20) & 1023)::integer * 2 + 1, 2) || pg_catalog.substr(actions_private.pairs(), ((b >> 30) & 1023)::integer * 2 + 1, 2)
  || pg_catalog.substr(actions_private.pairs(), ((b >> 40) & 1023)::integer * 2 + 1, 2) || pg_catalog.substr(actions_private.pairs(), ((b >> 50) & 1023)::integer * 2 + 1, 2), 'escape');
comment on function actions_private.id_tail(bigint, bigint, bigint) is
  'The last 16 characters of an id: a counter up to 1023, and 63 of 128 random bits. Example: select actions_private.id_tail(0, 1, 2);';

-- gen_random_uuid() is the strong randomness at hand: 122 bits, from which two
-- differently seeded hashes take 64 each.
create function actions_private.id_random() returns text
language plpgsql volatile parallel safe set search_path = pg_catalog, pg_temp
as $$
declare
  seed constant uuid := gen_random_uuid();
  a constant bigint := uuid_hash_extended(seed, 1);
begin
  return actions_private.id_tail(a >> 8, a, uuid_hash_extended(seed, 2));
end
$$;
comment on function actions_private.id_random() is
  'The last 16 characters of a new id. Example: select actions_private.id_random();';

create function actions_private.new_id(prefix text) returns text
language sql volatile parallel safe
return prefix || actions_private.id_time(pg_catalog.clock_timestamp()) || actions_private.id_random();
comment on function actions_private.new_id(text) is
  'A new identifier. Example: select actions_private.new_id(''action_'');';
