//! The pages, one a file: each asks `store`, and makes HTML of the rows.

pub mod action;
pub mod action_changes;
pub mod action_form;
pub mod assets;
pub mod audit;
pub mod candidate;
mod charts;
pub mod endpoint_url;
pub mod invocation;
pub mod invocations;
pub mod layout;
pub mod live;
pub mod overview;
pub mod project_changes;
pub mod projects;
pub mod replay;
pub mod search;
pub mod trial;

use maud::{Markup, html};
use serde_json::Value;

use super::error::PageError;
use crate::store::StoreError;

/// What a page is made of, or why there is none.
pub type Page = Result<Markup, PageError>;

/// A text as one segment of a path, or a value of a query.
pub fn segment(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>().replace('+', "%20")
}

/// A row that PostgreSQL wrote as JSON.
fn row(text: &str) -> Result<Value, PageError> {
    serde_json::from_str(text).map_err(|error| StoreError::Schema(format!("a row that is no JSON: {error}")).into())
}

fn rows(texts: &[String]) -> Result<Vec<Value>, PageError> {
    texts.iter().map(|text| row(text)).collect()
}

/// A field as people read it; nothing where it is null.
fn text(row: &Value, field: &str) -> String {
    match &row[field] {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// A moment to the second, in UTC.
fn moment(row: &Value, field: &str) -> String {
    let at = text(row, field);
    at.get(..19).map(|at| format!("{} UTC", at.replace('T', " "))).unwrap_or(at)
}

/// Milliseconds as people read them.
fn ms(row: &Value, field: &str) -> String {
    row[field].as_f64().map(|ms| if ms < 10.0 { format!("{ms:.1} ms") } else { format!("{ms:.0} ms") }).unwrap_or_default()
}

/// A status or a state, told by its word and, beside it, by colour.
fn badge(word: &str) -> Markup {
    let tone = match word {
        "ok" | "well" | "enabled" | "done" => "good",
        "rejected" | "queued" | "running" | "disabled" | "unknown" => "calm",
        _ => "bad",
    };
    html! { span class={ "badge " (tone) } { (word) } }
}

/// The statement behind a list, for people who live in SQL.
fn behind(sql: &str) -> Markup {
    html! { details class="sql" { summary { "The SQL behind this" } pre { code { (sql) } } } }
}

/// A text in an SQL literal, as it is shown.
fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
