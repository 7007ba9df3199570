//! An event that is reported again under its id is the same invocation.

use std::sync::Arc;

use authio_actions::domain::new_event_id;
use authio_actions_testkit::endpoint::Reply;
use authio_actions_testkit::stack::Stack;
use sqlx::PgPool;
use tokio::sync::Barrier;

use crate::support::{State, answering, ask, result, until};

async fn report(pool: &PgPool, project: &str, trigger: &str, reply_to: &str, event_id: &str) -> State {
    let call = "actions.enqueue($1, $2, '{}', $3, $4)";
    ask(pool, call, &[project, trigger, reply_to, event_id]).await.unwrap().remove(0)
}

async fn stage() -> (Stack, String) {
    let stack = answering(Reply::json("{}")).await;
    stack.project("p").await;
    let action = stack.action("p", "pre_register", &stack.endpoint.url("/"), "timeout_ms => 5000").await;
    (stack, action)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_event_again_is_the_same_invocation_as_it_is_now_and_is_sent_once() {
    let (stack, _) = stage().await;
    let id = new_event_id();
    let first = report(&stack.core, "p", "pre_register", "first", &id).await;
    let second = report(&stack.core, "p", "pre_register", "second", &id).await;
    assert_eq!((first.id(), first.event_id.as_str()), (second.id(), id.as_str()));
    assert_eq!(second.status, "queued");
    assert!(second.wait_ms > 0 && second.wait_ms <= first.wait_ms, "what is left of it");
    let owner = stack.database.owner().await;
    let rows: Vec<String> = sqlx::query_scalar("select reply_to from actions_private.queue").fetch_all(&owner).await.unwrap();
    assert_eq!(rows, ["first"], "the first one's reply_to stays");
    let _worker = stack.worker(&[]).await;
    until(&stack.ops, "it is decided", "select bool_and(status = 'ok') from actions.recent_invocations").await;
    let third = report(&stack.core, "p", "pre_register", "third", &id).await;
    assert_eq!((third.id(), third.status.as_str(), third.wait_ms), (first.id(), "ok", 0));
    assert_eq!(third.outcome()["decision"], "allow");
    assert_eq!(stack.endpoint.requests().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_at_once_are_one_invocation() {
    let (stack, _) = stage().await;
    let _worker = stack.worker(&[]).await;
    let id = new_event_id();
    let barrier = Arc::new(Barrier::new(50));
    let reports: Vec<_> = (0..50)
        .map(|n| {
            let (pool, id, barrier) = (stack.core.clone(), id.clone(), Arc::clone(&barrier));
            tokio::spawn(async move {
                barrier.wait().await;
                if n % 2 == 0 {
                    return report(&pool, "p", "pre_register", "me", &id).await.id().to_owned();
                }
                let requests = serde_json::json!([{"project_id": "p", "trigger": "pre_register", "event": {}, "event_id": id}]).to_string();
                ask(&pool, "actions.enqueue_many($1::json, 'me')", &[&requests]).await.unwrap().remove(0).id().to_owned()
            })
        })
        .collect();
    let mut ids = Vec::new();
    for report in reports {
        ids.push(report.await.unwrap());
    }
    ids.dedup();
    assert_eq!(ids.len(), 1);
    until(&stack.ops, "it is decided", "select count(*) = 1 and bool_and(status = 'ok') from actions.recent_invocations").await;
    assert_eq!(stack.endpoint.requests().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn within_one_statement_and_beside_new_ones_each_is_answered_at_its_place() {
    let (stack, _) = stage().await;
    stack.action("p", "post_register", &stack.endpoint.url("/"), "").await;
    let (old, new) = (new_event_id(), new_event_id());
    let known = report(&stack.core, "p", "pre_register", "me", &old).await;
    let request = |trigger: &str, id: Option<&str>| serde_json::json!({"project_id": "p", "trigger": trigger, "event": {}, "event_id": id});
    let requests = serde_json::json!([
        request("pre_register", Some(&new)),
        request("pre_register", Some(&old)),
        request("pre_register", None),
        request("post_register", Some(&old)), // the same id of another trigger is another event
        request("pre_register", Some(&new)),
        request("pre_token_mint", Some(&old)), // nothing to call
    ]);
    let states = ask(&stack.core, "actions.enqueue_many($1::json, 'me')", &[&requests.to_string()]).await.unwrap();
    assert_eq!(states.len(), 6);
    assert_eq!(states[0].id(), states[4].id());
    assert_eq!(states[1].id(), known.id());
    let mut ids: Vec<&str> = states[..4].iter().map(State::id).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 4, "the others are invocations of their own");
    assert_eq!((states[5].invocation_id.as_deref(), states[5].outcome()["source"].as_str()), (None, Some("no_action")));
    assert_eq!(states[2].event_id.len(), 30);
    assert!([0, 4].iter().all(|n| states[*n].event_id == new));
    let owner = stack.database.owner().await;
    let queued: i64 = sqlx::query_scalar("select count(*) from actions_private.queue").fetch_one(&owner).await.unwrap();
    assert_eq!(queued, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_killed_action_the_repetition_is_the_same_logged_row() {
    let (stack, action) = stage().await;
    let owner = stack.database.owner().await;
    sqlx::query("update actions_private.actions set killed_at = now(), killed_reason = 'test' where id = $1")
        .bind(&action)
        .execute(&owner)
        .await
        .unwrap();
    let id = new_event_id();
    let first = report(&stack.core, "p", "pre_register", "me", &id).await;
    let again = report(&stack.core, "p", "pre_register", "me", &id).await;
    assert_eq!((first.id(), first.status.as_str()), (again.id(), "killed"));
    assert_eq!(first.outcome(), again.outcome());
    let rows: i64 = sqlx::query_scalar("select count(*) from actions_private.invocations").fetch_one(&owner).await.unwrap();
    assert_eq!(rows, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn after_ten_minutes_an_id_is_new_again_and_the_janitor_forgets_it() {
    let (stack, _) = stage().await;
    let owner = stack.database.owner().await;
    let id = new_event_id();
    let first = report(&stack.core, "p", "pre_register", "me", &id).await;
    let age = async |by: &str| {
        let sql = format!("update actions_private.event_keys set enqueued_at = enqueued_at - interval '{by}'");
        sqlx::query(&sql).execute(&owner).await.unwrap();
    };
    age("9 minutes 55 seconds").await;
    assert_eq!(report(&stack.core, "p", "pre_register", "me", &id).await.id(), first.id());
    age("10 seconds").await;
    let later = report(&stack.core, "p", "pre_register", "me", &id).await;
    assert_ne!(later.id(), first.id());
    assert_eq!(result(&stack.core, first.id()).await.status, "queued", "the first one stays what it is");
    let forget = "select actions_private.forget_event_keys()";
    assert_eq!(sqlx::query_scalar::<_, i64>(forget).fetch_one(&owner).await.unwrap(), 0);
    age("11 minutes").await;
    assert_eq!(sqlx::query_scalar::<_, i64>(forget).fetch_one(&owner).await.unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_sent_again_answers_for_the_same_events_as_they_are_now() {
    let (stack, action) = stage().await;
    let given = new_event_id();
    let request = uuid::Uuid::new_v4().to_string();
    // One with an id that was reported before, one without any action.
    let before = report(&stack.core, "p", "pre_register", "me", &given).await;
    let call = "actions.enqueue_many(array['p','p','p','p'], array['pre_register','pre_token_mint','pre_register','pre_register'],
        array['{}','{}','{\"n\":3}','{}']::json[], array[null, null, null, $1], 'me', $2::uuid)";
    let shape = |states: &[State]| states.iter().map(|state| (state.invocation_id.clone(), state.event_id.clone())).collect::<Vec<_>>();
    let first = ask(&stack.core, call, &[&given, &request]).await.unwrap();
    assert_eq!((first[1].invocation_id.as_deref(), first[3].id()), (None, before.id()));
    let again = ask(&stack.core, call, &[&given, &request]).await.unwrap();
    assert_eq!(shape(&again), shape(&first));
    assert_eq!(again[1].outcome()["source"], "no_action");
    let _worker = stack.worker(&[]).await;
    until(&stack.ops, "all are decided", "select count(*) = 3 and bool_and(status = 'ok') from actions.recent_invocations").await;
    // Also after the action is gone.
    sqlx::query("select actions.delete_action($1)").bind(&action).execute(&stack.admin).await.unwrap();
    let decided = ask(&stack.core, call, &[&given, &request]).await.unwrap();
    assert_eq!(shape(&decided), shape(&first));
    assert!(decided.iter().all(|state| state.status == "ok" && state.wait_ms == 0));
    assert_eq!(stack.endpoint.requests().len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_unknown_id_costs_the_others_nothing_and_by_itself_is_an_error() {
    let (stack, _) = stage().await;
    let states = [
        report(&stack.core, "p", "pre_register", "me", &new_event_id()).await,
        report(&stack.core, "p", "pre_register", "me", &new_event_id()).await,
    ];
    for call in ["results", "abandon_many"] {
        let mixed = format!("actions.{call}(array['{}', 'inv_nobody', '{}'])", states[0].id(), states[1].id());
        let rows = ask(&stack.core, &mixed, &[]).await.unwrap();
        assert_eq!(rows.iter().map(State::id).collect::<Vec<_>>(), [states[0].id(), states[1].id()], "{call}");
        let alone = format!("select actions.{call}(array['inv_nobody'])");
        let [code, message, ..] = crate::support::refusal(&stack.core, &alone).await;
        assert_eq!((code.as_str(), message.as_str()), ("22023", "invocation_id is 'inv_nobody'"), "{call}");
    }
}
