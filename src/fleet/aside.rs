//! What follows an outcome once it was told: shadow calls, and what is kept of events and verdicts. It has its
//! own bulkhead and its own statements, so it never delays, fills or fails what people wait for.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use time::OffsetDateTime;
use tokio::sync::Semaphore;
use tokio::sync::mpsc::{Receiver, Sender, channel};

use super::Worker;
use super::execute::shadow;
use crate::domain::{Action, Decision, Mode, Outcome, Person, Project, Status};
use crate::judge::differs;
use crate::sign::Purpose;
use crate::store::claim::Claim;
use crate::store::trials::{self, CandidateResult, LastKnown, RecordedEvent, Sealed, Skipped};
use crate::store::{Database, StoreError};
use crate::telemetry::CandidateLabels;
use crate::trial::Recorded;

/// Shadow calls at once; what comes meanwhile is passed over, and counted.
const SHADOWS: usize = 64;
/// So many wait to be written; beyond, they are let go.
const WAITING: usize = 4_096;
const BATCH: usize = 128;
/// Between two attempts to write.
const PAUSE: Duration = Duration::from_millis(250);
const ATTEMPTS: u32 = 20;
/// So often the loop shows that it is alive.
const IDLE: Duration = Duration::from_secs(5);

/// What an invocation leaves to be done once it was told. Only where its action asked for some of it.
pub struct After {
    pub claim: Claim,
    pub action: Arc<Action>,
    pub project: Arc<Project>,
    /// The candidate that gets the event, too.
    pub shadow: Option<Arc<Action>>,
    /// The request's body, where it was sent and shall be kept.
    pub body: Option<String>,
    /// What was decided by the endpoint or `fail_mode`, before break-glass or what was last known.
    pub judged: Outcome,
    pub duration_ms: Option<f64>,
    /// When it was judged, by the database's clock.
    pub at: OffsetDateTime,
}

/// Something to be written.
enum Kept {
    Result(CandidateResult),
    Skipped(String, i32),
    Event(RecordedEvent),
    LastKnown(LastKnown),
}

/// Where it goes.
#[derive(Clone)]
pub struct Asides {
    sender: Sender<Kept>,
    places: Arc<Semaphore>,
}

impl After {
    /// Whether anything is to be done after this invocation.
    pub fn is_wanted(claim: &Claim, action: &Action) -> bool {
        !claim.test && (claim.canary || claim.shadow_version.is_some() || action.records_events || !action.last_known.is_zero())
    }
}

/// What a verdict gave a person.
#[derive(Serialize, Deserialize)]
struct Given {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    claims: Option<Box<RawValue>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    roles: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    permissions: Option<Vec<String>>,
}

/// The loop that writes, and the way to it; it ends when nobody can bring more.
pub fn start(worker: &Arc<Worker>) -> (Asides, impl Future<Output = ()> + use<>) {
    let (sender, receiver) = channel(WAITING);
    (Asides { sender, places: Arc::new(Semaphore::new(SHADOWS)) }, write(Arc::clone(worker), receiver))
}

impl Asides {
    /// Does what is to be done after an outcome that was told.
    pub fn begin(&self, worker: &Arc<Worker>, after: After) {
        self.keep_event(worker, &after);
        self.keep_last_known(worker, &after);
        let was_denied = after.judged.decision == Decision::Deny;
        // What the fleet had no time for, or the kill-switch held back, says nothing of a canary.
        if after.claim.canary && !matches!(after.judged.status, Status::Expired | Status::Killed) {
            self.count(worker, Mode::Canary, after.judged.status);
            self.put(Kept::Result(result(&after.claim, after.action.version, &after.judged, after.duration_ms, Vec::new(), was_denied)));
        }
        // What was never sent is no event that the candidate would have got.
        let Some(candidate) = after.shadow.clone().filter(|_| after.duration_ms.is_some()) else { return };
        let is_busy = usize::try_from(worker.metrics.in_flight.get()).unwrap_or_default() * 4 > worker.config.worker.max_in_flight * 3;
        let place = Arc::clone(&self.places).try_acquire_owned().ok().filter(|_| !is_busy && !worker.is_leaving.load(Ordering::Relaxed));
        let Some(place) = place else {
            worker.metrics.candidate_calls.get_or_create(&CandidateLabels { mode: Mode::Shadow.as_str(), result: "skipped" }).inc();
            self.put(Kept::Skipped(after.claim.action_id, candidate.version));
            return;
        };
        let (worker, asides) = (Arc::clone(worker), self.clone());
        tokio::spawn(async move {
            let (outcome, duration_ms) = Box::pin(shadow(&worker, &after.claim, &candidate, &after.project)).await;
            // Where the fleet had no time for it, it says nothing of the candidate.
            if outcome.status != Status::Expired {
                asides.count(&worker, Mode::Shadow, outcome.status);
                let differs = differs(&after.judged, &outcome);
                asides.put(Kept::Result(result(&after.claim, candidate.version, &outcome, duration_ms, differs, was_denied)));
            }
            drop(place);
        });
    }

