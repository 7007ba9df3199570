//! `/`: is the fleet well, and if not, whose fault is it; what needs a person.

use std::sync::Arc;

use axum::extract::{Query, State};
use maud::{Markup, html};
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::charts::{self, Line};
use super::layout::page;
use super::{Page, badge, behind, moment, ms, row, rows, text};
use crate::console::error::PageError;
use crate::console::ways_in::Person;
use crate::console::{Console, Fields};
use crate::store::console;

/// `GET /`
pub async fn show(State(console): State<Arc<Console>>, person: Person, Query(query): Query<Fields>) -> Page {
    let wanted = query.get("window").map(String::as_str).unwrap_or("1h");
    let window = WINDOWS
        .iter()
        .find(|window| window.name == wanted)
        .ok_or_else(|| PageError::Refused(format!("window is {wanted:?}; accepted: {}", WINDOWS.map(|window| window.name).join(", "))))?;
    let attention = rows(&console::attention(&console.database, person.whose()).await?)?;
    let warned = rows(&console::warned(&console.database, person.whose()).await?)?;
    let fleet = row(&console::fleet(&console.database).await?)?;
    let body = html! {
        (health(&fleet["health"], person.is_operator()))
        (needs(&attention, &warned))
        @if person.is_operator() {
            (failing(&rows(&console::failing_mails(&console.database).await?)?))
            (numbers(&fleet["queue"]))
            (traffic(window, &row(&console::traffic(&console.database, window.lasts_s, window.step_s).await?)?))
            (latency(&fleet["latency"]))
            (processes(&fleet["processes"]))
        }
    };
    Ok(page(&person, "Overview", &body))
}

/// The reasons may name other customers, so only operators read them.
fn health(health: &Value, with_reasons: bool) -> Markup {
    let status = text(health, "status");
    html! {
        div class={ "notice" @if status == "well" { " good" } } {
            "The fleet is " (badge(&status)) @if with_reasons && !text(health, "why").is_empty() { " " (text(health, "why")) }
        }
    }
}

fn needs(actions: &[Value], warned: &[Value]) -> Markup {
    html! {
        h2 { "What needs a person" }
        @if actions.is_empty() && warned.is_empty() {
            p { "Nothing." }
        } @else {
            div class="wide" tabindex="0" role="region" aria-label="What needs a person" { table {
                tr { th { "Action" } th { "Project" } th { "Why" } th { "Since or until" } }
                @for action in warned {
                    tr {
                        td { a href={ "/actions/" (text(action, "action_id")) } { (text(action, "name")) } }
                        td { a href={ "/projects/" (super::segment(&text(action, "project_id"))) } { (text(action, "project_id")) } }
                        td { (badge("close to a kill")) " " (text(action, "reason")) }
                        td { (moment(action, "at")) }
                    }
                }
                @for action in actions {
                    tr {
                        td { a href={ "/actions/" (text(action, "action_id")) } { (text(action, "name")) } }
                        td { a href={ "/projects/" (super::segment(&text(action, "project_id"))) } { (text(action, "project_id")) } }
                        @if action["killed_at"].is_null() {
                            td { "two secrets count while a rotation overlaps" }
                            td { (moment(action, "previous_secret_until")) }
                        } @else {
                            td { (badge("killed")) " " (text(action, "killed_reason")) }
                            td { (moment(action, "killed_at")) }
                        }
                    }
                }
            } }
        }
    }
}

fn numbers(queue: &Value) -> Markup {
    html! {
        h2 { "Now" }
        div class="cards" {
            @for (name, value) in [
                ("waiting in the queue", text(queue, "queued")),
                ("being called", text(queue, "running")),
                ("oldest waits", ms(queue, "oldest_queued_ms")),
                ("ended in the last minute", text(queue, "finished_last_minute")),
                ("expired in the last minute", text(queue, "expired_last_minute")),
                ("mails given up", text(queue, "mails_refused")),
            ] {
                div class="card" { h3 { (name) } div class="big" { (value) } }
            }
        }
        (behind("select * from actions.queue_health;"))
    }
}

fn latency(latency: &Value) -> Markup {
    let latency: &[Value] = latency.as_array().map(Vec::as_slice).unwrap_or_default();
    html! {
        h2 { "Five minutes by trigger" }
        @if latency.is_empty() {
            p { "Nothing was called." }
        } @else {
            div class="wide" tabindex="0" role="region" aria-label="Five minutes by trigger" { table {
                tr { th { "Trigger" } th class="number" { "Calls" } th class="number" { "Call p50" } th class="number" { "Call p99" }
                    th class="number" { "Overhead p50" } th class="number" { "Overhead p99" } }
                @for one in latency {
                    tr { td { (text(one, "trigger")) } td class="number" { (text(one, "calls")) }
                        @for field in ["duration_p50_ms", "duration_p99_ms", "overhead_p50_ms", "overhead_p99_ms"] { td class="number" { (ms(one, field)) } } }
                }
            } }
        }
        (behind("select * from actions.latency;"))
    }
}

