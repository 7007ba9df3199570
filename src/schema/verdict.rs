//! What an endpoint answers.

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::domain::Decision;
use crate::judge::RESERVED_CLAIMS;

/// A verdict. Every member is optional, and an empty body allows.
///
/// The fleet reads it leniently: what does not fit this schema is dropped and told to operators, and never turns a
/// deny into something else. Members that are not listed here are the endpoint's own affair.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(example = json!({}), example = denies(), example = overrides())]
pub struct Verdict {
    /// Whether the auth event goes on. Missing, it does.
    pub decision: Option<Decision>,
    /// On deny: why, for the audit log. The person who signs in never sees it.
    pub deny_reason: Option<String>,
    /// On deny: the code that the client gets, such as `fraud_review`.
    pub deny_code: Option<String>,
    /// On `pre_token_mint`: claims to merge into the token. Reserved ones are dropped.
    #[schemars(extend("propertyNames" = {"not": {"enum": RESERVED_CLAIMS}}))]
    pub override_claims: Option<Map<String, Value>>,
    /// On `pre_token_mint`, where the project allows it: slugs of the project's roles that replace the token's. An
    /// empty list takes all roles away.
    pub override_roles: Option<Vec<String>>,
    /// On `pre_token_mint`, where the project allows it: permissions that replace the token's.
    pub override_permissions: Option<Vec<String>>,
    /// For the audit entry of the auth event; at most 4,096 bytes of compact JSON.
    pub append_audit: Option<Map<String, Value>>,
}

fn denies() -> Value {
    json!({"decision": "deny", "deny_code": "fraud_review", "deny_reason": "risk 92 of 100", "append_audit": {"risk": 92}})
}

fn overrides() -> Value {
    json!({"decision": "allow", "override_roles": ["auditor"], "override_permissions": ["invoices:read"], "override_claims": {"employee": "E-7"}})
}
