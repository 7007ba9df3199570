//! What two judgements of one event do differently to a person.

use crate::domain::{Outcome, Status};

/// The parts that differ: `decision`, `code`, `claims`, `roles`, `permissions`, and `status` where one of both
/// failed. Reasons, audit entries and dropped fields change nothing for anybody, and often differ by a number.
pub fn differs(one: &Outcome, other: &Outcome) -> Vec<&'static str> {
    let failed = |status: Status| !matches!(status, Status::Ok | Status::Rejected);
    let json = |claims: &Option<Box<serde_json::value::RawValue>>| {
        claims.as_ref().map(|raw| serde_json::from_str::<serde_json::Value>(raw.get()).unwrap_or_else(|_| raw.get().into()))
    };
    [
        ("status", failed(one.status) != failed(other.status)),
        ("decision", one.decision != other.decision),
        ("code", one.code != other.code),
        ("claims", json(&one.claims) != json(&other.claims)),
        ("roles", one.roles != other.roles),
        ("permissions", one.permissions != other.permissions),
    ]
    .into_iter()
    .filter_map(|(part, is_different)| is_different.then_some(part))
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Decision, Source};

    #[test]
    fn what_changes_nothing_for_a_person_is_no_difference() {
        let allow = Outcome::plain(Decision::Allow, Source::Verdict, Status::Ok);
        let with = |change: fn(&mut Outcome)| {
            let mut other = allow.clone();
            change(&mut other);
            differs(&allow, &other)
        };
        assert!(with(|other| other.reason = Some("x".to_owned())).is_empty());
        assert_eq!(with(|other| other.roles = Some(vec![])), ["roles"], "an empty list is an answer");
        assert_eq!(with(|other| other.status = Status::Timeout), ["status"]);
        assert_eq!(with(|other| (other.decision, other.code) = (Decision::Deny, Some("x".to_owned()))), ["decision", "code"]);
        let claims = |text: &str| {
            let raw = serde_json::value::RawValue::from_string(text.to_owned()).unwrap();
            Outcome { claims: Some(raw), ..allow.clone() }
        };
        assert!(differs(&claims(r#"{"a":1,"b":2}"#), &claims(r#"{ "b":2, "a":1 }"#)).is_empty());
        assert_eq!(differs(&claims(r#"{"a":1}"#), &claims(r#"{"a":2}"#)), ["claims"]);
        let failed = Outcome::plain(Decision::Allow, Source::FailOpen, Status::Timeout);
        assert!(differs(&failed, &Outcome { status: Status::HttpError, ..failed.clone() }).is_empty(), "both failed");
    }
}
