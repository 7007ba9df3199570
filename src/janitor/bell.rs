//! How a tick asks for work that it does not wait for. Several rings while somebody works are one.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use tokio::sync::Notify;

const IDLE: Duration = Duration::from_secs(5);

/// Rung by the leader, heard by one task.
#[derive(Default)]
pub struct Bell {
    rings: Notify,
    epoch: AtomicI64,
}

impl Bell {
    /// There is something to do, and this janitor leads under this epoch.
    pub fn ring(&self, epoch: i64) {
        self.epoch.store(epoch, Ordering::Relaxed);
        self.rings.notify_one();
    }

    /// Waits for a ring; the epoch of the last one. Calls `turn` now and then meanwhile.
    pub async fn heard(&self, turn: impl Fn()) -> i64 {
        turn();
        while tokio::time::timeout(IDLE, self.rings.notified()).await.is_err() {
            turn();
        }
        self.epoch.load(Ordering::Relaxed)
    }
}
