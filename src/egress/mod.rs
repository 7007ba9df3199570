//! The only room that opens sockets to customers.
//!
//! Called by the worker's flow (`clear`, then `post`) and by `actionsctl`. A [`Target`] can
//! only be made here: it is a URL whose name and every resolved address passed the rules,
//! and only those addresses are dialled.
//!
//! Absent on purpose:
//! - redirects: a cleared address says nothing about the next one;
//! - retries: a second POST may run the customer's side effects twice;
//! - proxies from the environment, cookies, decompression, HTTP/2 (whose streams a server
//!   may refuse in a way that clients answer by sending again).

mod address;
mod connection;
mod hosts;
mod phase;
mod resolver;
mod url;

use std::collections::HashMap;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use tokio::time::Instant;

use crate::config::{self, ConfigError};
use crate::domain::Answer;

pub use self::address::{Rules, forbidden};
use self::connection::Connection;
pub use self::connection::Request;
pub use self::phase::{Phase, Phases};
use self::resolver::Resolver;
pub use self::url::{Endpoint, Refusal};

/// Why there is no answer, in words that a customer can act on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The URL or an address is forbidden; nothing was dialled.
    #[error("{0}")]
    Blocked(String),
    /// DNS, connect, TLS or the connection failed.
    #[error("{phase}: {why}")]
    Network {
        /// What was going on.
        phase: Phase,
        /// What went wrong.
        why: String,
    },
    /// This machine has no socket or no memory left: the fleet's fault, not the endpoint's.
    #[error("{0}")]
    Ours(String),
    /// The budget ended first.
    #[error("out of time in {phase}")]
    OutOfTime {
        /// What was going on.
        phase: Phase,
    },
}

/// A cleared URL: where it may be dialled, and nowhere else.
#[derive(Debug, Clone)]
pub struct Target {
    endpoint: Endpoint,
    addresses: Vec<SocketAddr>,
}

impl Target {
    /// How many addresses may be dialled.
    pub fn address_count(&self) -> usize {
        self.addresses.len()
    }
}

/// Makes calls to endpoints, and keeps their idle connections for a short while.
pub struct Egress {
    rules: Rules,
    resolver: Resolver,
    tls: Arc<rustls::ClientConfig>,
    idle_for: Duration,
    idle: Mutex<Idle>,
}

/// Idle connections with the moment since when they are idle.
type Idle = HashMap<Peer, Vec<(Instant, Connection)>>;

/// Who may use a connection again: the action for which it was opened, for the host whose
/// certificate was checked, at the address that was judged.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Peer {
    owner: String,
    host: String,
    address: SocketAddr,
}

/// Idle connections kept for one action at one address.
const MAX_IDLE: usize = 1024;

impl Egress {
    /// Reads the rules and the roots.
    pub fn new(config: &config::Egress) -> Result<Self, ConfigError> {
        Ok(Self {
            rules: Rules::new(config),
            resolver: Resolver::new(config),
            tls: connection::tls_config(config.extra_ca_file.as_deref())?,
            idle_for: Duration::from_millis(config.idle_connection_ms),
            idle: Mutex::default(),
        })
    }

