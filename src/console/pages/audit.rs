//! `/audit`: who changed what.

use std::sync::Arc;

use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use maud::{Markup, html};
use serde_json::Value;

use super::layout::page;
use super::{behind, literal, moment, rows, segment, text};
use crate::console::error::PageError;
use crate::console::ways_in::Person;
use crate::console::{Console, Fields, csv};
use crate::store::console;
use crate::store::control::Since;

/// How many events a page shows, and a file has at most.
const PAGE: i64 = 200;
const FILE: i64 = 5_000;

/// `GET /audit?project=…&action=…`
pub async fn show(State(console): State<Arc<Console>>, person: Person, Query(query): Query<Fields>) -> Result<Response, PageError> {
    let given = |name: &str| query.get(name).map(String::as_str).filter(|value| !value.is_empty());
    let (project, action) = (given("project"), given("action"));
    let since =
        given("since").map_or(Ok(Since::Always), Since::read).map_err(|accepted| PageError::Refused(format!("since: {accepted}")))?;
    let most = if given("format") == Some("csv") { FILE } else { PAGE };
    let Some(project) = project.or(person.whose().project) else {
        if person.is_operator() {
            let events = rows(&console::audit(&console.database, None, action, since, most).await?)?;
            let sql = "select * from actions.audit_log order by at desc;";
            return Ok(answer(&person, "Audit log", &query, &events, sql));
        }
        return Ok(choose(&console, &person).await?.into_response());
    };
    person.right(&console, project).await?;
    let events = rows(&console::audit(&console.database, Some(project), action, since, most).await?)?;
    let of_action = action.map(|action| format!(" and action_id = {}", literal(action))).unwrap_or_default();
    let sql = format!("select * from actions.audit_log where project_id = {}{of_action} order by at desc;", literal(project));
    Ok(answer(&person, &format!("Audit log of {project}"), &query, &events, &sql))
}

/// The page, or the file where the query asks for it.
fn answer(person: &Person, title: &str, query: &Fields, events: &[Value], sql: &str) -> Response {
    if query.get("format").is_some_and(|format| format == "csv") {
        return csv::file(&["at", "project_id", "action_id", "event", "actor", "details", "count", "login"], events);
    }
    let kept: String = query.iter().map(|(name, value)| format!("{}={}&", segment(name), segment(value))).collect();
    let is = |value: &str| query.get("since").is_some_and(|given| given == value);
    let body = html! {
        form class="row" method="get" {
            @for name in ["project", "action"] { @if let Some(value) = query.get(name) { input type="hidden" name=(name) value=(value); } }
            label { "Since" select name="since" {
                @for (value, word) in [("", "any time"), ("1h", "1 hour"), ("24h", "24 hours"), ("7d", "7 days"), ("90d", "90 days")] {
                    option value=(value) selected[is(value)] { (word) }
                }
            } }
            button class="quiet" { "Filter" }
            a class="button quiet" href={ "?" (kept) "format=csv" } { "CSV" }
        }
        (table(events, sql))
    };
    page(person, title, &body).into_response()
}

/// A member of several projects says of which.
async fn choose(console: &Console, person: &Person) -> Result<Markup, PageError> {
    let projects = rows(&console::projects(&console.database, person.whose()).await?)?;
    let body = html! { ul { @for project in &projects { li { a href={ "/audit?project=" (segment(&text(project, "project_id"))) } { (text(project, "name")) } } } } };
    Ok(page(person, "Audit log", &body))
}

fn table(events: &[Value], sql: &str) -> Markup {
    html! {
        div class="wide" tabindex="0" role="region" aria-label="Audit log" { table {
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
