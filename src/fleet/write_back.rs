//! Writes endings back, many in one durable statement, and tells the waiters with it or afterwards.
//!
//! Nothing is dropped here: while the database is away endings wait, and the fence sorts out
//! what somebody else ended meanwhile.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::Instant;

use super::Worker;
use super::aside::{After, Asides};
use super::coalescing::Coalescing;
use super::notes::Notes;
use super::trace::Trace;
use crate::domain::{Decision, ErrorCode, Outcome, Source, Trigger};
use crate::store::batching::next_batch;
use crate::store::complete::{Ending, complete, landed};
use crate::store::notify::{Reply, notify};
use crate::store::{Database, StoreError};
use crate::telemetry::{ErrorLabels, InvocationLabels, Metrics, StatusLabel};

/// The most endings of one statement.
const BATCH: usize = 128;
/// When it is quiet, so few hold the notification lock too shortly for anybody to wait.
const FEW: usize = 4;
/// With so many that are not written nothing more is claimed.
const BACKLOG: usize = 2 * BATCH;
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// As long as somebody may still wait for a result, a server that refuses everything is asked
/// again: it may have failed over and be read only for a moment.
const PATIENCE: Duration = Duration::from_secs(10);
const BREAK_GLASS: &str = "action.break_glass_used";

/// A call that is over, and who waits for it.
pub struct Finished {
    pub ending: Ending,
    pub action_id: String,
    pub reply_to: Option<String>,
    pub trigger: Trigger,
    /// A moment before it was claimed.
    pub claimed: Instant,
    pub queue_ms: f64,
    /// What is to be done once it was told.
    pub after: Option<Box<After>>,
    /// Where its trace is recorded.
    pub trace: Option<Box<Trace>>,
}

/// A waiter to be told, and what follows.
struct Untold {
    reply: Reply,
    after: Option<Box<After>>,
    trace: Option<Box<Trace>>,
}

/// Where calls that are over wait to be written.
#[derive(Clone)]
pub struct Endings {
    sender: UnboundedSender<Finished>,
    backlog: Arc<Backlog>,
}

/// How many are not written yet.
#[derive(Default)]
struct Backlog {
    count: AtomicUsize,
    shrank: Notify,
}

impl Endings {
    pub fn put(&self, finished: Finished, metrics: &Metrics) {
        let before = self.backlog.count.fetch_add(1, Ordering::Relaxed);
        metrics.unwritten.set(i64::try_from(before + 1).unwrap_or_default());
        if let Err(unsent) = self.sender.send(finished) {
            tracing::error!(invocation = unsent.0.ending.id, "the write-back is gone");
        }
    }

    /// Resolves when so few are not written yet that what is claimed now is written soon.
    /// Whoever claims faster than that makes invocations wait where nobody subtracts it from
    /// their budget: every result comes too late, and the work on it was in vain.
    pub async fn are_few(&self) {
        while self.backlog.count.load(Ordering::Relaxed) >= BACKLOG {
            self.backlog.shrank.notified().await;
        }
    }
}

/// The loop that writes and the loop that tells, to be started; they end when every sender is gone
/// and everything is written and told.
pub fn loops(worker: &Arc<Worker>, asides: Asides) -> (Endings, impl Future<Output = ()> + use<>, impl Future<Output = ()> + use<>) {
    let (sender, finished) = unbounded_channel();
    let backlog = Arc::new(Backlog::default());
    let (replies, told) = unbounded_channel();
    let endings = Endings { sender, backlog: Arc::clone(&backlog) };
    (endings, write(Arc::clone(worker), finished, backlog, replies, asides.clone()), tell(Arc::clone(worker), told, asides))
}