    fn keep_event(&self, worker: &Worker, after: &After) {
        let Some(body) = after.body.as_deref().filter(|_| after.action.records_events) else { return };
        let (action, event) = (&after.claim.action_id, &after.claim.event_id);
        let recorded = Recorded { outcome: after.judged.clone(), body: body.into() };
        let plain = serde_json::to_vec(&recorded).unwrap_or_default();
        if let Some(sealed) = seal(worker, Purpose::RecordedEvent, action, event.as_bytes(), &plain) {
            self.put(Kept::Event(RecordedEvent { event_id: event.clone(), size: body.len(), sealed }));
        }
    }

    fn keep_last_known(&self, worker: &Worker, after: &After) {
        if after.action.last_known.is_zero() || after.judged.status != Status::Ok {
            return;
        }
        let action = &after.claim.action_id;
        let Some(person) = names(worker, action, &after.claim.event).into_iter().next() else { return };
        let Outcome { claims, roles, permissions, .. } = after.judged.clone();
        let plain = serde_json::to_vec(&Given { claims, roles, permissions }).unwrap_or_default();
        if let Some(sealed) = seal(worker, Purpose::LastKnown, action, &person, &plain) {
            self.put(Kept::LastKnown(LastKnown { person, at: after.at, sealed }));
        }
    }

    fn count(&self, worker: &Worker, mode: Mode, status: Status) {
        let result = match status {
            Status::Ok => "ok",
            Status::Rejected => "rejected",
            _ => "error",
        };
        worker.metrics.candidate_calls.get_or_create(&CandidateLabels { mode: mode.as_str(), result }).inc();
    }

    fn put(&self, kept: Kept) {
        if self.sender.try_send(kept).is_err() {
            tracing::warn!("too much waits to be kept beside the outcomes; some of it is let go");
        }
    }
}

fn result(
    claim: &Claim,
    version: i32,
    outcome: &Outcome,
    duration_ms: Option<f64>,
    differs: Vec<&'static str>,
    was_denied: bool,
) -> CandidateResult {
    CandidateResult {
        invocation_id: claim.id.clone(),
        action_id: claim.action_id.clone(),
        version,
        status: outcome.status.as_str(),
        outcome: outcome.to_json(),
        duration_ms,
        differs,
        was_denied,
    }
}

fn seal(worker: &Worker, purpose: Purpose, action_id: &str, subject: &[u8], plain: &[u8]) -> Option<Sealed> {
    let bytes = worker.keys.seal(purpose, action_id, subject, plain)?;
    Some(Sealed { action_id: action_id.to_owned(), key_id: worker.keys.newest_id().to_owned(), bytes })
}

fn names(worker: &Worker, action_id: &str, event: &str) -> Vec<Vec<u8>> {
    let person = Person::of(event);
    let Some(user) = person.user_id else { return Vec::new() };
    worker.keys.person_names(action_id, &user, person.organization_id.as_deref())
}

