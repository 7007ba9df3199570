//! Whom an event is about, as far as the fleet looks into it.

use serde::Deserialize;
use serde_json::Value;

/// The user and the organisation of an event.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Person {
    /// `user.id`, where it is a text; escapes are decoded.
    pub user_id: Option<String>,
    /// `session.organization_id`, where it is a text.
    pub organization_id: Option<String>,
}

/// An object of the event, or anything else.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Event {
    user: Value,
    session: Value,
}

impl Person {
    /// Reads an event, a JSON object as text.
    pub fn of(event: &str) -> Self {
        let event: Event = serde_json::from_str(event).unwrap_or_default();
        let text = |object: &Value, field: &str| object.get(field).and_then(Value::as_str).map(str::to_owned);
        Self { user_id: text(&event.user, "id"), organization_id: text(&event.session, "organization_id") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_texts_with_their_escapes_decoded() {
        let of = |event| Person::of(event).user_id;
        assert_eq!(of(r#"{"user":{"id":"user_\u0031"},"n":1e400}"#).as_deref(), Some("user_1"));
        for event in [r#"{"user":{"id":1}}"#, r#"{"user":"user_1"}"#, "{}", "[]", r#"{"user":null}"#] {
            assert_eq!(of(event), None, "{event}");
        }
        let event = r#"{"user":{"id":"u"},"session":{"organization_id":"o"}}"#;
        assert_eq!(Person::of(event).organization_id.as_deref(), Some("o"));
    }
}