async fn write(
    worker: Arc<Worker>,
    mut finished: UnboundedReceiver<Finished>,
    backlog: Arc<Backlog>,
    replies: UnboundedSender<Untold>,
    asides: Asides,
) {
    let turn = || worker.metrics.liveness.alive("write_back");
    let mut coalescing = Coalescing::default();
    loop {
        if !coalescing.delay().is_zero() {
            tokio::time::sleep(coalescing.delay()).await;
        }
        turn();
        let mut batch = next_batch(&mut finished, BATCH, turn).await;
        if batch.is_empty() {
            return;
        }
        // Rows are locked in this order: others who end several use the same, so nobody waits in a circle.
        batch.sort_by(|a, b| a.ending.id.cmp(&b.ending.id));
        coalescing.observe(batch.iter().map(|finished| finished.reply_to.as_deref()), Instant::now());
        let began = Instant::now();
        let endings: Vec<Ending> = batch.iter().map(|finished| finished.with_new_notes(&worker.notes, began)).collect();
        let kept_notes: Vec<usize> = endings.iter().map(|ending| ending.notes.len()).collect();
        // Telling the waiters with the same commit saves a statement. But notifications take a lock
        // that the whole server shares, and nobody must wait for it behind a disk: so only if hardly
        // anybody else takes it now, neither who enqueues nor another worker.
        let is_quiet = batch.len() <= FEW && coalescing.is_quiet();
        let is_free = worker.is_alone.load(Ordering::Relaxed) && worker.is_awake.load(Ordering::Relaxed);
        let at_once: Vec<Reply> = if is_quiet || is_free { batch.iter().filter_map(Finished::reply).collect() } else { Vec::new() };
        let written = write_until_done(&worker.database, endings, &at_once, Instant::now() + PATIENCE, &turn).await;
        let left = backlog.count.fetch_sub(batch.len(), Ordering::Relaxed) - batch.len();
        worker.metrics.unwritten.set(i64::try_from(left).unwrap_or_default());
        backlog.shrank.notify_one();
        for (mut finished, kept_notes) in batch.into_iter().zip(kept_notes) {
            let (after, mut trace) = (finished.after.take(), finished.trace.take());
            let id = &finished.ending.id;
            let is_ours = written.ours.contains(id);
            if let Some(trace) = &mut trace {
                trace.written(&finished.ending, is_ours);
            }
            finished.record(&worker.metrics, is_ours);
            if is_ours {
                finished.note(&worker.notes, kept_notes, began);
            }
            // Of what may be ours or another's, the waiter reads the one final outcome itself.
            let is_known = is_ours && !written.replaced.contains(id);
            let is_decided = is_known || written.replaced.contains(id) || written.unclear.contains(id);
            let reply = finished.reply().filter(|_| is_decided && !written.told);
            // Of what was not decided here, or not as it was judged, nothing follows.
            let after = after.filter(|_| is_known);
            if let Some(reply) = reply {
                let outcome = reply.outcome.filter(|_| is_known);
                // The receiver lives as long as this loop.
                let _ = replies.send(Untold { reply: Reply { outcome, ..reply }, after, trace });
                continue;
            }
            if let Some(trace) = trace {
                trace.end(&worker);
            }
            if let Some(after) = after {
                asides.begin(&worker, *after);
            }
        }
    }
}

impl Finished {
    fn reply(&self) -> Option<Reply> {
        let reply_to = self.reply_to.clone()?;
        let Ending { id, status, outcome, .. } = &self.ending;
        Some(Reply { reply_to, id: id.clone(), status: status.as_str(), outcome: Some(outcome.clone()) })
    }

    /// The ending with its notes, or with none of them where all stand in the audit log already.
    fn with_new_notes(&self, notes: &Notes, now: Instant) -> Ending {
        let mut ending = self.ending.clone();
        // Each use of break-glass is told by itself.
        if ending.notes.iter().all(|(event, _)| *event != BREAK_GLASS && notes.is_known(&self.action_id, event, now)) {
            ending.notes.clear();
        }
        ending
    }

    /// Its notes were written, or are counted beside those that were.
    fn note(&self, notes: &Notes, kept: usize, now: Instant) {
        for (event, _) in self.ending.notes.iter().filter(|(event, _)| *event != BREAK_GLASS) {
            if kept == 0 { notes.count(&self.action_id, event) } else { notes.wrote(&self.action_id, event, now) }
        }
    }

    fn record(&self, metrics: &Metrics, is_ours: bool) {
        let Ending { id, status, duration_ms, error, error_code, .. } = &self.ending;
        let status = status.as_str();
        if !is_ours {
            tracing::info!(invocation = id, status, "ended by somebody else before this result; nothing was changed");
            return;
        }
        metrics.invocations.get_or_create(&InvocationLabels { trigger: self.trigger.as_str(), status }).inc();
        if let Some(code) = error_code {
            metrics.errors.get_or_create(&ErrorLabels { code: code.as_str() }).inc();
        }
        if let Some(duration_ms) = duration_ms {
            metrics.call_duration.get_or_create(&StatusLabel { status }).observe(duration_ms / 1000.0);
            let whole_ms = self.queue_ms + self.claimed.elapsed().as_secs_f64() * 1000.0;
            metrics.overhead.observe((whole_ms - duration_ms).max(0.0) / 1000.0);
        }
        tracing::debug!(invocation = id, status, error, "ended");
    }
}

#[derive(Default)]
struct Written {
    /// Ended by this worker, as it said.
    ours: HashSet<String>,
    /// Decided, but the answer that would tell by whom got lost.
    unclear: HashSet<String>,
    /// Their waiters were told with the commit.
    told: bool,
    /// Ended by this worker with a stand-in, because the database refused the original.
    replaced: HashSet<String>,
}

