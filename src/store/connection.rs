//! One connection to PostgreSQL, driven by whoever runs a statement on it.
//!
//! Called by the pool and by the listener. The driver's connection is a future that moves bytes;
//! it is polled here beside the statement, in the same task, because a task of its own would cost
//! two switches a statement. It never repeats a statement.

use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::time::Instant;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::types::ToSql;
use tokio_postgres::{AsyncMessage, CancelToken, Client, Error, Notification, Row, Socket, Statement};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::StoreError;
use super::params::Param;
use super::settings::Settings;

/// How long opening a connection may take, all hosts and TLS included.
const OPENING: Duration = Duration::from_secs(3);
/// How long the server may take to hear that a statement was given up.
const CANCELLING: Duration = Duration::from_secs(1);

type Driver = tokio_postgres::Connection<Socket, <MakeRustlsConnect as MakeTlsConnect<Socket>>::Stream>;

/// An open connection and the statements prepared on it.
pub(super) struct Connection {
    client: Client,
    driver: Driver,
    tls: MakeRustlsConnect,
    /// `None` where statements are sent without a name, for poolers that know no prepared ones.
    prepared: Option<HashMap<&'static str, Statement>>,
    /// Notifications that came beside other answers.
    heard: VecDeque<Notification>,
    opened: Instant,
    used: Instant,
}

impl Connection {
    /// Opens a connection to the first host that takes it.
    pub(super) async fn open(settings: &Settings) -> Result<Self, StoreError> {
        let opening = async {
            let (client, driver) = match settings.pinned().connect(settings.tls.clone()).await {
                // A pooler takes no settings of a session that is not ours alone.
                Err(error) if settings.pins && is_refused_parameter(&error) => settings.config.connect(settings.tls.clone()).await?,
                result => result?,
            };
            let now = Instant::now();
            let is_17 = driver.parameter("server_version").and_then(major).is_some_and(|major| major >= 17);
            let prepared = settings.prepares.then(HashMap::new);
            let mut this = Self { client, driver, tls: settings.tls.clone(), prepared, heard: VecDeque::new(), opened: now, used: now };
            if settings.pins && is_17 {
                this.batch("-- pin: what older servers do not know\nset transaction_timeout = 0").await?;
            }
            Ok(this)
        };
        let late = |_| Err(StoreError::Unreachable(format!("no connection within {} s", OPENING.as_secs())));
        tokio::time::timeout(OPENING, opening).await.unwrap_or_else(late)
    }

    /// How long ago it was opened.
    pub(super) fn age(&self) -> Duration {
        self.opened.elapsed()
    }

    /// How long ago the last statement on it ended.
    pub(super) fn idle(&self) -> Duration {
        self.used.elapsed()
    }

