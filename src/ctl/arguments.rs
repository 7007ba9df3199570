//! How arguments are read: words of the vocabulary, which `--help` and the completions list, and
//! moments to look back to.

use std::str::FromStr;

use clap::builder::{PossibleValuesParser, TypedValueParser};

use crate::domain::{FailMode, OnKilled, Status, Trigger};
use crate::store::control::Since;

/// One word of a vocabulary; others are refused with those that are accepted.
fn word<T>(words: Vec<&'static str>) -> impl TypedValueParser<Value = T>
where
    T: FromStr + Clone + Send + Sync + 'static,
    T::Err: std::error::Error + Send + Sync + 'static,
{
    PossibleValuesParser::new(words).try_map(|word| word.parse())
}

/// A moment of an auth event.
pub fn trigger() -> impl TypedValueParser<Value = Trigger> {
    word(Trigger::ALL.iter().map(|word| word.as_str()).collect())
}

/// What decides when the endpoint fails.
pub fn fail_mode() -> impl TypedValueParser<Value = FailMode> {
    word(FailMode::ALL.iter().map(|word| word.as_str()).collect())
}

/// What decides while an action is killed.
pub fn on_killed() -> impl TypedValueParser<Value = OnKilled> {
    word(OnKilled::ALL.iter().map(|word| word.as_str()).collect())
}

/// Every status that an invocation can have.
pub fn status() -> PossibleValuesParser {
    PossibleValuesParser::new(["queued", "running"].into_iter().chain(Status::ALL.iter().map(|status| status.as_str())))
}

/// A moment: `2h` ago, or one of RFC 3339.
pub fn since(text: &str) -> Result<Since, String> {
    Since::read(text)
}

/// `email=role`, as `project set-members` takes it.
pub fn member(text: &str) -> Result<(String, String), String> {
    match text.rsplit_once('=') {
        Some((email, role)) if !email.is_empty() && !role.is_empty() => Ok((email.to_owned(), role.to_owned())),
        _ => Err("accepted is email=role, such as ada@acme.com=owner".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use time::OffsetDateTime;

    use super::*;

    #[test]
    fn a_look_back_is_a_number_with_a_unit_or_a_moment() {
        let ago = |seconds| Ok(Since::Ago(Duration::from_secs(seconds)));
        assert_eq!(["30m", "2h", "7d", "3650d"].map(since), [ago(1800), ago(7200), ago(604_800), ago(3650 * 86_400)]);
        let moment = OffsetDateTime::from_unix_timestamp(1_795_766_400).unwrap();
        assert_eq!(["2026-11-27T08:00:00Z", "2026-11-27T09:00:00+01:00"].map(since), [Ok(Since::At(moment)), Ok(Since::At(moment))]);
        for wrong in ["", "h", "2", "2w", "-2h", "+2h", "1.5h", "2 h", "3651d", "99999999999999999999d", "yesterday", "2026-11-27", "7ä"] {
            assert!(since(wrong).unwrap_err().contains("7d"), "{wrong:?}");
        }
    }

    #[test]
    fn a_member_is_an_address_and_a_role() {
        assert_eq!(member("a=b@acme.com=owner"), Ok(("a=b@acme.com".to_owned(), "owner".to_owned())));
        assert!(["ada@acme.com", "ada@acme.com=", "=owner", ""].iter().all(|wrong| member(wrong).is_err()));
    }
}
