//! `/actions/{id}`: how far from a trip, what it is set to, its versions, what it did lately.

use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use maud::{Markup, html};
use serde_json::Value;

use super::layout::{page, token};
use super::projects::state;
use super::{badge, behind, invocations, literal, moment, row, rows, segment, text};
use crate::console::error::PageError;
use crate::console::ways_in::{Person, Right};
use crate::console::{Console, Fields};
use crate::domain::{Status, Trigger};
use crate::store::console;
use crate::store::control::{self, Since, Wanted};

/// What a version says, and the reason for each default.
const SETTINGS: [(&str, &str, &str); 7] = [
    ("endpoint_url", "Endpoint URL", "Where the event is posted. https, and never an address of our own network."),
    ("name", "Name", "As your team knows it."),
    ("timeout_ms", "Timeout", "Milliseconds that a person may wait for it, 100 to 5000. 2000 is what people bear without trying again."),
    (
        "fail_mode",
        "Fail mode",
        "Where there is no verdict, open lets the person pass and closed does not. The default is open: an endpoint that is down locks nobody out.",
    ),
    ("on_killed", "On killed", "What happens while the kill-switch holds it: skip asks nobody, fail_mode decides as for any failure."),
    ("require_response_signature", "Require response signature", "An answer that is not signed counts as a failure."),
    ("check_every_s", "Check every", "Seconds between two test events that the fleet sends by itself; 0 sends none."),
];
/// The columns of the file, as `recent_invocations` names them.
const COLUMNS: [&str; 17] = [
    "invocation_id",
    "event_id",
    "project_id",
    "trigger",
    "action_id",
    "action_version",
    "test",
    "status",
    "outcome",
    "http_status",
    "duration_ms",
    "queue_ms",
    "error",
    "overrode",
    "enqueued_at",
    "finished_at",
    "worker",
];
const PAGE: i32 = 50;
const FILE: i32 = 5000;

/// `GET /actions/{id}`; filters are in the query.
pub async fn show(
    State(console): State<Arc<Console>>,
    person: Person,
    Path(id): Path<String>,
    Query(filters): Query<Fields>,
) -> Result<Response, PageError> {
    let (action, right) = known(&console, &person, &id).await?;
    if filters.get("format").is_some_and(|format| format == "csv") {
        return csv(&console, &id, &filters).await;
    }
    let recent = recent(&console, &id, &filters, PAGE).await?;
    if filters.get("fragment").is_some_and(|fragment| fragment == "recent") {
        return Ok(live(&id, &filters, &recent).into_response());
    }
    let health = console::health(&console.database, &id).await?.map(|health| row(&health)).transpose()?.unwrap_or_default();
    let versions = rows(&console::versions(&console.database, &id).await?)?;
    let body = html! {
        p {
            (badge(state(&action))) " on " (text(&action, "trigger")) " of project "
            a href={ "/projects/" (segment(&text(&action, "project_id"))) } { (text(&action, "project_id")) }
        }
        @if !action["killed_at"].is_null() {
            div class="notice" { "Killed " (moment(&action, "killed_at")) ": " (text(&action, "killed_reason")) ". Nothing is sent to it until it is re-enabled; events are decided by “On killed”." }
        }
        @if right == Right::Change { (buttons(&action)) }
        (gauge(&health))
        (settings(&action))
        (secrets(&action))
        h2 { "Recent invocations" }
        (filter_form(&filters))
        (live(&id, &filters, &recent))
        (behind(&format!("select * from actions.find_invocations({}, n => {PAGE});", literal(&id))))
        (history(&person, &action, &versions, right))
        p { a href={ "/audit?project=" (segment(&text(&action, "project_id"))) "&action=" (id) } { "Audit log of this action" } }
    };
    Ok(page(&person, &text(&action, "name"), &body).into_response())
}

/// The action, if the person may see it.
pub(super) async fn known(console: &Console, person: &Person, id: &str) -> Result<(Value, Right), PageError> {
    let action = row(&control::show(&console.database, id).await?.ok_or(PageError::NotFound)?)?;
    let right = person.right(console, &text(&action, "project_id")).await?;
    Ok((action, right))
}

