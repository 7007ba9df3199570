-- Who may do what. PUBLIC has nothing; each role has the least its program needs.
-- Interface functions run with their owner's rights, so most roles need no table at all.
--
-- Applied by every migrate, because a restore without privileges leaves none. Default privileges
-- are not touched: they would change what the owner makes in other schemas.

revoke all on schema actions, actions_private from public;
revoke all on all tables in schema actions, actions_private from public;
revoke all on all functions in schema actions, actions_private from public;
revoke all on type actions.answer, actions_private.claimed, actions_private.final_status from public;
grant usage on type actions.answer to actions_core, actions_admin;

grant usage on schema actions to actions_core, actions_worker, actions_janitor, actions_admin, actions_ops, actions_console;
grant usage on schema actions_private to actions_worker, actions_janitor, actions_console;

-- auth-core: ask, wait, abandon.
grant execute on function
  actions.enqueue(text, text, json, text, text, text), actions.enqueue_many(json, text),
  actions.enqueue_many(text[], text[], json[], text[], text, uuid, text[]),
  actions.server_epoch(), actions.enqueue_again(text[], text[], json[], text[], text, uuid, uuid, text[]),
  actions.result(text), actions.results(text[]), actions.abandon(text), actions.abandon_many(text[])
to actions_core;

-- Workers: claim and complete, by these functions alone; record fingerprints of secrets.
grant select (id) on actions_private.invocations to actions_worker;
grant insert (project_id, action_id, event, actor, details, minute, count), select (id, action_id, event, minute, count), update (count)
  on actions_private.audit_log to actions_worker;
grant select, update (secret_key_id, secret_sha256, previous_secret_key_id, secret_seen_at) on actions_private.actions to actions_worker;
grant select on actions_private.projects, actions_private.action_versions, actions_private.settings, actions_private.server_epoch to actions_worker;
grant select, insert, delete, update (in_flight, seen_at, awake_until) on actions_private.processes to actions_worker, actions_janitor;

grant execute on function
  actions_private.claim(uuid, integer, text[], text[], integer[], integer, text, integer, integer, boolean, integer),
  actions_private.complete(text[], uuid[], actions_private.final_status[], text[], integer[], double precision[], text[], text[], text[], bytea[], boolean[], text[], text[], text[], text[], text[]),
  actions_private.id_time(timestamptz), actions_private.letters(bigint, integer), actions_private.may_notify(), actions_private.notify_queue_usage(),
  actions_private.current_server_epoch(),
  actions_private.keep_events(text[], text[], integer[], text[], bytea[]), actions_private.keep_last_known(text[], bytea[], timestamptz[], text[], bytea[]),
  actions_private.last_known_of(text, bytea[], integer),
  actions_private.keep_candidate_results(text[], text[], integer[], text[], text[], double precision[], text[], boolean[], text[], integer[], bigint[])
to actions_worker;

-- Janitors: the work of the leader, nothing that decides by a verdict.
grant select on all tables in schema actions_private to actions_janitor;
-- Ciphertext of people's data is nothing that a janitor reads.
revoke select on actions_private.recorded_events, actions_private.last_known from actions_janitor;
grant select on all tables in schema actions to actions_janitor;
grant update (holder, epoch, expires_at) on actions_private.leadership to actions_janitor;
grant delete, update (worker) on actions_private.queue to actions_janitor;
grant insert on actions_private.invocations to actions_janitor;
grant update (killed_at, killed_reason, killed_by_hand, previous_secret_version, previous_secret_key_id, previous_secret_until, updated_at)
  on actions_private.actions to actions_janitor;
grant insert (project_id, action_id, event, actor, details) on actions_private.audit_log to actions_janitor;
grant insert (project_id, action_id, recipient, subject, text_body, html_body),
  update (subject, text_body, html_body, attempts, next_attempt_at, sent_at, refusals, refused_since, refused_at, last_error) on actions_private.mail_outbox to actions_janitor;
grant update (queue_allowance_ms, window_s, error_ratio, timeout_ratio, consecutive_5xx, min_samples)
  on actions_private.settings to actions_janitor;
