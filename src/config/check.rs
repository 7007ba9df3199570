//! Whether values that can be read are also ones that can be used.

use std::fmt;

use super::layers::accepted_form;
use super::{Alerts, Config, ConfigError, Egress, Telemetry};

/// The lengths of a NAT64 prefix (RFC 6052).
const NAT64_LENGTHS: [u8; 6] = [32, 40, 48, 56, 64, 96];

impl Config {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
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
