//! `/projects/{id}/actions/new` and `/actions/{id}/edit`: one form for both, with the error that SQL gives
//! where something is wrong.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use maud::{Markup, html};
use serde_json::{Map, Value, json};

use super::action::known;
use super::invocations::triggers;
use super::layout::{page, token};
use super::{Page, row, segment, text};
use crate::console::error::PageError;
use crate::console::sent::Sent;
use crate::console::ways_in::{Person, Right};
use crate::console::{Console, Fields};
use crate::store::StoreError;
use crate::store::control::{self, NewAction};

/// Settings that a new action need not have: field, label, and what it takes.
const MORE: [(&str, &str, &str); 4] = [
    ("record_events", "Record events", "0 to 1000 of the newest, encrypted"),
    ("record_hours", "Record hours", "1 to 168"),
    ("last_known_s", "Last known", "seconds, 0 to 86400; on pre_token_mint alone"),
    ("recovery", "Recovery", "probe takes a kill back after five test events that end ok"),
];

/// `GET /projects/{id}/actions/new`
pub async fn new(State(console): State<Arc<Console>>, person: Person, Path(project): Path<String>) -> Page {
    may_change(person.right(&console, &project).await?)?;
    Ok(page(&person, "Create action", &form(&person, &project, &defaults(), None, true)))
}

/// `POST /projects/{id}/actions/new`
pub async fn create(
    State(console): State<Arc<Console>>,
    person: Person,
    Path(project): Path<String>,
    Sent(fields): Sent,
) -> Result<Response, PageError> {
    person.may_change(&console, &project, &fields).await?;
    let field = |name: &str| fields.get(name).map(String::as_str).unwrap_or_default();
    let new = NewAction {
        project_id: &project,
        trigger: field("trigger"),
        endpoint_url: field("endpoint_url").trim(),
        name: field("name").trim(),
        timeout_ms: field("timeout_ms").trim().parse().unwrap_or(-1),
        fail_mode: field("fail_mode"),
        on_killed: field("on_killed"),
        require_response_signature: fields.contains_key("require_response_signature"),
        enabled: true,
        condition: Some(field("condition").trim()).filter(|condition| !condition.is_empty()),
    };
    match control::create(&console.database, &new, person.actor()).await {
        Ok(action) => Ok(super::action_changes::secret_page(&console, &person, &row(&action)?).await?.into_response()),
        Err(error) => again(&person, "Create action", &project, &fields, error, true),
    }
}

/// `GET /actions/{id}/edit`
pub async fn edit(State(console): State<Arc<Console>>, person: Person, Path(id): Path<String>) -> Page {
    let (action, right) = known(&console, &person, &id).await?;
    may_change(right)?;
    let given = ["endpoint_url", "name", "timeout_ms", "fail_mode", "on_killed", "check_every_s", "condition"]
        .iter()
        .chain(&MORE.map(|(field, ..)| field))
        .map(|field| ((*field).to_owned(), text(&action, field)))
        .chain((action["record_events"] != 0).then(|| ("action_id".to_owned(), id.clone())))
        .chain((action["require_response_signature"] == true).then(|| ("require_response_signature".to_owned(), "on".to_owned())))
        .collect();
    Ok(page(&person, &format!("Edit {}", text(&action, "name")), &form(&person, &text(&action, "project_id"), &given, None, false)))
}

/// `POST /actions/{id}/edit`
pub async fn save(
    State(console): State<Arc<Console>>,
    person: Person,
    Path(id): Path<String>,
    Sent(fields): Sent,
) -> Result<Response, PageError> {
    let (action, _) = known(&console, &person, &id).await?;
    person.may_change(&console, &text(&action, "project_id"), &fields).await?;
    let changes = changes(&fields);
    match control::update(&console.database, &id, &Value::Object(changes).to_string(), person.actor()).await {
        Ok(_) => Ok(Redirect::to(&format!("/actions/{}", segment(&id))).into_response()),
        Err(error) => again(&person, &format!("Edit {}", text(&action, "name")), &text(&action, "project_id"), &fields, error, false),
    }
}

/// What a form says, as `update_action` and `stage_candidate` take it.
pub(super) fn changes(fields: &Fields) -> Map<String, Value> {
    let mut changes = Map::new();
    for (name, value) in fields {
        let value = value.trim();
        let value = match name.as_str() {
            "endpoint_url" | "name" | "fail_mode" | "on_killed" | "recovery" => json!(value),
            "condition" => {
                if value.is_empty() {
                    Value::Null
                } else {
                    json!(value)
                }
            }
            // What is no number goes as it is, so that the refusal quotes it.
            "timeout_ms" | "check_every_s" | "record_events" | "record_hours" | "last_known_s" => {
                value.parse::<i64>().map_or_else(|_| json!(value), |number| json!(number))
            }
            _ => continue,
        };
        changes.insert(name.clone(), value);
    }
    changes.insert("require_response_signature".to_owned(), json!(fields.contains_key("require_response_signature")));
    changes
}

