//! Names to addresses: fixed answers first, else every A and AAAA record from DNS.
//!
//! No hosts file and no search list: what a name means must not depend on this machine.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{NameServerConfig, ResolveHosts, ResolverConfig};
use hickory_resolver::net::{NetError, runtime::TokioRuntimeProvider};
use hickory_resolver::proto::rr::{Name, RData, RecordType};

use super::connection::is_ours;
use super::{CallError, Phase};
use crate::config;

pub struct Resolver {
    fixed: HashMap<String, Vec<IpAddr>>,
    dns: Result<TokioResolver, String>,
}

impl Resolver {
    pub fn new(config: &config::Egress) -> Self {
        let fixed =
            config.resolve.iter().map(|(name, addresses)| (name.trim_end_matches('.').to_ascii_lowercase(), addresses.clone())).collect();
        // Without resolvers the fixed answers still work, and asking another name tells why not.
        Self { fixed, dns: dns(config).map_err(|error| error.to_string()) }
    }

    pub async fn resolve(&self, name: &str) -> Result<Vec<IpAddr>, CallError> {
        let network = |why| CallError::Network { phase: Phase::Dns, why };
        if let Some(addresses) = self.fixed.get(name) {
            return Ok(addresses.clone());
        }
        let dns = self.dns.as_ref().map_err(|error| network(format!("no resolver: {error}; set egress.dns_servers")))?;
        let absolute = Name::from_ascii(format!("{name}.")).map_err(|_| network(format!("{name} is no name that DNS knows")))?;
        let (v4, v6) = tokio::join!(dns.lookup(absolute.clone(), RecordType::A), dns.lookup(absolute, RecordType::AAAA));
        let mut addresses = Vec::new();
        let mut failure = None;
        for answers in [v4, v6] {
            match answers {
                Ok(lookup) => addresses.extend(lookup.answers().iter().filter_map(|record| match &record.data {
                    RData::A(a) => Some(IpAddr::V4(a.0)),
                    RData::AAAA(aaaa) => Some(IpAddr::V6(aaaa.0)),
                    _ => None,
                })),
                Err(error) if error.is_no_records_found() => {}
                Err(error) => failure = Some(error),
            }
        }
        match (addresses.is_empty(), failure) {
            (false, _) => Ok(addresses),
            (true, Some(NetError::Io(error))) if is_ours(&error) => {
                Err(CallError::Ours(format!("this worker cannot ask its resolvers: {error}")))
            }
            (true, Some(error)) => Err(network(format!("{name} could not be resolved: {}", short(&error)))),
            (true, None) => Err(network(format!("{name} has no address; are its A or AAAA records public?"))),
        }
    }
}

fn dns(config: &config::Egress) -> Result<TokioResolver, NetError> {
    let mut builder = if config.dns_servers.is_empty() {
        TokioResolver::builder_tokio()?
    } else {
        let servers = config.dns_servers.iter().map(|server| {
            let mut name_server = NameServerConfig::udp_and_tcp(server.ip());
            for connection in &mut name_server.connections {
                connection.port = server.port();
            }
            name_server
        });
        let config = ResolverConfig::from_parts(None, Vec::new(), servers.collect());
        TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
    };
    let options = builder.options_mut();
    options.use_hosts_file = ResolveHosts::Never;
    options.timeout = Duration::from_millis(1500);
    options.attempts = 2;
    // A name that moved must be followed soon, whatever its TTL says.
    options.positive_max_ttl = Some(Duration::from_secs(60));
    options.negative_max_ttl = Some(Duration::from_secs(5));
    builder.build()
}

/// The kind of failure, without the addresses of our own resolvers.
fn short(error: &NetError) -> &'static str {
    match error {
        NetError::Timeout => "no resolver answered in time",
        NetError::Dns(_) => "the domain's name servers answered with a failure",
        _ => "the resolvers could not be asked",
    }
}
