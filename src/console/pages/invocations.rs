//! `/invocations`, and the lists of invocations that other pages show: filters that live in the URL, a
//! file of it, and what is new as it comes.

use std::sync::Arc;

use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use maud::{Markup, html};
use serde_json::Value;

use super::layout::page;
use super::{badge, behind, literal, moment, ms, rows, segment, text};
use crate::console::error::PageError;
use crate::console::ways_in::Person;
use crate::console::{Console, Fields, csv};
use crate::domain::{Status, Trigger};
use crate::store::console::{self, Listed};
use crate::store::control::Since;

/// The columns of the file: those of `actions.recent_invocations`.
const COLUMNS: [&str; 25] = [
    "invocation_id",
    "event_id",
    "action_id",
    "project_id",
    "trigger",
    "status",
    "decision",
    "http_status",
    "duration_ms",
    "queue_ms",
    "error",
    "response_sha256",
    "overrode",
    "test",
    "deny_code",
    "deny_reason",
    "dropped",
    "enqueued_at",
    "finished_at",
    "worker",
    "action_version",
    "outcome",
    "phases",
    "error_code",
    "canary",
];
/// How many a page shows.
const PAGE: i32 = 50;
/// How many of the newest are looked at where some are filtered out, so that no page takes long.
const LOOKED_AT: i32 = 2_000;
/// How many a file has at most.
const FILE: i32 = 5_000;

/// A list on a page, and what is left of it by the query.
pub struct List<'a> {
    /// The page's own path.
    path: String,
    fields: &'a Fields,
    listed: Listed<'a>,
}

impl<'a> List<'a> {
    /// The list of an action, a project, or all, on the page at `path`. Refuses what no filter can be.
    pub fn read(path: String, action: Option<&'a str>, project: Option<&'a str>, fields: &'a Fields) -> Result<Self, PageError> {
        let given = |name: &str| fields.get(name).map(String::as_str).filter(|value| !value.is_empty());
        let refused = |name: &str, value: &str, accepted: &str| PageError::Refused(format!("{name} is {value:?}; {accepted}"));
        let yes_or_no = |name: &str| match given(name) {
            None => Ok(None),
            Some("true") => Ok(Some(true)),
            Some("false") => Ok(Some(false)),
            Some(other) => Err(refused(name, other, "accepted: true, false")),
        };
        let one_of = |name: &str, known: Vec<&str>| match given(name) {
            Some(value) if !known.contains(&value) => Err(refused(name, value, &format!("accepted: {}", known.join(", ")))),
            value => Ok(value),
        };
        let since = match given("since") {
            None => Since::Always,
            Some(text) => Since::read(text).map_err(|accepted| refused("since", text, &accepted))?,
        };
        let listed = Listed {
            action,
            project,
            since,
            status: one_of("status", statuses().collect())?,
            trigger: one_of("trigger", triggers().collect())?,
            test: yes_or_no("test")?,
            overrode: yes_or_no("override")?,
        };
        Ok(Self { path, fields, listed })
    }

    /// Whether the query asks for the file.
    pub fn is_file(&self) -> bool {
        self.fields.get("format").is_some_and(|format| format == "csv")
    }

    fn is_paused(&self) -> bool {
        self.fields.contains_key("pause")
    }

    fn filters(&self) -> bool {
        let Listed { status, trigger, test, overrode, .. } = self.listed;
        status.is_some() || trigger.is_some() || test.is_some() || overrode.is_some()
    }

    async fn rows(&self, console: &Console, most: i32) -> Result<Vec<Value>, PageError> {
        let looked_at = if self.filters() { most.max(LOOKED_AT) } else { most };
        rows(&console::listed(&console.database, &self.listed, looked_at, most).await?)
    }

    /// The file.
    pub async fn file(&self, console: &Console) -> Result<Response, PageError> {
        Ok(csv::file(&COLUMNS, &self.rows(console, FILE).await?))
    }

    /// What changes while somebody looks.
    pub async fn table(&self, console: &Console) -> Result<Markup, PageError> {
        let found = self.rows(console, PAGE).await?;
        Ok(html! {
            (table(&found))
            @if self.filters() && found.len() < usize::try_from(PAGE).unwrap_or_default() {
                p class="hint" { "Filtered from the newest " (LOOKED_AT) " of this list; what is older is found in SQL." }
            }
        })
    }

    /// The whole list: filters, buttons, table, SQL.
    pub async fn show(&self, console: &Console) -> Result<Markup, PageError> {
        let table = self.table(console).await?;
        let live = (!self.is_paused()).then(|| format!("{}/live?{}", self.path, self.query("", "")));
        Ok(html! {
            (self.form())
            p class="row" {
                @if self.is_paused() { a class="button quiet" href={ "?" (self.query("pause", "")) "#recent" } { "Go on" } }
                @else { a class="button quiet" href={ "?" (self.query("", "pause=yes")) "#recent" } { "Pause" } }
                a class="button quiet" href={ "?" (self.query("", "format=csv")) } { "CSV" }
            }
            // Where there is no JavaScript, reloading the page shows what is new.
            div id="recent" hx-ext=[live.as_ref().map(|_| "sse")] sse-connect=[live.as_ref()] sse-swap=[live.as_ref().map(|_| "message")] { (table) }
            (behind(&self.sql()))
        })
    }

