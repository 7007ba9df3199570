-- What a mailbox is. The mailer's rule (src/smtp/mailbox.rs) is the same: what is taken here can be
-- sent to. The letters beyond ASCII are those that IDNA keeps as they are, so that the length of a
-- label's ASCII form is known without IDNA's tables.
create or replace function actions_private.punycode_length(label text) returns integer
language plpgsql immutable strict set search_path = pg_catalog, pg_temp
as $$
declare
  points constant integer[] := array(
    select ascii(t.letter) from unnest(string_to_array(lower(label collate "C"), null)) with ordinality as t (letter, place) order by t.place);
  basic constant integer := (select count(*) from unnest(points) as p where p < 128);
  handled integer := basic;
  length integer := basic + sign(basic);
  n integer := 128;
  delta bigint := 0;
  bias integer := 72;
  next integer;
  point integer;
  q bigint;
  k integer;
  t integer;
begin
  -- As in section 6.3 of RFC 3492, with digits counted instead of written.
  while handled < cardinality(points) loop
    next := (select min(p) from unnest(points) as p where p >= n);
    delta := delta + (next - n) * (handled + 1)::bigint;
    n := next;
    foreach point in array points loop
      delta := delta + (point < n)::integer;
      if point = n then
        q := delta;
        k := 36;
        loop
          t := least(greatest(k - bias, 1), 26);
          length := length + 1;
          exit when q < t;
          q := (q - t) / (36 - t);
          k := k + 36;
        end loop;
        delta := delta / case when handled = basic then 700 else 2 end;
        delta := delta + delta / (handled + 1);
        k := 0;
        while delta > 455 loop
          delta := delta / 35;
          k := k + 36;
        end loop;
        bias := k + 36 * delta / (delta + 38);
        delta := 0;
        handled := handled + 1;
      end if;
    end loop;
    delta := delta + 1;
    n := n + 1;
  end loop;
  return length;
end
$$;
comment on function actions_private.punycode_length(text) is
  'How long a label is in Punycode (RFC 3492), without the prefix xn--. Example: select actions_private.punycode_length(''bücher'');';

create or replace function actions_private.mailbox_fault(mailbox text) returns text
language plpgsql immutable strict set search_path = pg_catalog, pg_temp
as $$
declare
  local constant text := substring(mailbox from '^(.*)@[^@]*$');
  domain constant text := substring(mailbox from '@([^@]*)$');
  label text;
  label_length integer;
  ascii_length integer := length(local);
  -- Without a backslash: what that means in a text depends on the session.
  beyond_ascii constant text := '[^' || chr(1) || '-' || chr(127) || ']';
  left_to_right constant text := 'a-zA-Z0-9ß-öø-ÿά-ώа-џա-ֆა-ჰぁ-ゖァ-ヺ㐀-䶿一-鿿가-힣'
    || 'āăąćĉċčďđēĕėęěĝğġģĥħĩīĭįıĵķĸĺļľłńņňŋōŏőœŕŗřśŝşšţťŧũūŭůűųŵŷźżžơưșțґạảấầẩẫậắằẳẵặẹẻẽếềểễệỉịọỏốồổỗộớờởỡợụủứừửữựỳỵỷỹ々ー';
  right_to_left constant text := 'א-תؠ-ؿف-يپچڈڑژکگںھہیے';
