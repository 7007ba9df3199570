//! A few connections for many statements.
//!
//! deadpool over the driver's own connection. A connection is closed instead of used again when
//! an error of the connection itself was seen on it, when its statement was given up in the
//! middle, when the server says that it takes no writes, and at a certain age: a pool without an
//! age stays with the old primary for good. One that was idle for a while is asked whether it
//! still answers before somebody's event depends on it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use deadpool::managed::{self, Metrics, RecycleError, RecycleResult};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};
use tokio_postgres::Row;

use super::StoreError;
use super::connection::{Connection, cancel};
use super::params::Param;
use super::settings::{Expiry, Settings};
use crate::config::{self, ConfigError};

/// How long a statement may wait for a free connection, or for a new one to open.
const PATIENCE: Duration = Duration::from_secs(2);
/// Pause between two attempts to open one that could not be opened: each costs the server a process,
/// and one that has no more of them would spend its time on refusing.
const OPEN_AGAIN: Duration = Duration::from_millis(100);
/// How long an answer may take. A server that vanished without a word never answers, and nothing
/// else would notice: the connection is closed then, and a new one may find its successor.
pub(super) const ANSWER: Duration = Duration::from_secs(10);
/// The same for statements that read much, or add up or drop what is old.
pub(super) const LONG_ANSWER: Duration = Duration::from_secs(60);
/// A connection that was idle for longer is asked whether it still answers: a balancer may have
/// reset it, a firewall forgotten it.
const UNSURE_AFTER: Duration = Duration::from_secs(2);
/// How long that answer may take. One that takes longer comes from nobody, or is no loss.
const PROOF: Duration = Duration::from_millis(250);

/// Told why, for each connection that is replaced: `read_only` where the server takes no writes,
/// `plan_changed` of a statement, `age`, `closed` meanwhile, `unanswered` in time, `lost` in the middle.
type Observer = Arc<OnceLock<Box<dyn Fn(&'static str) + Send + Sync>>>;

/// Access to one PostgreSQL database.
#[derive(Clone)]
pub struct Database {
    observer: Observer,
    pool: managed::Pool<Manager>,
    shortage: Arc<Shortage>,
    listen: Arc<Settings>,
    expiry: Expiry,
}

/// Who waits for a connection while no new one can be opened. They have turns: one tries, the others
/// wait behind it in the order in which they came, and nobody overtakes them.
#[derive(Default)]
struct Shortage {
    waiting: AtomicUsize,
    turns: tokio::sync::Mutex<()>,
    /// A connection came free.
    freed: Notify,
}

/// Counted among those who wait, for as long as this lives.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn among(waiting: &'a AtomicUsize) -> Self {
        waiting.fetch_add(1, Ordering::Relaxed);
        Self(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Database") // its settings hold a password
    }
}

pub(super) struct Manager {
    settings: Settings,
    /// `None` for no limit.
    max_age: Option<Duration>,
    observer: Observer,
}

/// A connection of the pool: small, because each statement carries it along.
pub(super) struct Slot {
    connection: Box<Connection>,
    state: State,
    /// At this age it is closed: the limit and up to a tenth more or less, so that not all are
    /// opened anew at once.
    max_age: Option<Duration>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing is outstanding.
    Clean,
    /// A statement runs; if nobody waits for it any more, the connection goes with it.
    Running,
    /// Never to be used again.
    Broken,
}

impl Drop for Slot {
    fn drop(&mut self) {
        if self.state == State::Running {
            cancel(self.connection.cancel_token());
        }
    }
}

impl managed::Manager for Manager {
    type Type = Slot;
    type Error = StoreError;

    async fn create(&self) -> Result<Slot, StoreError> {
        // Opening is rare, and its state is large: by itself, not within that of each statement.
        let connection = Box::pin(Connection::open(&self.settings)).await?;
        // A tenth in steps of a thousandth: 900 to 1100.
        let per_mille = 900 + u32::from(uuid::Uuid::new_v4().as_bytes()[0]) * 200 / 255;
        Ok(Slot { connection: Box::new(connection), state: State::Clean, max_age: self.max_age.map(|age| age * per_mille / 1000) })
    }

