//! Every metric of a program, there from the start with 0: a rate does not see the first step of
//! what appears with it.

use std::collections::HashSet;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use super::Liveness;
use crate::domain::{ErrorCode, Status, Trigger};

/// Labels of `actions_invocations_total`.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct InvocationLabels {
    /// The moment.
    pub trigger: &'static str,
    /// The final status.
    pub status: &'static str,
}

/// Labels of `actions_call_duration_seconds`.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct StatusLabel {
    /// The final status.
    pub status: &'static str,
}

/// Why a canary is withdrawn.
const WITHDRAWN: [&str; 2] = ["errors", "denies"];

/// Labels of `actions_kills_total` and `actions_candidates_withdrawn_total`.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct ReasonLabel {
    /// Which condition held: `error_ratio`, `timeout_ratio` or `consecutive_5xx`; of a canary `errors` or `denies`.
    pub reason: &'static str,
}

/// Why connections to the database are replaced; `store::pool` says so in these words.
const REPLACED: [&str; 6] = ["read_only", "plan_changed", "age", "closed", "unanswered", "lost"];

/// Labels of `actions_connections_replaced_total`.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct ReplacedLabel {
    /// `read_only`, `plan_changed`, `age`, `closed`, `unanswered` or `lost`.
    pub reason: &'static str,
}

/// Status codes with which the console answers.
const CONSOLE_CODES: [u16; 10] = [200, 303, 401, 403, 404, 408, 413, 422, 502, 503];

/// Labels of `actions_console_requests_total`.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct CodeLabel {
    /// The status code, such as 200.
    pub code: u16,
}

const ALERTS: [&str; 5] = ["kill", "candidate_withdrawn", "kills_held", "lead_lost", "fleet"];
const ALERT_RESULTS: [&str; 3] = ["sent", "failed", "given_up"];

/// Labels of `actions_alerts_total`.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct AlertLabels {
    /// `kill`, `candidate_withdrawn`, `kills_held`, `lead_lost`, `fleet`.
    pub kind: &'static str,
    /// `sent`, `failed`, `given_up`.
    pub result: &'static str,
}

const RESULTS: [&str; 4] = ["ok", "rejected", "error", "skipped"];

/// Labels of `actions_candidate_calls_total`.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct CandidateLabels {
    /// `shadow` or `canary`.
    pub mode: &'static str,
    /// `ok`, `rejected`, `error`, or `skipped`.
    pub result: &'static str,
}

/// Labels of `actions_errors_total`.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct ErrorLabels {
    /// The stable word, as in `recent_invocations.error_code`.
    pub code: &'static str,
}

/// Labels of `actions_phase_seconds`.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct PhaseLabel {
    /// `dns`, `connect`, `tls`, `first_byte` or `body`.
    pub phase: &'static str,
}

/// Labels of `actions_connections_total`.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct ConnectionLabel {
    /// `new`, or `kept`: an idle one was used again.
    pub connection: &'static str,
}

