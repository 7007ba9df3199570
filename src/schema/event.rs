//! What an endpoint is asked.

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::domain::Trigger;

/// An auth event, as it is sent to an action's endpoint.
///
/// `event_id`, `trigger`, `occurred_at` and `project` are the fleet's and always there. All other members are
/// auth-core's; which of them an event has depends on its trigger, and there may be more than stand here.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(example = example())]
pub struct Event {
    /// The event's id: `evt_` and 26 characters. The same one again is the same event.
    #[schemars(regex(pattern = "^evt_"))]
    pub event_id: String,
    /// The moment of the auth event.
    pub trigger: Trigger,
    /// When it was enqueued: RFC 3339 in UTC.
    #[schemars(extend("format" = "date-time"))]
    pub occurred_at: String,
    /// The project whose action is asked.
    pub project: ProjectOfEvent,
    /// Who signs in or up. Before registration there is no id yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<User>,
    /// The session, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<Session>,
    /// The token that is about to be minted, or was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<Token>,
    /// The request of the person who signs in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<RequestOfPerson>,
    /// Whatever else auth-core says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Metadata>,
}

/// The project of an event.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Project")]
pub struct ProjectOfEvent {
    /// Its id, such as `proj_acme_prod`.
    pub id: String,
}

/// Who signs in or up.
#[derive(Debug, Serialize, JsonSchema)]
pub struct User {
    /// `user_…`; none before registration.
    pub id: Option<String>,
    /// The address as the person gave it.
    pub email: Option<String>,
    /// Whether somebody proved that it is theirs.
    pub email_verified: Option<bool>,
}

/// A session.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Session {
    /// `sess_…`
    pub id: Option<String>,
    /// The organization for which the person signs in.
    pub organization_id: Option<String>,
}

/// A token.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Token {
    /// Of what kind, such as `user`.
    pub token_type: Option<String>,
    /// The roles that it has if nobody overrides them.
    pub roles: Option<Vec<String>>,
    /// The permissions that it has if nobody overrides them.
    pub permissions: Option<Vec<String>>,
    /// How long it is valid, in seconds.
    pub ttl_seconds: Option<u64>,
}

/// The request of the person who signs in.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Request")]
pub struct RequestOfPerson {
    /// From which address.
    pub ip: Option<String>,
    /// With which program.
    pub user_agent: Option<String>,
}

/// Whatever else auth-core says of an event.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Metadata {
    /// True for a made-up event, which somebody sent to see whether the endpoint answers.
    pub test: Option<bool>,
    /// Anything.
    #[serde(flatten)]
    pub more: Map<String, Value>,
}

fn example() -> Value {
    json!({
        "event_id": "evt_01JD3X6G8Q7N9V8R2M4T6W8Y0B",
        "trigger": "pre_token_mint",
        "occurred_at": "2026-11-26T09:30:00.123Z",
        "project": {"id": "proj_acme_prod"},
        "user": {"id": "user_1", "email": "ada@acme.com", "email_verified": true},
        "session": {"id": "sess_1", "organization_id": "org_acme"},
        "token": {"token_type": "user", "roles": ["member"], "permissions": [], "ttl_seconds": 900},
        "request": {"ip": "192.0.2.7", "user_agent": "Mozilla/5.0"}
    })
}
