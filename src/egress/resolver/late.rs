//! What came too late for the call that asked, kept for the next one.
//!
//! The question goes on in the background, and its answer is remembered for a minute whatever
//! its time to live is: a forbidden address must refuse the next call, however slowly it came.
//! Also remembered is that a family takes long, so that later calls do not wait for it at all.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::{Family, GRACE, Question};

/// For how long an answer, or its lateness, is remembered.
const MEMORY: Duration = Duration::from_secs(60);
/// How long a question goes on in the background.
const PATIENCE: Duration = Duration::from_secs(5);
/// So many go on at a time; others are given up.
const MOST_RUNNING: usize = 256;
/// With more names than this, all are forgotten.
const MOST_NAMES: usize = 10_000;

/// The families that were late, by name.
#[derive(Default)]
pub struct Late(Mutex<Memory>);

#[derive(Default)]
struct Memory {
    names: HashMap<String, [Known; 2]>,
    running: usize,
}

/// What is known of one family of one name.
#[derive(Default)]
struct Known {
    addresses: Vec<IpAddr>,
    answered_at: Option<Instant>,
    slow_at: Option<Instant>,
    is_running: bool,
}

fn is_recent(moment: Option<Instant>, now: Instant) -> bool {
    moment.is_some_and(|moment| now.saturating_duration_since(moment) < MEMORY)
}

impl Late {
    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether this family lately took longer than others wait for it.
    pub fn is_slow(&self, name: &str, family: Family, now: Instant) -> bool {
        self.memory().names.get(name).is_some_and(|known| is_recent(known[family as usize].slow_at, now))
    }

    /// What it answered when it came too late.
    pub fn remembered(&self, name: &str, family: Family, now: Instant) -> Vec<IpAddr> {
        let memory = self.memory();
        let known = memory.names.get(name).map(|known| &known[family as usize]);
        known.filter(|known| is_recent(known.answered_at, now)).map(|known| known.addresses.clone()).unwrap_or_default()
    }

    /// An answer came in time. Of a name that was late before it replaces what is remembered:
    /// it may be the late question's own answer, shared with the one asked after it.
    pub fn came(&self, name: &str, family: Family, addresses: &[IpAddr], now: Instant) {
        if let Some(known) = self.memory().names.get_mut(name) {
            let known = &mut known[family as usize];
            *known = Known { addresses: addresses.to_vec(), answered_at: Some(now), slow_at: None, is_running: known.is_running };
        }
    }

    /// Goes on asking in the background. `since` is when the call stopped waiting.
    pub fn go_on(this: &Arc<Self>, name: &str, family: Family, question: Question, since: Instant) {
        let mut memory = this.memory();
        memory.make_room(since);
        let has_room = memory.running < MOST_RUNNING;
        let known = &mut memory.names.entry(name.to_owned()).or_default()[family as usize];
        known.slow_at = Some(since);
        // The question of another call goes on already, and this one is the same.
        if known.is_running || !has_room {
            return;
        }
        known.is_running = true;
        memory.running += 1;
        drop(memory);
        let running = Running { late: Arc::clone(this), name: name.to_owned(), family };
        tokio::spawn(async move {
            let answer = tokio::time::timeout(PATIENCE, question).await;
            let addresses = match answer {
                Ok(Ok(addresses)) => Some(addresses),
                Ok(Err(error)) if error.is_no_records_found() => Some(Vec::new()),
                Ok(Err(_)) | Err(_) => None,
            };
            running.learn(addresses, since);
        });
    }
}

impl Memory {
    fn make_room(&mut self, now: Instant) {
        if self.names.len() >= MOST_NAMES {
            let is_of_use = |known: &Known| known.is_running || is_recent(known.answered_at, now) || is_recent(known.slow_at, now);
            self.names.retain(|_, families| families.iter().any(is_of_use));
        }
        if self.names.len() >= MOST_NAMES {
            self.names.clear();
        }
    }
}

/// A question in the background, until it is dropped.
struct Running {
    late: Arc<Late>,
    name: String,
    family: Family,
}

impl Running {
    fn learn(&self, addresses: Option<Vec<IpAddr>>, since: Instant) {
        let now = Instant::now();
        let mut memory = self.late.memory();
        let known = &mut memory.names.entry(self.name.clone()).or_default()[self.family as usize];
        // Who stopped waiting at once, because the family was slow before, may find that it no longer is.
        let is_slow = addresses.is_none() || now.saturating_duration_since(since) > GRACE;
        known.slow_at = is_slow.then_some(now);
        if let Some(addresses) = addresses {
            known.addresses = addresses;
            known.answered_at = Some(now);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let mut memory = self.late.memory();
        memory.running = memory.running.saturating_sub(1);
        if let Some(known) = memory.names.get_mut(&self.name) {
            known[self.family as usize].is_running = false;
        }
    }
}
