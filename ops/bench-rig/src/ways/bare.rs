//! (a) The bare HTTPS call: kept connections, no queue, no database, no signature, no verdict.

use std::sync::{Arc, Mutex};

use authio_actions_testkit::endpoint::HOST;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::EVENT;
use crate::endpoint::Endpoint;
use crate::load::Way;

pub struct Bare {
    port: u16,
    tls: TlsConnector,
    idle: Mutex<Vec<SendRequest<Full<Bytes>>>>,
}

impl Bare {
    pub fn new(endpoint: &Endpoint) -> Self {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(endpoint.authority.as_bytes()).expect("a certificate")).expect("a root");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("TLS 1.2 and 1.3")
            .with_root_certificates(roots)
            .with_no_client_auth();
        Self { port: endpoint.port, tls: TlsConnector::from(Arc::new(config)), idle: Mutex::default() }
    }

    async fn connection(&self) -> Result<SendRequest<Full<Bytes>>, String> {
        let kept = self.idle.lock().expect("not poisoned").pop();
        if let Some(kept) = kept.filter(|kept| !kept.is_closed()) {
            return Ok(kept);
        }
        let stream = TcpStream::connect(("127.0.0.1", self.port)).await.map_err(|error| error.to_string())?;
        stream.set_nodelay(true).map_err(|error| error.to_string())?;
        let name = ServerName::try_from(HOST).expect("a name");
        let stream = self.tls.connect(name, stream).await.map_err(|error| error.to_string())?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
        tokio::spawn(connection);
        Ok(sender)
    }

    pub async fn post(&self, body: &str) -> Result<Bytes, String> {
        let mut connection = self.connection().await?;
        let request = hyper::Request::post("/")
            .header("host", HOST)
            .header("content-type", "application/json")
            .body(Full::new(Bytes::copy_from_slice(body.as_bytes())))
            .expect("a request");
        connection.ready().await.map_err(|error| error.to_string())?;
        let response = connection.send_request(request).await.map_err(|error| error.to_string())?;
        let body = response.into_body().collect().await.map_err(|error| error.to_string())?.to_bytes();
        self.idle.lock().expect("not poisoned").push(connection);
        Ok(body)
    }
}

impl Way for Bare {
    async fn call(&self) -> Result<(), String> {
        let body = self.post(EVENT).await?;
        if body.is_empty() { Err("an empty answer".to_owned()) } else { Ok(()) }
    }
}
