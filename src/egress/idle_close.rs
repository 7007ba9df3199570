//! Whether the other side closed a connection while it was idle, and how long it had been idle.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Shared by a connection and the task that drives it.
#[derive(Debug, Clone, Default)]
pub struct IdleClose(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    idle_since: Option<Instant>,
    closed_after: Option<Duration>,
}

impl IdleClose {
    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The connection waits for the next call from this moment on.
    pub fn idles(&self, since: Instant) {
        self.with(|state| state.idle_since = Some(since));
    }

    /// Nobody waits any more: the connection is used again, or we close it.
    pub fn wakes(&self) {
        self.with(|state| state.idle_since = None);
    }

    /// The connection ended. Only the other side ends one that is idle.
    pub fn ended(&self, at: Instant) {
        self.with(|state| state.closed_after = state.idle_since.map(|since| at.saturating_duration_since(since)));
    }

    /// After how long of idleness the other side closed it, if it did.
    pub fn closed_after(&self) -> Option<Duration> {
        self.with(|state| state.closed_after)
    }
}
