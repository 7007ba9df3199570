//! actions-worker: claims invocations, calls the endpoints, writes the outcomes back.

use std::process::ExitCode;
use std::sync::Arc;

use authio_actions::fleet::Worker;
use authio_actions::program::{self, WorkerArguments};
use authio_actions::store::processes::Process;
use authio_actions::telemetry::{self, Metrics};
use clap::Parser;

fn main() -> ExitCode {
    let arguments = WorkerArguments::parse();
    program::run("actions-worker", async || {
        let stop = program::stop_signal();
        let config = program::load(arguments.config.as_deref())?;
        let process = Process::this("worker");
        telemetry::init(&config, process.kind, &process.id)?;
        program::raise_open_files(config.worker.max_in_flight);
        let metrics = Arc::new(Metrics::default());
        telemetry::service::watch(Arc::clone(&metrics));
        let worker = Worker::prepare(config.clone(), process, Arc::clone(&metrics)).await?;
        telemetry::endpoint::serve(&config.metrics, metrics).await?;
        Ok(worker.run(stop).await?)
    })
}
