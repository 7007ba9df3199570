//! Which secrets endpoints used lately, so that the database is told once a minute and not
//! at every call.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::Worker;
use crate::store::secrets;

const TELL_EVERY: Duration = Duration::from_secs(60);
/// More actions than that are forgotten, and told again.
const MOST: usize = 100_000;

/// When each action's current secret was last told of.
#[derive(Default)]
pub struct SecretUsage(Mutex<HashMap<String, (i32, Instant)>>);

impl SecretUsage {
    /// Whether the database should be told; true once a minute for an action and version.
    fn is_news(&self, action: &str, version: i32, now: Instant) -> bool {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match told.get(action) {
            Some((known, at)) if *known == version && now - *at < TELL_EVERY => false,
            _ => {
                if told.len() >= MOST {
                    told.clear();
                }
                told.insert(action.to_owned(), (version, now));
                true
            }
        }
    }
}

/// An answer signed with the current secret arrived. The call does not wait for this.
pub fn record(worker: &Arc<Worker>, action: &str, version: i32) {
    if worker.secret_usage.is_news(action, version, Instant::now()) {
        let (worker, action) = (Arc::clone(worker), action.to_owned());
        tokio::spawn(async move {
            if let Err(error) = secrets::seen(&worker.database, &action, version).await {
                tracing::warn!(%error, action, "could not write down that its secret works");
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_action_is_news_once_a_minute_and_with_every_new_version() {
        let (sightings, now) = (SecretUsage::default(), Instant::now());
        assert!(sightings.is_news("a", 1, now) && sightings.is_news("b", 1, now));
        assert!(!sightings.is_news("a", 1, now + TELL_EVERY / 2));
        assert!(sightings.is_news("a", 2, now + TELL_EVERY / 2));
        assert!(!sightings.is_news("a", 2, now + TELL_EVERY));
        assert!(sightings.is_news("a", 2, now + 2 * TELL_EVERY));
    }
}
