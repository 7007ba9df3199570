//! An action's candidate: what is tried beside the current version, and what came of it.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use maud::{Markup, html};
use serde_json::{Map, Value};

use super::action::known;
use super::action_form::changes;
use super::layout::{page, token};
use super::{Page, badge, behind, literal, moment, ms, row, rows, text};
use crate::console::error::PageError;
use crate::console::sent::Sent;
use crate::console::ways_in::{Person, Right};
use crate::console::{Console, Fields};
use crate::store::{candidates, control};

/// What a candidate may be given here, with its label. Without a condition it is meant for every event.
const FIELDS: [(&str, &str); 5] = [
    ("endpoint_url", "Endpoint URL"),
    ("timeout_ms", "Timeout"),
    ("fail_mode", "Fail mode"),
    ("on_killed", "On killed"),
    ("condition", "Condition"),
];

/// The part of an action's page.
pub async fn section(console: &Console, person: &Person, action: &Value, right: Right) -> Result<Markup, PageError> {
    let id = text(action, "action_id");
    let all = rows(&candidates::of(&console.database, &id).await?)?;
    let differences = match all.first() {
        None => Vec::new(),
        Some(newest) => {
            let version = newest["version"].as_i64().and_then(|version| i32::try_from(version).ok()).unwrap_or_default();
            rows(&candidates::differences(&console.database, &id, version).await?)?
        }
    };
    let is_running = all.first().is_some_and(|newest| newest["state"] == "running");
    Ok(html! {
        h2 id="candidate" { "Candidate" }
        @if all.is_empty() {
            p { "Nothing was tried yet. A candidate gets the same events in the shadow of the current version and decides nothing, or decides for some of the people as a canary." }
        }
        @if right == Right::Change {
            p class="row" {
                @if is_running {
                    a class="button" href={ "/actions/" (id) "/promote" } { "Promote" }
                    a class="button quiet" href={ "/actions/" (id) "/withdraw" } { "Withdraw" }
                } @else if action["enabled"] == true {
                    a class="button quiet" href={ "/actions/" (id) "/candidate" } { "Stage candidate" }
                }
                @if action["record_events"] != 0 {
                    @let version = all.first().filter(|_| is_running).map(|newest| text(newest, "version"));
                    a class="button quiet" href={ "/actions/" (id) "/replay" @if let Some(version) = version { "?version=" (version) } } { "Replay" }
                }
                @if action["record_events"] != 0 { a class="button quiet" href={ "/actions/" (id) "/forget" } { "Forget recorded events" } }
            }
        }
        @if !all.is_empty() {
            (table(&all))
            (behind(&format!("select * from actions.candidates where action_id = {} order by started_at desc;", literal(&id))))
        }
        @if !differences.is_empty() {
            h3 { "What differs" }
            div class="wide" tabindex="0" role="region" aria-label="What differs" { table {
                thead { tr { th { "Invocation" } th { "When" } th { "Decision" } th { "Status" } th { "Differs in" } th class="number" { "Call" } } }
                tbody { @for one in &differences { tr {
                    td { a href={ "/invocations/" (text(one, "invocation_id")) "#candidate" } { code { (text(one, "invocation_id")) } } }
                    td { (moment(one, "at")) } td { (text(one, "decision")) } td { (badge(&text(one, "status"))) }
                    td { (parts(one)) } td class="number" { (ms(one, "duration_ms")) }
                } } }
            } }
            (behind(&format!("select * from actions.candidate_results where action_id = {} and differs <> '{{}}' order by at desc limit 50;", literal(&id))))
        }
        @if all.is_empty() && person.is_operator() { (behind(&format!("select * from actions.stage_candidate({}, '{{\"timeout_ms\": 1500}}', 'shadow', 100, 'you');", literal(&id)))) }
    })
}

/// The parts in which a result differs.
pub(super) fn parts(result: &Value) -> String {
    result["differs"].as_array().into_iter().flatten().filter_map(Value::as_str).collect::<Vec<_>>().join(", ")
}

