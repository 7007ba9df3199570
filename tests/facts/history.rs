//! A long history costs whoever looks nothing: each look reads a bounded number of pages.

use authio_actions::store::console;
use authio_actions_testkit::endpoint::Reply;
use authio_actions_testkit::stack::Stack;
use serde_json::Value;
use sqlx::{Executor, PgConnection, PgPool};

use crate::operator::{Operator, text};
use crate::support::{answering, ask, enqueue, until};

/// Fourteen days of calls of one action, and a few of each of the others.
const FILL: &str = "
    select actions_private.make_partition((now() at time zone 'UTC')::date - n) from generate_series(1, 14) as n;
    insert into actions_private.invocations
      (id, event_id, project_id, trigger, action_id, action_version, test, status, outcome, http_status, duration_ms, enqueued_at, finished_at)
    select 'inv_' || name, 'evt_' || name, a.project_id, a.trigger, a.id, 1, false, 'ok', '{\"decision\":\"allow\"}', 200, 5, at, at
    from (
      select at, actions_private.id_time(at) || actions_private.id_tail((n % 4096)::integer, n::bigint) as name, n
      from generate_series(1, 200000) as n, lateral (select now() - interval '2 hours' - n * interval '5 seconds' as at) as m
    ) as i
    join actions_private.actions as a on a.project_id = case when n % 2000 = 0 then 'idle' when n % 2000 = 1 then 'killed' when n % 2000 = 2 then 'again' else 'busy' end;
    update actions_private.counted_until set at = now() - interval '7 minutes', next_id = 'inv_' || actions_private.id_time(now() - interval '7 minutes');
    analyze actions_private.invocations, actions_private.actions, actions_private.queue;";

/// Four actions of as many projects, with a history of eleven days and a half.
async fn long(stack: &Stack) -> PgPool {
    let owner = stack.database.owner().await;
    for name in ["busy", "idle", "killed", "again"] {
        stack.project(name).await;
        sqlx::query("select actions.create_action($1, 'pre_register', 'https://a.example/', $1)")
            .bind(name)
            .execute(&stack.admin)
            .await
            .unwrap();
    }
    owner
        .execute("update actions_private.actions set created_at = now() - interval '30 days', counting_since = now() - interval '30 days'")
        .await
        .unwrap();
    owner.execute(FILL).await.unwrap();
    for name in ["killed", "again"] {
        let kill =
            "update actions_private.actions set killed_at = now() - interval '1 hour', killed_reason = 'error rate' where project_id = $1";
        sqlx::query(kill).bind(name).execute(&owner).await.unwrap();
    }
    sqlx::query("select actions.reenable_action(id, 'ada') from actions_private.actions where project_id = 'again'")
        .execute(&owner)
        .await
        .unwrap();
    owner
}

/// How many pages a statement reads, wherever they are, once what it needs of the catalogue is at hand.
async fn pages(connection: &mut PgConnection, sql: &str) -> i64 {
    let sql = format!("explain (analyze, buffers, format json) {sql}");
    let mut read = 0;
    for _ in 0..2 {
        let plan: Value = sqlx::query_scalar(&sql).fetch_one(&mut *connection).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
        assert!(plan[0].get("JIT").is_none(), "the planner expects so much work that it compiles, which takes seconds: {sql}");
        let plan = &plan[0]["Plan"];
        read = plan["Shared Hit Blocks"].as_i64().unwrap() + plan["Shared Read Blocks"].as_i64().unwrap();
    }
    read
}

/// A statement with its parameters in their places, as something to look at.
fn with(sql: &str, parameters: &[&str]) -> String {
    let placed = parameters.iter().enumerate().rev().fold(sql.to_owned(), |sql, (n, value)| sql.replace(&format!("${}", n + 1), value));
    format!("from ({placed}) as page")
}

/// Those that read more pages than a look may.
async fn dear_looks(connection: &mut PgConnection, looks: &[String]) -> Vec<String> {
    let mut dear = Vec::new();
    for look in looks {
        let read = pages(connection, &format!("select * {look}")).await;
        if read > 1000 {
            dear.push(format!("{read} pages: {look}"));
        }
    }
    dear
}