/// Every metric of a program. Labels never carry customer data.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// When each loop of the program last came around.
    pub liveness: Liveness,
    /// Invocations by trigger and final status.
    pub invocations: Family<InvocationLabels, Counter>,
    /// The call alone, by status.
    pub call_duration: Family<StatusLabel, Histogram>,
    /// Alerts to the operator's webhook.
    pub alerts: Family<AlertLabels, Counter>,
    /// Canaries that were withdrawn because of what they did.
    pub candidates_withdrawn: Family<ReasonLabel, Counter>,
    /// Calls of candidates.
    pub candidate_calls: Family<CandidateLabels, Counter>,
    /// From enqueue to claim.
    pub queue_wait: Histogram,
    /// End to end less the call.
    pub overhead: Histogram,
    /// 1 while this process claims.
    pub working: Gauge,
    /// Calls held now.
    pub in_flight: Gauge,
    /// Invocations a claim brought.
    pub claim_batch_size: Histogram,
    /// Trips of the kill-switch.
    pub kills: Family<ReasonLabel, Counter>,
    /// Mails that wait.
    pub mail_outbox: Gauge,
    /// 1 while this janitor leads.
    pub leader: Gauge,
    /// What a tick of the janitor took.
    pub tick: Histogram,
    /// 1 while the test events of most actions fail.
    pub checks_blame_fleet: Gauge,
    /// 1 while nobody is killed for calls that do not reach their endpoint.
    pub kills_held: Gauge,
    /// Connections to the database that were replaced, by why.
    pub connections_replaced: Family<ReplacedLabel, Counter>,
    /// Bytes that the slowest replication slot has still to read.
    pub replication_lag: Gauge,
    /// When the certificate that the database showed ends, in seconds since 1970; 0 without TLS.
    pub database_certificate_expiry: Gauge,
    /// Spans that the collector took.
    pub spans_exported: Counter,
    /// Spans that it did not take, or not in time.
    pub spans_dropped: Counter,
    /// Requests to the console, by the status code of the answer.
    pub console_requests: Family<CodeLabel, Counter>,
    /// 1 while the database answers.
    pub database_up: Gauge,
    /// Actions whose root key this process lacks.
    pub missing_root_key: Counter,
    /// Invocations that ended with an error, by its stable word.
    pub errors: Family<ErrorLabels, Counter>,
    /// What each phase of a call took, in the order of the phases.
    pub phases: [Histogram; 5],
    /// Calls over a connection that was opened for them.
    pub new_connections: Counter,
    /// Calls over one that was kept from an earlier call.
    pub kept_connections: Counter,
    /// Results that are not written back yet.
    pub unwritten: Gauge,
    /// Invocations that wait to be claimed, as the leading janitor sees them.
    pub queued: Gauge,
    /// How long the oldest of them has waited.
    pub oldest_queued: Gauge<f64, AtomicU64>,
    /// How full the server's queue of notifications is.
    pub notify_queue_usage: Gauge<f64, AtomicU64>,
}

/// A gauge of fractions holds its bits.
type AtomicU64 = std::sync::atomic::AtomicU64;

const PHASES: [&str; 5] = ["dns", "connect", "tls", "first_byte", "body"];

fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.0005, 2.0, 15))
}

