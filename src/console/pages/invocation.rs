//! `/invocations/{id}`: what happened, when, and what to do about it.

use std::sync::Arc;

use axum::extract::{Path, State};
use maud::{Markup, html};
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::candidate::parts;
use super::layout::page;
use super::{Page, badge, behind, literal, moment, ms, row, rows, segment, text};
use crate::console::Console;
use crate::console::error::PageError;
use crate::console::ways_in::Person;
use crate::domain::Status;
use crate::store::{candidates, control};

/// The phases of a call, in their order.
const PHASES: [(&str, &str); 5] = [("dns", "dns"), ("connect", "connect"), ("tls", "tls"), ("first_byte", "first_byte"), ("body", "body")];

/// `GET /invocations/{id}`
pub async fn show(State(console): State<Arc<Console>>, person: Person, Path(id): Path<String>) -> Page {
    let found = control::invocation(&console.database, &id).await?.ok_or(PageError::NotFound)?;
    let invocation = row(&found)?;
    person.right(&console, &text(&invocation, "project_id")).await?;
    let results = rows(&candidates::results(&console.database, &id).await?)?;
    let body = html! {
        p { (badge(&text(&invocation, "status"))) @if invocation["test"] == true { " test event" } }
        @if !text(&invocation, "error").is_empty() { div class="notice" { (text(&invocation, "error")) p class="hint" { (advice(&text(&invocation, "status"))) } } }
        (timeline(&invocation))
        h2 { "What it is" }
        dl class="facts" {
            dt { "Action" } dd { a href={ "/actions/" (text(&invocation, "action_id")) } { (text(&invocation, "action_id")) } " version " (text(&invocation, "action_version")) }
            dt { "Project" } dd { a href={ "/projects/" (segment(&text(&invocation, "project_id"))) } { (text(&invocation, "project_id")) } }
            dt { "Trigger" } dd { (text(&invocation, "trigger")) }
            dt { "Event" } dd { code { (text(&invocation, "event_id")) } }
            dt { "Enqueued" } dd { (moment(&invocation, "enqueued_at")) }
            dt { "Finished" } dd { (moment(&invocation, "finished_at")) }
            dt { "HTTP status" } dd { (text(&invocation, "http_status")) }
            dt { "Worker" } dd { (text(&invocation, "worker")) }
        }
        (request(&invocation))
        (dropped(&invocation["outcome"]))
        h2 { "Outcome" }
        @if invocation["outcome"].is_null() { p { "Not decided yet." } } @else { pre { code { (pretty(&invocation["outcome"])) } } }
        (candidate(&invocation, &results))
        (behind(&format!("select * from actions.recent_invocations where invocation_id = {};", literal(&id))))
    };
    Ok(page(&person, &id, &body))
}

/// The headers with which it was sent. The signature proves the secret, so it is not shown; the event is
/// gone since it was delivered.
fn request(invocation: &Value) -> Markup {
    if invocation["duration_ms"].is_null() {
        return html! { h2 { "Request" } p { "Nothing was sent." } };
    }
    html! {
        h2 { "Request" }
        dl class="facts" {
            dt { "Authio-Action-Id" } dd { (text(invocation, "action_id")) }
            dt { "Authio-Trigger" } dd { (text(invocation, "trigger")) }
            dt { "Authio-Event-Id" } dd { (text(invocation, "event_id")) }
            dt { "Authio-Signature" } dd { "t=…,v1=… (not kept)" }
            dt { "Content-Type" } dd { "application/json" }
        }
    }
}

/// What a candidate made of the same event; of a canary that is the outcome above.
fn candidate(invocation: &Value, results: &[Value]) -> Markup {
    html! {
        @if !results.is_empty() {
            h2 id="candidate" { "Candidate" }
            @for one in results {
                p {
                    (badge(&text(one, "status"))) " version " (text(one, "version"))
                    @if invocation["canary"] == true { ", which decided" } @else { ", which decided nothing" }
                    " in " (ms(one, "duration_ms"))
                    @if one["differs"] != serde_json::json!([]) { "; differs in " (parts(one)) }
                }
                pre { code { (pretty(&one["outcome"])) } }
            }
        }
    }
}

