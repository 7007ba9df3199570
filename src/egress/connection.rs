//! One connection to one judged address: TCP, TLS, HTTP/1.1, one exchange at a time.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;
use url::Host;

use super::dial::dial;
use super::fault::{self, Fault};
use super::idle_close::IdleClose;
use super::{CallError, Endpoint, Phase, Phases, Target};
use crate::domain::{Answer, Body, ErrorCode, MAX_RESPONSE_BYTES};

const USER_AGENT: &str = concat!("Authio-Actions/", env!("CARGO_PKG_VERSION"));
/// Everything an endpoint may send before its body; more is no answer to us.
const MAX_HEAD_BYTES: usize = 64 * 1024;
/// What the parser takes. It has room for 100 headers on the stack; for more it would make 16 KiB
/// anew at each answer, which cost a worker one call in twenty.
const HEAD_LIMITS: &str = "more than 100 headers, or more than 65536 bytes of them";
/// How long a body is worth waiting for of which only the hash is kept.
const UNREAD_BODY_PATIENCE: Duration = Duration::from_millis(250);

/// What to send.
#[derive(Debug, Clone)]
pub struct Request<'a> {
    /// Headers beside those that every request has; one without a value is left out.
    pub headers: &'a [(&'static str, &'a str)],
    /// The JSON body; these bytes are the sent bytes.
    pub body: String,
}

pub(super) type Message = hyper::Request<Full<Bytes>>;

impl Request<'_> {
    pub(super) fn build(self, endpoint: &Endpoint) -> Result<Message, CallError> {
        let url = &endpoint.url;
        let path = url.query().map_or_else(|| url.path().to_owned(), |query| format!("{}?{query}", url.path()));
        let host = url.port().map_or_else(|| host_header(endpoint), |port| format!("{}:{port}", host_header(endpoint)));
        let mut request = hyper::Request::post(path)
            .header(hyper::header::HOST, host)
            .header(hyper::header::USER_AGENT, USER_AGENT)
            .header(hyper::header::CONTENT_TYPE, "application/json")
            .header(hyper::header::ACCEPT, "application/json")
            // Said, because without it servers and what stands before them may compress.
            .header(hyper::header::ACCEPT_ENCODING, "identity");
        for (name, value) in self.headers.iter().filter(|(_, value)| !value.is_empty()) {
            request = request.header(HeaderName::from_static(name), HeaderValue::try_from(*value).map_err(unsendable)?);
        }
        request.body(Full::new(Bytes::from(self.body))).map_err(unsendable)
    }
}

fn unsendable(error: impl std::fmt::Display) -> CallError {
    let why = format!("the request cannot be written: {error}");
    CallError::Network { phase: Phase::FirstByte, code: ErrorCode::Unsendable, why }
}

fn host_header(endpoint: &Endpoint) -> String {
    match &endpoint.host {
        Host::Ipv6(address) => format!("[{address}]"),
        _ => endpoint.host_name.clone(),
    }
}

/// An open connection; the other side may close it at any time.
pub(super) struct Connection {
    sender: http1::SendRequest<Full<Bytes>>,
    pub(super) idle_close: IdleClose,
}

impl Connection {
    pub(super) fn is_open(&self) -> bool {
        self.sender.is_ready() && !self.sender.is_closed()
    }

    /// Sends a request; a request of which nothing was written comes back with the error.
    pub(super) async fn send(&mut self, message: Message) -> Result<hyper::Response<Incoming>, (Fault, Option<Message>)> {
        self.sender.try_send_request(message).await.map_err(|mut refused| {
            let unsent = refused.take_message();
            (fault::http(refused.error(), Phase::FirstByte, HEAD_LIMITS), unsent)
        })
    }
}