impl Default for Metrics {
    fn default() -> Self {
        let phases: Family<PhaseLabel, Histogram> = Family::new_with_constructor(seconds);
        let connections: Family<ConnectionLabel, Counter> = Family::default();
        let [new_connections, kept_connections] =
            ["new", "kept"].map(|connection| connections.get_or_create(&ConnectionLabel { connection }).clone());
        let mut metrics = Self {
            registry: Registry::with_prefix("actions"),
            liveness: Liveness::default(),
            invocations: Family::default(),
            candidate_calls: Family::default(),
            candidates_withdrawn: Family::default(),
            alerts: Family::default(),
            call_duration: Family::new_with_constructor(seconds),
            queue_wait: seconds(),
            overhead: seconds(),
            working: Gauge::default(),
            in_flight: Gauge::default(),
            claim_batch_size: Histogram::new(exponential_buckets(1.0, 2.0, 12)),
            kills: Family::default(),
            mail_outbox: Gauge::default(),
            leader: Gauge::default(),
            // Fine around what a tick may take: 50 ms.
            tick: Histogram::new([0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.04, 0.05, 0.075, 0.1, 0.25, 0.5, 1.0, 5.0]),
            checks_blame_fleet: Gauge::default(),
            kills_held: Gauge::default(),
            connections_replaced: Family::default(),
            replication_lag: Gauge::default(),
            database_certificate_expiry: Gauge::default(),
            spans_exported: Counter::default(),
            spans_dropped: Counter::default(),
            console_requests: Family::default(),
            database_up: Gauge::default(),
            missing_root_key: Counter::default(),
            errors: Family::default(),
            phases: PHASES.map(|phase| phases.get_or_create(&PhaseLabel { phase }).clone()),
            new_connections,
            kept_connections,
            unwritten: Gauge::default(),
            queued: Gauge::default(),
            oldest_queued: Gauge::default(),
            notify_queue_usage: Gauge::default(),
        };
        let registry = &mut metrics.registry;
        registry.register("invocations", "Invocations by trigger and final status", metrics.invocations.clone());
        registry.register("call_duration_seconds", "The call alone, DNS to last byte", metrics.call_duration.clone());
        registry.register("queue_wait_seconds", "From enqueue to claim", metrics.queue_wait.clone());
        registry.register("overhead_seconds", "End to end less the call", metrics.overhead.clone());
        registry.register("working", "1 while this worker claims", metrics.working.clone());
        registry.register("in_flight", "Calls held now", metrics.in_flight.clone());
        registry.register("claim_batch_size", "Invocations a claim brought", metrics.claim_batch_size.clone());
        registry.register("kills", "Trips of the kill-switch", metrics.kills.clone());
        registry.register("mail_outbox", "Mails that wait", metrics.mail_outbox.clone());
        registry.register("leader", "1 while this janitor leads", metrics.leader.clone());
        registry.register("tick_seconds", "What a tick of the janitor took", metrics.tick.clone());
        registry.register("checks_blame_fleet", "1 while the test events of most actions fail", metrics.checks_blame_fleet.clone());
        registry.register("kills_held", "1 while the fleet's own network fails and nobody is killed for it", metrics.kills_held.clone());
        registry.register(
            "connections_replaced",
            "Connections to the database that were replaced, by why",
            metrics.connections_replaced.clone(),
        );
        registry.register(
            "replication_lag_bytes",
            "Write-ahead log that the slowest replication slot has still to read, seen by the leading janitor",
            metrics.replication_lag.clone(),
        );
        registry.register(
            "database_certificate_expiry_seconds",
            "When the database's certificate ends, as a Unix time, seen by the leading janitor; 0 without TLS",
            metrics.database_certificate_expiry.clone(),
        );
        registry.register("spans_exported", "Spans that the collector took", metrics.spans_exported.clone());
        registry.register("spans_dropped", "Spans that the collector did not take", metrics.spans_dropped.clone());
        registry.register("console_requests", "Requests to the console, by status code", metrics.console_requests.clone());
        registry.register("database_up", "1 while the database answers", metrics.database_up.clone());
        registry.register("alerts", "Alerts to the operator's webhook, by kind and what became of them", metrics.alerts.clone());
        registry.register("candidates_withdrawn", "Canaries withdrawn because of what they did", metrics.candidates_withdrawn.clone());
        registry.register("candidate_calls", "Calls of candidates, by mode and how they ended", metrics.candidate_calls.clone());
        registry.register("errors", "Invocations that ended with an error, by its stable word", metrics.errors.clone());
        registry.register("phase_seconds", "What each phase of a call took", phases);
        registry.register("connections", "Calls by whether their connection was kept from an earlier one", connections);
        registry.register("unwritten_results", "Results that are not written back yet", metrics.unwritten.clone());
        registry.register("queued", "Invocations that wait to be claimed, seen by the leading janitor", metrics.queued.clone());
        registry.register("oldest_queued_seconds", "How long the oldest of them has waited", metrics.oldest_queued.clone());
        registry.register(
            "notify_queue_usage",
            "How full the server's queue of notifications is, 0 to 1",
            metrics.notify_queue_usage.clone(),
        );
        registry.register("build", "The program's release", Info::new([("version", env!("CARGO_PKG_VERSION"))]));
        registry.register("missing_root_key", "Invocations whose root key this process lacks", metrics.missing_root_key.clone());
        for status in Status::ALL.iter().map(|status| status.as_str()) {
            drop(metrics.call_duration.get_or_create(&StatusLabel { status }));
            for trigger in Trigger::ALL.iter().map(|trigger| trigger.as_str()) {
                drop(metrics.invocations.get_or_create(&InvocationLabels { trigger, status }));
            }
        }
        for code in ErrorCode::ALL.iter().map(|code| code.as_str()) {
            drop(metrics.errors.get_or_create(&ErrorLabels { code }));
        }
        for code in CONSOLE_CODES {
            drop(metrics.console_requests.get_or_create(&CodeLabel { code }));
        }
        for reason in REPLACED {
            drop(metrics.connections_replaced.get_or_create(&ReplacedLabel { reason }));
        }
        for reason in ["error_ratio", "timeout_ratio", "consecutive_5xx"] {
            drop(metrics.kills.get_or_create(&ReasonLabel { reason }));
        }
        for reason in WITHDRAWN {
            drop(metrics.candidates_withdrawn.get_or_create(&ReasonLabel { reason }));
        }
        for (mode, result) in ["shadow", "canary"].into_iter().flat_map(|mode| RESULTS.map(|result| (mode, result))) {
            drop(metrics.candidate_calls.get_or_create(&CandidateLabels { mode, result }));
        }
        for (kind, result) in ALERTS.into_iter().flat_map(|kind| ALERT_RESULTS.map(|result| (kind, result))) {
            drop(metrics.alerts.get_or_create(&AlertLabels { kind, result }));
        }
        metrics
    }
}

