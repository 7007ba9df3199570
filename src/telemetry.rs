//! Logs and metrics: one subscriber, one set of names.
//!
//! Called by the programs at start. No log line and no metric carries a secret, an event or
//! the body of an answer.

use std::collections::HashSet;
use std::io::IsTerminal;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use tracing_subscriber::EnvFilter;

use crate::config::{Config, ConfigError, LogFormat};
use crate::domain::{Status, Trigger};

/// Sends logs to standard error: for people on a terminal, as JSON elsewhere.
pub fn init(config: &Config) -> Result<(), ConfigError> {
    let filter = EnvFilter::try_new(&config.log.filter).map_err(|error| ConfigError {
        key: "log.filter".to_owned(),
        given: error.to_string(),
        accepted: "a level such as info, or directives such as info,authio_actions::egress=debug".to_owned(),
    })?;
    let on_terminal = std::io::stderr().is_terminal();
    let format = config.log.format.unwrap_or(if on_terminal { LogFormat::Pretty } else { LogFormat::Json });
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(on_terminal);
    let outcome = match format {
        LogFormat::Pretty => builder.compact().try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    if outcome.is_err() {
        tracing::debug!("a subscriber was there already");
    }
    Ok(())
}

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

/// Labels of `actions_kills_total`.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct ReasonLabel {
    /// Which condition held: `error_ratio`, `timeout_ratio` or `consecutive_5xx`.
    pub reason: &'static str,
}

/// Every metric of a program. Labels never carry customer data.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Invocations by trigger and final status.
    pub invocations: Family<InvocationLabels, Counter>,
    /// The call alone, by status.
    pub call_duration: Family<StatusLabel, Histogram>,
    /// From enqueue to claim.
    pub queue_wait: Histogram,
    /// End to end less the call.
    pub overhead: Histogram,
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
    /// 1 while the database answers.
    pub database_up: Gauge,
    /// Actions whose root key this process lacks.
    pub missing_root_key: Counter,
}

fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.0005, 2.0, 15))
}

impl Default for Metrics {
    fn default() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("actions"),
            invocations: Family::default(),
            call_duration: Family::new_with_constructor(seconds),
            queue_wait: seconds(),
            overhead: seconds(),
            in_flight: Gauge::default(),
            claim_batch_size: Histogram::new(exponential_buckets(1.0, 2.0, 12)),
            kills: Family::default(),
            mail_outbox: Gauge::default(),
            leader: Gauge::default(),
            // Fine around what a tick may take: 50 ms.
            tick: Histogram::new([0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.04, 0.05, 0.075, 0.1, 0.25, 0.5, 1.0, 5.0]),
            checks_blame_fleet: Gauge::default(),
            database_up: Gauge::default(),
            missing_root_key: Counter::default(),
        };
        let registry = &mut metrics.registry;
        registry.register("invocations", "Invocations by trigger and final status", metrics.invocations.clone());
        registry.register("call_duration_seconds", "The call alone, DNS to last byte", metrics.call_duration.clone());
        registry.register("queue_wait_seconds", "From enqueue to claim", metrics.queue_wait.clone());
        registry.register("overhead_seconds", "End to end less the call", metrics.overhead.clone());
        registry.register("in_flight", "Calls held now", metrics.in_flight.clone());
        registry.register("claim_batch_size", "Invocations a claim brought", metrics.claim_batch_size.clone());
        registry.register("kills", "Trips of the kill-switch", metrics.kills.clone());
        registry.register("mail_outbox", "Mails that wait", metrics.mail_outbox.clone());
        registry.register("leader", "1 while this janitor leads", metrics.leader.clone());
        registry.register("tick_seconds", "What a tick of the janitor took", metrics.tick.clone());
        registry.register("checks_blame_fleet", "1 while the test events of most actions fail", metrics.checks_blame_fleet.clone());
        registry.register("database_up", "1 while the database answers", metrics.database_up.clone());
        registry.register("missing_root_key", "Invocations whose root key this process lacks", metrics.missing_root_key.clone());
        // From the start with 0: a rate does not see the first step of what appears with it.
        for status in Status::ALL.iter().map(|status| status.as_str()) {
            drop(metrics.call_duration.get_or_create(&StatusLabel { status }));
            for trigger in Trigger::ALL.iter().map(|trigger| trigger.as_str()) {
                drop(metrics.invocations.get_or_create(&InvocationLabels { trigger, status }));
            }
        }
        for reason in ["error_ratio", "timeout_ratio", "consecutive_5xx"] {
            drop(metrics.kills.get_or_create(&ReasonLabel { reason }));
        }
        metrics
    }
}

