//! Layers of configuration become one checked value, or an error that names the key, what
//! was given and what is accepted.
//!
//! Called once by each program at start. It never prints a password or a root key.

mod check;
mod console;
mod layers;
mod shape;
pub mod shown;

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use figment::Figment;
use figment::providers::{Format, Toml};
use ipnet::{IpNet, Ipv6Net};
use serde::Deserialize;

use self::layers::{from_figment, merge, merge_variable};
use crate::sign::RootKeys;

pub use self::console::{Console, ConsoleLogin, Oidc};

/// The embedded first layer: every key with its default, unit and reason.
pub const DEFAULTS: &str = include_str!("../../config/default.toml");
const ENV_PREFIX: &str = "ACTIONS_";

/// What was wrong with the configuration. Programs exit with status 2 on it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("configuration key {key}: {given}; accepted: {accepted}")]
pub struct ConfigError {
    /// The key, as `section.key`.
    pub key: String,
    /// What was given, without secrets.
    pub given: String,
    /// What would have been right, and where to put it.
    pub accepted: String,
}

impl ConfigError {
    fn new(key: impl Into<String>, given: impl Into<String>, accepted: impl Into<String>) -> Self {
        Self { key: key.into(), given: given.into(), accepted: accepted.into() }
    }

    fn missing(key: &str, accepted: &str) -> Self {
        let variable = format!("{ENV_PREFIX}{}", key.replace('.', "__").to_uppercase());
        Self::new(key, "missing", format!("{accepted}; set {variable} or the key in a --config file"))
    }
}

/// A text that must not be printed, such as a URL with a password in it.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Hidden(String);

impl Hidden {
    /// The text itself, for whoever connects with it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Hidden {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<hidden>")
    }
}

/// The whole configuration; `config/default.toml` explains each key.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    pub database: Database,
    pub secrets: Secrets,
    pub worker: Worker,
    pub deadline: Deadline,
    pub egress: Egress,
    pub kill_switch: KillSwitch,
    pub retention: Retention,
    pub smtp: Smtp,
    pub dashboard: Dashboard,
    pub alerts: Alerts,
    pub console: Console,
    pub metrics: Metrics,
    pub telemetry: Telemetry,
    pub log: Log,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Database {
    pub url: Option<Hidden>,
    pub url_file: Option<PathBuf>,
    pub listen_url: Option<Hidden>,
    pub listen_url_file: Option<PathBuf>,
    pub max_connections: usize,
    pub max_connection_age_s: u64,
    pub prepared_statements: bool,
}