    /// For a customer's own machine: as [`Egress::new`], but `localhost` and the loopback
    /// addresses may be called, and there also without TLS. No fleet uses it.
    pub fn local(config: &config::Egress) -> Result<Self, ConfigError> {
        let mut config = config.clone();
        let loopback: [IpNet; 2] =
            [Ipv4Net::new_assert(Ipv4Addr::LOCALHOST, 8).into(), Ipv6Net::new_assert(Ipv6Addr::LOCALHOST, 128).into()];
        config.allow_cidrs.extend(loopback);
        config.resolve.entry("localhost".to_owned()).or_insert_with(|| vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
        let mut egress = Self::new(&config)?;
        egress.rules.plain_on_loopback = true;
        Ok(egress)
    }

    /// Judges a URL by itself, without DNS.
    pub fn check_url(&self, url: &str) -> Result<Endpoint, Refusal> {
        Endpoint::parse(url, &self.rules)
    }

    /// Judges a URL with given DNS answers.
    pub fn check_answers(&self, endpoint: Endpoint, addresses: &[std::net::IpAddr]) -> Result<Target, CallError> {
        for address in addresses {
            if let Some(why) = self.rules.forbid(*address) {
                return Err(CallError::Blocked(format!("the endpoint's host resolves to a forbidden address: {why}")));
            }
        }
        let addresses = addresses.iter().map(|ip| SocketAddr::new(*ip, endpoint.port)).collect();
        Ok(Target { endpoint, addresses })
    }

    /// Judges a URL and every address it resolves to. Runs at every call: names move.
    pub async fn clear(&self, url: &str, deadline: Instant, phases: &mut Phases) -> Result<Target, CallError> {
        let endpoint = self.check_url(url).map_err(|refusal| CallError::Blocked(refusal.to_string()))?;
        let addresses = match endpoint.literal() {
            Some(address) => vec![address],
            None => {
                phases.enter(Phase::Dns);
                let resolving = self.resolver.resolve(&endpoint.host_name);
                let resolved = tokio::time::timeout_at(deadline, resolving).await;
                phases.end();
                resolved.unwrap_or(Err(CallError::OutOfTime { phase: Phase::Dns }))?
            }
        };
        self.check_answers(endpoint, &addresses)
    }

    /// Sends one POST and reads the answer, up to the cap, before `deadline`.
    ///
    /// `owner` names whose connections may be used again: an action never meets another's.
    pub async fn post(
        &self,
        owner: &str,
        target: &Target,
        request: Request<'_>,
        deadline: Instant,
        phases: &mut Phases,
    ) -> Result<Answer, CallError> {
        let exchange = self.exchange(owner, target, request, deadline, phases);
        let result = tokio::time::timeout_at(deadline, exchange).await;
        let phase = phases.current();
        phases.end();
        result.unwrap_or(Err(CallError::OutOfTime { phase }))
    }

    async fn exchange(
        &self,
        owner: &str,
        target: &Target,
        request: Request<'_>,
        deadline: Instant,
        phases: &mut Phases,
    ) -> Result<Answer, CallError> {
        let mut message = request.build(&target.endpoint)?;
        let peer = |address| Peer { owner: owner.to_owned(), host: target.endpoint.host_name.clone(), address };
        let take_idle = || target.addresses.iter().copied().map(peer).find_map(|peer| Some((self.take_idle(&peer)?, peer)));
        let (peer, connection, response) = loop {
            let idle = take_idle();
            let was_idle = idle.is_some();
            let (mut connection, peer) = match idle {
                Some(kept) => kept,
                None => {
                    // Boxed, so that a call that waits for its answer has no room for a handshake in it.
                    let (opened, address) = Box::pin(connection::open(target, &self.tls, phases)).await?;
                    (opened, peer(address))
                }
            };
            phases.enter(Phase::FirstByte);
            match connection.send(message).await {
                Ok(response) => break (peer, connection, response),
                // Only a request of which no byte was written comes back to be sent elsewhere.
                Err((_, Some(unsent))) if was_idle => message = unsent,
                Err((why, _)) => return Err(CallError::Network { phase: Phase::FirstByte, why }),
            }
        };
        self.finish(peer, connection, response, deadline, phases).await
    }

    async fn finish(
        &self,
        peer: Peer,
        connection: Connection,
        response: hyper::Response<hyper::body::Incoming>,
        deadline: Instant,
        phases: &mut Phases,
    ) -> Result<Answer, CallError> {
        phases.enter(Phase::Body);
        let (answer, reusable) = connection::read(response, deadline).await?;
        if reusable && connection.is_open() && !self.idle_for.is_zero() {
            self.keep_idle(peer, connection);
        }
        Ok(answer)
    }

    fn take_idle(&self, peer: &Peer) -> Option<Connection> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let connections = idle.get_mut(peer)?;
        let fresh = std::iter::from_fn(|| connections.pop())
            .find(|(since, connection)| since.elapsed() < self.idle_for && connection.is_open())
            .map(|(_, connection)| connection);
        if connections.is_empty() {
            idle.remove(peer);
        }
        fresh
    }

    fn keep_idle(&self, peer: Peer, connection: Connection) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let connections = idle.entry(peer).or_default();
        if connections.len() < MAX_IDLE {
            connections.push((Instant::now(), connection));
        }
    }

    /// Closes connections that were idle for too long; the worker calls it now and then.
    pub fn close_idle(&self) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|_, connections| {
            connections.retain(|(since, connection)| since.elapsed() < self.idle_for && connection.is_open());
            !connections.is_empty()
        });
    }
}

#[cfg(test)]
mod tests;
