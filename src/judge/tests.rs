//! The reading rules as facts, one a test.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::domain::{Decision, Dropped, FailMode, OnKilled, Trigger};

fn action(trigger: Trigger) -> Action {
    Action {
        id: "action_1".to_owned(),
        version: 1,
        trigger,
        endpoint_url: "https://hooks.acme.test/".to_owned(),
        timeout: Duration::from_secs(2),
        fail_mode: FailMode::Open,
        on_killed: OnKilled::Skip,
        require_response_signature: false,
        records_events: false,
        last_known: Duration::ZERO,
    }
}

fn project() -> Project {
    Project {
        revision: 1,
        roles_action_override: true,
        role_slugs: ["member", "auditor", "billing_admin"].map(str::to_owned).into(),
        break_glass: Vec::new(),
    }
}

fn answer(body: &[u8]) -> Answer {
    Answer { http_status: 200, content_type: vec!["application/json".to_owned()], body: Body::Whole(body.to_vec()), ..Answer::default() }
}

fn mint(body: &str) -> Judgement {
    judge(&action(Trigger::PreTokenMint), &project(), &answer(body.as_bytes()), &SignatureCheck::Absent)
}

fn told(judgement: &Judgement, field: &str) -> Vec<Dropped> {
    judgement.outcome.dropped.iter().filter(|dropped| dropped.field == field).cloned().collect()
}