fn table(all: &[Value]) -> Markup {
    html! {
        div class="wide" tabindex="0" role="region" aria-label="Candidates" { table {
            thead { tr { th class="number" { "Version" } th { "Mode" } th { "State" } th { "Since" } th class="number" { "Calls" } th class="number" { "Failed" }
                th class="number" { "Same" } th class="number" { "Differs" } th class="number" { "Would deny" } th class="number" { "Would allow" }
                th class="number" { "Skipped" } th class="number" { "p50" } th class="number" { "p99" } } }
            tbody { @for one in all { tr {
                td class="number" { (text(one, "version")) }
                td { (text(one, "mode")) @if one["percent"] != 100 { " " (text(one, "percent")) " %" } }
                td { (badge(&text(one, "state"))) " " (text(one, "reason")) }
                td { (moment(one, "started_at")) }
                @for field in ["calls", "errors", "same", "differs", "would_deny", "would_allow", "skipped"] { td class="number" { (text(one, field)) } }
                td class="number" { (ms(one, "p50_ms")) } td class="number" { (ms(one, "p99_ms")) }
            } } }
        } }
    }
}

/// `GET /actions/{id}/candidate`
pub async fn new(State(console): State<Arc<Console>>, person: Person, Path(id): Path<String>) -> Page {
    let (action, right) = known(&console, &person, &id).await?;
    if right == Right::Look {
        return Err(PageError::Forbidden("Only owners and admins of the project may change it."));
    }
    let given = FIELDS.iter().map(|(field, _)| ((*field).to_owned(), text(&action, field))).collect();
    Ok(page(&person, "Stage candidate", &form(&person, &action, &given, None)))
}

/// `POST /actions/{id}/candidate`
pub async fn stage(
    State(console): State<Arc<Console>>,
    person: Person,
    Path(id): Path<String>,
    Sent(fields): Sent,
) -> Result<Response, PageError> {
    let (action, _) = known(&console, &person, &id).await?;
    person.may_change(&console, &text(&action, "project_id"), &fields).await?;
    let now = row(&control::show(&console.database, &id).await?.ok_or(PageError::NotFound)?)?;
    let known = |(name, _): &(String, Value)| FIELDS.iter().any(|(field, _)| field == name);
    let changed: Map<String, Value> = changes(&fields).into_iter().filter(known).filter(|(name, value)| now[name] != *value).collect();
    let percent = fields.get("percent").and_then(|percent| percent.trim().parse().ok()).unwrap_or(-1);
    let mode = fields.get("mode").map(String::as_str).unwrap_or_default();
    let changed = Value::Object(changed).to_string();
    match candidates::stage(&console.database, &id, &changed, mode, percent, person.actor()).await.map_err(PageError::from) {
        Ok(_) => Ok(Redirect::to(&format!("/actions/{id}#candidate")).into_response()),
        Err(PageError::Refused(why)) => {
            let page = page(&person, "Stage candidate", &form(&person, &action, &fields, Some(&why)));
            Ok((StatusCode::UNPROCESSABLE_ENTITY, page).into_response())
        }
        Err(other) => Err(other),
    }
}

fn form(person: &Person, action: &Value, given: &Fields, wrong: Option<&str>) -> Markup {
    let value = |name: &str| given.get(name).map(String::as_str).unwrap_or_default();
    let choice = |name: &str, options: &[&str]| {
        html! { select name=(name) { @for option in options { option value=(option) selected[value(name) == *option] { (option) } } } }
    };
    html! {
        @if let Some(why) = wrong { div class="notice" role="alert" { (why) } }
        p { "What is tried is the current version of “" (text(action, "name")) "” with what you change here." }
        form class="form" method="post" {
            (token(person))
            label { "Mode" (choice("mode", &["shadow", "canary"]))
                span class="hint" { "shadow: the same events afterwards, decides nothing. canary: decides for some people, and withdraws itself where it fails." } }
            label { "Percent" input name="percent" inputmode="numeric" value=(given.get("percent").map_or("100", String::as_str)); span class="hint" { "of the people, 1 to 100; always the same ones" } }
            @for (field, label) in FIELDS {
                label { (label) @match field {
                    "fail_mode" => (choice(field, &["open", "closed"])),
                    "on_killed" => (choice(field, &["skip", "deny"])),
                    _ => input name=(field) value=(value(field));,
                } }
            }
            button { "Stage candidate" }
            " " a class="button quiet" href={ "/actions/" (text(action, "action_id")) } { "Back" }
        }
    }
}
