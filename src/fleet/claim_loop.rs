//! Wakes up, claims what there is room for, and starts a task for each call.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use time::OffsetDateTime;
use tokio::sync::watch;
use tokio::time::Instant;

use super::aside::After;
use super::bulkhead::Bulkhead;
use super::catalog::Catalog;
use super::claim_schedule::{ClaimSchedule, Found};
use super::coalescing::Coalescing;
use super::execute::execute;
use super::write_back::{Endings, Finished};
use super::{Calls, Worker};
use crate::config::Config;
use crate::store::claim::{Claim, Look, claim};

/// The most invocations of one claim.
const BATCH: usize = 128;
/// How soon after the call of another worker this one looks whether it came.
const SECOND_LOOK: Duration = Duration::from_millis(25);
/// Pause between attempts to read the configuration of actions.
const PAUSE: Duration = Duration::from_millis(100);
/// So often the loop shows that it is alive while it may not claim.
const STILL_WAITING: Duration = Duration::from_secs(5);

pub async fn run(worker: Arc<Worker>, calls: Arc<Calls>, endings: Endings, mut stopped: watch::Receiver<bool>) {
    let limits = &worker.config.worker;
    let bulkhead = Arc::new(Bulkhead::new(limits.max_in_flight, limits.max_in_flight_per_action));
    let catalog = Arc::new(Catalog::default());
    let mut coalescing = Coalescing::default();
    let mut schedule = ClaimSchedule::new(Duration::from_millis(limits.poll_ms), horizon(&worker.config));
    loop {
        worker.metrics.liveness.alive("claim");
        tokio::select! {
            biased;
            _ = stopped.wait_for(|is_stopped| *is_stopped) => break,
            () = endings.are_few() => {}
            // While the database is away, what is judged waits here for long.
            () = tokio::time::sleep(STILL_WAITING) => continue,
        }
        let room = bulkhead.room(BATCH);
        let at_capacity = room.limit < BATCH || !room.tight.is_empty() || room.per_action < BATCH;
        let started = Instant::now();
        let next = schedule.next_claim(at_capacity, coalescing.is_on() || worker.is_unheard.load(Ordering::Relaxed), started);
        let pause = match claim(&worker.database, &worker.process.id, &room, next.look).await {
            Ok(claims) => {
                worker.metrics.database_up.set(1);
                coalescing.observe(claims.iter().map(|claim| claim.reply_to.as_deref()), started);
                let newest = newest(&claims);
                let pause = schedule.found(&next, Found { count: claims.len(), limit: room.limit, newest }, Instant::now());
                worker.is_awake.store(schedule.is_relied_on(), Ordering::Relaxed);
                start_calls(&worker, &catalog, &bulkhead, &endings, claims, started).await;
                pause
            }
            Err(error) => {
                worker.metrics.database_up.set(0);
                worker.is_awake.store(false, Ordering::Relaxed);
                tracing::warn!(%error, "cannot claim");
                schedule.failed()
            }
        };
        if pause.lasting.is_zero() {
            continue; // even the shortest sleep lasts until the timer's next millisecond
        }
        let mut until = Instant::now() + pause.lasting;
        loop {
            tokio::select! {
                biased;
                _ = stopped.wait_for(|is_stopped| *is_stopped) => break,
                () = tokio::time::sleep_until(until) => break,
                () = calls.mine.notified(), if pause.is_interruptible => break,
                () = calls.anothers.notified(), if pause.is_interruptible => until = until.min(Instant::now() + SECOND_LOOK),
                () = bulkhead.freed(), if at_capacity && pause.is_interruptible => break,
            }
        }
    }
    worker.is_awake.store(false, Ordering::Relaxed);
    if schedule.is_relied_on() {
        // Nobody shall rely on this worker while it drains; if this fails, they find out in 250 ms.
        let nothing = Look { back: None, least_left: None, says_awake: Some(false), fair_among: None };
        let _ = claim(&worker.database, &worker.process.id, &bulkhead.room(0), nothing).await;
    }
    bulkhead.emptied().await;
}

/// How long the newest had waited of the project that brought most. The claims are sorted by age.
fn newest(claims: &[Claim]) -> Duration {
    let mut by_project: HashMap<&str, (usize, f64)> = HashMap::new();
    for claim in claims {
        let (count, newest) = by_project.entry(&claim.project_id).or_default();
        *count += 1;
        *newest = claim.queue_ms;
    }
    let most = by_project.into_values().max_by_key(|(count, _)| *count);
    most.map(|(_, queue_ms)| Duration::from_secs_f64(queue_ms.max(0.0) / 1000.0)).unwrap_or_default()
}

/// What was enqueued longer ago has no time left, whatever its action's timeout: the longest,
/// the fleet's allowance, and a second for clocks that jump.
fn horizon(config: &Config) -> Duration {
    Duration::from_secs(5) + Duration::from_millis(config.deadline.queue_allowance_ms.into()) + Duration::from_secs(1)
}

async fn start_calls(
    worker: &Arc<Worker>,
    catalog: &Arc<Catalog>,
    bulkhead: &Arc<Bulkhead>,
    endings: &Endings,
    claims: Vec<Claim>,
    started: Instant,
) {
    if claims.is_empty() {
        return;
    }
    worker.metrics.claim_batch_size.observe(claims.len() as f64);
    while let Err(error) = catalog.prepare(&worker.database, &claims).await {
        tracing::warn!(%error, "cannot read the configuration of actions");
        if error.blames_request() || claims.iter().all(|claim| started.elapsed() > claim.remaining()) {
            return; // the janitor ends them as expired
        }
        tokio::time::sleep(PAUSE).await;
    }
    for claim in claims {
        let (Some(action), Some(project)) = (catalog.action(&claim), catalog.project(&claim)) else {
            tracing::error!(invocation = claim.id, "its action or project is not in the database");
            continue;
        };
        let shadow = catalog.shadow(&claim);
        let place = bulkhead.take(&claim.action_id);
        worker.metrics.in_flight.set(i64::try_from(bulkhead.total()).unwrap_or_default());
        worker.metrics.queue_wait.observe(claim.queue_ms / 1000.0);
        let (worker, bulkhead, endings) = (Arc::clone(worker), Arc::clone(bulkhead), endings.clone());
        tokio::spawn(async move {
            let executed = execute(&worker, &claim, &action, &project, started).await;
            let after = After::is_wanted(&claim, &action).then(|| {
                let duration_ms = executed.ending.duration_ms;
                let unix_ns = (claim.claimed_unix + started.elapsed().as_secs_f64()) * 1e9;
                let at = OffsetDateTime::from_unix_timestamp_nanos(unix_ns as i128).unwrap_or(claim.enqueued_at);
                Box::new(After {
                    shadow,
                    action,
                    project,
                    body: executed.body,
                    judged: executed.judged,
                    duration_ms,
                    at,
                    claim: claim.clone(),
                })
            });
            let finished = Finished {
                ending: executed.ending,
                after,
                action_id: claim.action_id,
                reply_to: claim.reply_to,
                trigger: claim.trigger,
                claimed: started,
                queue_ms: claim.queue_ms,
                trace: executed.trace,
            };
            endings.put(finished, &worker.metrics);
            drop(place);
            worker.metrics.in_flight.set(i64::try_from(bulkhead.total()).unwrap_or_default());
        });
    }
}
