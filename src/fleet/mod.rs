//! The worker: claims what waits, carries each invocation through its call, writes back.
//!
//! Called by `bin/worker.rs`. It holds no transaction and no pooled connection across a
//! call, and decides nothing: the verdict is `judge`'s, the last word is the fence in
//! `store::complete`.
//!
//! ```text
//! listener ─▶ claim loop ─▶ one task a call ─▶ write-back loop ─▶ notify loop
//! ```

mod aside;
mod bulkhead;
mod catalog;
mod claim_loop;
mod claim_schedule;
mod coalescing;
mod execute;
mod notes;
mod overlap;
mod recording;
mod secret_usage;
mod trace;
mod write_back;

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, watch};

use self::notes::Notes;
use self::overlap::Overlaps;
use self::recording::Recordings;
use self::secret_usage::SecretUsage;
use crate::config::{Config, ConfigError};
use crate::egress::Egress;
use crate::sign::RootKeys;
use crate::store::listen::{Heard, Listener, QUEUE_CHANNEL};
use crate::store::processes::Process;
use crate::store::{Database, StoreError, schema, secrets};
use crate::supervise::Loops;
use crate::telemetry::traces::Tracer;
use crate::telemetry::{Metrics, service};

/// Time between two heartbeats.
const BEAT: Duration = Duration::from_secs(5);
/// From this share of the server's queue of notifications on the worker looks by itself. At one half
/// nobody is notified any more; see `actions_private.may_notify`.
const NEARLY_HALF: f64 = 0.4;
/// How long leaving may take once nothing is in flight: the database may be away.
const PARTING: Duration = Duration::from_secs(10);
/// How long a collector may take for what is left.
const LAST_SPANS: Duration = Duration::from_secs(3);

