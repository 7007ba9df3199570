//! What operators ask of projects and their people. Rows come as the JSON text that PostgreSQL
//! wrote. Called by `ctl`.

use super::control::{many, one};
use super::params::params;
use super::{Database, StoreError};

/// Projects by their ids.
pub const LIST: &str = "-- list projects: all
select row_to_json(p)::text from actions.projects as p order by p.project_id";
/// One project.
pub const SHOW: &str = "-- show project: as it is
select row_to_json(p)::text from actions.projects as p where p.project_id = $1";
/// Its people.
pub const MEMBERS: &str = "-- members: the people of a project
select coalesce(json_agg(m), '[]')::text from actions.project_members($1) as m";
/// Makes or changes one. What is not given stays as it is.
pub const UPSERT: &str = "-- upsert project: make it known, or change what is given
select actions.upsert_project($1, coalesce($2, p.name), coalesce($3, p.roles_action_override, false), $4)::text
from (select) as always left join actions.projects as p on p.project_id = $1";
/// Every role slug of one.
pub const SET_ROLES: &str = "-- set roles: every role slug of a project
select actions.set_project_roles($1, $2, $3)::text";
/// Every member of one.
pub const SET_MEMBERS: &str = "-- set members: every member of a project
select actions.set_project_members($1, $2::json, $3)::text";

/// Erases one.
pub const DELETE: &str = "-- delete project: erase it with everything that names it
select row_to_json(e)::text from actions.delete_project($1, $2) as e";
/// What is erased, and how far that is.
pub const ERASURES: &str = "-- erasures: the newest first
select row_to_json(e)::text from actions.erasures as e order by e.asked_at desc limit 1000";

/// Every project's row.
pub async fn list(database: &Database) -> Result<Vec<String>, StoreError> {
    many(database, LIST, params![]).await
}

/// One project's row, if there is such a project.
pub async fn show(database: &Database, project: &str) -> Result<Option<String>, StoreError> {
    Ok(many(database, SHOW, params![project]).await?.pop())
}

/// The people of a project as a JSON array; `None` where the login may not see them.
pub async fn members(database: &Database, project: &str) -> Result<Option<String>, StoreError> {
    match one(database, MEMBERS, params![project]).await {
        Ok(members) => Ok(Some(members)),
        Err(StoreError::Refused { code, .. }) if code == "42501" => Ok(None),
        Err(error) => Err(error),
    }
}

/// Makes a project known, or changes of it what is given.
pub async fn upsert(
    database: &Database,
    project: &str,
    name: Option<&str>,
    roles_action_override: Option<bool>,
    actor: &str,
) -> Result<(), StoreError> {
    database.execute(UPSERT, params![project, name, roles_action_override, actor]).await
}

/// Sets every role slug of a project.
pub async fn set_roles(database: &Database, project: &str, slugs: &[String], actor: &str) -> Result<(), StoreError> {
    database.execute(SET_ROLES, params![project, slugs, actor]).await
}

/// Sets the people of a project; `members` is a JSON array.
pub async fn set_members(database: &Database, project: &str, members: &str, actor: &str) -> Result<(), StoreError> {
    database.execute(SET_MEMBERS, params![project, members, actor]).await
}

/// Begins to erase a project; the row of its erasure.
pub async fn delete(database: &Database, project: &str, actor: &str) -> Result<String, StoreError> {
    one(database, DELETE, params![project, actor]).await
}

/// The rows of erasures, the newest first.
pub async fn erasures(database: &Database) -> Result<Vec<String>, StoreError> {
    many(database, ERASURES, params![]).await
}
