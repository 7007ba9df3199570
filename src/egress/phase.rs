//! The steps of a call, and how long each took.

use std::fmt::Write;
use std::time::Duration;

use tokio::time::Instant;

use crate::domain::ErrorCode;

/// The steps of a call, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Names to addresses.
    Dns,
    /// TCP.
    Connect,
    /// The TLS handshake and the certificate.
    Tls,
    /// From the request's first byte to the response's.
    FirstByte,
    /// The rest of the response.
    Body,
}

const ALL: [Phase; 5] = [Phase::Dns, Phase::Connect, Phase::Tls, Phase::FirstByte, Phase::Body];

impl Phase {
    /// As the history and traces spell it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Dns => "dns",
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::FirstByte => "first_byte",
            Self::Body => "body",
        }
    }

    /// The word for a budget that ended in this phase.
    pub fn timeout_code(self) -> ErrorCode {
        match self {
            Self::Dns => ErrorCode::TimeoutDns,
            Self::Connect => ErrorCode::TimeoutConnect,
            Self::Tls => ErrorCode::TimeoutTls,
            Self::FirstByte => ErrorCode::TimeoutFirstByte,
            Self::Body => ErrorCode::TimeoutBody,
        }
    }
}

impl std::fmt::Display for Phase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Dns => "DNS",
            Self::Connect => "connect",
            Self::Tls => "TLS",
            Self::FirstByte => "waiting for the response",
            Self::Body => "reading the response",
        })
    }
}

/// One stay in a phase.
#[derive(Debug, Clone, Copy)]
pub struct Step {
    /// Where the call was.
    pub phase: Phase,
    /// Since when.
    pub began: Instant,
    /// For how long.
    pub took: Duration,
}

/// How long each phase of one call took. A phase that did not happen has no time: a call
/// over an idle connection neither connects nor shakes hands.
#[derive(Debug, Default)]
pub struct Phases {
    steps: Vec<Step>,
    current: Option<(Phase, Instant)>,
}

impl Phases {
    /// The current phase ends, and another begins.
    pub(super) fn enter(&mut self, phase: Phase) {
        self.end();
        self.current = Some((phase, Instant::now()));
    }

    /// The current phase ends.
    pub(super) fn end(&mut self) {
        if let Some((phase, began)) = self.current.take() {
            self.steps.push(Step { phase, began, took: began.elapsed() });
        }
    }

    /// Where the call is, or was when it failed.
    pub(super) fn current(&self) -> Phase {
        self.current.map_or(Phase::Dns, |(phase, _)| phase)
    }

    /// What happened, in order; a phase may come twice, because an idle connection was closed.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// The phases that happened, in order, and how long each took.
    pub fn each(&self) -> impl Iterator<Item = (Phase, Duration)> {
        ALL.into_iter().filter_map(|phase| Some((phase, self.took(phase)?)))
    }

    fn took(&self, phase: Phase) -> Option<Duration> {
        self.steps.iter().filter(|step| step.phase == phase).map(|step| step.took).reduce(|sum, took| sum + took)
    }

    /// Whether an idle connection was used again; `None` where nothing was sent.
    pub fn was_kept(&self) -> Option<bool> {
        self.took(Phase::FirstByte).map(|_| self.took(Phase::Connect).is_none())
    }

    /// Milliseconds by phase as a JSON object; `None` if nothing was begun.
    pub fn to_json(&self) -> Option<String> {
        let mut json = String::new();
        for (phase, took) in self.each() {
            let opening = if json.is_empty() { '{' } else { ',' };
            let micros = took.as_micros();
            // As whole numbers, which are written faster than fractions. Writing into a String cannot fail.
            let _ = write!(json, "{opening}\"{}\":{}.{:03}", phase.name(), micros / 1000, micros % 1000);
        }
        (!json.is_empty()).then(|| json + "}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_phase_has_its_own_time_and_one_that_comes_again_adds_up() {
        let mut phases = Phases::default();
        assert_eq!((phases.to_json(), phases.was_kept()), (None, None));
        for (phase, ms) in [(Phase::Dns, 2), (Phase::Connect, 5), (Phase::Connect, 5), (Phase::FirstByte, 40)] {
            phases.enter(phase);
            tokio::time::advance(Duration::from_millis(ms)).await;
        }
        assert_eq!(phases.current(), Phase::FirstByte);
        phases.end();
        assert_eq!(phases.was_kept(), Some(false));
        assert_eq!(phases.to_json().unwrap(), r#"{"dns":2.000,"connect":10.000,"first_byte":40.000}"#);
    }
}
