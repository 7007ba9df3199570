//! Who waits for which invocation, and the one connection that hears the results.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Deserialize;
use tokio::sync::{Notify, oneshot};

use crate::domain::Outcome;
use crate::store::listen::{Heard, Listener};
use crate::store::{Database, ask};

const PAUSE: Duration = Duration::from_millis(50);

/// Waiters by invocation.
#[derive(Default)]
pub struct Waiting {
    held: Mutex<Held>,
    /// There is something to read.
    reads: Notify,
}

#[derive(Default)]
struct Held {
    waiters: HashMap<String, oneshot::Sender<Outcome>>,
    /// What was heard while an enqueue is in flight, of invocations whose ids are not known yet.
    early: Option<HashMap<String, Option<Outcome>>>,
    /// Ids to be read: their notification came without an outcome, or before they were known.
    to_read: Vec<String>,
}

/// One element of a notification.
#[derive(Deserialize)]
struct Element {
    id: String,
    outcome: Option<Outcome>,
}

/// Removes a waiter that left.
pub struct Forget<'a>(&'a Waiting, &'a str);

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.0.held().waiters.remove(self.1);
    }
}

impl Waiting {
    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn expect_early(&self) {
        self.held().early = Some(HashMap::new());
    }

    pub fn forget_early(&self) {
        self.held().early = None;
    }

    /// Where the outcome will arrive; at once if it was heard early.
    pub fn register(&self, id: &str) -> oneshot::Receiver<Outcome> {
        let (sender, receiver) = oneshot::channel();
        let mut held = self.held();
        match held.early.as_mut().and_then(|early| early.remove(id)) {
            Some(Some(outcome)) => {
                let _ = sender.send(outcome); // its receiver is right here
            }
            early => {
                held.waiters.insert(id.to_owned(), sender);
                if early.is_some() {
                    held.to_read.push(id.to_owned());
                    self.reads.notify_one();
                }
            }
        }
        receiver
    }

    pub fn forget_on_drop<'a>(&'a self, id: &'a str) -> Forget<'a> {
        Forget(self, id)
    }

    fn deliver(&self, id: &str, outcome: Option<Outcome>) {
        let mut held = self.held();
        match (held.waiters.contains_key(id), outcome) {
            (true, Some(outcome)) => {
                if let Some(waiter) = held.waiters.remove(id) {
                    let _ = waiter.send(outcome); // a waiter that left has no use for it
                }
            }
            (true, None) => held.to_read.push(id.to_owned()),
            (false, outcome) => {
                if let Some(early) = &mut held.early {
                    early.insert(id.to_owned(), outcome);
                }
            }
        }
    }

    fn take_to_read(&self) -> Vec<String> {
        std::mem::take(&mut self.held().to_read)
    }

    fn everybody(&self) -> Vec<String> {
        self.held().waiters.keys().cloned().collect()
    }
}

/// Hears results for as long as the client lives.
pub async fn hear(database: Database, mut listener: Listener, waiting: Arc<Waiting>) {
    loop {
        let heard = tokio::select! {
            heard = listener.next() => Some(heard),
            () = waiting.reads.notified() => None,
        };
        match heard {
            Some(Heard::Payload(payload)) => match serde_json::from_str::<Vec<Element>>(&payload) {
                Ok(elements) => elements.into_iter().for_each(|element| waiting.deliver(&element.id, element.outcome)),
                Err(error) => tracing::warn!(%error, "a notification that is no result"),
            },
            // Whatever was sent while nobody listened was missed.
            Some(Heard::Reconnected) => read(&database, &waiting, waiting.everybody()).await,
            None => {}
        }
        let ids = waiting.take_to_read();
        if !ids.is_empty() {
            read(&database, &waiting, ids).await;
        }
    }
}

/// Reads what became of these; who gets nothing from it abandons at its deadline.
async fn read(database: &Database, waiting: &Waiting, ids: Vec<String>) {
    match ask::results(database, &ids).await {
        Ok(states) => {
            for state in states {
                if let (Some(id), Some(outcome)) = (state.invocation_id, state.outcome) {
                    waiting.deliver(&id, Some(outcome));
                }
            }
        }
        Err(error) if !error.blames_request() => {
            tracing::warn!(%error, "could not read results; trying again");
            tokio::time::sleep(PAUSE).await;
            let held = &mut *waiting.held();
            held.to_read.extend(ids.into_iter().filter(|id| held.waiters.contains_key(id)));
            waiting.reads.notify_one();
        }
        // One that is not known refuses the statement, and must not cost the others.
        Err(_) if ids.len() > 1 => {
            for id in ids {
                Box::pin(read(database, waiting, vec![id])).await;
            }
        }
        Err(error) => tracing::warn!(%error, invocation = ids.concat(), "could not read a result"),
    }
}
