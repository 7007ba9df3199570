//! `actionsctl invocations` and `bench`: what was sent, and what became of it.

use std::process::Stdio;

use authio_actions_testkit::endpoint::Reply;
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::operator::{Operator, text};
use crate::support::{answering, by_path, invoke};

#[tokio::test(flavor = "multi_thread")]
async fn a_test_event_tells_what_became_of_it_and_invocations_are_listed_and_shown() {
    let stack = by_path(|path| if path == "/bad" { Reply::with_status(500, "{}") } else { Reply::json(r#"{"decision":"deny"}"#) }).await;
    let _worker = stack.worker(&[]).await;
    stack.project("p").await;
    let good = stack.action("p", "pre_register", &stack.endpoint.url("/"), "").await;
    let bad = stack.action("p", "post_authenticate", &stack.endpoint.url("/bad"), "").await;
    let operator = Operator::of(&stack).await;
    let tested = operator.json(&["action", "test", &good]).await;
    assert_eq!((&tested["status"], &tested["test"], &tested["decision"]), (&"rejected".into(), &true.into(), &"deny".into()));
    let failed = operator.run(&["action", "test", &bad]).await;
    assert!(failed.status.code() == Some(1) && text(&failed).contains("http_error"), "{}", text(&failed));
    let id = tested["invocation_id"].as_str().unwrap();
    assert_eq!(operator.json(&["invocations", "show", id]).await["status"], "rejected");
    assert_eq!(operator.json(&["invocations", "list", "--action", &good]).await.as_array().unwrap().len(), 1);
    assert_eq!(operator.json(&["invocations", "list", "-n", "1"]).await[0]["status"], "http_error");
    let measured = operator.json(&["bench", &good, "--events", "12", "--at-once", "3"]).await;
    assert_eq!((&measured["events"], &measured["answered"]), (&12.into(), &12.into()));
    assert!(measured["whole"]["p50_ms"].as_f64() >= measured["call"]["p50_ms"].as_f64() && measured["call"]["p50_ms"].as_f64() > Some(0.0));
    assert_eq!(operator.run(&["bench", &bad, "--events", "1"]).await.status.code(), Some(1));
    let table = text(&operator.run(&["invocations", "list", "-n", "2"]).await);
    assert!(table.lines().count() == 3 && table.lines().all(|line| line.chars().count() <= 80), "{table}");
    assert_eq!(operator.run(&["invocations", "show", "inv_1"]).await.status.code(), Some(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_of_invocations_has_dates_and_tells_projects_where_several_are_mixed() {
    let stack = answering(Reply::json("{}")).await;
    let _worker = stack.worker(&[]).await;
    for project in ["acme", "globex"] {
        stack.project(project).await;
        stack.action(project, "pre_register", &stack.endpoint.url("/"), "").await;
        invoke(&stack, project, "pre_register").await;
    }
    let operator = Operator::of(&stack).await;
    let mixed = text(&operator.run(&["invocations", "list"]).await);
    let year = format!("{}-", time::OffsetDateTime::now_utc().year());
    assert_eq!((mixed.lines().count(), mixed.lines().filter(|line| line.starts_with(&year)).count()), (5, 2), "{mixed}");
    assert!(mixed.contains("acme") && mixed.contains("globex"), "{mixed}");
    assert!(mixed.lines().all(|line| line.chars().count() <= 80), "{mixed}");
    let alone = text(&operator.run(&["invocations", "list", "--project", "acme"]).await);
    assert!(alone.lines().count() == 2 && !alone.contains("acme"), "what everybody knows is not repeated: {alone}");
}

#[tokio::test(flavor = "multi_thread")]
async fn invocations_are_listed_and_followed_from_a_moment_on() {
    let stack = answering(Reply::json("{}")).await;
    stack.project("p").await;
    let owner = stack.database.owner().await;
    let insert = "insert into actions_private.invocations
        (id, event_id, project_id, trigger, action_id, action_version, test, status, outcome, enqueued_at, finished_at)
        select 'inv_' || actions_private.id_time(at) || actions_private.id_random(), 'e', 'p', 'pre_register', 'a', 1, false, 'ok', '{}', at, at
        from (select now() - hours * interval '1 hour' as at from unnest(array[1, 3, 60]) as hours) as moments";
    sqlx::query(insert).execute(&owner).await.unwrap();
    let operator = Operator::of(&stack).await;
    let count = async |since: &str| operator.json(&["invocations", "list", "--since", since]).await.as_array().unwrap().len();
    let moment: String =
        sqlx::query_scalar("select to_char((now() - interval '2 days') at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')")
            .fetch_one(&owner)
            .await
            .unwrap();
    for (since, wanted) in
        [("90m", 1), ("2h", 1), ("4h", 2), ("7d", 3), (&moment, 2), ("1970-01-01T00:00:00Z", 3), ("9999-01-01T00:00:00Z", 0)]
    {
        assert_eq!(count(since).await, wanted, "{since}");
    }
    for command in ["list", "tail"] {
        let refused = operator.run(&["invocations", command, "--since", "yesterday"]).await;
        assert!(
            refused.status.code() == Some(2) && text(&refused).contains("7d") && text(&refused).contains("RFC 3339"),
            "{}",
            text(&refused)
        );
    }
    let mut tail =
        operator.command(&["invocations", "tail", "--since", "4h", "--json"]).stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
    let mut lines = BufReader::new(tail.stdout.take().unwrap()).lines();
    let mut told = Vec::new();
    while told.len() < 2 {
        let line = tokio::time::timeout(std::time::Duration::from_secs(30), lines.next_line()).await.unwrap().unwrap().unwrap();
        told.push(serde_json::from_str::<serde_json::Value>(&line).unwrap()["finished_at"].as_str().unwrap().to_owned());
    }
    assert!(told.is_sorted(), "the oldest first: {told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn tail_follows_what_ends() {
    let stack = answering(Reply::json("{}")).await;
    let _worker = stack.worker(&[]).await;
    stack.project("p").await;
    let id = stack.action("p", "pre_register", &stack.endpoint.url("/"), "").await;
    let operator = Operator::of(&stack).await;
    let mut tail = operator.command(&["invocations", "tail", "--action", &id]).stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
    let mut lines = BufReader::new(tail.stdout.take().unwrap()).lines();
    let following = async {
        assert!(lines.next_line().await.unwrap().unwrap().starts_with("time"));
        // The first look passes over what ended before it; so events come until one is told.
        loop {
            operator.json(&["action", "test", &id]).await;
            let told = tokio::time::timeout(std::time::Duration::from_secs(2), lines.next_line()).await;
            if let Ok(line) = told {
                return line.unwrap().unwrap();
            }
        }
    };
    let line = tokio::time::timeout(std::time::Duration::from_secs(30), following).await.unwrap();
    assert!(line.contains("ok") && line.contains("inv_"), "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_look_back_over_more_than_a_page_tells_each_invocation_once() {
    let stack = answering(Reply::json("{}")).await;
    let owner = stack.database.owner().await;
    // Some end at the same moment, as those that one statement writes, also where a page ends.
    let insert = "insert into actions_private.invocations
        (id, event_id, project_id, trigger, action_id, action_version, test, status, outcome, enqueued_at, finished_at)
        select 'inv_' || actions_private.id_time(at) || actions_private.id_tail(n % 4096, n), 'e', 'p', 'pre_register', 'a', 1, false, 'ok', '{}', at, at
        from (select n, date_trunc('minute', now()) - interval '1 hour' + n / 30 * interval '1 second' as at from generate_series(1, 25000) as n) as moments
        where at < now() - interval '1 minute'";
    let written = sqlx::query(insert).execute(&owner).await.unwrap().rows_affected();
    assert!(written > 20_000, "{written}");
    let operator = Operator::of(&stack).await;
    let mut tail =
        operator.command(&["invocations", "tail", "--since", "2h", "--json"]).stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
    let mut lines = BufReader::new(tail.stdout.take().unwrap()).lines();
    let mut told = std::collections::HashSet::new();
    while told.len() < usize::try_from(written).unwrap() {
        let line = tokio::time::timeout(std::time::Duration::from_secs(30), lines.next_line()).await.unwrap().unwrap().unwrap();
        let row: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert!(told.insert(row["invocation_id"].as_str().unwrap().to_owned()), "twice: {line}");
    }
}
