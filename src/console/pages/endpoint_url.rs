//! `/endpoint-url`: what the fleet would say to a URL, while somebody types it.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Query, State};
use maud::{Markup, html};
use tokio::time::Instant;

use crate::console::ways_in::Person;
use crate::console::{Console, Fields};
use crate::egress::{Addresses, Checked};

/// Who types does not wait longer for a name server.
const PATIENCE: Duration = Duration::from_secs(2);

/// `GET /endpoint-url?endpoint_url=…`
pub async fn judge(State(console): State<Arc<Console>>, _: Person, Query(fields): Query<Fields>) -> Markup {
    let url = fields.get("endpoint_url").map(|url| url.trim()).unwrap_or_default();
    if url.is_empty() {
        return html! {};
    }
    let Checked { verdict, reason } = console.egress.check(url, Addresses::Asked(Instant::now() + PATIENCE)).await;
    html! { span class=(if verdict == "allowed" { "good" } else { "bad" }) { (verdict) } ": " (reason) }
}