#[test]
fn only_the_exact_string_deny_denies() {
    for allows in [
        "",
        " \n",
        "{}",
        r#"{"decision":null}"#,
        r#"{"decision":"DENY"}"#,
        r#"{"decision":"deny "}"#,
        r#"{"decision":["deny"]}"#,
        r#"{"decision":7}"#,
    ] {
        assert_eq!(mint(allows).status, Status::Ok, "{allows}");
    }
    for denies in [
        r#"{"decision":"deny"}"#,
        r#"{"decision":"\u0064eny"}"#,
        r#"{"decision":"deny","decision":"allow"}"#,
        r#"{"decision":"allow","decision":"deny"}"#,
    ] {
        let judgement = mint(denies);
        assert_eq!((judgement.status, judgement.outcome.decision), (Status::Rejected, Decision::Deny), "{denies}");
    }
    assert_eq!(told(&mint(r#"{"decision":"maybe"}"#), "decision").len(), 1);
}

#[test]
fn a_wrongly_typed_side_field_never_turns_a_deny_into_something_else() {
    for side in [
        r#""override_roles":7"#,
        r#""override_permissions":{"a":1}"#,
        r#""override_claims":[]"#,
        r#""append_audit":"x""#,
        r#""deny_code":[1]"#,
        r#""deny_reason":{}"#,
        r#""override_roles":["a",1]"#,
    ] {
        let judgement = mint(&format!(r#"{{"decision":"deny",{side}}}"#));
        assert_eq!(judgement.outcome.decision, Decision::Deny, "{side}");
        assert_eq!(judgement.outcome.dropped.len(), 1, "{side}");
    }
}

#[test]
fn a_deny_carries_code_and_reason() {
    let judgement = mint(r#"{"decision":"deny","deny_code":"fraud_review","deny_reason":"score 92"}"#);
    assert_eq!(judgement.outcome.code.as_deref(), Some("fraud_review"));
    assert_eq!(judgement.outcome.reason.as_deref(), Some("score 92"));
    assert_eq!(mint(r#"{"decision":"deny","deny_code":""}"#).outcome.code.as_deref(), Some("action_denied"));
}

#[test]
fn informational_triggers_never_deny_and_tell_it() {
    for trigger in [Trigger::PostTokenMint, Trigger::PostRegister] {
        let judgement = judge(&action(trigger), &project(), &answer(br#"{"decision":"deny","deny_code":"x"}"#), &SignatureCheck::Absent);
        assert_eq!((judgement.status, judgement.outcome.decision), (Status::Ok, Decision::Allow));
        assert_eq!(told(&judgement, "decision").len() + told(&judgement, "deny_code").len(), 2);
    }
}

#[test]
fn roles_and_permissions_are_sorted_and_unique() {
    let judgement = mint(r#"{"override_roles":["member","auditor","member"],"override_permissions":["b","a","b"]}"#);
    assert_eq!(judgement.outcome.roles.unwrap(), ["auditor", "member"]);
    assert_eq!(judgement.outcome.permissions.unwrap(), ["a", "b"]);
    assert!(judgement.overrode);
}

#[test]
fn unknown_roles_are_dropped_and_noted_and_alone_take_the_whole_override_with_them() {
    let some = mint(r#"{"override_roles":["member","root"],"override_permissions":["a"]}"#);
    assert_eq!(some.outcome.roles.clone().unwrap(), ["member"]);
    assert_eq!(told(&some, "override_roles")[0].values, ["root"]);
    assert_eq!(some.notes, [Note::UnknownRolesDropped(vec!["root".to_owned()])]);

    let none = mint(r#"{"override_roles":["root"],"override_permissions":["a"]}"#);
    assert_eq!((&none.outcome.roles, &none.outcome.permissions), (&None, &None));
    assert_eq!(told(&none, "override_permissions").len(), 1);
}

#[test]
fn an_explicit_empty_list_is_an_answer() {
    let judgement = mint(r#"{"override_roles":[],"override_permissions":[]}"#);
    assert_eq!(judgement.outcome.roles.unwrap(), [""; 0]);
    assert_eq!(judgement.outcome.permissions.unwrap(), [""; 0]);
}

#[test]
fn without_the_toggle_roles_are_dropped_and_claims_stay() {
    let off = Project { roles_action_override: false, ..project() };
    let body = br#"{"override_roles":["member"],"override_claims":{"team":1}}"#;
    let judgement = judge(&action(Trigger::PreTokenMint), &off, &answer(body), &SignatureCheck::Absent);
    assert_eq!(judgement.outcome.roles, None);
    assert_eq!(judgement.outcome.claims.unwrap().get(), r#"{"team":1}"#);
    assert_eq!(judgement.notes, [Note::OverrideNotEnabled]);
}

#[test]
fn reserved_claims_never_pass_however_they_are_spelled() {
    let judgement = mint(r#"{"override_claims":{"sub":"x","\u0069ss":"y","sid":1,"act_org":2,"widget_origins":3,"employee_id":"E"}}"#);
    assert_eq!(judgement.outcome.claims.as_ref().unwrap().get(), r#"{"employee_id":"E"}"#);
    assert_eq!(told(&judgement, "override_claims")[0].values, ["act_org", "iss", "sid", "sub", "widget_origins"]);
}

#[test]
fn numbers_arrive_as_they_were_written() {
    let numbers = r#"{"a":12345678901234567890123,"b":1.10,"c":1E400,"d":-0.0}"#;
    let judgement = mint(&format!(r#"{{"override_claims":{numbers},"append_audit":{numbers}}}"#));
    assert_eq!(judgement.outcome.claims.unwrap().get(), numbers);
    assert_eq!(judgement.outcome.audit.unwrap().get(), numbers);
}

#[test]
fn audit_may_have_4096_bytes_of_compact_json() {
    let fits = format!(r#"{{ "a" : "{}" }}"#, "x".repeat(4096 - 8));
    assert_eq!(mint(&format!(r#"{{"append_audit":{fits}}}"#)).outcome.audit.unwrap().get().len(), 4096);
    let over = fits.replacen('x', "xx", 1);
    assert_eq!(told(&mint(&format!(r#"{{"append_audit":{over}}}"#)), "append_audit").len(), 1);
}

#[test]
fn depth_harms_nobody() {
    let deep = format!("{}{}", "[".repeat(20_000), "]".repeat(20_000));
    let judgement = mint(&format!(r#"{{"decision":"deny","override_claims":{{"a":{deep}}},"other":{deep}}}"#));
    assert_eq!(judgement.outcome.decision, Decision::Deny);
    let judgement = mint(&format!(r#"{{"append_audit":{{"a":{deep}}}}}"#));
    assert_eq!(told(&judgement, "append_audit").len(), 1);
}

#[test]
fn what_is_no_json_object_in_utf_8_is_an_invalid_response() {
    for body in [&b"null"[..], b"[]", b"\"deny\"", b"{", b"{}{}", b"{\"a\":\"\xff\"}", b"\x00", b"{\"a\":\"\x00\"}", b"<html>"] {
        let judgement = judge(&action(Trigger::PreTokenMint), &project(), &answer(body), &SignatureCheck::Absent);
        assert_eq!(judgement.status, Status::InvalidResponse, "{body:?}");
        assert_eq!(judgement.outcome.source.as_str(), "fail_open");
    }
    assert_eq!(mint("\u{feff}{\"decision\":\"deny\"}").status, Status::Rejected);
}

/// The code and the sentence of an answer's failure.
fn blamed(answer: &Answer) -> (Status, ErrorCode, String) {
    let judgement = judge(&action(Trigger::PreTokenMint), &project(), answer, &SignatureCheck::Absent);
    (judgement.status, judgement.error_code.unwrap(), judgement.error.unwrap())
}

#[test]
fn a_json_value_that_is_no_object_is_told_by_its_kind_and_what_is_no_json_as_that() {
    for (body, code, kind) in [
        ("null", ErrorCode::NotAnObject, "the JSON value null; send"),
        ("[{}]", ErrorCode::NotAnObject, "a JSON array; send"),
        ("\"deny\"", ErrorCode::NotAnObject, "a JSON string; send"),
        ("true", ErrorCode::NotAnObject, "true or false; send"),
        ("-1", ErrorCode::NotAnObject, "a JSON number; send"),
        ("nul", ErrorCode::NotJson, "not a JSON object"),
        ("{\"a\":1", ErrorCode::NotJson, "not a JSON object"),
        ("[", ErrorCode::NotJson, "not a JSON object"),
    ] {
        let (_, found, error) = blamed(&answer(body.as_bytes()));
        assert_eq!(found, code, "{body}");
        assert!(error.contains(kind), "{body}: {error}");
    }
}

#[test]
fn a_compressed_answer_is_told_as_that_whatever_else_is_wrong_with_it() {
    let zipped = |http_status: u16, coding: &str, body: Body| Answer {
        http_status,
        content_type: vec!["text/html".to_owned()],
        content_encoding: vec![coding.to_owned()],
        body,
        ..Answer::default()
    };
    for body in [Body::Whole(vec![0x1f, 0x8b]), Body::TooLarge, Body::Broken, Body::Whole(b"{}".to_vec())] {
        let (status, code, error) = blamed(&zipped(200, "gzip", body.clone()));
        assert_eq!((status, code), (Status::InvalidResponse, ErrorCode::Compressed), "{body:?}");
        assert!(error.contains("(gzip)"), "{error}");
    }
    assert_eq!(blamed(&zipped(200, "identity, br", Body::Broken)).1, ErrorCode::Compressed);
    assert_eq!(blamed(&zipped(500, "gzip", Body::Broken)).0, Status::HttpError);
    for coding in ["identity", "Identity", "", "utf-8"] {
        let plain = Answer { content_encoding: vec![coding.to_owned()], ..answer(b"{}") };
        assert_eq!(judge(&action(Trigger::PreTokenMint), &project(), &plain, &SignatureCheck::Absent).status, Status::Ok, "{coding}");
    }
    let empty = zipped(200, "gzip", Body::Whole(Vec::new()));
    assert_eq!(judge(&action(Trigger::PreTokenMint), &project(), &empty, &SignatureCheck::Absent).status, Status::Ok);
}

#[test]
fn a_deny_with_a_status_of_its_own_is_told_how_a_deny_is_sent() {
    for http_status in [401, 403, 422] {
        let denied = Answer { http_status, ..answer(br#" {"decision":"deny"} "#) };
        let error = blamed(&denied).2;
        assert!(error.contains("a deny is HTTP 200 with"), "{http_status}: {error}");
        let other = blamed(&Answer { http_status, ..answer(br#"{"decision":"allow"}"#) }).2;
        assert!(!other.contains("a deny is"), "{http_status}: {other}");
    }
}

#[test]
fn each_status_code_has_its_error_code() {
    for (http_status, code) in [
        (100, "http_other"),
        (301, "http_3xx"),
        (400, "http_4xx"),
        (401, "http_401"),
        (403, "http_403"),
        (404, "http_404"),
        (405, "http_4xx"),
        (429, "http_429"),
        (500, "http_5xx"),
        (599, "http_5xx"),
        (600, "http_other"),
    ] {
        assert_eq!(blamed(&Answer { http_status, ..answer(b"{}") }).1.as_str(), code, "{http_status}");
    }
}

#[test]
fn content_type_matters_where_there_is_content() {
    let with = |types: &[&str], body: &[u8]| {
        let answer = Answer { content_type: types.iter().map(|t| (*t).to_owned()).collect(), ..answer(body) };
        judge(&action(Trigger::PreTokenMint), &project(), &answer, &SignatureCheck::Absent).status
    };
    assert_eq!(with(&["Application/JSON; charset=utf-8"], b"{}"), Status::Ok);
    assert_eq!(with(&["text/html"], b"{}"), Status::InvalidResponse);
    assert_eq!(with(&["application/jsonp"], b"{}"), Status::InvalidResponse);
    assert_eq!(with(&[], b"{}"), Status::InvalidResponse);
    assert_eq!(with(&["text/plain"], b" "), Status::Ok);
}

#[test]
fn every_status_but_2xx_is_an_http_error_whatever_else_is_wrong() {
    for http_status in [100, 199, 300, 301, 404, 500, 503, 599] {
        let answer = Answer { http_status, body: Body::TooLarge, ..answer(b"") };
        let judgement = judge(&action(Trigger::PreTokenMint), &project(), &answer, &SignatureCheck::Malformed("x".to_owned()));
        assert_eq!(judgement.status, Status::HttpError);
    }
    assert_eq!(
        judge(&action(Trigger::PreTokenMint), &project(), &Answer { http_status: 204, ..answer(b"") }, &SignatureCheck::Absent).status,
        Status::Ok
    );
}

#[test]
fn signatures_are_judged_before_the_verdict() {
    let strict = Action { require_response_signature: true, ..action(Trigger::PreTokenMint) };
    let judged = |action: &Action, check: SignatureCheck| judge(action, &project(), &answer(br#"{"decision":"deny"}"#), &check).status;
    assert_eq!(judged(&strict, SignatureCheck::Absent), Status::InvalidSignature);
    assert_eq!(judged(&strict, SignatureCheck::Valid { current: false }), Status::Rejected);
    assert_eq!(judged(&strict, SignatureCheck::Malformed(String::new())), Status::InvalidResponse);
    assert_eq!(judged(&action(Trigger::PreTokenMint), SignatureCheck::Refused(String::new())), Status::InvalidSignature);
    assert_eq!(judged(&action(Trigger::PreTokenMint), SignatureCheck::Absent), Status::Rejected);
}

#[test]
fn failures_follow_the_fail_mode_and_kills_follow_on_killed() {
    let mut closed = Action { fail_mode: FailMode::Closed, ..action(Trigger::PreRegister) };
    let outcome = failure(&closed, Status::Timeout, ErrorCode::TimeoutBody, "why").outcome;
    assert_eq!(
        (outcome.decision, outcome.code.as_deref(), outcome.reason.as_deref()),
        (Decision::Deny, Some("action_unreachable"), Some("why"))
    );
    assert_eq!(failure(&closed, Status::Killed, ErrorCode::Killed, "why").outcome.decision, Decision::Allow);
    closed.on_killed = OnKilled::Deny;
    assert_eq!(failure(&closed, Status::Killed, ErrorCode::Killed, "why").outcome.code.as_deref(), Some("action_killed"));
    closed.trigger = Trigger::PostRegister;
    assert_eq!(failure(&closed, Status::Timeout, ErrorCode::TimeoutBody, "why").outcome.decision, Decision::Allow);
}

#[test]
fn all_sixteen_reserved_claims_are_known() {
    let reserved = "iss sub aud exp iat nbf jti kind roles permissions sid act_org tenant_id organization_id widget_scope widget_origins";
    for claim in reserved.split(' ') {
        assert_eq!(mint(&format!(r#"{{"override_claims":{{"{claim}":1}}}}"#)).outcome.claims.unwrap().get(), "{}", "{claim}");
    }
}

/// JSON as endpoints write it: any value, up to a few levels deep.
fn any_json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(serde_json::Value::from),
        any::<i64>().prop_map(serde_json::Value::from),
        any::<f64>().prop_map(serde_json::Value::from),
        prop_oneof![Just("deny".to_owned()), Just("allow".to_owned()), Just("auditor".to_owned()), ".{0,8}"]
            .prop_map(serde_json::Value::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(serde_json::Value::from),
            proptest::collection::hash_map(any_key(), inner, 0..4).prop_map(|members| members.into_iter().collect()),
        ]
    })
}

fn any_key() -> impl Strategy<Value = String> {
    let known =
        ["decision", "deny_code", "deny_reason", "override_claims", "override_roles", "override_permissions", "append_audit", "sub"];
    prop_oneof![8 => proptest::sample::select(known.to_vec()).prop_map(str::to_owned), 1 => ".{0,6}"]
}

fn any_trigger() -> impl Strategy<Value = Trigger> {
    proptest::sample::select(Trigger::ALL.to_vec())
}

/// The judgement of an answer by `trigger`'s action that fails open.
fn of(trigger: Trigger, body: &[u8]) -> Judgement {
    judge(&action(trigger), &project(), &answer(body), &SignatureCheck::Absent)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2048, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_stands_beside_it_a_deny_denies_and_nothing_else_does(
        members in proptest::collection::vec((any_key(), any_json()), 0..8), trigger in any_trigger()
    ) {
        let text = |(key, value): &(String, serde_json::Value)| format!("{}:{value}", serde_json::Value::from(key.as_str()));
        let body = format!("{{{}}}", members.iter().map(text).collect::<Vec<_>>().join(","));
        let says_deny = members.iter().any(|(key, value)| key == "decision" && value == "deny");
        let judgement = of(trigger, body.as_bytes());
        prop_assert_eq!(judgement.outcome.decision == Decision::Deny, says_deny && trigger.can_deny(), "{}", body);
        prop_assert_eq!(judgement.status, if says_deny && trigger.can_deny() { Status::Rejected } else { Status::Ok }, "{}", body);
    }

    #[test]
    fn an_outcome_holds_only_what_its_trigger_may_change(
        members in proptest::collection::hash_map(any_key(), any_json(), 0..8), trigger in any_trigger()
    ) {
        let body = serde_json::Value::from_iter(members);
        let outcome = of(trigger, body.to_string().as_bytes()).outcome;
        let asks = |field: &str| !body[field].is_null();
        let told = |field: &str| outcome.dropped.iter().any(|dropped| dropped.field == field);
        let (is_mint, is_deny) = (trigger == Trigger::PreTokenMint, outcome.decision == Decision::Deny);
        let overrides =
            [("override_claims", outcome.claims.is_some()), ("override_roles", outcome.roles.is_some()), ("override_permissions", outcome.permissions.is_some())];
        for (field, applied) in overrides {
            prop_assert!(!applied || (is_mint && !is_deny && asks(field)), "{} of {}", field, body);
            prop_assert!(!asks(field) || applied || told(field), "{} of {} vanished", field, body);
        }
        let claims: serde_json::Value = outcome.claims.as_ref().map_or_else(Default::default, |claims| serde_json::from_str(claims.get()).unwrap());
        prop_assert!(claims["sub"].is_null() && claims["roles"].is_null(), "{}", body);
        let roles = outcome.roles.clone().unwrap_or_default();
        prop_assert!(roles.iter().all(|role| project().role_slugs.contains(role)), "{}", body);
        prop_assert!(!asks("append_audit") || outcome.audit.is_some() || told("append_audit"), "{}", body);
    }

    #[test]
    fn whatever_it_answers_the_database_can_store_what_is_said(
        members in proptest::collection::vec((any_key(), any_json()), 0..6), odd in r#"[\\"u0dD8c{}\x00-\x20]{0,12}"#, trigger in any_trigger()
    ) {
        let member = |(key, value): &(String, serde_json::Value)| format!("{}:{value}", serde_json::Value::from(key.as_str()));
        let odd = format!(r#""deny_reason":"{odd}\u0000\ud83d","append_audit":{{"a":"\u0000{odd}"}}"#);
        let body = format!("{{{}}}", members.iter().map(member).chain([odd]).collect::<Vec<_>>().join(","));
        let closed = Action { fail_mode: crate::domain::FailMode::Closed, ..action(trigger) };
        for action in [action(trigger), closed] {
            let judgement = judge(&action, &project(), &answer(body.as_bytes()), &SignatureCheck::Absent);
            let json = judgement.outcome.to_json();
            prop_assert!(serde_json::from_str::<serde_json::Value>(&json).is_ok(), "{}", json);
            // A backslash begins an escape, so pairs of them are cut out first.
            prop_assert!(!json.replace(r"\\", "").contains(r"\u0000") && !json.contains('\0'), "{}", json);
            prop_assert!(judgement.error.is_none_or(|error| !error.contains('\0')));
        }
    }

    #[test]
    fn no_bytes_make_the_judge_panic(body in any::<Vec<u8>>(), trigger in any_trigger()) {
        prop_assert!(matches!(of(trigger, &body).status, Status::Ok | Status::Rejected | Status::InvalidResponse));
    }
}

#[test]
fn what_is_said_of_a_failure_is_short() {
    let body = format!("\"{}\"", "\u{7f}".repeat(60_000));
    let judgement = mint(&body);
    assert_eq!(judgement.status, Status::InvalidResponse);
    assert!(judgement.error.unwrap().chars().count() <= 500);
}
