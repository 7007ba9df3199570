//! A project that is erased, and what is kept for a time.

use authio_actions::config::Config;
use authio_actions::store::maintenance;
use authio_actions_testkit::endpoint::Reply;
use authio_actions_testkit::stack::Stack;
use sqlx::{Executor, PgPool};

use crate::support::{abandon, answering, enqueue, invoke, refusal, store, until};

const FAST: &[(&str, &str)] = &[("ACTIONS_KILL_SWITCH__TICK_MS", "50")];

/// Every text of every row of every table, where it names the project or one of its people.
async fn named(owner: &PgPool, words: &str) -> Vec<String> {
    let tables = "select c.oid::regclass::text from pg_class as c
        where c.relnamespace = 'actions_private'::regnamespace and c.relkind in ('r', 'p') and not c.relispartition order by 1";
    let mut found = Vec::new();
    for table in sqlx::query_scalar::<_, String>(tables).fetch_all(owner).await.unwrap() {
        let count: i64 = sqlx::query_scalar(&format!("select count(*) from {table} as t where t::text ~ $1"))
            .bind(words)
            .fetch_one(owner)
            .await
            .unwrap();
        if count > 0 {
            found.push(format!("{table} {count}"));
        }
    }
    found
}

/// A project with everything that can name it; its action.
async fn full(stack: &Stack, project: &str) -> String {
    stack.project(project).await;
    let members = format!(r#"[{{"email":"olga@{project}.example","role":"owner"}}]"#);
    sqlx::query("select actions.set_project_members($1, $2::json)").bind(project).bind(members).execute(&stack.admin).await.unwrap();
    let id = stack.action(project, "pre_register", &stack.endpoint.url(&format!("/{project}")), "").await;
    for _ in 0..3 {
        invoke(stack, project, "pre_register").await;
    }
    sqlx::query("select actions.enqueue($1, 'pre_register', '{}', null, 'evt_01JD3X6G8Q7N9V8R2M4T6W8Y0B')")
        .bind(project)
        .execute(&stack.core)
        .await
        .unwrap();
    let staged = "select actions.stage_candidate($1, '{\"timeout_ms\": 900}', 'shadow', 100, 'ada'), actions.set_break_glass($2, array['user_1'], 'ada')";
    sqlx::query(staged).bind(&id).bind(project).execute(&stack.admin).await.unwrap();
    sqlx::query("select actions.kill_action($1, $2, 'ada')")
        .bind(&id)
        .bind(format!("{project} asked for it"))
        .execute(&stack.admin)
        .await
        .unwrap();
    let counted =
        "insert into actions_private.daily_counts (day, project_id, action_id, trigger, status, test, invocations, called, duration_ms)
        values (now() - interval '90 days', $1, $2, 'pre_register', 'ok', false, 1, 1, 1)";
    let owner = stack.database.owner().await;
    sqlx::query(counted).bind(project).bind(&id).execute(&owner).await.unwrap();
    for kept in [
        "insert into actions_private.candidate_results (invocation_id, action_id, version, status, decision, outcome) values ('inv_1', $1, 2, 'ok', 'allow', '{}')",
        "insert into actions_private.recorded_events (event_id, action_id, expires_at, bytes, key_id, sealed) values ('evt_1', $1, now() + interval '1 hour', 1, 'k1', '')",
        "insert into actions_private.last_known (action_id, person, at, key_id, sealed) values ($1, '', now(), 'k1', '')",
        "insert into actions_private.probes (action_id, killed_at, sent_at, invocation_id) values ($1, now(), now(), 'inv_1')",
    ] {
        let kept = kept.replace("'inv_1'", &format!("'inv_{project}'"));
        sqlx::query(&kept).bind(&id).execute(&owner).await.unwrap();
    }
    // One of its people in the console, and one who came by a link to it.
    let signed_in = "insert into actions_private.console_sessions (token_sha256, email, is_operator, project_id, role, expires_at)
        values (sha256($1::bytea || '1'), 'OLGA@' || $2 || '.example', false, null, null, now() + interval '1 hour'),
          (sha256($1::bytea || '2'), 'guest@acme.com', false, $2, 'viewer', now() + interval '1 hour')";
    sqlx::query(signed_in).bind(project.as_bytes()).bind(project).execute(&owner).await.unwrap();
    id
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erased_project_is_named_nowhere_and_its_neighbour_keeps_everything() {
    let stack = answering(Reply::json("{}")).await;
    let owner = stack.database.owner().await;
    let _programs = (stack.worker(&[]).await, stack.janitor(FAST).await);
    let gone = format!("gone|{}", full(&stack, "gone").await);
    let stays = format!("stays|{}", full(&stack, "stays").await);
    let neighbour = named(&owner, &stays).await;
    assert!(named(&owner, &gone).await.len() >= 14, "{:?}", named(&owner, &gone).await);
    sqlx::query("select actions.delete_project('gone', 'ada')").execute(&stack.admin).await.unwrap();
    assert_eq!(enqueue(&stack.core, "gone", "pre_register", "{}").await.outcome()["source"], "no_action", "at once");
    for refused in ["select actions.upsert_project('gone', 'Again')", "select actions.set_project_roles('gone', '{}')"] {
        let [code, message, ..] = refusal(&stack.admin, refused).await;
        assert!(code == "22023" && message.contains("being erased"), "{message}");
    }
    // Asked again it is the same one. Nobody waits any more, so it need not wait either.
    sqlx::query("select actions.delete_project('gone', 'eve')").execute(&stack.admin).await.unwrap();
    owner.execute("update actions_private.erasures set asked_at = now() - interval '1 minute'").await.unwrap();
    until(&stack.ops, "erased", "select bool_and(done_at is not null and rows_erased > 10) from actions.erasures").await;
    assert_eq!(named(&owner, &gone).await, ["actions_private.erasures 1"]);
    assert_eq!(named(&owner, &stays).await, neighbour);
    stack.project("gone").await;
    let [code, message, ..] = refusal(&stack.admin, "select actions.delete_project('never', 'ada')").await;
    assert!(code == "22023" && message.contains("never"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_an_erased_project_gets_the_outcome_of_its_fail_mode() {
    let stack = answering(Reply::json("{}")).await;
    stack.project("p").await;
    stack.action("p", "pre_register", &stack.endpoint.url("/"), "fail_mode => 'closed'").await;
    let waiting = enqueue(&stack.core, "p", "pre_register", "{}").await;
    sqlx::query("select actions.delete_project('p', 'ada')").execute(&stack.admin).await.unwrap();
    let owner = stack.database.owner().await;
    owner.execute("update actions_private.erasures set asked_at = now() - interval '1 minute'").await.unwrap();
    let erase = "update actions_private.leadership set holder = 'me', epoch = 7, expires_at = now() + interval '1 hour'";
    owner.execute(erase).await.unwrap();
    let step = async || -> bool { sqlx::query_scalar("select actions_private.erase_next(7)").fetch_one(&owner).await.unwrap() };
    assert!(!step().await, "not while somebody waits");
    let ended = abandon(&stack.core, waiting.id()).await;
    assert_eq!((ended.outcome()["decision"].as_str(), ended.outcome()["source"].as_str()), (Some("deny"), Some("fail_closed")));
    while step().await {}
    assert_eq!(named(&owner, "'p'|,p,").await, ["actions_private.erasures 1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_of_an_erasure_is_as_small_as_it_is_told_and_goes_on_where_it_was_interrupted() {
    let stack = answering(Reply::json("{}")).await;
    stack.project("p").await;
    let id = stack.action("p", "pre_register", &stack.endpoint.url("/"), "").await;
    let owner = stack.database.owner().await;
    let history = format!(
        "insert into actions_private.invocations
           (id, event_id, project_id, trigger, action_id, action_version, test, status, outcome, enqueued_at, finished_at)
         select 'inv_' || name, 'evt_' || name, 'p', 'pre_register', '{id}', 1, n % 2 = 0, 'ok', '{{}}', now(), now()
         from generate_series(1, 100) as n, lateral (select substr(actions_private.new_id('inv_'), 5) as name where n > 0) as i"
    );
    owner.execute(history.as_str()).await.unwrap();
    owner.execute("select actions.delete_project('p', 'ada')").await.unwrap();
    owner.execute("update actions_private.erasures set asked_at = now() - interval '1 minute'").await.unwrap();
    owner.execute("update actions_private.leadership set holder = 'me', epoch = 7, expires_at = now() + interval '1 hour'").await.unwrap();
    let mut left = 100;
    while left > 0 {
        let more: bool = sqlx::query_scalar("select actions_private.erase_next(7, 30)").fetch_one(&owner).await.unwrap();
        assert!(more);
        let now: i64 = sqlx::query_scalar("select count(*) from actions_private.invocations").fetch_one(&owner).await.unwrap();
        assert!((1..=30).contains(&(left - now)), "{left} {now}");
        left = now;
    }
    let other: bool = sqlx::query_scalar("select actions_private.erase_next(6, 30)").fetch_one(&owner).await.unwrap();
    assert!(!other, "an epoch that is over erases nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn audit_mails_and_counts_go_after_their_days_and_what_waits_stays() {
    let stack = answering(Reply::json("{}")).await;
    let owner = stack.database.owner().await;
    owner
        .execute(
            "insert into actions_private.audit_log (at, project_id, event) select now() - n * interval '1 day', 'p', 'x' from unnest(array[399, 401]) as n;
             insert into actions_private.mail_outbox (project_id, action_id, recipient, subject, text_body, html_body, created_at, sent_at, refused_at)
             select 'p', 'a', n || '@a.example', 's', 't', 'h', now() - interval '90 days',
               case when n < 100 then now() - n * interval '1 day' end, case when n between 100 and 200 then now() - (n - 100) * interval '1 day' end
             from unnest(array[29, 31, 129, 131, 999]) as n;
             insert into actions_private.daily_counts (day, project_id, action_id, trigger, status, test, invocations, called, duration_ms)
             select now() - n * interval '1 day', 'p', 'a', 'pre_register', 'ok', false, 1, 1, 1 from unnest(array[1824, 1826]) as n;
             update actions_private.leadership set holder = 'me', epoch = 7, expires_at = now() + interval '1 hour'",
        )
        .await
        .unwrap();
    let store = store(&stack.database.url("janitor"));
    let retention = Config::load(None, std::iter::empty()).unwrap().retention;
    assert_eq!((retention.audit_days, retention.mail_days, retention.counts_days), (400, 30, 1825));
    assert_eq!(maintenance::forget_old(&store, 6, &retention).await.unwrap(), 0, "an epoch that is over forgets nothing");
    assert_eq!(maintenance::forget_old(&store, 7, &retention).await.unwrap(), 4);
    let left = "select (select count(*) from actions_private.audit_log), (select string_agg(recipient, ' ' order by id) from actions_private.mail_outbox),
        (select count(*) from actions_private.daily_counts)";
    let row: (i64, String, i64) = sqlx::query_as(left).fetch_one(&owner).await.unwrap();
    assert_eq!(row, (1, "29@a.example 129@a.example 999@a.example".to_owned(), 1));
}