    /// The query without one field and with something more.
    fn query(&self, without: &str, more: &str) -> String {
        let kept = self.fields.iter().filter(|(name, value)| name.as_str() != without && !value.is_empty());
        kept.map(|(name, value)| format!("{}={}&", segment(name), segment(value))).collect::<String>() + more
    }

    fn sql(&self) -> String {
        let Listed { action, project, status, trigger, test, overrode, .. } = self.listed;
        let mut arguments: Vec<String> = Vec::new();
        let mut given = |name: &str, value: Option<String>| arguments.extend(value.map(|value| format!("{name} => {value}")));
        given("action_id", action.map(literal));
        given("project_id", project.map(literal));
        given("status", status.map(literal));
        match self.listed.since {
            Since::Always => {}
            Since::Ago(ago) => given("since", Some(format!("now() - interval '{} s'", ago.as_secs()))),
            Since::At(_) => given("since", self.fields.get("since").map(|since| literal(since))),
        }
        given("n", Some(PAGE.to_string()));
        let rest = [
            trigger.map(|trigger| format!("trigger = {}", literal(trigger))),
            test.map(|test| if test { "test" } else { "not test" }.to_owned()),
            overrode.map(|overrode| if overrode { "overrode" } else { "not overrode" }.to_owned()),
        ];
        let rest: Vec<String> = rest.into_iter().flatten().collect();
        let filter = if rest.is_empty() { String::new() } else { format!(" where {}", rest.join(" and ")) };
        format!("select * from actions.find_invocations({}){filter};", arguments.join(", "))
    }

    fn form(&self) -> Markup {
        let is = |name: &str, value: &str| self.fields.get(name).is_some_and(|given| given == value);
        let choice = |label: &str, name: &str, options: &[(&str, &str)]| {
            html! { label { (label) select name=(name) { @for (value, word) in options { option value=(value) selected[is(name, value)] { (word) } } } } }
        };
        let any_of = |words: Vec<&'static str>| -> Vec<(&str, &str)> {
            std::iter::once(("", "any")).chain(words.into_iter().map(|word| (word, word))).collect()
        };
        html! {
            form class="row" method="get" action=(self.path) {
                (choice("Status", "status", &any_of(statuses().collect())))
                (choice("Trigger", "trigger", &any_of(triggers().collect())))
                (choice("Test", "test", &[("", "any"), ("true", "tests"), ("false", "no tests")]))
                (choice("Override", "override", &[("", "any"), ("true", "overrode"), ("false", "did not")]))
                (choice("Since", "since", &[("", "any time"), ("15m", "15 minutes"), ("1h", "1 hour"), ("24h", "24 hours"), ("7d", "7 days")]))
                button class="quiet" { "Filter" }
            }
        }
    }
}

/// `GET /invocations`: of all projects for operators; others choose one of theirs.
pub async fn show(State(console): State<Arc<Console>>, person: Person, Query(fields): Query<Fields>) -> Result<Response, PageError> {
    if !person.is_operator() {
        let projects = rows(&console::projects(&console.database, person.whose()).await?)?;
        let body = html! { ul { @for project in &projects { li { a href={ "/projects/" (segment(&text(project, "project_id"))) "#recent" } { (text(project, "name")) } } } } };
        return Ok(page(&person, "Invocations", &body).into_response());
    }
    let list = List::read("/invocations".to_owned(), None, None, &fields)?;
    if list.is_file() {
        return list.file(&console).await;
    }
    Ok(page(&person, "Invocations", &list.show(&console).await?).into_response())
}

/// The rows as a table.
pub fn table(invocations: &[Value]) -> Markup {
    html! {
        div class="wide" tabindex="0" role="region" aria-label="Invocations" { table {
            thead { tr { th { "Invocation" } th { "When" } th { "Trigger" } th { "Status" } th class="number" { "HTTP" } th class="number" { "Call" } th class="number" { "Queue" } th { "Error" } } }
            tbody {
                @for one in invocations {
                    tr {
                        td { a href={ "/invocations/" (text(one, "invocation_id")) } { code { (text(one, "invocation_id")) } } @if one["test"] == true { " test" } }
                        td { (moment(one, "enqueued_at")) }
                        td { (text(one, "trigger")) }
                        td { (badge(&text(one, "status"))) @if one["overrode"] == true { " override" } }
                        td class="number" { (text(one, "http_status")) }
                        td class="number" { (ms(one, "duration_ms")) }
                        td class="number" { (ms(one, "queue_ms")) }
                        td { (text(one, "error")) }
                    }
                }
                @if invocations.is_empty() { tr { td colspan="8" { "None." } } }
            }
        } }
    }
}

/// The triggers, as a form lists them.
pub fn triggers() -> impl Iterator<Item = &'static str> {
    Trigger::ALL.iter().map(|trigger| trigger.as_str())
}

fn statuses() -> impl Iterator<Item = &'static str> {
    ["queued", "running"].into_iter().chain(Status::ALL.iter().map(|status| status.as_str()))
}
