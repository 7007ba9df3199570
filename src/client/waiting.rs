//! Who waits for which invocation, and the connection that hears the results.
//!
//! Hearing and asking are two loops: a result that must be read, because it did not fit into its
//! notification or the notification did not come, never keeps anybody from hearing the next one.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Deserialize;
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};

use super::ReplyTo;
use crate::domain::Outcome;
use crate::store::listen::{Heard, Listener};
use crate::store::{Database, auth_core};

/// After so long without any result, waiters are asked for: the notification may have been lost.
const SILENCE: Duration = Duration::from_millis(100);
/// The same once a result had to be asked for: perhaps the server sends no notifications, because
/// its queue of them is half full.
const DEAF: Duration = Duration::from_millis(40);
/// How often somebody looks whether it is time to ask.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// While others are heard, a single one is asked for this often.
const SINGLE: Duration = Duration::from_secs(1);
/// Asking may cost this share of the time, so that an overloaded server is not asked to death.
const SHARE: u32 = 10;
/// The most ids of one question.
const BATCH: usize = 128;
/// The most questions at a time.
const QUESTIONS: usize = 4;
const PAUSE: Duration = Duration::from_millis(50);

/// Waiters by invocation.
pub struct Waiting {
    reply_to: ReplyTo,
    held: Mutex<Held>,
    /// There is something to ask for, or somebody to watch over.
    changed: Notify,
}

struct Held {
    waiters: HashMap<String, Waiter>,
    /// What was heard while an enqueue is in flight, of invocations whose ids are not known yet.
    early: Option<HashMap<String, Option<Outcome>>>,
    /// Ids to be read: their notification came without an outcome or a token, or before they were known.
    to_read: Vec<String>,
    /// When a result was last heard.
    heard: Instant,
    /// The last result had to be asked for.
    is_deaf: bool,
    /// When it was last decided whom to ask for.
    looked: Instant,
    /// What the last question took.
    took: Duration,
}

struct Waiter {
    outcome: oneshot::Sender<Outcome>,
    /// Since when nobody asked for it.
    since: Instant,
    /// It was asked for because nothing was heard.
    was_missed: bool,
}

/// One element of a notification.
#[derive(Deserialize)]
struct Element {
    id: String,
    token: Option<String>,
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
    pub fn new(reply_to: ReplyTo) -> Self {
        let (now, took) = (Instant::now(), Duration::ZERO);
        let held = Held { waiters: HashMap::new(), early: None, to_read: Vec::new(), heard: now, is_deaf: false, looked: now, took };
        Self { reply_to, held: Mutex::new(held), changed: Notify::new() }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What enqueue is told.
    pub fn reply_to(&self) -> &str {
        self.reply_to.as_str()
    }

    pub fn expect_early(&self) {
        self.held().early = Some(HashMap::new());
    }

    pub fn forget_early(&self) {
        self.held().early = None;
    }

    /// Where the outcome will arrive; at once if it was heard early.
    pub fn register(&self, id: &str) -> oneshot::Receiver<Outcome> {
        let (outcome, receiver) = oneshot::channel();
        let mut held = self.held();
        match held.early.as_mut().and_then(|early| early.remove(id)) {
            Some(Some(heard)) => {
                let _ = outcome.send(heard); // its receiver is right here
            }
            early => {
                let is_first = held.waiters.is_empty();
                held.waiters.insert(id.to_owned(), Waiter { outcome, since: Instant::now(), was_missed: false });
                if early.is_some() {
                    held.to_read.push(id.to_owned());
                }
                if early.is_some() || is_first {
                    self.changed.notify_one();
                }
            }
        }
        receiver
    }

    pub fn forget_on_drop<'a>(&'a self, id: &'a str) -> Forget<'a> {
        Forget(self, id)
    }

    /// Anybody may notify any channel: only what carries our token is believed, and for the rest
    /// the database is asked.
    fn hear(&self, element: Element) {
        let is_ours = element.token.as_deref() == Some(self.reply_to.token());
        let mut held = self.held();
        if is_ours {
            held.heard = Instant::now();
            held.is_deaf = false;
        }
        match element.outcome.filter(|_| is_ours) {
            Some(outcome) => held.deliver(&element.id, outcome),
            None if held.waiters.contains_key(&element.id) => {
                held.to_read.push(element.id);
                self.changed.notify_one();
            }
            None if is_ours => {
                if let Some(early) = &mut held.early {
                    early.insert(element.id, None);
                }
            }
            None => {}
        }
    }

    /// Whom to ask for now; `None` where nobody waits.
    fn to_ask(&self, now: Instant) -> Option<Vec<String>> {
        let mut held = self.held();
        let mut ids = std::mem::take(&mut held.to_read);
        if held.waiters.is_empty() {
            return None;
        }
        let patience = match () {
            () if held.is_deaf => DEAF,
            () if now - held.heard < SILENCE => SINGLE,
            () => SILENCE,
        };
        let patience = patience.max(held.took * SHARE);
        if now - held.looked < patience / 4 {
            return Some(ids); // nobody's time can have come meanwhile, or hardly
        }
        held.looked = now;
        for (id, waiter) in &mut held.waiters {
            if now - waiter.since >= patience {
                waiter.since = now;
                waiter.was_missed = true;
                ids.push(id.clone());
            }
        }
        ids.sort_unstable();
        ids.dedup();
        Some(ids)
    }

    fn ask_for_everybody(&self) {
        let mut held = self.held();
        let everybody: Vec<String> = held.waiters.keys().cloned().collect();
        held.to_read.extend(everybody);
        drop(held);
        self.changed.notify_one();
    }
}

impl Held {
    fn deliver(&mut self, id: &str, outcome: Outcome) {
        if let Some(waiter) = self.waiters.remove(id) {
            let _ = waiter.outcome.send(outcome); // a waiter that left has no use for it
        } else if let Some(early) = &mut self.early {
            early.insert(id.to_owned(), Some(outcome));
        }
    }
}

/// Hears results for as long as the client lives.
pub async fn hear(mut listener: Listener, waiting: Arc<Waiting>) {
    loop {
        match listener.next().await {
            Heard::Payload(payload) => match serde_json::from_str::<Vec<Element>>(&payload) {
                Ok(elements) => elements.into_iter().for_each(|element| waiting.hear(element)),
                Err(error) => tracing::warn!(%error, "a notification that is no result"),
            },
            // Whatever was sent while nobody listened was missed.
            Heard::Reconnected => waiting.ask_for_everybody(),
            Heard::Silence => {}
        }
    }
}

/// Asks for what was not heard, for as long as the client lives.
pub async fn fetch(database: Database, waiting: Arc<Waiting>) {
    let mut questions = JoinSet::new();
    let mut ticks = tokio::time::interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        while questions.len() >= QUESTIONS {
            questions.join_next().await;
        }
        while questions.try_join_next().is_some() {}
        let Some(ids) = waiting.to_ask(Instant::now()) else {
            waiting.changed.notified().await;
            continue;
        };
        for ids in ids.chunks(BATCH) {
            questions.spawn(read(database.clone(), Arc::clone(&waiting), ids.to_vec()));
        }
        tokio::select! {
            () = waiting.changed.notified() => {}
            _ = ticks.tick() => {}
        }
    }
}

