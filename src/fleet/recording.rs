//! Secrets that nobody has recorded yet, when calls need them at once.
//!
//! The first calls after an action is created or a secret rotated may be hundreds. One of them
//! records the secret and reads back what counts; those that come meanwhile wait for it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::OnceCell;

use super::Worker;
use crate::store::claim::SecretVersions;
use crate::store::{StoreError, secrets};

type InFlight = HashMap<(String, i32), Arc<OnceCell<SecretVersions>>>;

/// Recordings in flight, by action and version.
#[derive(Default)]
pub struct Recordings(Mutex<InFlight>);

/// Records an action's secret under the newest root key, unless another worker was faster, and
/// reads which secrets count now. A failure is told to one call; the next one tries again.
pub async fn record(worker: &Worker, action_id: &str, version: i32) -> Result<SecretVersions, StoreError> {
    worker
        .recordings
        .shared(action_id, version, async {
            let key_id = worker.keys.newest_id();
            if let Some(secret) = worker.keys.derive(key_id, action_id, version) {
                secrets::record(&worker.database, key_id, action_id, version, &secret.fingerprint()).await?;
            }
            secrets::versions(&worker.database, action_id).await
        })
        .await
}

impl Recordings {
    async fn shared(
        &self,
        action_id: &str,
        version: i32,
        record: impl Future<Output = Result<SecretVersions, StoreError>>,
    ) -> Result<SecretVersions, StoreError> {
        let key = (action_id.to_owned(), version);
        let recording = Arc::clone(self.in_flight().entry(key.clone()).or_default());
        let versions = recording.get_or_try_init(|| record).await.cloned();
        self.in_flight().remove(&key); // whoever comes from now on reads anew
        versions
    }

    fn in_flight(&self) -> MutexGuard<'_, InFlight> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::Notify;

    use super::*;

    #[tokio::test]
    async fn one_call_records_for_all_that_wait_and_after_a_failure_the_next_one_does() {
        let recordings = Arc::new(Recordings::default());
        let (attempts, answered) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
        let calls: Vec<_> = (0..50)
            .map(|_| {
                let (recordings, attempts, answered) = (Arc::clone(&recordings), Arc::clone(&attempts), Arc::clone(&answered));
                tokio::spawn(async move {
                    let record = async {
                        let is_first = attempts.fetch_add(1, Ordering::SeqCst) == 0;
                        answered.notified().await;
                        if is_first {
                            return Err(StoreError::Unreachable("for a moment".to_owned()));
                        }
                        Ok(SecretVersions {
                            current: 1,
                            current_key: Some("k1".to_owned()),
                            previous: None,
                            previous_key: None,
                            is_seen: false,
                        })
                    };
                    recordings.shared("a", 1, record).await.is_ok()
                })
            })
            .collect();
        for _ in 0..2 {
            tokio::task::yield_now().await; // all of them wait
            answered.notify_one();
        }
        let mut recorded = 0;
        for call in calls {
            recorded += usize::from(call.await.unwrap());
        }
        assert_eq!((recorded, attempts.load(Ordering::SeqCst)), (49, 2));
        assert!(recordings.in_flight().is_empty(), "nothing is kept");
    }
}