impl Metrics {
    /// Another janitor leads, or none: what this one saw of the fleet is the past.
    pub fn led_no_more(&self) {
        for gauge in [&self.checks_blame_fleet, &self.kills_held, &self.queued, &self.replication_lag, &self.database_certificate_expiry] {
            gauge.set(0);
        }
        self.oldest_queued.set(0.0);
        self.notify_queue_usage.set(0.0);
    }

    /// A connection to the database was replaced.
    pub fn replaced(&self, reason: &'static str) {
        self.connections_replaced.get_or_create(&ReplacedLabel { reason }).inc();
    }

    /// The console answered a request.
    pub fn answered(&self, code: u16) {
        self.console_requests.get_or_create(&CodeLabel { code }).inc();
    }

    /// All metrics as Prometheus text.
    pub fn encode(&self) -> String {
        as_prometheus_text(&self.encode_openmetrics())
    }

    /// All metrics as OpenMetrics, for scrapers that ask for it.
    pub fn encode_openmetrics(&self) -> String {
        let mut text = String::new();
        // Writing into a String has no way to fail.
        let _ = prometheus_client::encoding::text::encode(&mut text, &self.registry);
        text
    }
}

/// The library writes OpenMetrics. In Prometheus text a counter's HELP and TYPE name it as its
/// samples do, and there is no mark at the end.
fn as_prometheus_text(openmetrics: &str) -> String {
    let counters: HashSet<&str> = openmetrics.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" counter")).collect();
    let mut text = String::new();
    for line in openmetrics.lines().filter(|line| *line != "# EOF") {
        let described = line.strip_prefix("# HELP ").or_else(|| line.strip_prefix("# TYPE ")).and_then(|rest| rest.split_once(' '));
        match described {
            Some((name, rest)) if counters.contains(name) => {
                text.push_str(&line[.."# HELP ".len()]);
                text.push_str(name);
                text.push_str("_total ");
                text.push_str(rest);
            }
            _ => text.push_str(line),
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_is_there_from_the_start_as_prometheus_text() {
        let text = Metrics::default().encode();
        for line in [
            "# TYPE actions_invocations_total counter",
            "actions_invocations_total{trigger=\"pre_register\",status=\"expired\"} 0",
            "# TYPE actions_call_duration_seconds histogram",
            "actions_call_duration_seconds_count{status=\"timeout\"} 0",
            "# TYPE actions_queue_wait_seconds histogram",
            "# TYPE actions_overhead_seconds histogram",
            "# TYPE actions_in_flight gauge",
            "# TYPE actions_claim_batch_size histogram",
            "# TYPE actions_kills_total counter",
            "actions_kills_total{reason=\"consecutive_5xx\"} 0",
            "# TYPE actions_mail_outbox gauge",
            "# TYPE actions_leader gauge",
            "# TYPE actions_database_up gauge",
            "actions_errors_total{code=\"compressed\"} 0",
            "actions_phase_seconds_count{phase=\"first_byte\"} 0",
            "actions_connections_total{connection=\"kept\"} 0",
            "# TYPE actions_unwritten_results gauge",
            "# TYPE actions_oldest_queued_seconds gauge",
            concat!("actions_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1"),
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is missing in\n{text}");
        }
        assert!(!text.contains("# EOF") && text.ends_with('\n'));
    }
}
