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
use crate::store::claim::{Claim, claim};

/// The most invocations of one claim.
const BATCH: usize = 256;
/// Pause after a claim that failed.
const PAUSE: Duration = Duration::from_millis(100);

pub async fn run(worker: Arc<Worker>, wake: Arc<Notify>, endings: UnboundedSender<Finished>, mut stopped: watch::Receiver<bool>) {
    let limits = &worker.config.worker;
    let bulkhead = Arc::new(Bulkhead::new(limits.max_in_flight, limits.max_in_flight_per_action));
    let catalog = Arc::new(Catalog::default());
    let poll = Duration::from_millis(limits.poll_ms);
    loop {
        let room = bulkhead.room(BATCH);
        let cramped = room.limit < BATCH || !room.tight.is_empty() || room.per_action < BATCH;
        let started = Instant::now();
        let claimed = if room.limit == 0 { Ok(Vec::new()) } else { claim(&worker.database, &worker.process.id, &room).await };
        let pause = match claimed {
            Ok(claims) => {
                worker.metrics.database_up.set(1);
                // A bulkhead may have cut the batch short while others wait behind it.
                let there_may_be_more = !claims.is_empty() && (claims.len() == room.limit || cramped);
                start_calls(&worker, &catalog, &bulkhead, &endings, claims, started).await;
                if there_may_be_more { None } else { Some(poll) }
            }
            Err(error) => {
                worker.metrics.database_up.set(0);
                tracing::warn!(%error, "cannot claim");
                Some(PAUSE)
            }
        };
        if *stopped.borrow() {
            break;
        }
        let Some(pause) = pause else { continue };
        tokio::select! {
            _ = stopped.changed() => break,
            () = wake.notified() => {}
            () = bulkhead.freed(), if cramped => {}
            () = tokio::time::sleep(pause) => {}
        }
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
