//! Which resolvers are asked: the configured ones, or this machine's.

use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts};
use hickory_resolver::net::{NetError, runtime::TokioRuntimeProvider};
use hickory_resolver::system_conf::read_system_conf;

use crate::config::{self, ConfigError};

/// How long a resolver has for one answer; then it is asked again.
pub const TIMEOUT: Duration = Duration::from_millis(1500);

/// The resolver that calls use, and the one for control questions, which has no cache.
pub fn resolvers(config: &config::Egress) -> Result<[TokioResolver; 2], ConfigError> {
    let (servers, options) =
        if config.dns_servers.is_empty() { usable(read_system_conf())? } else { (configured(config), ResolverOpts::default()) };
    let build = |options: ResolverOpts| {
        let mut builder = TokioResolver::builder_with_config(servers.clone(), TokioRuntimeProvider::default());
        *builder.options_mut() = options;
        builder.build().map_err(|error| unusable(&error.to_string()))
    };
    Ok([build(calls(options.clone()))?, build(control(options))?])
}

fn configured(config: &config::Egress) -> ResolverConfig {
    let servers = config.dns_servers.iter().map(|server| {
        let mut name_server = NameServerConfig::udp_and_tcp(server.ip());
        for connection in &mut name_server.connections {
            connection.port = server.port();
        }
        name_server
    });
    ResolverConfig::from_parts(None, Vec::new(), servers.collect())
}

/// The system's configuration, if it names any resolver. Its search list is left out.
fn usable(read: Result<(ResolverConfig, ResolverOpts), NetError>) -> Result<(ResolverConfig, ResolverOpts), ConfigError> {
    let (config, options) = read.map_err(|error| unusable(&error.to_string()))?;
    if config.name_servers().is_empty() {
        return Err(unusable("it names none"));
    }
    Ok((ResolverConfig::from_parts(None, Vec::new(), config.name_servers().to_vec()), options))
}

fn unusable(why: &str) -> ConfigError {
    ConfigError {
        key: "egress.dns_servers".to_owned(),
        given: format!("empty, and the system's configuration (/etc/resolv.conf) gives no resolver: {why}"),
        accepted: "a list of ip:port such as [\"9.9.9.9:53\"]".to_owned(),
    }
}

fn calls(mut options: ResolverOpts) -> ResolverOpts {
    options.use_hosts_file = ResolveHosts::Never;
    options.timeout = TIMEOUT;
    options.attempts = 2;
    // A name that moved must be followed soon, whatever its TTL says.
    options.positive_max_ttl = Some(Duration::from_secs(60));
    options.negative_max_ttl = Some(Duration::from_secs(5));
    options
}

fn control(options: ResolverOpts) -> ResolverOpts {
    let mut options = calls(options);
    options.cache_size = 0;
    options.attempts = 0;
    options
}

#[cfg(test)]
mod tests {
    use hickory_resolver::system_conf::parse_resolv_conf;

    use super::*;

    #[test]
    fn a_system_without_a_resolver_is_told_with_the_key_to_set() {
        let unreadable = std::io::Error::from(std::io::ErrorKind::NotFound);
        for read in [parse_resolv_conf("search corp.example\noptions ndots:2\n"), parse_resolv_conf(""), Err(unreadable.into())] {
            let error = usable(read).unwrap_err();
            assert_eq!(error.key, "egress.dns_servers");
            assert!(error.given.contains("/etc/resolv.conf") && error.accepted.contains("ip:port"), "{error}");
        }
    }

    #[test]
    fn of_the_systems_configuration_the_resolvers_are_taken_and_the_search_list_is_not() {
        let (config, _) = usable(parse_resolv_conf("search corp.example\nnameserver 192.0.2.53\nnameserver 2001:db8::53\n")).unwrap();
        assert_eq!(config.name_servers().len(), 2);
        assert!(config.search().is_empty() && config.domain().is_none());
    }
}