/// What of the verdict was not applied, and why.
fn dropped(outcome: &Value) -> Markup {
    let dropped = outcome["dropped"].as_array().map(Vec::as_slice).unwrap_or_default();
    html! {
        @if !dropped.is_empty() {
            h2 { "Dropped from the verdict" }
            div class="wide" tabindex="0" role="region" aria-label="Dropped from the verdict" { table {
                tr { th { "Field" } th { "Why" } th { "Values" } }
                @for one in dropped {
                    @let values: Vec<&str> = one["values"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
                    tr { td { (text(one, "field")) } td { (text(one, "why")) } td { (values.join(", ")) } }
                }
            } }
        }
    }
}

fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default()
}

/// The wait and each phase of the call, drawn to scale, with the numbers in words.
fn timeline(invocation: &Value) -> Markup {
    let mut spans = vec![("queue", invocation["queue_ms"].as_f64().unwrap_or_default())];
    spans.extend(PHASES.iter().filter_map(|(field, name)| invocation["phases"][*field].as_f64().map(|took| (*name, took))));
    spans.extend(rest(invocation).map(|took| ("written", took)));
    let whole: f64 = spans.iter().map(|(_, took)| took).sum::<f64>().max(0.001);
    let mut from = 0.0;
    let placed: Vec<(usize, &str, f64, f64)> = spans
        .iter()
        .enumerate()
        .map(|(n, (name, took))| {
            let start = from;
            from += took;
            (n, *name, start, *took)
        })
        .collect();
    html! {
        h2 { "Timeline" }
        svg class="chart" role="img" aria-label="The wait in the queue and each phase of the call, to scale" viewBox={ "0 0 400 " (placed.len() * 28) } {
            @for (n, name, start, took) in placed {
                text x="0" y=(n * 28 + 18) { (name) }
                rect class="track" x="75" y=(n * 28 + 5) width="250" height="18" rx="3" {}
                rect class="bar" x=(format!("{:.1}", 75.0 + 250.0 * start / whole)) y=(n * 28 + 5) width=(format!("{:.1}", (250.0 * took / whole).max(1.0))) height="18" rx="1" {}
                text x="332" y=(n * 28 + 18) { (format!("{took:.2} ms")) }
            }
        }
        p class="hint" {
            @if !invocation["duration_ms"].is_null() { "The call took " (ms(invocation, "duration_ms")) " in all. " }
            "“queue” ends with the claim; “written” is everything after the call: judged, written back, and told in the same transaction."
        }
    }
}

/// Milliseconds from the end of the call, or of the wait where nothing was called, until the outcome was written.
fn rest(invocation: &Value) -> Option<f64> {
    let at = |field: &str| OffsetDateTime::parse(invocation[field].as_str()?, &Rfc3339).ok();
    let whole = (at("finished_at")? - at("enqueued_at")?).as_seconds_f64() * 1000.0;
    let before = invocation["queue_ms"].as_f64()? + invocation["duration_ms"].as_f64().unwrap_or_default();
    Some((whole - before).max(0.0))
}

/// What helps, by how it ended.
pub(super) fn advice(status: &str) -> &'static str {
    let Ok(status) = status.parse::<Status>() else { return "" };
    match status {
        Status::Ok | Status::Rejected => "",
        Status::Timeout => "Answer sooner, or raise the action's timeout. Do slow work after you have answered.",
        Status::NetworkError => {
            "Check that the name resolves, the port is open and the certificate is valid for that name: actionsctl check-url tells each."
        }
        Status::HttpError => "Look into your endpoint's log at this moment. A 401 says that it has another secret.",
        Status::InvalidResponse => "Answer with a JSON object that has a decision, in at most 64 KiB. Try shows how an answer is read.",
        Status::InvalidSignature => "Sign the raw bytes of the answer with the current secret, and keep the clock right.",
        Status::SsrfBlocked => "Use an https URL whose name leads to public addresses alone.",
        Status::Expired => "The fleet had no result in time; the fault is not your endpoint's. See the overview.",
        Status::Killed => "The kill-switch holds the action. Mend the endpoint, send a test event, then re-enable it.",
    }
}