/// Reads what became of these; who gets nothing from it abandons at its deadline.
async fn read(database: Database, waiting: Arc<Waiting>, ids: Vec<String>) {
    let began = Instant::now();
    match auth_core::results(&database, &ids).await {
        Ok(states) => {
            let mut held = waiting.held();
            held.took = began.elapsed();
            for state in states {
                if let (Some(id), Some(outcome)) = (state.invocation_id, state.outcome) {
                    held.is_deaf |= held.waiters.get(&id).is_some_and(|waiter| waiter.was_missed);
                    held.deliver(&id, outcome);
                }
            }
        }
        Err(error) if error.is_passing() => {
            tracing::warn!(%error, "could not read results; trying again");
            tokio::time::sleep(PAUSE).await;
            waiting.held().to_read.extend(ids);
            waiting.changed.notify_one();
        }
        Err(error) => tracing::warn!(%error, invocations = ids.join(" "), "could not read results"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Decision, Source, Status};

    fn waiting() -> Waiting {
        Waiting::new(ReplyTo::random())
    }

    fn element(id: &str, token: Option<&str>, decision: Decision) -> Element {
        let outcome = Some(Outcome::plain(decision, Source::Verdict, Status::Ok));
        Element { id: id.to_owned(), token: token.map(str::to_owned), outcome }
    }

    #[tokio::test]
    async fn only_a_result_with_our_token_is_believed_and_for_others_the_database_is_asked() {
        let waiting = waiting();
        let mut outcome = waiting.register("inv_1");
        for forged in [None, Some("0123456789abcdef"), Some("")] {
            waiting.hear(element("inv_1", forged, Decision::Allow));
            assert!(outcome.try_recv().is_err());
            assert_eq!(waiting.to_ask(Instant::now()).unwrap(), ["inv_1"]);
        }
        waiting.hear(element("inv_2", None, Decision::Allow));
        assert!(waiting.to_ask(Instant::now()).unwrap().is_empty(), "nobody waits for it");
        waiting.hear(element("inv_1", Some(waiting.reply_to.token()), Decision::Deny));
        assert_eq!(outcome.try_recv().unwrap().decision, Decision::Deny);
    }

    #[tokio::test]
    async fn what_is_forged_before_its_id_is_known_is_not_believed_either() {
        let waiting = waiting();
        waiting.expect_early();
        waiting.hear(element("inv_1", None, Decision::Allow));
        assert!(waiting.register("inv_1").try_recv().is_err());
        waiting.hear(element("inv_2", Some(waiting.reply_to.token()), Decision::Deny));
        assert_eq!(waiting.register("inv_2").try_recv().unwrap().decision, Decision::Deny);
    }

    #[tokio::test(start_paused = true)]
    async fn in_silence_everybody_is_asked_for_and_beside_others_only_who_waits_long() {
        let waiting = waiting();
        assert_eq!(waiting.to_ask(Instant::now()), None, "nobody waits");
        let _outcome = waiting.register("inv_1");
        assert!(waiting.to_ask(Instant::now()).unwrap().is_empty());
        tokio::time::advance(SILENCE).await;
        assert_eq!(waiting.to_ask(Instant::now()).unwrap(), ["inv_1"]);
        assert!(waiting.to_ask(Instant::now()).unwrap().is_empty(), "just asked");
        let asked = Instant::now();
        loop {
            waiting.hear(element("inv_2", Some(waiting.reply_to.token()), Decision::Allow));
            tokio::time::advance(LOOK_EVERY).await;
            let ids = waiting.to_ask(Instant::now()).unwrap();
            if !ids.is_empty() {
                assert_eq!(ids, ["inv_1"]);
                break;
            }
        }
        assert!((SINGLE..SINGLE * 5 / 4 + LOOK_EVERY).contains(&asked.elapsed()), "others are heard: {:?}", asked.elapsed());
    }
}
