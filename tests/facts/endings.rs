//! Several endings in one statement: each is its own, proves itself, and is written as it
//! would be by itself.

use std::collections::HashSet;

use authio_actions::domain::{ErrorCode, Status};
use authio_actions::store::Database;
use authio_actions::store::claim::{Claim, Look, Room, claim};
use authio_actions::store::complete::{Ending, complete};
use authio_actions::store::notify;
use authio_actions_testkit::endpoint::Reply;
use authio_actions_testkit::stack::Stack;
use serde_json::{Value, json};
use sqlx::postgres::PgListener;
use uuid::Uuid;

use crate::support::{abandon, answering, enqueue, result, store};

async fn stage() -> (Stack, Database) {
    let stack = answering(Reply::json("{}")).await;
    stack.project("p").await;
    stack.action("p", "pre_register", &stack.endpoint.url("/"), "timeout_ms => 5000").await;
    let database = store(&stack.database.url("worker"));
    (stack, database)
}

/// So many claimed at once, the oldest first.
async fn claimed(stack: &Stack, database: &Database, count: usize) -> Vec<Claim> {
    let mut ids = Vec::new();
    for _ in 0..count {
        ids.push(enqueue(&stack.core, "p", "pre_register", "{}").await.id().to_owned());
    }
    ids.sort(); // two of the same millisecond may be in any order
    let room = Room { limit: 100, per_action: 100, tight: Vec::new() };
    let claims =
        claim(database, "worker-facts", &room, Look { back: None, least_left: None, says_awake: None, fair_among: None }).await.unwrap();
    assert_eq!(claims.iter().map(|claim| &claim.id).collect::<Vec<_>>(), ids.iter().collect::<Vec<_>>());
    claims
}

/// As different from its neighbours as endings can be.
fn ending(n: usize, claim: &Claim) -> Ending {
    const STATUSES: [Status; 4] = [Status::Ok, Status::Rejected, Status::Timeout, Status::HttpError];
    let some = |is: bool| is.then_some(n);
    Ending {
        id: claim.id.clone(),
        token: claim.token,
        status: STATUSES[n % 4],
        outcome: json!({"n": n}).to_string(),
        http_status: some(!n.is_multiple_of(3)).map(|n| 200 + i32::try_from(n).unwrap()),
        duration_ms: some(n % 3 != 1).map(|n| n as f64 + 0.5),
        phases: some(n % 3 != 2).map(|n| json!({"first_byte": n}).to_string()),
        error: some(n.is_multiple_of(2)).map(|n| format!("error {n}")),
        error_code: some(n.is_multiple_of(2)).map(|_| ErrorCode::ConnectRefused),
        response_sha256: some(n % 2 == 1).map(|n| vec![u8::try_from(n).unwrap(); 32]),
        overrode: n.is_multiple_of(2),
        notes: ["action.note_0", "action.note_1"][..n % 3].iter().map(|note| (*note, json!({"n": n}).to_string())).collect(),
    }
}

/// What the history and the audit log say of these, without what differs from run to run.
async fn written(stack: &Stack, claims: &[Claim]) -> Vec<Value> {
    let mut rows = Vec::new();
    for claim in claims {
        let sql = "select json_build_array(r.status, r.outcome, r.http_status, r.duration_ms, r.phases, r.error, r.response_sha256, r.overrode, r.worker,
              r.trigger, r.test, r.queue_ms is not null, r.finished_at > r.enqueued_at,
              (select json_agg(a.event order by a.event) from actions.audit_log as a where a.details ->> 'n' = r.outcome ->> 'n'))
            from actions.recent_invocations as r where r.invocation_id = $1";
        rows.push(sqlx::query_scalar(sql).bind(&claim.id).fetch_one(&stack.ops).await.unwrap());
    }
    rows
}

#[tokio::test]
async fn an_ending_is_written_among_many_as_it_is_by_itself() {
    let (alone, first) = stage().await;
    let (together, second) = stage().await;
    let one_by_one = claimed(&alone, &first, 12).await;
    for (n, claim) in one_by_one.iter().enumerate() {
        assert_eq!(complete(&first, &[ending(n, claim)], &[]).await.unwrap(), HashSet::from([claim.id.clone()]));
    }
    let at_once = claimed(&together, &second, 12).await;
    let endings: Vec<Ending> = at_once.iter().enumerate().map(|(n, claim)| ending(n, claim)).collect();
    assert_eq!(complete(&second, &endings, &[]).await.unwrap().len(), 12);
    let (by_itself, among_many) = (written(&alone, &one_by_one).await, written(&together, &at_once).await);
    assert_eq!(by_itself, among_many);
    assert_eq!(by_itself[1][0], "rejected");
    assert_eq!(by_itself[5][1], json!({"n": 5}));
}

