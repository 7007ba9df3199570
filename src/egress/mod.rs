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
mod check;
mod connection;
mod dial;
mod error;
mod fault;
mod hosts;
mod idle;
mod idle_close;
mod nat64;
mod phase;
mod ports;
mod resolver;
mod roots;
mod url;

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use tokio::time::Instant;

use crate::config::{self, ConfigError};
use crate::domain::{Answer, ErrorCode};

pub use self::address::{Rules, forbidden};
pub use self::check::{Addresses, Checked};
use self::connection::Connection;
pub use self::connection::Request;
pub use self::error::CallError;
use self::idle::{Idle, Site};
pub use self::phase::{Phase, Phases, Step};
use self::resolver::Resolver;
pub use self::url::{Endpoint, Refusal};

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
    idle: Idle,
}

impl Egress {
    /// Reads the rules, the roots and the resolvers.
    pub fn new(config: &config::Egress) -> Result<Self, ConfigError> {
        Ok(Self {
            rules: Rules::new(config),
            resolver: Resolver::new(config),
            tls: roots::tls_config(config.extra_ca_file.as_deref())?,
            idle: Idle::new(Duration::from_millis(config.idle_connection_ms)),
        })
    }

    /// Whether names can be asked for at all. A worker that could not would blame the fleet for
    /// every call, so it does not start; tools that need no DNS go on without.
    pub fn check_resolvers(&self) -> Result<(), ConfigError> {
        self.resolver.check()
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
                let why = format!("the endpoint's host resolves to a forbidden address: {why}");
                return Err(CallError::Blocked { code: ErrorCode::AddressForbidden, why });
            }
        }
        let addresses = addresses.iter().map(|ip| SocketAddr::new(*ip, endpoint.port)).collect();
        Ok(Target { endpoint, addresses })
    }

    /// Judges a URL and every address it resolves to. Runs at every call: names move.
    pub async fn clear(&self, url: &str, deadline: Instant, phases: &mut Phases) -> Result<Target, CallError> {
        let blocked = |refusal: Refusal| CallError::Blocked { code: refusal.code(), why: refusal.to_string() };
        let endpoint = self.check_url(url).map_err(blocked)?;
        let addresses = match endpoint.literal() {
            Some(address) => vec![address],
            None => {
                phases.enter(Phase::Dns);
                let resolved = self.resolver.resolve(&endpoint.host_name, deadline).await;
                phases.end();
                resolved?
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
        let Endpoint { host_name, port, .. } = &target.endpoint;
        let site = Site { owner: owner.to_owned(), host: host_name.clone(), port: *port };
        loop {
            let taken = self.idle.take(&site, &target.addresses);
            let idle_for = taken.as_ref().map(|(_, _, idle_for)| *idle_for);
            let (mut connection, address) = match taken {
                Some((connection, address, _)) => (connection, address),
                // Boxed, so that a call that waits for its answer has no room for a handshake in it.
                None => Box::pin(connection::open(target, &self.tls, phases)).await?,
            };
            phases.enter(Phase::FirstByte);
            match connection.send(message).await {
                Ok(response) => return self.finish((site, address), connection, response, deadline, phases).await,
                Err((fault, unsent)) => {
                    let was_closing = matches!(fault.code, ErrorCode::ConnectionClosed | ErrorCode::ConnectionReset);
                    if let Some(after) = idle_for.filter(|_| was_closing) {
                        self.idle.met_closing(&site, after);
                    }
                    match unsent.filter(|_| idle_for.is_some()) {
                        // Only a request of which no byte was written comes back to be sent elsewhere.
                        Some(unsent) => message = unsent,
                        None => return Err(fault.at(Phase::FirstByte)),
                    }
                }
            }
        }
    }

    async fn finish(
        &self,
        (site, address): (Site, SocketAddr),
        connection: Connection,
        response: hyper::Response<hyper::body::Incoming>,
        deadline: Instant,
        phases: &mut Phases,
    ) -> Result<Answer, CallError> {
        phases.enter(Phase::Body);
        let read = connection::read(response, deadline, self.idle.longest()).await?;
        if let Some(keep_for) = read.keep_for {
            self.idle.keep(site, connection, address, keep_for);
        }
        Ok(read.answer)
    }

    /// Closes connections that were idle for too long; the worker calls it now and then.
    pub fn close_idle(&self) {
        self.idle.sweep();
    }
}

#[cfg(test)]
mod tests;
