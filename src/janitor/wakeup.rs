//! How a tick asks for work that it does not wait for. Several requests while it works are one.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use tokio::sync::Notify;

const IDLE: Duration = Duration::from_secs(5);

/// The leader wakes, one task waits.
#[derive(Default)]
pub struct Wakeup {
    woken: Notify,
    epoch: AtomicI64,
}

impl Wakeup {
    /// There is something to do, and this janitor leads under this epoch.
    pub fn wake(&self, epoch: i64) {
        self.epoch.store(epoch, Ordering::Relaxed);
        self.woken.notify_one();
    }

    /// Waits to be woken; the epoch of the last time. Calls `turn` now and then meanwhile.
    pub async fn woken(&self, turn: impl Fn()) -> i64 {
        turn();
        while tokio::time::timeout(IDLE, self.woken.notified()).await.is_err() {
            turn();
        }
        self.epoch.load(Ordering::Relaxed)
    }
}
