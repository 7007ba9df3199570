//! An upgrade while people sign in: the schema first, then the programs one at a time.

use std::collections::HashSet;
use std::io::Write;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use authio_actions::client::{Client, Options};
use authio_actions::domain::{Status, Trigger};
use authio_actions_testkit::database::Database;
use authio_actions_testkit::endpoint::Reply;
use authio_actions_testkit::stack::Stack;
use serde_json::json;
use sqlx::{Executor, PgPool};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::operator::{Operator, text};
use crate::support::{programs, until};

/// Two hundred events a second until it is told to stop; how long each took, or what was wrong.
async fn sign_ins(client: Client, goes_on: Arc<AtomicBool>) -> Vec<Result<Duration, String>> {
    let mut running = JoinSet::new();
    let mut ticks = tokio::time::interval(Duration::from_millis(5));
    while goes_on.load(Ordering::SeqCst) {
        ticks.tick().await;
        let client = client.clone();
        running.spawn(async move {
            let began = Instant::now();
            match client.invoke("p", Trigger::PreRegister, &json!({})).await {
                Ok(answer) if answer.outcome.status == Status::Ok => Ok(began.elapsed()),
                Ok(answer) => Err(format!("{:?}", answer.outcome)),
                Err(error) => Err(error.to_string()),
            }
        });
    }
    running.join_all().await
}

/// Where the programs of the release before are: `ops/upgrade` builds them. Else this release stands in for it.
fn before() -> PathBuf {
    std::env::var_os("ACTIONS_UPGRADE_FROM").map_or_else(programs, PathBuf::from)
}

/// People sign in with the release before while the schema becomes this one's in `way`, and the programs
/// are replaced one at a time.
async fn upgraded(way: impl AsyncFnOnce(&Operator, &PgPool)) {
    let database = Database::create_with("", &before().join("actionsctl")).await;
    let mut stack = Stack::on(database, &before(), |_| std::future::ready(Reply::json("{}"))).await;
    stack.project("p").await;
    stack.action("p", "pre_register", &stack.endpoint.url("/"), "timeout_ms => 5000").await;
    let mut running = [stack.worker(&[]).await, stack.worker(&[]).await, stack.janitor(&[]).await];
    let owner = stack.database.owner().await;
    let operator = Operator { environment: vec![("ACTIONS_DATABASE__URL".to_owned(), stack.database.owner_url())] };
    let client = Client::connect(&Options::new(&stack.database.url("core"))).await.unwrap();
    let goes_on = Arc::new(AtomicBool::new(true));
    let load = tokio::spawn(sign_ins(client, Arc::clone(&goes_on)));

    signed_in(&owner, 400).await;
    if is_in_force(&operator).await {
        // As if the text of every function and view were another one.
        owner.execute("update actions_private.replaced_files set checksum = ''").await.unwrap();
    }
    way(&operator, &owner).await;
    assert!(is_in_force(&operator).await);
    stack.use_programs(&programs());
    for (n, program) in running.iter_mut().enumerate() {
        let next = if n < 2 { stack.worker(&[]).await } else { stack.janitor(&[]).await };
        assert!(std::mem::replace(program, next).drained().await.success());
    }
    let by_then: i64 = sqlx::query_scalar(ENDED).fetch_one(&owner).await.unwrap();
    signed_in(&owner, by_then + 400).await;

    goes_on.store(false, Ordering::SeqCst);
    let answers = load.await.unwrap();
    let wrong: Vec<_> = answers.iter().filter_map(|answer| answer.as_ref().err()).collect();
    assert!(wrong.is_empty(), "{} of {}: {:?}", wrong.len(), answers.len(), &wrong[..wrong.len().min(3)]);
    let mut took: Vec<Duration> = answers.into_iter().flatten().collect();
    took.sort();
    let [p50, p99] = [50, 99].map(|share| took[took.len() * share / 100]);
    let _ = writeln!(std::io::stdout(), "{} sign-ins: p50 {p50:.1?}, p99 {p99:.1?}, the longest {:.1?}", took.len(), took[took.len() - 1]);
    assert!(took.len() > 100 && p99 < Duration::from_secs(1), "{p99:?}");
    let requests = stack.endpoint.requests();
    let events: HashSet<String> = requests.iter().map(|request| request.json()["event_id"].as_str().unwrap().to_owned()).collect();
    assert_eq!((requests.len(), events.len()), (took.len(), took.len()), "each was sent once");
}

const ENDED: &str = "select count(*) from actions_private.invocations";

async fn signed_in(owner: &PgPool, count: i64) {
    until(owner, "people sign in", &format!("select ({ENDED}) >= {count}")).await;
}

async fn is_in_force(operator: &Operator) -> bool {
    let plan = operator.json(&["migrate", "--plan"]).await;
    plan["tables"] == json!([]) && plan["functions"] == json!([])
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_run_twice_at_once_costs_no_sign_in_anything() {
    upgraded(async |operator, _| {
        let (one, other) = tokio::join!(operator.run(&["migrate"]), operator.run(&["migrate"]));
        assert!(one.status.success() && other.status.success(), "{} {}", text(&one), text(&other));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_killed_on_its_way_costs_no_sign_in_anything() {
    upgraded(async |operator, _| {
        for after in [20, 60, 120] {
            let mut migrating = operator.command(&["migrate"]).stdout(Stdio::null()).spawn().unwrap();
            let _ = tokio::time::timeout(Duration::from_millis(after), migrating.wait()).await;
            migrating.kill().await.unwrap();
        }
        assert!(operator.run(&["migrate"]).await.status.success());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_held_up_by_a_reader_costs_no_sign_in_anything() {
    upgraded(async |operator, owner| {
        let mut reader = owner.begin().await.unwrap();
        reader.execute("select count(*) from actions.queue_health").await.unwrap();
        let migrating = operator.command(&["migrate"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let waits = "select exists (select from pg_locks where not granted and relation = 'actions.queue_health'::regclass)";
        until(owner, "it waits", waits).await;
        reader.rollback().await.unwrap();
        let output = migrating.wait_with_output().await.unwrap();
        assert!(output.status.success(), "{}", text(&output));
    })
    .await;
}
