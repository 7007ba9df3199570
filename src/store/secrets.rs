//! Which root key derives an action's secret, and the secret's fingerprint. Never a secret.

use super::claim::SecretVersions;
use super::params::params;
use super::{Database, StoreError};

/// Actions whose current secret no holder of root keys has recorded yet.
pub const UNRECORDED: &str = "-- unrecorded secrets: whose fingerprint is missing
select id, secret_version
from actions_private.actions
where secret_key_id is null and deleted_at is null
limit 1000";

/// The first holder of root keys decides which key it is; a later one finds it decided. A
/// previous version that was never recorded was made under the same key.
pub const RECORD: &str = "-- record secret: its key id and fingerprint, if they are still missing
update actions_private.actions as a
set secret_key_id = $1, secret_sha256 = $4,
  previous_secret_key_id = case when a.previous_secret_version is not null then coalesce(a.previous_secret_key_id, $1) end
where a.id = $2 and a.secret_version = $3 and a.secret_key_id is null";

/// A late report of an earlier secret says nothing about the current one. Whoever is changing
/// the action is not waited for: the next minute's report comes.
pub const SEEN: &str = "-- secret seen: an answer signed with it arrived
update actions_private.actions as a
set secret_seen_at = clock_timestamp()
from (select s.id from actions_private.actions as s where s.id = $1 and s.secret_version = $2 for no key update skip locked) as free
where a.id = free.id";

/// Writes down that an endpoint has signed with this version of its secret, just now.
pub async fn seen(database: &Database, action_id: &str, version: i32) -> Result<(), StoreError> {
    database.execute(SEEN, params![action_id, version]).await
}

/// Actions that need their secret recorded: id and version.
pub async fn unrecorded(database: &Database) -> Result<Vec<(String, i32)>, StoreError> {
    let rows = database.rows(UNRECORDED, params![]).await?;
    rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect::<Result<_, StoreError>>()
}

/// Records a fingerprint, SHA-256 in hex, made under root key `key_id`. One by one: who changes a
/// project locks its actions in another order.
pub async fn record(database: &Database, key_id: &str, action_id: &str, version: i32, sha256: &str) -> Result<(), StoreError> {
    database.rows(RECORD, params![key_id, action_id, version, sha256]).await.map(|_| ())
}

/// Which secrets an action has at the moment.
pub const VERSIONS: &str = "-- secret versions: what signs for an action now
select secret_version, secret_key_id,
  case when previous_secret_until > clock_timestamp() then previous_secret_version end as previous_secret_version, previous_secret_key_id,
  secret_seen_at is not null
from actions_private.actions
where id = $1";

/// Reads which secrets an action has at the moment.
pub async fn versions(database: &Database, action_id: &str) -> Result<SecretVersions, StoreError> {
    let row = database.row(VERSIONS, params![action_id]).await?;
    Ok(SecretVersions {
        current: row.try_get(0)?,
        current_key: row.try_get(1)?,
        previous: row.try_get(2)?,
        previous_key: row.try_get(3)?,
        is_seen: row.try_get(4)?,
    })
}
