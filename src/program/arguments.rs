//! The command lines of the programs, from which their man pages and completions are made, too.

use std::path::PathBuf;

use clap::Parser;

/// Claims queued invocations, calls the customers' endpoints and writes the outcomes back.
///
/// Run as many as you like, on as many machines as you like, against one database.
/// SIGTERM or SIGINT drains: nothing more is claimed, what is held is finished inside its
/// deadline and written back. A second signal leaves at once.
#[derive(Debug, Parser)]
#[command(
    name = "actions-worker",
    version,
    after_help = "Every configuration key with its unit: config/default.toml.\n\
    Environment: ACTIONS_<SECTION>__<KEY>, for example\n  ACTIONS_DATABASE__URL=postgres://worker@db/authio ACTIONS_SECRETS__ROOT_KEYS=k1:… actions-worker"
)]
pub struct WorkerArguments {
    /// TOML file that overrides the defaults.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// Ends invocations past their deadline, trips kill-switches and keeps the partitions.
///
/// Run two or more: one leads at a time, and losing it costs seconds. SIGTERM or SIGINT
/// gives up the lead and leaves; a second signal leaves at once.
#[derive(Debug, Parser)]
#[command(
    name = "actions-janitor",
    version,
    after_help = "Every configuration key with its unit: config/default.toml.\n\
    Environment: ACTIONS_<SECTION>__<KEY>, for example\n  ACTIONS_DATABASE__URL=postgres://janitor@db/authio actions-janitor"
)]
pub struct JanitorArguments {
    /// TOML file that overrides the defaults.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// Serves the console: how the fleet is, actions and their invocations, changes, the audit log.
///
/// Any number may run; sessions are in the database. SIGTERM or SIGINT leaves.
#[derive(Debug, Parser)]
#[command(
    name = "actions-console",
    version,
    after_help = "Every configuration key with its unit: config/default.toml, [console].\n\
    Environment: ACTIONS_<SECTION>__<KEY>, for example\n  \
    ACTIONS_DATABASE__URL=postgres://console@db/authio ACTIONS_CONSOLE__LOGIN=local actions-console"
)]
pub struct ConsoleArguments {
    /// TOML file that overrides the defaults.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}
