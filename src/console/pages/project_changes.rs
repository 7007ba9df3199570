//! `POST /projects/{id}/{change}`: the toggle, the roles, the people.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Redirect, Response};
use serde_json::json;

use super::segment;
use crate::console::Console;
use crate::console::error::PageError;
use crate::console::sent::Sent;
use crate::console::ways_in::Person;
use crate::store::{candidates, projects};

/// Makes the change, and leads back to the project.
pub async fn make(
    State(console): State<Arc<Console>>,
    person: Person,
    Path((id, change)): Path<(String, String)>,
    Sent(fields): Sent,
) -> Result<Response, PageError> {
    person.may_change(&console, &id, &fields).await?;
    if projects::show(&console.database, &id).await?.is_none() {
        return Err(PageError::NotFound);
    }
    let field = |name: &str| fields.get(name).map(|value| value.trim()).unwrap_or_default();
    match change.as_str() {
        "override" => {
            let on = match field("roles_action_override") {
                "true" => true,
                "false" => false,
                other => return Err(PageError::Refused(format!("roles_action_override is {other:?}; accepted: true, false"))),
            };
            projects::upsert(&console.database, &id, None, Some(on), person.actor()).await?;
        }
        "roles" => {
            let slugs = lines(field("role_slugs"));
            projects::set_roles(&console.database, &id, &slugs, person.actor()).await?;
        }
        "break-glass" => {
            let users = lines(field("break-glass_users"));
            candidates::set_break_glass(&console.database, &id, &users, person.actor()).await?;
        }
        "members" => {
            projects::set_members(&console.database, &id, &members(field("members"))?, person.actor()).await?;
        }
        _ => return Err(PageError::NotFound),
    }
    Ok(Redirect::to(&format!("/projects/{}", segment(&id))).into_response())
}

fn lines(text: &str) -> Vec<String> {
    text.lines().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()).collect()
}

/// One person a line, address and role, as the interface takes them.
fn members(lines: &str) -> Result<String, PageError> {
    let read = |line: &str| match line.split_whitespace().collect::<Vec<_>>()[..] {
        [email, role] => Ok(json!({"email": email, "role": role})),
        _ => Err(PageError::Refused(format!(
            "members has the line {line:?}; accepted is an address and a role, such as: ada@acme.com owner"
        ))),
    };
    let people = lines.lines().filter(|line| !line.trim().is_empty()).map(read).collect::<Result<Vec<_>, _>>()?;
    Ok(json!(people).to_string())
}
