//! One invocation, from claim to ending: the whole flow in one place.

use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};
use time::format_description::well_known::Rfc3339;
use tokio::time::Instant;

use super::aside::last_known;
use super::overlap::Order;
use super::trace::Trace;
use super::{Worker, recording, secret_usage};
use crate::domain::{
    Action, Answer, Body, Decision, ErrorCode, MODE_HEADER, Mode, Outcome, Person, Project, SignatureCheck, Source, Status,
    TRACE_PARENT_HEADER, Trigger, request_body,
};
use crate::egress::{CallError, Phases, Request};
use crate::judge::{Judgement, Note, failure, judge};
use crate::sign::{self, REQUEST_HEADER, Secret};
use crate::store::StoreError;
use crate::store::claim::{Claim, SecretVersions};
use crate::store::complete::Ending;
use crate::telemetry::Metrics;

/// Of the values of a note so many stand in the audit log, each cut to so many characters.
const NOTED_VALUES: usize = 50;
const NOTED_CHARS: usize = 100;
/// Kept back from a budget for writing the result.
const WRITE_BACK: Duration = Duration::from_millis(50);
/// A look at what a person's last verdict gave takes no longer, whatever time is left.
const LONGEST_LOOK: Duration = Duration::from_millis(250);
/// With less than this an endpoint has no fair chance, so it is not called.
const LEAST_BUDGET: Duration = Duration::from_millis(100);
/// What has less than this until its deadline is not worth a claim, which takes some of it. Where
/// the fleet is behind, the oldest have just this: were it too little, each would be claimed in vain.
pub const LEAST_LEFT: Duration = LEAST_BUDGET.saturating_add(WRITE_BACK).saturating_add(Duration::from_millis(30));

/// Clear, sign, post, judge. `started` is a moment before the claim, on the monotonic clock.
pub async fn execute(worker: &Arc<Worker>, claim: &Claim, action: &Action, project: &Project, started: Instant) -> Executed {
    let mut call = Call {
        mode: claim.canary.then_some(Mode::Canary),
        keeps_body: action.records_events && !claim.test,
        trace: Trace::begin(worker, claim),
        ..Call::default()
    };
    let mut judgement = match attempt(worker, claim, action, project, started, &mut call).await {
        Ok(judgement) => judgement,
        Err(end) => failure(action, end.status, end.code, &end.why),
    };
    let judged = judgement.outcome.clone();
    if judgement.error.is_some() {
        soften(worker, claim, action, project, started, &mut judgement).await;
    }
    count(&worker.metrics, &call.phases);
    // Of a call that never got so far nothing was sent.
    let body = call.body.take().filter(|_| call.phases.was_kept().is_some());
    let trace = call.trace.take().map(|trace| trace.judged(claim, call.phases.steps(), judgement.outcome.decision));
    Executed { ending: ending(claim, judgement, call), judged, body, trace }
}

/// An invocation that is over.
pub struct Executed {
    pub ending: Ending,
    /// What the endpoint or `fail_mode` decided, before break-glass or what was last known.
    pub judged: Outcome,
    /// The request's body, where it was sent and shall be kept.
    pub body: Option<String>,
    /// Where its trace is recorded.
    pub trace: Option<Box<Trace>>,
}

/// The same event to a candidate that decides nothing: what would have been decided, and how long it took.
pub async fn shadow(worker: &Arc<Worker>, claim: &Claim, candidate: &Action, project: &Project) -> (Outcome, Option<f64>) {
    // It has the candidate's whole budget, whatever the event waited.
    let remaining = candidate.timeout + WRITE_BACK + WRITE_BACK;
    let now = claim.enqueued_at.max(time::OffsetDateTime::now_utc());
    let claim = Claim {
        remaining_ms: remaining.as_secs_f64() * 1000.0,
        queue_ms: 0.0,
        claimed_unix: now.unix_timestamp() as f64,
        killed_reason: None,
        ..claim.clone()
    };
    let mut call = Call { mode: Some(Mode::Shadow), ..Call::default() };
    let judgement = attempt(worker, &claim, candidate, project, Instant::now(), &mut call).await;
    let judgement = judgement.unwrap_or_else(|end| failure(candidate, end.status, end.code, &end.why));
    (judgement.outcome, call.duration.map(|duration| duration.as_secs_f64() * 1000.0))
}

