//! Acme's endpoint: the published receiver's check, then a rule for each path.

use authio_actions_testkit::endpoint::{Received, Reply};
use authio_actions_testkit::receiver;
use authio_actions_testkit::stack::ROOT_KEY;

const FRAUD: &str = r#"{"decision":"deny","deny_code":"fraud_review","deny_reason":"fraud engine 92/100","append_audit":{"score":92}}"#;
const ROLES: &str = r#"{"decision":"allow","override_roles":["billing_admin","auditor","superuser"],"override_permissions":["invoices:read","invoices:approve"],"override_claims":{"employee_id":"EMP-04812","sub":"somebody_else"}}"#;
const ALLOW: &str = r#"{"decision":"allow"}"#;

/// Answers as Acme would. The secret is the one that `actionsctl action secret` shows.
pub async fn answer(request: Received) -> Reply {
    let secret = receiver::secret(ROOT_KEY, request.header("authio-action-id"), 1);
    if !receiver::verify_last(&secret, request.header("authio-signature"), &request.body) {
        return Reply::with_status(401, r#"{"code":"invalid_signature"}"#);
    }
    match request.path.as_str() {
        "/fraud" => Reply::json(FRAUD),
        "/roles" => Reply::json(ROLES),
        "/slow" => Reply::Hang,
        "/down" => Reply::with_status(503, "overloaded"),
        "/forged" => {
            let header = receiver::sign("asec_not_the_secret", receiver::now(), ALLOW.as_bytes());
            Reply::json(ALLOW).and_header("authio-response-signature", header)
        }
        _ => Reply::json(ALLOW),
    }
}

/// An answer in words.
pub fn describe(path: &str) -> String {
    match path {
        "/fraud" => format!("200\n{FRAUD}"),
        "/roles" => format!("200\n{ROLES}"),
        "/slow" => "nothing: it hangs".to_owned(),
        "/down" => "503 overloaded".to_owned(),
        "/forged" => format!("200 {ALLOW}, signed with another secret"),
        _ => format!("200 {ALLOW}"),
    }
}
