//! actions-console: pages for operators and for a project's own people.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use authio_actions::console::Console;
use authio_actions::program;
use authio_actions::telemetry::{self, Metrics};
use clap::Parser;

/// Serves the console: how the fleet is, actions and their invocations, changes, the audit log.
///
/// Any number may run; sessions are in the database. SIGTERM or SIGINT leaves.
#[derive(Parser)]
#[command(
    name = "actions-console",
    version,
    after_help = "Every configuration key with its unit: config/default.toml, [console].\n\
    Environment: ACTIONS_<SECTION>__<KEY>, for example\n  \
    ACTIONS_DATABASE__URL=postgres://console@db/authio ACTIONS_CONSOLE__LOGIN=local actions-console"
)]
struct Arguments {
    /// TOML file that overrides the defaults.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    program::run("actions-console", async || {
        let stop = program::stop_signal();
        let config = program::load(arguments.config.as_deref())?;
        telemetry::init(&config)?;
        let metrics = Arc::new(Metrics::default());
        let (console, link) = Console::prepare(config.clone(), Arc::clone(&metrics)).await?;
        telemetry::endpoint::serve(&config.metrics, metrics).await?;
        if let Some(link) = link {
            // Not into the log, which others read.
            let _ = writeln!(std::io::stdout(), "Open the console, once, with: {link}");
        }
        Ok(console.run(stop).await?)
    })
}
