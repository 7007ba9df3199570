//! The endpoint as a process of its own, so that its CPU time is nobody else's.

use std::convert::Infallible;
use std::process::Stdio;

use authio_actions_testkit::certificate::Authority;
use authio_actions_testkit::endpoint::HOST;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::service::service_fn;
use hyper::{Request, Response, body::Incoming};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio_rustls::TlsAcceptor;

const VERDICT: &str = r#"{"decision":"allow"}"#;
/// Requests to this path are never answered.
pub const HANG: &str = "/hang";

/// Where the endpoint listens, and whom it wants to be trusted by.
#[derive(Serialize, Deserialize)]
struct Announcement {
    port: u16,
    authority: String,
}

/// A running endpoint process; it ends with this handle.
pub struct Endpoint {
    pub port: u16,
    pub authority: String,
    child: Child,
}

impl Endpoint {
    /// Starts this program again as an endpoint.
    pub async fn start() -> Self {
        let mut child = Command::new(std::env::current_exe().expect("this program's path"))
            .arg("endpoint")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("this program starts again");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).await.expect("its announcement");
        let Announcement { port, authority } = serde_json::from_str(&line).expect("an announcement");
        Self { port, authority, child }
    }

    pub fn url(&self, path: &str) -> String {
        format!("https://{HOST}:{}{path}", self.port)
    }

    pub fn pid(&self) -> u32 {
        self.child.id().expect("it runs")
    }
}

/// Serves until standard input closes, as it does when the parent ends.
pub async fn serve() {
    let authority = Authority::default();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("a bound port").port();
    let announcement = Announcement { port, authority: authority.pem.clone() };
    crate::report::line(&serde_json::to_string(&announcement).expect("JSON"));
    let acceptor = TlsAcceptor::from(authority.server(&[HOST]));
    let mut parent = tokio::io::stdin();
    let mut nothing = [0; 1];
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = parent.read(&mut nothing) => return,
        };
        let Ok((stream, _)) = stream else { continue };
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            stream.set_nodelay(true).expect("TCP_NODELAY");
            let Ok(stream) = acceptor.accept(stream).await else { return };
            // An error here is a client that left.
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(answer)).await;
        });
    }
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    if request.uri().path() == HANG {
        std::future::pending::<()>().await;
    }
    let _ = request.into_body().collect().await;
    let mut response = Response::new(Full::new(Bytes::from_static(VERDICT.as_bytes())));
    response.headers_mut().insert("content-type", hyper::header::HeaderValue::from_static("application/json"));
    Ok(response)
}