/// What every task of a worker shares.
pub struct Worker {
    config: Config,
    database: Database,
    egress: Egress,
    keys: RootKeys,
    metrics: Arc<Metrics>,
    process: Process,
    /// Where the operator has a collector.
    tracer: Option<Tracer>,
    secret_usage: SecretUsage,
    notes: Notes,
    overlaps: Overlaps,
    recordings: Recordings,
    /// No other worker lives, as far as the last heartbeat saw.
    is_alone: AtomicBool,
    /// This one has said that it is awake, so nobody who enqueues notifies.
    is_awake: AtomicBool,
    /// The server's queue of notifications is nearly half full: soon nobody notifies any more.
    is_unheard: AtomicBool,
    /// It drains: nothing is begun that nobody waits for.
    is_leaving: AtomicBool,
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
    /// A loop panicked. A process that goes on without it would only look healthy.
    #[error("the loop {0} ended; leaving, so that whoever watches this process starts it anew")]
    LoopEnded(&'static str),
}

impl Worker {
    /// Checks configuration and schema; nothing is claimed yet.
    pub async fn prepare(config: Config, process: Process, metrics: Arc<Metrics>) -> Result<Self, WorkerError> {
        let database = Database::new(&config.database, "actions-worker")?;
        let counted = Arc::clone(&metrics);
        database.on_replaced(move |reason| counted.replaced(reason));
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
            process,
            tracer: None,
            secret_usage: SecretUsage::default(),
            notes: Notes::default(),
            overlaps: Overlaps::default(),
            recordings: Recordings::default(),
            is_alone: AtomicBool::default(),
            is_awake: AtomicBool::default(),
            is_unheard: AtomicBool::default(),
            is_leaving: AtomicBool::default(),
        })
    }

    /// Works until `stop` resolves, then drains: claims nothing more, finishes what it
    /// holds inside each deadline and writes it back.
    pub async fn run(mut self, stop: impl Future<Output = ()>) -> Result<(), WorkerError> {
        let mut loops = Loops::default();
        // By itself: spans are no reason to end.
        let mut traces = Loops::default();
        if let Some((tracer, exporting)) =
            Tracer::new(&self.config.telemetry, "actions-worker", &self.process.id, Arc::clone(&self.metrics))?
        {
            self.tracer = Some(tracer);
            traces.start("traces", exporting);
        }
        let worker = Arc::new(self);
        // Before anything is claimed: this may be a copy of the database, see the heartbeat.
        worker.beat().await?;
        let listener = Listener::connect(&worker.database, QUEUE_CHANNEL).await?;
        let calls = Arc::new(Calls::default());
        let (stopping, stopped) = watch::channel(false);
        let (asides, keeping) = aside::start(&worker);
        let (endings, writing, telling) = write_back::loops(&worker, asides);
        loops.start("listen", listen(Arc::clone(&worker), listener, Arc::clone(&calls)));
        loops.start("record_secrets", record_secrets(Arc::clone(&worker), Arc::clone(&calls)));
        loops.start("beat", beat(Arc::clone(&worker), Arc::clone(&calls)));
        loops.start("claim", claim_loop::run(Arc::clone(&worker), calls, endings, stopped));
        loops.start("write_back", writing);
        loops.start("tell", telling);
        loops.start("aside", keeping);
        tracing::info!("working");
        worker.metrics.working.set(1);
        service::ready();

        tokio::select! {
            () = stop => {}
            name = loops.any_ended() => return Err(WorkerError::LoopEnded(name)),
        }
        tracing::info!(in_flight = worker.metrics.in_flight.get(), "draining");
        worker.metrics.working.set(0);
        service::stopping();
        worker.is_leaving.store(true, Ordering::Relaxed);
        stopping.send_replace(true);
        // The claim loop ends when its last call has; the others when they have written and told that.
        let is_finished = loops.ended("claim").await;
        let rest = async { loops.ended("write_back").await && loops.ended("tell").await && loops.ended("aside").await };
        let is_written = tokio::time::timeout(PARTING, rest).await.unwrap_or(false);
        if let Some(tracer) = &worker.tracer {
            let sending = async { tracer.close().await && traces.ended("traces").await };
            let _ = tokio::time::timeout(LAST_SPANS, sending).await; // nobody waits for spans
        }
        drop(loops);
        if let Err(error) = worker.write_notes().await {
            tracing::warn!(%error, "could not count notes for the audit log");
        }
        if let Err(error) = worker.process.leave(&worker.database).await {
            tracing::warn!(%error, "could not sign off");
        }
        worker.database.close();
        if !is_finished || !is_written {
            return Err(WorkerError::Parting);
        }
        tracing::info!("drained");
        Ok(())
    }

    /// Counts what was noted again.
    async fn write_notes(&self) -> Result<(), StoreError> {
        let more = self.notes.take(tokio::time::Instant::now());
        if more.is_empty() { Ok(()) } else { crate::store::notes::more(&self.database, &more).await }
    }

    async fn beat(&self) -> Result<(), StoreError> {
        let in_flight = usize::try_from(self.metrics.in_flight.get()).unwrap_or_default();
        let seen = self.process.beat(&self.database, in_flight).await?;
        self.is_alone.store(seen.other_workers == 0, Ordering::Relaxed);
        let was_unheard = self.is_unheard.swap(seen.notify_queue_usage >= NEARLY_HALF, Ordering::Relaxed);
        if seen.notify_queue_usage >= NEARLY_HALF && !was_unheard {
            tracing::error!(
                usage = seen.notify_queue_usage,
                "the server's queue of notifications fills: a session listens within a long transaction; see actionsctl doctor"
            );
        }
        self.metrics.notify_queue_usage.set(seen.notify_queue_usage);
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
        worker.metrics.liveness.alive("listen");
        match listener.next().await {
            Heard::Payload(payload) if payload == "secrets" => calls.secrets.notify_one(),
            Heard::Payload(payload) if payload.is_empty() || payload == worker.process.id => calls.mine.notify_one(),
            Heard::Payload(_) => calls.anothers.notify_one(),
            Heard::Reconnected => {
                calls.mine.notify_one();
                calls.secrets.notify_one();
            }
            Heard::Silence => {}
        }
    }
}

/// Fingerprints secrets that no holder of root keys has recorded yet: at the start, and when told.
async fn record_secrets(worker: Arc<Worker>, calls: Arc<Calls>) {
    loop {
        worker.metrics.liveness.alive("record_secrets");
        if let Err(error) = try_record_secrets(&worker).await {
            // Not lost: each call records its own secret when it finds it missing.
            tracing::warn!(%error, "could not record the fingerprints of new secrets");
        }
        while tokio::time::timeout(BEAT, calls.secrets.notified()).await.is_err() {
            worker.metrics.liveness.alive("record_secrets");
        }
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

async fn beat(worker: Arc<Worker>, calls: Arc<Calls>) {
    let mut every = tokio::time::interval(BEAT);
    loop {
        every.tick().await;
        worker.metrics.liveness.alive("beat");
        if let Err(error) = worker.beat().await {
            worker.is_alone.store(false, Ordering::Relaxed);
            tracing::warn!(%error, "no heartbeat");
        }
        if let Err(error) = worker.write_notes().await {
            tracing::warn!(%error, "could not count notes for the audit log");
        }
        if worker.is_unheard.load(Ordering::Relaxed) {
            calls.mine.notify_one(); // the last notification may have been the last for long
        }
        worker.egress.close_idle();
    }
}
