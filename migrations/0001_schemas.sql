-- Two schemas.
--
-- `actions`          the interface: functions and views, kept stable like a library's API
-- `actions_private`  the tables: touched by the functions of `actions` and by src/store, by nobody else

create schema if not exists actions_private;
comment on schema actions_private is
  'Tables of authio-actions. Nobody''s interface: use the functions and views of schema actions.';

create schema actions;
comment on schema actions is
  'The SQL interface of authio-actions. Start here: select * from actions.enqueue(''proj_acme_prod'', ''pre_token_mint'', ''{"user":{"id":"user_1"}}'');';
