//! The fleet's gauges, and the invocations that no worker counted, in the leader's metrics.

use std::time::Duration;

use time::OffsetDateTime;

use crate::store::gauges;
use crate::store::{Database, StoreError};
use crate::telemetry::{ErrorLabels, InvocationLabels, Metrics};

/// A row becomes visible later than the time it carries, because its commit waits for a flush.
const SETTLED_AFTER: Duration = Duration::from_secs(2);

/// Up to which moment endings were counted; nothing from before this janitor led.
#[derive(Default)]
pub struct Gauges {
    counted_until: Option<OffsetDateTime>,
}

impl Gauges {
    /// Looks, and counts what ended since the last look.
    pub async fn look(&mut self, database: &Database, metrics: &Metrics) -> Result<(), StoreError> {
        let queue = gauges::queue(database).await?;
        metrics.queued.set(queue.queued);
        metrics.oldest_queued.set(queue.oldest_s);
        metrics.notify_queue_usage.set(queue.notify_queue_usage);
        metrics.replication_lag.set(queue.replication_lag_bytes);
        metrics.database_certificate_expiry.set(database.certificate_expiry().unwrap_or_default());
        let until = queue.at - SETTLED_AFTER;
        let Some(from) = self.counted_until else {
            self.counted_until = Some(until);
            return Ok(());
        };
        for ended in gauges::ended_by_others(database, from, until).await? {
            let labels = InvocationLabels { trigger: ended.trigger.as_str(), status: ended.status.as_str() };
            metrics.invocations.get_or_create(&labels).inc_by(ended.count);
            metrics.errors.get_or_create(&ErrorLabels { code: ended.error_code.as_str() }).inc_by(ended.count);
        }
        self.counted_until = Some(until);
        Ok(())
    }
}
