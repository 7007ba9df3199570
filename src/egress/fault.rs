//! What a failed connection tells: a word, a sentence with what to do, and whose fault it is.

use std::io::ErrorKind;

use rustls::{AlertDescription, CertificateError};
use time::OffsetDateTime;

use super::{CallError, Phase};
use crate::domain::ErrorCode;

/// Whose fault a failure is, and whether another address could fare better.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blame {
    /// The endpoint's.
    Endpoint,
    /// Ours: this machine's network does not reach the address; it may reach another.
    Route,
    /// Ours: this machine lacks what every connection needs.
    Machine,
}

/// A failure without the phase in which it happened.
#[derive(Debug)]
pub struct Fault {
    pub blame: Blame,
    pub code: ErrorCode,
    pub why: String,
}

impl Fault {
    fn of_endpoint(code: ErrorCode, why: impl Into<String>) -> Self {
        Self { blame: Blame::Endpoint, code, why: why.into() }
    }

    /// The failure of a call that was in this phase.
    pub fn at(self, phase: Phase) -> CallError {
        let Self { blame, code, why } = self;
        match blame {
            Blame::Endpoint => CallError::Network { phase, code, why },
            Blame::Route | Blame::Machine => CallError::Ours { code, why },
        }
    }
}

/// Linux's numbers of the errors that have no `ErrorKind` of their own.
mod errno {
    pub const ENFILE: i32 = 23;
    pub const EMFILE: i32 = 24;
    pub const ENONET: i32 = 64;
    pub const EPROTONOSUPPORT: i32 = 93;
    pub const EAFNOSUPPORT: i32 = 97;
    pub const ENOBUFS: i32 = 105;
    pub const EHOSTDOWN: i32 = 112;
}

/// Whose fault an error of the operating system is. EPERM and EACCES come from a firewall of this machine.
pub fn blame(error: &std::io::Error) -> Blame {
    let Some(number) = error.raw_os_error() else { return Blame::Endpoint };
    match error.kind() {
        ErrorKind::OutOfMemory | ErrorKind::AddrNotAvailable => Blame::Machine,
        ErrorKind::NetworkUnreachable | ErrorKind::HostUnreachable | ErrorKind::NetworkDown | ErrorKind::PermissionDenied => Blame::Route,
        _ => match number {
            errno::EMFILE | errno::ENFILE | errno::ENOBUFS => Blame::Machine,
            errno::EAFNOSUPPORT | errno::EPROTONOSUPPORT | errno::EHOSTDOWN | errno::ENONET => Blame::Route,
            _ => Blame::Endpoint,
        },
    }
}

/// An error of the operating system, or of TLS, which comes wrapped in one.
pub fn io(error: &std::io::Error, phase: Phase) -> Fault {
    if let Some(error) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        return tls(error);
    }
    match blame(error) {
        Blame::Machine => {
            let why = format!("this worker cannot open a socket: {error}");
            return Fault { blame: Blame::Machine, code: ErrorCode::NoSockets, why };
        }
        Blame::Route => {
            let why = format!("this worker's network does not reach the endpoint's address: {error}");
            return Fault { blame: Blame::Route, code: ErrorCode::NoRoute, why };
        }
        Blame::Endpoint => {}
    }
    let connecting = phase == Phase::Connect;
    match error.kind() {
        ErrorKind::ConnectionRefused => {
            Fault::of_endpoint(ErrorCode::ConnectRefused, "the endpoint refused the connection; does it listen on this port?")
        }
        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::ConnectionAborted => {
            let code = if connecting { ErrorCode::ConnectReset } else { ErrorCode::ConnectionReset };
            Fault::of_endpoint(code, "the endpoint reset the connection")
        }
        ErrorKind::UnexpectedEof if phase == Phase::Body => body_broken(),
        ErrorKind::UnexpectedEof if phase == Phase::Tls => {
            let why = "the endpoint closed the connection during the TLS handshake; TLS 1.2 or later is needed";
            Fault::of_endpoint(ErrorCode::ConnectionClosed, why)
        }
        ErrorKind::UnexpectedEof => Fault::of_endpoint(ErrorCode::ConnectionClosed, "the endpoint closed the connection in the middle"),
        ErrorKind::TimedOut if connecting => Fault::of_endpoint(ErrorCode::ConnectTimeout, "the endpoint did not answer in time"),
        _ if connecting => Fault::of_endpoint(ErrorCode::ConnectFailed, error.to_string()),
        _ if phase == Phase::Body => Fault::of_endpoint(ErrorCode::BodyBroken, format!("the response's body cannot be read: {error}")),
        _ => Fault::of_endpoint(ErrorCode::ConnectionFailed, error.to_string()),
    }
}

