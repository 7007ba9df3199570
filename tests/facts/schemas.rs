//! JSON Schema and OpenAPI: what is checked in is what is printed, and it says what the fleet does.

use std::path::Path;
use std::time::Duration;

use authio_actions::domain::{Action, Answer, Body, FailMode, OnKilled, Project, SignatureCheck, Trigger};
use authio_actions::judge::judge;
use authio_actions::schema::Document;
use authio_actions_testkit::endpoint::Reply;
use serde_json::{Value, json};
use sqlx::postgres::PgListener;

use crate::support::{answering, ask, programs, until};

fn validator(document: Document) -> jsonschema::Validator {
    jsonschema::options().should_validate_formats(true).build(&document.to_json()).unwrap()
}

/// Fails with what is wrong.
fn fits(document: Document, value: &Value) {
    let wrong: Vec<String> = validator(document).iter_errors(value).map(|error| format!("{}: {error}", error.instance_path())).collect();
    assert!(wrong.is_empty(), "{}: {wrong:?}: {value}", document.name());
}

#[test]
fn what_is_checked_in_is_what_is_printed_without_configuration() {
    for document in Document::ALL {
        let output = std::process::Command::new(programs().join("actionsctl")).args(["schema", document.name()]).env_clear().output();
        let printed = String::from_utf8(output.unwrap().stdout).unwrap();
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("ops/schemas").join(format!("{}.json", document.name()));
        if std::env::var_os("WRITE_SCHEMAS").is_some() {
            std::fs::write(&file, &printed).unwrap();
        }
        let checked_in = std::fs::read_to_string(&file).unwrap_or_default();
        assert!(printed == checked_in, "{} is old; write it anew with: WRITE_SCHEMAS=1 ops/test schemas::", file.display());
    }
}

#[test]
fn each_schema_is_of_2020_12_and_its_examples_fit_it() {
    for document in Document::ALL.into_iter().filter(|document| *document != Document::Openapi) {
        let schema = document.to_json();
        assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
        jsonschema::meta::validate(&schema).unwrap();
        for example in schema["examples"].as_array().into_iter().flatten() {
            fits(document, example);
        }
    }
}

#[test]
fn openapi_has_the_six_triggers_as_webhooks_and_each_reference_leads_somewhere() {
    let openapi = Document::Openapi.to_json();
    assert_eq!(openapi["openapi"], "3.1.0");
    let webhooks: Vec<&str> = openapi["webhooks"].as_object().unwrap().keys().map(String::as_str).collect();
    let mut triggers: Vec<&str> = Trigger::ALL.iter().map(|trigger| trigger.as_str()).collect();
    triggers.sort_unstable();
    let mut webhooks = webhooks;
    webhooks.sort_unstable();
    assert_eq!(webhooks, triggers);
    let mut references = Vec::new();
    find_references(&openapi, &mut references);
    assert!(references.len() > 20, "{references:?}");
    for reference in references {
        let pointer = reference.strip_prefix('#').unwrap_or_else(|| panic!("{reference} leads out of the document"));
        assert!(openapi.pointer(pointer).is_some(), "{reference} leads nowhere");
    }
    for schema in openapi["components"]["schemas"].as_object().unwrap().values() {
        jsonschema::meta::validate(schema).unwrap();
    }
}

fn find_references(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            found.extend(members.get("$ref").and_then(Value::as_str).map(str::to_owned));
            members.values().for_each(|member| find_references(member, found));
        }
        Value::Array(elements) => elements.iter().for_each(|element| find_references(element, found)),
        _ => {}
    }
}

/// What a verdict on `pre_token_mint` asks for in vain, where everything is allowed.
fn dropped(body: &str) -> Vec<String> {
    let action = Action {
        id: "action_1".to_owned(),
        version: 1,
        trigger: Trigger::PreTokenMint,
        endpoint_url: "https://hooks.acme.test/".to_owned(),
        timeout: Duration::from_secs(2),
        fail_mode: FailMode::Open,
        on_killed: OnKilled::Skip,
        require_response_signature: false,
        records_events: false,
        last_known: Duration::ZERO,
    };
    let role_slugs = ["auditor".to_owned()].into();
    let project = Project { revision: 1, roles_action_override: true, role_slugs, break_glass: Vec::new() };
    let body = Body::Whole(body.as_bytes().to_vec());
    let answer = Answer { http_status: 200, content_type: vec!["application/json".to_owned()], body, ..Answer::default() };
    let judgement = judge(&action, &project, &answer, &SignatureCheck::Absent);
    judgement.outcome.dropped.into_iter().map(|dropped| dropped.field).collect()
}

