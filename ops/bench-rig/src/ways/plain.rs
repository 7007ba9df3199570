//! (d) A plain queue as most teams would write it: a row trigger with NOTIFY, one statement a
//! step, sqlx's pool. It makes the bare call, unsigned and unjudged.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sqlx::postgres::{PgListener, PgPoolOptions};
use sqlx::{Executor, PgPool, Row};
use tokio::sync::{Notify, Semaphore, oneshot};

use super::EVENT;
use super::bare::Bare;
use crate::load::Way;

const SCHEMA: &str = "
create table plain_queue (id bigserial primary key, event jsonb not null, status text not null default 'queued', result jsonb);
create index plain_queued on plain_queue (id) where status = 'queued';
create function plain_wake() returns trigger language plpgsql as $$ begin perform pg_notify('plain_queue', new.id::text); return null; end $$;
create trigger plain_wake after insert on plain_queue for each row execute function plain_wake();
create function plain_tell() returns trigger language plpgsql as $$ begin perform pg_notify('plain_done', new.id::text); return null; end $$;
create trigger plain_tell after update of status on plain_queue for each row when (new.status = 'done') execute function plain_tell()";

type Waiters = Arc<Mutex<HashMap<i64, Option<oneshot::Sender<()>>>>>;

pub struct Plain {
    pool: PgPool,
    waiters: Waiters,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Drop for Plain {
    fn drop(&mut self) {
        self.tasks.iter().for_each(tokio::task::JoinHandle::abort);
    }
}

impl Plain {
    pub async fn start(url: &str, bare: Arc<Bare>) -> Self {
        let pool = PgPoolOptions::new().max_connections(16).connect(url).await.expect("connections");
        pool.execute(SCHEMA).await.expect("its schema");
        let waiters: Waiters = Arc::default();
        let tasks = vec![
            tokio::spawn(work(listener(url, "plain_queue").await, pool.clone(), bare)),
            tokio::spawn(hear(listener(url, "plain_done").await, Arc::clone(&waiters))),
        ];
        Self { pool, waiters, tasks }
    }
}

async fn listener(url: &str, channel: &str) -> PgListener {
    let mut listener = PgListener::connect(url).await.expect("a connection");
    listener.listen(channel).await.expect("LISTEN");
    listener
}

async fn work(mut listener: PgListener, pool: PgPool, bare: Arc<Bare>) {
    let wake = Arc::new(Notify::new());
    let places = Arc::new(Semaphore::new(512));
    let woken = Arc::clone(&wake);
    tokio::spawn(async move {
        while listener.recv().await.is_ok() {
            woken.notify_one();
        }
    });
    loop {
        let claimed = sqlx::query(
            "update plain_queue set status = 'running' where id in
               (select id from plain_queue where status = 'queued' order by id limit 64 for update skip locked)
             returning id, event::text",
        )
        .fetch_all(&pool)
        .await
        .expect("a claim");
        if claimed.is_empty() {
            let _ = tokio::time::timeout(Duration::from_secs(1), wake.notified()).await;
        }
        for row in claimed {
            let (id, event): (i64, String) = (row.get(0), row.get(1));
            let place = Arc::clone(&places).acquire_owned().await.expect("open");
            let (pool, bare) = (pool.clone(), Arc::clone(&bare));
            tokio::spawn(async move {
                let answer = bare.post(&event).await.expect("an answer");
                sqlx::query("update plain_queue set status = 'done', result = $2::jsonb where id = $1")
                    .bind(id)
                    .bind(String::from_utf8_lossy(&answer).into_owned())
                    .execute(&pool)
                    .await
                    .expect("a completion");
                drop(place);
            });
        }
    }
}

async fn hear(mut listener: PgListener, waiters: Waiters) {
    while let Ok(notification) = listener.recv().await {
        let id: i64 = notification.payload().parse().expect("an id");
        let mut waiters = waiters.lock().expect("not poisoned");
        match waiters.remove(&id) {
            Some(Some(waiter)) => drop(waiter.send(())),
            _ => drop(waiters.insert(id, None)),
        }
    }
}

impl Way for Plain {
    async fn call(&self) -> Result<(), String> {
        let id: i64 = sqlx::query_scalar("insert into plain_queue (event) values ($1::jsonb) returning id")
            .bind(EVENT)
            .fetch_one(&self.pool)
            .await
            .map_err(|error| error.to_string())?;
        let waiting = {
            let mut waiters = self.waiters.lock().expect("not poisoned");
            if waiters.remove(&id).is_some() {
                return Ok(());
            }
            let (sender, receiver) = oneshot::channel();
            waiters.insert(id, Some(sender));
            receiver
        };
        waiting.await.map_err(|error| error.to_string())
    }
}