/// What a failure comes to where the project or the action is kinder than fail_mode.
async fn soften(worker: &Worker, claim: &Claim, action: &Action, project: &Project, started: Instant, judgement: &mut Judgement) {
    let status = judgement.status;
    if judgement.outcome.decision == Decision::Deny {
        if project.break_glass.is_empty() {
            return;
        }
        if let Some(user) = Person::of(&claim.event).user_id.filter(|user| project.break_glass.contains(user)) {
            judgement.outcome = Outcome::plain(Decision::Allow, Source::BreakGlass, status);
            judgement.notes.push(Note::BreakGlassUsed(user));
        }
        return;
    }
    let is_decided_in_sql = matches!(status, Status::Killed | Status::Expired);
    if action.last_known.is_zero() || action.trigger != Trigger::PreTokenMint || claim.test || is_decided_in_sql {
        return;
    }
    // What is kept back for writing the result bears a look at one row; a database that is away does not.
    let last_moment = (started + claim.remaining()).saturating_duration_since(Instant::now()).min(LONGEST_LOOK);
    let looking = last_known(worker, claim, action, project, status);
    if let Ok(Some(outcome)) = tokio::time::timeout(last_moment, Box::pin(looking)).await {
        judgement.outcome = outcome;
    }
}

/// What is known of the call, whatever became of it.
#[derive(Default)]
struct Call {
    /// Another than the one call that decides under the current version.
    mode: Option<Mode>,
    keeps_body: bool,
    body: Option<String>,
    duration: Option<Duration>,
    phases: Phases,
    answer: Option<Answer>,
    trace: Option<Box<Trace>>,
}

/// An end without a verdict.
struct End {
    status: Status,
    code: ErrorCode,
    why: String,
}

fn end(status: Status, code: ErrorCode, why: impl Into<String>) -> End {
    End { status, code, why: why.into() }
}

fn nothing_left(claim: &Claim, started: Instant) -> End {
    let waited_ms = claim.queue_ms + started.elapsed().as_secs_f64() * 1000.0;
    end(
        Status::Expired,
        ErrorCode::QueueUsedBudget,
        format!("waited {waited_ms:.0} ms for the fleet, so nothing was left to call the endpoint"),
    )
}

