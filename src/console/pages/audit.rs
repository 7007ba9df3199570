//! `/audit`: who changed what.

use std::sync::Arc;

use axum::extract::{Query, State};
use maud::{Markup, html};
use serde_json::Value;

use super::layout::page;
use super::{Page, behind, literal, moment, rows, segment, text};
use crate::console::error::PageError;
use crate::console::ways_in::Person;
use crate::console::{Console, Fields};
use crate::store::console;

/// `GET /audit?project=…&action=…`
pub async fn show(State(console): State<Arc<Console>>, person: Person, Query(query): Query<Fields>) -> Page {
    let given = |name: &str| query.get(name).map(String::as_str).filter(|value| !value.is_empty());
    let (project, action) = (given("project"), given("action"));
    let Some(project) = project.or(person.whose().project) else {
        if person.is_operator() {
            let events = rows(&console::audit(&console.database, None, action).await?)?;
            return Ok(page(&person, "Audit log", &table(&events, "select * from actions.audit_log order by at desc;")));
        }
        return choose(&console, &person).await;
    };
    person.right(&console, project).await?;
    let events = rows(&console::audit(&console.database, Some(project), action).await?)?;
    let sql = format!("select * from actions.audit_log where project_id = {} order by at desc;", literal(project));
    Ok(page(&person, &format!("Audit log of {project}"), &table(&events, &sql)))
}

/// A member of several projects says of which.
async fn choose(console: &Console, person: &Person) -> Result<Markup, PageError> {
    let projects = rows(&console::projects(&console.database, person.whose()).await?)?;
    let body = html! { ul { @for project in &projects { li { a href={ "/audit?project=" (segment(&text(project, "project_id"))) } { (text(project, "name")) } } } } };
    Ok(page(person, "Audit log", &body))
}

fn table(events: &[Value], sql: &str) -> Markup {
    html! {
        div class="wide" { table {
            tr { th { "When" } th { "What" } th { "Who" } th { "Action" } th { "Details" } }
            @for event in events {
                tr {
                    td { (moment(event, "at")) }
                    td { (text(event, "event")) @if event["count"].as_i64().is_some_and(|count| count > 1) { " × " (text(event, "count")) } }
                    td { (text(event, "actor")) @if !text(event, "login").is_empty() { p class="hint" { "login " (text(event, "login")) } } }
                    td { @if !event["action_id"].is_null() { a href={ "/actions/" (text(event, "action_id")) } { (text(event, "action_id")) } } }
                    td { (details(&event["details"])) }
                }
            }
            @if events.is_empty() { tr { td colspan="5" { "Nothing." } } }
        } }
        (behind(sql))
    }
}

/// What differs between before and after; anything else as it is.
fn details(details: &Value) -> Markup {
    let (before, after) = (&details["before"], &details["after"]);
    html! {
        @if let (Some(old), Some(new)) = (before.as_object(), after.as_object()) {
            @if let Some(reason) = details["reason"].as_str() { div { (reason) } }
            @for (field, value) in new { @if old.get(field) != Some(value) && field != "updated_at" {
                div { (field) ": " del { (short(old.get(field))) } " → " ins { (short(Some(value))) } }
            } }
        } @else if !details.is_null() {
            details { summary { "show" } pre { code { (serde_json::to_string_pretty(details).unwrap_or_default()) } } }
        }
    }
}

fn short(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => "nothing".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}