fn buttons(action: &Value) -> Markup {
    let path = |change: &str| format!("/actions/{}/{change}", text(action, "action_id"));
    html! {
        p class="row" {
            a class="button" href=(path("edit")) { "Edit" }
            a class="button quiet" href=(path("test")) { "Send test event" }
            @match state(action) {
                "killed" => a class="button" href=(path("reenable")) { "Re-enable" },
                "enabled" => a class="button quiet" href=(path("disable")) { "Disable" },
                _ => a class="button quiet" href=(path("enable")) { "Enable" },
            }
            a class="button quiet" href=(path("rotate")) { "Rotate secret" }
            @if !action["previous_secret_until"].is_null() { a class="button quiet" href=(path("finish")) { "Finish rotation" } }
            a class="button quiet" href=(path("secret")) { "Show secret" }
            a class="button quiet" href=(path("delete")) { "Delete" }
        }
    }
}

/// The three conditions, each as a bar towards its limit, with the numbers in words.
fn gauge(health: &Value) -> Markup {
    let number = |field: &str| health[field].as_f64().unwrap_or_default();
    // What is left until a trip says how long the bar would be.
    let share = |now: f64, left: f64| if now + left > 0.0 { now / (now + left) } else { 0.0 };
    let conditions = [
        ("errors", number("errors"), number("errors_until_trip")),
        ("timeouts", number("timeouts"), number("timeouts_until_trip")),
        ("5xx in a row", number("consecutive_5xx"), number("consecutive_5xx_until_trip")),
    ];
    html! {
        h2 { "How far from a trip" }
        svg class="chart" role="img" aria-label="How far each condition of the kill-switch is from its limit" viewBox="0 0 400 84" {
            @for (n, (name, now, left)) in conditions.iter().enumerate() {
                text x="0" y=(n * 28 + 18) { (name) }
                rect class="track" x="85" y=(n * 28 + 5) width="185" height="18" rx="3" {}
                rect class=(if share(*now, *left) >= 0.7 { "over" } else { "bar" }) x="85" y=(n * 28 + 5) width=(format!("{:.1}", 185.0 * share(*now, *left))) height="18" rx="3" {}
                text x="278" y=(n * 28 + 18) { (format!("{now:.0}, {left:.0} more trip it")) }
            }
        }
        p class="hint" {
            (text(health, "calls")) " calls in the window."
            @if number("calls_until_ratios_count") > 0.0 { " The ratios count after " (text(health, "calls_until_ratios_count")) " more." }
        }
    }
}

fn settings(action: &Value) -> Markup {
    html! {
        h2 { "Settings" }
        dl class="facts" {
            @for (field, name, reason) in SETTINGS { dt { (name) } dd { (text(action, field)) p class="hint" { (reason) } } }
        }
    }
}

fn secrets(action: &Value) -> Markup {
    html! {
        h2 { "Signing secret" }
        dl class="facts" {
            dt { "Version" } dd { (text(action, "secret_version")) }
            dt { "SHA-256" } dd { code { (text(action, "secret_sha256")) } }
            dt { "Seen at the endpoint" } dd { @if action["secret_seen_at"].is_null() { "not yet" } @else { (moment(action, "secret_seen_at")) } }
            @if !action["previous_secret_until"].is_null() {
                dt { "Rotation" }
                dd { "The previous secret counts until " (moment(action, "previous_secret_until")) "."
                    p class="hint" { "1. Put the new secret beside the old one at your endpoint. 2. Send a test event: it is signed with both. 3. When the new one was seen, take the old one away and finish the rotation." } }
            }
        }
    }
}

fn history(person: &Person, action: &Value, versions: &[Value], right: Right) -> Markup {
    html! {
        h2 { "Versions" }
        div class="wide" { table {
            tr { th class="number" { "Version" } th { "What changed" } th {} }
            @for (n, version) in versions.iter().enumerate() {
                tr {
                    td class="number" { (text(version, "version")) }
                    td {
                        @match versions.get(n + 1) {
                            Some(before) => @for (field, name, _) in SETTINGS { @if version[field] != before[field] {
                                div { (name) ": " del { (text(before, field)) } " → " ins { (text(version, field)) } }
                            } },
                            None => (if n + 1 == versions.len() { "the first shown" } else { "" }),
                        }
                    }
                    td {
                        @if version["version"] == action["version"] { (badge("enabled")) " now" } @else if right == Right::Change {
                            form method="post" action={ "/actions/" (text(action, "action_id")) "/restore" } {
                                (token(person))
                                input type="hidden" name="version" value=(text(version, "version"));
                                button class="quiet" { "Restore this version" }
                            }
                        }
                    }
                }
            }
        } }
    }
}

