//! `/actions/{id}/{change}`: asks before a change, and makes it.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Redirect, Response};
use maud::html;
use serde_json::{Map, Value};

use super::action::known;
use super::layout::{page, token};
use super::{Page, row, rows, text};
use crate::console::error::PageError;
use crate::console::sent::Sent;
use crate::console::ways_in::{Person, Right};
use crate::console::{Console, Fields};
use crate::store::{candidates, console, control};

/// A week, in seconds: how long both secrets count after a rotation.
const OVERLAP_S: i32 = 7 * 86_400;
/// What cannot be undone.
const FINAL: [&str; 3] = ["delete", "finish", "forget"];
/// What of a version can be set.
const SETTABLE: [&str; 12] = [
    "endpoint_url",
    "name",
    "timeout_ms",
    "fail_mode",
    "on_killed",
    "require_response_signature",
    "check_every_s",
    "condition",
    "record_events",
    "record_hours",
    "last_known_s",
    "recovery",
];

/// The button, and what it does.
fn described(change: &str) -> Option<(&'static str, &'static str)> {
    Some(match change {
        "test" => ("Send test event", "A made-up event goes to the endpoint on the real path. Nobody's sign-in depends on it."),
        "enable" => ("Enable", "Events of this trigger go to the endpoint from now on."),
        "disable" => ("Disable", "Nothing is sent to the endpoint any more; people pass as if there were no action."),
        "kill" => (
            "Kill",
            "Nothing is sent to the endpoint until it is re-enabled; events are decided by “On killed”. Owners and admins get a mail.",
        ),
        "reenable" => ("Re-enable", "The kill is taken back, and what was before counts no more."),
        "rotate" => (
            "Rotate secret",
            "A new secret is made. For a week requests are signed with both, so that your endpoint can take the new one meanwhile.",
        ),
        "finish" => {
            ("Finish rotation", "The previous secret counts no more. An endpoint that has only that one refuses every request from now on.")
        }
        "promote" => ("Promote", "The candidate becomes the current version: it decides for everybody from now on."),
        "withdraw" => ("Withdraw", "The candidate is ended, and the current version decides for everybody."),
        "forget" => (
            "Forget recorded events",
            "Everything that was recorded of this action is erased. New events are recorded until the setting is 0.",
        ),
        "secret" => ("Show secret", "The signing secret is shown on the next page. That is written into the audit log."),
        "delete" => ("Delete", "The action ends for good, and its secret with it. Its invocations stay until their retention ends."),
        _ => return None,
    })
}

/// `GET /actions/{id}/{change}`: what it does, and the button.
pub async fn ask(State(console): State<Arc<Console>>, person: Person, Path((id, change)): Path<(String, String)>) -> Page {
    let (action, right) = known(&console, &person, &id).await?;
    let (button, what) = described(&change).ok_or(PageError::NotFound)?;
    if right == Right::Look {
        return Err(PageError::Forbidden("Only owners and admins of the project may change it."));
    }
    let is_overlapping = change == "rotate" && !action["previous_secret_until"].is_null();
    let is_final = FINAL.contains(&change.as_str()) || is_overlapping;
    let body = html! {
        p { strong { (text(&action, "name")) } ", " (text(&action, "trigger")) ", " (text(&action, "endpoint_url")) }
        @if is_overlapping { div class="notice" { "A rotation is going on: the secret from before it stops counting at once." } }
        p { (what) @if is_final { " This cannot be undone." } }
        div class="row" {
            form method="post" action={ "/actions/" (id) "/" (change) } {
                (token(&person))
                @if change == "rotate" { input type="hidden" name="secret_version" value=(text(&action, "secret_version")); }
                @if change == "kill" { label { "Reason" input name="reason" maxlength="500" required; } }
                @if is_final { input type="hidden" name="confirmed" value="yes"; }
                button class=(if is_final { "danger" } else { "" }) { (button) }
            }
            a class="button quiet" href={ "/actions/" (id) } { "Back" }
        }
    };
    Ok(page(&person, button, &body))
}

