//! What operators ask of the audit log. Called by `ctl`.

use super::control::{Since, many};
use super::params::params;
use super::{Database, StoreError};

/// Audit events, newest first.
pub const LIST: &str = "-- audit: the newest
select row_to_json(l)::text from actions.audit_log as l
where l.at >= coalesce($1, now() - $2 * interval '1 second', '-infinity')
  and ($3::text is null or l.project_id = $3) and ($4::text is null or l.action_id = $4)
  and ($5::text is null or l.event = $5) and ($6::text is null or l.actor = $6)
order by l.at desc
limit $7";

/// Which audit events to list.
#[derive(Debug, Default)]
pub struct Wanted<'a> {
    pub since: Since,
    pub project: Option<&'a str>,
    pub action: Option<&'a str>,
    pub event: Option<&'a str>,
    pub actor: Option<&'a str>,
    pub most: i32,
}

/// The newest audit events.
pub async fn list(database: &Database, wanted: &Wanted<'_>) -> Result<Vec<String>, StoreError> {
    let Wanted { since, project, action, event, actor, most } = wanted;
    many(database, LIST, params![since.at(), since.seconds_ago(), *project, *action, *event, *actor, *most]).await
}
