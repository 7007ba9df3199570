//! The ways that are compared. Each carries the same event; all but apalis make the call.

pub mod apalis;
pub mod bare;
pub mod client;
pub mod plain;
pub mod sql;

/// The event of every call, about the size of a real one.
pub const EVENT: &str = r#"{"user":{"id":"user_alice","email":"alice@acme.com","email_verified":true,"created_at":"2026-02-03T10:00:00Z"},"request":{"ip":"203.0.113.7","user_agent":"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36","geo":{"country":"CH"}},"session":{"id":"sess_1","organization_id":"org_acme_us"}}"#;
