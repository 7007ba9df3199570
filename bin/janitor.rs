//! actions-janitor: ends what is overdue, trips kill-switches, keeps partitions.

use std::process::ExitCode;
use std::sync::Arc;

use authio_actions::janitor::Janitor;
use authio_actions::program::{self, JanitorArguments};
use authio_actions::store::processes::Process;
use authio_actions::telemetry::{self, Metrics};
use clap::Parser;

fn main() -> ExitCode {
    let arguments = JanitorArguments::parse();
    program::run("actions-janitor", async || {
        let stop = program::stop_signal();
        let config = program::load(arguments.config.as_deref())?;
        let process = Process::this("janitor");
        telemetry::init(&config, process.kind, &process.id)?;
        let metrics = Arc::new(Metrics::default());
        telemetry::service::watch(Arc::clone(&metrics));
        let janitor = Janitor::prepare(config.clone(), process, Arc::clone(&metrics)).await?;
        telemetry::endpoint::serve(&config.metrics, metrics).await?;
        Ok(janitor.run(stop).await?)
    })
}
