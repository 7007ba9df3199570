//! A list of invocations, as several pages show it.

use maud::{Markup, html};
use serde_json::Value;

use super::{badge, moment, ms, text};

/// The rows as a table.
pub fn table(invocations: &[Value]) -> Markup {
    html! {
        div class="wide" { table {
            tr { th { "Invocation" } th { "When" } th { "Status" } th class="number" { "HTTP" } th class="number" { "Call" } th class="number" { "Queue" } th { "Error" } }
            @for one in invocations {
                tr {
                    td { a href={ "/invocations/" (text(one, "invocation_id")) } { code { (text(one, "invocation_id")) } } @if one["test"] == true { " test" } }
                    td { (moment(one, "enqueued_at")) }
                    td { (badge(&text(one, "status"))) @if one["overrode"] == true { " override" } }
                    td class="number" { (text(one, "http_status")) }
                    td class="number" { (ms(one, "duration_ms")) }
                    td class="number" { (ms(one, "queue_ms")) }
                    td { (text(one, "error")) }
                }
            }
            @if invocations.is_empty() { tr { td colspan="7" { "None." } } }
        } }
    }
}
