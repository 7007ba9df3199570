//! `/actions/{id}/replay` and `/actions/{id}/condition`: what recorded events come to under something new. The
//! page of a replay is sent as it goes, so its progress needs no script.

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use futures_util::{StreamExt, stream};
use maud::{Markup, PreEscaped, html};
use serde_json::Value;

use super::action::known;
use super::layout::{page, token};
use super::{Page, badge, rows, text};
use crate::console::error::PageError;
use crate::console::sent::Sent;
use crate::console::ways_in::{Person, Right};
use crate::console::{Console, Fields};
use crate::replay::{self, Compared, ReplayError, Target, To};
use crate::sign::RootKeys;
use crate::store::trials::{self, Encrypted};
use crate::store::{candidates, console};

/// As many as somebody waits for.
const MOST: i32 = 100;
/// Where the rows come in.
const HERE: &str = "<!-- rows -->";

/// `GET /actions/{id}/replay`
pub async fn ask(State(console): State<Arc<Console>>, person: Person, Path(id): Path<String>, Query(query): Query<Fields>) -> Page {
    let (action, right) = known(&console, &person, &id).await?;
    may(right)?;
    let versions = rows(&console::versions(&console.database, &id).await?)?;
    let wanted = query.get("version").cloned().unwrap_or_else(|| text(&action, "version"));
    let body = html! {
        p { "The last " (MOST) " recorded events of “" (text(&action, "name")) "” are sent again, byte for byte and signed anew, with the header Authio-Mode: replay. Nothing is changed by it." }
        form class="form" method="post" {
            (token(&person))
            label { "Version" select name="version" { @for version in &versions {
                @let number = text(version, "version");
                option value=(number) selected[number == wanted] { (number) ": " (text(version, "endpoint_url")) }
            } } }
            button { "Replay" }
        }
    };
    Ok(page(&person, "Replay", &body))
}

/// `POST /actions/{id}/replay`
pub async fn run(
    State(console): State<Arc<Console>>,
    person: Person,
    Path(id): Path<String>,
    Sent(fields): Sent,
) -> Result<Response, PageError> {
    let (action, _) = known(&console, &person, &id).await?;
    person.may_change(&console, &text(&action, "project_id"), &fields).await?;
    let version = fields.get("version").map(String::as_str).unwrap_or_default();
    let refused = || PageError::Refused(format!("version is {version:?}; accepted is a number of the list of versions"));
    let version = version.parse().map_err(|_| refused())?;
    let keys = console.keys.as_ref().ok_or_else(without_keys)?;
    let target = Target::of(&console.database, keys, &id, To::Version(version)).await.map_err(|error| match error {
        ReplayError::Store(error) => error.into(),
        error => PageError::Refused(error.to_string()),
    })?;
    let mut recorded = trials::recorded(&console.database, &id, MOST).await?;
    recorded.reverse();
    let body = html! {
        p { (recorded.len()) " recorded events go to version " (version) ", one after the other." }
        div class="wide" tabindex="0" role="region" aria-label="Replay" { table {
            thead { tr { th { "Event" } th { "Then" } th { "Now" } th { "Differs in" } th class="number" { "Call" } th { "Error" } } }
            tbody { (PreEscaped(HERE)) }
        } }
        p { a href={ "/actions/" (id) "#candidate" } { "To the action" } }
    };
    let whole = page(&person, &format!("Replay of version {version}"), &body).into_string();
    let (head, tail) = whole.split_once(HERE).unwrap_or((&whole, ""));
    let (head, tail) = (head.to_owned(), tail.to_owned());
    let running = Running { console, target, action: id, left: recorded.into_iter(), sent: 0, differ: 0, tail: Some(tail) };
    let rest = stream::unfold(running, |mut running| async move {
        let next = running.next().await?;
        Some((Ok::<_, Infallible>(next), running))
    });
    let whole = stream::once(std::future::ready(Ok(head))).chain(rest);
    Ok(([(CONTENT_TYPE, "text/html; charset=utf-8")], Body::from_stream(whole)).into_response())
}

