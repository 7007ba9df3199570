//! actions-worker: claims invocations, calls the endpoints, writes the outcomes back.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use authio_actions::fleet::Worker;
use authio_actions::program;
use authio_actions::telemetry::{self, Metrics};
use clap::Parser;

/// Claims queued invocations, calls the customers' endpoints and writes the outcomes back.
///
/// Run as many as you like, on as many machines as you like, against one database.
/// SIGTERM or SIGINT drains: nothing more is claimed, what is held is finished inside its
/// deadline and written back. A second signal leaves at once.
#[derive(Parser)]
#[command(
    name = "actions-worker",
    version,
    after_help = "Every configuration key with its unit: config/default.toml.\n\
    Environment: ACTIONS_<SECTION>__<KEY>, for example\n  ACTIONS_DATABASE__URL=postgres://worker@db/authio ACTIONS_SECRETS__ROOT_KEYS=k1:… actions-worker"
)]
struct Arguments {
    /// TOML file that overrides the defaults.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    program::run("actions-worker", async || {
        let stop = program::stop_signal();
        let config = program::load(arguments.config.as_deref())?;
        telemetry::init(&config)?;
        program::raise_open_files(config.worker.max_in_flight);
        let metrics = Arc::new(Metrics::default());
        let worker = Worker::prepare(config.clone(), Arc::clone(&metrics)).await?;
        telemetry::endpoint::serve(&config.metrics, metrics).await?;
        Ok(worker.run(stop).await?)
    })
}
