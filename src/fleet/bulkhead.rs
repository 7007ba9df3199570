//! How many calls are held, in all and for each action.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

use crate::store::claim::Room;

/// Counts calls; a [`Place`] is given back when it is dropped, however the call ended.
pub struct Bulkhead {
    most: usize,
    most_per_action: usize,
    held: Mutex<Held>,
    freed: Notify,
}

#[derive(Default)]
struct Held {
    total: usize,
    by_action: HashMap<String, usize>,
}

/// The right to hold one call.
pub struct Place {
    bulkhead: Arc<Bulkhead>,
    action: String,
}

impl Bulkhead {
    pub fn new(most: usize, most_per_action: usize) -> Self {
        Self { most, most_per_action: most_per_action.min(most), held: Mutex::default(), freed: Notify::new() }
    }

    /// What a claim may bring now, at most `batch` invocations.
    pub fn room(&self, batch: usize) -> Room {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let left = |count: usize| self.most_per_action.saturating_sub(count);
        // Only actions whose room is smaller than the batch can be overfilled by it.
        let tight = held.by_action.iter().filter(|(_, count)| left(**count) < batch);
        Room {
            limit: batch.min(self.most.saturating_sub(held.total)),
            per_action: self.most_per_action,
            tight: tight.map(|(action, count)| (action.clone(), left(*count))).collect(),
        }
    }

    pub fn take(self: &Arc<Self>, action: &str) -> Place {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.total += 1;
        *held.by_action.entry(action.to_owned()).or_default() += 1;
        Place { bulkhead: Arc::clone(self), action: action.to_owned() }
    }

    pub fn total(&self) -> usize {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).total
    }

    /// Resolves when a place was given back that somebody may have waited for.
    pub async fn freed(&self) {
        self.freed.notified().await;
    }

    /// Resolves when no call is held.
    pub async fn emptied(&self) {
        while self.total() > 0 {
            self.freed.notified().await;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut held = self.bulkhead.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.total -= 1;
        if let Some(count) = held.by_action.get_mut(&self.action) {
            *count -= 1;
            if *count == 0 {
                held.by_action.remove(&self.action);
            }
        }
        drop(held);
        self.bulkhead.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_action_never_takes_more_than_its_share() {
        let bulkhead = Arc::new(Bulkhead::new(10, 3));
        let places: Vec<Place> = (0..3).map(|_| bulkhead.take("hanging")).collect();
        let _other = bulkhead.take("other");
        let room = bulkhead.room(100);
        assert_eq!((room.limit, room.per_action), (6, 3));
        let mut tight = room.tight;
        tight.sort();
        assert_eq!(tight, [("hanging".to_owned(), 0), ("other".to_owned(), 2)]);
        drop(places);
        assert_eq!(bulkhead.room(100).limit, 9);
    }
}
