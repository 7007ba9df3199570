//! The console's section: who comes in, and by which way.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Deserialize;

use super::{ConfigError, Hidden};

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Console {
    pub listen: SocketAddr,
    pub public_url: Option<String>,
    pub login: Option<ConsoleLogin>,
    pub frame_ancestors: Vec<String>,
    pub oidc: Oidc,
}

/// Where people sign in with an account of theirs. All of the first three, or none.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Oidc {
    pub issuer: Option<String>,
    pub client_id: Option<String>,
    pub client_secret: Option<Hidden>,
    pub client_secret_file: Option<PathBuf>,
    pub operators_group: Option<String>,
}

impl Oidc {
    /// Issuer, client id and client secret; `None` where nobody signs in this way.
    pub fn client(&self) -> Result<Option<(&str, &str, Hidden)>, ConfigError> {
        let secret = match (&self.client_secret, &self.client_secret_file) {
            (None, None) => None,
            (Some(secret), None) => Some(secret.clone()),
            (None, Some(path)) => {
                let text = std::fs::read_to_string(path).map_err(|error| {
                    ConfigError::new(
                        "console.oidc.client_secret_file",
                        format!("{}: {error}", path.display()),
                        "the path of a readable file",
                    )
                })?;
                Some(Hidden(text.trim().to_owned()))
            }
            (Some(_), Some(_)) => {
                return Err(ConfigError::new(
                    "console.oidc.client_secret",
                    "given together with console.oidc.client_secret_file",
                    "one of the two",
                ));
            }
        };
        match (&self.issuer, &self.client_id, secret) {
            (None, None, None) => Ok(None),
            (None, _, _) => Err(ConfigError::missing("console.oidc.issuer", "https://login.example.com")),
            (_, None, _) => Err(ConfigError::missing("console.oidc.client_id", "what the issuer calls the console")),
            (_, _, None) => Err(ConfigError::missing("console.oidc.client_secret", "what the issuer gave the console")),
            (Some(issuer), Some(id), Some(secret)) => {
                let is_loopback = |url: &url::Url| match url.host() {
                    Some(url::Host::Domain(name)) => name == "localhost",
                    Some(url::Host::Ipv4(address)) => address.is_loopback(),
                    Some(url::Host::Ipv6(address)) => address.is_loopback(),
                    None => false,
                };
                let is_safe =
                    url::Url::parse(issuer).is_ok_and(|url| url.scheme() == "https" || url.scheme() == "http" && is_loopback(&url));
                if !is_safe {
                    let accepted = "an https:// URL, or http:// on loopback";
                    return Err(ConfigError::new("console.oidc.issuer", format!("{issuer:?}"), accepted));
                }
                Ok(Some((issuer, id, secret)))
            }
        }
    }
}

/// How people come in beside portal links.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ConsoleLogin {
    /// By a link that the console prints when it starts.
    Local,
}

impl Console {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        if self.login == Some(ConsoleLogin::Local) && !self.listen.ip().is_loopback() {
            let accepted = "console.listen on a loopback address, such as 127.0.0.1:8600; else leave console.login out";
            return Err(ConfigError::new("console.login", format!("\"local\" where console.listen is {}", self.listen), accepted));
        }
        if let Some(text) = &self.public_url {
            let is_origin = url::Url::parse(text).is_ok_and(|url| {
                ["http", "https"].contains(&url.scheme()) && url.path() == "/" && url.query().is_none() && url.fragment().is_none()
            });
            if !is_origin || text.contains(char::is_whitespace) {
                let accepted = "an http:// or https:// URL without a path, such as https://actions.authio.example";
                return Err(ConfigError::new("console.public_url", format!("{text:?}"), accepted));
            }
        }
        self.oidc.client()?;
        for origin in &self.frame_ancestors {
            // It becomes part of a header's directive.
            let is_source = url::Url::parse(origin).is_ok_and(|url| url.origin().ascii_serialization() == *origin);
            if !is_source {
                let accepted = "origins such as \"https://dashboard.authio.example\"";
                return Err(ConfigError::new("console.frame_ancestors", format!("{origin:?}"), accepted));
            }
        }
        Ok(())
    }

    /// The base of links to it, without a slash at the end.
    pub fn base(&self) -> String {
        let given = self.public_url.as_ref().map(|url| url.trim_end_matches('/').to_owned());
        given.unwrap_or_else(|| format!("http://{}", self.listen))
    }
}
