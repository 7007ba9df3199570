//! One invocation as spans: what it waited, each phase of its call, and how it was told.
//!
//! Nothing is made unless the operator has a collector and whoever asked records the trace.

use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::Worker;
use crate::domain::{Decision, TraceParent};
use crate::egress::Step;
use crate::store::claim::Claim;
use crate::store::complete::Ending;
use crate::telemetry::traces::Recording;

/// The spans of one invocation until it is told.
pub struct Trace {
    recording: Recording,
    /// PostgreSQL's clock, carried on by the monotonic one: it is read near the end of a claim's statement, so when
    /// the rows arrive.
    claimed: (SystemTime, Instant),
    last: Instant,
}

impl Trace {
    /// Where its trace is recorded at all.
    pub fn begin(worker: &Worker, claim: &Claim) -> Option<Box<Self>> {
        let tracer = worker.tracer.as_ref()?;
        let parent = claim.trace_parent.filter(TraceParent::is_sampled)?;
        let seconds = |seconds: f64| Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or_default();
        let claimed_at = SystemTime::UNIX_EPOCH + seconds(claim.claimed_unix);
        let enqueued_at = claimed_at - seconds(claim.queue_ms / 1000.0);
        let mut recording = tracer.begin(&parent, enqueued_at);
        recording.step("enqueue→claim", enqueued_at, claimed_at);
        Some(Box::new(Self { recording, claimed: (claimed_at, claim.received), last: claim.received }))
    }

    /// For the endpoint: the same trace, under this invocation.
    pub fn context(&self) -> TraceParent {
        self.recording.context()
    }

    /// The call is over.
    pub fn judged(mut self: Box<Self>, claim: &Claim, steps: &[Step], decision: Decision) -> Box<Self> {
        for step in steps {
            self.step(step.phase.name(), step.began, step.began + step.took);
        }
        self.last = Instant::now();
        for (key, value) in [
            ("authio.project_id", &claim.project_id),
            ("authio.action_id", &claim.action_id),
            ("authio.event_id", &claim.event_id),
            ("authio.invocation_id", &claim.id),
        ] {
            self.recording.attribute(key, value.clone());
        }
        self.recording.attribute("authio.decision", decision.as_str());
        self.recording.attribute("authio.trigger", claim.trigger.as_str());
        self.recording.attribute("authio.action_version", i64::from(claim.action_version));
        self
    }

    /// The ending is in the database, or somebody else's is.
    pub fn written(&mut self, ending: &Ending, is_ours: bool) {
        self.step_until_now("write_back");
        self.recording.attribute("authio.status", ending.status.as_str());
        self.recording.attribute("authio.counts", is_ours);
        if let Some(status) = ending.http_status {
            self.recording.attribute("http.response.status_code", i64::from(status));
        }
        if let Some(code) = ending.error_code {
            self.recording.attribute("error.type", code.as_str());
            self.recording.fail(code.as_str());
        }
    }

    /// Its waiter was told by a statement of its own.
    pub fn told(&mut self) {
        self.step_until_now("notify");
    }

    /// Sends it off.
    pub fn end(self: Box<Self>, worker: &Worker) {
        if let Some(tracer) = &worker.tracer {
            let ended = self.at(self.last);
            tracer.end(self.recording, ended);
        }
    }

    fn step_until_now(&mut self, name: &'static str) {
        let began = std::mem::replace(&mut self.last, Instant::now());
        self.step(name, began, self.last);
    }

    fn step(&mut self, name: &'static str, began: Instant, ended: Instant) {
        let (began, ended) = (self.at(began), self.at(ended));
        self.recording.step(name, began, ended);
    }

    fn at(&self, moment: Instant) -> SystemTime {
        let (claimed_at, claimed) = self.claimed;
        claimed_at + moment.saturating_duration_since(claimed)
    }
}