#[tokio::test]
async fn among_many_endings_only_those_whose_token_still_holds_are_written() {
    let (stack, database) = stage().await;
    let owner = stack.database.owner().await;
    let claims = claimed(&stack, &database, 4).await;
    let (abandoned, taken_over) = (&claims[1].id, &claims[2].id);
    abandon(&stack.core, abandoned).await;
    let take_over = "update actions_private.queue set claim_token = $2 where id = $1";
    sqlx::query(take_over).bind(taken_over).bind(Uuid::new_v4()).execute(&owner).await.unwrap();
    let endings: Vec<Ending> = claims.iter().enumerate().map(|(n, claim)| ending(n, claim)).collect();

    let ours = complete(&database, &endings, &[]).await.unwrap();

    assert_eq!(ours, HashSet::from([claims[0].id.clone(), claims[3].id.clone()]));
    assert_eq!(result(&stack.core, abandoned).await.status, "expired");
    assert_eq!(result(&stack.core, taken_over).await.status, "running");
    let late = complete(&database, &endings[2..3], &[]).await.unwrap();
    assert!(late.is_empty(), "nor by itself: {late:?}");
    let notes: i64 =
        sqlx::query_scalar("select count(*) from actions.audit_log where event like 'action.note%'").fetch_one(&stack.ops).await.unwrap();
    assert_eq!(notes, 0, "ending 0 and 3 have no notes; those of the others fell away");
}

#[tokio::test]
async fn waiters_are_told_with_the_endings_if_all_are_ours_and_none_of_them_if_one_is_not() {
    let (stack, database) = stage().await;
    let claims = claimed(&stack, &database, 3).await;
    abandon(&stack.core, &claims[1].id).await;
    let mut listener = PgListener::connect(&stack.database.url("core")).await.unwrap();
    listener.listen("me").await.unwrap();
    let [first, abandoned, third] = [0, 1, 2].map(|n| {
        let outcome = Some("{}".to_owned());
        (ending(n, &claims[n]), notify::Reply { reply_to: "me".to_owned(), id: claims[n].id.clone(), status: "ok", outcome })
    });

    let ours = complete(&database, &[first.0, abandoned.0], &[first.1, abandoned.1]).await.unwrap();
    assert_eq!(ours, HashSet::from([claims[0].id.clone()]));
    let ours = complete(&database, &[third.0], &[third.1]).await.unwrap();
    assert_eq!(ours, HashSet::from([claims[2].id.clone()]));

    let told = listener.recv().await.unwrap();
    assert_eq!(told.payload(), format!(r#"[{{"id":"{}","status":"ok","outcome":{{}}}}]"#, claims[2].id));
    for n in [0, 2] {
        assert_eq!(result(&stack.core, &claims[n].id).await.outcome, Some(json!({"n": n})), "written all the same");
    }
}

#[tokio::test]
async fn what_is_claimed_is_claimed_once() {
    let (stack, database) = stage().await;
    let claims = claimed(&stack, &database, 3).await;
    let room = Room { limit: 100, per_action: 100, tight: Vec::new() };
    let cramped = Room { limit: 100, per_action: 50, tight: vec![(claims[0].action_id.clone(), 20)] };
    for room in [room, cramped] {
        let again = claim(&database, "worker-other", &room, Look { back: None, least_left: None, says_awake: None, fair_among: None })
            .await
            .unwrap();
        assert!(again.is_empty(), "{again:?}");
    }
}

#[tokio::test]
async fn an_abandon_waits_for_the_disk_also_where_its_connection_does_not() {
    let (stack, _database) = stage().await;
    let event = enqueue(&stack.core, "p", "pre_register", "{}").await;
    let mut connection = stack.core.begin().await.unwrap();
    for (sql, waits) in [
        ("set local synchronous_commit = off", "off"),
        ("select * from actions.result('EVENT')", "off"),
        ("select * from actions.abandon('EVENT')", "on"),
    ] {
        sqlx::query(&sql.replace("EVENT", event.id())).execute(&mut *connection).await.unwrap();
        let now: String = sqlx::query_scalar("show synchronous_commit").fetch_one(&mut *connection).await.unwrap();
        assert_eq!(now, waits, "after {sql}");
    }
    connection.commit().await.unwrap();
    assert_eq!(result(&stack.core, event.id()).await.status, "expired");
}