/// `POST /actions/{id}/{change}`
pub async fn make(
    State(console): State<Arc<Console>>,
    person: Person,
    Path((id, change)): Path<(String, String)>,
    Sent(fields): Sent,
) -> Result<Response, PageError> {
    let (action, _) = known(&console, &person, &id).await?;
    let project = text(&action, "project_id");
    person.may_change(&console, &project, &fields).await?;
    let (database, actor) = (&console.database, person.actor());
    // A page that is loaded again must not do it again.
    let meant = fields.get("secret_version").filter(|_| change == "rotate");
    if meant.is_some_and(|version| *version != text(&action, "secret_version")) {
        return Err(PageError::Refused("The secret was rotated meanwhile. “Show secret” shows the new one.".to_owned()));
    }
    let is_overlapping = change == "rotate" && !action["previous_secret_until"].is_null();
    if (FINAL.contains(&change.as_str()) || is_overlapping) && fields.get("confirmed").is_none_or(|given| given != "yes") {
        return Ok(ask(State(Arc::clone(&console)), person, Path((id, change))).await.into_response());
    }
    match change.as_str() {
        "test" => {
            let (invocation, _) = control::send_test(database, &id).await?;
            return Ok(Redirect::to(&format!("/invocations/{invocation}")).into_response());
        }
        "enable" => drop(control::set_enabled(database, &id, true, actor).await?),
        "disable" => drop(control::set_enabled(database, &id, false, actor).await?),
        "kill" => drop(control::kill(database, &id, fields.get("reason").map(|reason| reason.trim()).unwrap_or_default(), actor).await?),
        "reenable" => drop(control::reenable(database, &id, actor).await?),
        "promote" => drop(candidates::promote(database, &id, actor).await?),
        "withdraw" => drop(candidates::withdraw(database, &id, actor).await?),
        "forget" => drop(candidates::forget_events(database, &id, actor).await?),
        "finish" => drop(control::finish_rotation(database, &id, actor).await?),
        "restore" => restore(&console, &id, &fields, actor).await?,
        "delete" => {
            control::delete(database, &id, actor).await?;
            return Ok(Redirect::to(&format!("/projects/{}", super::segment(&project))).into_response());
        }
        "rotate" => {
            let rotated = row(&control::rotate_secret(database, &id, actor, OVERLAP_S).await?)?;
            return Ok(secret_page(&console, &person, &rotated).await?.into_response());
        }
        "secret" => {
            if console.keys.is_some() {
                control::note_secret_revealed(database, &id, actor).await?;
            }
            return Ok(secret_page(&console, &person, &action).await?.into_response());
        }
        _ => return Err(PageError::NotFound),
    }
    Ok(Redirect::to(&format!("/actions/{id}")).into_response())
}

/// Sets what an earlier version said; a new version comes of it.
async fn restore(console: &Console, id: &str, fields: &Fields, actor: &str) -> Result<(), PageError> {
    let wanted = fields.get("version").map(String::as_str).unwrap_or_default();
    let versions = rows(&console::versions(&console.database, id).await?)?;
    let version = versions.iter().find(|version| text(version, "version") == wanted);
    let version =
        version.ok_or_else(|| PageError::Refused(format!("version is {wanted:?}; accepted is a number of the list of versions")))?;
    let changes: Map<String, Value> = SETTABLE.iter().map(|field| ((*field).to_owned(), version[*field].clone())).collect();
    control::update(&console.database, id, &Value::Object(changes).to_string(), actor).await?;
    Ok(())
}

/// The signing secret, once. Whoever reloads the page asks again, and the audit log says so.
pub(super) async fn secret_page(console: &Console, person: &Person, action: &Value) -> Page {
    let id = text(action, "action_id");
    let secret = match &console.keys {
        None => None,
        Some(keys) => {
            let version = action["secret_version"].as_i64().and_then(|version| i32::try_from(version).ok()).unwrap_or_default();
            let recorded = text(action, "secret_key_id");
            let key_id = if recorded.is_empty() {
                let made = keys.derive(keys.newest_id(), &id, version).ok_or(PageError::NotFound)?;
                control::record_secret(&console.database, &id, version, keys.newest_id(), &made.fingerprint()).await?
            } else {
                recorded
            };
            keys.derive(&key_id, &id, version)
        }
    };
    let body = html! {
        @match &secret {
            Some(secret) => {
                p { "Put this into your endpoint's configuration now. It is not shown again unless you ask, and asking is written into the audit log." }
                pre { code { (secret.reveal()) } }
            }
            None => p { "This console does not hold the root key of this secret, so it cannot show it. Your operator can: " code { "actionsctl action secret " (id) } }
        }
        p class="row" { a class="button" href={ "/actions/" (id) } { "To the action" } }
    };
    Ok(page(person, "Signing secret", &body))
}
