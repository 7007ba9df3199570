-- Identifiers are a prefix and 26 Crockford base-32 characters of a UUIDv7.
--
-- Laid out in base 32, a UUIDv7 falls into two parts without a remainder:
--
--   10 characters   48 bits   milliseconds since 1970, so ids sort by time
--   16 characters   80 bits   4 version, 1 zero, 10 counter, 1 zero, 2 variant, 2 zeros, 60 random
--
-- The counter keeps the order of events that one statement enqueues.
--
-- That sorting is used: history is partitioned by ranges of the id itself.
-- Wherever ids are compared the collation is "C", which sorts them by bytes.

create function actions_private.letters(bits bigint, count integer) returns text
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

create function actions_private.id_time(at timestamptz) returns text
language sql stable parallel safe
return actions_private.letters(pg_catalog.floor(pg_catalog.date_part('epoch', at) * 1000)::bigint, 10);
comment on function actions_private.id_time(timestamptz) is
  'The first 10 characters of every id made in the millisecond of at. Example: select actions_private.id_time(now());';

-- gen_random_uuid() is the strong randomness at hand.
create function actions_private.id_random() returns text
language sql volatile parallel safe
return 'E008' || actions_private.letters(pg_catalog.uuid_hash_extended(pg_catalog.gen_random_uuid(), 1), 12);
comment on function actions_private.id_random() is
  'The last 16 characters of a new id. Example: select actions_private.id_random();';

create function actions_private.new_id(prefix text) returns text
language sql volatile parallel safe
return prefix || actions_private.id_time(pg_catalog.clock_timestamp()) || actions_private.id_random();
comment on function actions_private.new_id(text) is
  'A new identifier. Example: select actions_private.new_id(''action_'');';

-- Where many are made at once, each must be quick and getting ready may take longer: an
-- expression that is expanded in place, and two characters at a time, looked up in bytes,
-- because text is walked letter by letter.
create function actions_private.pairs() returns bytea
language sql immutable parallel safe
begin atomic
  select pg_catalog.convert_to(pg_catalog.string_agg(actions_private.letters(n, 2), '' order by n), 'UTF8')
  from pg_catalog.generate_series(0, 1023) as n;
end;
comment on function actions_private.pairs() is
  'All pairs of base-32 characters in order: the one for 10 bits is at twice their value. Computed once for each plan. Example: select length(actions_private.pairs());';

create function actions_private.id_tail(counter bigint, bits bigint) returns text
language sql immutable parallel safe
return pg_catalog.encode(
  'E'::bytea || pg_catalog.substr(actions_private.pairs(), (counter & 1023)::integer * 2 + 1, 2) || '8'::bytea
  || pg_catalog.substr(actions_private.pairs(), (bits & 1023)::integer * 2 + 1, 2) || pg_catalog.substr(actions_private.pairs(), ((bits >> 10) & 1023)::integer * 2 + 1, 2)
  || pg_catalog.substr(actions_private.pairs(), ((bits >> 20) & 1023)::integer * 2 + 1, 2) || pg_catalog.substr(actions_private.pairs(), ((bits >> 30) & 1023)::integer * 2 + 1, 2)
  || pg_catalog.substr(actions_private.pairs(), ((bits >> 40) & 1023)::integer * 2 + 1, 2) || pg_catalog.substr(actions_private.pairs(), ((bits >> 50) & 1023)::integer * 2 + 1, 2), 'escape');
comment on function actions_private.id_tail(bigint, bigint) is
  'The last 16 characters of an id: a counter up to 1023, and 60 random bits. Example: select actions_private.id_tail(0, 1);';
