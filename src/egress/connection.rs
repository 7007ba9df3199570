//! One connection to one judged address: TCP, TLS, HTTP/1.1, one exchange at a time.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::Instant;
use url::Host;

use super::{CallError, Endpoint, Phase, Phases, Target};
use crate::config::ConfigError;
use crate::domain::{Answer, Body, MAX_RESPONSE_BYTES};

const USER_AGENT: &str = concat!("Authio-Actions/", env!("CARGO_PKG_VERSION"));
/// Everything an endpoint may send before its body; more is no answer to us.
const MAX_HEAD_BYTES: usize = 64 * 1024;
/// How long the body of a failure is worth waiting for: only its hash is kept.
const FAILED_BODY_PATIENCE: Duration = Duration::from_millis(250);
/// How long one of several addresses may take before the next is tried beside it.
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);
/// The most addresses that are tried: a name with hundreds must not make us knock at them all.
const MAX_ATTEMPTS: usize = 8;

/// What to send.
#[derive(Debug, Clone)]
pub struct Request<'a> {
    /// Headers beside those that every request has.
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
            .header(hyper::header::ACCEPT, "application/json");
        for (name, value) in self.headers {
            request = request.header(HeaderName::from_static(name), HeaderValue::try_from(*value).map_err(unsendable)?);
        }
        request.body(Full::new(Bytes::from(self.body))).map_err(unsendable)
    }
}

fn unsendable(error: impl std::fmt::Display) -> CallError {
    CallError::Network { phase: Phase::FirstByte, why: format!("the request cannot be written: {error}") }
}

fn host_header(endpoint: &Endpoint) -> String {
    match &endpoint.host {
        Host::Ipv6(address) => format!("[{address}]"),
        _ => endpoint.host_name.clone(),
    }
}

pub(super) struct Connection(http1::SendRequest<Full<Bytes>>);

impl Connection {
    pub(super) fn is_open(&self) -> bool {
        self.0.is_ready() && !self.0.is_closed()
    }

    /// Sends a request; a request of which nothing was written comes back with the error.
    pub(super) async fn send(&mut self, message: Message) -> Result<hyper::Response<Incoming>, (String, Option<Message>)> {
        self.0.try_send_request(message).await.map_err(|mut refused| {
            let unsent = refused.take_message();
            (explain(refused.error()), unsent)
        })
    }
}

fn explain(error: &hyper::Error) -> String {
    let cause = std::error::Error::source(error).and_then(|source| source.downcast_ref::<std::io::Error>());
    match cause {
        _ if error.is_incomplete_message() => "the endpoint closed the connection before it answered".to_owned(),
        Some(io) => explain_io(io),
        None if error.is_parse_too_large() => format!("the response's headers have more than {MAX_HEAD_BYTES} bytes"),
        None if error.is_parse() => "the endpoint's answer is no HTTP/1.1".to_owned(),
        None => error.to_string(),
    }
}

/// Whether this machine is out of sockets, ports or memory, and the endpoint is innocent.
pub(super) fn is_ours(error: &std::io::Error) -> bool {
    // ENFILE, EMFILE and ENOBUFS, which have no kind of their own.
    matches!(error.raw_os_error(), Some(23 | 24 | 105))
        || matches!(error.kind(), std::io::ErrorKind::OutOfMemory | std::io::ErrorKind::AddrNotAvailable)
}

fn explain_io(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::ConnectionRefused => "the endpoint refused the connection".to_owned(),
        std::io::ErrorKind::ConnectionReset | std::io::ErrorKind::BrokenPipe => "the endpoint reset the connection".to_owned(),
        std::io::ErrorKind::UnexpectedEof => "the endpoint closed the connection in the middle".to_owned(),
        _ => error.to_string(),
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
        let stream = speak(stream).await.map_err(|why| CallError::Network { phase: Phase::Connect, why })?;
        return Ok((stream, address));
    }
    phases.enter(Phase::Tls);
    let network = |why| CallError::Network { phase: Phase::Tls, why };
    let server_name = match endpoint.literal() {
        Some(ip) => ServerName::from(ip),
        None => ServerName::try_from(endpoint.host_name.clone()).map_err(|_| network("no certificate can name this host".to_owned()))?,
    };
    let stream = tokio_rustls::TlsConnector::from(Arc::clone(tls))
        .connect(server_name, stream)
        .await
        .map_err(|error| network(explain_io(&error)))?;
    Ok((speak(stream).await.map_err(network)?, address))
}

