//! Wakes up, claims what there is room for, and starts a task for each call.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::Worker;
use super::bulkhead::Bulkhead;
use super::carry::carry;
use super::catalog::Catalog;
use super::write_back::Finished;
use crate::store::claim::{Claim, Look, claim};

/// The most invocations of one claim.
const BATCH: usize = 256;
/// Pause after a claim that failed.
const PAUSE: Duration = Duration::from_millis(100);
/// A worker that goes to sleep looks again this soon, and then after twice as long each time:
/// whoever enqueued while it was awake did not notify, and may have committed since.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
/// When a claim usually brings this many invocations, the worker stays awake: it claims every
/// millisecond, and says so, which saves those who enqueue the notification. What a statement
/// costs is mostly the statement, not its rows.
const BUSY: f64 = 3.0;
const GATHER: Duration = Duration::from_millis(1);
/// The database believes for 100 ms that a worker is awake; it is told again in time.
const SAY_AWAKE_EVERY: Duration = Duration::from_millis(50);
/// Most looks go back this far, and one in so often over the whole queue.
const LOOK_BACK: Duration = Duration::from_millis(100);
const WHOLE_LOOK_EVERY: Duration = Duration::from_millis(250);
/// A whole look may take a while where vacuum cannot clean up; it may cost this share of the time.
const WHOLE_LOOK_SHARE: u32 = 20;

pub async fn run(worker: Arc<Worker>, wake: Arc<Notify>, endings: UnboundedSender<Finished>, mut stopped: watch::Receiver<bool>) {
    let limits = &worker.config.worker;
    let bulkhead = Arc::new(Bulkhead::new(limits.max_in_flight, limits.max_in_flight_per_action));
    let catalog = Arc::new(Catalog::default());
    let poll = Duration::from_millis(limits.poll_ms);
    let mut pause = poll;
    let mut usual = 0.0;
    let mut said_awake: Option<Instant> = None;
    let mut whole_look_at = Instant::now();
    loop {
        let room = bulkhead.room(BATCH);
        let cramped = room.limit < BATCH || !room.tight.is_empty() || room.per_action < BATCH;
        let started = Instant::now();
        let is_awake = usual >= BUSY && !cramped;
        let says = match said_awake {
            None => is_awake.then_some(true),
            Some(_) if !is_awake => Some(false),
            Some(at) => (at.elapsed() > SAY_AWAKE_EVERY).then_some(true),
        };
        // What a bulkhead left behind may be old, and so may be a backlog.
        let whole = cramped || started >= whole_look_at;
        let look = Look { back: (!whole).then_some(LOOK_BACK), says_awake: says };
        match claim(&worker.database, &worker.process.id, &room, look).await {
            Ok(claims) => {
                worker.metrics.database_up.set(1);
                if let Some(awake) = says {
                    said_awake = awake.then_some(started);
                }
                if whole && claims.len() < room.limit {
                    whole_look_at = started + WHOLE_LOOK_EVERY.max(started.elapsed() * WHOLE_LOOK_SHARE);
                }
                usual = (usual * 7.0 + claims.len() as f64) / 8.0;
                pause = if is_awake {
                    if started.elapsed() < GATHER / 2 { GATHER } else { Duration::ZERO }
                } else if says == Some(false) {
                    FIRST_PAUSE
                } else if !claims.is_empty() && (claims.len() == room.limit || cramped) {
                    Duration::ZERO // there may be more, and nobody will notify of it
                } else {
                    (pause * 2).clamp(FIRST_PAUSE, poll)
                };
                start_calls(&worker, &catalog, &bulkhead, &endings, claims, started).await;
            }
            Err(error) => {
                worker.metrics.database_up.set(0);
                tracing::warn!(%error, "cannot claim");
                pause = PAUSE;
            }
        };
        if *stopped.borrow() {
            break;
        }
        if pause.is_zero() {
            continue; // even the shortest sleep lasts until the timer's next millisecond
        }
        tokio::select! {
            biased;
            _ = stopped.changed() => break,
            () = tokio::time::sleep(pause) => {}
            () = wake.notified(), if !is_awake => {}
            () = bulkhead.freed(), if cramped => {}
        }
    }
    if said_awake.is_some() {
        // Nobody shall rely on this worker while it drains; if this fails, the others find out in 100 ms.
        let nothing = bulkhead.room(0);
        let _ = claim(&worker.database, &worker.process.id, &nothing, Look { back: None, says_awake: Some(false) }).await;
    }
    bulkhead.emptied().await;
}

async fn start_calls(
    worker: &Arc<Worker>,
    catalog: &Arc<Catalog>,
    bulkhead: &Arc<Bulkhead>,
    endings: &UnboundedSender<Finished>,
    claims: Vec<Claim>,
    started: Instant,
) {
    if claims.is_empty() {
        return;
    }
    worker.metrics.claim_batch_size.observe(claims.len() as f64);
    while let Err(error) = catalog.prepare(&worker.database, &claims).await {
        tracing::warn!(%error, "cannot read the configuration of actions");
        if !error.is_unreachable() || claims.iter().all(|claim| started.elapsed() > claim.remaining()) {
            return; // the janitor ends them as expired
        }
        tokio::time::sleep(PAUSE).await;
    }
    for claim in claims {
        let (Some(action), Some(project)) = (catalog.action(&claim), catalog.project(&claim)) else {
            tracing::error!(invocation = claim.id, "its action or project is not in the database");
            continue;
        };
        let place = bulkhead.take(&claim.action_id);
        worker.metrics.in_flight.set(i64::try_from(bulkhead.total()).unwrap_or_default());
        worker.metrics.queue_wait.observe(claim.queue_ms / 1000.0);
        let (worker, bulkhead, endings) = (Arc::clone(worker), Arc::clone(bulkhead), endings.clone());
        tokio::spawn(async move {
            let ending = carry(&worker, &claim, &action, &project, started).await;
            if endings
                .send(Finished { ending, reply_to: claim.reply_to, trigger: claim.trigger, claimed: started, queue_ms: claim.queue_ms })
                .is_err()
            {
                tracing::error!(invocation = claim.id, "the write-back is gone");
            }
            drop(place);
            worker.metrics.in_flight.set(i64::try_from(bulkhead.total()).unwrap_or_default());
        });
    }
}