#[test]
fn a_verdict_fits_if_and_only_if_nothing_of_it_is_dropped() {
    let strict = validator(Document::Verdict);
    let values = [
        "null",
        "true",
        "7",
        r#""deny""#,
        r#""allow""#,
        r#""DENY""#,
        r#""x""#,
        "[]",
        r#"["auditor"]"#,
        r#"["auditor",7]"#,
        "{}",
        r#"{"team":"a"}"#,
        r#"{"sub":"me"}"#,
        r#"{"sid":"s","act_org":"o"}"#,
    ];
    let (mut fitting, mut dropping) = (0, 0);
    for field in ["decision", "override_claims", "override_roles", "override_permissions", "append_audit", "anything_else"] {
        for value in values {
            let body = format!(r#"{{"{field}":{value}}}"#);
            let denied = field == "decision" && value == r#""deny""#;
            let dropped = dropped(&body);
            let is_valid = strict.is_valid(&serde_json::from_str(&body).unwrap());
            assert_eq!(is_valid, dropped.is_empty() || denied, "{body}: dropped {dropped:?}");
            if is_valid { fitting += 1 } else { dropping += 1 }
        }
    }
    for field in ["deny_code", "deny_reason"] {
        for value in values {
            let body = format!(r#"{{"decision":"deny","{field}":{value}}}"#);
            let is_valid = strict.is_valid(&serde_json::from_str(&body).unwrap());
            assert_eq!(is_valid, dropped(&body).is_empty(), "{body}");
            if is_valid { fitting += 1 } else { dropping += 1 }
        }
    }
    assert!(fitting > 30 && dropping > 40, "{fitting} and {dropping}");
    for no_object in ["[]", "7", r#""deny""#] {
        assert!(!strict.is_valid(&serde_json::from_str(no_object).unwrap()), "{no_object}");
    }
}

#[test]
fn what_is_no_event_no_outcome_and_no_notification_does_not_fit() {
    let event = &Document::Event.to_json()["examples"][0];
    for (key, wrong) in [
        ("event_id", json!("inv_1")),
        ("event_id", Value::Null),
        ("trigger", json!("pre_login")),
        ("occurred_at", json!("yesterday")),
        ("project", json!({})),
        ("user", json!("ada")),
        ("user", json!({"email": 7})),
        ("token", json!({"roles": "member"})),
        ("metadata", json!([])),
    ] {
        let mut event = event.clone();
        event[key] = wrong;
        assert!(!validator(Document::Event).is_valid(&event), "{event}");
    }
    let outcome = json!({"decision": "allow", "source": "verdict", "status": "ok"});
    fits(Document::Outcome, &outcome);
    for (key, wrong) in [
        ("decision", json!("maybe")),
        ("source", json!("luck")),
        ("status", json!("queued?")),
        ("claims", json!([])),
        ("roles", json!([7])),
        ("code", Value::Null),
        ("dropped", json!([{"field": "x"}])),
    ] {
        let mut outcome = outcome.clone();
        outcome[key] = wrong;
        assert!(!validator(Document::Outcome).is_valid(&outcome), "{outcome}");
    }
    for wrong in [json!([]), json!({}), json!([{"status": "ok"}]), json!([{"id": "inv_1", "status": "ok", "token": "short"}])] {
        assert!(!validator(Document::Notification).is_valid(&wrong), "{wrong}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_fleet_sends_writes_and_notifies_fits() {
    let verdict = json!({"decision": "allow", "override_claims": {"n": 1.5, "sub": "x"}, "override_roles": ["auditor", "nobody"],
        "override_permissions": ["a:b"], "append_audit": {"why": "x"}, "deny_code": "unused"});
    let stack = answering(Reply::json(verdict.to_string())).await;
    let _worker = stack.worker(&[]).await;
    let mut heard = PgListener::connect(&stack.database.url("core")).await.unwrap();
    heard.listen("schemas").await.unwrap();
    for trigger in Trigger::ALL {
        let project = format!("p_{trigger}");
        stack.project(&project).await;
        let action = stack.action(&project, trigger.as_str(), &stack.endpoint.url("/"), "").await;
        let event = json!({"user": {"id": "user_1", "email": "ada@acme.com", "email_verified": true}, "token": {"roles": ["member"]},
            "session": {"id": "s", "organization_id": null}, "request": {"ip": "192.0.2.7"}, "metadata": {"plan": "x"}, "more": 1});
        let asked = [project.as_str(), trigger.as_str(), &event.to_string(), "schemas/5f0cK2w9"];
        ask(&stack.core, "actions.enqueue($1, $2, $3::json, $4)", &asked).await.unwrap();
        sqlx::query("select actions.send_test_event($1, 'schemas')").bind(&action).execute(&stack.admin).await.unwrap();
    }
    // One with an outcome that no notification has room for.
    let large = json!({"decision": "allow", "override_claims": {"text": "x".repeat(9_000)}});
    let roomy = answering(Reply::json(large.to_string())).await;
    let _its_worker = roomy.worker(&[]).await;
    roomy.project("p").await;
    roomy.action("p", "pre_token_mint", &roomy.endpoint.url("/"), "").await;
    let mut heard_there = PgListener::connect(&roomy.database.url("core")).await.unwrap();
    heard_there.listen("schemas").await.unwrap();
    ask(&roomy.core, "actions.enqueue($1, $2, $3::json, $4)", &["p", "pre_token_mint", "{}", "schemas"]).await.unwrap();
    let payload: Value = serde_json::from_str(heard_there.recv().await.unwrap().payload()).unwrap();
    assert!(payload[0].get("outcome").is_none());
    fits(Document::Notification, &payload);

    until(&stack.ops, "all are final", "select count(*) = 12 from actions.recent_invocations where finished_at is not null").await;
    let mut results = 0;
    while results < 12 {
        let payload: Value = serde_json::from_str(heard.recv().await.unwrap().payload()).unwrap();
        fits(Document::Notification, &payload);
        results += payload.as_array().unwrap().len();
    }
    for request in stack.endpoint.requests() {
        fits(Document::Event, &request.json());
    }
    let outcomes: Vec<Value> =
        sqlx::query_scalar("select outcome::jsonb from actions.recent_invocations").fetch_all(&stack.ops).await.unwrap();
    outcomes.iter().for_each(|outcome| fits(Document::Outcome, outcome));
    assert!(outcomes.iter().any(|outcome| outcome.get("dropped").is_some() && outcome.get("claims").is_some()), "{outcomes:?}");
}