async fn write_until_done(
    database: &Database,
    mut endings: Vec<Ending>,
    replies: &[Reply],
    patient_until: Instant,
    turn: &(impl Fn() + Sync),
) -> Written {
    let mut written = Written::default();
    let mut pause = FIRST_PAUSE;
    let mut tried_before = false;
    // Once: what goes wrong with them must not cost the endings.
    let mut with_it = replies;
    while !endings.is_empty() {
        // A database that is away is no reason to end the loop that holds what it has to be told.
        turn();
        if tried_before {
            // The lost answer may have been a success.
            let ids: Vec<&str> = endings.iter().map(|ending| ending.id.as_str()).collect();
            match landed(database, &ids).await {
                Ok(landed) => {
                    endings.retain(|ending| !landed.contains(&ending.id));
                    written.unclear.extend(landed);
                    if endings.is_empty() {
                        break;
                    }
                }
                // Without knowing that, a result of ours would look like another's, and nobody be told.
                Err(error) if error.is_unreachable() || Instant::now() < patient_until => {
                    tracing::warn!(%error, waiting = endings.len(), "cannot see which results landed; trying again");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                    continue;
                }
                Err(error) => tracing::error!(%error, "cannot see which results landed"),
            }
        }
        match complete(database, &endings, std::mem::take(&mut with_it)).await {
            Ok(ours) => {
                written.told = !replies.is_empty() && !tried_before && ours.len() == endings.len();
                written.ours.extend(ours);
                break;
            }
            Err(error) if !matches!(error, StoreError::Refused { .. }) || !error.blames_request() && Instant::now() < patient_until => {
                tracing::warn!(%error, waiting = endings.len(), "cannot write results back; trying again");
                tried_before = true;
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
            Err(error) if !replies.is_empty() && !tried_before => {
                tracing::warn!(%error, "the database refused results with their replies; writing them without");
                tried_before = true;
            }
            Err(error) if endings.len() > 1 => {
                // One row that the database refuses must not cost the others.
                tracing::warn!(%error, "the database refused a batch of results; writing them one by one");
                for ending in std::mem::take(&mut endings) {
                    let one = Box::pin(write_until_done(database, vec![ending], &[], patient_until, turn)).await;
                    written.ours.extend(one.ours);
                    written.unclear.extend(one.unclear);
                    written.replaced.extend(one.replaced);
                }
            }
            Err(error) => {
                let Some(ending) = endings.pop() else { break };
                tracing::error!(%error, invocation = ending.id, "the database refused a result; writing a stand-in");
                let Some(stand_in) = stand_in(&ending) else { break };
                written.replaced.insert(ending.id);
                endings.push(stand_in);
            }
        }
    }
    written
}

/// What can always be stored: the decision alone. A deny stays a deny.
fn stand_in(ending: &Ending) -> Option<Ending> {
    const WHY: &str = "the result could not be stored as it was";
    if ending.error.as_deref() == Some(WHY) {
        return None; // even this was refused: the janitor ends it as expired
    }
    let given: Outcome = serde_json::from_str(&ending.outcome).ok()?;
    let mut outcome = Outcome::plain(given.decision, given.source, given.status);
    if given.decision == Decision::Deny {
        let code = if given.source == Source::Verdict { "action_denied".to_owned() } else { given.code.unwrap_or_default() };
        outcome.code = Some(code);
        outcome.reason = Some(WHY.to_owned());
    }
    Some(Ending {
        outcome: outcome.to_json(),
        error: Some(WHY.to_owned()),
        error_code: Some(ErrorCode::NotStorable),
        notes: Vec::new(),
        response_sha256: None,
        ..ending.clone()
    })
}

/// Tells waiters. What could not be sent is sent again for as long as somebody may still wait for
/// it: a database short of connections, or one passing error, must not cost anybody his result.
async fn tell(worker: Arc<Worker>, mut replies: UnboundedReceiver<Untold>, asides: Asides) {
    let turn = || worker.metrics.liveness.alive("tell");
    loop {
        turn();
        let batch = next_batch(&mut replies, BATCH, turn).await;
        if batch.is_empty() {
            return;
        }
        let (batch, rests): (Vec<Reply>, Vec<_>) = batch.into_iter().map(|untold| (untold.reply, (untold.after, untold.trace))).unzip();
        let last = Instant::now() + PATIENCE;
        let mut pause = FIRST_PAUSE;
        let mut is_told = true;
        while let Err(error) = notify(&worker.database, &batch).await {
            if !error.is_passing() || Instant::now() > last {
                // Each of these waiters asks for its result by itself, or at its deadline.
                tracing::error!(%error, replies = batch.len(), "could not tell waiters");
                is_told = false;
                break;
            }
            tracing::warn!(%error, replies = batch.len(), "could not tell waiters; trying again");
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
            turn();
        }
        for (after, trace) in rests {
            if let Some(mut trace) = trace {
                if is_told {
                    trace.told();
                }
                trace.end(&worker);
            }
            if let Some(after) = after {
                asides.begin(&worker, *after);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Status;

    #[test]
    fn the_stand_in_of_a_deny_denies_and_is_tried_once() {
        let deny = Outcome { code: Some("x".to_owned()), ..Outcome::plain(Decision::Deny, Source::Verdict, Status::Rejected) };
        let ending = Ending {
            id: "inv_1".to_owned(),
            token: uuid::Uuid::nil(),
            status: Status::Rejected,
            outcome: deny.to_json(),
            http_status: Some(200),
            duration_ms: Some(1.0),
            phases: None,
            error: None,
            error_code: None,
            response_sha256: None,
            overrode: false,
            notes: Vec::new(),
        };
        let second = stand_in(&ending).unwrap();
        assert!(second.outcome.contains(r#""decision":"deny""#) && second.outcome.contains("action_denied"), "{}", second.outcome);
        assert!(stand_in(&second).is_none());
    }
}
