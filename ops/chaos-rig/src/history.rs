//! What everybody saw, and when. The checker knows nothing else.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use serde::Serialize;
use serde_json::Value;

/// What an endpoint is told to do with an event; it stands in the event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Plan {
    /// Allows.
    Allow,
    /// Denies.
    Deny,
    /// Answers 503.
    Fail,
    /// Answers too late.
    Hang,
}

impl Plan {
    pub fn word(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::Fail => "fail",
            Self::Hang => "hang",
        }
    }
}

/// How an action is set up; it does not change while chaos reigns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Gate {
    pub project: &'static str,
    pub trigger: &'static str,
    /// fail_mode is closed, and on_killed deny.
    pub is_closed: bool,
    /// Its project may be erased at any time: then nobody is asked, and nothing is left of what was.
    pub is_fleeting: bool,
}

/// One event, as its auth-core saw it.
#[derive(Debug, Clone, Serialize)]
pub struct Asked {
    pub n: u64,
    pub gate: Gate,
    pub plan: Plan,
    pub by: &'static str,
    /// Milliseconds since the start.
    pub at_ms: u64,
    /// The enqueue was acknowledged, and is on disk.
    pub acknowledged: Option<String>,
    /// How long the fleet said to wait.
    pub wait_ms: Option<i32>,
    /// Acknowledged twice, with the same event id: the ids that came back.
    pub again: Option<String>,
    /// The outcome that it acted on.
    pub outcome: Option<Value>,
    /// Why there is none.
    pub error: Option<String>,
    pub ended_ms: u64,
    /// It left without waiting.
    pub left: bool,
}

/// One request, as the endpoint saw it.
#[derive(Debug, Clone, Serialize)]
pub struct Received {
    pub n: u64,
    pub event_id: String,
    pub mode: String,
    pub at_ms: u64,
}

/// One row of the history, read at the end.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    pub invocation_id: String,
    pub event_id: String,
    pub status: String,
    pub outcome: Value,
}

/// What was done to the fleet, and when.
#[derive(Debug, Clone, Serialize)]
pub struct Done {
    pub at_ms: u64,
    pub until_ms: u64,
    pub what: String,
    /// The database was away or slow meanwhile, so waiting longer proves nothing.
    pub is_of_database: bool,
    /// So long before and after it waiting proves nothing.
    pub aftermath_ms: u64,
}

/// Everything, in one place.
#[derive(Debug, Clone, Default, Serialize)]
pub struct History {
    pub asked: Vec<Asked>,
    pub received: Vec<Received>,
    pub rows: Vec<Row>,
    pub done: Vec<Done>,
    /// Rows that are in the queue when everything is quiet.
    pub left_in_queue: i64,
    /// Kills that nobody made by hand.
    pub kills: Vec<String>,
    /// What the machine did not let us do.
    pub lacking: Vec<&'static str>,
    /// How long after the last fault every action was served again; nothing where it was not.
    pub calm_after_ms: Option<u64>,
}

/// Where everybody writes.
#[derive(Clone)]
pub struct Book {
    started: Instant,
    history: Arc<Mutex<History>>,
}

impl Book {
    pub fn new() -> Self {
        Self { started: Instant::now(), history: Arc::default() }
    }

    pub fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    pub fn write(&self, change: impl FnOnce(&mut History)) {
        change(&mut self.history.lock().unwrap_or_else(PoisonError::into_inner));
    }

    pub fn read(&self) -> History {
        self.history.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
