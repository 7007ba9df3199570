//! `/actions/{id}`: how far from a trip, what it is set to, its versions, what it did lately.

use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use maud::{Markup, html};
use serde_json::Value;

use super::candidate;
use super::invocations::List;
use super::layout::{page, token};
use super::projects::state;
use super::{badge, behind, literal, moment, row, rows, segment, text};
use crate::console::error::PageError;
use crate::console::ways_in::{Person, Right};
use crate::console::{Console, Fields};
use crate::store::console;
use crate::store::control;

/// What a version says, and the reason for each default.
const SETTINGS: [(&str, &str, &str); 12] = [
    ("endpoint_url", "Endpoint URL", "Where the event is posted. https, and never an address of our own network."),
    ("name", "Name", "As your team knows it."),
    ("timeout_ms", "Timeout", "Milliseconds that a person may wait for it, 100 to 5000. 2000 is what people bear without trying again."),
    (
        "fail_mode",
        "Fail mode",
        "Where there is no verdict, open lets the person pass and closed does not. The default is open: an endpoint that is down locks nobody out.",
    ),
    (
        "on_killed",
        "On killed",
        "What happens while the kill-switch holds it: skip lets people pass as if there were no action, deny keeps them out.",
    ),
    ("require_response_signature", "Require response signature", "An answer that is not signed counts as a failure."),
    ("check_every_s", "Check every", "Seconds between two test events that the fleet sends by itself; 0 sends none."),
    (
        "condition",
        "Condition",
        "A jsonpath predicate over the event. What does not meet it is allowed and not sent; what cannot be evaluated is sent.",
    ),
    (
        "record_events",
        "Record events",
        "How many of the newest events are kept, encrypted, to be sent again to something new. 0 keeps none.",
    ),
    ("record_hours", "Record hours", "How long a recorded event is kept."),
    (
        "last_known_s",
        "Last known",
        "Seconds for which what a verdict gave a person still applies where the endpoint fails, on pre_token_mint. 0 applies nothing.",
    ),
    (
        "recovery",
        "Recovery",
        "manual waits for somebody to re-enable a killed action; probe takes the kill back after five test events that end ok.",
    ),
];
/// `GET /actions/{id}`; filters are in the query.
pub async fn show(
    State(console): State<Arc<Console>>,
    person: Person,
    Path(id): Path<String>,
    Query(filters): Query<Fields>,
) -> Result<Response, PageError> {
    let (action, right) = known(&console, &person, &id).await?;
    let list = List::read(format!("/actions/{id}"), Some(&id), None, &filters)?;
    if list.is_file() {
        return list.file(&console).await;
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
        (behind(&format!("select * from actions.action_health where action_id = {};", literal(&id))))
        (settings(&action))
        (secrets(&action))
        (candidate::section(&console, &person, &action, right).await?)
        h2 { "Recent invocations" }
        (list.show(&console).await?)
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
            @if action["killed_at"].is_null() { a class="button quiet" href=(path("kill")) { "Kill" } }
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
        }
        @if !action["previous_secret_until"].is_null() { (rotation(action)) }
    }
}

/// A rotation as steps, each with what the customer does.
fn rotation(action: &Value) -> Markup {
    let is_seen = !action["secret_seen_at"].is_null();
    let steps = [
        (true, "Rotate secret", "A new secret was made. Requests carry both signatures.".to_owned()),
        (
            is_seen,
            "Put the new secret into your endpoint",
            "“Show secret” shows it. Accept a request that either signature proves, and sign answers with the new one.".to_owned(),
        ),
        (
            is_seen,
            "See it used",
            if is_seen {
                format!("An answer was signed with it at {}.", moment(action, "secret_seen_at"))
            } else {
                "“Send test event” tells at once. Only signed answers can tell; where yours are not signed, look into your log.".to_owned()
            },
        ),
        (
            false,
            "Finish rotation",
            format!("Take the old secret out of your endpoint. By itself the rotation ends {}.", moment(action, "previous_secret_until")),
        ),
    ];
    html! {
        h3 { "Rotation" }
        ol class="steps" {
            @for (is_done, step, what) in &steps {
                li { strong { (step) } @if *is_done { " " (badge("done")) } p class="hint" { (what) } }
            }
        }
    }
}

fn history(person: &Person, action: &Value, versions: &[Value], right: Right) -> Markup {
    html! {
        h2 { "Versions" }
        div class="wide" tabindex="0" role="region" aria-label="Versions" { table {
            tr { th class="number" { "Version" } th { "What changed" } th { span class="unseen" { "Restore" } } }
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
