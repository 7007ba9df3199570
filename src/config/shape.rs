//! Which sections and keys there are, and whether a layer of configuration has others.
//!
//! Asked of each layer before it is merged: afterwards a value that stands where a section belongs
//! would have swept the section away. It looks at names only, never at a key's value.

use std::sync::LazyLock;

use figment::Figment;
use figment::error::Kind;
use figment::providers::{Format, Serialized, Toml};
use figment::value::{Dict, Value};

use super::{Config, ConfigError, DEFAULTS};

/// Each section with its keys, as the types in `config` name them.
static SECTIONS: LazyLock<Vec<(&str, &[&str])>> =
    LazyLock::new(|| names_under(None).iter().map(|section| (*section, names_under(Some(section)))).collect());

/// A name that no section and no key has, so that the types say which names they take.
const NOBODY: &str = "?";

fn names_under(section: Option<&str>) -> &'static [&'static str] {
    let key = section.map_or_else(|| NOBODY.to_owned(), |section| format!("{section}.{NOBODY}"));
    let refused = Figment::from(Toml::string(DEFAULTS)).merge(Serialized::default(&key, true)).extract::<Config>().err();
    let names = refused.into_iter().flatten().find_map(|error| match error.kind {
        Kind::UnknownField(_, names) => Some(names),
        _ => None,
    });
    names.unwrap_or_default()
}

/// Every key as `section.key`.
pub(super) fn every_key() -> Vec<String> {
    SECTIONS.iter().flat_map(|(section, keys)| keys.iter().map(move |key| format!("{section}.{key}"))).collect()
}

/// Says what is wrong with the first name that is none of ours.
pub(super) fn check(layer: &Dict) -> Result<(), ConfigError> {
    layer.iter().try_for_each(|(section, value)| check_section(section, value))
}

fn check_section(section: &str, value: &Value) -> Result<(), ConfigError> {
    let Some((_, keys)) = SECTIONS.iter().find(|(known, _)| *known == section) else {
        return Err(unknown_section(section));
    };
    let Value::Dict(_, table) = value else {
        // Not the value itself: it may be a secret that lost its way.
        let given = format!("{} where a table belongs", kind_of(value));
        return Err(ConfigError::new(section, given, format!("a section [{section}] with any of {}", keys.join(", "))));
    };
    match table.keys().find(|key| !keys.contains(&key.as_str())) {
        Some(key) => {
            Err(ConfigError::new(format!("{section}.{key}"), format!("unknown key{}", hint(key, keys.iter().copied())), keys.join(", ")))
        }
        None => Ok(()),
    }
}

fn unknown_section(section: &str) -> ConfigError {
    let sections = || SECTIONS.iter().map(|(section, _)| *section);
    let hint = match SECTIONS.iter().find(|(_, keys)| keys.contains(&section)) {
        Some((home, _)) => format!(" (did you mean {home}.{section}?)"),
        None => hint(section, sections()),
    };
    let accepted = format!("a section of {}", sections().collect::<Vec<_>>().join(", "));
    ConfigError::new(section, format!("unknown section{hint}"), accepted)
}

/// What a value is, in a word for people.
pub(super) fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::String(..) | Value::Char(..) => "a text",
        Value::Bool(..) => "true or false",
        Value::Num(..) => "a number",
        Value::Empty(..) => "nothing",
        Value::Dict(..) => "a table",
        Value::Array(..) => "a list",
    }
}

fn hint<'a>(given: &str, names: impl Iterator<Item = &'a str>) -> String {
    let nearest = names.map(|name| (distance(given, name), name)).min();
    match nearest {
        Some((distance, name)) if distance <= 1 + given.len() / 4 => format!(" (did you mean {name}?)"),
        _ => String::new(),
    }
}

/// How many letters must be changed, left out or put in to make one name the other.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, letter) in a.chars().enumerate() {
        let mut above_left = row[0];
        row[0] = i + 1;
        for j in 0..b.len() {
            let changed = above_left + usize::from(b[j] != letter);
            above_left = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(row[j + 1] + 1);
        }
    }
    row[b.len()]
}
