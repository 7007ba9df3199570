//! What the service manager is told: that a program is ready, alive or leaving (`Type=notify` of systemd).
//!
//! Without a service manager that asks for it nothing is said.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use sd_notify::NotifyState;

use super::Metrics;

/// The program said that it leaves: nobody watches it any more, and nobody may read what it says.
static IS_LEAVING: AtomicBool = AtomicBool::new(false);

/// The program does its work from now on.
pub fn ready() {
    tell(NotifyState::Ready);
}

/// The program ends what it holds and begins nothing more.
pub fn stopping() {
    IS_LEAVING.store(true, Ordering::Relaxed);
    tell(NotifyState::Stopping);
}

/// Shows that the program is alive, as often as the service manager wants to see it, unless one of its loops
/// stands still: then it is ended and started anew.
pub fn watch(metrics: Arc<Metrics>) {
    let Some(patience) = sd_notify::watchdog_enabled() else { return };
    tokio::spawn(async move {
        let mut every = tokio::time::interval(patience / 3);
        loop {
            every.tick().await;
            if IS_LEAVING.load(Ordering::Relaxed) {
                return;
            }
            match metrics.liveness.tell() {
                (false, _) => tell(NotifyState::Watchdog),
                // It may come around yet, before the service manager has had enough.
                (true, loops) => tracing::error!(loops, "a loop stands still; the service manager hears nothing"),
            }
        }
    });
}

fn tell(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!(%error, "the service manager does not hear");
    }
}
