//! Which URLs may be called: one parse, judged on the parsed host.

use std::net::IpAddr;

use url::{Host, Url};

use super::Rules;
use crate::domain::ErrorCode;

/// Names that mean the machine itself wherever they are asked (RFC 6761, and the usual hosts files).
const MACHINE_SUFFIXES: [&str; 4] = ["localhost", "localdomain", "localdomain4", "localdomain6"];

/// Why a URL is refused before any name is resolved.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It is no https URL without user-info: `create_action` would not take it.
    #[error("the endpoint URL is invalid: {0}")]
    Invalid(String),
    /// Its host or port is forbidden.
    #[error("the endpoint URL is forbidden: {1}")]
    Forbidden(ErrorCode, String),
}

impl Refusal {
    /// The reason as a word.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Invalid(_) => ErrorCode::UrlInvalid,
            Self::Forbidden(code, _) => *code,
        }
    }
}

/// A parsed and permitted URL, its addresses not yet judged.
#[derive(Debug, Clone)]
pub struct Endpoint {
    pub(super) url: Url,
    pub(super) host: Host<String>,
    /// The host without a trailing dot, as certificates and DNS know it.
    pub(super) host_name: String,
    pub(super) port: u16,
}

impl Endpoint {
    pub(super) fn parse(text: &str, rules: &Rules) -> Result<Self, Refusal> {
        let invalid = |why: &str| Refusal::Invalid(why.to_owned());
        if text.chars().count() > 2048 {
            return Err(invalid("it has more than 2048 characters"));
        }
        // The parser would silently leave these out, and read another URL than people do.
        if text.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err(invalid("it has white space or control characters"));
        }
        let url = Url::parse(text).map_err(|error| Refusal::Invalid(error.to_string()))?;
        if url.scheme() != "https" && !(rules.plain_on_loopback && url.scheme() == "http" && is_loopback(&url)) {
            return Err(invalid("its scheme is not https"));
        }
        // The parser would mend `https:a.com` and `https:\\a.com`; people would read another URL.
        let Some(rest) = text.get(url.scheme().len()..).and_then(|rest| rest.strip_prefix("://")) else {
            return Err(invalid("it does not start with https://"));
        };
        let authority = rest.split(['/', '?', '#', '\\']).next().unwrap_or_default();
        if authority.is_empty() {
            return Err(invalid("it has no host"));
        }
        if authority.contains('@') || !url.username().is_empty() || url.password().is_some() {
            return Err(invalid("it has user-info before its host"));
        }
        let Some(host) = url.host().map(|host| host.to_owned()) else {
            return Err(invalid("it has no host"));
        };
        let host_name = match &host {
            Host::Ipv4(address) => address.to_string(),
            Host::Ipv6(address) => address.to_string(),
            Host::Domain(name) => {
                let name = name.strip_suffix('.').unwrap_or(name);
                if name.split('.').any(str::is_empty) {
                    return Err(invalid("its host has an empty label"));
                }
                if name.len() > 253 || name.split('.').any(|label| label.len() > 63) {
                    return Err(invalid("its host is longer than DNS allows"));
                }
                name.to_owned()
            }
        };
        let port = url.port_or_known_default().unwrap_or(443);
        let endpoint = Self { url, host, host_name, port };
        endpoint.permitted(rules)?;
        // The parser ends the host there; others would read on, to an @ perhaps.
        if rest[authority.len()..].starts_with('\\') {
            return Err(invalid("it has a backslash before its path"));
        }
        Ok(endpoint)
    }

    /// Whether host and port may be called, as far as the URL alone tells.
    fn permitted(&self, rules: &Rules) -> Result<(), Refusal> {
        if let Some(why) = self.literal().and_then(|address| rules.forbid(address)) {
            return Err(Refusal::Forbidden(ErrorCode::AddressForbidden, format!("its address is {why}")));
        }
        let forbidden = |why: &str| Err(Refusal::Forbidden(ErrorCode::UrlForbidden, why.to_owned()));
        let is_or_under = |suffix: &str| self.host_name.strip_suffix(suffix).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
        if rules.blocked_suffixes.iter().any(|suffix| is_or_under(suffix)) {
            return forbidden("its host belongs to the operator");
        }
        if let (Host::Domain(_), false) = (&self.host, rules.fixed_names.contains(&self.host_name)) {
            if MACHINE_SUFFIXES.iter().any(|suffix| is_or_under(suffix)) || rules.hosts_names.contains(&self.host_name) {
                return forbidden("its host is a name of the machine that calls");
            }
            // No public name is a single label; what hosts files and search lists mean by one is inside.
            if !self.host_name.contains('.') {
                return forbidden("its host has no domain");
            }
        }
        match rules.forbid_port(self.port) {
            Some(why) => Err(Refusal::Forbidden(ErrorCode::PortForbidden, why)),
            None => Ok(()),
        }
    }

    /// Whether it is called without TLS: only on this machine, and only by `actionsctl try`.
    pub(super) fn is_plain(&self) -> bool {
        self.url.scheme() == "http"
    }

    /// The address, where the host is one.
    pub(super) fn literal(&self) -> Option<IpAddr> {
        match self.host {
            Host::Ipv4(address) => Some(address.into()),
            Host::Ipv6(address) => Some(address.into()),
            Host::Domain(_) => None,
        }
    }
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn judge(url: &str) -> Result<Endpoint, Refusal> {
        let config = Config::load(None, std::iter::empty()).unwrap();
        Endpoint::parse(url, &Rules::new(&config.egress))
    }

    #[test]
    fn ports_of_other_protocols_are_forbidden_and_with_a_list_all_that_it_lacks() {
        for port in [0, 22, 25, 53, 6000, 6667, 10080] {
            let judged = judge(&format!("https://a.example:{port}/"));
            assert_eq!(judged.unwrap_err().code(), ErrorCode::PortForbidden, "{port}");
        }
        let variables = [("ACTIONS_EGRESS__PORTS".to_owned(), "[443, 25]".to_owned())];
        let config = Config::load(None, variables.into_iter()).unwrap();
        let listed = |url: &str| Endpoint::parse(url, &Rules::new(&config.egress)).is_ok();
        assert!(listed("https://a.example/") && listed("https://a.example:25/") && !listed("https://a.example:8443/"));
    }

    #[test]
    fn ordinary_endpoints_are_permitted() {
        for url in [
            "https://hooks.acme.com/authio?x=1#f",
            "HTTPS://Hooks.Acme.com.:8443",
            "https://notauthio.com/",
            "https://authio.com.evil.net/",
            "https://8.8.8.8/",
            "https://bücher.example/",
        ] {
            judge(url).unwrap_or_else(|refusal| panic!("{url}: {refusal}"));
        }
    }

    #[test]
    fn what_is_no_https_url_without_user_info_is_invalid() {
        for url in [
            "",
            "hooks.acme.com",
            "http://hooks.acme.com/",
            "ftp://a.b/",
            "https://",
            "https:///",
            "https://user@a.com/",
            "https://user:pw@a.com/",
            "https://@a.com/",
            "https://a..com/",
            "https://.a.com/",
            "https://a.com../",
            " https://a.com/",
            "https://a.c\tom/",
            "https://a.com/\n",
            "https://a.com:99999/",
            "https://[::1/",
            "file:///etc/passwd",
            "https:a.com",
            "https:/a.com",
            "https:\\\\a.com",
            "https:///a.com",
            "https:@a.com/",
            "https:///@a.com/",
            "https://a.com\\/",
            "https://a.com\\@b.com/",
        ] {
            assert!(matches!(judge(url), Err(Refusal::Invalid(_))), "{url}: {:?}", judge(url));
        }
    }

    #[test]
    fn inner_hosts_are_forbidden_however_they_are_written() {
        for url in [
            "https://127.0.0.1/",
            "https://127.1/",
            "https://2130706433/",
            "https://0x7f.0.0.1/",
            "https://0177.0.0.1/",
            "https://127.0.0.1./",
            "https://127.0.0.1\\@a.com/",
            "https://[::1]/",
            "https://[::ffff:127.0.0.1]/",
            "https://[::ffff:7f00:1]/",
            "https://①②⑦.0.0.1/",
            "https://169.254.169.254/latest",
            "https://localhost/",
            "https://LOCALHOST./",
            "https://a.localhost/",
            "https://authio.com/",
            "https://api.Authio.COM./",
            "https://x.authio.dev:8443/",
            "https://ａｕｔｈｉｏ.com/",
            "https://0/",
            "https://10.1/",
            "https://localhost.localdomain/",
            "https://ip6-localhost/",
            "https://intranet/",
            "https://intranet./",
        ] {
            assert!(matches!(judge(url), Err(Refusal::Forbidden(..))), "{url}: {:?}", judge(url));
        }
    }
}