/// What the last verdict gave this event's person, as the outcome of a failure; `None` where nothing is known,
/// or it cannot be read in time. What the project does not allow any more is left out.
pub async fn last_known(worker: &Worker, claim: &Claim, action: &Action, project: &Project, status: Status) -> Option<Outcome> {
    let names = names(worker, &claim.action_id, &claim.event);
    if names.is_empty() {
        return None;
    }
    let at_most_s = i32::try_from(action.last_known.as_secs()).unwrap_or(i32::MAX);
    let found = match trials::last_known(&worker.database, &claim.action_id, &names, at_most_s).await {
        Ok(found) => found?,
        Err(error) => {
            tracing::warn!(%error, invocation = claim.id, "what was last known could not be read");
            return None;
        }
    };
    let plain = worker.keys.open(&found.key_id, Purpose::LastKnown, &claim.action_id, &found.person, &found.sealed)?;
    let given: Given = serde_json::from_slice(&plain).ok()?;
    let knows_one = given.roles.as_ref().is_none_or(|roles| roles.is_empty() || roles.iter().any(|slug| project.role_slugs.contains(slug)));
    // As with a verdict: of roles that are all unknown neither they nor their permissions apply.
    let is_allowed = project.roles_action_override && knows_one;
    let known = |roles: Vec<String>| -> Vec<String> { roles.into_iter().filter(|slug| project.role_slugs.contains(slug)).collect() };
    Some(Outcome {
        claims: given.claims,
        roles: given.roles.filter(|_| is_allowed).map(known),
        permissions: given.permissions.filter(|_| is_allowed),
        age_ms: Some(found.age_ms.max(0.0) as u64),
        ..Outcome::plain(Decision::Allow, crate::domain::Source::LastKnown, status)
    })
}

/// What is written with as many statements as it has kinds.
#[derive(Default)]
struct Batch {
    people: Vec<LastKnown>,
    events: Vec<RecordedEvent>,
    results: Vec<CandidateResult>,
    skipped: Vec<Skipped>,
}

/// One statement of a batch.
#[derive(Debug, Clone, Copy)]
enum Part {
    People,
    Events,
    Results,
}

impl Batch {
    fn add(&mut self, kept: Kept) {
        match kept {
            Kept::Result(result) => self.results.push(result),
            Kept::Event(event) => self.events.push(event),
            Kept::LastKnown(person) => self.people.push(person),
            Kept::Skipped(action_id, version) => {
                match self.skipped.iter_mut().find(|one| one.action_id == action_id && one.version == version) {
                    Some(one) => one.count += 1,
                    None => self.skipped.push(Skipped { action_id, version, count: 1 }),
                }
            }
        }
    }

    async fn write(&self, database: &Database, part: Part) -> Result<(), StoreError> {
        match part {
            Part::People if !self.people.is_empty() => trials::keep_last_known(database, &self.people).await,
            Part::Events if !self.events.is_empty() => trials::keep_events(database, &self.events).await,
            Part::Results if !self.results.is_empty() || !self.skipped.is_empty() => {
                trials::keep_results(database, &self.results, &self.skipped).await
            }
            Part::People | Part::Events | Part::Results => Ok(()),
        }
    }
}

async fn write(worker: Arc<Worker>, mut receiver: Receiver<Kept>) {
    let mut waiting = Vec::new();
    loop {
        worker.metrics.liveness.alive("aside");
        match tokio::time::timeout(IDLE, receiver.recv_many(&mut waiting, BATCH)).await {
            Err(_) => continue,
            Ok(0) => return,
            Ok(_) => {}
        }
        let mut batch = Batch::default();
        waiting.drain(..).for_each(|kept| batch.add(kept));
        for part in [Part::People, Part::Events, Part::Results] {
            write_patiently(&worker, &batch, part).await;
        }
    }
}

/// Tries a few times: what is kept here decides nothing, but nothing of it is lost for one passing error.
async fn write_patiently(worker: &Worker, batch: &Batch, part: Part) {
    for _ in 0..ATTEMPTS {
        worker.metrics.liveness.alive("aside");
        match batch.write(&worker.database, part).await {
            Ok(()) => return,
            Err(error) if error.is_passing() && !worker.is_leaving.load(Ordering::Relaxed) => {
                tracing::warn!(%error, ?part, "what is kept beside outcomes cannot be written; trying again");
                tokio::time::sleep(PAUSE).await;
            }
            Err(error) => {
                tracing::error!(%error, ?part, "what is kept beside outcomes could not be written");
                return;
            }
        }
    }
}
