//! What people do to actions by hand: prepare one beside the live one, change over, kill.

use std::sync::Arc;

use authio_actions_testkit::endpoint::Reply;
use authio_actions_testkit::stack::Stack;
use sqlx::Row;
use tokio::sync::Barrier;

use crate::support::{answering, by_path, enqueue, invoke, refusal, until};

async fn enabled(stack: &Stack) -> Vec<String> {
    sqlx::query_scalar("select name from actions.actions where enabled order by name").fetch_all(&stack.ops).await.unwrap()
}

async fn prepared(stack: &Stack, name: &str, path: &str, is_enabled: bool) -> String {
    let sql = "select action_id from actions.create_action('p', 'pre_register', $1, $2, enabled => $3)";
    sqlx::query_scalar(sql).bind(stack.endpoint.url(path)).bind(name).bind(is_enabled).fetch_one(&stack.admin).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_action_is_prepared_beside_the_live_one_and_takes_its_place_in_one_step() {
    let stack = by_path(|path| Reply::json(format!(r#"{{"decision":"deny","deny_code":"{}"}}"#, path.trim_start_matches('/')))).await;
    let _worker = stack.worker(&[]).await;
    stack.project("p").await;
    let old = prepared(&stack, "old", "/old", true).await;
    let new = prepared(&stack, "new", "/new", false).await;
    assert_eq!(enabled(&stack).await, ["old"]);
    assert_eq!(invoke(&stack, "p", "pre_register").await.outcome()["code"], "old");
    let swapped: String = sqlx::query_scalar("select action_id from actions.swap_action($1, $2, 'ada')")
        .bind(&old)
        .bind(&new)
        .fetch_one(&stack.admin)
        .await
        .unwrap();
    assert_eq!((swapped, enabled(&stack).await), (new.clone(), vec!["new".to_owned()]));
    assert_eq!(invoke(&stack, "p", "pre_register").await.outcome()["code"], "new");
    // Again it is done already, and writes nothing.
    sqlx::query("select actions.swap_action($1, $2, 'ada')").bind(&old).bind(&new).execute(&stack.admin).await.unwrap();
    let audit: Vec<String> =
        sqlx::query_scalar("select event || ' ' || (details -> 'after' ->> 'name') from actions.audit_log where actor = 'ada' order by at")
            .fetch_all(&stack.ops)
            .await
            .unwrap();
    assert_eq!(audit, ["action.disabled old", "action.enabled new"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_swap_is_refused_where_the_two_do_not_belong_together_and_changes_nothing() {
    let stack = answering(Reply::json("{}")).await;
    stack.project("p").await;
    stack.project("q").await;
    let one = prepared(&stack, "one", "/", true).await;
    let two = prepared(&stack, "two", "/", false).await;
    let elsewhere = stack.action("q", "pre_register", &stack.endpoint.url("/"), "").await;
    let later = stack.action("p", "post_register", &stack.endpoint.url("/"), "").await;
    for (disable, enable, words) in [
        (&one, &one, "are both"),
        (&one, &elsewhere, "project q"),
        (&one, &later, "post_register"),
        (&"action_no".to_owned(), &two, "action_id is 'action_no'"),
        (&one, &"action_no".to_owned(), "action_id is 'action_no'"),
    ] {
        let [code, message, detail, _] =
            refusal(&stack.admin, &format!("select actions.swap_action('{disable}', '{enable}', 'ada')")).await;
        assert!(code == "22023" && message.contains(words) && !detail.is_empty(), "{code} {message} {detail}");
    }
    sqlx::query("select actions.kill_action($1, 'wrong', 'ada')").bind(&two).execute(&stack.admin).await.unwrap();
    let [code, message, ..] = refusal(&stack.admin, &format!("select actions.swap_action('{one}', '{two}', 'ada')")).await;
    assert!(code == "22023" && message.contains("is killed"), "{message}");
    assert_eq!(enabled(&stack).await, ["Sample", "Sample", "one"]);
    let [code, message, ..] =
        refusal(&stack.admin, "select actions.create_action('p', 'pre_register', 'https://a.example/', 'A', enabled => null)").await;
    assert!(code == "22023" && message.contains("enabled is null"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn while_two_swap_there_and_back_each_event_finds_one_action() {
    let stack = Arc::new(answering(Reply::json("{}")).await);
    stack.project("p").await;
    let one = prepared(&stack, "one", "/", true).await;
    let two = prepared(&stack, "two", "/", false).await;
    let barrier = Arc::new(Barrier::new(3));
    let swapping = [(one.clone(), two.clone()), (two, one)].map(|(disable, enable)| {
        let (stack, barrier) = (Arc::clone(&stack), Arc::clone(&barrier));
        tokio::spawn(async move {
            barrier.wait().await;
            for _ in 0..30 {
                let swap = sqlx::query("select actions.swap_action($1, $2, 'ada')").bind(&disable).bind(&enable);
                swap.execute(&stack.admin).await.unwrap();
            }
        })
    });
    barrier.wait().await;
    for _ in 0..100 {
        assert_eq!(enqueue(&stack.core, "p", "pre_register", "{}").await.status, "queued", "there is always one");
    }
    for one in swapping {
        one.await.unwrap();
    }
    assert_eq!(enabled(&stack).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_by_hand_does_everything_that_a_kill_does() {
    let stack = answering(Reply::json("{}")).await;
    let _programs = (stack.worker(&[]).await, stack.janitor(&[("ACTIONS_KILL_SWITCH__TICK_MS", "50")]).await);
    stack.project("p").await;
    let members = r#"[{"email":"o@acme.com","role":"owner"},{"email":"a@acme.com","role":"Admin"},{"email":"m@acme.com","role":"member"}]"#;
    sqlx::query("select actions.set_project_members('p', $1::json)").bind(members).execute(&stack.admin).await.unwrap();
    let id = stack.action("p", "pre_register", &stack.endpoint.url("/"), "on_killed => 'deny'").await;
    let killed = "select killed_at is not null, killed_reason from actions.kill_action($1, ' it leaks ', 'ada')";
    let row = sqlx::query(killed).bind(&id).fetch_one(&stack.admin).await.unwrap();
    assert_eq!((row.get::<bool, _>(0), row.get::<String, _>(1)), (true, "it leaks".to_owned()));
    let state = enqueue(&stack.core, "p", "pre_register", "{}").await;
    assert_eq!((state.status.as_str(), state.outcome()["code"].as_str()), ("killed", Some("action_killed")));
    let event = "select actor, details ->> 'reason', login from actions.audit_log where event = 'action.killed'";
    let (actor, reason, login): (String, String, String) = sqlx::query_as(event).fetch_one(&stack.ops).await.unwrap();
    assert_eq!((actor.as_str(), reason.as_str(), login.as_str()), ("ada", "it leaks", "test_admin"), "the login is the server's word");
    // Owners and admins get a mail, in the words of every kill.
    let owner = stack.database.owner().await;
    until(&owner, "mails are written", "select count(*) = 2 and bool_and(text_body is not null) from actions_private.mail_outbox").await;
    let mail = "select subject, text_body, html_body from actions_private.mail_outbox where recipient = 'a@acme.com'";
    let (subject, text, html): (String, String, String) = sqlx::query_as(mail).fetch_one(&owner).await.unwrap();
    assert!(
        subject.contains("was switched off: it leaks") && text.contains("are now denied") && html.contains("it leaks"),
        "{subject} {text}"
    );
    // Once killed, a second kill changes nothing.
    sqlx::query("select actions.kill_action($1, 'another', 'eve')").bind(&id).execute(&stack.admin).await.unwrap();
    let kept: String = sqlx::query_scalar("select killed_reason from actions.actions").fetch_one(&stack.ops).await.unwrap();
    assert_eq!(kept, "it leaks");
    sqlx::query("select actions.reenable_action($1, 'ada')").bind(&id).execute(&stack.admin).await.unwrap();
    assert_eq!(invoke(&stack, "p", "pre_register").await.status, "ok");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_by_hand_needs_a_reason_on_one_line() {
    let stack = answering(Reply::json("{}")).await;
    stack.project("p").await;
    let id = stack.action("p", "pre_register", &stack.endpoint.url("/"), "").await;
    let long = format!("'{}'", "x".repeat(501));
    for (reason, words) in
        [("null", "reason is null"), ("'  '", "reason is empty"), (long.as_str(), "501 characters"), (r"E'a\nb'", "control character")]
    {
        let [code, message, detail, _] = refusal(&stack.admin, &format!("select actions.kill_action('{id}', {reason}, 'ada')")).await;
        assert!(code == "22023" && message.contains(words) && detail.contains("1 to 500"), "{message} {detail}");
    }
    let killed: bool = sqlx::query_scalar("select killed_at is not null from actions.actions").fetch_one(&stack.ops).await.unwrap();
    assert!(!killed);
}
