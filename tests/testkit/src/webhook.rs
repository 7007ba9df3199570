//! Something on loopback that takes what is posted: a chat's incoming webhook, or a collector of spans.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// One that runs until it is dropped with its runtime.
pub struct Webhook {
    /// Its base.
    pub url: String,
    heard: UnboundedReceiver<(String, Bytes)>,
}

impl Webhook {
    /// Starts one that answers with these statuses, and then with 200.
    pub async fn start(statuses: &[u16]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("its address"));
        let statuses = Arc::new(Mutex::new(statuses.iter().copied().collect::<VecDeque<u16>>()));
        let (sender, heard) = unbounded_channel();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (statuses, sender) = (Arc::clone(&statuses), sender.clone());
                tokio::spawn(async move {
                    let service = service_fn(|request| async { Ok::<_, Infallible>(answer(request, &statuses, &sender).await) });
                    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Self { url, heard }
    }

    /// The next path and JSON that it hears.
    pub async fn next(&mut self) -> (String, Value) {
        let (path, body) = self.next_bytes().await;
        (path, serde_json::from_slice(&body).unwrap_or_default())
    }

    /// The next path and body that it hears.
    pub async fn next_bytes(&mut self) -> (String, Bytes) {
        let next = tokio::time::timeout(std::time::Duration::from_secs(30), self.heard.recv()).await;
        next.expect("it is told in time").expect("the server lives")
    }
}

async fn answer(
    request: Request<Incoming>,
    statuses: &Mutex<VecDeque<u16>>,
    sender: &UnboundedSender<(String, Bytes)>,
) -> Response<Empty<Bytes>> {
    let path = request.uri().path().to_owned();
    let body = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let _ = sender.send((path, body));
    let status = statuses.lock().expect("no panic").pop_front().unwrap_or(200);
    Response::builder().status(status).body(Empty::new()).expect("a response")
}
