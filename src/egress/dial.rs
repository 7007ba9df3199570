//! The judged addresses of an endpoint are dialled, and the first that lets us in is used.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::fault::{self, Blame, Fault};
use super::{CallError, Phase};
use crate::domain::ErrorCode;

/// How long one of several addresses may take before the next is tried beside it.
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);
/// The most addresses that are tried: a name with hundreds must not make us knock at them all.
const MAX_ATTEMPTS: usize = 8;

/// Happy eyeballs (RFC 8305): the next address is tried as soon as one fails, or beside one
/// that takes its time. The first to connect wins, and the others are given up.
pub async fn dial(addresses: &[SocketAddr]) -> Result<(TcpStream, SocketAddr), CallError> {
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
                Some(Err(error)) => {
                    let why = format!("this worker could not connect: {error}");
                    return Err(CallError::Ours { code: ErrorCode::NoSockets, why });
                }
                None => return Err(failures.blame()),
            },
            () = tokio::time::sleep(ATTEMPT_DELAY), if untried.len() > 0 => {}
        }
    }
}

/// Why no address let us in, the last reason of each kind.
#[derive(Default)]
pub struct Failures {
    endpoint: Option<Fault>,
    /// No route, or no IPv6, to one address: says nothing of an endpoint that failed at another.
    route: Option<Fault>,
}

impl Failures {
    /// Fails at once where this machine lacks what every attempt needs.
    pub fn add(&mut self, address: SocketAddr, error: &std::io::Error) -> Result<(), CallError> {
        let fault = fault::io(error, Phase::Connect);
        // Over IPv6 this means that the machine has no IPv6 address; over IPv4, that no port is left.
        let has_no_ipv6 = error.kind() == std::io::ErrorKind::AddrNotAvailable && address.is_ipv6();
        match fault.blame {
            Blame::Endpoint => self.endpoint = Some(fault),
            Blame::Machine if !has_no_ipv6 => return Err(fault.at(Phase::Connect)),
            Blame::Machine => self.route = Some(Fault { code: ErrorCode::NoRoute, ..fault }),
            Blame::Route => self.route = Some(fault),
        }
        Ok(())
    }

    /// What the endpoint did at one address is told before what we lack for another.
    pub fn blame(self) -> CallError {
        let nowhere =
            || CallError::Network { phase: Phase::Connect, code: ErrorCode::DnsNoAddress, why: "the name has no address".to_owned() };
        self.endpoint.or(self.route).map_or_else(nowhere, |fault| fault.at(Phase::Connect))
    }
}

/// IPv4 and IPv6 in turns, so that a family without a route costs one attempt. IPv4 first:
/// every public endpoint has it, and not every worker's network has the other.
fn in_turns(addresses: &[SocketAddr]) -> Vec<SocketAddr> {
    let (v4, v6): (Vec<SocketAddr>, Vec<SocketAddr>) = addresses.iter().partition(|address| address.is_ipv4());
    let longest = v4.len().max(v6.len());
    (0..longest).flat_map(|n| [v4.get(n), v6.get(n)]).flatten().copied().collect()
}
