//! `/projects` and `/projects/{id}`: who may what, roles, and the project's actions.

use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use maud::{Markup, html};
use serde_json::Value;

use super::invocations::List;
use super::layout::{page, token};
use super::{Page, badge, behind, literal, moment, row, rows, segment, text};
use crate::console::error::PageError;
use crate::console::ways_in::{Person, Right};
use crate::console::{Console, Fields};
use crate::store::{candidates, console, control, projects};

/// `GET /projects`
pub async fn list(State(console): State<Arc<Console>>, person: Person) -> Page {
    let projects = rows(&console::projects(&console.database, person.whose()).await?)?;
    let body = html! {
        @if projects.is_empty() {
            p { "You see no project. An owner of a project adds you to its members." }
        } @else {
            div class="wide" tabindex="0" role="region" aria-label="Projects" { table {
                tr { th { "Project" } th { "Name" } th class="number" { "Actions" } th class="number" { "Killed" } }
                @for project in &projects {
                    tr {
                        td { a href={ "/projects/" (segment(&text(project, "project_id"))) } { (text(project, "project_id")) } }
                        td { (text(project, "name")) }
                        td class="number" { (text(project, "actions")) } td class="number" { (text(project, "killed")) }
                    }
                }
            } }
        }
        (behind("select * from actions.projects order by project_id;"))
    };
    Ok(page(&person, "Projects", &body))
}

/// `GET /projects/{id}`
pub async fn show(
    State(console): State<Arc<Console>>,
    person: Person,
    Path(id): Path<String>,
    Query(filters): Query<Fields>,
) -> Result<Response, PageError> {
    let right = person.right(&console, &id).await?;
    let list = List::read(format!("/projects/{}", segment(&id)), None, Some(&id), &filters)?;
    if list.is_file() {
        return list.file(&console).await;
    }
    let project = row(&projects::show(&console.database, &id).await?.ok_or(PageError::NotFound)?)?;
    let actions = rows(&control::list(&console.database, Some(&id)).await?)?;
    let members = projects::members(&console.database, &id).await?.map(|members| row(&members)).transpose()?.unwrap_or_default();
    let slugs: Vec<String> = project["role_slugs"].as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
    let people: Vec<String> =
        members.as_array().into_iter().flatten().map(|member| format!("{} {}", text(member, "email"), text(member, "role"))).collect();
    let glass = if right == Right::Change { candidates::break_glass(&console.database, &id).await? } else { Vec::new() };
    let body = html! {
        h2 { "Actions" }
        @if actions.is_empty() {
            p { "None yet. An action is an HTTPS endpoint of yours that decides at one of six moments." }
        } @else {
            div class="wide" tabindex="0" role="region" aria-label="Actions" { table {
                tr { th { "Action" } th { "Trigger" } th { "Endpoint URL" } th { "State" } }
                @for action in &actions {
                    tr {
                        td { a href={ "/actions/" (text(action, "action_id")) } { (text(action, "name")) } }
                        td { (text(action, "trigger")) } td { (text(action, "endpoint_url")) } td { (badge(state(action))) }
                    }
                }
            } }
        }
        (behind(&format!("select * from actions.actions where project_id = {};", literal(&id))))
        @if right == Right::Change {
            p class="row" { a class="button" href={ "/projects/" (segment(&id)) "/actions/new" } { "Create action" } }
        }
        h2 { "Roles" }
        dl class="facts" {
            dt { "Role slugs" }
            dd {
                (if slugs.is_empty() { "none".to_owned() } else { slugs.join(", ") })
                @if right == Right::Change { (edit(&person, &id, "roles", "Role slugs", "One a line. A verdict can give no other.", &slugs)) }
            }
            dt { "roles_action_override" }
            dd {
                (badge(if project["roles_action_override"] == true { "enabled" } else { "disabled" }))
                p class="hint" { "While it is on, a verdict of pre_token_mint may replace a person's roles and permissions in the token. Off, such overrides are dropped and told." }
                @if right == Right::Change {
                    form method="post" action={ "/projects/" (segment(&id)) "/override" } {
                        (token(&person))
                        input type="hidden" name="roles_action_override" value=(project["roles_action_override"] != true);
                        button class="quiet" { @if project["roles_action_override"] == true { "Disable" } @else { "Enable" } " roles_action_override" }
                    }
                }
            }
        }
        @if right == Right::Change {
            h2 { "Break-glass" }
            p { (if glass.is_empty() { "Nobody".to_owned() } else { glass.join(", ") }) " passes where a failure would deny." }
            p class="hint" { "An endpoint that fails closed locks everybody out, administrators too. These users pass all the same; a verdict still denies them, each use is in the audit log, and owners are told of each change." }
            (edit(&person, &id, "break-glass", "Break-glass users", "One user.id a line, at most 20.", &glass))
        }
        h2 { "Members" }
        div class="wide" tabindex="0" role="region" aria-label="Members" { table {
            tr { th { "E-mail" } th { "Role" } }
            @for member in members.as_array().into_iter().flatten() { tr { td { (text(member, "email")) } td { (text(member, "role")) } } }
        } }
        @if right == Right::Change {
            (edit(&person, &id, "members", "Members", "One a line: address and role (owner, admin, or any other who looks).", &people))
        }
        p class="hint" { "Owners and admins may change the project and are told when an action is killed. Updated " (moment(&project, "updated_at")) "." }
        h2 { "Recent invocations" }
        (list.show(&console).await?)
        p { a href={ "/audit?project=" (segment(&id)) } { "Audit log of this project" } }
    };
    Ok(page(&person, &format!("Project {}", text(&project, "name")), &body).into_response())
}

/// One line each, and how it is changed.
fn edit(person: &Person, id: &str, change: &str, label: &str, hint: &str, lines: &[String]) -> Markup {
    html! {
        details {
            summary { "Edit " (label) }
            form class="form" method="post" action={ "/projects/" (segment(id)) "/" (change) } {
                (token(person))
                label { (label) textarea name=(label.to_lowercase().replace(' ', "_")) rows=(lines.len() + 2) spellcheck="false" { (lines.join("\n")) } }
                p class="hint" { (hint) }
                button { "Save" }
            }
        }
    }
}

/// One word for how an action stands.
pub(super) fn state(action: &Value) -> &'static str {
    match (action["killed_at"].is_null(), action["enabled"] == true) {
        (false, _) => "killed",
        (true, true) => "enabled",
        (true, false) => "disabled",
    }
}
