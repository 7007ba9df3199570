//! `/search?q=`: any id, host name, name or e-mail address leads to its page.

use std::sync::Arc;

use axum::extract::{Query, State};
use axum::response::{IntoResponse, Redirect, Response};
use maud::html;
use serde_json::Value;

use super::layout::page;
use super::{invocations, row, rows, segment, text};
use crate::console::error::PageError;
use crate::console::ways_in::Person;
use crate::console::{Console, Fields};
use crate::store::{console, control};

/// `GET /search?q=…`
pub async fn show(State(console): State<Arc<Console>>, person: Person, Query(query): Query<Fields>) -> Result<Response, PageError> {
    let wanted = query.get("q").map(|text| text.trim()).unwrap_or_default();
    let mut seen: Vec<Value> = Vec::new();
    let mut events: Vec<Value> = Vec::new();
    if wanted.starts_with("inv_")
        && let Some(found) = control::invocation(&console.database, wanted).await?
        && person.right(&console, &text(&row(&found)?, "project_id")).await.is_ok()
    {
        return Ok(Redirect::to(&format!("/invocations/{}", segment(wanted))).into_response());
    }
    if wanted.starts_with("evt_") {
        match control::of_event(&console.database, wanted).await.map_err(PageError::from) {
            Ok(rows_of_event) => events = rows(&rows_of_event)?,
            Err(PageError::Refused(_)) => {} // no such id can be
            Err(error) => return Err(error),
        }
    } else if !wanted.is_empty() {
        seen = rows(&console::search(&console.database, wanted, person.whose()).await?)?;
    }
    let mut shown = Vec::new();
    for one in events {
        if person.right(&console, &text(&one, "project_id")).await.is_ok() {
            shown.push(one);
        }
    }
    let body = html! {
        @if !shown.is_empty() { (invocations::table(&shown)) }
        @if seen.is_empty() && shown.is_empty() {
            p { "Nothing of that name. Search for the id of a project, an action, an invocation or an event, for a host name, a name, or a member's whole address." }
        }
        ul {
            @for one in &seen {
                @let project = segment(&text(one, "project_id"));
                li {
                    @if one["action_id"].is_null() { a href={ "/projects/" (project) } { (text(one, "project_id")) } }
                    @else { a href={ "/actions/" (text(one, "action_id")) } { (text(one, "action_id")) } }
                    " " (text(one, "what"))
                }
            }
        }
    };
    Ok(page(&person, &format!("Search: {wanted}"), &body).into_response())
}
