//! `actionsctl completions`: made from the same definition as the commands.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

pub const EXAMPLES: &str = "Examples:\n  actionsctl completions bash > /etc/bash_completion.d/actionsctl\n  \
    actionsctl completions zsh > ~/.zfunc/_actionsctl\n  actionsctl completions fish > ~/.config/fish/completions/actionsctl.fish";

/// Prints a completion script.
#[derive(Debug, Args)]
pub struct Completions {
    /// bash, elvish, fish, powershell or zsh.
    shell: Shell,
}

impl Completions {
    pub fn run(&self) {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut super::Arguments::command(), "actionsctl", &mut script);
        super::say(String::from_utf8_lossy(&script).trim_end());
    }
}
