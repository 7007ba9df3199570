//! `actionsctl action`: what operators do to actions.

use authio_actions_testkit::endpoint::Reply;
use authio_actions_testkit::stack::ROOT_KEY;

use crate::operator::{Operator, derived, text};
use crate::support::answering;

#[tokio::test(flavor = "multi_thread")]
async fn the_life_of_an_action_from_create_to_delete() {
    let stack = answering(Reply::json("{}")).await;
    stack.project("p").await;
    let operator = Operator::of(&stack).await;
    let url = stack.endpoint.url("/");
    let create =
        ["action", "create", "--project", "p", "--trigger", "pre_register", "--url", &url, "--name", "Gate", "--fail-mode", "closed"];
    let made = operator.json(&create).await;
    let id = made["action_id"].as_str().unwrap();
    assert_eq!(made["secret"], derived(id, 1));
    assert_eq!((&made["fail_mode"], &made["timeout_ms"], &made["name"]), (&"closed".into(), &2000.into(), &"Gate".into()));
    assert_eq!(operator.json(&["action", "secret", id]).await["secret"], derived(id, 1));
    let shown = operator.json(&["action", "show", id]).await;
    assert_eq!(shown["secret_sha256"].as_str().unwrap().len(), 64, "its fingerprint is recorded without any worker");
    assert_eq!(operator.json(&["action", "list", "--project", "p"]).await.as_array().unwrap().len(), 1);
    let second = operator.run(&create).await;
    assert!(second.status.code() == Some(2) && text(&second).contains(id), "{}", text(&second));

    let updated = operator.json(&["action", "update", id, "--timeout-ms", "3000", "--on-killed", "deny"]).await;
    assert_eq!((&updated["timeout_ms"], &updated["version"]), (&3000.into(), &2.into()));
    assert_eq!(operator.json(&["action", "update", id, "--restore", "1"]).await["timeout_ms"], 2000);
    assert_eq!(operator.run(&["action", "update", id]).await.status.code(), Some(2), "nothing to change");
    assert_eq!(operator.run(&["action", "update", id, "--timeout-ms", "50"]).await.status.code(), Some(2));
    assert_eq!(operator.json(&["action", "disable", id]).await["enabled"], false);
    assert_eq!(operator.json(&["action", "enable", id]).await["enabled"], true);

    let rotated = operator.json(&["action", "rotate-secret", id]).await;
    assert_eq!(rotated["secret"], derived(id, 2));
    assert!(rotated["previous_secret_until"].is_string());
    assert!(operator.json(&["action", "finish-rotation", id, "--yes"]).await["previous_secret_until"].is_null());
    assert_eq!(operator.json(&["action", "kill", id, "--reason", "a test"]).await["killed_reason"], "a test");
    assert!(text(&operator.run(&["action", "show", id]).await).contains("a test"));
    assert!(operator.json(&["action", "reenable", id]).await["killed_at"].is_null());

    let beside = operator.json(&[&create[..], &["--disabled"]].concat()).await;
    assert_eq!(beside["enabled"], false);
    let beside = beside["action_id"].as_str().unwrap();
    assert_eq!(operator.json(&["action", "swap", "--disable", id, "--enable", beside]).await["action_id"], beside);
    assert_eq!(operator.json(&["action", "show", id]).await["enabled"], false);

    assert_eq!(operator.json(&["action", "delete", id, "--yes"]).await["action_id"], id);
    let gone = operator.run(&["action", "show", id]).await;
    assert!(gone.status.code() == Some(2) && text(&gone).contains("action list"), "{}", text(&gone));
    let actors: Vec<String> =
        sqlx::query_scalar("select distinct actor from actions.audit_log where action_id is not null").fetch_all(&stack.ops).await.unwrap();
    assert_eq!(actors, ["actionsctl"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_project_is_erased_with_a_yes_and_what_is_erased_is_listed() {
    let stack = answering(Reply::json("{}")).await;
    stack.project("p").await;
    let operator = Operator::of(&stack).await;
    assert!(text(&operator.run(&["project", "erasures"]).await).contains("No project"));
    let asked = operator.run(&["project", "delete", "p"]).await;
    assert!(asked.status.code() == Some(2) && text(&asked).contains("--yes"), "{}", text(&asked));
    assert_eq!(operator.json(&["project", "delete", "p", "--yes"]).await[0]["project_id"], "p");
    assert!(operator.json(&["project", "erasures"]).await[0]["done_at"].is_null());
    assert!(text(&operator.run(&["project", "erasures"]).await).contains("under way"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_undone_needs_a_yes_where_nobody_can_be_asked() {
    let stack = answering(Reply::json("{}")).await;
    stack.project("p").await;
    let id = stack.action("p", "pre_register", &stack.endpoint.url("/"), "").await;
    let operator = Operator::of(&stack).await;
    let state = async || operator.json(&["action", "show", &id]).await;
    let refused = async |arguments: &[&str]| {
        let before = state().await["secret_version"].clone();
        let output = operator.run(arguments).await;
        assert!(output.status.code() == Some(2) && text(&output).contains("--yes"), "{arguments:?}: {}", text(&output));
        assert_eq!(state().await["secret_version"], before, "nothing was changed");
        assert!(operator.run(&[arguments, &["--yes"]].concat()).await.status.success(), "{arguments:?}");
    };
    refused(&["action", "rotate-secret", &id, "--overlap-s", "0"]).await;
    assert!(operator.run(&["action", "rotate-secret", &id]).await.status.success(), "with an overlap nothing is lost");
    refused(&["action", "rotate-secret", &id]).await;
    refused(&["action", "finish-rotation", &id]).await;
    assert_eq!(state().await["secret_version"], 4);
    refused_delete(&operator, &id).await;
}

/// After it there is nothing left to look at.
async fn refused_delete(operator: &Operator, id: &str) {
    let output = operator.run(&["action", "delete", id]).await;
    assert!(output.status.code() == Some(2) && text(&output).contains("--yes"), "{}", text(&output));
    assert_eq!(operator.json(&["action", "show", id]).await["enabled"], true);
    assert!(operator.run(&["action", "delete", id, "--yes"]).await.status.success());
    assert_eq!(operator.run(&["action", "show", id]).await.status.code(), Some(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_are_shown_to_who_holds_the_key_and_to_nobody_else() {
    let stack = answering(Reply::json("{}")).await;
    stack.project("p").await;
    let id = stack.action("p", "pre_register", &stack.endpoint.url("/"), "").await;
    assert_eq!(text(&Operator::of(&stack).await.run(&["action", "secret", &id]).await).trim(), derived(&id, 1));
    let other = format!("k2:{}", ROOT_KEY.replace('7', "8"));
    let without = Operator::of(&stack).await.with("ACTIONS_SECRETS__ROOT_KEYS", &other);
    let refused = without.run(&["action", "secret", &id]).await;
    assert!(refused.status.code() == Some(1) && text(&refused).contains("\"k1\""), "{}", text(&refused));
    let same_name = Operator::of(&stack).await.with("ACTIONS_SECRETS__ROOT_KEYS", &other.replace("k2", "k1"));
    let refused = same_name.run(&["action", "secret", &id]).await;
    assert!(refused.status.code() == Some(1) && text(&refused).contains("another"), "{}", text(&refused));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_sees_a_secret_again_is_written_down_first() {
    let stack = answering(Reply::json("{}")).await;
    stack.project("p").await;
    let operator = Operator::of(&stack).await;
    let url = stack.endpoint.url("/");
    let made = operator.json(&["action", "create", "--project", "p", "--trigger", "pre_register", "--url", &url, "--name", "A"]).await;
    let id = made["action_id"].as_str().unwrap();
    let seen = async || -> Vec<(Option<String>, String)> {
        let sql = "select actor, details ->> 'secret_version' from actions.audit_log where event = 'action.secret_revealed' order by at";
        sqlx::query_as(sql).fetch_all(&stack.ops).await.unwrap()
    };
    assert_eq!(seen().await, [], "creating is an event of its own");
    assert!(operator.run(&["action", "secret", id, "--actor", "ada@acme.com"]).await.status.success());
    assert_eq!(seen().await, [(Some("ada@acme.com".to_owned()), "1".to_owned())]);
    let other = Operator::of(&stack).await.with("ACTIONS_SECRETS__ROOT_KEYS", &format!("k9:{ROOT_KEY}"));
    assert_eq!(other.run(&["action", "secret", id]).await.status.code(), Some(1));
    assert_eq!(seen().await.len(), 1, "nothing was shown");
    let owner = stack.database.owner().await;
    sqlx::query("revoke execute on function actions.note_secret_revealed from actions_admin").execute(&owner).await.unwrap();
    let unnoted = operator.run(&["action", "secret", id]).await;
    assert!(!unnoted.status.success() && !text(&unnoted).contains("asec_"), "{}", text(&unnoted));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_of_actions_fits_80_columns_and_names_each_project_once() {
    let stack = answering(Reply::json("{}")).await;
    let long = "p".repeat(100);
    for project in ["acme", &long] {
        stack.project(project).await;
        for trigger in ["post_authenticate", "pre_register"] {
            stack.action(project, trigger, &stack.endpoint.url("/"), "").await;
        }
    }
    let operator = Operator::of(&stack).await;
    let id = operator.json(&["action", "list"]).await[0]["action_id"].as_str().unwrap().to_owned();
    operator.json(&["action", "update", &id, "--name", &"n".repeat(200)]).await;
    let table = text(&operator.run(&["action", "list"]).await);
    assert!(table.lines().count() == 10 && table.lines().all(|line| line.chars().count() <= 80), "{table}");
    assert_eq!(table.lines().filter(|line| *line == "acme").count(), 1, "{table}");
    let today = time::OffsetDateTime::now_utc().year().to_string();
    assert!(table.lines().any(|line| line.contains(&id) && line.contains(&today)), "{table}");
    for words in ["post_authenticate", "enabled", "Sample"] {
        assert!(table.contains(words), "{words}: {table}");
    }
}