fn filter_form(filters: &Fields) -> Markup {
    let is = |name: &str, value: &str| filters.get(name).is_some_and(|given| given == value);
    let query: String = filters.iter().map(|(name, value)| format!("{}={}&", segment(name), segment(value))).collect();
    html! {
        form class="row" method="get" {
            label { "Status" select name="status" { option value="" { "any" }
                @for status in ["queued", "running"].into_iter().chain(Status::ALL.iter().map(|status| status.as_str())) { option value=(status) selected[is("status", status)] { (status) } } } }
            label { "Trigger" select name="trigger" { option value="" { "any" } @for trigger in triggers() { option value=(trigger) selected[is("trigger", trigger)] { (trigger) } } } }
            label { "Test" select name="test" { option value="" { "any" } option value="true" selected[is("test", "true")] { "tests" } option value="false" selected[is("test", "false")] { "no tests" } } }
            label { "Override" select name="override" { option value="" { "any" } option value="true" selected[is("override", "true")] { "overrode" } option value="false" selected[is("override", "false")] { "did not" } } }
            label { "Since" select name="since" {
                @for (value, name) in [("", "any time"), ("1h", "1 hour"), ("24h", "24 hours"), ("7d", "7 days")] { option value=(value) selected[is("since", value)] { (name) } } } }
            button class="quiet" { "Filter" }
            a class="button quiet" href={ "?" (query) "format=csv" } { "CSV" }
        }
    }
}

/// The list; where there is JavaScript, it is asked for again every two seconds until somebody pauses it.
fn live(id: &str, filters: &Fields, recent: &[Value]) -> Markup {
    let is_paused = filters.contains_key("pause");
    let query = |leave: &str, add: &str| {
        let kept = filters.iter().filter(|(name, _)| !["fragment", leave].contains(&name.as_str()));
        kept.map(|(name, value)| format!("{}={}&", segment(name), segment(value))).collect::<String>() + add
    };
    html! {
        div id="recent" hx-get=[(!is_paused).then(|| format!("/actions/{id}?{}", query("", "fragment=recent")))]
            hx-trigger=[(!is_paused).then_some("every 2s")] hx-swap="outerHTML" {
            p class="row" {
                @if is_paused { a class="button quiet" href={ "?" (query("pause", "")) "#recent" } { "Go on" } }
                @else { a class="button quiet" href={ "?" (query("", "pause=yes")) "#recent" } { "Pause" } }
            }
            (invocations::table(recent))
        }
    }
}

async fn recent(console: &Console, id: &str, filters: &Fields, most: i32) -> Result<Vec<Value>, PageError> {
    let given = |name: &str| filters.get(name).map(String::as_str).filter(|value| !value.is_empty());
    let since = match given("since") {
        None => Since::Always,
        Some(text) => Since::read(text).map_err(PageError::Refused)?,
    };
    let wanted = Wanted {
        action: Some(id),
        project: None,
        status: given("status"),
        since,
        most: if ["test", "override", "trigger"].iter().any(|name| given(name).is_some()) { FILE } else { most },
    };
    let mut found = rows(&control::invocations(&console.database, &wanted).await?)?;
    for (name, field) in [("test", "test"), ("override", "overrode")] {
        if let Some(value) = given(name) {
            found.retain(|one| (one[field] == true) == (value == "true"));
        }
    }
    if let Some(trigger) = given("trigger") {
        found.retain(|one| one["trigger"] == trigger);
    }
    found.truncate(usize::try_from(most).unwrap_or_default());
    Ok(found)
}

async fn csv(console: &Console, id: &str, filters: &Fields) -> Result<Response, PageError> {
    let mut file = COLUMNS.join(",") + "\r\n";
    for one in recent(console, id, filters, FILE).await? {
        let line: Vec<String> = COLUMNS.iter().map(|column| quoted(&text(&one, column))).collect();
        file.push_str(&(line.join(",") + "\r\n"));
    }
    Ok(([(CONTENT_TYPE, "text/csv; charset=utf-8")], file).into_response())
}

/// RFC 4180; and a spreadsheet takes nothing of it for a formula.
fn quoted(value: &str) -> String {
    let value = if value.starts_with(['=', '+', '-', '@', '\t', '\r']) { format!("'{value}") } else { value.to_owned() };
    if value.contains([',', '"', '\r', '\n']) { format!("\"{}\"", value.replace('"', "\"\"")) } else { value }
}

/// The triggers, as a form lists them.
pub(super) fn triggers() -> impl Iterator<Item = &'static str> {
    Trigger::ALL.iter().map(|trigger| trigger.as_str())
}
