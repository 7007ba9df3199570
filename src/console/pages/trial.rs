//! `/try`: one event to any URL, and what would be applied of the answer. Nothing is changed by it.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use maud::{Markup, html};
use serde_json::Value;

use super::invocation::advice;
use super::invocations::triggers;
use super::layout::{page, token};
use super::{Page, badge};
use crate::console::error::PageError;
use crate::console::sent::Sent;
use crate::console::ways_in::Person;
use crate::console::{Console, Fields};
use crate::domain::{FailMode, Outcome, Trigger};
use crate::trial::{self, Exchange, Trial};

/// What most actions are given.
const TIMEOUT: Duration = Duration::from_secs(2);

/// `GET /try`
pub async fn show(person: Person, axum::extract::Query(query): axum::extract::Query<Fields>) -> Page {
    let trigger = query.get("trigger").and_then(|given| given.parse().ok()).unwrap_or(Trigger::PreTokenMint);
    let given = Fields::from([("trigger".to_owned(), trigger.as_str().to_owned()), ("event".to_owned(), template(trigger))]);
    Ok(page(&person, "Try", &html! { (form(&person, &given)) }))
}

/// `POST /try`
pub async fn run(State(console): State<Arc<Console>>, person: Person, Sent(fields): Sent) -> Page {
    person.sent(&fields)?;
    let field = |name: &str| fields.get(name).map(|value| value.trim()).unwrap_or_default();
    let refused = |why: String| PageError::Refused(why);
    let accepted = || format!("Trigger is {:?}; accepted: {}", field("trigger"), triggers().collect::<Vec<_>>().join(", "));
    let trigger: Trigger = field("trigger").parse().map_err(|_| refused(accepted()))?;
    let event = if field("event").is_empty() { template(trigger) } else { field("event").to_owned() };
    let result = match trial::check_event(&event) {
        Err(why) => html! { div class="notice" role="alert" { "Event: " (why) "; accepted is a JSON object." } },
        Ok(()) => {
            let trial = Trial {
                url: field("endpoint_url"),
                secret: field("secret"),
                trigger,
                event: &event,
                timeout: TIMEOUT,
                fail_mode: FailMode::Open,
                require_response_signature: false,
                roles: &[],
                roles_override: true,
            };
            let (exchange, judgement) = trial.run(&console.egress).await;
            outcome(&exchange, judgement.status.as_str(), judgement.error.as_deref(), &judgement.outcome)
        }
    };
    Ok(page(&person, "Try", &html! { (result) (form(&person, &fields)) }))
}

fn template(trigger: Trigger) -> String {
    serde_json::to_string_pretty(&trial::sample(trigger)).unwrap_or_default()
}

fn form(person: &Person, given: &Fields) -> Markup {
    let value = |name: &str| given.get(name).map(String::as_str).unwrap_or_default();
    html! {
        form class="form" method="post" action="/try" {
            (token(person))
            label { "Trigger" select name="trigger" { @for trigger in triggers() { option value=(trigger) selected[value("trigger") == trigger] { (trigger) } } } }
            label { "Endpoint URL" input name="endpoint_url" inputmode="url" value=(value("endpoint_url")) placeholder="https://hooks.example.com/authio" required; }
            // Not sent back: whoever looks over a shoulder, or at the page's source, does not see it.
            label { "Secret" input name="secret" type="password" autocomplete="off" placeholder="asec_…"; span class="hint" { "signs the request; it is kept nowhere" } }
            label { "Event" textarea name="event" rows="14" spellcheck="false" { (value("event")) } }
            button { "Try" }
        }
        p class="hint" { "The request goes out under the rules of the fleet, so an address inside a network is refused. Nothing is changed by it, and no person's sign-in depends on it." }
    }
}

fn outcome(exchange: &Exchange, status: &str, error: Option<&str>, outcome: &Outcome) -> Markup {
    let decided: Value = serde_json::from_str(&outcome.to_json()).unwrap_or_default();
    let answered = exchange.answer.as_ref().ok();
    html! {
        h2 { "What came of it" }
        p { (badge(status)) " in " (format!("{:.1} ms", exchange.took.as_secs_f64() * 1000.0)) }
        @if let Some(error) = error { div class="notice" { (error) p class="hint" { (advice(status)) } } }
        dl class="facts" {
            @if let Some(answer) = answered { dt { "HTTP status" } dd { (answer.http_status) } }
            @if let Some(check) = &exchange.check { dt { "Response signature" } dd { (trial::word(check)) } }
            dt { "Phases" } dd { (exchange.phases.to_json().unwrap_or_default()) " ms" }
            @for dropped in &outcome.dropped { dt { "Dropped " (dropped.field) } dd { (dropped.why) @if !dropped.values.is_empty() { ": " (dropped.values.join(", ")) } } }
        }
        h2 { "auth-core would" }
        pre { code { (serde_json::to_string_pretty(&decided).unwrap_or_default()) } }
        @if let Some(body) = exchange.shown() { h2 { "The answer" } pre { code { (body) } } }
        details { summary { "What was sent" } pre { code { "authio-signature: " (exchange.signature) "\n\n" (exchange.body) } } }
        h2 { "Again" }
    }
}
