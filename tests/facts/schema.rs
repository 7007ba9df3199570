//! The database's own promises: statements that fit it, comments, grants, partitions, HOT.

use authio_actions::domain::{FailMode, OnKilled, Outcome, Status, Trigger};
use authio_actions::store::rights::RIGHTS;
use authio_actions::store::{QUERIES, migrate, schema};
use authio_actions_testkit::database::Database;
use authio_actions_testkit::endpoint::Reply;
use serde_json::Value;
use sqlx::{Executor, Row};

use crate::support::{answering, programs, refusal, until};

async fn database() -> Database {
    Database::create(&programs().join("actionsctl")).await
}

#[tokio::test]
async fn every_statement_fits_the_schema_and_is_permitted_to_its_role() {
    let database = database().await;
    for (role, sql) in QUERIES.iter().chain(&[
        ("actions_worker", schema::VERSION),
        ("actions_janitor", schema::VERSION),
        ("actions_janitor", migrate::APPLIED),
        ("actions_janitor", migrate::REPLACED),
        ("actions_janitor", migrate::IS_THERE),
        ("actions_janitor", migrate::IS_UNRELEASED),
        ("actions_janitor", migrate::HAS_PARTITIONS),
    ]) {
        assert!(sql.starts_with("-- "), "a statement opens with its name: {sql}");
        let login = database.login(role.strip_prefix("actions_").unwrap()).await;
        login.prepare(sql).await.unwrap_or_else(|error| panic!("{role}: {error}\n{sql}"));
        // Privileges are checked when a statement starts, so each is planned for its role, too.
        let parameters = login.describe(sql).await.unwrap().parameters().map_or(0, |either| either.either(<[_]>::len, |count| count));
        let nulls = vec!["null"; parameters].join(", ");
        let mut connection = login.acquire().await.unwrap();
        connection.execute(format!("prepare checked as {sql}").as_str()).await.unwrap();
        let call = if parameters == 0 { String::new() } else { format!("({nulls})") };
        connection
            .execute(format!("explain execute checked{call}").as_str())
            .await
            .unwrap_or_else(|error| panic!("{role}: {error}\n{sql}"));
    }
}

#[test]
fn every_statement_of_the_store_is_in_the_list() {
    let mut constants = 0;
    for file in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/src/store")).unwrap() {
        let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
        constants += text.matches(": &str = \"-- ").count() + text.matches(": &str =\n    \"-- ").count();
    }
    let mut listed: Vec<&str> = QUERIES
        .iter()
        .map(|(_, sql)| *sql)
        .chain([schema::VERSION, migrate::APPLIED, migrate::REPLACED, migrate::IS_THERE, migrate::IS_UNRELEASED, migrate::HAS_PARTITIONS])
        .collect();
    listed.sort_unstable();
    listed.dedup();
    assert_eq!(constants, listed.len());
}

#[tokio::test]
async fn every_object_of_the_interface_has_a_comment_with_an_example_that_names_it() {
    let owner = database().await.owner().await;
    let undocumented: Vec<String> = sqlx::query_scalar(
        "select o.name from (
           select p.proname as name, obj_description(p.oid, 'pg_proc') as comment, pronamespace as namespace from pg_proc as p
           union all
           select c.relname, obj_description(c.oid, 'pg_class'), relnamespace from pg_class as c where c.relkind in ('v', 'r')
         ) as o
         join pg_namespace as n on n.oid = o.namespace
         where n.nspname = 'actions' and coalesce(o.comment ~ ('Example: .*actions\\.' || o.name), false) is false",
    )
    .fetch_all(&owner)
    .await
    .unwrap();
    assert_eq!(undocumented, [""; 0]);
    let silent: Vec<String> = sqlx::query_scalar(
        "select c.relname from pg_class as c join pg_namespace as n on n.oid = c.relnamespace
         where n.nspname = 'actions_private' and c.relkind in ('r', 'p') and not c.relispartition
           and obj_description(c.oid, 'pg_class') is null",
    )
    .fetch_all(&owner)
    .await
    .unwrap();
    assert_eq!(silent, [""; 0]);
}