async fn attempt(
    worker: &Arc<Worker>,
    claim: &Claim,
    action: &Action,
    project: &Project,
    started: Instant,
    call: &mut Call,
) -> Result<Judgement, End> {
    if let Some(reason) = &claim.killed_reason {
        return Err(end(Status::Killed, ErrorCode::Killed, format!("the action was killed: {reason}")));
    }
    let last_moment = started + claim.remaining().saturating_sub(WRITE_BACK);
    let (secrets, signing) =
        tokio::time::timeout_at(last_moment, derive(worker, claim)).await.unwrap_or_else(|_| Err(nothing_left(claim, started)))?;
    let secrets: Vec<&Secret> = secrets.iter().collect();
    let signers = Signers::of(worker, claim, &secrets[..signing]);
    // PostgreSQL's clock, carried on by the monotonic one.
    let now_unix = || (claim.claimed_unix + started.elapsed().as_secs_f64()) as i64;

    let budget = Budget::new(claim, action, started, last_moment)?;
    let called = Instant::now();
    let answer = async {
        let target = worker.egress.clear(&action.endpoint_url, budget.deadline, &mut call.phases).await?;
        let occurred_at = claim.enqueued_at.to_offset(time::UtcOffset::UTC);
        let occurred_at =
            occurred_at.replace_millisecond(occurred_at.millisecond()).unwrap_or(occurred_at).format(&Rfc3339).unwrap_or_default();
        let body = request_body(&claim.event_id, action.trigger, &occurred_at, &claim.project_id, &claim.event);
        let signature = sign::header(&signers.secrets, now_unix(), body.as_bytes());
        if call.keeps_body {
            call.body = Some(body.clone());
        }
        // Where spans are recorded, the endpoint's own are under the invocation's.
        let trace_parent = call.trace.as_ref().map(|trace| trace.context()).or(claim.trace_parent);
        let trace_parent = trace_parent.map(|parent| parent.to_string()).unwrap_or_default();
        let headers = [
            (REQUEST_HEADER, signature.as_str()),
            ("authio-action-id", &action.id),
            ("authio-trigger", action.trigger.as_str()),
            ("authio-event-id", &claim.event_id),
            (MODE_HEADER, call.mode.map_or("", Mode::as_str)),
            (TRACE_PARENT_HEADER, &trace_parent),
        ];
        let request = Request { headers: &headers, body };
        worker.egress.post(&action.id, &target, request, budget.deadline, &mut call.phases).await
    }
    .await;
    if !matches!(answer, Err(CallError::Blocked { .. })) {
        call.duration = Some(called.elapsed());
    }
    let answer = answer.map_err(|error| budget.blame(error, action))?;
    let signature = match &answer.body {
        Body::Whole(body) => sign::verify(&answer.signature, body, &secrets, now_unix()),
        Body::TooLarge | Body::Broken => SignatureCheck::Absent, // judged by its size
    };
    // A candidate's endpoint having a secret does not say that the current one has it.
    if signature == (SignatureCheck::Valid { current: true }) && call.mode.is_none() {
        secret_usage::record(worker, &action.id, claim.secrets.current);
    }
    let mut judgement = judge(action, project, &answer, &signature);
    if answer.http_status == 401 && call.mode.is_none() && signers.refused(worker, claim) {
        let error = judgement.error.unwrap_or_default();
        let why = format!("{error}; its secret is being rotated, and the next call has the two signatures in the other order");
        judgement = failure(action, Status::HttpError, ErrorCode::Http401, &why);
    }
    call.answer = Some(answer);
    Ok(judgement)
}

/// The secrets that sign one call, in the order of their signatures.
struct Signers<'a> {
    secrets: Vec<&'a Secret>,
    /// Only where there are two.
    order: Option<Order>,
}

impl<'a> Signers<'a> {
    fn of(worker: &Worker, claim: &Claim, secrets: &[&'a Secret]) -> Self {
        let mut secrets = secrets.to_vec();
        let order = (secrets.len() > 1).then(|| worker.overlaps.order(&claim.action_id, claim.secrets.current));
        if order == Some(Order::CurrentLast) {
            secrets.reverse();
        }
        Self { secrets, order }
    }

    /// The endpoint answered 401: notes it, and says whether the order of the signatures may be why.
    fn refused(&self, worker: &Worker, claim: &Claim) -> bool {
        let Some(order) = self.order else { return false };
        worker.overlaps.refused(&claim.action_id, claim.secrets.current, order);
        true
    }
}

/// How long the endpoint has, and whose fault it is if that is not enough.
struct Budget {
    deadline: Instant,
    is_cut_short: bool,
}

impl Budget {
    fn new(claim: &Claim, action: &Action, started: Instant, last_moment: Instant) -> Result<Self, End> {
        let now = Instant::now();
        let left = last_moment.saturating_duration_since(now);
        if left < LEAST_BUDGET.min(action.timeout) {
            return Err(nothing_left(claim, started));
        }
        Ok(Self { deadline: now + left.min(action.timeout), is_cut_short: left < action.timeout })
    }

