//! How to reach a PostgreSQL server: a URL read into the driver's settings.
//!
//! The URL may be libpq's: several hosts, `target_session_attrs`, and `sslmode` with its
//! certificates, which the driver leaves to its callers.

use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio_postgres::config::{SslMode, TargetSessionAttrs};
use tokio_postgres_rustls::MakeRustlsConnect;
use x509_cert::der::Decode;

use crate::config::{ConfigError, Hidden};

/// How long one of several hosts may take to answer at all.
const CONNECTING: Duration = Duration::from_millis(1_000);
/// A connection without traffic is probed after so long, so that no firewall forgets it, and one
/// whose server vanished is found out while nobody waits for it.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(15);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_RETRIES: u32 = 3;
/// How long sent bytes may stay unacknowledged.
const UNACKNOWLEDGED: Duration = Duration::from_secs(10);

const ACCEPTED: &str = "postgres://user:password@host:port/database?sslmode=verify-full, several hosts as host1:port1,host2:port2";

/// What our statements rely on, whatever the settings of the login or the database say. Sent with
/// the start of a session, so that it costs nothing and stands above theirs.
const PINNED: [(&str, &str); 18] = [
    ("default_transaction_isolation", "read\\ committed"),
    ("default_transaction_read_only", "off"),
    ("default_transaction_deferrable", "off"),
    ("standard_conforming_strings", "on"),
    ("DateStyle", "ISO"),
    ("IntervalStyle", "postgres"),
    ("TimeZone", "UTC"),
    ("search_path", "pg_catalog"),
    // Where a history is long the planner expects work that nobody does, and would compile for seconds.
    ("jit", "off"),
    ("array_nulls", "on"),
    ("transform_null_equals", "off"),
    ("lc_monetary", "C"),
    ("lc_numeric", "C"),
    ("lc_time", "C"),
    ("statement_timeout", "0"),
    ("lock_timeout", "0"),
    ("idle_in_transaction_session_timeout", "0"),
    ("idle_session_timeout", "0"),
];

/// A server, or several of which one takes writes, and how to speak to it.
#[derive(Clone)]
pub(super) struct Settings {
    pub(super) config: tokio_postgres::Config,
    pub(super) tls: MakeRustlsConnect,
    pub(super) expiry: Expiry,
    /// Statements are prepared once a connection.
    pub(super) prepares: bool,
    /// The session is ours, so its settings may be set.
    pub(super) pins: bool,
}

/// When the certificate that the server showed last ends, in seconds since 1970; 0 where none was seen.
pub(super) type Expiry = Arc<AtomicI64>;

/// `sslmode` and its files, as libpq knows them.
#[derive(Default)]
struct Tls {
    mode: Option<String>,
    root: Option<String>,
    certificate: Option<String>,
    key: Option<String>,
}

impl Settings {
    /// Reads the URL of configuration key `key`.
    pub(super) fn read(key: &str, url: &Hidden, program: &str) -> Result<Self, ConfigError> {
        // Never the URL itself: it may hold a password.
        let fault = |given: &str| ConfigError { key: key.to_owned(), given: given.to_owned(), accepted: ACCEPTED.to_owned() };
        let (url, tls) = take_tls(url.reveal());
        let mut config = tokio_postgres::Config::from_str(&url).map_err(|error| {
            let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
            fault(&format!("not a PostgreSQL URL{cause}"))
        })?;
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            return Err(fault("a URL without a host"));
        }
        if config.get_application_name().is_none() {
            config.application_name(program);
        }
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(CONNECTING);
        }
        // Nothing here can work on a standby, and what it would tell a waiter may be long out of date.
        // An address may lead to one for a moment, too, while it moves.
        config.target_session_attrs(TargetSessionAttrs::ReadWrite);
        config.keepalives_idle(KEEPALIVE_IDLE).keepalives_interval(KEEPALIVE_INTERVAL).keepalives_retries(KEEPALIVE_RETRIES);
        config.tcp_user_timeout(UNACKNOWLEDGED);
        let expiry = Expiry::default();
        let tls = tls.apply(&mut config, Arc::clone(&expiry)).map_err(|why| fault(&why))?;
        Ok(Self { config, tls, expiry, prepares: true, pins: true })
    }
}

impl Settings {
    /// The driver's settings with what our statements rely on; those of the URL stand above them.
    pub(super) fn pinned(&self) -> tokio_postgres::Config {
        let mut config = self.config.clone();
        if self.pins {
            let mut options: String = PINNED.iter().map(|(name, setting)| format!("-c {name}={setting} ")).collect();
            options.push_str(config.get_options().unwrap_or_default());
            config.options(options.trim_end());
        }
        config
    }
}

/// The URL without what the driver does not know, and that by itself.
fn take_tls(url: &str) -> (String, Tls) {
    let mut tls = Tls::default();
    let Some((base, query)) = url.split_once('?') else { return (url.to_owned(), tls) };
    let mut rest = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = || url::form_urlencoded::parse(format!("v={value}").as_bytes()).next().map(|(_, value)| value.into_owned());
        match name {
            "sslmode" | "ssl-mode" => tls.mode = value(),
            "sslrootcert" | "ssl-root-cert" | "ssl-ca" => tls.root = value(),
            "sslcert" | "ssl-cert" => tls.certificate = value(),
            "sslkey" | "ssl-key" => tls.key = value(),
            _ => rest.push(pair),
        }
    }
    let url = if rest.is_empty() { base.to_owned() } else { format!("{base}?{}", rest.join("&")) };
    (url, tls)
}

