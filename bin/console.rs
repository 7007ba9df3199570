//! actions-console: pages for operators and for a project's own people.

use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;

use authio_actions::console::Console;
use authio_actions::program::{self, ConsoleArguments};
use authio_actions::store::processes::Process;
use authio_actions::telemetry::{self, Metrics};
use clap::Parser;

fn main() -> ExitCode {
    let arguments = ConsoleArguments::parse();
    program::run("actions-console", async || {
        let stop = program::stop_signal();
        let config = program::load(arguments.config.as_deref())?;
        telemetry::init(&config, "console", &Process::this("console").id)?;
        let metrics = Arc::new(Metrics::default());
        telemetry::service::watch(Arc::clone(&metrics));
        let (console, link) = Console::prepare(config.clone(), Arc::clone(&metrics)).await?;
        telemetry::endpoint::serve(&config.metrics, metrics).await?;
        if let Some(link) = link {
            // Not into the log, which others read.
            let _ = writeln!(std::io::stdout(), "Open the console, once, with: {link}");
        }
        Ok(console.run(stop).await?)
    })
}
