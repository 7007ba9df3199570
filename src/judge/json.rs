//! Reading JSON as leniently as a verdict deserves and as exactly as a deny needs.
//!
//! A typed struct would fail as a whole for one wrong field, and failing open would then let
//! a denied person in. So an object is read as its members, each value kept as it was written.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// The members of a JSON object in their order, duplicates included.
pub struct Members<'a>(pub Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object<'a>(std::marker::PhantomData<&'a ()>);
        impl<'de: 'a, 'a> Visitor<'de> for Object<'a> {
            type Value = Members<'a>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Object(std::marker::PhantomData))
    }
}

/// Members without those whose key stands again later, in their order.
pub fn last_of_each<T>(members: &[(String, T)]) -> Vec<&(String, T)> {
    let mut seen = HashSet::with_capacity(members.len());
    let mut last: Vec<_> = members.iter().rev().filter(|(key, _)| seen.insert(key.as_str())).collect();
    last.reverse();
    last
}

/// Writes members as a compact JSON object; of a repeated key the last value stands.
///
/// Values keep their characters, so numbers arrive as they were written.
pub fn write_object(members: &[(String, &RawValue)]) -> Option<Box<RawValue>> {
    let part = |(key, value): &(String, &RawValue)| format!("{}:{}", serde_json::Value::from(key.as_str()), compact(value.get()));
    let parts: Vec<String> = last_of_each(members).into_iter().map(part).collect();
    RawValue::from_string(format!("{{{}}}", parts.join(","))).ok()
}

/// JSON text without the white space between its tokens.
pub fn compact(json: &str) -> String {
    let mut inside_string = false;
    let mut escaped = false;
    json.chars()
        .filter(|&c| {
            let keep = inside_string || !c.is_ascii_whitespace();
            match c {
                _ if escaped => escaped = false,
                '\\' => escaped = inside_string,
                '"' => inside_string = !inside_string,
                _ => {}
            }
            keep
        })
        .collect()
}

/// How deep arrays and objects are nested; a scalar has depth 0.
pub fn depth(json: &str) -> usize {
    let (mut deepest, mut now) = (0_usize, 0_usize);
    let (mut inside_string, mut escaped) = (false, false);
    for byte in json.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = inside_string,
            b'"' => inside_string = !inside_string,
            b'[' | b'{' if !inside_string => {
                now += 1;
                deepest = deepest.max(now);
            }
            b']' | b'}' if !inside_string => now = now.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// Replaces the escapes that PostgreSQL cannot store (`\u0000` and half surrogate pairs) by
/// the replacement character, and leaves every other character as it is.
pub fn storable(json: &str) -> Cow<'_, str> {
    let bytes = json.as_bytes();
    let code = |at: usize| -> Option<u16> {
        let digits = json.get(at..at + 6)?.strip_prefix("\\u")?;
        // The number parser would take a sign.
        if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        u16::from_str_radix(digits, 16).ok()
    };
    let mut changed = String::new();
    let mut copied = 0;
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at] != b'\\' {
            at += 1;
            continue;
        }
        let length = match code(at) {
            Some(0xD800..=0xDBFF) if matches!(code(at + 6), Some(0xDC00..=0xDFFF)) => 12,
            Some(0 | 0xD800..=0xDFFF) => {
                changed.push_str(&json[copied..at]);
                changed.push_str("\\ufffd");
                copied = at + 6;
                6
            }
            Some(_) => 6,
            None => 2, // another escape, or no JSON at all: the parser will say so
        };
        at += length;
    }
    if copied == 0 {
        return Cow::Borrowed(json);
    }
    changed.push_str(&json[copied..]);
    Cow::Owned(changed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_escapes_that_cannot_be_stored_are_replaced() {
        for (given, expected) in [
            (r#""a\u0000b""#, r#""a\ufffdb""#),
            (r#""\\u0000""#, r#""\\u0000""#),
            (r#""\\\u0000""#, r#""\\\ufffd""#),
            (r#""\ud83d\ude00""#, r#""\ud83d\ude00""#),
            (r#""\ud83dx""#, r#""\ufffdx""#),
            (r#""\ude00\ud83d""#, r#""\ufffd\ufffd""#),
            (r#""\ud83d\ud83d\ude00""#, r#""\ufffd\ud83d\ude00""#),
            ("\"é\\", "\"é\\"),
            ("\"\\é", "\"\\é"),
            (r#""\u+000""#, r#""\u+000""#),
        ] {
            assert_eq!(storable(given), expected);
        }
    }

    #[test]
    fn depth_counts_brackets_outside_of_strings() {
        assert_eq!(depth(r#"{"a":["[[[\"[",{}]}"#), 3);
        assert_eq!(depth("7"), 0);
    }

    #[test]
    fn compacting_leaves_strings_alone() {
        assert_eq!(compact("{ \"a b\\\" c\" : [ 1 , 2 ] }"), "{\"a b\\\" c\":[1,2]}");
    }
}
