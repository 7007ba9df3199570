//! What all programs share: their layers of configuration, exit statuses and signals.
//!
//! Exit status 0 is success, 2 is wrong usage or configuration, 3 what would change, 1 is anything else.

mod arguments;

use std::path::Path;
use std::process::ExitCode;

use tokio::signal::unix::{SignalKind, signal};

use crate::config::{Config, ConfigError};
use crate::console::ConsoleError;
use crate::fleet::WorkerError;
use crate::janitor::JanitorError;
use crate::store::StoreError;

pub use self::arguments::{ConsoleArguments, JanitorArguments, WorkerArguments};

/// Why a program ends without success.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// Wrong usage or configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Wrong usage that the argument parser could not see.
    #[error("{0}")]
    Usage(String),
    /// So much would change, which only was to be seen.
    #[error("{0} change(s) would be made")]
    WouldChange(usize),
    /// Everything else.
    #[error("{0}")]
    Failed(String),
}

impl From<StoreError> for ProgramError {
    fn from(error: StoreError) -> Self {
        match error {
            // The interface's own complaint about an argument.
            StoreError::Refused { ref code, .. } if code == "22023" => Self::Usage(error.to_string()),
            error => Self::Failed(error.to_string()),
        }
    }
}

impl From<WorkerError> for ProgramError {
    fn from(error: WorkerError) -> Self {
        match error {
            WorkerError::Config(error) => error.into(),
            WorkerError::Store(error) => error.into(),
            error @ (WorkerError::Parting | WorkerError::LoopEnded(_)) => Self::Failed(error.to_string()),
        }
    }
}

impl From<JanitorError> for ProgramError {
    fn from(error: JanitorError) -> Self {
        match error {
            JanitorError::Config(error) => error.into(),
            JanitorError::Store(error) => error.into(),
            error @ JanitorError::LoopEnded(_) => Self::Failed(error.to_string()),
        }
    }
}

impl From<ConsoleError> for ProgramError {
    fn from(error: ConsoleError) -> Self {
        match error {
            ConsoleError::Config(error) => error.into(),
            ConsoleError::Store(error) => error.into(),
        }
    }
}

impl ProgramError {
    fn exit_status(&self) -> u8 {
        match self {
            Self::Config(_) | Self::Usage(_) => 2,
            Self::Failed(_) => 1,
            Self::WouldChange(_) => 3,
        }
    }
}

/// Reads the configuration from its layers: defaults, `file`, this process's environment.
pub fn load(file: Option<&Path>) -> Result<Config, ConfigError> {
    let mut environment = Vec::new();
    for (name, value) in std::env::vars_os() {
        let Ok(name) = name.into_string() else { continue };
        match value.into_string() {
            Ok(value) => environment.push((name, value)),
            // A value that is passed over in silence would leave a default in its place.
            Err(_) if name.starts_with("ACTIONS_") => {
                return Err(ConfigError {
                    key: name,
                    given: "bytes that are not UTF-8".to_owned(),
                    accepted: "a value in TOML syntax".to_owned(),
                });
            }
            Err(_) => {}
        }
    }
    Config::load(file, environment.into_iter())
}

/// Lets this process open as many files as the system permits it at most: each of so many calls
/// holds a socket, and others are kept for the next call.
pub fn raise_open_files(calls: usize) {
    let limit = match rlimit::increase_nofile_limit(u64::MAX) {
        Ok(limit) => limit,
        Err(error) => {
            tracing::warn!(%error, "the limit of open files stays as it is");
            return;
        }
    };
    if limit / 2 < calls as u64 {
        tracing::warn!(limit, calls, "too few files may be open for worker.max_in_flight; raise the hard limit (ulimit -Hn, LimitNOFILE=)");
    }
}

/// Runs a program to its end on a runtime of its own, and tells an error on standard error.
pub fn run(name: &str, main: impl AsyncFnOnce() -> Result<(), ProgramError>) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let result = match runtime {
        Ok(runtime) => runtime.block_on(main()),
        Err(error) => Err(ProgramError::Failed(format!("no runtime: {error}"))),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{name}: {error}");
            ExitCode::from(error.exit_status())
        }
    }
}

/// Resolves at the first SIGTERM or SIGINT from now on, also one that comes before it is awaited;
/// a second one ends the process at once.
pub fn stop_signal() -> impl Future<Output = ()> {
    let signals = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()));
    async move {
        let (Ok(mut terminate), Ok(mut interrupt)) = signals else {
            tracing::error!("signals cannot be handled here");
            return std::future::pending().await;
        };
        let mut either = async move || {
            tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
        };
        either().await;
        tokio::spawn(async move {
            either().await;
            tracing::warn!("a second signal: leaving at once");
            std::process::exit(1);
        });
    }
}
