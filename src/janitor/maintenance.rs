//! What may take its time, beside the ticks: the whole queue, partitions, retention and daily
//! counts. Adding up a busy day takes longer than a kill-switch may wait, and so does walking
//! over a queue that nobody could clean up.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::wakeup::Wakeup;
use crate::config;
use crate::store::{Database, StoreError, maintenance, processes, trying};
use crate::telemetry::Metrics;

/// Walking over the whole queue may cost this share of the time.
const WHOLE_LOOK_SHARE: u32 = 100;

/// Maintains whenever it is woken, for as long as the janitor lives.
pub async fn run(database: Database, retention: config::Retention, wakeup: Arc<Wakeup>, metrics: Arc<Metrics>) {
    let mut look_again_at = Instant::now();
    loop {
        let turn = || metrics.liveness.alive("maintenance");
        let epoch = wakeup.woken(turn).await;
        if Instant::now() >= look_again_at {
            match look_at_everything(&database, epoch, &turn).await {
                Ok(took) => look_again_at = Instant::now() + took * WHOLE_LOOK_SHARE,
                Err(error) => tracing::warn!(%error, "could not look at the whole queue"),
            }
        }
        if let Err(error) = keep(&database, epoch, &retention, &turn).await {
            tracing::warn!(%error, "maintenance failed; it is tried again in a minute");
        }
    }
}

/// Ends what the ticks' short looks have missed: what is left from before there was a leader.
async fn look_at_everything(database: &Database, epoch: i64, turn: &impl Fn()) -> Result<Duration, StoreError> {
    let began = Instant::now();
    let expired = maintenance::end_left_behind(database, epoch, turn).await?;
    if expired > 0 {
        tracing::warn!(invocations = expired, "ended long past their deadline: was there no janitor?");
    }
    Ok(began.elapsed())
}

/// Any number of statements, each of which may take a minute: between them it shows that it comes around.
async fn keep(database: &Database, epoch: i64, retention: &config::Retention, turn: &impl Fn()) -> Result<(), StoreError> {
    let made = maintenance::make_partitions(database, retention.days, turn).await?;
    while maintenance::count_next(database).await? {
        turn();
    }
    turn();
    let dropped = maintenance::drop_partitions(database, epoch, retention.days).await?;
    let swept = maintenance::sweep_default(database, retention.days, turn).await?;
    if made > 0 || dropped > 0 || swept > 0 {
        tracing::info!(made, dropped, swept, "partitions");
    }
    while maintenance::forget_old(database, epoch, retention).await? > 0 {
        turn();
    }
    turn();
    while trying::forget(database, epoch, retention.candidate_days).await? > 0 {
        turn();
    }
    turn();
    maintenance::forget_event_keys(database).await?;
    turn();
    processes::forget_silent(database).await
}