#[tokio::test]
async fn public_has_nothing_and_functions_that_write_pin_their_search_path() {
    let owner = database().await.owner().await;
    let open: Vec<String> = sqlx::query_scalar(
        "select p.proname::text from pg_proc as p join pg_namespace as n on n.oid = p.pronamespace
         where n.nspname in ('actions', 'actions_private') and (p.proacl is null or exists (select from aclexplode(p.proacl) as a where a.grantee = 0))
         union all
         select c.relname::text from pg_class as c join pg_namespace as n on n.oid = c.relnamespace, aclexplode(c.relacl) as a
         where n.nspname in ('actions', 'actions_private') and a.grantee = 0
         union all
         select p.proname::text from pg_proc as p where p.prosecdef and p.pronamespace::regnamespace::text like 'actions%'
           and not exists (select from unnest(p.proconfig) as setting where setting like 'search_path=%pg_temp')",
    )
    .fetch_all(&owner)
    .await
    .unwrap();
    assert_eq!(open, [""; 0]);
}

#[tokio::test]
async fn each_role_is_kept_from_what_it_does_not_need() {
    let database = database().await;
    let cases = [
        ("core", "select * from actions_private.queue"),
        ("core", "select * from actions.actions"),
        ("core", "select actions.upsert_project('p', 'P', true)"),
        ("ops", "select * from actions.enqueue('p', 'pre_register', '{}')"),
        ("ops", "select * from actions_private.invocations"),
        ("worker", "update actions_private.invocations set status = 'ok'"),
        ("worker", "delete from actions_private.invocations"),
        ("worker", "update actions_private.actions set enabled = true"),
        ("worker", "select * from actions_private.project_members"),
        ("janitor", "update actions_private.invocations set status = 'ok'"),
        ("janitor", "update actions_private.actions set secret_sha256 = 'x'"),
        ("admin", "update actions_private.actions set killed_at = null"),
        ("admin", "select * from actions.enqueue('p', 'pre_register', '{}')"),
    ];
    for (role, sql) in cases {
        assert_eq!(refusal(&database.login(role).await, sql).await[0], "42501", "{role}: {sql}");
    }
}

#[tokio::test]
async fn what_is_decided_and_what_was_a_version_never_changes() {
    let owner = database().await.owner().await;
    sqlx::query("select actions.upsert_project('p', 'P', true)").execute(&owner).await.unwrap();
    sqlx::query("select actions.create_action('p', 'pre_register', 'https://a.example/', 'A')").execute(&owner).await.unwrap();
    sqlx::query("select actions.abandon(invocation_id) from actions.enqueue('p', 'pre_register', '{}')").execute(&owner).await.unwrap();
    for table in ["action_versions", "invocations", "audit_log"] {
        assert_eq!(refusal(&owner, &format!("update actions_private.{table} set action_id = action_id")).await[0], "55000", "{table}");
    }
}

#[tokio::test]
async fn sql_and_rust_agree_on_every_outcome_without_a_verdict() {
    let owner = database().await.owner().await;
    for &status in Status::ALL.iter().filter(|status| !status.has_verdict()) {
        for &trigger in Trigger::ALL {
            for &fail_mode in FailMode::ALL {
                for &on_killed in OnKilled::ALL {
                    let rust = Outcome::without_verdict(status, trigger, fail_mode, on_killed, "why").to_json();
                    let sql: Value = sqlx::query_scalar("select actions_private.outcome_without_verdict($1, $2, $3, $4, 'why')")
                        .bind(status.as_str())
                        .bind(trigger.as_str())
                        .bind(fail_mode.as_str())
                        .bind(on_killed.as_str())
                        .fetch_one(&owner)
                        .await
                        .unwrap();
                    assert_eq!(sql, serde_json::from_str::<Value>(&rust).unwrap());
                }
            }
        }
    }
}

#[tokio::test]
async fn ids_are_a_prefix_and_a_uuidv7_in_crockford_and_sort_by_time() {
    let owner = database().await.owner().await;
    let ids: Vec<String> =
        sqlx::query_scalar("select actions_private.new_id('inv_') from generate_series(1, 1000)").fetch_all(&owner).await.unwrap();
    let before = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
    for id in &ids {
        let bits = id.strip_prefix("inv_").unwrap().bytes().fold(0_u128, |bits, letter| {
            bits << 5 | "0123456789ABCDEFGHJKMNPQRSTVWXYZ".bytes().position(|known| known == letter).unwrap() as u128
        });
        let uuid = uuid::Uuid::from_u128(bits);
        assert_eq!((id.len(), uuid.get_version_num(), uuid.get_variant()), (30, 7, uuid::Variant::RFC4122), "{id}");
        assert!((bits >> 80).abs_diff(before) < 60_000, "{id} carries another time");
    }
    let mut unique = ids.clone();
    unique.sort();
    unique.dedup();
    assert_eq!(unique.len(), 1000);
    let tails: Vec<String> =
        sqlx::query_scalar("select actions_private.id_tail(n, hashint8extended(n, 7)) from generate_series(0, 4095) as n order by n")
            .fetch_all(&owner)
            .await
            .unwrap();
    assert!(tails.is_sorted() && tails.windows(2).all(|two| two[0][..5] != two[1][..5]), "the counter keeps the order");
    assert!(tails.iter().all(|tail| tail.len() == 16 && tail.starts_with('E') && &tail[3..4] == "8"), "version and variant");
    let stamps: Vec<String> = sqlx::query_scalar("select actions_private.id_time(to_timestamp(n * 1e7)) from generate_series(1, 300) as n")
        .fetch_all(&owner)
        .await
        .unwrap();
    assert!(stamps.is_sorted());
}

