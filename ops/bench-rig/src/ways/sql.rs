//! (c) The fleet through plain SQL: 16 connections and one that listens, no library.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions};
use sqlx::{PgPool, Row};
use tokio::sync::oneshot;

use super::EVENT;
use crate::load::Way;
use crate::stand::PROJECT;

const CHANNEL: &str = "bench_sql";

/// Results that came before their waiter, and waiters whose result has not come.
#[derive(Default)]
struct Board {
    waiters: HashMap<String, oneshot::Sender<()>>,
    early: HashMap<String, ()>,
}

pub struct Sql {
    pool: PgPool,
    board: Arc<Mutex<Board>>,
}

impl Sql {
    /// As README advises, these connections commit asynchronously: the fleet's own durable
    /// completion comes after every enqueue.
    pub async fn connect(url: &str) -> Self {
        Self::over(url, 16).await
    }

    pub async fn over(url: &str, connections: u32) -> Self {
        let options: PgConnectOptions = url.parse().expect("a URL");
        let options = options.options([("synchronous_commit", "off")]);
        let pool = PgPoolOptions::new().max_connections(connections).min_connections(connections).test_before_acquire(false);
        let pool = pool.connect_with(options).await.expect("connections");
        let mut listener = PgListener::connect(url).await.expect("a connection");
        listener.listen(CHANNEL).await.expect("LISTEN");
        let board = Arc::new(Mutex::new(Board::default()));
        let heard = Arc::clone(&board);
        tokio::spawn(async move {
            while let Ok(notification) = listener.recv().await {
                let results: Vec<serde_json::Value> = serde_json::from_str(notification.payload()).expect("results");
                let mut board = heard.lock().expect("not poisoned");
                for result in results {
                    let id = result["id"].as_str().expect("an id").to_owned();
                    match board.waiters.remove(&id) {
                        Some(waiter) => drop(waiter.send(())),
                        None => drop(board.early.insert(id, ())),
                    }
                }
            }
        });
        Self { pool, board }
    }
}

impl Way for Sql {
    async fn call(&self) -> Result<(), String> {
        let row = sqlx::query("select invocation_id, wait_ms from actions.enqueue($1, 'pre_authenticate', $2::json, $3)")
            .bind(PROJECT)
            .bind(EVENT)
            .bind(CHANNEL)
            .fetch_one(&self.pool)
            .await
            .map_err(|error| error.to_string())?;
        let (id, wait_ms): (String, i32) = (row.get(0), row.get(1));
        let waiting = {
            let mut board = self.board.lock().expect("not poisoned");
            if board.early.remove(&id).is_some() {
                return Ok(());
            }
            let (sender, receiver) = oneshot::channel();
            board.waiters.insert(id.clone(), sender);
            receiver
        };
        let in_time = tokio::time::timeout(Duration::from_millis(wait_ms.unsigned_abs().into()), waiting).await;
        in_time.map_err(|_| format!("no result for {id}"))?.map_err(|error| error.to_string())
    }
}
