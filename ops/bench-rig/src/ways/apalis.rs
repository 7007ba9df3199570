//! (e) apalis-postgres, doing nothing at all: no call, no verdict. The handler tells the waiter
//! in memory, which is kinder than any notification.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{LazyLock, Mutex};

use apalis::layers::WorkerBuilderExt as _;
use apalis::prelude::{BoxDynError, TaskBuilder, TaskSink, WorkerBuilder, WorkerContext};
use apalis_postgres::{Config, PgPool, PostgresStorage};
use tokio::sync::oneshot;
use tokio::time::{Duration, Instant};

use crate::load::Way;

static WAITERS: LazyLock<Mutex<HashMap<u64, oneshot::Sender<()>>>> = LazyLock::new(Mutex::default);

async fn nothing(id: u64, _: WorkerContext) -> Result<(), BoxDynError> {
    if let Some(waiter) = WAITERS.lock().expect("not poisoned").remove(&id) {
        let _ = waiter.send(());
    }
    Ok(())
}

pub struct Apalis {
    backend: PostgresStorage<u64>,
    next: AtomicU64,
    worker: tokio::task::JoinHandle<()>,
}

impl Drop for Apalis {
    fn drop(&mut self) {
        self.worker.abort();
    }
}

impl Apalis {
    pub async fn start(url: &str) -> Self {
        let pool = PgPool::connect(url).await.expect("connections");
        PostgresStorage::<()>::setup(&pool).await.expect("its schema");
        let config = Config::default().queue("bench").batch_size(100);
        let backend = PostgresStorage::new(&pool).with_config(config);
        let worker = WorkerBuilder::new("bench").backend(backend.clone().with_pubsub()).concurrency(64).build(nothing);
        let worker = tokio::spawn(async move { worker.run().await.expect("apalis works") });
        let this = Self { backend, next: AtomicU64::new(0), worker };
        // What is pushed before its worker listens is found seconds later: not what is measured.
        let until = Instant::now() + Duration::from_secs(20);
        while !matches!(tokio::time::timeout(Duration::from_millis(100), this.call()).await, Ok(Ok(()))) {
            assert!(Instant::now() < until, "apalis does not begin to work");
        }
        this
    }
}

impl Way for Apalis {
    async fn call(&self) -> Result<(), String> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = oneshot::channel();
        WAITERS.lock().expect("not poisoned").insert(id, sender);
        self.backend.clone().push_task(TaskBuilder::new(id).build()).await.map_err(|error| error.to_string())?;
        receiver.await.map_err(|error| error.to_string())
    }
}