    /// Runs one statement, prepared once a connection.
    pub(super) async fn query(&mut self, sql: &'static str, params: &[Param<'_>]) -> Result<Vec<Row>, StoreError> {
        if self.prepared.is_none() {
            return self.drive(async |client| client.query_typed(sql, params).await).await;
        }
        let statement = self.prepare(sql, params).await?;
        let values: Vec<&(dyn ToSql + Sync)> = params.iter().map(|(value, _)| *value).collect();
        self.drive(async |client| client.query(&statement, &values).await).await
    }

    async fn prepare(&mut self, sql: &'static str, params: &[Param<'_>]) -> Result<Statement, StoreError> {
        if let Some(statement) = self.prepared.as_ref().and_then(|prepared| prepared.get(sql)) {
            return Ok(statement.clone());
        }
        let types: Vec<_> = params.iter().map(|(_, type_)| type_.clone()).collect();
        let statement = self.drive(async |client| client.prepare_typed(sql, &types).await).await?;
        if let Some(prepared) = &mut self.prepared {
            prepared.insert(sql, statement.clone());
        }
        Ok(statement)
    }

    /// Runs a script of several statements without parameters.
    pub(super) async fn batch(&mut self, sql: &str) -> Result<(), StoreError> {
        self.drive(async |client| client.batch_execute(sql).await).await
    }

    /// Runs several statements that commit together, or not at all.
    pub(super) async fn transaction<T>(&mut self, work: impl AsyncFnOnce(&mut Self) -> Result<T, StoreError>) -> Result<T, StoreError> {
        self.batch("begin").await?;
        let result = work(self).await;
        let end = if result.is_ok() { "commit" } else { "rollback" };
        self.batch(end).await?;
        result
    }

    /// Whether the server still answers.
    pub(super) async fn check(&mut self) -> Result<(), StoreError> {
        self.drive(async |client| client.check_connection().await).await
    }

    /// Whether it was closed while nobody used it, as far as this machine was told.
    pub(super) fn is_closed(&mut self) -> bool {
        poll_driver(&mut self.driver, &mut self.heard, &mut Context::from_waker(Waker::noop())).is_ready()
    }

    /// Waits for a notification; an error when the connection ends. Cancel safe.
    pub(super) async fn notification(&mut self) -> Result<Notification, StoreError> {
        let Self { driver, heard, .. } = self;
        poll_fn(|cx| {
            if let Some(notification) = heard.pop_front() {
                return Poll::Ready(Ok(notification));
            }
            let ended = poll_driver(driver, heard, cx);
            match (heard.pop_front(), ended) {
                (Some(notification), _) => Poll::Ready(Ok(notification)),
                (None, Poll::Ready(cause)) => Poll::Ready(Err(cause)),
                (None, Poll::Pending) => Poll::Pending,
            }
        })
        .await
    }

    /// How to stop what runs here; see [`cancel`].
    pub(super) fn cancel_token(&self) -> (CancelToken, MakeRustlsConnect) {
        (self.client.cancel_token(), self.tls.clone())
    }

    /// Polls a request and the driver together until the request is answered.
    ///
    /// The two wake each other through channels. Both are polled right here, so these wakes would
    /// only schedule this task again, and wake another thread to steal it, twice a statement. So the
    /// request is polled with a waker that does nothing, always after the driver; and at the end the
    /// driver is left with such a waker, or the next request would wake the task that was here last.
    async fn drive<T>(&mut self, request: impl AsyncFnOnce(&Client) -> Result<T, Error>) -> Result<T, StoreError> {
        let Self { client, driver, heard, .. } = self;
        let mut request = pin!(request(client));
        let mut is_sent = false;
        let answer = poll_fn(|cx| {
            if !is_sent && let Poll::Ready(answer) = request.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                return Poll::Ready(answer.map_err(StoreError::from));
            }
            is_sent = true;
            let ended = poll_driver(driver, heard, cx);
            match (request.as_mut().poll(&mut Context::from_waker(Waker::noop())), ended) {
                // The driver knows better why the connection ended.
                (Poll::Ready(Err(error)), Poll::Ready(cause)) if error.is_closed() => Poll::Ready(Err(cause)),
                (Poll::Ready(answer), _) => Poll::Ready(answer.map_err(StoreError::from)),
                (Poll::Pending, Poll::Ready(cause)) => Poll::Ready(Err(cause)),
                (Poll::Pending, Poll::Pending) => Poll::Pending,
            }
        })
        .await;
        if answer.is_ok() {
            let _ = poll_driver(driver, heard, &mut Context::from_waker(Waker::noop()));
        }
        self.used = Instant::now();
        answer
    }
}

/// PgBouncer says so of what it does not pass on.
fn is_refused_parameter(error: &Error) -> bool {
    error.as_db_error().is_some_and(|refused| refused.code().code() == "08P01" && refused.message().contains("startup parameter"))
}

fn major(server_version: &str) -> Option<u32> {
    server_version.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// Moves bytes both ways. Ready, with the reason, when the connection has ended.
fn poll_driver(driver: &mut Driver, heard: &mut VecDeque<Notification>, cx: &mut Context<'_>) -> Poll<StoreError> {
    loop {
        match driver.poll_message(cx) {
            Poll::Ready(Some(Ok(AsyncMessage::Notification(notification)))) => heard.push_back(notification),
            Poll::Ready(Some(Ok(_))) => {} // notices are for people at a prompt
            Poll::Ready(Some(Err(error))) => return Poll::Ready(error.into()),
            Poll::Ready(None) => return Poll::Ready(StoreError::Unreachable("the server closed the connection".to_owned())),
            Poll::Pending => return Poll::Pending,
        }
    }
}

/// Asks the server, beside this task, to stop a statement that was given up. If it cannot be
/// told, the statement ends by itself.
pub(super) fn cancel((token, tls): (CancelToken, MakeRustlsConnect)) {
    let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
    runtime.spawn(async move {
        let _ = tokio::time::timeout(CANCELLING, token.cancel_query(tls)).await;
    });
}
