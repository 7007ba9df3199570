//! An upgrade while people sign in: the schema first, then the programs one at a time.

use std::collections::HashSet;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use authio_actions::client::{Client, Options};
use authio_actions::domain::{Status, Trigger};
use authio_actions_lab::endpoint::Reply;
use serde_json::json;
use sqlx::{Executor, PgPool};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::operator::{Operator, text};
use crate::support::{answering, until};

/// A hundred events a second until it is told to stop; how long each took, or what was wrong.
async fn sign_ins(client: Client, goes_on: Arc<AtomicBool>) -> Vec<Result<Duration, String>> {
    let mut running = JoinSet::new();
    let mut ticks = tokio::time::interval(Duration::from_millis(10));
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

/// The text of every function and view is another one, as in a new release.
async fn new_release(owner: &PgPool) {
    owner.execute("update actions_private.replaced_files set checksum = ''").await.unwrap();
}

async fn is_in_force(operator: &Operator) {
    let plan = operator.json(&["migrate", "--plan"]).await;
    assert_eq!((&plan["tables"], &plan["functions"]), (&json!([]), &json!([])));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_costs_no_sign_in_an_error_a_second_call_or_a_second() {
    let stack = answering(Reply::json("{}")).await;
    stack.project("p").await;
    stack.action("p", "pre_register", &stack.endpoint.url("/"), "timeout_ms => 5000").await;
    let mut programs = [stack.worker(&[]).await, stack.worker(&[]).await, stack.janitor(&[]).await];
    let owner = stack.database.owner().await;
    let operator = Operator { environment: vec![("ACTIONS_DATABASE__URL".to_owned(), stack.database.owner_url())] };
    let client = Client::connect(&Options::new(&stack.database.url("core"))).await.unwrap();
    let goes_on = Arc::new(AtomicBool::new(true));
    let load = tokio::spawn(sign_ins(client, Arc::clone(&goes_on)));

    // Twice at once.
    new_release(&owner).await;
    let (one, other) = tokio::join!(operator.run(&["migrate"]), operator.run(&["migrate"]));
    assert!(one.status.success() && other.status.success(), "{} {}", text(&one), text(&other));
    is_in_force(&operator).await;
    // Killed on its way, several times.
    new_release(&owner).await;
    for after in [20, 60, 120] {
        let mut migrating = operator.command(&["migrate"]).stdout(Stdio::null()).spawn().unwrap();
        let _ = tokio::time::timeout(Duration::from_millis(after), migrating.wait()).await;
        migrating.kill().await.unwrap();
    }
    assert!(operator.run(&["migrate"]).await.status.success());
    is_in_force(&operator).await;
    // Held up by somebody who reads.
    new_release(&owner).await;
    let mut reader = owner.begin().await.unwrap();
    reader.execute("select count(*) from actions.queue_health").await.unwrap();
    let migrating = operator.command(&["migrate"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let waits = "select exists (select from pg_locks where not granted and relation = 'actions.queue_health'::regclass)";
    until(&owner, "it waits", waits).await;
    reader.rollback().await.unwrap();
    let output = migrating.wait_with_output().await.unwrap();
    assert!(output.status.success(), "{}", text(&output));
    is_in_force(&operator).await;
    // And the programs, one at a time.
    for (n, program) in programs.iter_mut().enumerate() {
        let next = if n < 2 { stack.worker(&[]).await } else { stack.janitor(&[]).await };
        assert!(std::mem::replace(program, next).drained().await.success());
    }

    goes_on.store(false, Ordering::SeqCst);
    let answers = load.await.unwrap();
    let wrong: Vec<_> = answers.iter().filter_map(|answer| answer.as_ref().err()).collect();
    assert!(wrong.is_empty(), "{} of {}: {:?}", wrong.len(), answers.len(), &wrong[..wrong.len().min(3)]);
    let mut took: Vec<Duration> = answers.into_iter().flatten().collect();
    took.sort();
    assert!(took.len() > 100 && took[took.len() * 99 / 100] < Duration::from_secs(1), "{:?}", took.last());
    let requests = stack.endpoint.requests();
    let events: HashSet<String> = requests.iter().map(|request| request.json()["event_id"].as_str().unwrap().to_owned()).collect();
    assert_eq!((requests.len(), events.len()), (took.len(), took.len()), "each was sent once");
}