/// HTTP/1.1 on an open stream.
async fn speak(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Result<Connection, String> {
    let mut http = http1::Builder::new();
    http.max_buf_size(MAX_HEAD_BYTES);
    let (sender, driver) = http.handshake(TokioIo::new(stream)).await.map_err(|error| explain(&error))?;
    // Boxed, because a task keeps two copies of what it awaits: the one it was given, and the one in use.
    let driver = Box::pin(driver);
    // Ends with the connection: when the sender is dropped, or the other side closes.
    tokio::spawn(async move {
        if let Err(error) = driver.await {
            tracing::debug!(%error, "a connection to an endpoint ended");
        }
    });
    Ok(Connection(sender))
}

/// Happy eyeballs (RFC 8305): the next address is tried as soon as one fails, or beside one
/// that takes its time. The first to connect wins, and the others are given up.
async fn dial(addresses: &[SocketAddr]) -> Result<(TcpStream, SocketAddr), CallError> {
    let mut untried = in_turns(addresses).into_iter().take(MAX_ATTEMPTS);
    let mut attempts = JoinSet::new();
    let mut failures = Failures::default();
    loop {
        if let Some(address) = untried.next() {
            attempts.spawn(async move { (address, TcpStream::connect(address).await) });
        }
        tokio::select! {
            attempt = attempts.join_next() => match attempt {
                Some(Ok((address, Ok(stream)))) => {
                    if let Err(error) = stream.set_nodelay(true) {
                        tracing::debug!(%error, "TCP_NODELAY");
                    }
                    return Ok((stream, address));
                }
                Some(Ok((address, Err(error)))) => failures.add(address, &error)?,
                Some(Err(error)) => return Err(ours(&error)),
                None => return Err(failures.blame()),
            },
            () = tokio::time::sleep(ATTEMPT_DELAY), if untried.len() > 0 => {}
        }
    }
}

/// Why no address let us in, the last reason of each kind.
#[derive(Default)]
pub(super) struct Failures {
    endpoint: Option<String>,
    /// Says nothing of an endpoint that has IPv4 as well.
    no_ipv6: Option<CallError>,
}

impl Failures {
    /// Fails at once where this machine lacks what every attempt needs.
    pub(super) fn add(&mut self, address: SocketAddr, error: &std::io::Error) -> Result<(), CallError> {
        if error.kind() == std::io::ErrorKind::AddrNotAvailable && address.is_ipv6() {
            self.no_ipv6 = Some(ours(error));
        } else if is_ours(error) {
            return Err(ours(error));
        } else {
            self.endpoint = Some(explain_io(error));
        }
        Ok(())
    }

    pub(super) fn blame(self) -> CallError {
        match (self.endpoint, self.no_ipv6) {
            (None, Some(ours)) => ours,
            (why, _) => CallError::Network { phase: Phase::Connect, why: why.unwrap_or_else(|| "the name has no address".to_owned()) },
        }
    }
}

fn ours(error: &dyn std::error::Error) -> CallError {
    CallError::Ours(format!("this worker cannot open a socket: {error}"))
}

/// IPv4 and IPv6 in turns, so that a family without a route costs one attempt. IPv4 first:
/// every public endpoint has it, and not every worker's network has the other.
fn in_turns(addresses: &[SocketAddr]) -> Vec<SocketAddr> {
    let (v4, v6): (Vec<SocketAddr>, Vec<SocketAddr>) = addresses.iter().partition(|address| address.is_ipv4());
    let longest = v4.len().max(v6.len());
    (0..longest).flat_map(|n| [v4.get(n), v6.get(n)]).flatten().copied().collect()
}

/// Reads an answer up to the cap; also tells whether the connection may be used again.
pub(super) async fn read(response: hyper::Response<Incoming>, deadline: Instant) -> Result<(Answer, bool), CallError> {
    let (head, body) = response.into_parts();
    let failed = !head.status.is_success();
    let patience = if failed { deadline.min(Instant::now() + FAILED_BODY_PATIENCE) } else { deadline };
    let body = match tokio::time::timeout_at(patience, capped(body)).await {
        Ok(Ok(body)) => body,
        Ok(Err(_)) | Err(_) if failed => Body::Broken,
        Ok(Err(why)) => return Err(CallError::Network { phase: Phase::Body, why }),
        Err(_) => return Err(CallError::OutOfTime { phase: Phase::Body }),
    };
    let reusable = matches!(body, Body::Whole(_));
    let answer = Answer {
        http_status: head.status.as_u16(),
        content_type: all(&head.headers, hyper::header::CONTENT_TYPE.as_str()),
        signature: all(&head.headers, "authio-response-signature"),
        body,
    };
    Ok((answer, reusable))
}

/// Reads until the body ends or is one byte too large; a length that says so is believed.
async fn capped(mut body: Incoming) -> Result<Body, String> {
    let announced = hyper::body::Body::size_hint(&body).lower();
    if announced > MAX_RESPONSE_BYTES as u64 {
        return Ok(Body::TooLarge);
    }
    let mut bytes = Vec::with_capacity(usize::try_from(announced).unwrap_or_default());
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| explain(&error))?;
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

/// Public roots, compiled in, so that an image with a private root changes nothing; and the
/// operator's extra ones.
pub(super) fn tls_config(extra_ca_file: Option<&Path>) -> Result<Arc<rustls::ClientConfig>, ConfigError> {
    let mut roots = rustls::RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    if let Some(path) = extra_ca_file {
        let fault = |why: String| ConfigError {
            key: "egress.extra_ca_file".to_owned(),
            given: format!("{}: {why}", path.display()),
            accepted: "the path of a PEM file with one or more certificates".to_owned(),
        };
        let mut added = 0;
        for certificate in CertificateDer::pem_file_iter(path).map_err(|error| fault(error.to_string()))? {
            let certificate = certificate.map_err(|error| fault(error.to_string()))?;
            roots.add(certificate).map_err(|error| fault(error.to_string()))?;
            added += 1;
        }
        if added == 0 {
            return Err(fault("it holds no certificate".to_owned()));
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(|error| ConfigError { key: "egress".to_owned(), given: error.to_string(), accepted: "TLS 1.2 and 1.3".to_owned() })?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
