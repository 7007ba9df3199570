//! Logs, metrics and traces: one subscriber, one set of names.
//!
//! Called by the programs at start. No log line, no metric and no span carries a secret, an event or
//! the body of an answer.

pub mod endpoint;
mod liveness;
mod logs;
mod metrics;
pub mod service;
pub mod traces;

pub use self::liveness::Liveness;
pub use self::logs::init;
pub use self::metrics::{AlertLabels, CandidateLabels, ErrorLabels, InvocationLabels, Metrics, ReasonLabel, StatusLabel};
