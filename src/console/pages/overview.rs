//! `/`: is the fleet well, and if not, whose fault is it; what needs a person.

use std::sync::Arc;

use axum::extract::State;
use maud::{Markup, html};
use serde_json::Value;

use super::layout::page;
use super::{Page, badge, behind, moment, ms, row, rows, text};
use crate::console::Console;
use crate::console::ways_in::Person;
use crate::store::console;

/// `GET /`
pub async fn show(State(console): State<Arc<Console>>, person: Person) -> Page {
    let attention = rows(&console::attention(&console.database, person.whose()).await?)?;
    let fleet = row(&console::fleet(&console.database).await?)?;
    let body = html! {
        (health(&fleet["health"]))
        (needs(&attention))
        @if person.is_operator() {
            (numbers(&fleet["queue"]))
            (latency(&fleet["latency"]))
            (week(&fleet["days"]))
            (processes(&fleet["processes"]))
        }
    };
    Ok(page(&person, "Overview", &body))
}

fn health(health: &Value) -> Markup {
    let status = text(health, "status");
    html! {
        div class={ "notice" @if status == "well" { " good" } } {
            "The fleet is " (badge(&status)) @if !text(health, "why").is_empty() { ": " (text(health, "why")) }
        }
    }
}

fn needs(actions: &[Value]) -> Markup {
    html! {
        h2 { "What needs a person" }
        @if actions.is_empty() {
            p { "Nothing." }
        } @else {
            div class="wide" { table {
                tr { th { "Action" } th { "Project" } th { "Why" } th { "Since or until" } }
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
            div class="wide" { table {
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

/// Each status of seven days as a bar with its number beside it, readable without colour.
fn week(days: &Value) -> Markup {
    let mut sums: Vec<(String, f64)> = Vec::new();
    for day in days.as_array().into_iter().flatten() {
        let (status, count) = (text(day, "status"), day["invocations"].as_f64().unwrap_or_default());
        match sums.iter_mut().find(|(known, _)| *known == status) {
            Some((_, sum)) => *sum += count,
            None => sums.push((status, count)),
        }
    }
    sums.sort_by(|one, other| other.1.total_cmp(&one.1));
    let total: f64 = sums.iter().map(|(_, count)| count).sum();
    html! {
        h2 { "Seven days by status" }
        @if sums.is_empty() {
            p { "Nothing was counted yet." }
        } @else {
            svg class="chart" role="img" aria-label="Share of each status" viewBox={ "0 0 400 " (sums.len() * 28) } {
                @for (n, (status, count)) in sums.iter().enumerate() {
                    text x="0" y=(n * 28 + 18) { (status) }
                    rect class="track" x="120" y=(n * 28 + 5) width="150" height="18" rx="3" {}
                    rect class="bar" x="120" y=(n * 28 + 5) width=(format!("{:.1}", 150.0 * count / total)) height="18" rx="3" {}
                    text x="278" y=(n * 28 + 18) { (format!("{count:.0} · {:.2} %", 100.0 * count / total)) }
                }
            }
        }
        (behind("select status, sum(invocations) from actions.daily_counts where day > current_date - 7 group by status;"))
    }
}

fn processes(processes: &Value) -> Markup {
    html! {
        h2 { "Processes" }
        div class="wide" { table {
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
