//! Whether notifications are coalesced. Pure: events go in, a delay comes out.
//!
//! PostgreSQL wakes every listening connection for each commit that notifies. With one
//! auth-core that is cheap, and a millisecond of delay would only be felt. With many of
//! them, and events coming fast, the wake-ups cost more than everything else together, and
//! coalescing makes everybody faster.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

/// From so many waiting processes on it pays.
const MANY: usize = 4;
/// At this many events a second it pays.
const FAST: f64 = 400.0;
/// Below this many events a second hardly two notifications meet.
const QUIET: f64 = 250.0;
/// Waking so many processes is worth a millisecond of delay, but never more than a few.
const PROCESSES_A_MILLISECOND: f64 = 16.0;
const LONGEST_MS: f64 = 5.0;
/// What is longer ago is forgotten.
const MEMORY: Duration = Duration::from_millis(100);

/// Who asked lately, and how fast events come.
#[derive(Default)]
pub struct Coalescing {
    asked: HashMap<String, Instant>,
    rate: f64,
    updated: Option<Instant>,
}

impl Coalescing {
    /// Events came, with the channels on which their waiters listen.
    pub fn observe<'a>(&mut self, waiters: impl Iterator<Item = Option<&'a str>>, now: Instant) {
        let mut events = 0.0;
        for waiter in waiters {
            events += 1.0;
            if let Some(channel) = waiter {
                match self.asked.get_mut(channel) {
                    Some(at) => *at = now,
                    None => drop(self.asked.insert(channel.to_owned(), now)),
                }
            }
        }
        self.asked.retain(|_, at| now - *at < MEMORY);
        let since = self.updated.map_or(MEMORY, |at| now - at).as_secs_f64();
        let memory = MEMORY.as_secs_f64();
        self.rate = self.rate * (-since / memory).exp() + events / memory;
        self.updated = Some(now);
    }

    /// Coalescing pays.
    pub fn is_on(&self) -> bool {
        self.asked.len() >= MANY && self.rate >= FAST
    }

    /// Notifications are so rare that one may hold up the others for a while.
    pub fn is_quiet(&self) -> bool {
        self.rate < QUIET
    }

    /// How long to collect results before a notification: the more listen, the more a notification costs.
    pub fn delay(&self) -> Duration {
        let share = self.asked.len() as f64 / PROCESSES_A_MILLISECOND;
        if self.is_on() { Duration::from_secs_f64(share.clamp(1.0, LONGEST_MS) / 1000.0) } else { Duration::ZERO }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A second of events, one every so many milliseconds, from so many processes in turn.
    fn seen(every_ms: u64, processes: u64) -> Coalescing {
        let start = Instant::now();
        let mut coalescing = Coalescing::default();
        for n in 0..1000 / every_ms {
            let channel = format!("channel_{}", n % processes);
            coalescing.observe(std::iter::once(Some(channel.as_str())), start + Duration::from_millis(n * every_ms));
        }
        coalescing
    }

    #[test]
    fn many_processes_and_fast_events_are_coalesced() {
        assert!(seen(1, 4).is_on());
        assert!(seen(1, 50).is_on());
        assert_eq!([seen(1, 4).delay(), seen(1, 16).delay(), seen(1, 100).delay()], [1, 1, 5].map(Duration::from_millis));
    }

    #[test]
    fn few_processes_or_slow_events_are_not() {
        assert!(!seen(1, 3).is_on());
        assert!(!seen(5, 4).is_on() && seen(5, 4).delay().is_zero());
        assert!(seen(10, 1).is_quiet() && !seen(2, 1).is_quiet(), "whoever asks");
        assert!(!seen(1, 500).asked.is_empty() && seen(1, 500).asked.len() <= 100, "old ones are forgotten");
    }
}