impl Tls {
    fn apply(self, config: &mut tokio_postgres::Config, expiry: Expiry) -> Result<MakeRustlsConnect, String> {
        let mode = self.mode.as_deref().unwrap_or("prefer");
        config.ssl_mode(match mode {
            "disable" => SslMode::Disable,
            "allow" | "prefer" => SslMode::Prefer,
            "require" | "verify-ca" | "verify-full" => SslMode::Require,
            other => return Err(format!("sslmode is {other:?}; accepted are disable, prefer, require, verify-ca, verify-full")),
        });
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?;
        // As with libpq, a root certificate makes `require` check what it signed.
        let checks = match mode {
            "verify-full" => Checks::ChainAndName,
            "verify-ca" => Checks::Chain,
            "require" if self.root.is_some() => Checks::Chain,
            _ => Checks::Nothing,
        };
        let inner = match checks {
            Checks::Nothing => None,
            Checks::Chain | Checks::ChainAndName => {
                let roots = Arc::new(roots(self.root.as_deref())?);
                let verifier = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider)).build();
                Some(verifier.map_err(|error| format!("sslrootcert: {error}"))?)
            }
        };
        let verifier = Arc::new(Verifier { inner, checks, provider, expiry });
        let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
        let tls = match (self.certificate, self.key) {
            (Some(certificate), Some(key)) => builder
                .with_client_auth_cert(read_certificates("sslcert", &certificate)?, read_key(&key)?)
                .map_err(|error| format!("sslcert and sslkey: {error}"))?,
            (None, None) => builder.with_no_client_auth(),
            _ => return Err("sslcert and sslkey are only used together".to_owned()),
        };
        Ok(MakeRustlsConnect::new(tls))
    }
}

fn roots(file: Option<&str>) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    let certificates = match file.filter(|file| *file != "system") {
        Some(file) => read_certificates("sslrootcert", file)?,
        None => rustls_native_certs::load_native_certs().certs,
    };
    roots.add_parsable_certificates(certificates);
    if roots.is_empty() { Err("there is no root certificate to check the server's with; set sslrootcert".to_owned()) } else { Ok(roots) }
}

fn read_certificates(name: &str, file: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let read = CertificateDer::pem_file_iter(Path::new(file)).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    read.map_err(|error| format!("{name} {file}: {error}"))
}

fn read_key(file: &str) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_file(Path::new(file)).map_err(|error| format!("sslkey {file}: {error}"))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Checks {
    Nothing,
    Chain,
    ChainAndName,
}

/// libpq's three strengths of looking at a server's certificate.
#[derive(Debug)]
struct Verifier {
    inner: Option<Arc<WebPkiServerVerifier>>,
    checks: Checks,
    provider: Arc<rustls::crypto::CryptoProvider>,
    expiry: Expiry,
}

/// The last second of a certificate, since 1970.
fn last_second(certificate: &CertificateDer<'_>) -> Option<i64> {
    let read = x509_cert::Certificate::from_der(certificate).ok()?;
    i64::try_from(read.tbs_certificate.validity.not_after.to_unix_duration().as_secs()).ok()
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.expiry.store(last_second(certificate).unwrap_or_default(), Ordering::Relaxed);
        let Some(inner) = &self.inner else { return Ok(ServerCertVerified::assertion()) };
        match inner.verify_server_cert(certificate, intermediates, name, ocsp, now) {
            Err(rustls::Error::InvalidCertificate(CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. }))
                if self.checks == Checks::Chain =>
            {
                Ok(ServerCertVerified::assertion())
            }
            result => result,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(url: &str) -> Result<Settings, ConfigError> {
        Settings::read("database.url", &Hidden::from(url), "test")
    }

    #[test]
    fn a_url_of_libpq_is_understood() {
        let settings = read("postgres://u:p%40w@one:5433,two/d?sslmode=require&application_name=mine&target_session_attrs=any").unwrap();
        let config = &settings.config;
        assert_eq!((config.get_hosts().len(), config.get_ports()), (2, &[5433, 5432][..]));
        assert_eq!((config.get_password(), config.get_application_name()), (Some(&b"p@w"[..]), Some("mine")));
        assert_eq!((config.get_ssl_mode(), config.get_target_session_attrs()), (SslMode::Require, TargetSessionAttrs::ReadWrite));
        assert_eq!(read("postgres://u@h/d").unwrap().config.get_application_name(), Some("test"));
    }

    #[test]
    fn what_is_wrong_with_a_url_is_told_without_its_password() {
        for (url, word) in [
            ("postgres://u:hunter2@h/d?sslmode=maybe", "maybe"),
            ("postgres://u:hunter2@h/d?nonsense=1", "nonsense"),
            ("postgres://u:hunter2@h:port/d", "port"),
            ("postgres://u:hunter2@/d", "without a host"),
            ("postgres://u:hunter2@h/d?sslmode=verify-full&sslrootcert=absent.pem", "absent.pem"),
            ("postgres://u:hunter2@h/d?sslcert=a.pem", "sslkey"),
        ] {
            let text = read(url).err().unwrap().to_string();
            assert!(text.contains(word) && text.contains("accepted: postgres://") && !text.contains("hunter2"), "{url}: {text}");
        }
    }
}