    /// A timeout that the queue caused is not the endpoint's.
    fn blame(&self, error: CallError, action: &Action) -> End {
        let timeout_ms = action.timeout.as_millis();
        let code = error.code();
        match error {
            CallError::Blocked { why, .. } => end(Status::SsrfBlocked, code, why),
            CallError::Ours { why, .. } => end(Status::Expired, code, why),
            CallError::Network { .. } => end(Status::NetworkError, code, error.to_string()),
            CallError::OutOfTime { phase } if self.is_cut_short => {
                let why = format!("the queue used up part of the endpoint's {timeout_ms} ms; they ended in: {phase}");
                end(Status::Expired, ErrorCode::CutShortByQueue, why)
            }
            CallError::OutOfTime { phase } => end(Status::Timeout, code, format!("the endpoint used up its {timeout_ms} ms in: {phase}")),
        }
    }
}

/// The secrets that count, the current one first and the previous one last; and how many of
/// them sign. Once the endpoint has shown that it has the current one, that signs alone: a
/// receiver may read only the last signature. `overlap` says in which order they sign.
async fn derive(worker: &Worker, claim: &Claim) -> Result<(Vec<Secret>, usize), End> {
    let expired = |error: StoreError| end(Status::Expired, ErrorCode::KeyNotRead, format!("the signing key could not be read: {error}"));
    let mut versions = claim.secrets.clone();
    if versions.current_key.is_none() {
        let recorded = Box::pin(recording::record(worker, &claim.action_id, versions.current)); // rare, and large
        versions = recorded.await.map_err(expired)?;
    }
    let SecretVersions { current, current_key, previous, previous_key, is_seen } = versions;
    let mut wanted = vec![(current, current_key)];
    if let Some(previous) = previous {
        wanted.push((previous, previous_key));
    }
    let signing = if is_seen { 1 } else { wanted.len() };
    let secrets = wanted
        .into_iter()
        .map(|(version, key)| {
            let key = key.unwrap_or_default();
            worker.keys.derive(&key, &claim.action_id, version).ok_or_else(|| {
                worker.metrics.missing_root_key.inc();
                tracing::error!(action = claim.action_id, key, "this worker lacks the root key; add it to secrets.root_keys");
                end(Status::Expired, ErrorCode::MissingRootKey, format!("the worker lacks root key {key:?}, and never calls unsigned"))
            })
        })
        .collect::<Result<_, _>>()?;
    Ok((secrets, signing))
}

fn count(metrics: &Metrics, phases: &Phases) {
    for (phase, took) in phases.each() {
        metrics.phases[phase as usize].observe(took.as_secs_f64());
    }
    match phases.was_kept() {
        Some(true) => drop(metrics.kept_connections.inc()),
        Some(false) => drop(metrics.new_connections.inc()),
        None => {}
    }
}

/// What a note says in the audit log. An endpoint's answer has up to 64 KiB of roles.
fn details(claim: &Claim, note: &Note) -> String {
    let slugs = match note {
        Note::UnknownRolesDropped(slugs) => slugs.as_slice(),
        Note::OverrideNotEnabled => &[],
        Note::BreakGlassUsed(user) => {
            return serde_json::json!({"invocation_id": claim.id, "event_id": claim.event_id, "user_id": user}).to_string();
        }
    };
    let values: Vec<String> = slugs.iter().take(NOTED_VALUES).map(|slug| slug.chars().take(NOTED_CHARS).collect()).collect();
    let mut details = serde_json::json!({"invocation_id": claim.id, "event_id": claim.event_id, "values": values});
    if slugs.len() > NOTED_VALUES {
        details["values_total"] = slugs.len().into();
    }
    details.to_string()
}

fn ending(claim: &Claim, judgement: Judgement, call: Call) -> Ending {
    let notes = judgement.notes.iter().map(|note| (note.event(), details(claim, note)));
    Ending {
        id: claim.id.clone(),
        token: claim.token,
        status: judgement.status,
        outcome: judgement.outcome.to_json(),
        http_status: call.answer.as_ref().map(|answer| answer.http_status.into()),
        duration_ms: call.duration.map(|duration| duration.as_secs_f64() * 1000.0),
        phases: call.phases.to_json(),
        error: judgement.error,
        error_code: judgement.error_code,
        response_sha256: call.answer.and_then(|answer| match answer.body {
            Body::Whole(body) => Some(Sha256::digest(&body).to_vec()),
            Body::TooLarge | Body::Broken => None,
        }),
        overrode: judgement.overrode,
        notes: notes.collect(),
    }
}
