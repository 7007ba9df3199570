//! The benchmarks: everything side by side on loopback, in one run.
//!
//! Started by `ops/bench`, which brings a private PostgreSQL and removes it afterwards.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a benchmark stops at the first surprise")]

mod compare;
mod cost;
mod endpoint;
mod load;
mod report;
mod stand;
mod ways;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand};

use load::Load;

/// Measures the fleet against the bare HTTPS call and other queues.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// Under a minute: short runs, fewer loads, one repetition.
    #[arg(long)]
    quick: bool,
    /// Only ways whose name starts with one of these: bare, fleet, plain, apalis.
    #[arg(long, value_name = "WAY")]
    only: Option<Vec<String>>,
    /// Only this load: waiters such as 64, or a rate such as 1000/s.
    #[arg(long, value_parser = parse_load)]
    load: Vec<Load>,
    /// Seconds of each measurement.
    #[arg(long)]
    seconds: Option<u64>,
    /// Repetitions of each measurement.
    #[arg(long)]
    repetitions: Option<usize>,
    /// Where JSON and SVG are written.
    #[arg(long, value_name = "DIRECTORY", default_value = "target/bench")]
    results: PathBuf,
}

#[derive(Subcommand)]
enum Command {
    /// The endpoint, as a process of its own.
    #[command(hide = true)]
    Endpoint,
}

fn parse_load(text: &str) -> Result<Load, String> {
    let wrong = |_| format!("{text:?} is no load; accepted is a number of waiters such as 64, or a rate such as 1000/s");
    match text.strip_suffix("/s") {
        Some(rate) => rate.parse().map(Load::Open).map_err(wrong),
        None => text.parse().map(Load::Closed).map_err(wrong),
    }
}

#[tokio::main]
async fn main() {
    let arguments = Arguments::parse();
    if let Some(Command::Endpoint) = arguments.command {
        return endpoint::serve().await;
    }
    let (mut loads, seconds, repetitions) = if arguments.quick {
        (vec![Load::Closed(1), Load::Closed(64), Load::Open(1000)], 2, 1)
    } else {
        (vec![Load::Closed(1), Load::Closed(64), Load::Closed(512), Load::Open(100), Load::Open(1000), Load::Open(5000)], 10, 3)
    };
    if !arguments.load.is_empty() {
        loads = arguments.load;
    }
    let plan = compare::Plan {
        loads,
        lasting: Duration::from_secs(arguments.seconds.unwrap_or(seconds)),
        repetitions: arguments.repetitions.unwrap_or(repetitions),
        only: arguments.only,
    };
    compare::run(&plan, &arguments.results).await;
}
