//! How a tick asks for work that it does not wait for. Several rings while somebody works are one.

use std::sync::atomic::{AtomicI64, Ordering};

use tokio::sync::Notify;

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

    /// Waits for a ring; the epoch of the last one.
    pub async fn heard(&self) -> i64 {
        self.rings.notified().await;
        self.epoch.load(Ordering::Relaxed)
    }
}
