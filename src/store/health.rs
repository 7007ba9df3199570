//! What `actionsctl doctor` asks the database.

use time::OffsetDateTime;

use super::listen::{Heard, Listener};
use super::params::params;
use super::{Database, StoreError, scalars};

/// The server, and how safe its commits are.
pub const SERVER: &str = "-- doctor: the server
select current_setting('server_version'), current_setting('fsync') = 'on' and current_setting('synchronous_commit') <> 'off',
  clock_timestamp(), current_user::text, current_setting('autovacuum') = 'on',
  (select setting::bigint from pg_settings where name = 'min_wal_size'),
  (select pg_encoding_to_char(d.encoding)::text from pg_database as d where d.datname = current_database())";

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

/// How full the queue of notifications is, and who may hold it: a session that listens and leaves
/// its transaction open keeps all that was notified since. PostgreSQL does not tell who listens, and
/// of another login's transactions only monitors hear.
pub const NOTIFICATIONS: &str = "-- doctor: notifications that somebody has not read
select pg_notification_queue_usage(), o.pid, o.application_name, o.seconds
from (select) as always
left join lateral (
  select a.pid, a.application_name, extract(epoch from clock_timestamp() - a.xact_start)::double precision as seconds
  from pg_stat_activity as a
  where a.backend_type = 'client backend' and a.xact_start is not null and a.pid <> pg_backend_pid()
  order by a.xact_start
  limit 1
) as o on true";

/// Workers and janitors, each with the age of its heartbeat by PostgreSQL's clock.
pub const PROCESSES: &str = "-- fleet: workers and janitors
select row_to_json(p)::text
from (
  select f.*, extract(epoch from clock_timestamp() - f.heartbeat_at)::double precision as heartbeat_age_s from actions.fleet as f
) as p
order by p.kind desc, p.host, p.process_id";

/// What waits.
pub const QUEUE: &str = "-- fleet: the queue's health
select row_to_json(q)::text from actions.queue_health as q";

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
    /// How the database writes texts.
    pub encoding: String,
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
        encoding: row.try_get(6)?,
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

/// The queue of notifications, which all databases of a server share.
#[derive(Debug, Clone)]
pub struct Notifications {
    /// From 0 to 1, where no transaction that notifies can commit.
    pub usage: f64,
    /// The oldest open transaction that this login may see.
    pub oldest: Option<Transaction>,
}

/// A session in a transaction.
#[derive(Debug, Clone)]
pub struct Transaction {
    pub pid: i32,
    pub application: String,
    pub seconds: f64,
}

/// Asks how full the queue of notifications is.
pub async fn notifications(database: &Database) -> Result<Notifications, StoreError> {
    let row = database.row(NOTIFICATIONS, params![]).await?;
    let oldest = match row.try_get::<_, Option<i32>>(1)? {
        Some(pid) => Some(Transaction {
            pid,
            application: row.try_get::<_, Option<String>>(2)?.unwrap_or_default(),
            seconds: row.try_get::<_, Option<f64>>(3)?.unwrap_or_default(),
        }),
        None => None,
    };
    Ok(Notifications { usage: row.try_get(0)?, oldest })
}

/// The row of each worker and janitor as JSON text.
pub async fn processes(database: &Database) -> Result<Vec<String>, StoreError> {
    scalars(&database.rows(PROCESSES, params![]).await?)
}

/// The queue's health as JSON text.
pub async fn queue(database: &Database) -> Result<String, StoreError> {
    Ok(database.row(QUEUE, params![]).await?.try_get(0)?)
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
