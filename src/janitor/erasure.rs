//! Erases projects that are to be erased, a few thousand rows at a time, beside the ticks.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use super::leadership::Standing;
use crate::store::{Database, maintenance};
use crate::telemetry::Metrics;

/// Between two looks for something to erase. Nobody waits for it.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Erases whenever this janitor leads, for as long as it lives.
pub async fn run(database: Database, standing: watch::Receiver<Standing>, metrics: Arc<Metrics>) {
    let mut looks = tokio::time::interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        metrics.liveness.alive("erasure");
        let epoch = standing.borrow().epoch();
        let Some(epoch) = epoch else { continue };
        loop {
            match maintenance::erase_next(&database, epoch).await {
                Ok(true) => metrics.liveness.alive("erasure"),
                Ok(false) => break,
                Err(error) => {
                    tracing::warn!(%error, "erasing stopped; it goes on in a moment");
                    break;
                }
            }
        }
    }
}
