//! Spans to the operator's collector, by OTLP over HTTP.
//!
//! A span here is written down after it happened, with times of PostgreSQL's clock, and some began before
//! this process knew of them. So the exporter is fed with finished spans, and nothing is open meanwhile.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue, Value};
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{Protocol, RetryPolicy, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanExporter as _, SpanLinks};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::time::Instant;

use super::Metrics;
use crate::config::{self, ConfigError};
use crate::domain::TraceParent;

/// What waits for the collector; beyond, traces are let go, because nobody waits for them.
const WAITING: usize = 2_048;
/// The most traces of one export, of some ten spans each.
const BATCH: usize = 64;
/// So long a batch may gather.
const GATHERING: Duration = Duration::from_secs(1);
/// A collector that takes longer is away.
const PATIENCE: Duration = Duration::from_secs(5);
/// What is dropped is told no more often.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// Where finished traces go.
#[derive(Debug)]
pub struct Tracer {
    sender: Sender<Option<Recording>>,
    scope: InstrumentationScope,
    metrics: Arc<Metrics>,
}

/// The spans of one unit of work; the first is what the others are under.
#[derive(Debug)]
pub struct Recording {
    parent: TraceParent,
    context: TraceParent,
    scope: InstrumentationScope,
    began: SystemTime,
    attributes: Vec<KeyValue>,
    status: Status,
    steps: Vec<SpanData>,
}

impl Tracer {
    /// The tracer and the loop that exports, where a collector is configured.
    ///
    /// # Errors
    /// An endpoint that is no http:// or https:// URL, or a variable `OTEL_EXPORTER_OTLP_…` that cannot be read.
    pub fn new(
        config: &config::Telemetry,
        service: &'static str,
        process: &str,
        metrics: Arc<Metrics>,
    ) -> Result<Option<(Self, impl Future<Output = ()> + use<>)>, ConfigError> {
        let Some(base) = &config.otlp_endpoint else { return Ok(None) };
        let endpoint = format!("{}/v1/traces", base.trim_end_matches('/'));
        let wrong = |error: String| ConfigError {
            key: "telemetry.otlp_endpoint".to_owned(),
            given: error,
            accepted: "http://host:4318 or https://host, without credentials; headers go into OTEL_EXPORTER_OTLP_HEADERS".to_owned(),
        };
        let client = reqwest::Client::builder().timeout(PATIENCE).redirect(reqwest::redirect::Policy::none()).build();
        let client = client.map_err(|error| wrong(error.to_string()))?;
        let exporter = SpanExporter::builder()
            .with_http()
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(endpoint)
            .with_timeout(PATIENCE)
            .with_http_client(Client(client))
            // Its pauses would stop a thread of the runtime, and with it whoever signs in.
            .with_retry_policy(RetryPolicy::disabled())
            .build();
        let mut exporter = exporter.map_err(|error| wrong(error.to_string()))?;
        let resource = Resource::builder_empty()
            .with_attribute(KeyValue::new("service.name", service))
            .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
            .with_attribute(KeyValue::new("service.instance.id", process.to_owned()));
        exporter.set_resource(&resource.build());
        let (sender, finished) = channel(WAITING);
        let scope = InstrumentationScope::builder("authio-actions").with_version(env!("CARGO_PKG_VERSION")).build();
        let exporting = export(exporter, finished, Arc::clone(&metrics));
        Ok(Some((Self { sender, scope, metrics }, exporting)))
    }

    /// A new span under `parent`, which is another process's.
    pub fn begin(&self, parent: &TraceParent, began: SystemTime) -> Recording {
        let context = parent.with_span(random_id());
        let scope = self.scope.clone();
        Recording { parent: *parent, context, scope, began, attributes: Vec::new(), status: Status::Unset, steps: Vec::new() }
    }