impl Database {
    /// The database URL, which most programs cannot do without.
    pub fn url(&self) -> Result<&Hidden, ConfigError> {
        self.url.as_ref().ok_or_else(|| ConfigError::missing("database.url", "postgres://user:password@host/database"))
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Secrets {
    pub root_keys: Option<Hidden>,
    pub root_keys_file: Option<PathBuf>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Worker {
    pub max_in_flight: usize,
    pub max_in_flight_per_action: usize,
    pub poll_ms: u64,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deadline {
    pub queue_allowance_ms: u32,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Egress {
    pub blocked_suffixes: Vec<String>,
    pub allow_cidrs: Vec<IpNet>,
    pub deny_cidrs: Vec<IpNet>,
    pub ports: Vec<u16>,
    pub nat64_prefix: Option<Ipv6Net>,
    pub extra_ca_file: Option<PathBuf>,
    pub resolve: BTreeMap<String, Vec<IpAddr>>,
    pub dns_servers: Vec<SocketAddr>,
    pub idle_connection_ms: u64,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KillSwitch {
    pub window_s: u32,
    pub error_ratio: f64,
    pub timeout_ratio: f64,
    pub consecutive_5xx: u32,
    pub min_samples: u32,
    pub tick_ms: u64,
    pub probe_every_s: u32,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retention {
    pub days: u32,
    pub audit_days: u32,
    pub mail_days: u32,
    pub counts_days: u32,
    pub candidate_days: u32,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Smtp {
    pub url: Option<Hidden>,
    pub url_file: Option<PathBuf>,
    pub from: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Alerts {
    pub webhook_url: Option<Hidden>,
    pub webhook_url_file: Option<PathBuf>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dashboard {
    pub url: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Metrics {
    pub listen: SocketAddr,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Telemetry {
    pub otlp_endpoint: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    Pretty,
    Json,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
    pub format: Option<LogFormat>,
    pub filter: String,
}

impl Config {
    /// Reads the layers: defaults, `file`, then the given environment.
    pub fn load(file: Option<&Path>, environment: impl Iterator<Item = (String, String)>) -> Result<Self, ConfigError> {
        let mut layers = Figment::from(Toml::string(DEFAULTS));
        if let Some(path) = file {
            let text = std::fs::read_to_string(path)
                .map_err(|error| ConfigError::new("--config", format!("{}: {error}", path.display()), "the path of a TOML file"))?;
            layers = merge(layers, Toml::string(&text))?;
        }
        let mut environment: Vec<_> = environment.filter(|(name, _)| name.starts_with(ENV_PREFIX)).collect();
        environment.sort();
        for (name, value) in environment {
            layers = merge_variable(layers, &name, &value)?;
        }
        let mut config: Self = layers.extract().map_err(|error| from_figment(&layers, &error))?;
        config.read_files()?;
        config.check()?;
        Ok(config)
    }

    /// What holds a secret may stand in a file of its own, as service managers and orchestrators hand them out.
    fn read_files(&mut self) -> Result<(), ConfigError> {
        let Self { database, smtp, alerts, .. } = self;
        for (key, value, file) in [
            ("database.url", &mut database.url, &database.url_file),
            ("database.listen_url", &mut database.listen_url, &database.listen_url_file),
            ("smtp.url", &mut smtp.url, &smtp.url_file),
            ("alerts.webhook_url", &mut alerts.webhook_url, &alerts.webhook_url_file),
        ] {
            let Some(path) = file else { continue };
            if value.is_some() {
                return Err(ConfigError::new(key, format!("given together with {key}_file"), "one of the two"));
            }
            let unreadable = |why: String| ConfigError::new(format!("{key}_file"), why, "the path of a readable file with the URL in it");
            let text = std::fs::read_to_string(path).map_err(|error| unreadable(format!("{}: {error}", path.display())))?;
            if text.trim().is_empty() {
                return Err(unreadable(format!("{}: it is empty", path.display())));
            }
            *value = Some(Hidden::from(text.trim()));
        }
        Ok(())
    }

    /// The root keys, from the key itself or from the file.
    pub fn root_keys(&self) -> Result<RootKeys, ConfigError> {
        let accepted = "\"k2:<64 lower-case hex>,k1:<64 lower-case hex>\", the newest first";
        let (key, text) = match (&self.secrets.root_keys, &self.secrets.root_keys_file) {
            (Some(_), Some(_)) => {
                return Err(ConfigError::new("secrets.root_keys", "given together with secrets.root_keys_file", "one of the two"));
            }
            (Some(keys), None) => ("secrets.root_keys", keys.clone()),
            (None, Some(path)) => {
                let text = std::fs::read_to_string(path).map_err(|error| {
                    ConfigError::new("secrets.root_keys_file", format!("{}: {error}", path.display()), "the path of a readable file")
                })?;
                ("secrets.root_keys_file", Hidden(text))
            }
            (None, None) => return Err(ConfigError::missing("secrets.root_keys", accepted)),
        };
        RootKeys::parse(text.reveal()).map_err(|error| ConfigError::new(key, error.to_string(), "see config/default.toml, [secrets]"))
    }
}

impl Alerts {
    /// Where alerts go.
    pub fn url(&self) -> Option<url::Url> {
        let url = url::Url::parse(self.webhook_url.as_ref()?.reveal()).ok()?;
        (["http", "https"].contains(&url.scheme()) && url.has_host()).then_some(url)
    }
}

impl KillSwitch {
    /// Time between two looks.
    pub fn tick(&self) -> Duration {
        Duration::from_millis(self.tick_ms)
    }
}

#[cfg(test)]
mod tests;