/// An error of the HTTP connection.
pub fn http(error: &hyper::Error, phase: Phase, limits: &str) -> Fault {
    let cause = std::error::Error::source(error).and_then(|source| source.downcast_ref::<std::io::Error>());
    match cause {
        _ if error.is_incomplete_message() && phase == Phase::Body => body_broken(),
        _ if error.is_incomplete_message() || error.is_canceled() || error.is_closed() => {
            Fault::of_endpoint(ErrorCode::ConnectionClosed, "the endpoint closed the connection before it answered")
        }
        Some(cause) => io(cause, phase),
        None if error.is_parse_too_large() => Fault::of_endpoint(ErrorCode::HeadersTooLarge, format!("the response has {limits}")),
        None if error.is_parse() => Fault::of_endpoint(ErrorCode::NoHttp, "the endpoint's answer is no HTTP/1.1"),
        None if phase == Phase::Body => Fault::of_endpoint(ErrorCode::BodyBroken, error.to_string()),
        None => Fault::of_endpoint(ErrorCode::ConnectionFailed, error.to_string()),
    }
}

fn body_broken() -> Fault {
    Fault::of_endpoint(ErrorCode::BodyBroken, "the response ended before its body was complete")
}

fn tls(error: &rustls::Error) -> Fault {
    use AlertDescription as Alert;
    const NOTHING_IN_COMMON: &str = "the TLS handshake failed: no TLS version or cipher suite in common, or the server knows no such host; \
        TLS 1.2 or later is needed";
    let (code, why) = match error {
        rustls::Error::InvalidCertificate(error) => return certificate(error),
        rustls::Error::NoCertificatesPresented => (ErrorCode::TlsBadCertificate, "the endpoint sent no certificate".to_owned()),
        rustls::Error::PeerIncompatible(_) => (ErrorCode::TlsHandshake, NOTHING_IN_COMMON.to_owned()),
        rustls::Error::NoApplicationProtocol | rustls::Error::AlertReceived(Alert::NoApplicationProtocol) => {
            (ErrorCode::TlsHandshake, "the TLS handshake failed: the server does not offer HTTP/1.1 (ALPN http/1.1)".to_owned())
        }
        rustls::Error::AlertReceived(Alert::UnrecognisedName) => {
            (ErrorCode::TlsHandshake, "the TLS handshake failed: the server knows no host of this name (SNI)".to_owned())
        }
        rustls::Error::AlertReceived(Alert::HandshakeFailure | Alert::ProtocolVersion | Alert::InsufficientSecurity) => {
            (ErrorCode::TlsHandshake, NOTHING_IN_COMMON.to_owned())
        }
        rustls::Error::AlertReceived(Alert::CertificateRequired | Alert::BadCertificate | Alert::NoCertificate) => {
            (ErrorCode::TlsClientCertificate, "the endpoint asks for a client certificate, which we do not have".to_owned())
        }
        rustls::Error::InvalidMessage(_) => {
            (ErrorCode::TlsNotTls, "the port answers, but not with TLS; is it the port of HTTPS?".to_owned())
        }
        other => (ErrorCode::TlsFailed, format!("TLS failed: {other}")),
    };
    Fault::of_endpoint(code, why)
}

fn certificate(error: &CertificateError) -> Fault {
    let day = |time: &rustls::pki_types::UnixTime| {
        let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
        OffsetDateTime::from_unix_timestamp(seconds).map_or_else(|_| "a day far away".to_owned(), |at| at.date().to_string())
    };
    let (code, why) = match error {
        CertificateError::Expired => (ErrorCode::TlsExpired, "the endpoint's certificate has expired; renew it".to_owned()),
        CertificateError::ExpiredContext { not_after, .. } => {
            (ErrorCode::TlsExpired, format!("the endpoint's certificate expired on {}; renew it", day(not_after)))
        }
        CertificateError::NotValidYet => (ErrorCode::TlsNotYetValid, "the endpoint's certificate is not valid yet".to_owned()),
        CertificateError::NotValidYetContext { not_before, .. } => {
            (ErrorCode::TlsNotYetValid, format!("the endpoint's certificate is not valid before {}", day(not_before)))
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            (ErrorCode::TlsWrongName, format!("the endpoint's certificate does not name the URL's host{}", names(error)))
        }
        CertificateError::UnknownIssuer => {
            let why = "the endpoint's certificate chain is incomplete, or not of a public authority; \
                send the intermediate certificates with it";
            (ErrorCode::TlsUnknownIssuer, why.to_owned())
        }
        other => (ErrorCode::TlsBadCertificate, format!("the endpoint's certificate is refused: {other}")),
    };
    Fault::of_endpoint(code, why)
}

/// Which names a certificate has, the first few.
fn names(error: &CertificateError) -> String {
    const MOST: usize = 3;
    let CertificateError::NotValidForNameContext { presented, .. } = error else { return String::new() };
    let plain = |name: &String| name.trim_start_matches("DnsName(\"").trim_end_matches("\")").chars().take(100).collect::<String>();
    let shown: Vec<String> = presented.iter().take(MOST).map(plain).collect();
    if shown.is_empty() {
        return String::new();
    }
    format!("; it names {}{}", shown.join(", "), if presented.len() > MOST { ", …" } else { "" })
}