fn may_change(right: Right) -> Result<(), PageError> {
    if right == Right::Change { Ok(()) } else { Err(PageError::Forbidden("Only owners and admins of the project may change it.")) }
}

fn defaults() -> Fields {
    [("timeout_ms", "2000"), ("fail_mode", "open"), ("on_killed", "skip")].map(|(name, value)| (name.to_owned(), value.to_owned())).into()
}

/// The form as it was sent, with what is wrong.
fn again(person: &Person, title: &str, project: &str, fields: &Fields, error: StoreError, is_new: bool) -> Result<Response, PageError> {
    match PageError::from(error) {
        PageError::Refused(why) => {
            let page = page(person, title, &form(person, project, fields, Some(&why), is_new));
            Ok((StatusCode::UNPROCESSABLE_ENTITY, page).into_response())
        }
        other => Err(other),
    }
}

pub(super) fn form(person: &Person, project: &str, given: &Fields, wrong: Option<&str>, is_new: bool) -> Markup {
    let value = |name: &str| given.get(name).map(String::as_str).unwrap_or_default();
    // The refusal names the argument that is wrong.
    let is_wrong = |name: &str| wrong.is_some_and(|why| why.contains(name));
    let beside = |name: &str| html! { @if is_wrong(name) { span class="notice" role="alert" { (wrong.unwrap_or_default()) } } };
    let choice = |name: &str, options: &[&str]| {
        html! { select name=(name) { @for option in options { option value=(option) selected[value(name) == *option] { (option) } } } }
    };
    let fields = ["endpoint_url", "name", "timeout_ms", "fail_mode", "on_killed", "trigger", "check_every_s", "condition"];
    let is_placed = fields.iter().chain(&MORE.map(|(name, ..)| name)).any(|name| is_wrong(name));
    html! {
        @if let Some(why) = wrong { @if !is_placed { div class="notice" role="alert" { (why) } } }
        form class="form" method="post" {
            (token(person))
            label { "Project" input value=(project) readonly; }
            @if is_new { label { "Trigger" (choice("trigger", &triggers().collect::<Vec<_>>())) (beside("trigger")) } }
            label { "Name" input name="name" value=(value("name")) maxlength="200" required; (beside("name")) }
            label { "Endpoint URL" input name="endpoint_url" type="text" inputmode="url" value=(value("endpoint_url")) placeholder="https://hooks.example.com/authio" required
                hx-get="/endpoint-url" hx-trigger="input changed delay:400ms, load" hx-target="#endpoint-url-check" hx-swap="innerHTML"; (beside("endpoint_url"))
                span id="endpoint-url-check" class="hint" aria-live="polite" {} }
            label { "Timeout" input name="timeout_ms" inputmode="numeric" value=(value("timeout_ms")); span class="hint" { "milliseconds, 100 to 5000" } (beside("timeout_ms")) }
            label { "Fail mode" (choice("fail_mode", &["open", "closed"])) (beside("fail_mode")) }
            label { "On killed" (choice("on_killed", &["skip", "deny"])) (beside("on_killed")) }
            label { "Condition" textarea name="condition" rows="2" maxlength="1000" spellcheck="false" placeholder="$.user.email like_regex \"@acme[.]com$\"" { (value("condition")) }
                span class="hint" { "jsonpath; empty sends every event" } (beside("condition")) }
            @if !is_new { @for (name, label, hint) in MORE {
                label { (label) @if name == "recovery" { (choice(name, &["manual", "probe"])) } @else { input name=(name) inputmode="numeric" value=(value(name)); }
                    span class="hint" { (hint) } (beside(name)) }
            } }
            @if !is_new { label { "Check every" input name="check_every_s" inputmode="numeric" value=(value("check_every_s")); span class="hint" { "seconds between two test events; 0 sends none" } (beside("check_every_s")) } }
            label { input type="checkbox" name="require_response_signature" checked[given.contains_key("require_response_signature")]; " Require response signature" }
            p class="row" {
                button { @if is_new { "Create action" } @else { "Save" } }
                @if let Some(id) = given.get("action_id") { button class="quiet" formaction={ "/actions/" (id) "/condition" } { "Try condition" } }
            }
        }
    }
}
