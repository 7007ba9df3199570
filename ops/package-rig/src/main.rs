//! Writes the man pages and completions of every program into a folder, from the definitions of their command lines.
//! Run by `ops/package`.

use std::io;
use std::path::{Path, PathBuf};

use authio_actions::ctl;
use authio_actions::program::{ConsoleArguments, JanitorArguments, WorkerArguments};
use clap::{Command, CommandFactory, Parser, ValueEnum};
use clap_complete::Shell;

/// The defaults in this tree, and where the package has them.
const DEFAULTS: &str = "config/default.toml";
const PACKAGED_DEFAULTS: &str = "/usr/share/doc/authio-actions/default.toml";

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
    clap_mangen::generate_to(as_page(command).disable_help_subcommand(true), folder)
}

/// What stands behind the options keeps its lines, which a page would otherwise fill up, and names files of the package.
fn as_page(command: Command) -> Command {
    let behind = command.get_after_help().map(|text| text.to_string().replace('\n', "\n\n").replace(DEFAULTS, PACKAGED_DEFAULTS));
    let command = match behind {
        Some(behind) => command.after_help(behind),
        None => command,
    };
    command.mut_subcommands(as_page)
}
