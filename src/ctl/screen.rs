//! How answers look: tables for people, JSON for programs.

use std::io::IsTerminal;

use serde_json::Value;

use super::say;

/// Prints one JSON value on a line, as the database or a rule wrote it.
pub fn json(text: &str) {
    say(text);
}

/// Prints rows as one JSON array.
pub fn json_array(rows: &[String]) {
    say(format_args!("[{}]", rows.join(",\n ")));
}

/// Names and values under each other; a value that is empty is left out.
pub fn fields(title: &str, fields: &[(&str, String)]) {
    say(bold(title));
    for (name, value) in fields.iter().filter(|(_, value)| !value.is_empty()) {
        say(format_args!("  {name:<11} {value}"));
    }
}

/// A text without control characters: what a stranger wrote must not steer the terminal.
pub fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Emphasis, on a terminal only.
pub fn bold(text: &str) -> String {
    styled("1", text)
}

/// Green for what is well, red for what is not; on a terminal only.
pub fn verdict(is_well: bool, text: &str) -> String {
    styled(if is_well { "32" } else { "31" }, text)
}

fn styled(code: &str, text: &str) -> String {
    let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    if std::io::stdout().is_terminal() && !plain { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
}

/// A field of a row as people read it; absent and null are empty.
pub fn text(row: &Value, field: &str) -> String {
    match &row[field] {
        Value::Null => String::new(),
        Value::String(text) => plain(text),
        other => other.to_string(),
    }
}

/// A moment without its fractions: `2026-11-21 08:15:30`.
pub fn moment(row: &Value, field: &str) -> String {
    text(row, field).chars().take(19).map(|c| if c == 'T' { ' ' } else { c }).collect()
}

/// Milliseconds with one decimal.
pub fn ms(row: &Value, field: &str) -> String {
    row[field].as_f64().map(|ms| format!("{ms:.1}")).unwrap_or_default()
}

/// The first characters of a text that is too long for its column.
pub fn short(text: &str, width: usize) -> String {
    if text.chars().count() <= width { text.to_owned() } else { text.chars().take(width.saturating_sub(1)).chain(['…']).collect() }
}
