//! `actionsctl project`, `audit` and `fleet`.

use authio_actions_testkit::endpoint::Reply;
use serde_json::json;
use tokio::io::AsyncWriteExt;

use crate::operator::{Operator, login, text};
use crate::support::{answering, refusal, until};

#[tokio::test(flavor = "multi_thread")]
async fn the_life_of_a_project() {
    let stack = answering(Reply::json("{}")).await;
    let operator = Operator::of(&stack).await.with("ACTIONS_ACTOR", "ada@acme.com");
    assert!(text(&operator.run(&["project", "list"]).await).contains("no project"));
    let nameless = operator.run(&["project", "upsert", "acme"]).await;
    assert!(nameless.status.code() == Some(2) && text(&nameless).contains("name"), "{}", text(&nameless));
    let made = operator.json(&["project", "upsert", "acme", "--name", "Acme"]).await;
    assert_eq!((&made["roles_action_override"], &made["role_slugs"], &made["members"]), (&false.into(), &json!([]), &json!([])));
    operator.json(&["project", "upsert", "acme", "--roles-action-override", "true"]).await;
    let renamed = operator.json(&["project", "upsert", "acme", "--name", "Acme Inc."]).await;
    assert_eq!((&renamed["name"], &renamed["roles_action_override"]), (&"Acme Inc.".into(), &true.into()), "what is not given stays");
    let with_roles = operator.json(&["project", "set-roles", "acme", "member", "auditor"]).await;
    assert_eq!(with_roles["role_slugs"], json!(["auditor", "member"]));
    assert_eq!(operator.run(&["project", "set-roles", "acme"]).await.status.code(), Some(2), "no roles is said, not forgotten");
    assert_eq!(operator.json(&["project", "set-roles", "acme", "--none"]).await["role_slugs"], json!([]));
    let people =
        operator.json(&["project", "set-members", "acme", "--member", "bob@acme.com=viewer", "--member", "ada@acme.com=owner"]).await;
    assert_eq!(people["members"], json!([{"email": "ada@acme.com", "role": "owner"}, {"email": "bob@acme.com", "role": "viewer"}]));
    let shown = text(&operator.run(&["project", "show", "acme"]).await);
    assert!(["Acme Inc.", "ada@acme.com", "owner"].iter().all(|words| shown.contains(words)), "{shown}");
    let list = text(&operator.run(&["project", "list"]).await);
    assert!(list.contains("acme") && list.lines().all(|line| line.chars().count() <= 80), "{list}");
    let unknown = operator.run(&["project", "show", "globex"]).await;
    assert!(unknown.status.code() == Some(2) && text(&unknown).contains("project list"), "{}", text(&unknown));
    let actors: Vec<String> = sqlx::query_scalar("select distinct actor from actions.audit_log").fetch_all(&stack.ops).await.unwrap();
    assert_eq!(actors, ["ada@acme.com"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn members_come_from_a_file_or_standard_input_and_a_wrong_one_is_refused() {
    let stack = answering(Reply::json("{}")).await;
    stack.project("p").await;
    let operator = Operator::of(&stack).await;
    let set = async |input: &str| {
        let mut command = operator.command(&["project", "set-members", "p", "--file", "-", "--json"]);
        let mut running = command
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        running.stdin.take().unwrap().write_all(input.as_bytes()).await.unwrap();
        running.wait_with_output().await.unwrap()
    };
    let given = set(r#"[{"email":"ada@acme.com","role":"owner"}]"#).await;
    assert!(given.status.success() && text(&given).contains("ada@acme.com"), "{}", text(&given));
    for wrong in ["{}", "nonsense", r#"[{"email":"ada"}]"#] {
        let refused = set(wrong).await;
        assert!(refused.status.code() == Some(2) && text(&refused).contains("email"), "{wrong}: {}", text(&refused));
    }
    assert_eq!(operator.json(&["project", "show", "p"]).await["members"][0]["email"], "ada@acme.com", "nothing was changed");
    let malformed = operator.run(&["project", "set-members", "p", "--member", "ada"]).await;
    assert!(malformed.status.code() == Some(2) && text(&malformed).contains("email=role"), "{}", text(&malformed));
}

#[tokio::test(flavor = "multi_thread")]
async fn people_are_seen_by_control_planes_alone() {
    let stack = answering(Reply::json("{}")).await;
    stack.project("p").await;
    sqlx::query("select actions.set_project_members('p', '[{\"email\":\"ada@acme.com\",\"role\":\"owner\"}]')")
        .execute(&stack.admin)
        .await
        .unwrap();
    let (_, url) = login(&stack, "in role actions_ops").await;
    let shown = Operator::at(&stack, &url).json(&["project", "show", "p"]).await;
    assert_eq!((&shown["name"], shown.get("members")), (&"Acme".into(), None));
    assert_eq!(refusal(&stack.ops, "select * from actions.project_members('p')").await[0], "42501");
    assert_eq!(refusal(&stack.admin, "select * from actions.project_members('q')").await[0], "22023");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_audit_log_is_listed_by_what_who_and_when() {
    let stack = answering(Reply::json("{}")).await;
    stack.project("p").await;
    stack.project("q").await;
    let operator = Operator::of(&stack).await;
    let id = stack.action("p", "pre_register", &stack.endpoint.url("/"), "actor => 'bob'").await;
    operator.json(&["action", "update", &id, "--timeout-ms", "3000", "--actor", "ada"]).await;
    let owner = stack.database.owner().await;
    sqlx::query("insert into actions_private.audit_log (at, project_id, event, actor) values (now() - interval '3 days', 'q', 'project.created', 'old')")
        .execute(&owner)
        .await
        .unwrap();
    let count = async |arguments: &[&str]| operator.json(&[&["audit", "list"], arguments].concat()).await.as_array().unwrap().len();
    assert_eq!(count(&["--action", &id]).await, 2);
    assert_eq!(count(&["--actor", "ada"]).await, 1);
    assert_eq!(count(&["--event", "action.created", "--project", "p"]).await, 1);
    assert_eq!(count(&["--project", "q", "--since", "2d"]).await + 1, count(&["--project", "q", "--since", "4d"]).await);
    assert_eq!(count(&["-n", "1"]).await, 1);
    assert_eq!(operator.json(&["audit", "list", "-n", "1"]).await[0]["event"], "action.updated", "the newest first");
    let table = text(&operator.run(&["audit", "list", "--action", &id]).await);
    assert!(table.contains("timeout_ms 2000 → 3000") && table.lines().all(|line| line.chars().count() <= 80), "{table}");
    let refused = operator.run(&["audit", "list", "--since", "2w"]).await;
    assert!(refused.status.code() == Some(2) && text(&refused).contains("RFC 3339"), "{}", text(&refused));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_fleet_is_shown_with_its_leader_and_the_queue() {
    let stack = answering(Reply::json("{}")).await;
    let operator = Operator::of(&stack).await;
    assert!(text(&operator.run(&["fleet"]).await).contains("Nobody runs"));
    let (_worker, _janitor) = (stack.worker(&[]).await, stack.janitor(&[]).await);
    until(&stack.ops, "a janitor leads", "select bool_or(leads) from actions.fleet").await;
    let fleet = operator.json(&["fleet"]).await;
    let kinds: Vec<&str> = fleet["processes"].as_array().unwrap().iter().map(|one| one["kind"].as_str().unwrap()).collect();
    assert_eq!((kinds, &fleet["queue"]["queued"]), (vec!["worker", "janitor"], &0.into()));
    assert!(fleet["processes"][0]["heartbeat_age_s"].as_f64().unwrap() < 60.0);
    let table = text(&operator.run(&["fleet"]).await);
    assert!(table.contains("leads") && table.contains(env!("CARGO_PKG_VERSION")) && table.contains("queued"), "{table}");
    assert!(table.lines().all(|line| line.chars().count() <= 80), "{table}");
}
