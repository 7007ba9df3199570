//! Whose certificates are trusted, and which TLS is spoken.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::config::ConfigError;

/// Public roots, compiled in, so that an image with a private root changes nothing; and the
/// operator's extra ones.
pub fn tls_config(extra_ca_file: Option<&Path>) -> Result<Arc<rustls::ClientConfig>, ConfigError> {
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
