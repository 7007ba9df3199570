//! A customer's endpoint: a real HTTPS server on loopback, whose answers a closure makes.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use crate::certificate::Authority;

/// The name under which tests and the demo reach the endpoint.
pub const HOST: &str = "hooks.acme.test";

/// A request as it arrived.
#[derive(Debug, Clone)]
pub struct Received {
    /// The path.
    pub path: String,
    /// Header names in lower case, and values.
    pub headers: Vec<(String, String)>,
    /// The raw body.
    pub body: Bytes,
}

impl Received {
    /// A header's value, or nothing.
    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }

    /// The body as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).expect("the fleet sends JSON")
    }
}

/// What the endpoint does with a request.
#[derive(Debug, Clone)]
pub enum Reply {
    /// Answers.
    Http {
        /// The status code.
        status: u16,
        /// Headers.
        headers: Vec<(String, String)>,
        /// The body.
        body: Bytes,
    },
    /// Closes the connection without an answer.
    Close,
    /// Never answers.
    Hang,
}

impl Reply {
    /// 200 with a JSON body.
    pub fn json(body: impl Into<Bytes>) -> Self {
        Self::with_status(200, body)
    }

    /// A JSON body with a status code of your choice.
    pub fn with_status(status: u16, body: impl Into<Bytes>) -> Self {
        Self::Http { status, headers: vec![("content-type".to_owned(), "application/json".to_owned())], body: body.into() }
    }

    /// The same answer with one more header.
    #[must_use]
    pub fn and_header(mut self, name: &str, value: impl Into<String>) -> Self {
        if let Self::Http { headers, .. } = &mut self {
            headers.push((name.to_owned(), value.into()));
        }
        self
    }
}

/// Longer than anything that is waited for takes.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(30);

type Handler = dyn Fn(Received) -> Pin<Box<dyn Future<Output = Reply> + Send>> + Send + Sync;

/// A running endpoint; it stops when dropped.
pub struct Endpoint {
    /// Where it listens.
    pub address: SocketAddr,
    requests: Arc<watch::Sender<Vec<Received>>>,
    connections: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Endpoint {
    /// Serves under a certificate for [`HOST`].
    pub async fn start<F>(authority: &Authority, handler: impl Fn(Received) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Reply> + Send + 'static,
    {
        Self::named(authority, &[HOST], handler).await
    }

    /// Serves under a certificate for names of your choice.
    pub async fn named<F>(authority: &Authority, names: &[&str], handler: impl Fn(Received) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Reply> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound port");
        let handler: Arc<Handler> = Arc::new(move |request| Box::pin(handler(request)));
        let requests = Arc::new(watch::Sender::new(Vec::new()));
        let connections: Arc<AtomicUsize> = Arc::default();
        let acceptor = TlsAcceptor::from(authority.server(names));
        let task = tokio::spawn(accept(listener, acceptor, handler, Arc::clone(&requests), Arc::clone(&connections)));
        Self { address, requests, connections, task }
    }

    /// The URL of a path on this endpoint.
    pub fn url(&self, path: &str) -> String {
        self.url_of(HOST, path)
    }

    /// The same under another name.
    pub fn url_of(&self, host: &str, path: &str) -> String {
        format!("https://{host}:{}{path}", self.address.port())
    }

    /// Everything received so far.
    pub fn requests(&self) -> Vec<Received> {
        self.requests.borrow().clone()
    }

    /// Waits until so many requests have arrived.
    pub async fn received(&self, count: usize) {
        let arrived = tokio::time::timeout(PATIENCE, self.requests.subscribe().wait_for(|all| all.len() >= count)).await.is_ok();
        assert!(arrived, "{count} requests never arrived, but {}", self.requests.borrow().len());
    }

    /// How many TCP connections were made.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

async fn accept(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    handler: Arc<Handler>,
    requests: Arc<watch::Sender<Vec<Received>>>,
    connections: Arc<AtomicUsize>,
) {
    // Connections end with the endpoint.
    let mut serving = tokio::task::JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        connections.fetch_add(1, Ordering::SeqCst);
        while serving.try_join_next().is_some() {}
        let (acceptor, handler, requests) = (acceptor.clone(), Arc::clone(&handler), Arc::clone(&requests));
        serving.spawn(async move {
            stream.set_nodelay(true).expect("TCP_NODELAY");
            let Ok(stream) = acceptor.accept(stream).await else { return };
            let service = service_fn(move |request| {
                let (handler, requests) = (Arc::clone(&handler), Arc::clone(&requests));
                async move { respond(&handler, &requests, request).await }
            });
            // An error here is what a test asked for, or a client that left.
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn respond(
    handler: &Arc<Handler>,
    requests: &watch::Sender<Vec<Received>>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, std::io::Error> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(std::io::Error::other)?.to_bytes();
    let text = |value: &hyper::header::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let headers = head.headers.iter().map(|(name, value)| (name.as_str().to_owned(), text(value))).collect();
    let received = Received { path: head.uri.path().to_owned(), headers, body };
    requests.send_modify(|all| all.push(received.clone()));
    match handler(received).await {
        Reply::Http { status, headers, body } => {
            let mut response = Response::builder().status(status);
            for (name, value) in headers {
                response = response.header(name, value);
            }
            Ok(response.body(Full::new(body)).expect("a valid answer"))
        }
        Reply::Close => Err(std::io::Error::other("closed on purpose")),
        Reply::Hang => std::future::pending().await,
    }
}

/// A server that accepts and then writes fixed bytes after the TLS handshake, whatever it reads.
pub async fn raw(authority: &Authority, bytes: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("a bound port");
    let acceptor = TlsAcceptor::from(authority.server(&[HOST]));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            if let Ok(mut stream) = acceptor.accept(stream).await {
                let _ = stream.write_all(bytes).await;
                let _ = stream.shutdown().await;
            }
        }
    });
    address
}
