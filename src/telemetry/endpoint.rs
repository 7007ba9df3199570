//! Where a program answers `/metrics`, `/healthz` and `/readyz`; port 0 is off.

use std::convert::Infallible;
use std::sync::Arc;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ACCEPT, CONTENT_TYPE};
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
    let (late, turns) = metrics.liveness.tell();
    let accepts = request.headers().get(ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    let (status, content_type, body) = match request.uri().path() {
        "/metrics" if accepts.contains("application/openmetrics-text") => {
            (200, "application/openmetrics-text; version=1.0.0; charset=utf-8", metrics.encode_openmetrics())
        }
        "/metrics" => (200, "text/plain; version=0.0.4; charset=utf-8", metrics.encode()),
        // A loop that stands still while the process looks alive is worse than one that ended.
        "/healthz" => (if late { 503 } else { 200 }, "text/plain", turns),
        "/readyz" if ready => (200, "text/plain", "ok\n".to_owned()),
        "/readyz" => (503, "text/plain", "the database does not answer\n".to_owned()),
        _ => (404, "text/plain", "there are /metrics, /healthz and /readyz\n".to_owned()),
    };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = hyper::StatusCode::from_u16(status).unwrap_or_default();
    response.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(content_type));
    response
}
