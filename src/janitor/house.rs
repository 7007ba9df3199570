//! What may take its time, beside the ticks: the whole queue, partitions, retention and daily
//! counts. Adding up a busy day takes longer than a kill-switch may wait, and so does walking
//! over a queue that nobody could clean up.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::bell::Bell;
use crate::config;
use crate::store::{Database, StoreError, chores, processes};
use crate::telemetry::Metrics;

/// Walking over the whole queue may cost this share of the time.
const WHOLE_LOOK_SHARE: u32 = 100;

/// Keeps house whenever the bell rings, for as long as the janitor lives.
pub async fn run(database: Database, retention: config::Retention, bell: Arc<Bell>, metrics: Arc<Metrics>) {
    let mut look_again_at = Instant::now();
    loop {
        let epoch = bell.heard(|| metrics.turns.turn("housekeeping")).await;
        if Instant::now() >= look_again_at {
            match look_at_everything(&database, epoch).await {
                Ok(took) => look_again_at = Instant::now() + took * WHOLE_LOOK_SHARE,
                Err(error) => tracing::warn!(%error, "could not look at the whole queue"),
            }
        }
        if let Err(error) = keep(&database, epoch, &retention).await {
            tracing::warn!(%error, "housekeeping failed; it is tried again in a minute");
        }
    }
}

/// Ends what the ticks' short looks have missed: what is left from before there was a leader.
async fn look_at_everything(database: &Database, epoch: i64) -> Result<Duration, StoreError> {
    let began = Instant::now();
    let expired = chores::end_left_behind(database, epoch).await?;
    if expired > 0 {
        tracing::warn!(invocations = expired, "ended long past their deadline: was there no janitor?");
    }
    Ok(began.elapsed())
}

async fn keep(database: &Database, epoch: i64, retention: &config::Retention) -> Result<(), StoreError> {
    let made = chores::make_partitions(database, retention.days).await?;
    while chores::count_next(database).await? {}
    let dropped = chores::drop_partitions(database, epoch, retention.days).await?;
    let swept = chores::sweep_default(database, retention.days).await?;
    if made > 0 || dropped > 0 || swept > 0 {
        tracing::info!(made, dropped, swept, "partitions");
    }
    while chores::forget_old(database, epoch, retention).await? > 0 {}
    chores::forget_event_keys(database).await?;
    processes::forget_silent(database).await
}
