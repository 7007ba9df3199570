//! Whom an event is about, as far as the fleet looks into it.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

/// The user and the organisation of an event.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Person {
    /// `user.id`, where it is a text; escapes are decoded.
    pub user_id: Option<String>,
    /// `session.organization_id`, where it is a text.
    pub organization_id: Option<String>,
}

/// The members of an object, each as it was written: of two with one name the last counts.
type Members<'a> = BTreeMap<String, &'a RawValue>;

impl Person {
    /// Reads an event, a JSON object as text. What stands beside an id does not hide it.
    pub fn of(event: &str) -> Self {
        let event: Members<'_> = serde_json::from_str(event).unwrap_or_default();
        let text = |object: &str, field: &str| -> Option<String> {
            let members: Members<'_> = serde_json::from_str(event.get(object)?.get()).ok()?;
            serde_json::from_str(members.get(field)?.get()).ok()
        };
        Self { user_id: text("user", "id"), organization_id: text("session", "organization_id") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_texts_with_their_escapes_decoded_whatever_stands_beside_them() {
        let of = |event| Person::of(event).user_id;
        for event in [
            r#"{"user":{"id":"user_\u0031"},"n":1e400}"#,
            r#"{"user":{"id":"user_1","age":1e400,"name":"\ud800 \u0000"},"session":5}"#,
            r#"{"user":{"id":"other"},"user":{"id":"x","id":"user_1"}}"#,
        ] {
            assert_eq!(of(event).as_deref(), Some("user_1"), "{event}");
        }
        for event in [r#"{"user":{"id":1}}"#, r#"{"user":"user_1"}"#, "{}", "[]", r#"{"user":null}"#, r#"{"user":{"id":"\ud800"}}"#] {
            assert_eq!(of(event), None, "{event}");
        }
        let event = r#"{"user":{"id":"u"},"session":{"organization_id":"o"}}"#;
        assert_eq!(Person::of(event).organization_id.as_deref(), Some("o"));
    }
}