grant insert, update (until) on actions_private.kill_holds to actions_janitor;
grant execute on function
  actions_private.take_lead(text, interval), actions_private.leads(bigint),
  actions_private.kill_action(bigint, text, timestamptz, text, json, text, text, text),
  actions_private.end_queued_of_killed(bigint, integer), actions_private.end_past_deadline(bigint, integer),
  actions_private.recent_seconds(double precision), actions_private.end_overlaps(bigint), actions_private.send_checks(bigint), actions_private.count_next(),
  actions_private.write_audit(actions.actions, actions.actions, text, text),
  actions_private.end_without_verdict(text[], text, text, text), actions_private.id_time(timestamptz), actions_private.letters(bigint, integer),
  actions_private.outcome_without_verdict(text, text, text, text, text), actions_private.can_deny(text),
  actions_private.make_partition(date), actions_private.days_to_make(integer, integer), actions_private.sweep_default(integer),
  actions_private.drop_partitions(integer), actions_private.forget_event_keys(), actions_private.current_server_epoch(),
  actions_private.may_notify(), actions_private.notify_queue_usage(),
  actions_private.customers_of(text[]), actions_private.hold_kills(bigint, timestamptz, text), actions_private.free_kills(bigint),
  actions_private.to_be_told(text), actions_private.erase_next(bigint, integer), actions_private.forget_old(integer, integer, integer, integer)
to actions_janitor;
grant execute on function
  actions_private.user_of(json), actions_private.breaks_glass(text, json), actions_private.outcome_of_broken_glass(text),
  actions_private.canaries(), actions_private.withdraw_canary(bigint, text, integer, text), actions_private.end_probing(actions.actions),
  actions_private.probe(bigint, integer), actions_private.warn(bigint, text, text, json), actions_private.forget_trials(integer, integer)
to actions_janitor;

-- Control planes: configure.
grant execute on function
  actions.upsert_project(text, text, boolean, text), actions.set_project_roles(text, text[], text),
  actions.set_project_members(text, json, text), actions.project_members(text),
  actions.create_action(text, text, text, text, integer, text, text, boolean, text, boolean, text, integer, integer, integer, text), actions.update_action(text, json, text),
  actions.set_enabled(text, boolean, text), actions.reenable_action(text, text), actions.delete_action(text, text),
  actions.swap_action(text, text, text), actions.kill_action(text, text, text), actions.delete_project(text, text),
  actions.rotate_secret(text, text, interval), actions.finish_rotation(text, text),
  actions.record_secret(text, integer, text, text), actions.note_secret_revealed(text, text),
  actions.send_test_event(text, text), actions.result(text), actions.results(text[])
to actions_admin;
grant select on actions.actions, actions.audit_log, actions.erasures, actions.projects to actions_admin;
grant execute on function
  actions.stage_candidate(text, json, text, integer, text), actions.promote_candidate(text, text), actions.withdraw_candidate(text, text),
  actions.forget_events(text, text), actions.set_break_glass(text, text[], text), actions.break_glass(text), actions_private.recorded_of(text, integer)
to actions_admin, actions_console;
grant execute on function actions_private.is_met(json, text), actions_private.refuse_condition(text) to actions_console;
grant usage on schema actions_private to actions_admin;
grant select on actions.candidates, actions.candidate_results, actions.recorded_events, actions.versions to actions_admin, actions_console;

grant execute on function actions.schema_version(), actions.oldest_program() to actions_core, actions_worker, actions_janitor, actions_admin, actions_ops;

-- Operators: look.
grant select on all tables in schema actions to actions_ops;
grant execute on function
  actions.recent(text, integer), actions.find_invocations(text, text, text, timestamptz, integer), actions.by_event(text)
  to actions_ops, actions_admin;
-- A view calls functions as whoever looks.
grant execute on function actions.oldest_snapshot_s() to actions_ops, actions_janitor;

-- The console: what its pages show and its buttons do, who is signed in, and no more.
grant select, insert, delete on actions_private.console_sessions, actions_private.console_links_used to actions_console;
grant select on actions_private.project_members, actions_private.action_versions to actions_console;
grant select on actions.actions, actions.action_health, actions.audit_log, actions.daily_counts, actions.fleet, actions.fleet_health,
  actions.latency, actions.mails, actions.projects, actions.queue_health, actions.recent_invocations, actions.traffic to actions_console;
grant execute on function
  actions.schema_version(), actions.oldest_program(), actions.oldest_snapshot_s(),
  actions_private.filtered_invocations(text, text, timestamptz, text, text, boolean, boolean, integer, integer), actions.by_event(text),
  actions.project_members(text), actions.upsert_project(text, text, boolean, text), actions.set_project_roles(text, text[], text), actions.set_project_members(text, json, text),
  actions.create_action(text, text, text, text, integer, text, text, boolean, text, boolean, text, integer, integer, integer, text), actions.update_action(text, json, text),
  actions.set_enabled(text, boolean, text), actions.kill_action(text, text, text), actions.reenable_action(text, text), actions.delete_action(text, text),
  actions.rotate_secret(text, text, interval), actions.finish_rotation(text, text),
  actions.record_secret(text, integer, text, text), actions.note_secret_revealed(text, text), actions.send_test_event(text, text)
to actions_console;
