//! How often an endpoint caused the same note for the audit log within a minute.

use super::params::params;
use super::{Database, StoreError};

/// Added to the newest row of its kind, which the first time wrote with its completion.
pub const MORE: &str = "-- more notes: of kinds that stand in the audit log already
update actions_private.audit_log as l
set count = l.count + n.count
from unnest($1::text[], $2::text[], $3::integer[]) as n (action_id, event, count)
where l.id = (
  select m.id from actions_private.audit_log as m
  where m.action_id = n.action_id and m.event = n.event and m.minute is not null
  order by m.minute desc limit 1
)";

/// An action, the name of the audit event, and how often it happened again.
pub type More = (String, String, i32);

/// Adds what happened again.
pub async fn more(database: &Database, more: &[More]) -> Result<(), StoreError> {
    let actions: Vec<&str> = more.iter().map(|(action, ..)| action.as_str()).collect();
    let events: Vec<&str> = more.iter().map(|(_, event, _)| event.as_str()).collect();
    let counts: Vec<i32> = more.iter().map(|(.., count)| *count).collect();
    database.execute(MORE, params![actions, events, counts]).await
}
