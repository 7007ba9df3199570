//! Answers that strangers sent: none may panic, a deny denies, and the database can store what is said.
#![no_main]

use std::time::Duration;

use authio_actions::domain::{Action, Answer, Body, Decision, FailMode, OnKilled, Project, SignatureCheck, Status, Trigger};
use authio_actions::judge::judge;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fuzz_target!(|data: &[u8]| {
    let Some((choice, body)) = data.split_first() else { return };
    let trigger = Trigger::ALL[usize::from(*choice) % Trigger::ALL.len()];
    let action = Action {
        id: "action_1".to_owned(),
        version: 1,
        trigger,
        endpoint_url: "https://hooks.acme.test/".to_owned(),
        timeout: Duration::from_secs(2),
        fail_mode: if choice & 64 == 0 { FailMode::Open } else { FailMode::Closed },
        on_killed: OnKilled::Skip,
        require_response_signature: false,
        records_events: false,
        last_known: Duration::ZERO,
    };
    let project =
        Project { revision: 1, roles_action_override: choice & 128 == 0, role_slugs: ["member", "auditor"].map(str::to_owned).into(), break_glass: Vec::new() };
    let content_type = vec!["application/json".to_owned()];
    let answer = Answer { http_status: 200, content_type, content_encoding: Vec::new(), signature: Vec::new(), body: Body::Whole(body.to_vec()) };
    let judgement = judge(&action, &project, &answer, &SignatureCheck::Absent);

    let denies = judgement.outcome.decision == Decision::Deny;
    assert!(!denies || trigger.can_deny());
    let text = String::from_utf8_lossy(body);
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text).trim();
    match serde_json::from_str::<Value>(text) {
        // This parser shows the last of repeated keys; any deny among them denies.
        Ok(Value::Object(members)) if std::str::from_utf8(body).is_ok() => {
            assert!(matches!(judgement.status, Status::Ok | Status::Rejected));
            if members.get("decision") == Some(&Value::from("deny")) {
                assert_eq!(denies, trigger.can_deny());
            }
            assert!(!denies || text.contains("decision") || text.contains("\\u"));
        }
        Ok(_) => assert_eq!(judgement.status, Status::InvalidResponse),
        // Values that serde_json's own tree cannot hold (numbers, depth) are still read.
        Err(_) => assert!(text.is_empty() || judgement.status != Status::Rejected || text.contains('{')),
    }
    let json = judgement.outcome.to_json();
    // A backslash begins an escape, so pairs of them are cut out first.
    assert!(!json.contains('\0') && !json.replace(r"\\", "").contains(r"\u0000"));
    let roles = judgement.outcome.roles.unwrap_or_default();
    assert!(roles.is_empty() || (trigger == Trigger::PreTokenMint && !denies && project.roles_action_override));
    assert!(roles.iter().all(|role| project.role_slugs.contains(role)));
});