    async fn recycle(&self, slot: &mut Slot, _: &Metrics) -> RecycleResult<StoreError> {
        let replace = |reason: &'static str| {
            tell(&self.observer, reason);
            Err(RecycleError::message(reason))
        };
        if slot.state != State::Clean {
            return Err(RecycleError::message("told already, when it broke"));
        }
        if slot.max_age.is_some_and(|limit| slot.connection.age() > limit) {
            return replace("age");
        }
        if slot.connection.is_closed() {
            return replace("closed");
        }
        if slot.connection.idle() > UNSURE_AFTER {
            slot.state = State::Broken;
            match tokio::time::timeout(PROOF, Box::pin(slot.connection.check())).await {
                Ok(Ok(())) => slot.state = State::Clean,
                _ => return replace("unanswered"),
            }
        }
        Ok(())
    }
}

impl Database {
    /// Prepares access; connections open when they are needed.
    pub fn new(config: &config::Database, program: &str) -> Result<Self, ConfigError> {
        let url = config.url()?;
        let settings = Settings::read("database.url", url, program)?;
        let listen = match &config.listen_url {
            Some(url) => Settings::read("database.listen_url", url, program)?,
            None => settings.clone(),
        };
        // Where LISTEN needs a way of its own, the other leads through a pooler, whose sessions
        // are shared with somebody else.
        let pins = config.listen_url.as_ref().is_none_or(|listen| listen == url);
        let settings = Settings { prepares: config.prepared_statements, pins, ..settings };
        if !config.prepared_statements {
            tracing::warn!("database.prepared_statements is false: each statement is planned anew, which costs the server time");
        }
        let max_age = (config.max_connection_age_s > 0).then(|| Duration::from_secs(config.max_connection_age_s));
        let observer = Observer::default();
        let expiry = Arc::clone(&settings.expiry);
        let pool = managed::Pool::builder(Manager { settings, max_age, observer: Arc::clone(&observer) })
            .max_size(config.max_connections)
            // The connection used last has its plans and caches warm.
            .queue_mode(managed::QueueMode::Lifo)
            .runtime(deadpool::Runtime::Tokio1)
            .wait_timeout(Some(PATIENCE))
            .build()
            .map_err(|error| ConfigError {
                key: "database.max_connections".to_owned(),
                given: error.to_string(),
                accepted: "2 to 100".to_owned(),
            })?;
        Ok(Self { observer, pool, shortage: Arc::default(), listen: Arc::new(listen), expiry })
    }

    /// When the certificate that the server showed last ends, in seconds since 1970; `None` without TLS.
    pub fn certificate_expiry(&self) -> Option<i64> {
        Some(self.expiry.load(Ordering::Relaxed)).filter(|last| *last > 0)
    }

    /// Tells `observer` why, whenever a connection is replaced, in one of the words of `Observer`. Only the first is told.
    pub fn on_replaced(&self, observer: impl Fn(&'static str) + Send + Sync + 'static) {
        let _ = self.observer.set(Box::new(observer));
    }

    /// Runs one statement and returns its rows. An answer that does not come in 10 s is an error,
    /// and the statement may have been done.
    pub(super) async fn rows(&self, sql: &'static str, params: &[Param<'_>]) -> Result<Vec<Row>, StoreError> {
        self.rows_within(ANSWER, sql, params).await
    }