    /// Sends it off at some time.
    pub fn end(&self, mut recording: Recording, ended: SystemTime) {
        let root = SpanData {
            parent_span_id: SpanId::from_bytes(recording.parent.span_id),
            parent_span_is_remote: true,
            span_kind: SpanKind::Client,
            attributes: std::mem::take(&mut recording.attributes),
            status: std::mem::replace(&mut recording.status, Status::Unset),
            ..recording.span("invocation", recording.context.span_id, recording.began, ended)
        };
        recording.steps.push(root);
        let spans = recording.steps.len() as u64;
        if self.sender.try_send(Some(recording)).is_err() {
            self.metrics.spans_dropped.inc_by(spans);
        }
    }

    /// Lets the loop end once it has exported what was recorded; false where it is gone already.
    pub async fn close(&self) -> bool {
        self.sender.send(None).await.is_ok()
    }
}

impl Recording {
    /// What is under this, here or elsewhere, belongs to this.
    pub fn context(&self) -> TraceParent {
        self.context
    }

    /// A part of it that is over.
    pub fn step(&mut self, name: &'static str, began: SystemTime, ended: SystemTime) {
        let step = self.span(name, random_id(), began, ended);
        self.steps.push(step);
    }

    /// Says something of the whole.
    pub fn attribute(&mut self, key: &'static str, value: impl Into<Value>) {
        self.attributes.push(KeyValue::new(key, value));
    }

    /// It ended with an error.
    pub fn fail(&mut self, why: &'static str) {
        self.status = Status::error(why);
    }

    fn span(&self, name: &'static str, id: [u8; 8], began: SystemTime, ended: SystemTime) -> SpanData {
        let trace_id = TraceId::from_bytes(self.context.trace_id);
        let flags = TraceFlags::new(self.context.flags);
        SpanData {
            span_context: SpanContext::new(trace_id, SpanId::from_bytes(id), flags, false, TraceState::NONE),
            parent_span_id: SpanId::from_bytes(self.context.span_id),
            parent_span_is_remote: false,
            span_kind: SpanKind::Internal,
            name: Cow::Borrowed(name),
            start_time: began,
            end_time: ended.max(began),
            attributes: Vec::new(),
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: Status::Unset,
            instrumentation_scope: self.scope.clone(),
        }
    }
}

fn random_id() -> [u8; 8] {
    let [.., a, b, c, d, e, f, g, h] = uuid::Uuid::new_v4().into_bytes();
    [a, b, c, d, e, f, g, h]
}

async fn export(exporter: SpanExporter, mut finished: Receiver<Option<Recording>>, metrics: Arc<Metrics>) {
    let (mut told, mut tell_at) = (0, Instant::now());
    let mut is_last = false;
    while !is_last {
        let mut batch = Vec::new();
        let until = Instant::now() + GATHERING;
        while batch.len() < BATCH {
            match tokio::time::timeout_at(until, finished.recv()).await {
                Ok(Some(Some(recording))) => batch.push(recording),
                Ok(Some(None) | None) => {
                    is_last = true;
                    break;
                }
                Err(_) => break,
            }
        }
        let spans: Vec<SpanData> = batch.into_iter().flat_map(|recording| recording.steps).collect();
        let count = spans.len() as u64;
        let mut why = None;
        if count > 0 {
            match exporter.export(spans).await {
                Ok(()) => drop(metrics.spans_exported.inc_by(count)),
                Err(error) => {
                    metrics.spans_dropped.inc_by(count);
                    why = Some(error.to_string());
                }
            }
        }
        let dropped = metrics.spans_dropped.get();
        if dropped > told && Instant::now() >= tell_at {
            tracing::warn!(spans = dropped - told, why, "spans are dropped: the collector does not take them, or not fast enough");
            (told, tell_at) = (dropped, Instant::now() + TELL_EVERY);
        }
    }
}

/// How the exporter speaks HTTP.
#[derive(Debug)]
struct Client(reqwest::Client);

#[async_trait::async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let answer = self.0.execute(request.try_into()?).await.map_err(|error| {
            let error = error.without_url();
            tracing::debug!(error = &error as &dyn std::error::Error, "the collector is not reached");
            error
        })?;
        let status = answer.status();
        let mut response = Response::new(answer.bytes().await?);
        *response.status_mut() = status;
        Ok(response)
    }
}
