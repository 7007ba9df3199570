//! The body of a request: the fleet's own keys, then the event exactly as auth-core gave it.

use super::Trigger;

/// Builds the request body.
///
/// `event` is a JSON object as text; its members follow the envelope's keys character for
/// character, so numbers, escapes and order stay as auth-core wrote them. `occurred_at` is
/// RFC 3339 in UTC.
pub fn request_body(event_id: &str, trigger: Trigger, occurred_at: &str, project_id: &str, event: &str) -> String {
    let members = event.trim().strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).unwrap_or_default().trim();
    let comma = if members.is_empty() { "" } else { "," };
    let project_id = serde_json::Value::from(project_id);
    format!(
        r#"{{"event_id":"{event_id}","trigger":"{trigger}","occurred_at":"{occurred_at}","project":{{"id":{project_id}}}{comma}{members}}}"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_events_own_members_stay_character_for_character() {
        let body = request_body("evt_1", Trigger::PreRegister, "2026-05-25T15:00:00Z", "p\"1", r#" { "n": 1.0e400, "s":"\u00e9" } "#);
        assert_eq!(
            body,
            r#"{"event_id":"evt_1","trigger":"pre_register","occurred_at":"2026-05-25T15:00:00Z","project":{"id":"p\"1"},"n": 1.0e400, "s":"\u00e9"}"#
        );
    }

    #[test]
    fn an_empty_event_leaves_no_dangling_comma() {
        let body = request_body("evt_1", Trigger::PreRegister, "2026-05-25T15:00:00Z", "p", "{ }");
        assert!(serde_json::from_str::<serde_json::Value>(&body).is_ok(), "{body}");
    }
}
