//! Writes the man pages and completions of every program into a folder, from the definitions of their command lines.
//! Run by `ops/package`.

use std::io;
use std::path::{Path, PathBuf};

use authio_actions::ctl;
use authio_actions::program::{ConsoleArguments, JanitorArguments, WorkerArguments};
use clap::{Command, CommandFactory, Parser, ValueEnum};
use clap_complete::Shell;

/// Writes man pages and completions.
#[derive(Parser)]
struct Arguments {
    /// The folder; it may be there already.
    folder: PathBuf,
}

fn main() -> io::Result<()> {
    let folder = Arguments::parse().folder;
    std::fs::create_dir_all(&folder)?;
    for command in [ctl::Arguments::command(), WorkerArguments::command(), JanitorArguments::command(), ConsoleArguments::command()] {
        complete(&folder, &command)?;
        man(&folder, command)?;
    }
    Ok(())
}

fn complete(folder: &Path, command: &Command) -> io::Result<()> {
    for shell in Shell::value_variants().iter().filter(|shell| matches!(shell, Shell::Bash | Shell::Zsh | Shell::Fish)) {
        clap_complete::generate_to(*shell, &mut command.clone(), command.get_name().to_owned(), folder)?;
    }
    Ok(())
}

/// A page for the command and one for each of its own.
fn man(folder: &Path, command: Command) -> io::Result<()> {
    clap_mangen::generate_to(command.disable_help_subcommand(true), folder)
}