#[tokio::test(flavor = "multi_thread")]
async fn every_look_reads_a_few_pages_of_a_long_history() {
    let stack = answering(Reply::json("{}")).await;
    let owner = long(&stack).await;
    let mut connection = owner.acquire().await.unwrap();
    let whole = pages(&mut connection, "select sum(duration_ms) from actions_private.invocations").await;
    assert!(whole > 5000, "{whole}");
    let mut looks: Vec<String> = [
        "from actions.queue_health",
        "from actions.fleet_health",
        "from actions.latency",
        "from actions.check_health",
        "from actions.fleet",
        "from actions.actions",
        "from actions.mails",
        "from actions.find_invocations(n => 20)",
        "from actions_private.recent_seconds(300)",
        "from actions.find_invocations(status => 'expired', since => now() - interval '1 hour')",
        "from actions.by_event('evt_01JD3X6G8Q7N9V8R2M4T6W8Y0B')",
        "from actions.by_event((select event_id from actions.find_invocations(n => 1)))",
        "from actions.recent_invocations where invocation_id = 'inv_01JD3X6G8Q7N9V8R2M4T6W8Y0B'",
    ]
    .map(str::to_owned)
    .to_vec();
    for name in ["busy", "idle", "killed", "again"] {
        let id: String =
            sqlx::query_scalar("select id from actions_private.actions where project_id = $1").bind(name).fetch_one(&owner).await.unwrap();
        looks.extend([
            format!("from actions.recent('{id}', 20)"),
            format!("from actions.find_invocations(project_id => '{name}', n => 20)"),
            format!("from actions.find_invocations('{id}', since => now() - interval '1 day', n => 20)"),
            format!("from actions.action_health where action_id = '{id}'"),
            format!("from actions.daily_counts where action_id = '{id}'"),
            format!("from actions.daily_counts where project_id = '{name}'"),
            format!("from actions.audit_log where action_id = '{id}'"),
            format!("from actions.audit_log where project_id = '{name}'"),
        ]);
    }
    // What the console's pages ask, with their parameters.
    let nobody = ["false", "null::text", "'ada@acme.com'::text"];
    let everybody = ["true", "null::text", "null::text"];
    for whose in [nobody, everybody] {
        looks.extend([console::PROJECTS, console::ATTENTION].map(|sql| with(sql, &whose)));
        looks.push(with(console::SEARCH, &[&["'acme'::text", "'acme'::text"][..], &whose].concat()));
    }
    looks.extend([
        with(console::FLEET, &[]),
        with(console::TRAFFIC, &["604800", "14400"]),
        with(console::FAILING_MAILS, &[]),
        with(console::AUDIT, &["null::text", "null::text", "null", "null", "200"]),
    ]);
    for name in ["busy", "idle", "killed", "again"] {
        let id: String =
            sqlx::query_scalar("select id from actions_private.actions where project_id = $1").bind(name).fetch_one(&owner).await.unwrap();
        let (id, name) = (format!("'{id}'::text"), format!("'{name}'::text"));
        looks.extend([
            with(console::HEALTH, &[&id]),
            with(console::VERSIONS, &[&id]),
            with(console::AUDIT, &[&name, &id, "null", "3600", "200"]),
            with(console::LISTED, &[&id, "null::text", "null", "null", "null", "null", "null", "null", "50", "50"]),
            with(console::LISTED, &[&id, "null::text", "null", "null", "'timeout'", "null", "null", "true", "2000", "50"]),
            with(console::LISTED, &["null::text", &name, "null", "3600", "null", "null", "null", "null", "50", "50"]),
        ]);
    }
    looks.push(with(console::LISTED, &["null::text", "null::text", "null", "null", "null", "null", "null", "null", "50", "50"]));
    let mut dear = dear_looks(&mut connection, &looks).await;
    // Of a long history nothing counts any more, and nothing of it is walked to find that out.
    owner.execute("update actions_private.actions set counting_since = now()").await.unwrap();
    looks.retain(|look| look.contains("action_health"));
    looks.push("from actions.find_invocations(project_id => 'busy', since => now() - interval '1 hour')".to_owned());
    dear.extend(dear_looks(&mut connection, &looks).await);
    assert!(dear.is_empty(), "\n{}", dear.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_is_found_by_the_id_that_its_endpoint_received() {
    let stack = answering(Reply::json("{}")).await;
    stack.project("p").await;
    stack.action("p", "pre_register", &stack.endpoint.url("/"), "").await;
    let given = "evt_01JD3X6G8Q7N9V8R2M4T6W8Y0B";
    let by_event = async |event: &str| -> Vec<String> {
        sqlx::query_scalar("select invocation_id from actions.by_event($1)").bind(event).fetch_all(&stack.ops).await.unwrap()
    };
    let made = enqueue(&stack.core, "p", "pre_register", "{}").await;
    let named = ask(&stack.core, "actions.enqueue('p', 'pre_register', '{}', null, $1)", &[given]).await.unwrap().remove(0);
    // While they wait, and when they are decided.
    for worker in [None, Some(stack.worker(&[]).await)] {
        if worker.is_some() {
            until(&stack.ops, "ended", "select bool_and(finished_at is not null) from actions.recent_invocations").await;
        }
        assert_eq!(by_event(&made.event_id).await, [made.id()]);
        assert_eq!(by_event(given).await, [named.id()]);
    }
    // Long after, when nobody remembers its key.
    stack.database.owner().await.execute("delete from actions_private.event_keys").await.unwrap();
    assert_eq!(by_event(given).await, [named.id()]);
    assert_eq!(by_event("evt_01JD3X6G8Q7N9V8R2M4T6W8Y0C").await, [] as [String; 0]);
    let wrong = crate::support::refusal(&stack.ops, "select actions.by_event('inv_1')").await;
    assert_eq!(wrong[0], "22023");
    assert!(wrong[1].contains("event_id is 'inv_1'") && wrong[2].contains("evt_ and 26"), "{wrong:?}");
    let operator = Operator::of(&stack).await;
    assert_eq!(operator.json(&["invocations", "list", "--event", given]).await[0]["invocation_id"], named.id());
    assert!(text(&operator.run(&["invocations", "list", "--event", &made.event_id]).await).contains("inv_"));
}
