//! Layers of configuration become one checked value, or an error that names the key, what
//! was given and what is accepted.
//!
//! Called once by each program at start. It never prints a password or a root key.

mod shape;
pub mod shown;

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use figment::providers::{Format, Serialized, Toml};
use figment::{Figment, Profile, Provider};
use ipnet::{IpNet, Ipv6Net};
use serde::Deserialize;

use crate::sign::RootKeys;

/// The embedded first layer: every key with its default, unit and reason.
pub const DEFAULTS: &str = include_str!("../config/default.toml");
const ENV_PREFIX: &str = "ACTIONS_";
/// The lengths of a NAT64 prefix (RFC 6052).
const NAT64_LENGTHS: [u8; 6] = [32, 40, 48, 56, 64, 96];

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
    fn check(&self) -> Result<(), ConfigError> {
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

impl Telemetry {
    fn check(&self) -> Result<(), ConfigError> {
        let Some(text) = &self.otlp_endpoint else { return Ok(()) };
        let is_base = url::Url::parse(text).is_ok_and(|url| {
            let has_credentials = !url.username().is_empty() || url.password().is_some();
            ["http", "https"].contains(&url.scheme()) && !has_credentials && url.query().is_none() && url.fragment().is_none()
        });
        if !is_base || text.contains(char::is_whitespace) {
            let accepted = "an http:// or https:// URL without credentials, ? and #, such as http://127.0.0.1:4318";
            return Err(ConfigError::new("telemetry.otlp_endpoint", "invalid", accepted));
        }
        Ok(())
    }
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

    fn check(&self) -> Result<(), ConfigError> {
        fn range<T: PartialOrd + fmt::Display>(key: &str, given: T, least: T, most: T, unit: &str) -> Result<(), ConfigError> {
            if given >= least && given <= most {
                return Ok(());
            }
            Err(ConfigError::new(key, given.to_string(), format!("{least} to {most}{unit}")))
        }
        range("database.max_connections", self.database.max_connections, 2, 100, "")?;
        range("database.max_connection_age_s", self.database.max_connection_age_s, 0, 86_400, " seconds, 0 for no limit")?;
        range("worker.max_in_flight", self.worker.max_in_flight, 1, 1_000_000, "")?;
        range("worker.max_in_flight_per_action", self.worker.max_in_flight_per_action, 1, 1_000_000, "")?;
        range("worker.poll_ms", self.worker.poll_ms, 10, 60_000, " milliseconds")?;
        range("deadline.queue_allowance_ms", self.deadline.queue_allowance_ms, 100, 60_000, " milliseconds")?;
        range("egress.idle_connection_ms", self.egress.idle_connection_ms, 0, 60_000, " milliseconds")?;
        range("kill_switch.window_s", self.kill_switch.window_s, 1, 86_400, " seconds")?;
        range("kill_switch.error_ratio", self.kill_switch.error_ratio, 0.0, 1.0, "")?;
        range("kill_switch.timeout_ratio", self.kill_switch.timeout_ratio, 0.0, 1.0, "")?;
        range("kill_switch.consecutive_5xx", self.kill_switch.consecutive_5xx, 1, 1_000_000, "")?;
        range("kill_switch.min_samples", self.kill_switch.min_samples, 1, 1_000_000, "")?;
        range("kill_switch.tick_ms", self.kill_switch.tick_ms, 10, 60_000, " milliseconds")?;
        range("retention.days", self.retention.days, 1, 3_650, " days")?;
        range("retention.audit_days", self.retention.audit_days, 1, 36_500, " days")?;
        range("retention.mail_days", self.retention.mail_days, 1, 3_650, " days")?;
        range("retention.counts_days", self.retention.counts_days, 1, 36_500, " days")?;
        range("retention.candidate_days", self.retention.candidate_days, 1, 3_650, " days")?;
        range("kill_switch.probe_every_s", self.kill_switch.probe_every_s, 1, 3_600, " seconds")?;
        self.alerts.check()?;
        self.telemetry.check()?;
        for (key, url) in [("database.url", &self.database.url), ("database.listen_url", &self.database.listen_url)] {
            if let Some(url) = url
                && !(url.reveal().starts_with("postgres://") || url.reveal().starts_with("postgresql://"))
            {
                return Err(ConfigError::new(key, "not a PostgreSQL URL", "postgres://user:password@host:port/database"));
            }
        }
        self.egress.check()?;
        self.console.check()?;
        if let Some(text) = &self.dashboard.url {
            let is_base = url::Url::parse(text).is_ok_and(|url| {
                ["http", "https"].contains(&url.scheme()) && url.query().is_none() && url.fragment().is_none() && text.contains("://")
            });
            if !is_base || text.contains(char::is_whitespace) {
                let accepted = "an http:// or https:// URL without ? and #: links are made by adding to its path";
                return Err(ConfigError::new("dashboard.url", format!("{text:?}"), accepted));
            }
        }
        if self.secrets.root_keys.is_some() || self.secrets.root_keys_file.is_some() {
            self.root_keys()?;
        }
        Ok(())
    }
}

impl Egress {
    fn check(&self) -> Result<(), ConfigError> {
        for suffix in &self.blocked_suffixes {
            // One that can never match would leave the operator's own hosts open.
            let name = suffix.trim_matches('.');
            if !matches!(url::Host::parse(name), Ok(url::Host::Domain(_))) || name.contains('*') {
                let accepted = "names of hosts such as \"authio.com\", which stand for every name under them, too";
                return Err(ConfigError::new("egress.blocked_suffixes", format!("{suffix:?}"), accepted));
            }
        }
        if self.ports.contains(&0) {
            return Err(ConfigError::new("egress.ports", "0", accepted_form("egress.ports", "")));
        }
        if let Some(prefix) = self.nat64_prefix
            && (!NAT64_LENGTHS.contains(&prefix.prefix_len()) || prefix.addr() != prefix.network())
        {
            return Err(ConfigError::new("egress.nat64_prefix", prefix.to_string(), accepted_form("egress.nat64_prefix", "")));
        }
        Ok(())
    }
}

impl Alerts {
    fn check(&self) -> Result<(), ConfigError> {
        if self.webhook_url.is_some() && self.url().is_none() {
            return Err(ConfigError::new("alerts.webhook_url", "invalid", "an http:// or https:// URL"));
        }
        Ok(())
    }

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

/// Puts a layer over the others, if it names nothing but sections and keys that there are.
fn merge(layers: Figment, layer: impl Provider) -> Result<Figment, ConfigError> {
    let named = layer.data().map_err(|error| from_figment(&layers, &error))?;
    named.get(&Profile::Default).map_or(Ok(()), shape::check)?;
    Ok(layers.merge(layer))
}

/// One variable is one key. Its value is TOML; what is not, such as a bare URL, is a text.
fn merge_variable(layers: Figment, name: &str, value: &str) -> Result<Figment, ConfigError> {
    let Some((section, key)) = name[ENV_PREFIX.len()..].split_once("__") else {
        return Ok(layers); // another program's variable
    };
    let is_name = |name: &str| !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if !is_name(section) || !is_name(key) {
        let accepted = "ACTIONS_<SECTION>__<KEY>, such as ACTIONS_WORKER__POLL_MS";
        return Err(ConfigError::new(name, "a variable that names no section and key", accepted));
    }
    let (section, key) = (section.to_lowercase(), key.to_lowercase());
    // What lies in a table is named by one more step: ACTIONS_CONSOLE__OIDC__ISSUER.
    let key = key.strip_prefix("oidc__").filter(|_| section == "console").map_or(key.clone(), |name| format!("oidc.{name}"));
    let dotted = format!("{section}.{key}");
    let document = format!("{dotted} = {value}");
    let is_toml = !value.contains('\n') && Figment::from(Toml::string(&document)).find_value(&dotted).is_ok();
    if is_toml { merge(layers, Toml::string(&document)) } else { merge(layers, Serialized::default(&dotted, value)) }
}

fn from_figment(layers: &Figment, error: &figment::Error) -> ConfigError {
    use figment::error::{Actual, Kind};
    // A key is a section and a name; what lies deeper is part of its value.
    let key = error.path.iter().take(2).cloned().collect::<Vec<_>>().join(".");
    let sensitive = key.contains("url")
        || key == "console.oidc"
        || key.contains("root_keys")
        || ["database", "secrets", "smtp"].contains(&key.as_str());
    let show = |actual: &Actual| match actual {
        Actual::Map => "a table".to_owned(),
        Actual::Seq => "a list".to_owned(),
        _ if sensitive => "a value of the wrong type".to_owned(),
        actual => actual.to_string(),
    };
    match &error.kind {
        Kind::InvalidType(actual, expected) | Kind::InvalidValue(actual, expected) => {
            ConfigError::new(&key, show(actual), accepted_form(&key, expected))
        }
        Kind::UnknownVariant(actual, accepted) => ConfigError::new(key, format!("{actual:?}"), accepted.join(", ")),
        _ if sensitive => ConfigError::new(&key, "invalid", accepted_form(&key, "see config/default.toml")),
        other if key.is_empty() => ConfigError::new("the file", without_source(&other.to_string()), "TOML; see config/default.toml"),
        other => {
            // What a parser says of a text leaves the text out. Of lists and tables, the whole is shown.
            let given = layers.find_value(&key).ok().and_then(|value| serde_json::to_string(&value).ok()).unwrap_or_default();
            ConfigError::new(&key, format!("{given}: {other}"), accepted_form(&key, "see config/default.toml"))
        }
    }
}

/// What a key takes, for people; else what the parser says of it.
fn accepted_form(key: &str, parser: &str) -> String {
    // An element of a list is named as list and place.
    let form = match key.trim_end_matches(|c: char| c == '.' || c.is_ascii_digit()) {
        "egress.allow_cidrs" | "egress.deny_cidrs" => "a list of networks such as [\"10.0.0.0/8\"]",
        "egress.ports" => "a list of ports from 1 to 65535 such as [443, 8443]",
        "egress.nat64_prefix" => "an IPv6 network of 32, 40, 48, 56, 64 or 96 bits such as \"64:ff9b::/96\"",
        "egress.resolve" => "a table of names with their addresses such as {\"hooks.acme.test\" = [\"127.0.0.1\"]}",
        "egress.dns_servers" => "a list of ip:port such as [\"9.9.9.9:53\"]",
        "metrics.listen" => "ip:port such as 127.0.0.1:9464; port 0 is off",
        "log.format" => "pretty, json",
        _ => match parser {
            "u16" | "u32" | "u64" | "usize" => "a whole number, not negative",
            "f32" | "f64" => "a number",
            "string" | "a string" => "a text",
            "a boolean" => "true or false",
            "path string" => "the path of a file",
            other => other,
        },
    };
    form.to_owned()
}

/// What a parser says of a file, without the line that it quotes: a secret may stand in it.
fn without_source(message: &str) -> String {
    let quotes = |line: &&str| line.trim_start_matches(|c: char| c == ' ' || c.is_ascii_digit()).starts_with('|');
    message.lines().filter(|line| !quotes(line)).collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
        Config::load(None, variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())))
    }

    #[test]
    fn values_of_the_environment_are_toml_or_else_text() {
        let config = load(&[
            ("ACTIONS_EGRESS__ALLOW_CIDRS", r#"["127.0.0.0/8"]"#),
            ("ACTIONS_EGRESS__RESOLVE", r#"{"hooks.acme.test"=["127.0.0.1"]}"#),
            ("ACTIONS_DATABASE__URL", "postgres://u:p@h/d"),
            ("ACTIONS_WORKER__MAX_IN_FLIGHT", "7"),
            ("ACTIONS_LOG__FORMAT", "json"),
            ("ACTIONS_UNRELATED", "x"),
        ])
        .unwrap();
        assert_eq!(config.egress.resolve["hooks.acme.test"], [IpAddr::from([127, 0, 0, 1])]);
        assert_eq!(config.egress.allow_cidrs.len(), 1);
        assert_eq!(config.worker.max_in_flight, 7);
        assert_eq!(config.log.format, Some(LogFormat::Json));
        assert_eq!(config.database.url().unwrap().reveal(), "postgres://u:p@h/d");
    }

    #[test]
    fn errors_name_the_key_what_was_given_and_what_is_accepted() {
        for (variable, value, key, given, accepted) in [
            ("ACTIONS_WORKER__MAX_IN_FLIGHT", "many", "worker.max_in_flight", "many", "a whole number"),
            ("ACTIONS_WORKER__MAX_IN_FLIGHT", "-7", "worker.max_in_flight", "-7", "a whole number"),
            ("ACTIONS_WORKER__MAX_IN_FLIGHT", "0", "worker.max_in_flight", "0", "1 to"),
            ("ACTIONS_WORKER__MAX_INFLIGHT", "1", "worker.max_inflight", "unknown", "max_in_flight"),
            ("ACTIONS_WORKERS__MAX", "1", "workers", "unknown", "worker"),
            ("ACTIONS_LOG__FORMAT", "xml", "log.format", "xml", "json"),
            ("ACTIONS_KILL_SWITCH__ERROR_RATIO", "1.5", "kill_switch.error_ratio", "1.5", "0 to 1"),
            ("ACTIONS_DATABASE__URL", "mysql://u:hunter2@h/d", "database.url", "not a PostgreSQL URL", "postgres://"),
            ("ACTIONS_EGRESS__ALLOW_CIDRS", r#"["10.0.0.0/40"]"#, "egress.allow_cidrs", "10.0.0.0/40", "a list of networks"),
            ("ACTIONS_EGRESS__ALLOW_CIDRS", "10.0.0.0/8", "egress.allow_cidrs", "10.0.0.0/8", "a list of networks"),
            ("ACTIONS_EGRESS__DENY_CIDRS", r#"["fd00::/200"]"#, "egress.deny_cidrs", "fd00::/200", "a list of networks"),
            ("ACTIONS_EGRESS__PORTS", "443", "egress.ports", "443", "a list of ports"),
            ("ACTIONS_EGRESS__PORTS", "[443, 70000]", "egress.ports", "70000", "a list of ports"),
            ("ACTIONS_EGRESS__PORTS", "[0]", "egress.ports", "0", "a list of ports"),
            ("ACTIONS_EGRESS__NAT64_PREFIX", "64:ff9b::/95", "egress.nat64_prefix", "64:ff9b::/95", "of 32, 40, 48, 56, 64 or 96 bits"),
            ("ACTIONS_EGRESS__NAT64_PREFIX", "64:ff9b::1/96", "egress.nat64_prefix", "64:ff9b::1/96", "of 32, 40, 48, 56, 64 or 96 bits"),
            ("ACTIONS_EGRESS__NAT64_PREFIX", "10.0.0.0/8", "egress.nat64_prefix", "10.0.0.0/8", "an IPv6 network"),
            ("ACTIONS_EGRESS__RESOLVE", r#"{"a.b"=["x"]}"#, "egress.resolve", "x", "a table of names"),
            ("ACTIONS_EGRESS__DNS_SERVERS", r#"["1.1.1.1"]"#, "egress.dns_servers", "1.1.1.1", "ip:port"),
            ("ACTIONS_METRICS__LISTEN", "9464", "metrics.listen", "9464", "ip:port"),
            ("ACTIONS_METRICS__LISTEN", "localhost:9464", "metrics.listen", "localhost:9464", "ip:port"),
            ("ACTIONS_TELEMETRY__OTLP_ENDPOINT", "collector:4318", "telemetry.otlp_endpoint", "invalid", "an http:// or https:// URL"),
            ("ACTIONS_TELEMETRY__OTLP_ENDPOINT", "http://u:hunter2@h:4318", "telemetry.otlp_endpoint", "invalid", "without credentials"),
            ("ACTIONS_SECRETS__ROOT_KEYS", "k1:abc", "secrets.root_keys", "64 lower-case hex", ""),
        ] {
            let error = load(&[(variable, value)]).unwrap_err();
            let text = error.to_string();
            assert!(error.key.starts_with(key) && text.contains(given) && text.contains(accepted), "{variable}={value}: {text}");
            assert!(!text.contains("hunter2"));
        }
    }

    #[test]
    fn what_is_missing_is_named_with_the_variable_to_set() {
        let text = load(&[]).unwrap().database.url().unwrap_err().clone().to_string();
        assert!(text.contains("database.url") && text.contains("ACTIONS_DATABASE__URL"), "{text}");
    }

    #[test]
    fn a_secret_may_stand_in_a_file_of_its_own_and_never_twice() {
        let file = std::env::temp_dir().join(format!("authio-actions-config-{}", uuid::Uuid::new_v4().simple()));
        let path = file.display().to_string();
        for (key, url, of) in [
            ("ACTIONS_DATABASE__URL", "postgres://u:hunter2@h/d", (|config| config.database.url) as fn(Config) -> Option<Hidden>),
            ("ACTIONS_DATABASE__LISTEN_URL", "postgres://u:hunter2@h/d", |config| config.database.listen_url),
            ("ACTIONS_SMTP__URL", "smtps://u:hunter2@h", |config| config.smtp.url),
            ("ACTIONS_ALERTS__WEBHOOK_URL", "https://h/hunter2", |config| config.alerts.webhook_url),
        ] {
            let key_file = format!("{key}_FILE");
            std::fs::write(&file, format!("{url}\n")).unwrap();
            assert_eq!(of(load(&[(&key_file, &path)]).unwrap()), Some(Hidden::from(url)), "{key}");
            let text = load(&[(key, url), (&key_file, &path)]).unwrap_err().to_string();
            assert!(text.contains("one of the two") && !text.contains("hunter2"), "{text}");
            std::fs::write(&file, "\n").unwrap();
            let text = load(&[(&key_file, &path)]).unwrap_err().to_string();
            assert!(text.contains("it is empty") && text.contains("_file: "), "{text}");
        }
        std::fs::remove_file(&file).unwrap();
        let text = load(&[("ACTIONS_SMTP__URL_FILE", &path)]).unwrap_err().to_string();
        assert!(text.contains("smtp.url_file") && text.contains("No such file"), "{text}");
    }

    #[test]
    fn no_debug_output_shows_a_password_or_a_key() {
        let key = "ab".repeat(32);
        let config =
            load(&[("ACTIONS_DATABASE__URL", "postgres://u:hunter2@h/d"), ("ACTIONS_SECRETS__ROOT_KEYS", &format!("k1:{key}"))]).unwrap();
        let shown = format!("{config:?}");
        assert!(!shown.contains("hunter2") && !shown.contains(&key), "{shown}");
    }

    #[test]
    fn the_secret_of_the_provider_is_shown_by_no_error_and_by_no_command() {
        let given = [("ACTIONS_CONSOLE__OIDC__CLIENT_SECRET", "hunter2"), ("ACTIONS_CONSOLE__OIDC__ISSUER", "https://login.example.com")];
        let error = load(&given).unwrap_err();
        assert!(error.key == "console.oidc.client_id" && !error.to_string().contains("hunter2"), "{error}");
        let error = load(&[("ACTIONS_CONSOLE__OIDC", r#"{client_secret = "hunter2", issuer = 7}"#)]).unwrap_err();
        assert!(error.key == "console.oidc" && !error.to_string().contains("hunter2"), "{error}");
        for issuer in ["http://login.example.com", "login.example.com", "ftp://127.0.0.1"] {
            let all = [given[0], ("ACTIONS_CONSOLE__OIDC__CLIENT_ID", "c"), ("ACTIONS_CONSOLE__OIDC__ISSUER", issuer)];
            assert_eq!(load(&all).unwrap_err().key, "console.oidc.issuer", "{issuer}");
        }
        let environment = given.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let shown = shown::shown(None, environment).unwrap();
        let oidc = shown.iter().find(|one| one.key == "console.oidc").unwrap();
        assert!(oidc.value["issuer"] == "https://login.example.com" && !oidc.value.to_string().contains("hunter2"), "{}", oidc.value);
    }

    /// A wrong value of every kind for every key: the error names that key, once.
    #[test]
    fn whatever_kind_of_value_is_wrong_its_key_is_named_once_with_what_is_accepted() {
        let keys = shape::every_key();
        assert!(keys.len() > 25 && keys.iter().any(|key| key == "smtp.from"), "{keys:?}");
        let mut refused = 0;
        for key in &keys {
            let variable = format!("{ENV_PREFIX}{}", key.replace('.', "__").to_uppercase());
            for value in
                ["{hunter2 = 1}", "{a = {b = 1}}", "[[1]]", "[{a = 1}]", "true", "1.5", "-1", "[]", "1979-05-27", "hunter2", "\"\""]
            {
                let Err(error) = load(&[(&variable, value)]) else { continue };
                refused += 1;
                assert_eq!(error.key, *key, "{variable}={value}: {error}");
                assert!(!error.given.is_empty() && !error.accepted.is_empty(), "{variable}={value}: {error}");
                let is_open = ["dashboard.url", "console.public_url"].contains(&key.as_str()) || key.ends_with("_file");
                let is_secret = (key.contains("url") || key.contains("root_keys")) && !is_open;
                assert!(!(is_secret && error.to_string().contains("hunter2")), "{error}");
            }
            let under = format!("{key}.deeper = 1");
            let error = load_file(&under).err().filter(|error| error.key == *key);
            assert!(error.is_some() || key == "egress.resolve", "{under}");
        }
        assert!(refused > 150, "{refused}");
    }

    fn load_file(text: &str) -> Result<Config, ConfigError> {
        let path = std::env::temp_dir().join(format!("authio-actions-{}.toml", uuid::Uuid::new_v4().simple()));
        std::fs::write(&path, text).unwrap();
        let loaded = Config::load(Some(&path), std::iter::empty());
        std::fs::remove_file(path).unwrap();
        loaded
    }

    #[test]
    fn a_file_with_other_names_or_values_where_sections_belong_names_them_once() {
        for (text, key, given, accepted) in [
            ("[workers]\npoll_ms = 1", "workers", "unknown section (did you mean worker?)", "a section of database, secrets, worker"),
            ("poll_ms = 1", "poll_ms", "unknown section (did you mean worker.poll_ms?)", "a section of"),
            ("[worker]\nworkers = 1", "worker.workers", "unknown key", "max_in_flight, max_in_flight_per_action, poll_ms"),
            ("[worker]\npol_ms = 1", "worker.pol_ms", "unknown key (did you mean poll_ms?)", "poll_ms"),
            ("[worker.worker]\npoll_ms = 1", "worker.worker", "unknown key", "poll_ms"),
            ("[secrets]\nsecrets = \"k1:hunter2\"", "secrets.secrets", "unknown key", "root_keys"),
            ("secrets = \"k1:hunter2\"", "secrets", "a text where a table belongs", "[secrets] with any of root_keys"),
            ("worker = 5", "worker", "a number where a table belongs", "[worker] with any of max_in_flight"),
            ("[[worker]]\npoll_ms = 50", "worker", "a list where a table belongs", "[worker]"),
            ("log = true", "log", "true or false where a table belongs", "format, filter"),
            ("[worker.poll_ms]\na = 1", "worker.poll_ms", "a table", "a whole number"),
            ("[database]\nurl = { hunter2 = \"x\" }", "database.url", "a table", "a text"),
            ("[egress.resolve.\"a.b\"]\nc = 1", "egress.resolve", "a table", "a table of names"),
            ("egress.allow_cidrs.x = 1", "egress.allow_cidrs", "a table", "a list of networks"),
            ("a.b.c.d = 1", "a", "unknown section", "a section of"),
            ("[worker]\n[worker]", "the file", "duplicate key", "TOML"),
        ] {
            let error = load_file(text).unwrap_err();
            assert_eq!(error.key, key, "{text}: {error}");
            assert!(
                error.given.contains(given) && error.accepted.contains(accepted) && !error.to_string().contains("hunter2"),
                "{text}: {error}"
            );
        }
    }

    #[test]
    fn variables_with_odd_names_are_told_from_those_of_other_programs() {
        for (name, key, given) in [
            ("ACTIONS_WORKER__", "ACTIONS_WORKER__", "names no section and key"),
            ("ACTIONS___POLL_MS", "ACTIONS___POLL_MS", "names no section and key"),
            ("ACTIONS_WORKER__POLL.MS", "ACTIONS_WORKER__POLL.MS", "names no section and key"),
            ("ACTIONS_WORKER__POLL MS", "ACTIONS_WORKER__POLL MS", "names no section and key"),
            ("ACTIONS_WÖRKER__POLL_MS", "ACTIONS_WÖRKER__POLL_MS", "names no section and key"),
            ("ACTIONS_WORKER__WORKER__POLL_MS", "worker.worker__poll_ms", "unknown key"),
            ("ACTIONS_EGRESS__RESOLVE__A", "egress.resolve__a", "unknown key"),
            ("ACTIONS_SECRETS__SECRETS", "secrets.secrets", "unknown key"),
            ("ACTIONS_WORKERS__POLL_MS", "workers", "unknown section (did you mean worker?)"),
        ] {
            let error = load(&[(name, "hunter2")]).unwrap_err();
            assert!(error.key == key && error.given.contains(given) && !error.to_string().contains("hunter2"), "{name}: {error}");
        }
        assert!(load(&[("ACTIONS_TEST_DATABASE_URL", "x"), ("ACTIONS_", "x"), ("ACTIONS_HOME", "x")]).is_ok());
    }
}