#[tokio::test(flavor = "multi_thread")]
async fn claiming_is_a_hot_update_and_history_lands_in_the_partition_of_its_day() {
    let stack = answering(Reply::json("{}")).await;
    let mut worker = stack.worker(&[]).await;
    stack.project("p").await;
    stack.action("p", "pre_register", &stack.endpoint.url("/"), "").await;
    let requests = format!("[{}]", vec![r#"{"project_id":"p","trigger":"pre_register","event":{}}"#; 100].join(","));
    sqlx::query("select * from actions.enqueue_many($1::json, null)").bind(requests).execute(&stack.core).await.unwrap();
    until(&stack.ops, "all are decided", "select count(*) = 100 from actions.recent_invocations where status = 'ok'").await;
    assert!(worker.drained().await.success());
    let owner = stack.database.owner().await;
    let hot = "select n_tup_upd = 100 and n_tup_hot_upd = n_tup_upd from pg_stat_user_tables where relname = 'queue'";
    until(&owner, "every claim was HOT", hot).await;
    let partitions: Vec<String> =
        sqlx::query_scalar("select distinct tableoid::regclass::text from actions_private.invocations").fetch_all(&owner).await.unwrap();
    assert!(partitions.len() <= 2 && partitions.iter().all(|name| name.starts_with("actions_private.invocations_2")), "{partitions:?}");
}

#[tokio::test]
async fn partitions_are_made_ahead_and_dropped_after_retention_and_what_the_net_caught_moves() {
    let owner = database().await.owner().await;
    let insert = "insert into actions_private.invocations
        (id, event_id, project_id, trigger, action_id, action_version, test, status, outcome, enqueued_at, finished_at)
        values ('inv_' || actions_private.id_time(now() + $1::interval) || actions_private.id_random(), 'e', 'p', 'pre_register', 'a', 1, false, 'ok', '{}', now() + $1::interval, now())";
    for age in ["9 days", "-40 days"] {
        sqlx::query(&insert.replace("$1", &format!("'{age}'"))).execute(&owner).await.unwrap();
    }
    let in_net = "select count(*) from actions_private.invocations_default";
    assert_eq!(sqlx::query_scalar::<_, i64>(in_net).fetch_one(&owner).await.unwrap(), 2);
    let missing = "select count(*) from actions_private.days_to_make(10, 30)";
    assert_eq!(sqlx::query_scalar::<_, i64>(missing).fetch_one(&owner).await.unwrap(), 3, "none for a day that is past retention");
    let make = "select count(*) filter (where actions_private.make_partition(d)) from actions_private.days_to_make(10, 30) as d";
    assert_eq!(sqlx::query_scalar::<_, i64>(make).fetch_one(&owner).await.unwrap(), 3);
    assert_eq!(sqlx::query_scalar::<_, i64>(missing).fetch_one(&owner).await.unwrap(), 0);
    let sampled = "select count(distinct attrelid) > 3 and bool_and(attstattarget = 10) from pg_attribute
        where attrelid::regclass::text ~ '^actions_private.invocations_2[0-9]*$' and attnum > 0";
    assert!(sqlx::query_scalar::<_, bool>(sampled).fetch_one(&owner).await.unwrap(), "a filling day is analyzed often, and by little");
    assert_eq!(sqlx::query_scalar::<_, i64>(in_net).fetch_one(&owner).await.unwrap(), 1);
    sqlx::query("create table actions_private.invocations_20200101 partition of actions_private.invocations for values from ('inv_0') to ('inv_00')").execute(&owner).await.unwrap();
    let drop = "select actions_private.drop_partitions(30)";
    let sweep = "select actions_private.sweep_default(30)";
    assert_eq!(sqlx::query_scalar::<_, i32>(drop).fetch_one(&owner).await.unwrap(), 0, "not before it was added up");
    assert_eq!(sqlx::query_scalar::<_, i64>(sweep).fetch_one(&owner).await.unwrap(), 0, "not before it was added up");
    while sqlx::query_scalar("select actions_private.count_next()").fetch_one(&owner).await.unwrap() {}
    assert_eq!(sqlx::query_scalar::<_, i32>(drop).fetch_one(&owner).await.unwrap(), 1);
    assert_eq!(sqlx::query_scalar::<_, i64>(sweep).fetch_one(&owner).await.unwrap(), 1, "what is past retention leaves the net, too");
    assert_eq!(sqlx::query_scalar::<_, i64>(in_net).fetch_one(&owner).await.unwrap(), 0);
}

#[tokio::test]
async fn a_day_that_was_missed_is_made_late_with_what_the_net_caught_of_it() {
    let owner = database().await.owner().await;
    sqlx::query(
        "insert into actions_private.invocations
        (id, event_id, project_id, trigger, action_id, action_version, test, status, outcome, enqueued_at, finished_at)
        select 'inv_' || actions_private.id_time(now() - days * interval '1 day') || actions_private.id_random(), 'e', 'p', 'pre_register', 'a', 1,
          false, 'ok', '{}', now(), now()
        from unnest(array[2, 2, 3]) as days",
    )
    .execute(&owner)
    .await
    .unwrap();
    let days = "select string_agg(((now() at time zone 'UTC')::date - d)::text, ' ') from actions_private.days_to_make(8, 30) as d";
    let missing: String = sqlx::query_scalar(days).fetch_one(&owner).await.unwrap();
    assert_eq!(missing, "-8 3 2", "what comes is made before what was");
    sqlx::query("select actions_private.make_partition(d) from actions_private.days_to_make(8, 30) as d").execute(&owner).await.unwrap();
    let where_they_are = "select string_agg(n::text, ' ') from (select count(*) as n from actions_private.invocations
        where tableoid <> 'actions_private.invocations_default'::regclass group by tableoid order by 1) as per_day";
    assert_eq!(sqlx::query_scalar::<_, String>(where_they_are).fetch_one(&owner).await.unwrap(), "1 2");
}

#[tokio::test]
async fn the_counts_of_a_day_outlive_its_invocations() {
    let owner = database().await.owner().await;
    let insert = "insert into actions_private.invocations
        (id, event_id, project_id, trigger, action_id, action_version, test, status, outcome, duration_ms, enqueued_at, finished_at)
        select 'inv_' || actions_private.id_time(at) || actions_private.id_random(), 'e', 'p', 'pre_register', 'a', 1, false, status, '{}', 10, at, at
        from (select $1 as at) as moment, unnest(array['ok', 'ok', 'timeout']::actions_private.final_status[]) as status";
    let hour = |days: u8, hour: u8| format!("date_trunc('day', now(), 'UTC') - interval '{days} days' + interval '{hour} hours'");
    for at in [hour(40, 3), hour(40, 7), hour(2, 5), "now()".to_owned()] {
        sqlx::query(&insert.replace("$1", &at)).execute(&owner).await.unwrap();
    }
    let counts = async || {
        let sql = "select (now() at time zone 'UTC')::date - day, status, invocations from actions.daily_counts order by day, status";
        let rows = sqlx::query(sql).fetch_all(&owner).await.unwrap();
        rows.iter().map(|row| (row.get::<i32, _>(0), row.get::<String, _>(1), row.get::<i64, _>(2))).collect::<Vec<_>>()
    };
    let wanted: Vec<_> = [(40, 2), (2, 1), (0, 1)]
        .into_iter()
        .flat_map(|(day, n)| [(day, "ok".to_owned(), 2 * n), (day, "timeout".to_owned(), n)])
        .collect();
    assert_eq!(counts().await, wanted, "before anything was added up");
    let add_up = async || {
        let mut added_up = 0;
        while sqlx::query_scalar("select actions_private.count_next()").fetch_one(&owner).await.unwrap() {
            added_up += 1;
        }
        added_up
    };
    // One that is still undecided, two days ago.
    let queued = "insert into actions_private.queue
        (id, event_id, project_id, trigger, action_id, action_version, test, event, server_epoch, enqueued_at, deadline_at)
        select 'inv_' || actions_private.id_time($1) || actions_private.id_random(), 'e', 'p', 'pre_register', 'a', 1, false, '{}',
          gen_random_uuid(), $1, $1";
    sqlx::query(&queued.replace("$1", &hour(2, 4))).execute(&owner).await.unwrap();
    assert_eq!(add_up().await, 2, "whatever is later waits for it; where nothing happened there is nothing to add up");
    sqlx::query("delete from actions_private.queue").execute(&owner).await.unwrap();
    assert_eq!(add_up().await, 1);
    assert_eq!(counts().await, wanted, "nothing counts twice");
    sqlx::query("delete from actions_private.invocations where enqueued_at < now() - interval '1 day'").execute(&owner).await.unwrap();
    assert_eq!(counts().await, wanted, "after the invocations are gone");
}

#[tokio::test]
async fn what_an_action_repeats_of_its_version_and_its_project_is_never_different_there() {
    let owner = database().await.owner().await;
    let mut id = String::new();
    for sql in [
        "select actions.upsert_project('p', 'P', true)::text",
        "select action_id from actions.create_action('p', 'pre_register', 'https://a.example/', 'A')",
    ] {
        id = sqlx::query_scalar::<_, Option<String>>(sql).fetch_one(&owner).await.unwrap().unwrap_or_default();
    }
    let repeats = async || -> (i32, i64) {
        let sql = "select a.timeout_ms, a.project_revision from actions_private.actions as a
            join actions_private.action_versions as v on v.action_id = a.id and v.version = a.version and v.timeout_ms = a.timeout_ms
            join actions_private.projects as p on p.id = a.project_id and p.revision = a.project_revision";
        sqlx::query_as(sql).fetch_one(&owner).await.expect("an action that agrees with its version and its project")
    };
    assert_eq!(repeats().await, (2000, 1));
    let change = "select action_id from actions.update_action($1, '{\"timeout_ms\": 700}', 'ada')";
    sqlx::query(change).bind(&id).execute(&owner).await.unwrap();
    sqlx::query("select actions.set_project_roles('p', array['member'])").execute(&owner).await.unwrap();
    assert_eq!(repeats().await, (700, 2));
    for (wrong, constraint) in
        [("timeout_ms = 701", "current_version_exists"), ("project_revision = 1", "project_revision_is_the_project_s")]
    {
        let error = sqlx::query(&format!("update actions_private.actions set {wrong}")).execute(&owner).await.unwrap_err();
        assert!(error.to_string().contains(constraint), "{error}");
    }
}

#[tokio::test]
async fn each_login_may_do_just_what_its_program_needs() {
    let database = database().await;
    for rights in RIGHTS {
        let role = rights.role;
        let login = database.login(role.strip_prefix("actions_").unwrap()).await;
        // Asked as the login itself, of every relation and function of both schemas.
        let may: Vec<String> = sqlx::query_scalar(
            "select oid::regclass::text || ':' || rights
             from pg_class, lateral (select
               case when has_any_column_privilege(oid, 'select') then 'r' else '' end || case when has_any_column_privilege(oid, 'insert') then 'a' else '' end ||
               case when has_any_column_privilege(oid, 'update') then 'w' else '' end || case when has_table_privilege(oid, 'delete, truncate, trigger') then 'd' else '' end as rights) as r
             where relnamespace::regnamespace::text in ('actions', 'actions_private') and relkind in ('r', 'p', 'v')
               and not relispartition and rights <> ''
             order by oid::regclass::text",
        )
        .fetch_all(&login)
        .await
        .unwrap();
        let listed: Vec<String> = rights.relations().iter().map(|(name, rights)| format!("{name}:{rights}")).collect();
        assert_eq!(may, listed, "{role}: relations");
        let may: Vec<String> = sqlx::query_scalar(
            "select distinct p.pronamespace::regnamespace || '.' || p.proname from pg_proc as p
             where pronamespace::regnamespace::text in ('actions', 'actions_private') and has_function_privilege(oid, 'execute') order by 1",
        )
        .fetch_all(&login)
        .await
        .unwrap();
        assert_eq!(may, rights.functions(), "{role}: functions");
    }
}

#[tokio::test]
async fn an_outcome_that_is_not_there_is_an_allow_only_of_a_verdict_that_allowed() {
    let owner = database().await.owner().await;
    let read = "select s::text, actions_private.outcome_of(s, null)::text from unnest(enum_range(null::actions_private.final_status)) as s";
    for row in sqlx::query(read).fetch_all(&owner).await.unwrap() {
        let (status, outcome): (String, Option<String>) = (row.get(0), row.get(1));
        let plain = Outcome::plain(authio_actions::domain::Decision::Allow, authio_actions::domain::Source::Verdict, Status::Ok);
        assert_eq!(outcome, (status == "ok").then(|| serde_json::to_string(&plain).unwrap()), "{status}");
    }
}