    /// The same where an answer shall not take longer than `limit`, the wait for a connection not counted.
    pub(super) async fn rows_within(&self, limit: Duration, sql: &'static str, params: &[Param<'_>]) -> Result<Vec<Row>, StoreError> {
        self.run_within(limit, async |connection| connection.query(sql, params).await).await
    }

    /// The only row of a statement.
    pub(super) async fn row(&self, sql: &'static str, params: &[Param<'_>]) -> Result<Row, StoreError> {
        self.row_within(ANSWER, sql, params).await
    }

    /// The same within a limit.
    pub(super) async fn row_within(&self, limit: Duration, sql: &'static str, params: &[Param<'_>]) -> Result<Row, StoreError> {
        self.rows_within(limit, sql, params).await?.pop().ok_or_else(no_row)
    }

    /// Runs a statement of which nothing is read.
    pub(super) async fn execute(&self, sql: &'static str, params: &[Param<'_>]) -> Result<(), StoreError> {
        self.rows(sql, params).await.map(|_| ())
    }

    /// Runs one operation on a connection of its own.
    pub(super) async fn run_within<T>(
        &self,
        limit: Duration,
        operation: impl AsyncFnOnce(&mut Connection) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mut slot = self.take().await?;
        slot.state = State::Running;
        let answer = tokio::time::timeout(limit, operation(&mut slot.connection)).await.map(|done| done.map_err(StoreError::on_the_way));
        let is_lost = match &answer {
            Err(_) => {
                tell(&self.observer, "unanswered");
                true // it stays marked as running, so that the server is told
            }
            Ok(Err(error)) if error.is_of_connection() => {
                tell(&self.observer, error.why_replaced());
                slot.state = State::Broken;
                true
            }
            Ok(_) => {
                slot.state = State::Clean;
                false
            }
        };
        if is_lost {
            // What broke this connection broke the idle ones, too; nobody shall find that out one by one.
            self.pool.retain(|_, _| false);
        }
        drop(slot);
        if self.shortage.waiting.load(Ordering::Relaxed) > 0 {
            self.shortage.freed.notify_one();
        }
        answer.unwrap_or_else(|_| Err(StoreError::Unanswered(format!("no answer within {} s", limit.as_secs_f64()))))
    }

    /// A free connection, or a new one. A server that has no more connections for us, or is away
    /// for a moment, is asked again meanwhile: one that is busy now is free soon.
    async fn take(&self) -> Result<managed::Object<Manager>, StoreError> {
        let last = Instant::now() + PATIENCE;
        let mut refused = StoreError::Unreachable("others wait for a connection already".to_owned());
        if self.shortage.waiting.load(Ordering::Relaxed) == 0 {
            match self.try_take().await? {
                Ok(slot) => return Ok(slot),
                Err(error) => refused = error,
            }
        }
        let _waiting = Waiting::among(&self.shortage.waiting);
        let Ok(_turn) = timeout_at(last, self.shortage.turns.lock()).await else {
            return Err(refused);
        };
        loop {
            match self.try_take().await? {
                Ok(slot) => return Ok(slot),
                Err(error) if Instant::now() >= last => return Err(error),
                Err(_) => {}
            }
            let open_again = Instant::now() + OPEN_AGAIN;
            while self.pool.status().available == 0 && timeout_at(open_again, self.shortage.freed.notified()).await.is_ok() {}
        }
    }

    /// What makes no difference later is the outer error.
    async fn try_take(&self) -> Result<Result<managed::Object<Manager>, StoreError>, StoreError> {
        match self.pool.get().await {
            Ok(slot) => Ok(Ok(slot)),
            Err(managed::PoolError::Backend(error)) if error.is_unreachable() => Ok(Err(error)),
            Err(managed::PoolError::Backend(error)) => Err(error),
            Err(other) => Err(StoreError::Unreachable(other.to_string())),
        }
    }

    /// A connection beside the pool was replaced.
    pub(super) fn replaced(&self, reason: &'static str) {
        tell(&self.observer, reason);
    }

    pub(super) fn listen_settings(&self) -> &Settings {
        &self.listen
    }

    /// Closes the connections.
    pub fn close(&self) {
        self.pool.close();
    }
}

fn tell(observer: &Observer, reason: &'static str) {
    if let Some(observer) = observer.get() {
        observer(reason);
    }
}

fn no_row() -> StoreError {
    StoreError::Unreadable("there is no row".to_owned())
}
