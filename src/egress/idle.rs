//! Connections that wait for the next call, and after how long each endpoint closes them.
//!
//! A request that meets a closing connection is lost, because nobody knows whether it arrived.
//! So a connection is kept for less time than the endpoint keeps it: the endpoint says so
//! (`Keep-Alive: timeout`), or is found to close earlier, or else the configured time counts.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::connection::Connection;

/// Idle connections kept for one action at one endpoint.
const MAX_IDLE: usize = 1024;
/// For how long an endpoint's closing is remembered.
const MEMORY: Duration = Duration::from_secs(600);

/// Who may use a connection again: the action for which it was opened, for the host whose
/// certificate was checked. The address must be one that was judged for the call at hand.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Site {
    pub owner: String,
    pub host: String,
    pub port: u16,
}

/// An idle connection.
struct Kept {
    connection: Connection,
    address: SocketAddr,
    since: Instant,
    until: Instant,
}

/// What is known of one endpoint.
#[derive(Default)]
struct Habit {
    kept: Vec<Kept>,
    /// The shortest idleness after which it closed lately, and until when that is remembered.
    closes_after: Option<(Duration, Instant)>,
}

impl Habit {
    /// Idle connections are kept for less than this.
    fn longest(&self, now: Instant) -> Duration {
        match self.closes_after {
            Some((after, until)) if now < until => after * 3 / 4,
            _ => Duration::MAX,
        }
    }

    fn learn(&mut self, after: Duration, now: Instant) {
        let known = self.closes_after.filter(|(_, until)| now < *until).map(|(known, _)| known);
        self.closes_after = Some((known.map_or(after, |known| known.min(after)), now + MEMORY));
    }

    /// Whether a connection may be used now. One that the other side closed teaches when it does.
    fn is_fresh(&mut self, kept: &Kept, now: Instant) -> bool {
        if let Some(after) = kept.connection.idle_close.closed_after() {
            self.learn(after, now);
            return false;
        }
        kept.connection.is_open() && now < kept.until && now.saturating_duration_since(kept.since) < self.longest(now)
    }
}

/// Every idle connection of a worker.
pub struct Idle {
    longest: Duration,
    habits: Mutex<HashMap<Site, Habit>>,
}

impl Idle {
    /// Keeps connections for at most `longest`.
    pub fn new(longest: Duration) -> Self {
        Self { longest, habits: Mutex::default() }
    }

    /// The most that a connection is kept.
    pub fn longest(&self) -> Duration {
        self.longest
    }

    fn habits(&self) -> MutexGuard<'_, HashMap<Site, Habit>> {
        self.habits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection that was idle for the shortest time, its address, and how long it was idle.
    pub fn take(&self, site: &Site, addresses: &[SocketAddr]) -> Option<(Connection, SocketAddr, Duration)> {
        let mut habits = self.habits();
        let habit = habits.get_mut(site)?;
        let now = Instant::now();
        while let Some(at) = habit.kept.iter().rposition(|kept| addresses.contains(&kept.address)) {
            let kept = habit.kept.remove(at);
            let fresh = habit.is_fresh(&kept, now);
            kept.connection.idle_close.wakes();
            if fresh {
                return Some((kept.connection, kept.address, now.saturating_duration_since(kept.since)));
            }
        }
        None
    }

    /// Keeps a connection for `keep_for`, or less where the endpoint is known to close earlier.
    pub fn keep(&self, site: Site, connection: Connection, address: SocketAddr, keep_for: Duration) {
        let now = Instant::now();
        let mut habits = self.habits();
        let habit = habits.entry(site).or_default();
        let keep_for = keep_for.min(habit.longest(now));
        if habit.kept.len() < MAX_IDLE && connection.is_open() && !keep_for.is_zero() {
            connection.idle_close.idles(now);
            habit.kept.push(Kept { connection, address, since: now, until: now + keep_for });
        }
    }

    /// A call met a closing connection that had been idle for so long.
    pub fn met_closing(&self, site: &Site, after: Duration) {
        self.habits().entry(site.clone()).or_default().learn(after, Instant::now());
    }

    /// Closes connections that were idle for too long, and forgets what was learned long ago.
    pub fn sweep(&self) {
        let now = Instant::now();
        self.habits().retain(|_, habit| {
            for kept in std::mem::take(&mut habit.kept) {
                if habit.is_fresh(&kept, now) {
                    habit.kept.push(kept);
                } else {
                    kept.connection.idle_close.wakes();
                }
            }
            habit.closes_after = habit.closes_after.filter(|(_, until)| now < *until);
            !habit.kept.is_empty() || habit.closes_after.is_some()
        });
    }
}

/// For how long a connection may be kept by what its response said, and at most for `longest`.
/// `None` says that it may not be kept.
pub fn keep_for(headers: &[String], longest: Duration) -> Option<Duration> {
    let mut allowed = longest;
    for parameter in headers.iter().flat_map(|header| header.split(',')) {
        let Some((name, value)) = parameter.split_once('=') else { continue };
        let (name, value) = (name.trim(), value.trim().trim_matches('"').parse::<u32>());
        match value {
            Ok(seconds) if name.eq_ignore_ascii_case("timeout") => {
                // Half of it, because what is on its way takes time: at least 500 ms less than announced.
                allowed = allowed.min(Duration::from_secs(seconds.into()) / 2);
            }
            // The last request that it takes is the one at which it closes.
            Ok(left) if name.eq_ignore_ascii_case("max") && left < 2 => return None,
            _ => {}
        }
    }
    (!allowed.is_zero()).then_some(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_kept_for_less_than_the_endpoint_announces() {
        let longest = Duration::from_millis(10_000);
        let of = |header: &str| keep_for(&[header.to_owned()], longest).map(|kept| kept.as_millis());
        assert_eq!(keep_for(&[], longest), Some(longest));
        for (header, kept) in [
            ("timeout=5", Some(2_500)),
            ("timeout=1", Some(500)),
            ("timeout=0", None),
            ("timeout=60", Some(10_000)),
            ("Timeout = \"2\" , max=100", Some(1_000)),
            ("timeout=5, max=1", None),
            ("max=0", None),
            ("max=2", Some(10_000)),
            ("timeout=x, timeout", Some(10_000)),
            ("timeout=99999999999999", Some(10_000)),
        ] {
            assert_eq!(of(header), kept, "{header}");
        }
        assert_eq!(keep_for(&[], Duration::ZERO), None, "0 keeps none");
    }

    #[test]
    fn the_earliest_closing_counts_until_it_is_forgotten() {
        let (mut habit, now) = (Habit::default(), Instant::now());
        assert_eq!(habit.longest(now), Duration::MAX);
        habit.learn(Duration::from_millis(800), now);
        habit.learn(Duration::from_millis(2_000), now);
        assert_eq!(habit.longest(now), Duration::from_millis(600));
        assert_eq!(habit.longest(now + MEMORY), Duration::MAX);
        habit.learn(Duration::from_millis(2_000), now + MEMORY);
        assert_eq!(habit.longest(now + MEMORY), Duration::from_millis(1_500));
    }
}
