//! The operator's tool, one command a file.
//!
//! Called by `bin/ctl.rs`. It re-implements no rule: URLs are judged by `egress`, answers by
//! `judge`, signatures made and checked by `sign`, and everything else is a function of the
//! SQL interface.

mod action;
mod arguments;
mod audit;
mod bench;
mod break_glass;
mod candidate;
mod check_url;
mod completions;
mod config;
mod confirm;
mod console;
mod described;
mod doctor;
mod fleet;
mod invocations;
mod migrate;
mod project;
mod replay;
mod schema;
mod screen;
mod signature;
mod try_url;
mod version;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::config::Config;
use crate::program::{self, ProgramError};
use crate::store::Database;

/// Operates authio-actions.
#[derive(Debug, Parser)]
#[command(
    name = "actionsctl",
    version,
    after_help = "Every configuration key with its unit: config/default.toml.\n\
    Environment: ACTIONS_<SECTION>__<KEY>, for example ACTIONS_DATABASE__URL."
)]
pub struct Arguments {
    /// TOML file that overrides the defaults.
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Bring the database's schema to this program's version.
    Migrate(migrate::Migrate),
    /// Check database, roles, version, keys, DNS, SMTP, clock and fleet.
    Doctor(doctor::Doctor),
    /// Make, look at and change projects, their roles and their people.
    Project(project::ProjectCommand),
    /// Make, look at and change actions.
    Action(action::Action),
    /// Try a change of an action beside its current version.
    Candidate(candidate::CandidateCommand),
    /// Send recorded events again to something new, and compare.
    Replay(replay::Replay),
    /// Say whom no failure of an action locks out.
    BreakGlass(break_glass::BreakGlass),
    /// Make projects and actions what files say of them.
    Apply(described::Apply),
    /// Write down a project with its roles, people and actions.
    Export(described::Export),
    /// Look at what was sent, and what became of it.
    Invocations(invocations::Invocations),
    /// Look at what was changed, killed or shown, by whom and why.
    Audit(audit::Audit),
    /// Look at workers, janitors and the queue.
    Fleet(fleet::Fleet),
    /// Let a person into the console.
    Console(console::ConsoleCommand),
    /// Look at the configuration, and where each value comes from.
    Config(config::ConfigCommand),
    /// Measure the fleet with test events for one action.
    Bench(bench::Bench),
    /// Send a signed event to any URL, localhost too, and print what would be applied.
    Try(try_url::Try),
    /// Say what the fleet would say to a URL.
    CheckUrl(check_url::CheckUrl),
    /// Make the signature header of a body.
    Sign(signature::Sign),
    /// Check a signature header, and say what is wrong with it.
    Verify(signature::Verify),
    /// Say which release this is, which schema it brings, and whom the database's schema serves.
    Version(version::Version),
    /// Print JSON Schema of events, verdicts, outcomes and notifications, or OpenAPI of the webhooks.
    #[command(after_help = schema::EXAMPLES)]
    Schema(schema::Schema),
    /// Print what lets a shell complete these commands.
    #[command(after_help = completions::EXAMPLES)]
    Completions(completions::Completions),
}

/// Runs one command.
pub async fn run(arguments: Arguments) -> Result<(), ProgramError> {
    // These need no configuration.
    match &arguments.command {
        Command::Completions(command) => {
            command.run();
            return Ok(());
        }
        Command::Schema(command) => {
            command.run();
            return Ok(());
        }
        _ => {}
    }
    let config = program::load(arguments.config.as_deref())?;
    match arguments.command {
        Command::Migrate(command) => command.run(&config).await,
        Command::Doctor(command) => command.run(&config).await,
        Command::Action(command) => command.run(&config).await,
        Command::Candidate(command) => command.run(&config).await,
        Command::Replay(command) => Box::pin(command.run(&config)).await,
        Command::BreakGlass(command) => command.run(&config).await,
        Command::Apply(command) => command.run(&config).await,
        Command::Export(command) => command.run(&config).await,
        Command::Project(command) => command.run(&config).await,
        Command::Invocations(command) => command.run(&config).await,
        Command::Audit(command) => command.run(&config).await,
        Command::Fleet(command) => command.run(&config).await,
        Command::Console(command) => command.run(&config).await,
        Command::Config(command) => command.run(arguments.config.as_deref()),
        Command::Bench(command) => command.run(&config).await,
        Command::Try(command) => command.run(&config).await,
        Command::CheckUrl(command) => command.run(&config).await,
        Command::Sign(command) => command.run(),
        Command::Verify(command) => command.run(),
        Command::Version(command) => command.run(&config).await,
        Command::Completions(_) | Command::Schema(_) => Ok(()), // were above
    }
}

fn database(config: &Config) -> Result<Database, ProgramError> {
    Ok(Database::new(&config.database, "actionsctl")?)
}

/// Prints a line; a reader that left early, such as `head`, is no error.
fn say(line: impl std::fmt::Display) {
    use std::io::Write;
    let _ = writeln!(std::io::stdout(), "{line}");
}
