//! The benchmarks: everything side by side on loopback, in one run.
//!
//! Started by `ops/bench`, which brings a private PostgreSQL and removes it afterwards.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a benchmark stops at the first surprise")]

mod cliff;
mod compare;
mod cost;
mod endpoint;
mod fair;
mod findings;
mod history;
mod idle;
mod janitor;
mod load;
mod log;
mod pages;
mod report;
mod scale;
mod soak;
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
    #[arg(long, value_parser = parse_load, global = true)]
    load: Vec<Load>,
    /// Seconds of each measurement.
    #[arg(long, global = true)]
    seconds: Option<u64>,
    /// Repetitions of each measurement.
    #[arg(long, global = true)]
    repetitions: Option<usize>,
    /// Where JSON and SVG are written.
    #[arg(long, value_name = "DIRECTORY", global = true, default_value = "target/bench")]
    results: PathBuf,
}

#[derive(Subcommand)]
enum Command {
    /// Added latency, the step from 500 to 5,000 a second, and waits for notification locks.
    Cliff,
    /// Minutes at four fifths of the maximum, or at the load given with --load.
    Soak {
        #[arg(long, default_value_t = 10)]
        minutes: u32,
    },
    /// Minutes beside a reader that holds a snapshot.
    Reader {
        #[arg(long, default_value_t = 5)]
        minutes: u32,
    },
    /// Millions of finished rows against none.
    History {
        #[arg(long, default_value_t = 5_000_000)]
        rows: u64,
    },
    /// 1 to 8 workers, 1 to 32 auth-core processes.
    Scale,
    /// A hanging endpoint beside twenty others; 2,000 actions at once.
    Fair,
    /// What the janitor costs with 10,000 actions and 1,000 finished a second.
    Janitor {
        /// Finished rows of earlier that are added half-way.
        #[arg(long, default_value_t = 1_000_000)]
        rows: u64,
    },
    /// An idle fleet, single events, starting, and the memory of 4,096 calls.
    Idle,
    /// The endpoint, as a process of its own.
    #[command(hide = true)]
    Endpoint,
    /// An auth-core, as a process of its own.
    #[command(hide = true)]
    Caller,
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
    let Arguments { results, repetitions, seconds, .. } = &arguments;
    let lasting = |or: u64| Duration::from_secs(seconds.unwrap_or(or));
    let repetitions = |or: usize| repetitions.unwrap_or(or);
    if !matches!(arguments.command, Some(Command::Endpoint | Command::Caller)) {
        log::settle().await;
    }
    match arguments.command {
        None => compare::run(&plan(&arguments), results).await,
        Some(Command::Cliff) => cliff::run(lasting(10), repetitions(3), results).await,
        Some(Command::Soak { minutes }) => soak::soak(minutes, lasting(60), arguments.load.first().copied(), results).await,
        Some(Command::Reader { minutes }) => soak::reader(minutes, lasting(60), results).await,
        Some(Command::History { rows }) => history::run(rows, lasting(10), repetitions(5), results).await,
        Some(Command::Scale) => scale::run(lasting(10), results).await,
        Some(Command::Fair) => fair::run(lasting(20), repetitions(3), results).await,
        Some(Command::Janitor { rows }) => janitor::run(rows, lasting(60), results).await,
        Some(Command::Idle) => idle::run(lasting(30), results).await,
        Some(Command::Endpoint) => endpoint::serve().await,
        Some(Command::Caller) => {
            let load = arguments.load.first().copied().expect("a caller's load");
            scale::call(load, lasting(10)).await;
        }
    }
}

fn plan(arguments: &Arguments) -> compare::Plan {
    let (mut loads, seconds, repetitions) = if arguments.quick {
        (vec![Load::Closed(1), Load::Closed(64), Load::Open(1000)], 1, 1)
    } else {
        (vec![Load::Closed(1), Load::Closed(64), Load::Closed(512), Load::Open(100), Load::Open(1000), Load::Open(5000)], 10, 3)
    };
    if !arguments.load.is_empty() {
        loads.clone_from(&arguments.load);
    }
    compare::Plan {
        loads,
        lasting: Duration::from_secs(arguments.seconds.unwrap_or(seconds)),
        repetitions: arguments.repetitions.unwrap_or(repetitions),
        only: arguments.only.clone(),
    }
}
