//! Layers of configuration become one checked value, or an error that names the key, what
//! was given and what is accepted.
//!
//! Called once by each program at start. It never prints a password or a root key.

pub mod shown;

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use figment::Figment;
use figment::providers::{Format, Serialized, Toml};
use ipnet::IpNet;
use serde::Deserialize;

use crate::sign::RootKeys;

/// The embedded first layer: every key with its default, unit and reason.
pub const DEFAULTS: &str = include_str!("../config/default.toml");
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
    pub metrics: Metrics,
    pub log: Log,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Database {
    pub url: Option<Hidden>,
    pub listen_url: Option<Hidden>,
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
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retention {
    pub days: u32,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Smtp {
    pub url: Option<Hidden>,
    pub from: Option<String>,
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
            layers = layers.merge(Toml::string(&text));
        }
        let mut environment: Vec<_> = environment.filter(|(name, _)| name.starts_with(ENV_PREFIX)).collect();
        environment.sort();
        for (name, value) in environment {
            layers = merge_variable(layers, &name, &value)?;
        }
        let config: Self = layers.extract().map_err(|error| from_figment(&layers, &error))?;
        config.check()?;
        Ok(config)
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
        for (key, url) in [("database.url", &self.database.url), ("database.listen_url", &self.database.listen_url)] {
            if let Some(url) = url
                && !(url.reveal().starts_with("postgres://") || url.reveal().starts_with("postgresql://"))
            {
                return Err(ConfigError::new(key, "not a PostgreSQL URL", "postgres://user:password@host:port/database"));
            }
        }
        for suffix in &self.egress.blocked_suffixes {
            // One that can never match would leave the operator's own hosts open.
            let name = suffix.trim_matches('.');
            if !matches!(url::Host::parse(name), Ok(url::Host::Domain(_))) || name.contains('*') {
                let accepted = "names of hosts such as \"authio.com\", which stand for every name under them, too";
                return Err(ConfigError::new("egress.blocked_suffixes", format!("{suffix:?}"), accepted));
            }
        }
        if let Some(url) = &self.dashboard.url
            && !(url.starts_with("https://") || url.starts_with("http://"))
        {
            return Err(ConfigError::new("dashboard.url", format!("{url:?}"), "an http:// or https:// URL"));
        }
        if self.secrets.root_keys.is_some() || self.secrets.root_keys_file.is_some() {
            self.root_keys()?;
        }
        Ok(())
    }
}

impl KillSwitch {
    /// Time between two looks.
    pub fn tick(&self) -> Duration {
        Duration::from_millis(self.tick_ms)
    }
}

/// One variable is one key. Its value is TOML; what is not, such as a bare URL, is a text.
fn merge_variable(layers: Figment, name: &str, value: &str) -> Result<Figment, ConfigError> {
    let Some((section, key)) = name[ENV_PREFIX.len()..].split_once("__") else {
        return Ok(layers); // another program's variable
    };
    let dotted = format!("{}.{}", section.to_lowercase(), key.to_lowercase());
    if !dotted.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'.') {
        return Err(ConfigError::new(dotted, format!("variable {name}"), "ACTIONS_<SECTION>__<KEY>"));
    }
    let document = format!("{dotted} = {value}");
    let is_toml = !value.contains('\n') && Figment::from(Toml::string(&document)).find_value(&dotted).is_ok();
    Ok(if is_toml { layers.merge(Toml::string(&document)) } else { layers.merge(Serialized::default(&dotted, value)) })
}

fn from_figment(layers: &Figment, error: &figment::Error) -> ConfigError {
    use figment::error::Kind;
    let path = error.path.join(".");
    let sensitive = path.contains("url") || path.contains("root_keys") || ["database", "secrets", "smtp"].contains(&path.as_str());
    let show = |actual: &dyn fmt::Display| if sensitive { "a value of the wrong type".to_owned() } else { actual.to_string() };
    match &error.kind {
        Kind::UnknownField(field, accepted) => {
            let key = if path.is_empty() { field.clone() } else { format!("{path}.{field}") };
            ConfigError::new(key, "unknown key", accepted.join(", "))
        }
        Kind::InvalidType(actual, expected) => ConfigError::new(&path, show(actual), accepted_form(&path, expected)),
        Kind::InvalidValue(actual, expected) => ConfigError::new(&path, show(actual), accepted_form(&path, expected)),
        Kind::UnknownVariant(actual, accepted) => ConfigError::new(path, format!("{actual:?}"), accepted.join(", ")),
        Kind::MissingField(field) => ConfigError::new(format!("{path}.{field}"), "missing", "a value"),
        _ if sensitive => ConfigError::new(path, "invalid", "see config/default.toml"),
        other if path.is_empty() => ConfigError::new("the file", without_source(&other.to_string()), "TOML; see config/default.toml"),
        other => {
            // What a parser says of a text leaves the text out. Of lists and tables, the whole is shown.
            let key = error.path.iter().take(2).cloned().collect::<Vec<_>>().join(".");
            let given = layers.find_value(&key).ok().and_then(|value| serde_json::to_string(&value).ok()).unwrap_or_default();
            ConfigError::new(&key, format!("{given}: {other}"), accepted_form(&key, "see config/default.toml"))
        }
    }
}

/// What a key takes, for people; else what the parser says of it.
fn accepted_form(key: &str, parser: &str) -> String {
    let form = match key {
        "egress.allow_cidrs" => "a list of networks such as [\"10.0.0.0/8\"]",
        "egress.resolve" => "a table of names with their addresses such as {\"hooks.acme.test\" = [\"127.0.0.1\"]}",
        "egress.dns_servers" => "a list of ip:port such as [\"9.9.9.9:53\"]",
        "metrics.listen" => "ip:port such as 127.0.0.1:9464; port 0 is off",
        _ => match parser {
            "u16" | "u32" | "u64" | "usize" => "a whole number, not negative",
            "f32" | "f64" => "a number",
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
            ("ACTIONS_EGRESS__RESOLVE", r#"{"a.b"=["x"]}"#, "egress.resolve", "x", "a table of names"),
            ("ACTIONS_EGRESS__DNS_SERVERS", r#"["1.1.1.1"]"#, "egress.dns_servers", "1.1.1.1", "ip:port"),
            ("ACTIONS_METRICS__LISTEN", "9464", "metrics.listen", "9464", "ip:port"),
            ("ACTIONS_METRICS__LISTEN", "localhost:9464", "metrics.listen", "localhost:9464", "ip:port"),
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
    fn no_debug_output_shows_a_password_or_a_key() {
        let key = "ab".repeat(32);
        let config =
            load(&[("ACTIONS_DATABASE__URL", "postgres://u:hunter2@h/d"), ("ACTIONS_SECRETS__ROOT_KEYS", &format!("k1:{key}"))]).unwrap();
        let shown = format!("{config:?}");
        assert!(!shown.contains("hunter2") && !shown.contains(&key), "{shown}");
    }

    #[test]
    fn the_example_for_production_is_valid() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/production.example.toml");
        let error = Config::load(Some(&path), std::iter::empty()).unwrap_err();
        assert_eq!(error.key, "secrets.root_keys_file", "only the file is not there: {error}");
    }
}
