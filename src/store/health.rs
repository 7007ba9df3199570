//! What `actionsctl doctor` asks the database.

use time::OffsetDateTime;

use super::listen::{Heard, Listener};
use super::params::params;
use super::{Database, StoreError};

/// The server, and how safe its commits are.
pub const SERVER: &str = "-- doctor: the server
select current_setting('server_version'), current_setting('fsync') = 'on' and current_setting('synchronous_commit') <> 'off',
  clock_timestamp(), current_user::text, current_setting('autovacuum') = 'on',
  (select setting::bigint from pg_settings where name = 'min_wal_size'),
  array(
    select r.rolname::text from pg_roles as r
    where r.rolname in ('actions_core', 'actions_worker', 'actions_janitor', 'actions_admin', 'actions_ops')
      and pg_has_role(r.oid, 'member')
    order by r.rolname
  )";

/// Root keys in use, and endpoints that are called.
pub const ACTIONS: &str = "-- doctor: root keys in use, and endpoints
select array(select distinct secret_key_id from actions.actions where secret_key_id is not null order by 1),
  array(select distinct endpoint_url from actions.actions where enabled and killed_at is null order by 1 limit 5),
  (select count(*) from actions.actions where secret_key_id is null)";

/// Who runs.
pub const FLEET: &str = "-- doctor: who runs
select count(*) filter (where kind = 'worker' and alive), coalesce(bool_or(leads), false),
  array(select distinct version from actions.fleet where alive),
  (select mails_waiting from actions.queue_health), (select past_deadline from actions.queue_health)
from actions.fleet";

/// Tells oneself something.
pub const ECHO: &str = "-- doctor: a notification to oneself
select pg_notify($1, 'echo')";

/// What is known of the server.
#[derive(Debug, Clone)]
pub struct Server {
    pub version: String,
    /// A commit that was acknowledged survives a crash.
    pub durable: bool,
    /// Its clock when it answered.
    pub clock: OffsetDateTime,
    pub login: String,
    /// Dead rows are cleaned up.
    pub autovacuum: bool,
    /// Megabytes of the write-ahead log that are used again instead of made anew.
    pub kept_log_mb: i64,
    /// Of our roles, those that the login has.
    pub roles: Vec<String>,
}

/// Asks the server about itself.
pub async fn server(database: &Database) -> Result<Server, StoreError> {
    let row = database.row(SERVER, params![]).await?;
    Ok(Server {
        version: row.try_get(0)?,
        durable: row.try_get(1)?,
        clock: row.try_get(2)?,
        login: row.try_get(3)?,
        autovacuum: row.try_get(4)?,
        kept_log_mb: row.try_get(5)?,
        roles: row.try_get(6)?,
    })
}

/// What is known of all actions.
#[derive(Debug, Clone)]
pub struct Actions {
    /// Ids of root keys.
    pub keys: Vec<String>,
    /// Some endpoints that are called.
    pub endpoints: Vec<String>,
    /// Secrets whose root key nobody has recorded yet.
    pub unrecorded: i64,
}

/// Asks what the actions need.
pub async fn actions(database: &Database) -> Result<Actions, StoreError> {
    let row = database.row(ACTIONS, params![]).await?;
    Ok(Actions { keys: row.try_get(0)?, endpoints: row.try_get(1)?, unrecorded: row.try_get(2)? })
}

/// Who runs, and what waits.
#[derive(Debug, Clone)]
pub struct Fleet {
    pub workers: i64,
    pub janitor_leads: bool,
    pub versions: Vec<String>,
    pub mails_waiting: i64,
    pub past_deadline: i64,
}

/// Asks who runs.
pub async fn fleet(database: &Database) -> Result<Fleet, StoreError> {
    let row = database.row(FLEET, params![]).await?;
    Ok(Fleet {
        workers: row.try_get(0)?,
        janitor_leads: row.try_get(1)?,
        versions: row.try_get(2)?,
        mails_waiting: row.try_get(3)?,
        past_deadline: row.try_get(4)?,
    })
}

/// Whether a notification sent over `database.url` arrives at `database.listen_url`.
pub async fn hears_itself(database: &Database) -> Result<(), StoreError> {
    let channel = format!("actions_doctor_{}", uuid::Uuid::new_v4().simple());
    let mut listener = Listener::connect(database, &channel).await?;
    database.rows(ECHO, params![channel]).await?;
    match tokio::time::timeout(std::time::Duration::from_secs(3), listener.next()).await {
        Ok(Heard::Payload(_)) => Ok(()),
        Ok(Heard::Reconnected | Heard::Silence) | Err(_) => {
            Err(StoreError::Unreachable("a notification did not arrive within 3 s".to_owned()))
        }
    }
}
