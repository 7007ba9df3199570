//! What auth-core must now do.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::{FailMode, OnKilled, Status, Trigger};

super::words! {
    /// Whether the auth event goes on.
    Decision("decision") {
        /// It goes on.
        Allow = "allow",
        /// It ends here with a 403.
        Deny = "deny",
    }
}

super::words! {
    /// Who decided.
    Source("source") {
        /// The endpoint.
        Verdict = "verdict",
        /// The endpoint failed, and the action fails open.
        FailOpen = "fail_open",
        /// The endpoint failed, and the action fails closed.
        FailClosed = "fail_closed",
        /// There is no action to call.
        NoAction = "no_action",
        /// The action is killed.
        Killed = "killed",
        /// The event does not meet the action's condition.
        Condition = "condition",
        /// The endpoint failed, and what its last verdict gave the person applies.
        LastKnown = "last_known",
        /// A failure would have denied somebody whom none may lock out.
        BreakGlass = "break_glass",
    }
}

/// The final outcome of an invocation, as JSON in the database and in every reply.
///
/// Source of each field's rule: the tables in README, "Use it from auth-core".
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Outcome {
    /// Whether the auth event goes on.
    pub decision: Decision,
    /// Who decided.
    pub source: Source,
    /// How the invocation ended.
    pub status: Status,
    /// Where what was known before applies: how old it is, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub age_ms: Option<u64>,
    /// On deny: the code for the client's 403 body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// On deny: for the audit log, never for the end user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Claims to merge into the token, a JSON object with numbers as they were written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Map<String, Value>>")]
    pub claims: Option<Box<RawValue>>,
    /// Roles that replace the token's, sorted and unique.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub roles: Option<Vec<String>>,
    /// Permissions that replace the token's, sorted and unique.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub permissions: Option<Vec<String>>,
    /// For the audit entry of the auth event, a JSON object of up to 4,096 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Map<String, Value>>")]
    pub audit: Option<Box<RawValue>>,
    /// Everything the verdict asked for that was not applied.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dropped: Vec<Dropped>,
}

/// One thing a verdict asked for that was not applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Dropped {
    /// The verdict's field.
    pub field: String,
    /// Why it was not applied.
    pub why: String,
    /// Which of its values, where not all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<String>,
}

impl Dropped {
    /// A whole field that was not applied.
    pub fn field(field: &str, why: impl Into<String>) -> Self {
        Self { field: field.to_owned(), why: why.into(), values: Vec::new() }
    }
}

impl Outcome {
    /// An outcome that decides and changes nothing else.
    pub fn plain(decision: Decision, source: Source, status: Status) -> Self {
        Self {
            decision,
            source,
            status,
            age_ms: None,
            code: None,
            reason: None,
            claims: None,
            roles: None,
            permissions: None,
            audit: None,
            dropped: Vec::new(),
        }
    }

    /// What decides when no verdict does: `fail_mode`, or `on_killed` for a killed action.
    /// The SQL function `actions_private.outcome_without_verdict` is the same rule.
    pub fn without_verdict(status: Status, trigger: Trigger, fail_mode: FailMode, on_killed: OnKilled, reason: &str) -> Self {
        let (source, code, denies) = match (status, fail_mode) {
            (Status::Killed, _) => (Source::Killed, "action_killed", on_killed == OnKilled::Deny),
            (_, FailMode::Open) => (Source::FailOpen, "action_unreachable", false),
            (_, FailMode::Closed) => (Source::FailClosed, "action_unreachable", true),
        };
        if !(denies && trigger.can_deny()) {
            return Self::plain(Decision::Allow, source, status);
        }
        Self { code: Some(code.to_owned()), reason: Some(reason.to_owned()), ..Self::plain(Decision::Deny, source, status) }
    }

    /// The outcome as JSON text.
    pub fn to_json(&self) -> String {
        // Serialising strings, words and raw JSON into memory has no way to fail.
        serde_json::to_string(self).unwrap_or_default()
    }
}
