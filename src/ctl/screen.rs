//! How answers look: tables for people, JSON for programs.

use std::io::IsTerminal;

use serde_json::Value;

use super::say;
use crate::program::ProgramError;
use crate::store::StoreError;

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

/// How something fares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// Green.
    Well,
    /// Yellow: it works, but somebody should look.
    Warning,
    /// Red.
    Bad,
}

impl Tone {
    /// Well, or not at all.
    pub fn of(is_well: bool) -> Self {
        if is_well { Self::Well } else { Self::Bad }
    }

    fn code(self) -> &'static str {
        match self {
            Self::Well => "32",
            Self::Warning => "33",
            Self::Bad => "31",
        }
    }
}

/// A text in the colour of its tone, on a terminal only.
pub fn toned(tone: Tone, text: &str) -> String {
    styled(tone.code(), text)
}

fn styled(code: &str, text: &str) -> String {
    let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    if is_coloured(std::io::stdout().is_terminal(), refused) { escaped(code, text) } else { text.to_owned() }
}

fn is_coloured(on_terminal: bool, refused: bool) -> bool {
    on_terminal && !refused
}

fn escaped(code: &str, text: &str) -> String {
    format!("\x1b[{code}m{text}\x1b[0m")
}

/// A row that PostgreSQL wrote as JSON.
pub fn parsed(row: &str) -> Result<Value, ProgramError> {
    serde_json::from_str(row).map_err(|error| StoreError::Schema(format!("a row that is no JSON: {error}")).into())
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

/// A duration as people say it: `5 s`, `12 min`, `3 h`, `2 d`.
pub fn age(seconds: f64) -> String {
    match seconds.max(0.0) {
        s if s < 120.0 => format!("{s:.0} s"),
        s if s < 7200.0 => format!("{:.0} min", s / 60.0),
        s if s < 172_800.0 => format!("{:.0} h", s / 3600.0),
        s => format!("{:.0} d", s / 86_400.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colour_stays_on_terminals_that_want_it_and_a_warning_is_yellow() {
        let seen =
            [(true, false), (true, true), (false, false), (false, true)].map(|(on_terminal, refused)| is_coloured(on_terminal, refused));
        assert_eq!(seen, [true, false, false, false]);
        assert_eq!(
            [Tone::Well, Tone::Warning, Tone::Bad].map(|tone| escaped(tone.code(), "x")),
            ["\x1b[32mx\x1b[0m", "\x1b[33mx\x1b[0m", "\x1b[31mx\x1b[0m"]
        );
    }

    #[test]
    fn ages_are_short() {
        assert_eq!([0.4, 119.0, 600.0, 86_400.0, 864_000.0].map(age), ["0 s", "119 s", "10 min", "24 h", "10 d"]);
    }
}
