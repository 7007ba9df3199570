//! A few connections for many statements.
//!
//! deadpool over the driver's own connection: a connection that saw an error of the
//! connection itself, or whose statement was cancelled in the middle, is closed and not used
//! again.

use std::str::FromStr;
use std::time::Duration;

use deadpool::managed::{self, Metrics, RecycleError, RecycleResult};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions, Connection};

use super::StoreError;
use crate::config::{self, ConfigError, Hidden};

/// How long a statement may wait for a free connection, or for a new one to open.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long an answer may take. A server that vanished without a word never answers, and nothing
/// else would notice: the connection is closed then, and a new one may find its successor.
const ANSWER: Duration = Duration::from_secs(10);
/// The same for statements that read much, or add up or drop what is old.
const LONG_ANSWER: Duration = Duration::from_secs(60);

/// Access to one PostgreSQL database.
#[derive(Clone)]
pub struct Database {
    pool: managed::Pool<Manager>,
    listen: PgConnectOptions,
}

impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Database") // its options hold a password
    }
}

pub(super) struct Manager(PgConnectOptions);

/// A connection with a mark: while a statement runs it counts as broken, so that a
/// cancelled one never goes back into use.
pub(super) struct Slot {
    connection: PgConnection,
    is_clean: bool,
}

impl managed::Manager for Manager {
    type Type = Slot;
    type Error = sqlx::Error;

    async fn create(&self) -> Result<Slot, sqlx::Error> {
        let opening = PgConnection::connect_with(&self.0);
        let connection = tokio::time::timeout(PATIENCE, opening).await.map_err(|_| sqlx::Error::PoolTimedOut)??;
        Ok(Slot { connection, is_clean: true })
    }

    async fn recycle(&self, slot: &mut Slot, _: &Metrics) -> RecycleResult<sqlx::Error> {
        if slot.is_clean { Ok(()) } else { Err(RecycleError::message("a statement broke or was cancelled")) }
    }
}

impl Database {
    /// Prepares access; connections open when they are needed.
    pub fn new(config: &config::Database, program: &str) -> Result<Self, ConfigError> {
        let missing = || ConfigError {
            key: "database.url".to_owned(),
            given: "missing".to_owned(),
            accepted: "postgres://user:password@host/database; set ACTIONS_DATABASE__URL or the key in a --config file".to_owned(),
        };
        let url = config.url.as_ref().ok_or_else(missing)?;
        let options = options("database.url", url, program)?;
        let listen = match &config.listen_url {
            Some(url) => self::options("database.listen_url", url, program)?,
            None => options.clone(),
        };
        let pool = managed::Pool::builder(Manager(options))
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
        Ok(Self { pool, listen })
    }

    /// Runs one operation on a connection of its own. An answer that does not come in 10 s is an
    /// error, and the operation may have been done.
    pub(super) async fn run<T>(&self, operation: impl AsyncFnOnce(&mut PgConnection) -> Result<T, sqlx::Error>) -> Result<T, StoreError> {
        self.run_within(ANSWER, operation).await
    }

    /// Runs one operation that reads much: an answer may take 60 s.
    pub(super) async fn run_long<T>(
        &self,
        operation: impl AsyncFnOnce(&mut PgConnection) -> Result<T, sqlx::Error>,
    ) -> Result<T, StoreError> {
        self.run_within(LONG_ANSWER, operation).await
    }

    /// Runs one operation whose answer shall not take longer than `limit`, the wait for a
    /// connection not counted.
    pub(super) async fn run_within<T>(
        &self,
        limit: Duration,
        operation: impl AsyncFnOnce(&mut PgConnection) -> Result<T, sqlx::Error>,
    ) -> Result<T, StoreError> {
        let mut slot = self.pool.get().await.map_err(|error| match error {
            managed::PoolError::Backend(error) => StoreError::from(error),
            other => StoreError::Unreachable(other.to_string()),
        })?;
        slot.is_clean = false;
        let answer = tokio::time::timeout(limit, operation(&mut slot.connection)).await;
        let is_server_gone = match &answer {
            Err(_) | Ok(Err(sqlx::Error::Io(_))) => true,
            Ok(Err(sqlx::Error::Database(error))) => error.code().is_some_and(|code| code.starts_with("57P0")),
            Ok(_) => false,
        };
        if is_server_gone {
            // What broke this connection broke the idle ones, too; nobody shall find that out one by one.
            self.pool.retain(|_, _| false);
        }
        let silent = |_| Err(StoreError::Unreachable(format!("no answer within {} s", limit.as_secs())));
        let result = answer.map_or_else(silent, |result| result.map_err(StoreError::from));
        slot.is_clean = !matches!(&result, Err(StoreError::Unreachable(_)));
        result
    }

    pub(super) fn listen_options(&self) -> PgConnectOptions {
        self.listen.clone()
    }

    /// Closes the connections.
    pub fn close(&self) {
        self.pool.close();
    }
}

fn options(key: &str, url: &Hidden, program: &str) -> Result<PgConnectOptions, ConfigError> {
    let options = PgConnectOptions::from_str(url.reveal()).map_err(|_| ConfigError {
        key: key.to_owned(),
        given: "not a PostgreSQL URL".to_owned(),
        accepted: "postgres://user:password@host:port/database?sslmode=verify-full".to_owned(),
    })?;
    Ok(options.application_name(program).log_statements(log::LevelFilter::Off))
}
