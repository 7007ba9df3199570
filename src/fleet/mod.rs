//! The worker: claims what waits, carries each invocation through its call, writes back.
//!
//! Called by `bin/worker.rs`. It holds no transaction and no pooled connection across a
//! call, and decides nothing: the verdict is `judge`'s, the last word is the fence in
//! `store::complete`.
//!
//! ```text
//! listener ─▶ claim loop ─▶ one task a call ─▶ write-back loop ─▶ notify loop
//! ```

mod bulkhead;
mod carry;
mod catalog;
mod claim_loop;
mod crowd;
mod overlap;
mod rhythm;
mod sightings;
mod write_back;

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, watch};

use self::overlap::Overlaps;
use self::sightings::Sightings;
use crate::config::{Config, ConfigError};
use crate::egress::Egress;
use crate::sign::RootKeys;
use crate::store::listen::{Heard, Listener, QUEUE_CHANNEL};
use crate::store::processes::Process;
use crate::store::{Database, StoreError, schema, secrets};
use crate::telemetry::Metrics;

/// Time between two heartbeats.
const BEAT: Duration = Duration::from_secs(5);
/// How long leaving may take once nothing is in flight: the database may be away.
const PARTING: Duration = Duration::from_secs(10);

/// What every task of a worker shares.
pub struct Worker {
    config: Config,
    database: Database,
    egress: Egress,
    keys: RootKeys,
    metrics: Arc<Metrics>,
    process: Process,
    sightings: Sightings,
    overlaps: Overlaps,
    /// No other worker lives, as far as the last heartbeat saw.
    is_alone: AtomicBool,
    /// This one has said that it is awake, so nobody who enqueues notifies.
    is_awake: AtomicBool,
}

/// Why a worker could not run.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The database refused, or could not be reached when starting.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Results could not be written back before leaving.
    #[error("left without writing back everything: the database did not answer within {} s; the janitor ends what is left", PARTING.as_secs())]
    Parting,
}

impl Worker {
    /// Checks configuration and schema; nothing is claimed yet.
    pub async fn prepare(config: Config, metrics: Arc<Metrics>) -> Result<Self, WorkerError> {
        let database = Database::new(&config.database, "actions-worker")?;
        let keys = config.root_keys()?;
        let egress = Egress::new(&config.egress)?;
        egress.check_resolvers()?;
        schema::check(&database).await?;
        if !config.egress.allow_cidrs.is_empty() {
            tracing::warn!(allow_cidrs = ?config.egress.allow_cidrs, "egress.allow_cidrs lifts address rules: for development and tests only");
        }
        if let Some(path) = &config.egress.extra_ca_file {
            tracing::warn!(path = %path.display(), "egress.extra_ca_file trusts more than the public roots: for development and tests only");
        }
        Ok(Self {
            config,
            database,
            egress,
            keys,
            metrics,
            process: Process::this("worker"),
            sightings: Sightings::default(),
            overlaps: Overlaps::default(),
            is_alone: AtomicBool::default(),
            is_awake: AtomicBool::default(),
        })
    }

    /// Works until `stop` resolves, then drains: claims nothing more, finishes what it
    /// holds inside each deadline and writes it back.
    pub async fn run(self, stop: impl Future<Output = ()>) -> Result<(), WorkerError> {
        let worker = Arc::new(self);
        let listener = Listener::connect(&worker.database, QUEUE_CHANNEL).await?;
        let calls = Arc::new(Calls::default());
        let (stopping, stopped) = watch::channel(false);
        let (endings, write_back) = write_back::start(Arc::clone(&worker));
        let listening = tokio::spawn(listen(Arc::clone(&worker), listener, Arc::clone(&calls)));
        let recording = tokio::spawn(record_secrets(Arc::clone(&worker), Arc::clone(&calls)));
        let beating = tokio::spawn(beat(Arc::clone(&worker)));
        let claiming = tokio::spawn(claim_loop::run(Arc::clone(&worker), calls, endings, stopped));
        tracing::info!(worker = worker.process.id, "working");

        stop.await;
        tracing::info!(in_flight = worker.metrics.in_flight.get(), "draining");
        stopping.send_replace(true);
        // The claim loop ends when its last call has; the write-back when it has written that.
        let unfinished = claiming.await.is_err();
        let parted = tokio::time::timeout(PARTING, write_back).await;
        listening.abort();
        recording.abort();
        beating.abort();
        if let Err(error) = worker.process.leave(&worker.database).await {
            tracing::warn!(%error, "could not sign off");
        }
        worker.database.close();
        if unfinished || parted.is_err() {
            return Err(WorkerError::Parting);
        }
        tracing::info!("drained");
        Ok(())
    }
}

/// What the listener tells the claim loop.
#[derive(Default)]
struct Calls {
    /// Something is in the queue, for this worker or for everybody.
    mine: Notify,
    /// Something is in the queue for another worker, who may be gone.
    anothers: Notify,
    /// New secrets wait to be recorded.
    secrets: Notify,
}

async fn listen(worker: Arc<Worker>, mut listener: Listener, calls: Arc<Calls>) {
    loop {
        match listener.next().await {
            Heard::Payload(payload) if payload == "secrets" => calls.secrets.notify_one(),
            Heard::Payload(payload) if payload.is_empty() || payload == worker.process.id => calls.mine.notify_one(),
            Heard::Payload(_) => calls.anothers.notify_one(),
            Heard::Reconnected => {
                calls.mine.notify_one();
                calls.secrets.notify_one();
            }
        }
    }
}

/// Fingerprints secrets that no holder of root keys has recorded yet: at the start, and when told.
async fn record_secrets(worker: Arc<Worker>, calls: Arc<Calls>) {
    loop {
        if let Err(error) = try_record_secrets(&worker).await {
            // Not lost: each call records its own secret when it finds it missing.
            tracing::warn!(%error, "could not record the fingerprints of new secrets");
        }
        calls.secrets.notified().await;
    }
}

async fn try_record_secrets(worker: &Worker) -> Result<(), StoreError> {
    let key_id = worker.keys.newest_id();
    for (id, version) in secrets::unrecorded(&worker.database).await? {
        if let Some(secret) = worker.keys.derive(key_id, &id, version) {
            secrets::record(&worker.database, key_id, &id, version, &secret.fingerprint()).await?;
        }
    }
    Ok(())
}

async fn beat(worker: Arc<Worker>) {
    let mut every = tokio::time::interval(BEAT);
    loop {
        every.tick().await;
        let in_flight = usize::try_from(worker.metrics.in_flight.get()).unwrap_or_default();
        let others = worker.process.beat(&worker.database, in_flight).await;
        worker.is_alone.store(matches!(others, Ok(0)), Ordering::Relaxed);
        if let Err(error) = others {
            tracing::warn!(%error, "no heartbeat");
        }
        worker.egress.close_idle();
    }
}
