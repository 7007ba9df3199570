//! Notes for the audit log that an endpoint may cause with every event: the first of a minute goes
//! with its completion, the others are only counted.
//!
//! Writing each would let one customer's mistake fill the audit log, and all workers would wait for
//! each other at the one row that counts them.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::store::notes::More;

const MINUTE: Duration = Duration::from_secs(60);

/// What was noted lately, by action and audit event.
#[derive(Default)]
pub struct Notes(Mutex<HashMap<(String, &'static str), Noted>>);

struct Noted {
    since: Instant,
    more: i32,
}

impl Notes {
    /// Whether one of this kind was written within the minute, so that another need only be counted.
    pub fn is_known(&self, action: &str, event: &'static str, now: Instant) -> bool {
        let noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        noted.get(&(action.to_owned(), event)).is_some_and(|known| now - known.since < MINUTE)
    }

    /// One was written.
    pub fn wrote(&self, action: &str, event: &'static str, now: Instant) {
        let mut noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = noted.entry((action.to_owned(), event)).or_insert(Noted { since: now, more: 0 });
        if now - known.since >= MINUTE {
            known.since = now;
        }
    }

    /// One more of a kind that is known.
    pub fn count(&self, action: &str, event: &'static str) {
        let mut noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = noted.get_mut(&(action.to_owned(), event)) {
            known.more = known.more.saturating_add(1);
        }
    }

    /// What was counted since the last time; kinds that are over are forgotten.
    pub fn take(&self, now: Instant) -> Vec<More> {
        let mut noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let counted = noted.iter_mut().filter(|(_, known)| known.more > 0);
        let more = counted.map(|((action, event), known)| (action.clone(), (*event).to_owned(), std::mem::take(&mut known.more))).collect();
        noted.retain(|_, known| now - known.since < MINUTE);
        more
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_within_the_minute_is_only_counted() {
        let (notes, now) = (Notes::default(), Instant::now());
        assert!(!notes.is_known("a", "unknown", now));
        notes.wrote("a", "unknown", now);
        let later = now + MINUTE / 2;
        assert!(notes.is_known("a", "unknown", later) && !notes.is_known("b", "unknown", later) && !notes.is_known("a", "off", later));
        (0..3).for_each(|_| notes.count("a", "unknown"));
        assert_eq!(notes.take(later), [("a".to_owned(), "unknown".to_owned(), 3)]);
        assert_eq!(notes.take(later), []);
        assert!(!notes.is_known("a", "unknown", now + MINUTE));
    }
}