/// How far a chart looks back, and in which steps; both in seconds.
#[derive(Clone, Copy)]
struct Window {
    name: &'static str,
    lasts_s: f64,
    step_s: f64,
}

const WINDOWS: [Window; 3] = [
    Window { name: "1h", lasts_s: 3_600.0, step_s: 60.0 },
    Window { name: "24h", lasts_s: 86_400.0, step_s: 1_800.0 },
    Window { name: "7d", lasts_s: 604_800.0, step_s: 14_400.0 },
];

/// Rate, latency and the share of each status.
fn traffic(window: &Window, traffic: &Value) -> Markup {
    let steps: &[Value] = traffic["steps"].as_array().map(Vec::as_slice).unwrap_or_default();
    let at = |step: &Value| OffsetDateTime::parse(&text(step, "at"), &Rfc3339).map(|at| at.unix_timestamp() as f64).unwrap_or_default();
    let now = OffsetDateTime::now_utc().unix_timestamp() as f64;
    let places: Vec<f64> = steps.iter().map(|step| (1.0 - (now - at(step)) / window.lasts_s).clamp(0.0, 1.0)).collect();
    let line = |name, field: &str| Line { name, values: steps.iter().map(|step| step[field].as_f64()).collect() };
    let ends = (format!("{} ago", window.name), "now");
    let ends = (ends.0.as_str(), ends.1);
    let counts: Vec<(String, f64)> = traffic["statuses"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|one| (text(one, "status"), one["invocations"].as_f64().unwrap_or_default()))
        .collect();
    html! {
        h2 id="traffic" { "Traffic" }
        nav class="row" aria-label="Window" {
            @for one in &WINDOWS {
                a class=(if one.name == window.name { "button" } else { "button quiet" }) aria-current=[(one.name == window.name).then_some("true")] href={ "/?window=" (one.name) "#traffic" } { (one.name) }
            }
        }
        @if steps.is_empty() {
            p { "Nothing yet. A minute is added up five minutes after it is over." }
        } @else {
            div class="charts" {
                (charts::lines("Invocations a second", "/s", &places, &[line("rate", "per_s")], ends))
                (charts::lines("Call", "ms", &places, &[line("p50", "call_p50_ms"), line("p99 of the worst minute", "call_p99_ms")], ends))
                (charts::lines("Overhead, all but the call", "ms", &places, &[line("p50", "overhead_p50_ms"), line("p99 of the worst minute", "overhead_p99_ms")], ends))
                figure { figcaption { "Share of each status" } (charts::shares("Share of each status", &counts)) }
            }
        }
        (behind(&format!("select * from actions.traffic where minute > now() - interval '{} s' order by minute;", window.lasts_s)))
    }
}

/// Mails that somebody waits for in vain.
fn failing(mails: &[Value]) -> Markup {
    html! {
        @if !mails.is_empty() {
            h3 { "Mails that fail" }
            div class="wide" tabindex="0" role="region" aria-label="Mails that fail" { table {
                thead { tr { th { "Written" } th { "Subject" } th { "To" } th class="number" { "Attempts" } th { "Why" } } }
                tbody { @for mail in mails {
                    tr {
                        td { (moment(mail, "created_at")) } td { (text(mail, "subject")) } td { "somebody at " (text(mail, "recipient_domain")) }
                        td class="number" { (text(mail, "attempts")) @if !mail["refused_at"].is_null() { ", given up" } } td { (text(mail, "last_error")) }
                    }
                } }
            } }
            (behind("select * from actions.mails where sent_at is null and last_error is not null order by mail_id desc;"))
        }
    }
}

fn processes(processes: &Value) -> Markup {
    html! {
        h2 { "Processes" }
        div class="wide" tabindex="0" role="region" aria-label="Processes" { table {
            tr { th { "Kind" } th { "Host" } th { "Version" } th class="number" { "In flight" } th { "Last heard" } }
            @for process in processes.as_array().into_iter().flatten() {
                tr {
                    td { (text(process, "kind")) @if process["leads"] == true { " (leads)" } }
                    td { (text(process, "host")) } td { (text(process, "version")) }
                    td class="number" { (text(process, "in_flight")) } td { (moment(process, "heartbeat_at")) }
                }
            }
        } }
        (behind("select * from actions.fleet where alive;"))
    }
}
