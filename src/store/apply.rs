//! A project as a file describes it, and the changes that make it so, in one transaction. Called by `ctl`.

use serde_json::Value;

use super::connection::Connection;
use super::params::params;
use super::pool::LONG_ANSWER;
use super::{Database, StoreError, control, projects};

/// A project with everything that a file can say of it; no row where there is none.
pub const DESCRIBED: &str = "-- described: a project with its roles, people and actions
select json_build_object('project_id', p.project_id, 'name', p.name, 'roles_action_override', p.roles_action_override, 'role_slugs', p.role_slugs,
  'members', (select coalesce(json_agg(json_build_object('email', m.email, 'role', m.role) order by m.email collate \"C\"), '[]') from actions.project_members(p.project_id) as m),
  'actions', (select coalesce(json_agg(a order by a.trigger, a.name, a.created_at), '[]') from actions.actions as a where a.project_id = p.project_id))::text
from actions.projects as p
where p.project_id = $1";
/// Makes an action with all its settings.
pub const CREATE: &str = "-- create action: with all its settings, as a file describes it
select (actions.create_action($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)).action_id";

/// A new action's settings, by SQL's names.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    pub endpoint_url: String,
    pub name: String,
    pub timeout_ms: i32,
    pub fail_mode: String,
    pub on_killed: String,
    pub require_response_signature: bool,
    pub condition: Option<String>,
    pub record_events: i32,
    pub record_hours: i32,
    pub last_known_s: i32,
    pub recovery: String,
    pub check_every_s: i32,
    pub enabled: bool,
}

/// One change.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// The project itself.
    Project { name: String, roles_action_override: bool },
    /// Every role slug.
    Roles(Vec<String>),
    /// Every member, a JSON array.
    Members(Value),
    /// Ends an action.
    Delete { action_id: String },
    /// Switches one off, or on.
    SetEnabled { action_id: String, enabled: bool },
    /// Changes settings, a JSON object.
    Update { action_id: String, changes: Value },
    /// Makes one.
    Create { trigger: String, settings: Box<Settings> },
}

/// What a project is now, as one JSON object.
pub async fn described(database: &Database, project: &str) -> Result<Option<String>, StoreError> {
    Ok(control::many(database, DESCRIBED, params![project]).await?.pop())
}

/// Makes the changes, all or none.
pub async fn apply(database: &Database, project: &str, steps: &[Step], actor: &str) -> Result<(), StoreError> {
    let all = async |connection: &mut Connection| {
        for step in steps {
            take(connection, project, step, actor).await?;
        }
        Ok(())
    };
    database.run_within(LONG_ANSWER, async |connection| connection.transaction(all).await).await
}

async fn take(connection: &mut Connection, project: &str, step: &Step, actor: &str) -> Result<(), StoreError> {
    match step {
        Step::Project { name, roles_action_override } => {
            connection.query(projects::UPSERT, params![project, name, *roles_action_override, actor]).await?;
        }
        Step::Roles(slugs) => {
            connection.query(projects::SET_ROLES, params![project, slugs, actor]).await?;
        }
        Step::Members(members) => {
            connection.query(projects::SET_MEMBERS, params![project, members.to_string(), actor]).await?;
        }
        Step::Delete { action_id } => {
            connection.query(control::DELETE, params![action_id, actor]).await?;
        }
        Step::SetEnabled { action_id, enabled } => {
            connection.query(control::SET_ENABLED, params![action_id, *enabled, actor]).await?;
        }
        Step::Update { action_id, changes } => {
            connection.query(control::UPDATE, params![action_id, changes.to_string(), actor]).await?;
        }
        Step::Create { trigger, settings } => {
            let Settings { endpoint_url, name, timeout_ms, fail_mode, on_killed, require_response_signature, .. } = &**settings;
            let Settings { condition, record_events, record_hours, last_known_s, recovery, check_every_s, enabled, .. } = &**settings;
            let made = connection
                .query(
                    CREATE,
                    params![
                        project,
                        trigger,
                        endpoint_url,
                        name,
                        *timeout_ms,
                        fail_mode,
                        on_killed,
                        *require_response_signature,
                        actor,
                        *enabled,
                        condition,
                        *record_events,
                        *record_hours,
                        *last_known_s,
                        recovery
                    ],
                )
                .await?;
            if *check_every_s > 0
                && let Some(row) = made.first()
            {
                let id: String = row.try_get(0)?;
                let changes = serde_json::json!({ "check_every_s": check_every_s }).to_string();
                connection.query(control::UPDATE, params![id, changes, actor]).await?;
            }
        }
    }
    Ok(())
}
