//! actions-janitor: ends what is overdue, trips kill-switches, keeps partitions.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use authio_actions::janitor::Janitor;
use authio_actions::program;
use authio_actions::telemetry::{self, Metrics};
use clap::Parser;

/// Ends invocations past their deadline, trips kill-switches and keeps the partitions.
///
/// Run two or more: one leads at a time, and losing it costs seconds. SIGTERM or SIGINT
/// gives up the lead and leaves; a second signal leaves at once.
#[derive(Parser)]
#[command(
    name = "actions-janitor",
    version,
    after_help = "Every configuration key with its unit: config/default.toml.\n\
    Environment: ACTIONS_<SECTION>__<KEY>, for example\n  ACTIONS_DATABASE__URL=postgres://janitor@db/authio actions-janitor"
)]
struct Arguments {
    /// TOML file that overrides the defaults.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    program::run("actions-janitor", async || {
        let stop = program::stop_signal();
        let config = program::load(arguments.config.as_deref())?;
        telemetry::init(&config)?;
        let metrics = Arc::new(Metrics::default());
        let janitor = Janitor::prepare(config.clone(), Arc::clone(&metrics)).await?;
        telemetry::endpoint::serve(&config.metrics, metrics).await?;
        Ok(janitor.run(stop).await?)
    })
}