/// Dials the judged addresses, then speaks TLS and HTTP. Its caller watches the budget.
pub(super) async fn open(
    target: &Target,
    tls: &Arc<rustls::ClientConfig>,
    phases: &mut Phases,
) -> Result<(Connection, SocketAddr), CallError> {
    phases.enter(Phase::Connect);
    let (stream, address) = dial(&target.addresses).await?;
    let endpoint = &target.endpoint;
    if endpoint.is_plain() {
        return Ok((speak(stream, Phase::Connect).await?, address));
    }
    phases.enter(Phase::Tls);
    let server_name = match endpoint.literal() {
        Some(ip) => ServerName::from(ip),
        None => ServerName::try_from(endpoint.host_name.clone()).map_err(|_| {
            let why = "no certificate can name this host".to_owned();
            CallError::Network { phase: Phase::Tls, code: ErrorCode::TlsWrongName, why }
        })?,
    };
    let stream = tokio_rustls::TlsConnector::from(Arc::clone(tls))
        .connect(server_name, stream)
        .await
        .map_err(|error| fault::io(&error, Phase::Tls).at(Phase::Tls))?;
    Ok((speak(stream, Phase::Tls).await?, address))
}

/// HTTP/1.1 on an open stream.
async fn speak(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, phase: Phase) -> Result<Connection, CallError> {
    let mut http = http1::Builder::new();
    http.max_buf_size(MAX_HEAD_BYTES)
        // Old servers and middle boxes send both, and every browser reads them.
        .allow_obsolete_multiline_headers_in_responses(true)
        .allow_spaces_after_header_name_in_responses(true);
    let (sender, driver) = http.handshake(TokioIo::new(stream)).await.map_err(|error| fault::http(&error, phase, HEAD_LIMITS).at(phase))?;
    // Boxed, because a task keeps two copies of what it awaits: the one it was given, and the one in use.
    let driver = Box::pin(driver);
    let idle_close = IdleClose::default();
    let ending = idle_close.clone();
    // Ends with the connection: when the sender is dropped, or the other side closes.
    tokio::spawn(async move {
        if let Err(error) = driver.await {
            tracing::debug!(%error, "a connection to an endpoint ended");
        }
        ending.ended(Instant::now());
    });
    Ok(Connection { sender, idle_close })
}

/// An answer as it was read, and for how long its connection may be kept, if at all.
pub(super) struct Read {
    pub(super) answer: Answer,
    pub(super) keep_for: Option<Duration>,
}

/// Reads an answer up to the cap, on a connection that is kept for at most `longest`.
pub(super) async fn read(response: hyper::Response<Incoming>, deadline: Instant, longest: Duration) -> Result<Read, CallError> {
    let (head, body) = response.into_parts();
    let mut answer = Answer {
        http_status: head.status.as_u16(),
        content_type: all(&head.headers, hyper::header::CONTENT_TYPE.as_str()),
        content_encoding: all(&head.headers, hyper::header::CONTENT_ENCODING.as_str()),
        signature: all(&head.headers, "authio-response-signature"),
        body: Body::Broken,
    };
    // Of a failure, and of what is compressed, the head says all there is to judge.
    let is_judged = !head.status.is_success() || answer.compression().is_some();
    let patience = if is_judged { deadline.min(Instant::now() + UNREAD_BODY_PATIENCE) } else { deadline };
    answer.body = match tokio::time::timeout_at(patience, capped(body)).await {
        Ok(Ok(body)) => body,
        Ok(Err(_)) | Err(_) if is_judged => Body::Broken,
        Ok(Err(fault)) => return Err(fault.at(Phase::Body)),
        Err(_) => return Err(CallError::OutOfTime { phase: Phase::Body }),
    };
    let is_whole = matches!(answer.body, Body::Whole(_));
    let keep_for = super::idle::keep_for(&all(&head.headers, "keep-alive"), longest).filter(|_| is_whole);
    Ok(Read { answer, keep_for })
}

/// Reads until the body ends or is one byte too large; a length that says so is believed.
async fn capped(mut body: Incoming) -> Result<Body, Fault> {
    let announced = hyper::body::Body::size_hint(&body).lower();
    if announced > MAX_RESPONSE_BYTES as u64 {
        return Ok(Body::TooLarge);
    }
    let mut bytes = Vec::with_capacity(usize::try_from(announced).unwrap_or_default());
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| fault::http(&error, Phase::Body, HEAD_LIMITS))?;
        if let Some(data) = frame.data_ref() {
            if bytes.len() + data.len() > MAX_RESPONSE_BYTES {
                return Ok(Body::TooLarge);
            }
            bytes.extend_from_slice(data);
        }
    }
    Ok(Body::Whole(bytes))
}

fn all(headers: &HeaderMap, name: &str) -> Vec<String> {
    headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()).collect()
}