impl Metrics {
    /// All metrics as Prometheus text.
    pub fn encode(&self) -> String {
        let mut text = String::new();
        // Writing into a String has no way to fail.
        let _ = prometheus_client::encoding::text::encode(&mut text, &self.registry);
        as_prometheus_text(&text)
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

/// Where a program answers `/metrics`, `/healthz` and `/readyz`; port 0 is off.
pub mod endpoint {
    use std::convert::Infallible;
    use std::sync::Arc;

    use http_body_util::Full;
    use hyper::body::{Bytes, Incoming};
    use hyper::header::CONTENT_TYPE;
    use hyper::service::service_fn;
    use hyper::{Request, Response};
    use hyper_util::rt::{TokioIo, TokioTimer};
    use tokio::net::TcpListener;

    use super::Metrics;
    use crate::config::{self, ConfigError};

    /// Serves until the program ends.
    pub async fn serve(config: &config::Metrics, metrics: Arc<Metrics>) -> Result<(), ConfigError> {
        if config.listen.port() == 0 {
            return Ok(());
        }
        let listener = TcpListener::bind(config.listen).await.map_err(|error| ConfigError {
            key: "metrics.listen".to_owned(),
            given: format!("{}: {error}", config.listen),
            accepted: "a free address such as 127.0.0.1:9464, or port 0 for none".to_owned(),
        })?;
        tracing::info!(address = %config.listen, "serving /metrics, /healthz and /readyz");
        tokio::spawn(async move {
            loop {
                match listener.accept().await {
                    Ok((stream, _)) => {
                        let metrics = Arc::clone(&metrics);
                        tokio::spawn(async move {
                            let service = service_fn(move |request| std::future::ready(Ok::<_, Infallible>(respond(&metrics, &request))));
                            let mut server = hyper::server::conn::http1::Builder::new();
                            server.timer(TokioTimer::new());
                            if let Err(error) = server.serve_connection(TokioIo::new(stream), service).await {
                                tracing::debug!(%error, "a metrics client left");
                            }
                        });
                    }
                    Err(error) => {
                        tracing::warn!(%error, "metrics.listen cannot accept");
                        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
                    }
                }
            }
        });
        Ok(())
    }

    fn respond(metrics: &Metrics, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        let ready = metrics.database_up.get() == 1;
        let (status, content_type, body) = match request.uri().path() {
            "/metrics" => (200, "text/plain; version=0.0.4; charset=utf-8", metrics.encode()),
            "/healthz" => (200, "text/plain", "ok\n".to_owned()),
            "/readyz" if ready => (200, "text/plain", "ok\n".to_owned()),
            "/readyz" => (503, "text/plain", "the database does not answer\n".to_owned()),
            _ => (404, "text/plain", "there are /metrics, /healthz and /readyz\n".to_owned()),
        };
        let mut response = Response::new(Full::new(Bytes::from(body)));
        *response.status_mut() = hyper::StatusCode::from_u16(status).unwrap_or_default();
        response.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(content_type));
        response
    }
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
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is missing in\n{text}");
        }
        assert!(!text.contains("# EOF") && text.ends_with('\n'));
    }
}