begin
  if length(mailbox) > 254 then
    return 'has more than 254 characters in its ASCII form';
  elsif mailbox ~ ('[' || chr(1) || '-' || chr(31) || chr(127) || '-' || chr(159) || ']') then
    return 'holds a control character';
  elsif domain is null then
    return 'has no @';
  elsif local = '' or domain = '' then
    return 'has nothing before or behind the @';
  elsif local ~ beyond_ascii then
    return 'has letters beyond ASCII before the @, which many mail servers cannot deliver';
  elsif local !~ '^[a-zA-Z0-9!#$%&''*+/=?^_`{|}~-]+([.][a-zA-Z0-9!#$%&''*+/=?^_`{|}~-]+)*$' then
    return 'has more than letters, digits, inner dots and !#$%&''*+-/=?^_`{|}~ before the @';
  elsif length(local) > 64 then
    return 'has more than 64 characters before the @';
  elsif starts_with(domain, '[') or domain ~ '(^|[.])[0-9]+$' then
    return 'has an IP address or a number where the domain belongs';
  end if;
  foreach label in array string_to_array(domain, '.') loop
    if label ~ beyond_ascii then
      if label !~ ('^[' || right_to_left || ']+$')
        and (label !~ ('^[' || left_to_right || '-]+$') or label ~ '^-|-$|^..--') then
        return 'has a domain label with a letter that is not taken as it is: give the label in its ASCII form, xn--…';
      end if;
      label_length := 4 + actions_private.punycode_length(label);
    elsif label !~ '^[a-zA-Z0-9]([a-zA-Z0-9-]*[a-zA-Z0-9])?$' then
      return 'has a domain label of other than letters, digits and inner hyphens';
    else
      label_length := length(label);
    end if;
    if label_length > 63 then
      return 'has a domain label of more than 63 characters in its ASCII form';
    end if;
    ascii_length := ascii_length + 1 + label_length;
  end loop;
  return case when ascii_length > 254 then 'has more than 254 characters in its ASCII form' end;
end
$$;
comment on function actions_private.mailbox_fault(text) is
  'What is wrong with a mailbox, as a sentence that it begins; null where mail can be sent to it. Example: select actions_private.mailbox_fault(''Ada <ada@acme.com>'');';

create or replace function actions_private.is_mailbox(mailbox text) returns boolean
language sql immutable
return mailbox is not null and actions_private.mailbox_fault(mailbox) is null;
comment on function actions_private.is_mailbox(text) is
  'Whether mail can be sent to it: name@domain, the name in ASCII, the domain in ASCII or internationalised. Example: select actions_private.is_mailbox(''ada@bücher.example'');';

create or replace function actions_private.refuse_wrong_member(members json) returns void
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
declare
  wrong record;
begin
  if members is null or json_typeof(members) <> 'array' then
    perform actions_private.refuse(
      format('members is %s', case when members is null then 'null' else 'a JSON ' || json_typeof(members) end),
      'Accepted is a JSON array of objects {"email", "role"}.', 'Pass every member of the project; owners and admins get mail.');
  end if;
  select t.n - 1 as place, c.* into wrong
  from json_array_elements(members) with ordinality as t (m, n)
  cross join lateral (
    select case when json_typeof(m) = 'object' then m end as object, case when json_typeof(m) = 'object' then m -> 'email' end as email,
      case when json_typeof(m) = 'object' then m -> 'role' end as role
  ) as o
  cross join lateral (
    select case when o.object is null then '' when f.fault is not null then '.email' else '.role' end as field,
      left(coalesce(case when o.object is null then m when f.fault is not null then o.email else o.role end::text, 'missing'), 100) as given,
      f.fault, o.object is null or f.fault is not null or json_typeof(o.role) is distinct from 'string' or o.role #>> '{}' = '' as is_wrong
    from (
      select case when json_typeof(o.email) is distinct from 'string' then 'is no text' else actions_private.mailbox_fault(o.email #>> '{}') end as fault
    ) as f
  ) as c
  where c.is_wrong
  order by t.n
  limit 1;
  if found then
    perform actions_private.refuse(
      format('members[%s]%s is %s', wrong.place, wrong.field, wrong.given) || case when wrong.field = '.email' then ', which ' || wrong.fault else '' end,
      case wrong.field
        when '' then 'Accepted is a JSON object {"email", "role"}.'
        when '.role' then 'Accepted is a text that is not empty.'
        else 'Accepted is a mailbox such as ada@acme.com, of up to 254 characters: before the @ up to 64 ASCII characters, behind it a domain, which may be internationalised; no display name, no quotes, no IP address.'
      end,
      'Pass every member of the project; owners and admins get mail. Nothing was changed.');
  end if;
end
$$;
comment on function actions_private.refuse_wrong_member(json) is
  'Raises the first member that set_project_members does not take. Example: select actions_private.refuse_wrong_member(''[{"email":"ada@acme.com","role":"owner"}]'');';