/// A replay that is under way.
struct Running {
    console: Arc<Console>,
    target: Target,
    action: String,
    left: std::vec::IntoIter<Encrypted>,
    sent: usize,
    differ: usize,
    tail: Option<String>,
}

impl Running {
    /// The next row, or what follows the last one.
    async fn next(&mut self) -> Option<String> {
        let Some(event) = self.left.next() else {
            let sum = html! { tr { td colspan="6" { strong { (self.sent) " sent again: " (self.sent - self.differ) " the same, " (self.differ) " differ." } } } };
            return Some(sum.into_string() + &self.tail.take()?);
        };
        let read = self.console.keys.as_ref().and_then(|keys| replay::open(keys, &self.action, &event));
        let Some(read) = read else {
            let row = html! { tr { td { code { (event.event_id) } } td colspan="5" { "cannot be read: this console lacks the root key " (event.key_id) } } };
            return Some(row.into_string());
        };
        let compared = self.target.send(&self.console.egress, &event.event_id, read).await;
        self.sent += 1;
        self.differ += usize::from(!compared.differs.is_empty());
        Some(line(&event.event_id, &compared).into_string())
    }
}

fn line(event_id: &str, compared: &Compared) -> Markup {
    let Compared { then, now, error, differs, took } = compared;
    html! {
        tr {
            td { a href={ "/search?q=" (event_id) } { code { (event_id) } } }
            td { (badge(then.status.as_str())) " " (then.decision) }
            td { (badge(now.status.as_str())) " " (now.decision) }
            td { (differs.join(", ")) }
            td class="number" { (format!("{:.1} ms", took.as_secs_f64() * 1000.0)) }
            td { (error.as_deref().unwrap_or_default()) }
        }
    }
}

/// `POST /actions/{id}/condition`: which recorded events would be sent, before it is saved.
pub async fn condition(State(console): State<Arc<Console>>, person: Person, Path(id): Path<String>, Sent(fields): Sent) -> Page {
    let (action, _) = known(&console, &person, &id).await?;
    person.may_change(&console, &text(&action, "project_id"), &fields).await?;
    let condition = fields.get("condition").map(|condition| condition.trim()).unwrap_or_default();
    let keys = console.keys.as_ref().ok_or_else(without_keys)?;
    let recorded = trials::recorded(&console.database, &id, MOST).await?;
    let events: Vec<(String, String)> =
        recorded.iter().filter_map(|event| Some((event.event_id.clone(), own_members(keys, &id, event)?))).collect();
    let bodies: Vec<String> = events.iter().map(|(_, body)| body.clone()).collect();
    let met = candidates::met(&console.database, &bodies, condition).await?;
    let count = met.iter().filter(|met| **met).count();
    let body = html! {
        pre { code { (condition) } }
        p { strong { (count) " of the last " (events.len()) " recorded events meet it" } " and would be sent; the others would be allowed without a call." }
        @if events.is_empty() { p class="hint" { "Nothing is recorded yet. Record events first, and try again when some came." } }
        ul { @for ((event, _), met) in events.iter().zip(&met) { @if !met { li { "not sent: " a href={ "/search?q=" (event) } { code { (event) } } } } } }
        p { "Nothing was saved. Go back to change or save it." }
    };
    Ok(page(&person, "Condition, tried on recorded events", &body))
}

/// The event as auth-core reported it: what was sent, without the fleet's own keys.
fn own_members(keys: &RootKeys, action: &str, event: &Encrypted) -> Option<String> {
    let read = replay::open(keys, action, event)?;
    let mut body: serde_json::Map<String, Value> = serde_json::from_str(&read.body).ok()?;
    for key in ["event_id", "trigger", "occurred_at", "project"] {
        body.remove(key);
    }
    Some(Value::Object(body).to_string())
}

fn may(right: Right) -> Result<(), PageError> {
    if right == Right::Change { Ok(()) } else { Err(PageError::Forbidden("Only owners and admins of the project may change it.")) }
}

fn without_keys() -> PageError {
    PageError::Refused("this console does not hold the root keys, so it cannot read recorded events; set secrets.root_keys_file, or use: actionsctl replay".to_owned())
}
