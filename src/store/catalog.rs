//! What workers keep in memory: versions of actions, which never change, and projects.

use std::collections::HashSet;
use std::time::Duration;

use super::params::params;
use super::{Database, StoreError};
use crate::domain::{Action, Project, Trigger};

/// Immutable rows by their key.
pub const ACTION_VERSIONS: &str = "-- action versions: the configuration that invocations run under
select v.action_id, v.version, a.trigger, v.endpoint_url, v.timeout_ms, v.fail_mode, v.on_killed, v.require_response_signature,
  v.record_events > 0 as records_events, v.last_known_s
from unnest($1::text[], $2::integer[]) as asked (action_id, version)
join actions_private.action_versions as v on v.action_id = asked.action_id and v.version = asked.version
join actions_private.actions as a on a.id = v.action_id";

/// Projects as they are now.
pub const PROJECTS: &str = "-- projects: what of them matters to a verdict
select id, revision, roles_action_override, role_slugs, break_glass
from actions_private.projects
where id = any ($1)";

/// Reads versions of actions; each asked one exists.
pub async fn action_versions(database: &Database, asked: &[(String, i32)]) -> Result<Vec<Action>, StoreError> {
    let ids: Vec<&str> = asked.iter().map(|(id, _)| id.as_str()).collect();
    let versions: Vec<i32> = asked.iter().map(|(_, version)| *version).collect();
    let rows = database.rows(ACTION_VERSIONS, params![ids, versions]).await?;
    rows.iter()
        .map(|row| {
            Ok(Action {
                id: row.try_get("action_id")?,
                version: row.try_get("version")?,
                trigger: row.try_get::<_, &str>("trigger")?.parse::<Trigger>().map_err(StoreError::unreadable)?,
                endpoint_url: row.try_get("endpoint_url")?,
                timeout: Duration::from_millis(row.try_get::<_, i32>("timeout_ms")?.unsigned_abs().into()),
                fail_mode: row.try_get::<_, &str>("fail_mode")?.parse().map_err(StoreError::unreadable)?,
                on_killed: row.try_get::<_, &str>("on_killed")?.parse().map_err(StoreError::unreadable)?,
                require_response_signature: row.try_get("require_response_signature")?,
                records_events: row.try_get("records_events")?,
                last_known: Duration::from_secs(row.try_get::<_, i32>("last_known_s")?.unsigned_abs().into()),
            })
        })
        .collect::<Result<_, StoreError>>()
}

/// Reads projects.
pub async fn projects(database: &Database, ids: &[String]) -> Result<Vec<(String, Project)>, StoreError> {
    let rows = database.rows(PROJECTS, params![ids]).await?;
    rows.iter()
        .map(|row| {
            let project = Project {
                revision: row.try_get("revision")?,
                roles_action_override: row.try_get("roles_action_override")?,
                role_slugs: row.try_get::<_, Vec<String>>("role_slugs")?.into_iter().collect::<HashSet<_>>(),
                break_glass: row.try_get("break_glass")?,
            };
            Ok((row.try_get("id")?, project))
        })
        .collect::<Result<_, StoreError>>()
}
