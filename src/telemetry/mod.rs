//! Logs and metrics: one subscriber, one set of names.
//!
//! Called by the programs at start. No log line and no metric carries a secret, an event or
//! the body of an answer.

pub mod endpoint;
mod liveness;
mod metrics;

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::config::{Config, ConfigError, LogFormat};

pub use self::liveness::Liveness;
pub use self::metrics::{AlertLabels, CandidateLabels, ErrorLabels, InvocationLabels, Metrics, ReasonLabel, StatusLabel};

/// Sends logs to standard error: for people on a terminal, as JSON elsewhere.
pub fn init(config: &Config) -> Result<(), ConfigError> {
    let filter = EnvFilter::try_new(&config.log.filter).map_err(|error| ConfigError {
        key: "log.filter".to_owned(),
        given: error.to_string(),
        accepted: "a level such as info, or directives such as info,authio_actions::egress=debug".to_owned(),
    })?;
    let on_terminal = std::io::stderr().is_terminal();
    let format = config.log.format.unwrap_or(if on_terminal { LogFormat::Pretty } else { LogFormat::Json });
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(on_terminal);
    let outcome = match format {
        LogFormat::Pretty => builder.compact().try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    if outcome.is_err() {
        tracing::debug!("a subscriber was there already");
    }
    Ok(())
}
